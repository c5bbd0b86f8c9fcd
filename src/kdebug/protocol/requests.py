"""Every question that can be asked, each with the type of its answer.

A request is a frozen dataclass registered under its wire name. `lane` tells the agent where to run
it; `check` lets the client refuse an answer that holds more than was asked for.
"""

from __future__ import annotations

from kdebug.annotations import Any, Callable, ClassVar, Generic, TypeVar
from kdebug.errors import ProtocolViolation, UsageError
from kdebug.protocol.files import FileChunk, FileStat, Listing
from kdebug.protocol.network import NetworkConfig, SocketPage
from kdebug.protocol.processes import (
    EnvPage,
    FdPage,
    Limits,
    MapPage,
    ProcessDetail,
    ProcessPage,
    SignalSent,
)
from kdebug.protocol.record import Record, dataclass
from kdebug.protocol.system import Access, AgentInfo, CgroupInfo, MountPage, TargetInfo

R = TypeVar("R")

QUICK = "quick"
"""Answered in order, at once, by one thread."""
HEAVY = "heavy"
"""Run by a small pool at low priority."""
WAIT = "wait"
"""May wait for something to happen; never occupies the two above."""

MAX_PAGE = 1000
"""Rows in one page: 1,000 process rows stay below one frame and decode in about 4 ms."""
MAX_CHUNK = 1024 * 1024
"""Bytes of one ranged read: four frames, so a cancel is never far away."""
MAX_WAIT_SECONDS = 30.0
"""Half of the silence after which a peer counts as gone."""
MAX_PATH_BYTES = 4096
"""PATH_MAX of Linux, the final NUL included (limits.h)."""

_REGISTRY: dict[str, type[Request[Any]]] = {}
_TRANSFER, _WRITES = "kdebug.protocol.transfer", "kdebug.protocol.writes"
_GREP, _SEARCH = "kdebug.protocol.grep", "kdebug.protocol.search"
LATER = {
    "grep": _GREP, "find": _SEARCH, "usage": _SEARCH, "checksum": _SEARCH, "deleted": _SEARCH,
    "list-table": _SEARCH,
    "digest": _TRANSFER, "begin-write": _WRITES, "write": _WRITES, "commit-write": _WRITES,
    "abort-write": _WRITES, "make-dir": _WRITES, "make-symlink": _WRITES, "remove": _WRITES,
    "chmod": _WRITES, "set-times": _WRITES,
}  # fmt: skip
"""Requests of modules that are loaded when one of theirs is asked: most sessions need none."""
_Q = TypeVar("_Q", bound="type[Request[Any]]")


@dataclass(frozen=True, eq=False, repr=False)
class Request(Record, Generic[R]):
    """A question whose answer is an `R`."""

    name: ClassVar[str] = ""
    lane: ClassVar[str] = QUICK
    result: ClassVar[type] = object
    mutates: ClassVar[bool] = False
    """Refused by the agent on a read-only session."""
    carries_data: ClassVar[bool] = False
    """`size` bytes follow the request as DATA frames of its id, and become its field `data`."""

    def validate(self) -> None:
        """Raise `UsageError` for a value out of range; both sides call it."""

    def check(self, answer: R) -> None:
        """Raise `ProtocolViolation` when `answer` is more than this request asked for."""


def register(name: str, result: type, lane: str = QUICK, mutates: bool = False) -> Callable[[_Q], _Q]:
    """Class decorator: give a request its wire name, answer type and lane."""

    def add(cls: _Q) -> _Q:
        cls.name, cls.result, cls.lane, cls.mutates = name, result, lane, mutates
        _REGISTRY[name] = cls
        return cls

    return add


def request_class(name: str) -> type[Request[Any]]:
    """The class registered under `name`; `UsageError` when there is none."""
    if name not in _REGISTRY and name in LATER:
        __import__(LATER[name])
    try:
        return _REGISTRY[name]
    except KeyError:
        raise UsageError(f"the agent does not know the request {name!r}") from None


def load_all() -> None:
    """Register the requests of the other modules, too, which an agent loads at the first that it needs."""
    for module in LATER.values():
        __import__(module)


def registered() -> dict[str, type[Request[Any]]]:
    """A copy of the whole registry, for documentation and tests."""
    load_all()
    return dict(_REGISTRY)


