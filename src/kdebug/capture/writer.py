"""Writes a bundle, member by member, so that whatever ends the client leaves a file that can be read.

The file is private (0600), made beside its name and renamed at the end. What is in it is on the disk of
this machine only: nothing is kept in the pod.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import zlib
from collections.abc import Iterable
from typing import Any, Optional

from kdebug.capture.container import (
    END_OF_ARCHIVE,
    FORMAT,
    INDEX_NAME,
    LEVEL,
    Member,
    check_name,
    footer,
    header,
    padding,
)
from kdebug.errors import Failed, from_os_error

PART_BYTES = 8 * 1024 * 1024
"""A stream of unknown length becomes numbered parts of this size: tar wants a size before the contents."""
PARTIAL_SUFFIX = ".part"


class BundleWriter:
    """`add` and `stream` members, then `close`. Not for several threads; raises `Failed` with the disk's
    own words when it is full, after which what was written before is whole."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.members: list[Member] = []
        self._names: set[str] = set()
        self._partial = path + PARTIAL_SUFFIX
        self._closed = False
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._fd = os.open(self._partial, flags, 0o600)
        except OSError as error:
            step = (
                "remove it, or choose another name with --output"
                if isinstance(error, FileExistsError)
                else ""
            )
            raise from_os_error(error, f"{self._partial} cannot be made", step) from error
        self._offset = 0

    def add(self, name: str, data: bytes, mtime: Optional[float] = None) -> Member:
        """One member as a whole."""
        check_name(name)
        if name in self._names:
            raise Failed(f"the bundle has a member {name} already")
        started = self._offset
        packer = zlib.compressobj(LEVEL, zlib.DEFLATED, 31)
        try:
            self._write(packer.compress(header(name, len(data), mtime or time.time())))
            self._write(packer.compress(data))
            self._write(packer.compress(padding(len(data))) + packer.flush())
        except OSError as error:
            self._rewind(started)
            raise from_os_error(error, f"{self._partial} cannot be written") from error
        member = Member(name, started, self._offset - started, len(data), hashlib.sha256(data).hexdigest())
        self.members.append(member)
        self._names.add(name)
        return member

    def add_json(self, name: str, document: Any) -> Member:
        text = json.dumps(document, ensure_ascii=True)  # indented it takes five times as long; jq does that
        return self.add(name, text.encode("ascii") + b"\n")

    def stream(self, name: str, pieces: Iterable[bytes]) -> list[Member]:
        """Contents of unknown length: `name` alone where they fit one part, else name.0000 and so on."""
        sink = self.open_stream(name)
        for piece in pieces:
            sink.write(piece)
        sink.close()
        return sink.members

    def open_stream(self, name: str) -> StreamSink:
        """For contents that arrive piece by piece; `write`, then `close`."""
        return StreamSink(self, check_name(name))

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.write(self._fd, view)
            self._offset += written
            view = view[written:]

    def _rewind(self, offset: int) -> None:
        """Forget half a member: the file ends behind the last whole one."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, offset)
            os.lseek(self._fd, offset, os.SEEK_SET)
        self._offset = offset

    def drop_last(self) -> Optional[Member]:
        """Take the last member back, for the room that it takes; None when there is none left."""
        if not self.members or self._closed:
            return None
        member = self.members.pop()
        self._names.discard(member.name)
        self._rewind(member.offset)
        return member

    @property
    def size_bytes(self) -> int:
        """Of the file so far."""
        return self._offset

    @property
    def partial_path(self) -> str:
        """Where it stands until it is whole, and where it stays when its end could not be written."""
        return self._partial

    def close(self) -> str:
        """Index, end, fsync, and the name that was asked for; returns it. Raises `Failed` on a full disk,
        and then the part stays, readable without its index."""
        if self._closed:
            return self.path
        self._closed = True
        index_offset = self._offset
        try:
            index = [vars(member) for member in self.members]
            self.add_json(INDEX_NAME, {"format": FORMAT, "members": index})
            self._write(_packed(END_OF_ARCHIVE) + footer(index_offset))
            os.fsync(self._fd)
        except OSError as error:
            raise from_os_error(error, f"{self._partial} cannot be completed") from error
        finally:
            os.close(self._fd)
        if os.path.lexists(self.path):
            raise Failed(
                f"{self.path} exists by now", why="nothing is overwritten", next_step=f"see {self._partial}"
            )
        os.rename(self._partial, self.path)
        return self.path

    def discard(self) -> None:
        """Nothing was worth keeping."""
        if not self._closed:
            self._closed = True
            os.close(self._fd)
            with contextlib.suppress(OSError):
                os.unlink(self._partial)


class StreamSink:
    """Contents that become one member or several parts; each full part is on the disk at once."""

    def __init__(self, writer: BundleWriter, name: str) -> None:
        self._writer = writer
        self._name = name
        self._held = bytearray()
        self.members: list[Member] = []
        self.size_bytes = 0

    def write(self, data: bytes) -> list[Member]:
        """Take in `data`; returns the parts that became full by it."""
        made = []
        self._held += data
        self.size_bytes += len(data)
        while len(self._held) > PART_BYTES:
            piece = bytes(self._held[:PART_BYTES])
            del self._held[:PART_BYTES]
            made.append(self._part(piece))
        return made

    def _part(self, data: bytes) -> Member:
        member = self._writer.add(f"{self._name}.{len(self.members):04}", data)
        self.members.append(member)
        return member

    def close(self) -> list[Member]:
        """The rest; a stream that fitted one part has its plain name."""
        if self.members:
            return [self._part(bytes(self._held))] if self._held else []
        member = self._writer.add(self._name, bytes(self._held))
        self.members.append(member)
        return [member]


def _packed(data: bytes) -> bytes:
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()
