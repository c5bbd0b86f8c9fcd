"""Reads a bundle in place: the footer, the index, and then only the members that are asked for.

The file may be anybody's: every size is bounded before anything is unpacked, digests are compared, names
are checked, and nothing is written anywhere.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Optional

from kdebug.capture.container import (
    BLOCK,
    FOOTER_BYTES,
    FORMAT,
    INDEX_NAME,
    MAX_INDEX_BYTES,
    MAX_MEMBERS,
    MAX_RATIO,
    BadBundle,
    Member,
    check_name,
    read_footer,
)
from kdebug.capture.sealing import BEGINNING_BYTES, is_sealed
from kdebug.errors import NotCaptured, from_os_error

PIECE = 256 * 1024
MAX_JSON_BYTES = 64 * 1024 * 1024
"""One document; a process table of 10,000 rows is 5 MiB."""


class BundleReader:
    """`with BundleReader(path) as bundle`. Raises `BadBundle`, or as opening a file does."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise from_os_error(error, f"the bundle {path} cannot be opened") from error
        try:
            self.size_bytes = os.fstat(self._fd).st_size
            self._refuse_sealed()
            self.rebuilt = ""
            """Why the index had to be made anew; "" when it was there."""
            try:
                self.members = self._indexed()
            except BadBundle as problem:
                self.rebuilt = problem.why or problem.what
                self.members = self._scanned()
        except OSError as error:
            os.close(self._fd)
            raise from_os_error(error, f"the bundle {path} cannot be read") from error
        except BaseException:
            os.close(self._fd)
            raise

    def _refuse_sealed(self) -> None:
        if is_sealed(os.pread(self._fd, BEGINNING_BYTES, 0)):
            raise BadBundle(
                f"{self.path} is encrypted",
                next_step=f"run `kdebug bundle decrypt {self.path} -i KEYFILE`, and open the result",
            )

    def __enter__(self) -> BundleReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # The index

    def _indexed(self) -> dict[str, Member]:
        if self.size_bytes < FOOTER_BYTES:
            raise BadBundle(f"{self.path} is no bundle", why="it is too short")
        start = read_footer(os.pread(self._fd, FOOTER_BYTES, self.size_bytes - FOOTER_BYTES))
        length = self.size_bytes - FOOTER_BYTES - start
        if not 0 <= start < self.size_bytes - FOOTER_BYTES or length > MAX_INDEX_BYTES:
            raise BadBundle("the bundle's index cannot be", why="its place is outside of the file")
        name, data, _ = self._first_member(start, MAX_INDEX_BYTES)
        if name != INDEX_NAME:
            raise BadBundle("the bundle has no index where it says so", why="it is damaged")
        document = parse(data)
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            form = document.get("format") if isinstance(document, dict) else None
            raise BadBundle(
                "the bundle has another format", why=f"{form!r}, and this kdebug reads {FORMAT}"
            )
        return self._checked(document.get("members"), start)

    def _checked(self, listed: Any, end: int) -> dict[str, Member]:
        if not isinstance(listed, list) or len(listed) > MAX_MEMBERS:
            raise BadBundle("the bundle's index is no list of members")
        found: dict[str, Member] = {}
        for entry in listed:
            try:
                member = Member(
                    check_name(str(entry["name"])), int(entry["offset"]), int(entry["packed_bytes"]),
                    int(entry["size_bytes"]), str(entry["sha256"]),
                )  # fmt: skip
            except (KeyError, TypeError, ValueError):
                raise BadBundle("the bundle's index is damaged") from None
            inside = member.offset >= 0 and 0 < member.packed_bytes <= end - member.offset
            if not inside or not 0 <= member.size_bytes <= member.packed_bytes * MAX_RATIO:
                raise BadBundle(
                    f"{member.name} cannot be what the index says", why="its size or place is a lie"
                )
            if member.name in found:
                raise BadBundle(f"the bundle has two members {member.name}")
            found[member.name] = member
        _refuse_overlaps(found.values())
        return found

    def _scanned(self) -> dict[str, Member]:
        """From the beginning, one gzip member after the other, as far as it is whole."""
        found: dict[str, Member] = {}
        offset = 0
        while offset < self.size_bytes and len(found) < MAX_MEMBERS:
            try:
                name, data, packed = self._first_member(offset, MAX_JSON_BYTES)
                check_name(name)
            except BadBundle:
                break
            if name == INDEX_NAME:
                break
            if name in found:
                raise BadBundle(f"the bundle has two members {name}")
            found[name] = Member(name, offset, packed, len(data), hashlib.sha256(data).hexdigest())
            offset += packed
        if not found:
            raise BadBundle(f"{self.path} is no bundle", why="its beginning is none of ours")
        return found

    # Members

    def _first_member(self, offset: int, most: int) -> tuple[str, bytes, int]:
        """(name, contents, packed length) of the gzip member at `offset`; contents of at most `most`."""
        unpacker = _Unpacker(self._fd, offset)
        name, size = _header(unpacker)
        if size > most:
            raise BadBundle(f"{name[:80]} is {size} bytes long", why=f"at most {most} are read at once")
        data = unpacker.take(size)
        unpacker.rest(-size % BLOCK)
        return name, data, unpacker.packed

    def read(self, name: str, most: int = MAX_JSON_BYTES) -> bytes:
        """One member, whole; its digest is compared. Raises `NotCaptured`, `BadBundle`."""
        member = self.member(name)
        if member.size_bytes > most:
            raise BadBundle(
                f"{name} is {member.size_bytes} bytes long", why=f"at most {most} are read at once"
            )
        return b"".join(self.pieces(name))

    def member(self, name: str) -> Member:
        try:
            return self.members[name]
        except KeyError:
            raise NotCaptured(f"the bundle holds no {name}") from None

    def pieces(self, name: str) -> Iterator[bytes]:
        """The contents of one member in bounded pieces. Raises `BadBundle` at its end when the digest is
        another: whoever must not use a byte of a damaged file reads it to the end first."""
        member = self.member(name)
        unpacker = _Unpacker(self._fd, member.offset, member.packed_bytes)
        found, size = _header(unpacker)
        if found != name or size != member.size_bytes:
            raise BadBundle(f"{name} is not where the index says", why="the bundle is damaged or a lie")
        digest, left = hashlib.sha256(), size
        while left:
            piece = unpacker.take(min(PIECE, left))
            digest.update(piece)
            left -= len(piece)
            yield piece
        if digest.hexdigest() != member.sha256:
            raise BadBundle(f"{name} is damaged", why="its SHA-256 is not the one in the index")

    def json(self, name: str) -> Any:
        return parse(self.read(name))

    def parts(self, name: str) -> list[Member]:
        """The members that a stream became: one with its plain name, or numbered ones in order."""
        if name in self.members:
            return [self.members[name]]
        found: list[Member] = []
        while (member := self.members.get(f"{name}.{len(found):04}")) is not None:
            found.append(member)
        return found

    def verify(self) -> list[str]:
        """Read everything; a sentence about each member that is not what it should be."""
        problems = [f"the index was made anew: {self.rebuilt}"] if self.rebuilt else []
        for name in self.members:
            try:
                for _ in self.pieces(name):
                    pass
            except BadBundle as problem:
                problems.append(str(problem))
        return problems


