"""Searching and summing below a directory: the requests, and the rows they are answered with.

The agent does the work and comes back at least once in `PAGE_SECONDS`, with few rows or none: so no
deadline is hit however large the tree is, and a cancel is never far away. Counts say how far it came.
"""

from __future__ import annotations

import re

from kdebug.annotations import Any, ClassVar, Optional, TypeVar
from kdebug.errors import ProtocolViolation, UsageError
from kdebug.protocol.files import KINDS, Entry
from kdebug.protocol.record import Record, dataclass
from kdebug.protocol.requests import HEAVY, Paged, _in_range, check_path, register

R = TypeVar("R")

PAGE_SECONDS = 0.5
"""After so long a page goes out as it is."""
MAX_DEPTH = 4096
"""Directories below one another; deeper ones are reported and not entered."""
MAX_TREE_PATH = 64 * 1024
"""Bytes of a path that a walk shows: deeper than PATH_MAX, since it goes by descriptors, and still
small enough for a page."""
MAX_PATTERN = 1024
MAX_NAMES = 16
MAX_TOP = 200


@dataclass(frozen=True, eq=False, repr=False)
class Progress(Record):
    """How far a search has come, in whole."""

    entries: int = 0
    bytes_read: int = 0
    skipped: tuple[str, ...] = ()
    """Said once, on the last page: what was left out on purpose, such as /proc."""


NO_PROGRESS = Progress()


@dataclass(frozen=True, eq=False, repr=False)
class Found(Record):
    """One name in a tree."""

    path: str
    """As the target's processes would write it, from the path that was asked for."""
    depth: int
    entry: Entry
    """With `error` where it could not be examined, or where a directory could not be entered."""


@dataclass(frozen=True, eq=False, repr=False)
class FoundPage(Record):
    items: tuple[Found, ...]
    cursor: str = ""
    progress: Progress = NO_PROGRESS


@dataclass(frozen=True, eq=False, repr=False)
class TreeRequest(Paged[R]):
    """A walk from `path` down. No symlink is followed but, with `follow`, the last part of `path`."""

    path: str = "/"
    follow: bool = False
    max_depth: int = MAX_DEPTH
    one_file_system: bool = False

    def validate(self) -> None:
        super().validate()
        check_path(self.path)
        _in_range("the depth", self.max_depth, 0, MAX_DEPTH)

    def check(self, answer: R) -> None:
        super().check(answer)
        page: Any = answer
        if page.progress.entries < 0 or page.progress.bytes_read < 0:
            raise ProtocolViolation("the agent counts backwards")
        for row in page.items:
            check_below(self.path, row.path)


def check_below(top: str, path: str) -> None:
    """Refuse a row about something that was not asked for."""
    base = top.rstrip("/")
    if (path != top and not path.startswith(base + "/")) or "\0" in path:
        raise ProtocolViolation("the agent answered about a path that was not asked for")
    if len(path) > MAX_TREE_PATH:
        raise ProtocolViolation(f"the agent sent a path of {len(path)} characters")


@register("find", FoundPage, lane=HEAVY)
@dataclass(frozen=True, eq=False, repr=False)
class Find(TreeRequest[FoundPage]):
    """Every entry that passes all the tests; None and () test nothing.

    What could not be examined or entered is a row in any case: a search that leaves out silently would
    say that there is nothing.
    """

    min_depth: int = 0
    names: tuple[str, ...] = ()
    """Globs (*, ?, [...]) of the last part of the path; one that fits is enough."""
    ignore_case: bool = False
    kinds: tuple[str, ...] = ()
    min_bytes: Optional[int] = None
    max_bytes: Optional[int] = None
    min_age_seconds: Optional[float] = None
    """Older than or exactly this, by the agent's clock."""
    max_age_seconds: Optional[float] = None
    """Younger than this."""
    newer_than_ns: Optional[int] = None
    """Modified after this moment, in nanoseconds since the Unix epoch."""
    uid: Optional[int] = None
    gid: Optional[int] = None

    def validate(self) -> None:
        super().validate()
        _in_range("the least depth", self.min_depth, 0, MAX_DEPTH)
        _in_range("the number of names", len(self.names), 0, MAX_NAMES)
        for name in self.names:
            _in_range("the length of a name", len(name), 1, MAX_PATTERN)
        unknown = sorted(set(self.kinds) - set(KINDS))
        if unknown:
            raise UsageError(f"there is no kind {unknown[0]!r}", next_step=f"there are: {', '.join(KINDS)}")

    def check(self, answer: FoundPage) -> None:
        super().check(answer)
        for row in answer.items:
            if not 0 <= row.depth <= MAX_DEPTH + 1 or row.entry.kind not in KINDS:
                raise ProtocolViolation("the agent found something that cannot be")


@dataclass(frozen=True, eq=False, repr=False)
class Usage(Record):
    """What one directory, or one file, takes with everything below it."""

    path: str
    depth: int
    kind: str
    allocated_bytes: int = 0
    """st_blocks * 512, a file with several names once."""
    apparent_bytes: int = 0
    files: int = 0
    """Everything that is no directory."""
    error: Optional[str] = None


@dataclass(frozen=True, eq=False, repr=False)
class UsagePage(Record):
    items: tuple[Usage, ...]
    cursor: str = ""
    progress: Progress = NO_PROGRESS