def _in_range(what: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UsageError(f"{what} must be between {low} and {high}, not {value}")


def check_path(path: str) -> None:
    """Refuse what the kernel would refuse, before anything is sent."""
    if not path.startswith("/"):
        raise UsageError(f"the path {path!r} is not absolute", next_step="start it with /")
    if "\0" in path:
        raise UsageError(f"the path {path!r} holds a NUL byte, which no Linux path can")
    try:
        length = len(path.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise UsageError("the path holds characters that no byte string stands for") from None
    if length >= MAX_PATH_BYTES:
        raise UsageError(f"the path is {length} bytes long; Linux takes at most {MAX_PATH_BYTES - 1}")


def is_held(path: str) -> bool:
    """Whether it names a deleted file that a process still holds: `deleted:PID/FD`."""
    pid, slash, fd = path.removeprefix("deleted:").partition("/")
    numbers = pid.isascii() and pid.isdigit() and fd.isascii() and fd.isdigit()
    fits = numbers and pid[0] != "0" and len(pid) <= 10 and len(fd) <= 9
    return path.startswith("deleted:") and bool(slash) and fits


def parse_held(path: str) -> tuple[int, int]:
    """(pid, descriptor) of `deleted:PID/FD`."""
    if not is_held(path):
        raise UsageError(f"{path!r} is not of the form deleted:PID/FD")
    pid, _, fd = path.removeprefix("deleted:").partition("/")
    return int(pid), int(fd)


def _at_most(what: str, count: int, limit: int) -> None:
    if count > limit:
        raise ProtocolViolation(f"the agent answered {count} {what} where at most {limit} were asked for")


@dataclass(frozen=True, eq=False, repr=False)
class Paged(Request[R]):
    """A question answered in pages of at most `limit` items."""

    most: ClassVar[int] = MAX_PAGE
    cursor: str = ""
    limit: int = 400
    """So many rows of processes are decoded within the 8 ms that nobody notices a UI stand."""

    def validate(self) -> None:
        _in_range("limit", self.limit, 1, self.most)
        _in_range("the length of the cursor", len(self.cursor), 0, 64)

    def check(self, answer: R) -> None:
        items = getattr(answer, "entries" if isinstance(answer, Listing) else "items")
        _at_most("items", len(items), self.limit)


@register("open", TargetInfo)
@dataclass(frozen=True, eq=False, repr=False)
class OpenTarget(Request[TargetInfo]):
    """Bind the session to a process, by pid or by container id."""

    pid: int = 0
    container: str = ""
    """Container id (64 hex digits); its first process becomes the target."""
    read_only: bool = False
    root_pid: int = 0
    """Show files as this process of the target sees them, which may have its own mounts; 0: the target."""

    def validate(self) -> None:
        _in_range("the pid of the root", self.root_pid, 0, 2**31)
        if bool(self.pid) == bool(self.container):
            raise UsageError("a target is named either by pid or by container id")
        _in_range("pid", self.pid, 0, 2**31)


@register("agent", AgentInfo)
@dataclass(frozen=True, eq=False, repr=False)
class GetAgentInfo(Request[AgentInfo]):
    """Ask the agent about itself."""


@register("access", Access)
@dataclass(frozen=True, eq=False, repr=False)
class GetAccess(Request[Access]):
    """Measure what the agent may do to the target."""


@register("processes", ProcessPage)
@dataclass(frozen=True, eq=False, repr=False)
class ListProcesses(Paged[ProcessPage]):
    """The process table, or what changed since the pass named `since`."""

    since: int = 0
    fds: bool = True
    """Count open descriptors too (one more directory read a process)."""


@register("process", ProcessDetail)
@dataclass(frozen=True, eq=False, repr=False)
class GetProcess(Request[ProcessDetail]):
    pid: int
    start_ticks: int = 0
    """0: whoever has the pid now; else the answer is refused when the pid was reused."""


@register("fds", FdPage)
@dataclass(frozen=True, eq=False, repr=False)
class ListFds(Paged[FdPage]):
    pid: int = 0


@register("maps", MapPage)
@dataclass(frozen=True, eq=False, repr=False)
class ListMaps(Paged[MapPage]):
    pid: int = 0


@register("environ", EnvPage)
@dataclass(frozen=True, eq=False, repr=False)
class ListEnviron(Paged[EnvPage]):
    pid: int = 0


@register("limits", Limits)
@dataclass(frozen=True, eq=False, repr=False)
class GetLimits(Request[Limits]):
    pid: int


@register("signal", SignalSent, mutates=True)
@dataclass(frozen=True, eq=False, repr=False)
class SendSignal(Request[SignalSent]):
    """Send a signal to the very process that has `pid` and `start_ticks`."""

    pid: int
    start_ticks: int
    signal: int

    def validate(self) -> None:
        _in_range("pid", self.pid, 1, 2**31)
        _in_range("signal", self.signal, 1, 64)


@register("sockets", SocketPage, lane=HEAVY)
@dataclass(frozen=True, eq=False, repr=False)
class ListSockets(Paged[SocketPage]):
    families: tuple[str, ...] = ("inet", "inet6", "unix")


@register("network", NetworkConfig)
@dataclass(frozen=True, eq=False, repr=False)
class GetNetwork(Request[NetworkConfig]):
    """Interfaces, routes, resolver and counters."""


@register("mounts", MountPage, lane=HEAVY)
@dataclass(frozen=True, eq=False, repr=False)
class ListMounts(Paged[MountPage]):
    sizes: bool = True
    """Ask each file system for its size too."""


@register("cgroup", CgroupInfo)
@dataclass(frozen=True, eq=False, repr=False)
class GetCgroup(Request[CgroupInfo]):
    """Limits, usage, throttling and pressure of the target's cgroup."""


@dataclass(frozen=True, eq=False, repr=False)
class PathRequest(Request[R]):
    path: str

    held: ClassVar[bool] = False
    """Takes `deleted:PID/FD`, too."""

    def validate(self) -> None:
        if not (self.held and is_held(self.path)):
            check_path(self.path)


@register("list-dir", Listing, lane=HEAVY)
@dataclass(frozen=True, eq=False, repr=False)
class ListDir(Paged[Listing]):
    path: str = "/"

    def validate(self) -> None:
        super().validate()
        check_path(self.path)


@register("stat", FileStat)
@dataclass(frozen=True, eq=False, repr=False)
class StatPath(PathRequest[FileStat]):
    held: ClassVar[bool] = True
    follow: bool = False


@register("read", FileChunk, lane=HEAVY)
@dataclass(frozen=True, eq=False, repr=False)
class ReadFile(PathRequest[FileChunk]):
    """A piece of a file: at most `size` bytes from `offset`."""

    held: ClassVar[bool] = True
    offset: int = 0
    size: int = MAX_CHUNK
    handle: str = ""
    """From an earlier piece: read on from the same open file."""
    digest: bool = False
    """Answer with the SHA-256 of the bytes as they were read."""
    compress: bool = False
    """Send the bytes deflated where that makes them fewer."""

    def validate(self) -> None:
        super().validate()
        _in_range("offset", self.offset, 0, 2**63 - 1)
        _in_range("size", self.size, 1, MAX_CHUNK)
        _in_range("the length of the handle", len(self.handle), 0, 64)

    def check(self, answer: FileChunk) -> None:
        _at_most("bytes", len(answer.data), self.size)
        if answer.offset != self.offset or answer.hole_bytes < 0:
            raise ProtocolViolation("the agent answered another piece of the file than was asked for")
        if not (answer.data or answer.hole_bytes or answer.eof):
            raise ProtocolViolation("the agent answered nothing of the file and not its end either")
        if answer.packed and not self.compress:
            raise ProtocolViolation("the agent packed what was to be sent as it is")


@register("follow", FileChunk, lane=WAIT)
@dataclass(frozen=True, eq=False, repr=False)
class FollowFile(PathRequest[FileChunk]):
    """Wait until there is something past `offset`, or the name leads elsewhere, or `wait` passes."""

    held: ClassVar[bool] = True
    offset: int = 0
    size: int = MAX_CHUNK
    handle: str = ""
    wait_seconds: float = 10.0
    by_name: bool = True
    """Go over to another file that gets the name (tail -F); else stay on the one that is open (tail -f)."""

    def validate(self) -> None:
        super().validate()
        _in_range("offset", self.offset, 0, 2**63 - 1)
        _in_range("size", self.size, 1, MAX_CHUNK)
        _in_range("wait_seconds", self.wait_seconds, 0, MAX_WAIT_SECONDS)
        _in_range("the length of the handle", len(self.handle), 0, 64)

    def check(self, answer: FileChunk) -> None:
        _at_most("bytes", len(answer.data), self.size)