def _refuse_overlaps(members: Iterable[Member]) -> None:
    """Members inside of members make a small file unpack to any size, each of them within its bound."""
    end = 0
    for member in sorted(members, key=lambda member: member.offset):
        if member.offset < end:
            raise BadBundle(
                f"{member.name} cannot be what the index says", why="it lies inside another one"
            )
        end = member.offset + member.packed_bytes


class _Unpacker:
    """Inflates one gzip member, never more at a time than was asked for."""

    def __init__(self, fd: int, offset: int, limit: Optional[int] = None) -> None:
        self._fd = fd
        self._start = self._position = offset
        self._end = None if limit is None else offset + limit
        self._inflate = zlib.decompressobj(31)
        self._input = b""

    def take(self, count: int) -> bytes:
        """Exactly `count` bytes."""
        out = []
        while count:
            if self._inflate.eof:
                raise BadBundle("a member ends before its size", why="the bundle is damaged")
            if not self._input:
                room = PIECE if self._end is None else min(PIECE, self._end - self._position)
                self._input = os.pread(self._fd, max(0, room), self._position)
                self._position += len(self._input)
                if not self._input:
                    raise BadBundle("a member is cut short", why="the bundle is not whole")
            try:
                piece = self._inflate.decompress(self._input, count)
            except zlib.error as error:
                raise BadBundle("a member cannot be unpacked", why=str(error)) from error
            self._input = self._inflate.unconsumed_tail
            count -= len(piece)
            out.append(piece)
        return b"".join(out)

    def rest(self, count: int) -> None:
        """The padding, and the end of the gzip member with its checksum."""
        self.take(count)
        while not self._inflate.eof:
            if not self._input:
                self._input = os.pread(self._fd, 64, self._position)
                self._position += len(self._input)
                if not self._input:
                    raise BadBundle("a member is cut short", why="the bundle is not whole")
            try:
                if self._inflate.decompress(self._input, 1):
                    raise BadBundle("a member is longer than it says", why="the bundle is damaged")
            except zlib.error as error:
                raise BadBundle("a member cannot be unpacked", why=str(error)) from error
            self._input = self._inflate.unconsumed_tail

    @property
    def packed(self) -> int:
        """Length of the gzip member, once it was read to its end."""
        unused = len(self._inflate.unused_data) if self._inflate.eof else len(self._input)
        return self._position - self._start - unused


def _header(unpacker: _Unpacker) -> tuple[str, int]:
    """(name, size) of the regular file whose tar header comes first; pax records before it are taken in."""
    block = unpacker.take(BLOCK)
    name = ""
    for _ in range(2):
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise BadBundle("a member has no tar header", why=str(error)) from error
        if info.type != tarfile.XHDTYPE:
            break
        if info.size > 64 * 1024:
            raise BadBundle("a member has a name that is too long")
        name = _pax_path(unpacker.take(info.size))
        unpacker.take(-info.size % BLOCK)
        block = unpacker.take(BLOCK)
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise BadBundle(
            f"{(name or info.name)[:80]!r} is no regular file", why="a bundle holds nothing else"
        )
    if info.size < 0:
        raise BadBundle("a member has a negative size")
    return name or info.name, info.size


def _pax_path(records: bytes) -> str:
    """The path of a pax header (POSIX.1-2001: "length key=value\\n")."""
    stream = io.BytesIO(records)
    for line in stream:
        key, _, value = line.partition(b" ")[2].partition(b"=")
        if key == b"path":
            return value.rstrip(b"\n").decode("utf-8", "surrogateescape")
    return ""


def parse(data: bytes) -> Any:
    """JSON of a bundle; `BadBundle` when it is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadBundle("a document of the bundle is not JSON", why=str(error)[:200]) from error
