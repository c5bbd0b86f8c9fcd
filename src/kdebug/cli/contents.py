"""What the verbs on contents share: letters that coreutils and kubectl both use, counts, and writing."""

from __future__ import annotations

import codecs
import dataclasses
import functools
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import click

from kdebug.cli.console import Document, emit, stdout_is_terminal, write_bytes
from kdebug.cli.files import ENDLESS_BYTES
from kdebug.cli.table import exact
from kdebug.cli.verb import Common, common_options
from kdebug.errors import Partial, UsageError
from kdebug.protocol.files import FileChunk
from kdebug.protocol.requests import MAX_CHUNK
from kdebug.sanitise import multi_line
from kdebug.target import Target

MAX_DOCUMENT = 16 * 1024 * 1024
"""Of contents in one JSON document."""
_COUNT = re.compile(r"([+-]?)(\d{1,18})([kKMGb]?)")
_UNITS = {"": 1, "b": 512, "k": 1 << 10, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def count(text: str) -> tuple[str, int]:
    """(sign, number) of -n and -c. Raises `UsageError`."""
    match = _COUNT.fullmatch(text)
    if not match:
        raise UsageError(f"{text!r} is not a number", next_step="write N, -N or +N, with k, M or G")
    return match[1], int(match[2]) * _UNITS[match[3]]


def is_count(text: str) -> bool:
    return _COUNT.fullmatch(text) is not None


def told_apart(values: tuple[str, ...], counts: bool) -> tuple[str, str]:
    """The last number and the last name that one letter was given, "" for none."""
    numbers = [value for value in values if counts and is_count(value)]
    names = [value for value in values if value not in numbers]
    return numbers[-1] if numbers else "", names[-1] if names else ""


def shared_letters(has_bytes: bool) -> Callable[[Any], Any]:
    """-n and -c of coreutils beside kubectl's: what is a number counts, everything else is a name.

    A namespace or container that is called like a number is named by its long option.
    """

    def decorate(function: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(function)
        def wrapper(common: Common, n: tuple[str, ...], c: tuple[str, ...], **arguments: Any) -> int:
            lines, namespace = told_apart(n, True)
            size, container = told_apart(c, has_bytes)
            pod = common.pod
            if namespace:
                pod = dataclasses.replace(pod, namespace=namespace)
            if container:
                pod = dataclasses.replace(pod, container=container)
            return function(common=dataclasses.replace(common, pod=pod), n=lines, c=size, **arguments)

        decorated: Any = common_options(
            ("table", "json", "yaml"), short_selector=False, short_cluster=False
        )(wrapper)
        bytes_help = "so many bytes; or a container" if has_bytes else "a container"
        decorated = click.option("-c", "c", multiple=True, metavar="N|NAME", help=bytes_help)(decorated)
        decorated = click.option(
            "-n", "n", multiple=True, metavar="N|NAME", help="so many; or a namespace"
        )(decorated)
        with_letters: Callable[..., int] = decorated
        return with_letters

    return decorate


class Contents:
    """Bytes to stdout: exact in a pipe, sanitised on a terminal, or kept for one document."""

    def __init__(self, output: str) -> None:
        self._document = output in ("json", "yaml")
        self._output = output
        self._kept: list[bytes] = []
        self.written = 0
        self._decoder = None
        if stdout_is_terminal() and not self._document:
            self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def write(self, data: bytes) -> None:
        self.written += len(data)
        if self._document:
            if self.written > MAX_DOCUMENT:
                raise UsageError(
                    f"a document holds at most {MAX_DOCUMENT} bytes",
                    next_step="ask for less, or leave out -o",
                )
            self._kept.append(data)
        elif self._decoder is not None:
            write_bytes(multi_line(self._decoder.decode(data)).encode("utf-8", "backslashreplace"))
        else:
            write_bytes(data)

    def zeros(self, size: int) -> None:
        """A hole reads as zeros; they have to be written even though nobody sent them."""
        while size > 0:
            self.write(bytes(min(size, MAX_CHUNK)))
            size -= MAX_CHUNK

    def end(self, path: str, offset: int | None = None) -> int:
        """Emit the document, where one is wanted."""
        if not self._document:
            return 0
        data: dict[str, Any] = {}
        exact(data, "path", path)
        if offset is not None:
            data["offset"] = offset
        exact(data, "content", b"".join(self._kept).decode("utf-8", "surrogateescape"))
        return emit(Document(data, lambda wide: []), self._output)


async def chunks(
    target: Target, path: str, offset: int = 0, first: FileChunk | None = None, size: int = MAX_CHUNK
) -> AsyncIterator[FileChunk]:
    """The file from `offset` to its end, from one open file, whatever becomes of its name.

    `first` is any piece of it, for its handle. Stops with `Partial` in a file without a size or an end.
    """
    handle, read = first.handle if first else "", 0
    while True:
        chunk = await target.read(path, offset, size, handle)
        yield chunk
        handle = chunk.handle
        offset += len(chunk.data) + chunk.hole_bytes
        read += len(chunk.data)
        if chunk.eof:
            return
        if chunk.size_bytes == 0 and read >= ENDLESS_BYTES:
            raise endless(path, read)


def endless(path: str, read: int) -> Partial:
    return Partial(f"{path} was read up to {read} bytes only", why="it says no size and may have no end")
