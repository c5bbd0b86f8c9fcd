"""head and tail: the ends of a file; tail -F goes with it through rotation, truncation and a new file."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import click

from kdebug.cli.console import note
from kdebug.cli.contents import Contents, chunks, count, shared_letters
from kdebug.cli.files import file_callback
from kdebug.cli.verb import Common
from kdebug.errors import AccessDenied, ConnectionLost, Failed, KdebugError, NotFound, UsageError
from kdebug.protocol.files import FileChunk
from kdebug.protocol.requests import MAX_CHUNK
from kdebug.target import Target

DEFAULT_LINES = "10"
BLOCK = 64 * 1024
WAIT_SECONDS = 15.0
RETRY_SECONDS = 0.5
"""Until a name that is gone is looked for again."""


async def head(target: Target, path: str, common: Common, n: str, c: str) -> int:
    out = Contents(common.output)
    sign, number = count(c or n or DEFAULT_LINES)
    if c and sign != "-":
        await _first_bytes(target, path, number, out)
    elif c:
        await _but_last_bytes(target, path, number, out)
    elif sign != "-":
        await _first_lines(target, path, number, out)
    else:
        await _but_last_lines(target, path, number, out)
    return out.end(path, 0)


async def _first_bytes(target: Target, path: str, left: int, out: Contents) -> None:
    async for chunk in chunks(target, path, size=max(1, min(left, MAX_CHUNK))):
        out.write(chunk.data[:left])
        left -= min(left, len(chunk.data))
        out.zeros(min(left, chunk.hole_bytes))
        left -= min(left, chunk.hole_bytes)
        if left == 0:
            return


async def _first_lines(target: Target, path: str, left: int, out: Contents) -> None:
    async for chunk in chunks(target, path, size=BLOCK):
        lines = chunk.data.count(b"\n")
        if lines >= left:
            out.write(_lines_of(chunk.data, left))
            return
        left -= lines
        out.write(chunk.data)
        out.zeros(chunk.hole_bytes)


def _lines_of(data: bytes, number: int) -> bytes:
    """The first lines of `data`, which has as many."""
    end = 0
    for _ in range(number):
        end = data.index(b"\n", end) + 1
    return data[:end]


async def _but_last_bytes(target: Target, path: str, number: int, out: Contents) -> None:
    first = await target.read(path, 0, 1)
    await _first_bytes(target, path, max(0, first.size_bytes - number), out)


async def _but_last_lines(target: Target, path: str, number: int, out: Contents) -> None:
    held: deque[bytes] = deque()
    rest = b""
    async for chunk in chunks(target, path):
        lines = (rest + chunk.data + bytes(chunk.hole_bytes)).split(b"\n")
        rest = lines.pop()
        for line in lines:
            held.append(line)
            if len(held) > number:
                out.write(held.popleft() + b"\n")
    # What has no line feed at the end is a line, too.
    while held and len(held) + bool(rest) > number:
        out.write(held.popleft() + b"\n")
    if not number:
        out.write(rest)


async def tail(
    target: Target, path: str, common: Common, n: str, c: str, follow: bool, by_name: bool
) -> int:
    if (follow or by_name) and common.output != "table":
        raise UsageError("a file that is followed has no document", next_step="leave out -o")
    out = Contents(common.output)
    tailing = Tail(target, path, out, by_name)
    await tailing.start(n, c)
    if follow or by_name:
        await tailing.follow()
    return out.end(path, tailing.began)


class Tail:
    """One file that is read from somewhere to its end, and perhaps on."""

    def __init__(self, target: Target, path: str, out: Contents, by_name: bool) -> None:
        self._target, self._path, self._out, self._by_name = target, path, out, by_name
        self._handle = ""
        self._offset = 0
        self.began = 0
        self._missing = False

    async def start(self, n: str, c: str) -> None:
        """Write the end of the file as it is now."""
        try:
            first = await self._target.read(self._path, 0, 1)
        except NotFound as error:
            if not self._by_name:
                raise
            self._gone(error)
            return
        sign, number = count(c or n or DEFAULT_LINES)
        self.began = await self._place(first, sign, number, bool(c))
        self._offset = self.began
        async for chunk in chunks(self._target, self._path, self.began, first):
            self._take(chunk)

    async def _place(self, first: FileChunk, sign: str, number: int, in_bytes: bool) -> int:
        """Where the end begins that is asked for."""
        if sign == "+":
            return max(0, number - 1) if in_bytes else await self._line_start(first, number)
        if first.size_bytes == 0:
            return await self._from_end_of_stream(first, number, in_bytes)
        if in_bytes:
            return max(0, first.size_bytes - number)
        return await self._lines_from_end(first, number)

    async def _line_start(self, first: FileChunk, number: int) -> int:
        place, left = 0, number - 1
        async for chunk in chunks(self._target, self._path, 0, first):
            lines = chunk.data.count(b"\n")
            if left <= lines:
                return place + len(_lines_of(chunk.data, max(0, left)))
            left -= lines
            place += len(chunk.data) + chunk.hole_bytes
        return place

    async def _lines_from_end(self, first: FileChunk, number: int) -> int:
        """Backwards, a block at a time; a line feed at the very end ends the last line."""
        end, left = first.size_bytes, number
        place = end
        while place > 0 and number > 0:
            start = max(0, place - BLOCK)
            data = await self._range(first, start, place)
            stop = len(data)
            if place == end and data.endswith(b"\n"):
                stop -= 1
            while (stop := data.rfind(b"\n", 0, stop)) >= 0:
                left -= 1
                if left == 0:
                    return start + stop + 1
            place = start
        return 0 if number else end

    async def _range(self, first: FileChunk, start: int, end: int) -> bytes:
        parts: list[bytes] = []
        while start < end:
            chunk = await self._target.read(self._path, start, end - start, first.handle)
            piece = chunk.data + bytes(min(chunk.hole_bytes, end - start - len(chunk.data)))
            if not piece:
                break  # it became shorter
            parts.append(piece)
            start += len(piece)
        return b"".join(parts)

    async def _from_end_of_stream(self, first: FileChunk, number: int, in_bytes: bool) -> int:
        """Of a file that says no size: read it all, then count."""
        data = b"".join([c.data async for c in chunks(self._target, self._path, 0, first)])
        if in_bytes:
            return max(0, len(data) - number)
        lines = data.splitlines(keepends=True)
        return sum(map(len, lines[: max(0, len(lines) - number)]))

    def _take(self, chunk: FileChunk) -> None:
        self._out.write(chunk.data)
        self._out.zeros(chunk.hole_bytes)
        self._offset = chunk.offset + len(chunk.data) + chunk.hole_bytes
        self._handle = chunk.handle

    async def follow(self) -> None:
        """For ever, or until what is followed cannot be any more."""
        while True:
            try:
                chunk = await self._target.follow(
                    self._path, self._offset, self._handle, WAIT_SECONDS, by_name=self._by_name
                )
            except ConnectionLost as lost:
                await self._come_back(lost)
            except (NotFound, AccessDenied, Failed) as error:
                if not self._by_name:
                    raise
                self._gone(error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._followed(chunk)

    def _followed(self, chunk: FileChunk) -> None:
        if self._missing:
            self._missing = False
            note(f"{self._path} has appeared; following it from its beginning")
        if chunk.shrunk:
            note(f"{self._path} was truncated; following it from its beginning")
            self._offset, self._handle = 0, chunk.handle
            return
        self._take(chunk)
        if chunk.rotated:
            note(f"{self._path} was replaced; following the new file")
            self._offset = 0

    def _gone(self, error: KdebugError) -> None:
        """Whatever has the name next is read from its beginning."""
        if not self._missing:
            note(f"{error}; waiting for it")
        self._missing, self._handle, self._offset = True, "", 0

    async def _come_back(self, lost: ConnectionLost) -> None:
        """Where the backend reconnects for a new question, the old place in the file is still good."""
        try:
            await self._target.stat(self._path, follow=True)
        except NotFound:
            pass
        except KdebugError:
            raise lost from None
        note(f"{lost}; connected again")


def _verb(name: str, work: Any, help_text: str, *options: Any) -> click.Command:
    decorated: Any = shared_letters(has_bytes=True)(file_callback(name, work))
    for option in reversed(options):
        decorated = option(decorated)
    decorated = click.argument("location", metavar="TARGET:/PATH")(decorated)
    return click.command(name, help=help_text, context_settings={"help_option_names": ["-h", "--help"]})(
        decorated
    )


SHARED = " -n and -c take a number; anything else there is a namespace or a container, as in kubectl."
COMMANDS: dict[str, click.Command] = {
    "head": _verb(
        "head",
        head,
        "Write the first 10 lines of a file. -n -N, -c -N: all but the last N." + SHARED,
    ),
    "tail": _verb(
        "tail",
        tail,
        "Write the last 10 lines of a file. -n +N, -c +N: from the Nth on." + SHARED,
        click.option("-f", "follow", is_flag=True, help="go on as the file grows"),
        click.option("-F", "by_name", is_flag=True, help="the same, over to a new file of the name"),
    ),
}
