"""Requests that change the target's files. Each is refused by the agent on a read-only session.

A file is written beside its name and renamed at its end: begin-write, write (in any order), commit-write.
Whatever ends it before that, the agent's own end included, leaves nothing.
"""

from __future__ import annotations

from kdebug.annotations import Optional
from kdebug.errors import ProtocolViolation, UsageError
from kdebug.protocol.files import Entry
from kdebug.protocol.modes import check_mode
from kdebug.protocol.record import Record, dataclass
from kdebug.protocol.requests import (
    HEAVY,
    MAX_CHUNK,
    MAX_PATH_BYTES,
    PathRequest,
    Request,
    _at_most,
    _in_range,
    register,
)

MAX_FAILURES = 100
"""Lines of one answer about entries that could not be changed."""


@dataclass(frozen=True, eq=False, repr=False)
class WriteBegun(Record):
    path: str
    """Where it will be: symlinks at the end of the path are followed inside the root."""
    handle: str
    replaces: Optional[Entry] = None
    """What has the name now; its owner and mode are kept."""


@dataclass(frozen=True, eq=False, repr=False)
class Written(Record):
    written_bytes: int


@dataclass(frozen=True, eq=False, repr=False)
class Changed(Record):
    """What came of a change."""

    path: str
    entry: Optional[Entry] = None
    """As it is now; null when it is gone."""
    changed: int = 1
    """Entries that were changed in this step."""
    done: bool = True
    """False: so much was done within the time of one answer; ask again to go on."""
    failures: tuple[str, ...] = ()
    """Entries that could not be changed, and why."""
    failed: int = 0
    """All of them; `failures` holds the first."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class FileVersion(Record):
    """The state of a file that a change was based on."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    sha256: str = ""
    """Compared, too, where it is given."""


@register("begin-write", WriteBegun, lane=HEAVY, mutates=True)
@dataclass(frozen=True, eq=False, repr=False)
class BeginWrite(PathRequest[WriteBegun]):
    mode: int = 0o644
    """Of a new file."""
    replace: bool = False
    """Without it, a name that exists is refused."""

    def validate(self) -> None:
        super().validate()
        _in_range("mode", self.mode, 0, 0o7777)


@dataclass(frozen=True, eq=False, repr=False)
class HandleRequest(Request[Changed]):
    handle: str

    def validate(self) -> None:
        _in_range("the length of the handle", len(self.handle), 1, 64)


@register("write", Written, lane=HEAVY, mutates=True)
@dataclass(frozen=True, eq=False, repr=False)
class WriteChunk(Request[Written]):
    """`size` bytes for `offset`, which follow as DATA frames. Gaps become holes."""

    carries_data = True

    handle: str
    offset: int
    size: int
    sha256: str
    """Of the bytes, in hex: the agent refuses what does not arrive as it was read."""
    data: bytes = b""

    def validate(self) -> None:
        _in_range("the length of the handle", len(self.handle), 1, 64)
        _in_range("offset", self.offset, 0, 2**62)
        _in_range("size", self.size, 1, MAX_CHUNK)
        _in_range("the length of the digest", len(self.sha256), 64, 64)

    def check(self, answer: Written) -> None:
        if answer.written_bytes != self.size:
            raise ProtocolViolation("the agent did not write what it was given")


@register("commit-write", Changed, lane=HEAVY, mutates=True)
@dataclass(frozen=True, eq=False, repr=False)
class CommitWrite(HandleRequest):
    """Give it its size, owner, mode and time, make it durable, and rename it into place."""

    size_bytes: int = 0
    mtime_ns: Optional[int] = None
    """null: now."""
    expect: Optional[FileVersion] = None
    """Refuse unless the name still leads to this version."""
    durable: bool = True
    """fsync(2) file and directory before the answer."""

    def validate(self) -> None:
        super().validate()
        _in_range("size_bytes", self.size_bytes, 0, 2**62)
        _in_range("mtime_ns", self.mtime_ns or 0, -(2**63), 2**63 - 1)


@register("abort-write", Changed, lane=HEAVY, mutates=True)
@dataclass(frozen=True, eq=False, repr=False)
class AbortWrite(HandleRequest):
    """Forget it; nothing is left."""


@register("make-dir", Changed, lane=HEAVY, mutates=True)
@dataclass(frozen=True, eq=False, repr=False)
class MakeDir(PathRequest[Changed]):
    mode: int = 0o755
    parents: bool = False
    """Make what is missing on the way, and take a directory that exists for done."""

    def validate(self) -> None:
        super().validate()
        _in_range("mode", self.mode, 0, 0o7777)


@register("make-symlink", Changed, lane=HEAVY, mutates=True)
@dataclass(frozen=True, eq=False, repr=False)
class MakeSymlink(PathRequest[Changed]):
    link_target: str
    replace: bool = False

    def validate(self) -> None:
        super().validate()
        if not self.link_target or "\0" in self.link_target:
            raise UsageError("the text of a symlink is not empty and holds no NUL")
        _in_range("the length of a symlink", len(self.link_target), 1, MAX_PATH_BYTES - 1)


@dataclass(frozen=True, eq=False, repr=False)
class TreeChange(PathRequest[Changed]):
    """A change of one entry or of all below it, without ever following a symlink on the way down."""

    recursive: bool = False
    cross_mounts: bool = False
    """Also what is mounted below."""

    def check(self, answer: Changed) -> None:
        _at_most("failures", len(answer.failures), MAX_FAILURES)


@register("remove", Changed, lane=HEAVY, mutates=True)
@dataclass(frozen=True, eq=False, repr=False)
class Remove(TreeChange):
    missing_ok: bool = False


@register("chmod", Changed, lane=HEAVY, mutates=True)
@dataclass(frozen=True, eq=False, repr=False)
class Chmod(TreeChange):
    mode: str = ""
    """As chmod(1) takes it. A symlink is followed when it is named, and left alone below."""
    skip: int = 0
    """So many entries were done by earlier steps of the same change."""

    def validate(self) -> None:
        super().validate()
        _in_range("the length of the mode", len(self.mode), 1, 100)
        _in_range("skip", self.skip, 0, 2**40)
        check_mode(self.mode)


@register("set-times", Changed, lane=HEAVY, mutates=True)
@dataclass(frozen=True, eq=False, repr=False)
class SetTimes(PathRequest[Changed]):
    """Mode and time of a directory, once everything is in it."""

    mtime_ns: int
    mode: Optional[int] = None
    durable: bool = False

    def validate(self) -> None:
        super().validate()
        _in_range("mtime_ns", self.mtime_ns, -(2**63), 2**63 - 1)
        _in_range("mode", self.mode or 0, 0, 0o7777)
