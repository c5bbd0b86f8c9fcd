"""The bundle as a file: a .tar.gz that any tar reads, and that we read without unpacking any of it.

Each member of the archive is a gzip member of its own (RFC 1952 allows any number behind each other), so
one can be read in place. The last member of the archive is the index; behind the archive's end stands an
empty gzip member whose extra field says where the index begins (the way eStargz found). A file that lost
its end, of a client that was killed, is read from its beginning instead.

Nothing is ever unpacked by names that stand in the file: a bundle comes from a pod, or from anybody.
"""

from __future__ import annotations

import struct
import tarfile
import zlib
from dataclasses import dataclass

from kdebug.errors import Failed

FORMAT = 1
INDEX_NAME = "index.json"
MANIFEST_NAME = "manifest.json"
BLOCK = 512
LEVEL = 6
END_OF_ARCHIVE = bytes(2 * BLOCK)
_SUBFIELD = b"KD"
_GZIP_HEADER = b"\x1f\x8b\x08\x04" + bytes(4) + b"\x00\xff"
"""Deflate, with an extra field, no time, operating system unknown."""
MAX_NAME = 1024
MAX_INDEX_BYTES = 64 * 1024 * 1024
"""An index entry is about 200 bytes: 300,000 members."""
MAX_MEMBERS = 300_000
MAX_RATIO = 1100
"""Deflate shrinks at most 1:1032 (zlib's technical notes); a member that says more is a lie."""


class BadBundle(Failed):
    """The file is no bundle, is damaged, or lies about itself."""


@dataclass(frozen=True)
class Member:
    """Where one member of the archive lies."""

    name: str
    offset: int
    """Of its gzip member in the file."""
    packed_bytes: int
    size_bytes: int
    sha256: str


def header(name: str, size: int, mtime: float) -> bytes:
    """The tar header of a regular file, readable by its owner only; long names by a pax record."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode, info.type = size, int(mtime), 0o600, tarfile.REGTYPE
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def padding(size: int) -> bytes:
    return bytes(-size % BLOCK)


def footer(index_offset: int) -> bytes:
    """An empty gzip member whose extra field holds the offset of the index, always of the same length."""
    value = f"{index_offset:016x}".encode()
    extra = _SUBFIELD + struct.pack("<H", len(value)) + value
    empty = zlib.compressobj(9, zlib.DEFLATED, -15).flush()
    return _GZIP_HEADER + struct.pack("<H", len(extra)) + extra + empty + struct.pack("<II", 0, 0)


FOOTER_BYTES = len(footer(0))


def read_footer(data: bytes) -> int:
    """The offset of the index; raises `BadBundle` when there is no footer of ours."""
    start = len(_GZIP_HEADER) + 2
    field = data[start : start + 4 + 16]
    if len(data) != FOOTER_BYTES or not data.startswith(_GZIP_HEADER) or field[:2] != _SUBFIELD:
        raise BadBundle("the bundle has no end", why="it was cut short")
    try:
        return int(field[4:], 16)
    except ValueError:
        raise BadBundle("the bundle has no end", why="it is damaged") from None


def check_name(name: str) -> str:
    """Raise `BadBundle` for a name that is no plain relative path; nothing is written by it, but somebody
    else's tar might."""
    parts = name.split("/")
    if not name or len(name) > MAX_NAME or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise BadBundle(
            f"a member has the name {name[:80]!r}", why="a bundle holds plain relative names only"
        )
    return name
