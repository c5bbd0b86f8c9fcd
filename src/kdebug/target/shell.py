"""A program on a terminal of its own beside the agent: what `!` in the UI stands on.

Its bytes are no answer of the agent: nothing of them is parsed, stored or sanitised, as with ssh. Whoever
shows them gives the terminal away for as long as it lasts.
"""

from __future__ import annotations

from typing import Optional, Protocol


class Shell(Protocol):
    """One program that runs on a terminal."""

    async def read(self) -> bytes | memoryview:
        """What it wrote; b"" at its end. Raises `ConnectionLost`."""

    async def write(self, data: bytes) -> None:
        """What was typed. Raises `ConnectionLost`."""

    async def resize(self, columns: int, rows: int) -> None:
        """Raises `ConnectionLost`."""

    async def close(self) -> None:
        """Let go of it; idempotent."""

    @property
    def exit_code(self) -> Optional[int]:
        """Once it has ended; None where its end is not known."""

    @property
    def words(self) -> str:
        """What the server said about its end, beside the exit code."""


class Shells(Protocol):
    """Where programs can be run beside the agent. A target that has no such place has none."""

    @property
    def place(self) -> str:
        """In words, for the account: "the toolbox kdebug-abcde"."""

    async def open(self, program: str, columns: int, rows: int) -> Shell:
        """Raises `AccessDenied`, `ConnectionLost` and what else the server says."""
