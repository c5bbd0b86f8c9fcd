"""An exec stream as a `Channel`: WebSocket subprotocols v5 and v4 (remotecommand, KEP-4006).

Each message is one byte of channel number and data: 0 stdin, 1 stdout, 2 stderr, 3 the final Status.
v5 adds 255, which closes a channel. Nothing here relies on it: the agent needs no end of input, and an
old runtime's v4 does as well.
"""

from __future__ import annotations

import json
from typing import Any, Optional, Union
from urllib.parse import quote

from kdebug.errors import ConnectionLost
from kdebug.kube.api import Api, Parameters
from kdebug.kube.http import NotHttp
from kdebug.kube.websocket import WebSocket

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, STATUS, RESIZE = range(5)
PIECE_BYTES = 32 * 1024
"""What the API server's own copies are made of; longer messages would be split by it all the same."""
LOG_BYTES = 4096
TERMINAL_HEARTBEAT = 15.0
"""Seconds between pings where somebody types: the agent's own stream has heartbeats in its frames."""


class ExecEnd:
    """How the command ended, from the Status on channel 3."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.message = str(document.get("message") or "")
        self.success = document.get("status") == "Success"
        code = document.get("code")
        self.code = code if isinstance(code, int) else 500
        """As an HTTP status: servers that upgrade first (v5) tell here what others tell before."""
        self.exit_code: Optional[int] = 0 if self.success else None
        details = document.get("details")
        for cause in (details.get("causes") or []) if isinstance(details, dict) else []:
            if isinstance(cause, dict) and cause.get("reason") == "ExitCode":
                text = str(cause.get("message"))
                self.exit_code = int(text) if text.isdigit() else None

    @property
    def no_such_program(self) -> bool:
        """The container runs and does not hold the program (runc's words, or a shell's exit code)."""
        words = ("no such file or directory", "executable file not found")
        return self.exit_code in (126, 127) or (
            self.exit_code is None and any(word in self.message for word in words)
        )

    @property
    def not_started(self) -> bool:
        """The server could not run the command at all, as while the container does not run yet."""
        return not self.success and self.exit_code is None and not self.no_such_program


class ExecChannel:
    """`Channel` over one exec. `start` is the constructor."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._log = bytearray()
        self.end: Optional[ExecEnd] = None
        """Set once the server has said how the command ended."""

    @classmethod
    async def start(
        cls,
        api: Api,
        namespace: str,
        pod: str,
        container: str,
        command: list[str],
        *,
        terminal: bool = False,
    ) -> ExecChannel:
        """`terminal`: the command gets one, which has no stderr of its own.

        Raises `ServerRefusal` (500 while the container does not run yet), `ConnectionLost`.
        """
        params: Parameters = [
            ("container", container),
            ("stdin", "true"),
            ("stdout", "true"),
            ("tty" if terminal else "stderr", "true"),
        ]
        params += [("command", word) for word in command]
        path = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}/exec"
        heartbeat = TERMINAL_HEARTBEAT if terminal else None
        return cls(await api.websocket(path, params, PROTOCOLS, heartbeat))

    async def read(self) -> Union[bytes, memoryview]:
        while True:
            try:
                message = await self._websocket.receive()
            except (NotHttp, OSError) as error:
                raise ConnectionLost("the connection to the agent is lost", why=str(error)) from error
            if message is None:
                return b""
            data = self._sort(message)
            if data:
                return data

    def _sort(self, message: bytes) -> Union[bytes, memoryview]:
        """stdout's bytes, not copied; the rest is kept or dropped."""
        channel, data = message[:1], memoryview(message)[1:]
        if channel == b"\x01":
            return data
        if channel == b"\x02":
            self._log += data
            del self._log[:-LOG_BYTES]
        elif channel == b"\x03":
            self._take_status(bytes(data))
        return b""

    def _take_status(self, data: bytes) -> None:
        try:
            document = json.loads(data)
        except ValueError:
            return
        if isinstance(document, dict):
            self.end = ExecEnd(document)

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            await self._send(STDIN, view[:PIECE_BYTES])
            view = view[PIECE_BYTES:]

    async def resize(self, columns: int, rows: int) -> None:
        """Of the terminal that the command has."""
        await self._send(RESIZE, json.dumps({"Width": columns, "Height": rows}).encode())

    async def _send(self, channel: int, data: bytes | memoryview) -> None:
        try:
            await self._websocket.send(bytes([channel]) + data)
        except OSError as error:
            raise ConnectionLost(
                "the connection to the agent is lost", why=str(error) or self.log_tail()
            ) from error

    async def close(self) -> None:
        await self._websocket.close()

    def log_tail(self) -> str:
        """The agent's last words, with how it ended; a runtime's message repeats the whole command."""
        log = self._log.decode("utf-8", "replace").strip()
        if self.end is None or self.end.success:
            return log
        if self.end.exit_code is None:
            return f"{log}\n{self.end.message}".strip()
        return f"{log} (exit code {self.end.exit_code})" if log else f"exit code {self.end.exit_code}"
