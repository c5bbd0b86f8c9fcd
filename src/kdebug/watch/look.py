"""One look at the target: as little as the conditions need, and what the black box keeps."""

from __future__ import annotations

from kdebug.capture.answers import RecordingBackend
from kdebug.capture.sink import is_end
from kdebug.capture.steps_target import of_target
from kdebug.errors import KdebugError, NotFound, TargetEnded
from kdebug.protocol.processes import Process
from kdebug.target import Target
from kdebug.watch.blackbox import BlackBox
from kdebug.watch.condition import Number
from kdebug.watch.reading import Meter, Reading

OPEN_FILES = "Max open files"


class Looker:
    """Asks one target, again and again."""

    def __init__(self, target: Target, numbers: list[Number], box: BlackBox) -> None:
        self._info = target.info
        self._target = Target(
            RecordingBackend(target.backend, box.keep, target.info.pid), target.info, target.label
        )
        self._paths = tuple(dict.fromkeys(number.path for number in numbers if number.path))
        self._share_of_fds = any(number.of_limit and number.quantity == "fds" for number in numbers)
        self._meter = Meter()
        self.pause = 0.0
        """The agent's wish: seconds until the next look, so that it keeps its share of the target's CPU."""

    async def look(self, reading: Reading) -> None:
        """Raises as the target does, and `NotFound` when its first process is no more."""
        page = await self._target.processes()
        self.pause = page.next_after_seconds
        processes = of_target(self._info, page.items)
        first = processes[0] if processes else None
        if first is None or (first.pid, first.start_ticks) != (self._info.pid, self._info.start_ticks):
            raise TargetEnded(f"the process {self._info.pid} ({self._info.name}) has ended")
        self._meter.read(reading, processes, await self._target.cgroup())
        if self._share_of_fds and "fds" in reading.values:
            await self._limit_of_fds(reading, processes)
        for path in self._paths:
            await self._size(reading, path)

    async def _limit_of_fds(self, reading: Reading, processes: list[Process]) -> None:
        most = max(processes, key=lambda process: process.fds or 0)
        try:
            limits = await self._target.limits(most.pid)
        except NotFound:  # it has just ended, and the target may live
            limits = await self._target.limits(self._info.pid)
        soft = next((limit.soft for limit in limits.items if limit.name == OPEN_FILES), None)
        if soft is not None:
            reading.limits["fds"] = float(soft)

    async def _size(self, reading: Reading, path: str) -> None:
        """A file that is not there yet may come."""
        name = f"file {path}"
        try:
            found = await self._target.stat(path, follow=True)
        except KdebugError as error:
            if is_end(error):
                raise
            reading.reasons[name] = str(error)
            return
        if found.entry.size_bytes is not None:
            reading.values[name] = float(found.entry.size_bytes)
