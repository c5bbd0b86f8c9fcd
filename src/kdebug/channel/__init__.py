"""A duplex byte stream to an agent. `kube/` adds one over exec; here are a subprocess and a pair."""

from __future__ import annotations

from typing import Protocol, Union


class Channel(Protocol):
    """Bytes to and from an agent. Errors are `ConnectionLost`."""

    async def read(self) -> Union[bytes, memoryview]:
        """Some bytes; none once the other side has ended."""

    async def write(self, data: bytes) -> None:
        """Send all of `data`, waiting while the stream is full."""

    async def close(self) -> None:
        """End the stream and whatever serves it; idempotent."""

    def log_tail(self) -> str:
        """The last lines of the agent's log, for error messages. Hostile text."""