@register("usage", UsagePage, lane=HEAVY)
@dataclass(frozen=True, eq=False, repr=False)
class DiskUsage(TreeRequest[UsagePage]):
    """Sums, each directory after what is in it. The depth bounds what is told, not what is counted."""

    files: bool = False
    """Tell files, too."""
    top: int = 0
    """Only the largest so many, largest first; 0: all."""
    apparent: bool = False
    """Largest by apparent size."""

    def validate(self) -> None:
        super().validate()
        _in_range("top", self.top, 0, MAX_TOP)

    def check(self, answer: UsagePage) -> None:
        super().check(answer)
        for row in answer.items:
            if min(row.allocated_bytes, row.apparent_bytes, row.files, row.depth) < 0:
                raise ProtocolViolation("the agent counts backwards")


@dataclass(frozen=True, eq=False, repr=False)
class Digest(Record):
    """The SHA-256 of one file as it was read, or why there is none."""

    path: str
    sha256: Optional[str]
    size_bytes: int = 0
    """Bytes that went into the digest."""
    error: Optional[str] = None


@dataclass(frozen=True, eq=False, repr=False)
class DigestPage(Record):
    items: tuple[Digest, ...]
    cursor: str = ""
    progress: Progress = NO_PROGRESS


_SHA256 = re.compile(r"[0-9a-f]{64}")


@register("checksum", DigestPage, lane=HEAVY)
@dataclass(frozen=True, eq=False, repr=False)
class Checksum(TreeRequest[DigestPage]):
    """Of a file, or with a depth above 0 of every regular file below a directory."""

    max_depth: int = 0

    def check(self, answer: DigestPage) -> None:
        super().check(answer)
        for row in answer.items:
            if row.sha256 is not None and not _SHA256.fullmatch(row.sha256):
                raise ProtocolViolation("the agent sent a digest that is none")
            if (row.sha256 is None) == (row.error is None):
                raise ProtocolViolation("the agent sent neither a digest nor a reason, or both")


@dataclass(frozen=True, eq=False, repr=False)
class HeldFile(Record):
    """A deleted file that a process still holds open."""

    pid: int
    fd: int
    path: str
    """The last name it had, as the kernel tells it; of memfds "memfd:NAME"."""
    size_bytes: Optional[int] = None
    allocated_bytes: Optional[int] = None
    inode: Optional[int] = None
    device: Optional[int] = None
    access: Optional[str] = None
    """r, w or rw."""
    process: str = ""
    error: Optional[str] = None
    """Why the descriptors of this process could not be read; `fd` is -1 then."""


@dataclass(frozen=True, eq=False, repr=False)
class HeldPage(Record):
    items: tuple[HeldFile, ...]
    cursor: str = ""
    progress: Progress = NO_PROGRESS


@register("deleted", HeldPage, lane=HEAVY)
@dataclass(frozen=True, eq=False, repr=False)
class ListDeleted(Paged[HeldPage]):
    """Of every process in the target's scope."""


MAX_NAMES = 3000
"""Of one page by columns: as many as are decoded within a millisecond or two."""


@dataclass(frozen=True, eq=False, repr=False)
class EntryTable(Record):
    """A page of a directory by columns: a third of the work of one record a name, on both sides.

    A column whose values are all the same has one.
    """

    path: str
    names: tuple[str, ...] = ()
    modes: tuple[int, ...] = ()
    """st_mode, with the kind; 0 where the entry could not be examined."""
    sizes: tuple[int, ...] = ()
    uids: tuple[int, ...] = ()
    gids: tuple[int, ...] = ()
    mtimes_ns: tuple[int, ...] = ()
    inodes: tuple[int, ...] = ()
    devices: tuple[int, ...] = ()
    links: tuple[int, ...] = ()
    blocks: tuple[int, ...] = ()
    """st_blocks, of 512 bytes."""
    numbers: tuple[int, ...] = ()
    """st_rdev, of device nodes."""
    targets: tuple[tuple[int, str], ...] = ()
    """(place, text) of each symlink."""
    errors: tuple[tuple[int, str], ...] = ()
    """(place, reason) of each entry, or link, that could not be examined."""
    cursor: str = ""


COLUMNS = (
    "modes", "sizes", "uids", "gids", "mtimes_ns", "inodes", "devices", "links", "blocks", "numbers",
)  # fmt: skip


@register("list-table", EntryTable, lane=HEAVY)
@dataclass(frozen=True, eq=False, repr=False)
class ListTable(Paged[EntryTable]):
    """As list-dir. The last page has no cursor, and may be empty."""

    most: ClassVar[int] = MAX_NAMES
    path: str = "/"

    def validate(self) -> None:
        super().validate()
        check_path(self.path)

    def check(self, answer: EntryTable) -> None:
        count = len(answer.names)
        if count > self.limit:
            raise ProtocolViolation(f"the agent sent {count} names where {self.limit} were asked for")
        if answer.cursor and not count:
            raise ProtocolViolation(f"the agent's answer to {self.name} does not end")
        if any(
            len(getattr(answer, column)) not in ((0,) if not count else (1, count)) for column in COLUMNS
        ):
            raise ProtocolViolation("the agent sent columns of different lengths")
        if any(number >> 64 for number in answer.numbers):
            raise ProtocolViolation("the agent told of a device that no kernel has")
        if any(not 0 <= place < count for place, _ in (*answer.targets, *answer.errors)):
            raise ProtocolViolation("the agent told of an entry that is not in its answer")
