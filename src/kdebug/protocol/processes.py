"""Facts about processes, as they cross the wire.

A fact that may not be read is `None`, with the reason under its name in `reasons`: never a guess.
"""

from __future__ import annotations

from kdebug.annotations import Optional
from kdebug.protocol.record import Record, dataclass, field


@dataclass(frozen=True, eq=False, repr=False)
class Process(Record):
    """One row of the process table."""

    pid: int
    start_ticks: int
    """Start time in clock ticks since boot (proc(5), stat field 22): with `pid` it names the process."""
    ppid: int
    name: str
    """The command name (comm), at most 15 bytes, may hold any byte."""
    state: str
    """One letter of proc(5): R S D Z T t W X x K P I."""
    rss_bytes: int
    vsize_bytes: int
    cpu_seconds: float
    """User plus system time of the process, its threads included."""
    threads: int
    started_at: float
    """Seconds since the Unix epoch."""
    nice: int = 0
    uid: Optional[int] = None
    """Effective uid, in the agent's user namespace."""
    gid: Optional[int] = None
    user: Optional[str] = None
    """The name that the *target's* /etc/passwd gives to the uid; null for processes of other containers."""
    fds: Optional[int] = None
    cmdline: Optional[tuple[str, ...]] = None
    """Empty for kernel threads and zombies."""
    cmdline_truncated: bool = False
    exe: Optional[str] = None
    container: Optional[str] = None
    """Container id from the cgroup path; None outside containers."""
    kernel_thread: bool = False
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """What ps writes in COMMAND: the arguments, or [name] where there are none to see."""
        return " ".join(self.cmdline) if self.cmdline else f"[{self.name}]"


@dataclass(frozen=True, eq=False, repr=False)
class ProcessPage(Record):
    """One page of the process table, or of what changed in it since `generation`."""

    items: tuple[Process, ...]
    generation: int
    """Name of this pass; send it as `since` to get only what changed after it."""
    full: bool
    """False: `items` holds only new and changed rows, and `gone` those that ended."""
    gone: tuple[tuple[int, int], ...] = ()
    """(pid, start_ticks) of processes that ended since; only on the last page."""
    cursor: str = ""
    taken_at: float = 0.0
    """Seconds since the Unix epoch at which this pass began."""
    cost_seconds: float = 0.0
    """CPU time that the agent spent on this pass so far."""
    next_after_seconds: float = 0.0
    """How long to wait before the next pass so that the agent keeps its share of the CPU."""
    scope: str = ""
    """Which processes these are: "PID namespace of the target" or why another set is shown."""


@dataclass(frozen=True, eq=False, repr=False)
class ThreadInfo(Record):
    tid: int
    name: str
    state: str
    cpu_seconds: float


@dataclass(frozen=True, eq=False, repr=False)
class FdInfo(Record):
    """One open descriptor."""

    fd: int
    kind: str
    """file dir socket pipe anon char block fifo memfd unknown"""
    target: Optional[str]
    """What /proc/PID/fd/N points to, as the kernel writes it."""
    deleted: bool = False
    inode: Optional[int] = None
    size_bytes: Optional[int] = None
    position: Optional[int] = None
    flags: Optional[int] = None
    """Open flags (octal in fdinfo), as open(2) has them."""
    access: Optional[str] = None
    """"r", "w" or "rw"."""
    error: Optional[str] = None


@dataclass(frozen=True, eq=False, repr=False)
class FdPage(Record):
    pid: int
    items: tuple[FdInfo, ...]
    cursor: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class MapInfo(Record):
    """One mapping of /proc/PID/maps."""

    start: int
    end: int
    permissions: str
    offset: int
    device: str
    inode: int
    path: Optional[str]
    deleted: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class MapPage(Record):
    pid: int
    items: tuple[MapInfo, ...]
    cursor: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class EnvVar(Record):
    name: str
    value: Optional[str]
    """None when the entry had no "="."""


@dataclass(frozen=True, eq=False, repr=False)
class EnvPage(Record):
    """The environment as it was at exec (proc(5)); later setenv calls may not show."""

    pid: int
    items: tuple[EnvVar, ...]
    cursor: str = ""
    truncated: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class LimitInfo(Record):
    """One row of /proc/PID/limits; None stands for unlimited."""

    name: str
    soft: Optional[int]
    hard: Optional[int]
    unit: str
    used: Optional[int] = None
    """What the process uses of it now, where that is a plain fact (open files, address space ...)."""


@dataclass(frozen=True, eq=False, repr=False)
class Capabilities(Record):
    """The five capability sets, as names (capabilities(7)); unknown bits as "cap_NN"."""

    effective: tuple[str, ...]
    permitted: tuple[str, ...]
    inheritable: tuple[str, ...]
    bounding: tuple[str, ...]
    ambient: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False)
class MemoryDetail(Record):
    """Bytes, from /proc/PID/status and smaps_rollup."""

    rss_bytes: Optional[int] = None
    peak_rss_bytes: Optional[int] = None
    anonymous_bytes: Optional[int] = None
    file_bytes: Optional[int] = None
    shared_memory_bytes: Optional[int] = None
    swap_bytes: Optional[int] = None
    pss_bytes: Optional[int] = None
    uss_bytes: Optional[int] = None
    """Memory that would be freed if the process ended now."""
    locked_bytes: Optional[int] = None
    page_tables_bytes: Optional[int] = None


@dataclass(frozen=True, eq=False, repr=False)
class IoDetail(Record):
    """/proc/PID/io, read through psutil."""

    read_calls: int
    write_calls: int
    read_bytes: int
    """Bytes that really came from storage."""
    write_bytes: int
    read_chars: int
    """Bytes asked for by read calls, from cache or not."""
    write_chars: int


@dataclass(frozen=True, eq=False, repr=False)
class ProcessDetail(Record):
    """One process in full."""

    process: Process
    real_uid: Optional[int]
    saved_uid: Optional[int]
    real_gid: Optional[int]
    saved_gid: Optional[int]
    groups: tuple[int, ...]
    ns_pids: tuple[int, ...]
    """The pid in each nested PID namespace, outermost first."""
    session: int
    process_group: int
    tty: int
    priority: int
    user_seconds: float
    system_seconds: float
    memory: MemoryDetail
    capabilities: Optional[Capabilities]
    no_new_privs: Optional[bool]
    seccomp: Optional[str]
    """disabled, strict or filter."""
    dumpable: Optional[bool]
    """False: the kernel hides this process' memory, root and descriptors from its own user too."""
    oom_score: Optional[int]
    oom_score_adj: Optional[int]
    cwd: Optional[str]
    root: Optional[str]
    cgroup: tuple[str, ...]
    namespaces: dict[str, Optional[int]]
    """Namespace name -> inode number."""
    voluntary_switches: Optional[int]
    involuntary_switches: Optional[int]
    io: Optional[IoDetail]
    limits: tuple[LimitInfo, ...]
    threads: tuple[ThreadInfo, ...]
    threads_truncated: bool = False
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, repr=False)
class Limits(Record):
    pid: int
    items: tuple[LimitInfo, ...]


@dataclass(frozen=True, eq=False, repr=False)
class SignalSent(Record):
    pid: int
    signal: int
