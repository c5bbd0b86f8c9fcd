"""Two channels joined back to back, for tests and for agents written as coroutines."""

from __future__ import annotations

import asyncio

from kdebug.errors import ConnectionLost

CAPACITY = 16
"""Pieces in flight: a writer that nobody reads must wait, as on a real stream."""


class MemoryChannel:
    """One end of a pair made by `channel_pair`."""

    def __init__(self, incoming: asyncio.Queue[bytes], outgoing: asyncio.Queue[bytes]) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._closed = False
        self._ended = False

    async def read(self) -> bytes:
        if self._ended:
            return b""
        piece = await self._incoming.get()
        self._ended = not piece
        return piece

    async def write(self, data: bytes) -> None:
        if self._closed:
            raise ConnectionLost("the channel is closed")
        if data:
            await self._outgoing.put(bytes(data))

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        while self._outgoing.full():
            self._outgoing.get_nowait()
        self._outgoing.put_nowait(b"")

    def log_tail(self) -> str:
        return ""


def channel_pair() -> tuple[MemoryChannel, MemoryChannel]:
    """Both ends of a bounded duplex stream."""
    one: asyncio.Queue[bytes] = asyncio.Queue(CAPACITY)
    other: asyncio.Queue[bytes] = asyncio.Queue(CAPACITY)
    return MemoryChannel(one, other), MemoryChannel(other, one)
