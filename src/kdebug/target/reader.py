"""A file of a target in order, a few reads ahead, across reconnects: what cat, cp and capture share.

All pieces come from one open file whatever happens to its name. When the stream is lost and the backend
can open another, reading goes on at the byte where it stopped, after a look that it is the same file.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable

from kdebug.errors import ConnectionLost, Failed, Partial, ProtocolViolation
from kdebug.protocol.files import FileChunk
from kdebug.protocol.requests import MAX_CHUNK, ReadFile
from kdebug.target.target import Target

READS_AHEAD = 8
"""Pieces asked for before the first has come: hides the round trip and holds at most 9 MiB here. What is
on its way when a stream is cut is fetched again, and no more."""
WINDOW_BYTES = (READS_AHEAD + 1) * MAX_CHUNK
SLOW_PIECE = 128 * 1024
CRAWLING = 1e6
"""Bytes a second below which pieces are small: all that are on their way must come before a deadline."""
SLOW_LINK = 24e6
"""Bytes a second below which deflating is tried: an agent with half a core does as much (zlib level 1)."""
SAMPLE_BYTES = 2 * MAX_CHUNK
WORTH = 0.8
"""A packed piece larger than this share of its bytes costs more CPU than it saves time."""
PAUSE_PIECES, MAX_PAUSE = 32, 1024
"""Not worth it: look again after so many pieces, and after twice as many each time that it still is not."""
MIN_PIECE, CRUMBS = 512, 256
"""More short pieces than `CRUMBS`, smaller than this on average: an agent that wants us to wait. procfs
itself gives nearly a page at a time."""


class Packing:
    """Whether to ask for the next piece deflated: `auto` where the link is slow and a sample shrinks."""

    def __init__(self, mode: str = "never") -> None:
        self._on = mode == "always"
        self._auto = mode == "auto"
        self._sample = False
        self._pause, self._next_pause = 0, PAUSE_PIECES
        self._bytes, self._seconds = 0, 0.0

    def ask(self) -> bool:
        """For one piece that is about to be asked for; the sample is a single one of those on their way."""
        if not self._sample:
            return self._on
        self._sample, self._pause = False, READS_AHEAD
        return True

    def saw(self, raw_bytes: int, sent_bytes: int, asked: bool, seconds: float) -> None:
        """One piece came: how long it was, how much of it travelled, and what it took since the last."""
        if not self._auto or raw_bytes < SLOW_PIECE:
            return
        self._bytes += sent_bytes
        self._seconds += seconds
        if asked:
            self._on = sent_bytes < raw_bytes * WORTH
            self._pause = 0 if self._on else self._next_pause
            self._next_pause = PAUSE_PIECES if self._on else min(2 * self._next_pause, MAX_PAUSE)
        elif self._pause:
            self._pause -= 1
        elif self._bytes >= SAMPLE_BYTES and not self._on:
            self._sample = self._bytes < self._seconds * SLOW_LINK


Piece = tuple[FileChunk, int]
"""A piece, unpacked, and how many bytes of it travelled."""


class Reader:
    """One file from `offset` on. Use `pieces` once; the counters tell what it took."""

    def __init__(
        self,
        target: Target,
        path: str,
        offset: int = 0,
        *,
        digest: bool = False,
        packing: Packing | None = None,
        max_bytes: int | None = None,
    ) -> None:
        self._target, self._path, self._offset = target, path, offset
        self._digest, self._packing = digest, packing or Packing()
        self._max_bytes = max_bytes
        self.first: FileChunk | None = None
        """Facts of the file that is read."""
        self.last: FileChunk | None = None
        self.fetched_bytes = 0
        """Bytes of contents that came, those of pieces that were asked for in vain included."""
        self.reopened = 0
        self._handle = ""
        self._piece = MAX_CHUNK
        self._short = 0
        self._short_bytes = 0

    async def pieces(
        self, accept: Callable[[FileChunk], None] = lambda first: None
    ) -> AsyncIterator[FileChunk]:
        """In order, up to the size that the file had when it was opened, or to its end where it says no
        size (procfs). `accept` sees the first before anything else is asked for, and may raise.

        Raises `Partial` when the file became shorter meanwhile, `Failed` when it is another one.
        """
        fresh = False
        while True:
            try:
                async for chunk in self._from_offset(accept):
                    fresh = False
                    self._offset += len(chunk.data) + chunk.hole_bytes
                    yield chunk
                return
            except ProtocolViolation:
                raise
            except ConnectionLost:
                if fresh or self.first is None:
                    raise
                fresh = True
                self._handle = ""
                self.reopened += 1

    async def _from_offset(self, accept: Callable[[FileChunk], None]) -> AsyncIterator[FileChunk]:
        began = time.monotonic()
        chunk, travelled = await self._read(self._offset, self._piece, self._packing.ask())
        self._adapt(travelled, time.monotonic() - began)
        if self.first is None:
            accept(chunk)
            self.first = chunk
        self._check_same(chunk)
        self._handle = chunk.handle
        end = self.first.size_bytes
        if 0 < end < self._offset + len(chunk.data):
            # It has grown between two system calls; a digest is one of all that it came with.
            chunk, _ = await self._read(self._offset, max(1, end - self._offset), self._packing.ask())
        if end:
            got = self._got(chunk, self._offset, end)
            if self._offset < end and not got:
                raise self._shorter(self._offset, end)
            if got:
                yield self._clipped(chunk, self._offset, end)
            async for piece in self._ahead(self._offset, end):
                yield piece
            return
        while True:
            self._count_crumbs(chunk, chunk.eof)
            yield chunk
            if chunk.eof:
                return
            chunk, _ = await self._read(self._offset, MAX_CHUNK, self._packing.ask())

    async def _read(self, offset: int, size: int, packed: bool) -> Piece:
        request = ReadFile(self._path, offset, size, self._handle, self._digest, packed)
        chunk = await self._target.backend.send(request)
        travelled = len(chunk.data)
        self.fetched_bytes += travelled
        return unpacked(chunk, size), travelled

    def _check_same(self, chunk: FileChunk) -> None:
        first = self.first
        if first is not None and (chunk.inode, chunk.device) != (first.inode, first.device):
            raise Failed(
                f"{self._path} was replaced while it was read", next_step="read it again from its beginning"
            )

    async def _ahead(self, offset: int, end: int) -> AsyncIterator[FileChunk]:
        wanted = offset
        flying: deque[tuple[int, int, bool, asyncio.Task[Piece]]] = deque()
        clock = time.monotonic
        came = clock()
        try:
            while offset < end:
                while wanted < end and len(flying) < READS_AHEAD:
                    length = min(self._piece, end - wanted)
                    packed = self._packing.ask()
                    task = asyncio.create_task(self._read(wanted, length, packed))
                    flying.append((wanted, length, packed, task))
                    wanted += length
                start, length, packed, task = flying.popleft()
                chunk, travelled = await task
                now = clock()
                self._packing.saw(len(chunk.data), travelled, packed, now - came)
                self._adapt(travelled, now - came)
                came = now
                self._check_same(chunk)
                self.last = chunk
                got = self._got(chunk, start, end)
                if got == 0 and chunk.size_bytes >= end:
                    return  # sysfs says a page and gives a line
                if got == 0:
                    raise self._shorter(offset, end)
                self._count_crumbs(chunk, got >= length)
                yield self._clipped(chunk, start, end)
                offset += got
                if got != length:
                    # A hole or a short read: what was asked for beyond does not fit any more.
                    await _drop(flying)
                    wanted = offset
        finally:
            await _drop(flying)

    def _adapt(self, travelled: int, seconds: float) -> None:
        if travelled >= SLOW_PIECE:
            self._piece = MAX_CHUNK if travelled > seconds * CRAWLING else SLOW_PIECE

    @staticmethod
    def _got(chunk: FileChunk, start: int, end: int) -> int:
        return min(len(chunk.data) + chunk.hole_bytes, end - start)

    @staticmethod
    def _clipped(chunk: FileChunk, start: int, end: int) -> FileChunk:
        """Without what the file has grown by."""
        over = len(chunk.data) + chunk.hole_bytes - (end - start)
        if over <= 0:
            return chunk
        if over <= chunk.hole_bytes:
            return dataclasses.replace(chunk, hole_bytes=chunk.hole_bytes - over)
        return dataclasses.replace(chunk, data=chunk.data[: end - start], hole_bytes=0)

    def _shorter(self, offset: int, end: int) -> Partial:
        why = f"{offset} of {end} bytes were there"
        return Partial(f"{self._path} became shorter while it was read", why=why)

    def _count_crumbs(self, chunk: FileChunk, whole: bool) -> None:
        size = len(chunk.data) + chunk.hole_bytes
        if whole:
            return
        self._short += 1
        self._short_bytes += size
        if self._short > CRUMBS and self._short_bytes < self._short * MIN_PIECE:
            raise Failed(
                f"{self._path} comes in crumbs",
                why=f"{self._short} pieces of {self._short_bytes // self._short} bytes on average",
            )


async def _drop(flying: deque[tuple[int, int, bool, asyncio.Task[Piece]]]) -> None:
    tasks = [task for *_, task in flying]
    flying.clear()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def unpacked(chunk: FileChunk, size: int) -> FileChunk:
    """The piece with its bytes as they were read: at most `size`, whatever the stream claims to be."""
    if not chunk.packed:
        return chunk
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(chunk.data, size + 1)
    except zlib.error as error:
        raise ProtocolViolation("the agent sent a packed piece that is damaged", why=str(error)) from error
    if len(data) > size or not inflater.eof or inflater.unused_data:
        raise ProtocolViolation("the agent packed more than was asked for")
    return dataclasses.replace(chunk, data=data, packed=False)


async def pieces(target: Target, path: str) -> AsyncIterator[FileChunk]:
    """The whole file, as `Reader.pieces` gives it."""
    async for chunk in Reader(target, path).pieces():
        yield chunk
