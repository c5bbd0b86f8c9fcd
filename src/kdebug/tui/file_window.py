"""A file of any size through a window of it: what is held is bounded, and the rest is fetched on the way.

Text is held as whole lines around where the reader is; a line that never ends is cut into pieces. Bytes
that were a hole read as zeros, as they do for everybody.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Optional

from kdebug.protocol.files import FileChunk

PIECE = 128 * 1024
"""Asked for at a time: several screens, one round trip."""
MAX_WINDOW = 4 * 1024 * 1024
MAX_LINE = 4096
"""Bytes of one line that are shown as one; binary files are one line without this."""
HEX_ROW = 16
HEX_PAGE = 16 * 1024
MAX_HEX_PAGES = 64

Fetch = Callable[[int, int], Awaitable[FileChunk]]
"""(offset, size) -> a piece of the file; a hole in it counts as zeros."""


def contents(chunk: FileChunk, most: int) -> bytes:
    """The bytes of a piece with its hole filled in, at most `most`."""
    hole = min(chunk.hole_bytes, max(0, most - len(chunk.data)))
    return chunk.data + bytes(hole)


class TextWindow:
    """Lines of a file between two offsets. `lines` are (offset, bytes without the line feed)."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self.lines: list[tuple[int, bytes]] = []
        self.start = 0
        """Offset of the first byte held."""
        self.end = 0
        """Offset behind the last byte held."""
        self.size = 0
        """Of the file when it was last read; 0 where it does not say."""
        self.at_end = False
        self._open_line = False
        """The last line has no line feed yet: what follows belongs to it."""

    async def open_at(self, offset: int) -> None:
        """Forget everything and read from `offset`."""
        self.lines, self.start, self.end, self._open_line, self.at_end = [], offset, offset, False, False
        await self.forward()
        if offset and len(self.lines) > 1 and not self.at_end:
            self._drop_first(1)  # it began somewhere inside

    async def open_end(self, size: int) -> None:
        """The last lines of a file of `size` bytes."""
        await self.open_at(max(0, size - PIECE))
        while not self.at_end:
            if not await self.forward():
                break

    async def forward(self) -> int:
        """The next piece; returns how many bytes came."""
        chunk = await self._fetch(self.end, PIECE)
        data = contents(chunk, PIECE)
        self.size = chunk.size_bytes
        self.at_end = chunk.eof and len(data) >= len(chunk.data) + chunk.hole_bytes
        self.append(data)
        return len(data)

    def append(self, data: bytes) -> None:
        """Bytes that follow the last one held (also those of a followed file)."""
        position = self.end
        self.end += len(data)
        for piece in _split(data):
            ended = piece.endswith(b"\n")
            body = piece[:-1] if ended else piece
            if self._open_line and self.lines:
                offset, before = self.lines.pop()
                body, position_of = before + body, offset
            else:
                position_of = position
            self.lines += _pieces(position_of, body)
            self._open_line = not ended
            position += len(piece)

    async def backward(self) -> int:
        """The piece before; returns how many lines came before those that were there."""
        if self.start == 0:
            return 0
        begin = max(0, self.start - PIECE)
        data = b""
        while len(data) < self.start - begin:
            chunk = await self._fetch(begin + len(data), self.start - begin - len(data))
            piece = contents(chunk, self.start - begin - len(data))
            if not piece:
                return 0  # it became shorter
            data += piece
        earlier = TextWindow(self._fetch)
        earlier.start = earlier.end = begin
        earlier.append(data)
        if begin and len(earlier.lines) > 1:
            earlier._drop_first(1)
        added = len(earlier.lines)
        if earlier._open_line and earlier.lines and self.lines:
            # Cut at a piece's edge in the middle of a line.
            offset, head = earlier.lines.pop()
            _, tail = self.lines.pop(0)
            joined = _pieces(offset, head + tail)
            added += len(joined) - 2
            self.lines = earlier.lines + joined + self.lines
        else:
            self.lines = earlier.lines + self.lines
        self.start = earlier.start
        return added

    def trim_front(self) -> int:
        """Drop lines from the beginning until the window is within its bound; how many."""
        dropped = 0
        while self.end - self.start > MAX_WINDOW and len(self.lines) > 2:
            surplus = self.end - self.start - MAX_WINDOW
            count = 1
            while count < len(self.lines) - 1 and self.lines[count][0] - self.start < surplus:
                count += 1
            self._drop_first(count)
            dropped += count
        return dropped

    def trim_back(self) -> None:
        """The same from the end, after reading backward."""
        while self.end - self.start > MAX_WINDOW and len(self.lines) > 2:
            offset, _ = self.lines.pop()
            self.end, self._open_line, self.at_end = offset, False, False

    def _drop_first(self, count: int) -> None:
        del self.lines[:count]
        if self.lines:
            self.start = self.lines[0][0]


def _pieces(offset: int, body: bytes) -> list[tuple[int, bytes]]:
    """One line, or as many as it must be cut into."""
    cuts = range(0, max(1, len(body)), MAX_LINE)
    return [(offset + cut, body[cut : cut + MAX_LINE]) for cut in cuts]


def _split(data: bytes) -> list[bytes]:
    """At line feeds only: a carriage return is a byte of the line."""
    pieces = data.split(b"\n")
    return [piece + b"\n" for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])


class HexWindow:
    """Pages of a file by number, the latest used kept."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._pages: OrderedDict[int, bytes] = OrderedDict()
        self.size = 0

    def row(self, number: int) -> Optional[bytes]:
        """Sixteen bytes, fewer at the end; None when they are not here yet."""
        page = self._pages.get(number * HEX_ROW // HEX_PAGE)
        if page is None:
            return None
        start = number * HEX_ROW % HEX_PAGE
        return page[start : start + HEX_ROW]

    async def load(self, number: int) -> None:
        """The page that holds row `number`."""
        index = number * HEX_ROW // HEX_PAGE
        if index in self._pages:
            self._pages.move_to_end(index)
            return
        data, begin = b"", index * HEX_PAGE
        while len(data) < HEX_PAGE:
            chunk = await self._fetch(begin + len(data), HEX_PAGE - len(data))
            self.size = max(chunk.size_bytes, begin + len(data) + len(chunk.data))
            data += contents(chunk, HEX_PAGE - len(data))
            if chunk.eof:
                break
        self._pages[index] = data
        while len(self._pages) > MAX_HEX_PAGES:
            self._pages.popitem(last=False)


def hex_line(offset: int, data: bytes) -> str:
    """As hexdump -C writes it."""
    left = " ".join(f"{byte:02x}" for byte in data[:8])
    right = " ".join(f"{byte:02x}" for byte in data[8:])
    shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data)
    return f"{offset:08x}  {left:<23}  {right:<23}  |{shown}|"


def looks_binary(data: bytes) -> bool:
    """As grep decides: a NUL byte, or bytes that are no UTF-8 (a character cut at the end is none)."""
    if b"\0" in data:
        return True
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start < len(data) - 3
    return False
