"""kdebug on a pseudo terminal: its screen, by an emulator we did not write, and every byte of it."""

from __future__ import annotations

import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path

import pyte


class Terminal:
    """A command on a terminal of its own; `close` it."""

    def __init__(self, *arguments: str, columns: int = 100, rows: int = 30, **environment: str) -> None:
        self.master, self.slave = pty.openpty()
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self._set_size(columns, rows)
        self.before = termios.tcgetattr(self.slave)
        command = [str(Path(sys.executable).with_name("kdebug")), *arguments]
        self.process = subprocess.Popen(
            command, stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True,
            env={**surroundings(), "TERM": "xterm-256color", "COLORTERM": "truecolor", **environment},
            preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        self.seen = b""
        """Everything that was ever written to it."""

    def _set_size(self, columns: int, rows: int) -> None:
        ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(rows, columns)
        self._set_size(columns, rows)

    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display)

    def read(self, seconds: float) -> None:
        """Take in what is written within so long."""
        ready, _, _ = select.select([self.master], [], [], seconds)
        if ready:
            try:
                data = os.read(self.master, 1 << 16)
            except OSError:
                return
            self.seen += data
            # pyte 0.8 takes CSI > and CSI = (private modes of keyboards) for others that it knows.
            self._stream.feed(data)

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 45) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what} not within {seconds:g} s; it shows:\n{self.text()}"
            self.read(0.1)

    def shows(self, *texts: str, seconds: float = 45) -> None:
        """Until all of it is on the screen at once."""
        self.until(lambda: all(text in self.text() for text in texts), f"{texts}", seconds)

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def ended(self, seconds: float = 45) -> int:
        """Until the command has ended; its exit code."""
        self.until(lambda: self.process.poll() is not None, "its end", seconds)
        while select.select([self.master], [], [], 0.1)[0]:
            before = len(self.seen)
            self.read(0)
            if len(self.seen) == before:
                break
        return int(self.process.returncode)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


def surroundings() -> dict[str, str]:
    """Of this process; but the size is the terminal's, not that of the one in which the tests run."""
    return {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
