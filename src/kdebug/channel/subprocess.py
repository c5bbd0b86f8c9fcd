"""The agent as a child process on this machine: the same program, loop and frames as in a pod."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import Optional

from kdebug.errors import ConnectionLost, Failed

READ_BYTES = 256 * 1024
LOG_BYTES = 4096
"""Kept of the agent's stderr: enough for the last words, whatever it prints before."""
END_SECONDS = 3.0
"""How long an agent may take to end by itself before it is killed."""


class SubprocessChannel:
    """Pipes to a child process. `start` is the constructor."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._log = bytearray()
        self._log_task = asyncio.create_task(self._keep_log(), name="agent-log")

    @classmethod
    async def start(
        cls, command: Sequence[str], environment: Optional[Mapping[str, str]] = None
    ) -> SubprocessChannel:
        """Run `command` (an argv list). Raises `Failed` when it cannot be started."""
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=READ_BYTES,
                env=environment,
                # Ctrl-C on the terminal is the client's business; it ends the agent in good order.
                start_new_session=True,
            )
        except OSError as error:
            raise Failed(f"{command[0]} could not be started", why=str(error)) from error
        return cls(process)

    async def _keep_log(self) -> None:
        assert self._process.stderr is not None
        while piece := await self._process.stderr.read(4096):
            self._log += piece
            del self._log[:-LOG_BYTES]

    async def read(self) -> bytes:
        assert self._process.stdout is not None
        return await self._process.stdout.read(READ_BYTES)

    async def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ConnectionLost("the agent has ended", why=self.log_tail()) from error

    def log_tail(self) -> str:
        return self._log.decode("utf-8", "replace").strip()

    async def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), END_SECONDS)
        except asyncio.TimeoutError:
            self._process.kill()
            await self._process.wait()
        self._log_task.cancel()


def local_agent_command(*arguments: str) -> list[str]:
    """argv that runs this client's own agent with this interpreter."""
    return [sys.executable, "-m", "kdebug.agent", "serve", *arguments]
