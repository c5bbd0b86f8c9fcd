"""Facts about the target's files, as they cross the wire.

Paths and names are `str` with surrogateescape for bytes that are not UTF-8, so nothing is lost; they
are hostile input and are only ever shown through `kdebug.sanitise`.
"""

from __future__ import annotations

from kdebug.annotations import Optional
from kdebug.protocol.record import Record, dataclass

KINDS = ("file", "dir", "symlink", "fifo", "socket", "char", "block", "unknown")


@dataclass(frozen=True, eq=False, repr=False)
class Entry(Record):
    """One name in a directory, or the answer to stat."""

    name: str
    kind: str
    """One of `KINDS`; "unknown" when the entry could not be examined (`error` says why)."""
    size_bytes: Optional[int] = None
    mode: Optional[int] = None
    """Permission bits including setuid, setgid and sticky (st_mode & 0o7777)."""
    uid: Optional[int] = None
    gid: Optional[int] = None
    mtime_ns: Optional[int] = None
    """Nanoseconds since the Unix epoch."""
    inode: Optional[int] = None
    device: Optional[int] = None
    links: Optional[int] = None
    allocated_bytes: Optional[int] = None
    """st_blocks * 512: less than `size_bytes` where the file is sparse."""
    link_target: Optional[str] = None
    """The text of a symlink, unresolved."""
    device_number: Optional[str] = None
    """"major:minor" of a device node."""
    error: Optional[str] = None
    """Why facts are missing, in the kernel's words."""


@dataclass(frozen=True, eq=False, repr=False)
class Listing(Record):
    """One page of a directory, in the kernel's order."""

    path: str
    entries: tuple[Entry, ...] = ()
    cursor: str = ""
    """Ask again with it for the next page; empty on the last one."""
    truncated: bool = False
    """True when the agent stopped before the end of the directory (`notes` says why)."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class FileStat(Record):
    """What stat tells, with the path as the target's own processes would see it."""

    path: str
    entry: Entry
    resolved: Optional[str] = None
    """Where the path leads once every symlink is followed inside the root; null when it cannot be told."""


@dataclass(frozen=True, eq=False, repr=False)
class FileChunk(Record):
    """A piece of a file. `data` travels as a raw frame, never as JSON."""

    path: str
    offset: int
    size_bytes: int
    """The file's size when it was read (0 for pseudo-files that do not say)."""
    eof: bool
    """True when nothing follows this piece at the time of reading."""
    inode: int
    device: int
    mtime_ns: int
    handle: str = ""
    """Send it with the next read to stay on the very same open file, whatever happens to the name."""
    hole_bytes: int = 0
    """How many zero bytes follow `data` as a hole that was not read; the next offset is past them."""
    rotated: bool = False
    """Follow: the name now leads to another file; this piece is the last of the old one, and `handle` is
    the new one's, or empty where that could not be opened."""
    shrunk: bool = False
    """Follow: the file is shorter than the offset asked for; reading restarts at 0."""
    sha256: str = ""
    """Of the bytes that were read, in hex, where that was asked for."""
    chained: bool = False
    """`sha256` is that of everything from the file's start to the end of this piece, read in order."""
    packed: bool = False
    """`data` is a zlib stream (RFC 1950) of them."""
    data: bytes = b""
