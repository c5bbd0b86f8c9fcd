"""`target.shell` in a pod: an exec with a terminal in the toolbox' container."""

from __future__ import annotations

from typing import Optional

from kdebug.kube.api import ServerRefusal
from kdebug.kube.exec import ExecChannel
from kdebug.kube.stream import Toolbox


class PodShell:
    """One exec with a terminal."""

    def __init__(self, channel: ExecChannel) -> None:
        self._channel = channel
        self.read = channel.read
        self.write = channel.write
        self.resize = channel.resize
        self.close = channel.close

    @property
    def exit_code(self) -> Optional[int]:
        return self._channel.end.exit_code if self._channel.end else None

    @property
    def words(self) -> str:
        end = self._channel.end
        return end.message if end is not None and end.exit_code is None else ""


class PodShells:
    """The toolbox of one target."""

    def __init__(self, toolbox: Toolbox) -> None:
        self._toolbox = toolbox

    @property
    def place(self) -> str:
        return f"the toolbox {self._toolbox.name}"

    async def open(self, program: str, columns: int, rows: int) -> PodShell:
        toolbox, pod = self._toolbox, self._toolbox.selected
        try:
            channel = await ExecChannel.start(
                toolbox.api, pod.namespace, pod.name, toolbox.name, [program], terminal=True
            )
        except ServerRefusal as refused:
            raise refused.explained(f"no shell can be opened in {toolbox.name} of {pod.label}") from refused
        await channel.resize(columns, rows)
        return PodShell(channel)
