"""Facts about the target as a whole: mounts, cgroup, and what the agent itself may do."""

from __future__ import annotations

from kdebug.annotations import Optional
from kdebug.protocol.record import Record, dataclass, field


@dataclass(frozen=True, eq=False, repr=False)
class Mount(Record):
    """One line of /proc/PID/mountinfo; paths are unescaped."""

    mount_id: int
    parent_id: int
    device: str
    root: str
    path: str
    options: tuple[str, ...]
    filesystem: str
    source: str
    super_options: tuple[str, ...]
    read_only: bool
    size_bytes: Optional[int] = None
    used_bytes: Optional[int] = None
    available_bytes: Optional[int] = None
    inodes: Optional[int] = None
    inodes_used: Optional[int] = None
    error: Optional[str] = None


@dataclass(frozen=True, eq=False, repr=False)
class MountPage(Record):
    items: tuple[Mount, ...]
    cursor: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class Pressure(Record):
    """One line of a PSI file (Documentation/accounting/psi.rst): shares in percent."""

    avg10: float
    avg60: float
    avg300: float
    total_seconds: float


@dataclass(frozen=True, eq=False, repr=False)
class CgroupInfo(Record):
    """Limits and usage of the target's cgroup. None with a reason where it may not be read;
    None without a reason where there is no limit."""

    version: Optional[int]
    path: Optional[str]
    scope: str = ""
    """What the numbers stand for: the target's cgroup, or the one that could be seen instead."""
    memory_limit_bytes: Optional[int] = None
    memory_usage_bytes: Optional[int] = None
    memory_working_set_bytes: Optional[int] = None
    """Usage less inactive file pages: what the kubelet compares with the limit."""
    memory_peak_bytes: Optional[int] = None
    memory_swap_bytes: Optional[int] = None
    oom_kills: Optional[int] = None
    cpu_limit_cores: Optional[float] = None
    cpu_usage_seconds: Optional[float] = None
    cpu_periods: Optional[int] = None
    cpu_throttled_periods: Optional[int] = None
    cpu_throttled_seconds: Optional[float] = None
    pids_limit: Optional[int] = None
    pids_current: Optional[int] = None
    pressure: dict[str, Optional[Pressure]] = field(default_factory=dict)
    """"cpu.some", "memory.some", "memory.full", "io.some", "io.full"."""
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, repr=False)
class Ability(Record):
    """Whether the agent can do one thing to this target, measured and not assumed."""

    name: str
    """process list, files read, files write, fds, env, maps, sockets with owners, signals,
    packet capture, trace"""
    allowed: Optional[bool]
    """None: it could not be tried without doing harm; `reason` says what is known."""
    reason: str
    fix: str = ""
    """What would unlock it."""


@dataclass(frozen=True, eq=False, repr=False)
class Access(Record):
    """The proof after attaching: what is readable, and as whom the agent runs."""

    uid: int
    gid: int
    capabilities: tuple[str, ...]
    abilities: tuple[Ability, ...]


@dataclass(frozen=True, eq=False, repr=False)
class TargetInfo(Record):
    """The target that the session is bound to."""

    pid: int
    start_ticks: int
    name: str
    container: Optional[str]
    same_pid_namespace: Optional[bool]
    """Whether the agent shares the target's PID namespace."""
    same_network_namespace: Optional[bool]
    boot_id: Optional[str]
    clock_ticks: int
    page_size: int
    read_only: bool
    agent_container: Optional[str] = None
    """The container that the agent itself runs in; its processes are kdebug's own."""
    reasons: dict[str, str] = field(default_factory=dict)


SHELLS = ("/bin/bash", "/bin/sh")
"""Programs that a person can type into, the better one first."""


@dataclass(frozen=True, eq=False, repr=False)
class AgentInfo(Record):
    """The agent about itself: what `doctor` and the refresh loop need."""

    pid: int
    python: str
    source_hash: str
    rss_bytes: int
    cpu_seconds: float
    uptime_seconds: float
    oom_score_adj: Optional[int]
    dumpable: Optional[bool]
    psutil: Optional[str]
    """"present", or None when it is missing (some details are then null)."""
    cpu_quota_cores: Optional[float]
    clock_at: float
    """The agent's clock, seconds since the Unix epoch."""
    shell: str = ""
    """Which of `SHELLS` its own root has; "" for none."""
