"""Which process is the target, and who is asking."""

from __future__ import annotations

import os
import resource
import sys
import time

from kdebug.annotations import Optional
from kdebug.errors import AccessDenied, NotFound, from_os_error
from kdebug.probe.container_id import Containers
from kdebug.protocol.record import Record, dataclass
from kdebug.protocol.system import SHELLS, AgentInfo, TargetInfo

MAX_SMALL = 64 * 1024


@dataclass(frozen=True, eq=False, repr=False)
class FoundTarget(Record):
    pid: int
    start_ticks: int
    name: str
    container: Optional[str]


def read_small(path: str, limit: int = MAX_SMALL) -> bytes:
    """The beginning of a /proc file; `OSError` as open(2) and read(2) raise it."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, limit)
    finally:
        os.close(fd)


def find_target(proc: str, pid: int, container: str) -> FoundTarget:
    """The process named by pid, or the container's first one. Raises `NotFound`."""
    containers = Containers(proc)
    return _describe(proc, pid, containers) if pid else _first_of_container(proc, container, containers)


def _describe(proc: str, pid: int, containers: Containers) -> FoundTarget:
    try:
        stat = read_small(f"{proc}/{pid}/stat")
        cgroup = read_small(f"{proc}/{pid}/cgroup")
    except (FileNotFoundError, ProcessLookupError):
        raise NotFound(
            f"there is no process {pid}", next_step="list the processes with ps and take a PID from there"
        ) from None
    except OSError as error:
        raise from_os_error(error, f"the process {pid} cannot be examined") from error
    name, _, rest = stat.partition(b"(")[2].rpartition(b")")
    return FoundTarget(
        pid,
        int(rest.split()[19]),
        name.decode("utf-8", "surrogateescape"),
        containers.of(cgroup.decode("utf-8", "surrogateescape")),
    )


def _first_of_container(proc: str, container: str, containers: Containers) -> FoundTarget:
    """The oldest process whose cgroup names the container: its init, whatever PID that has (6.5)."""
    found = []
    for name in os.listdir(proc):
        if name.isdigit():
            try:
                candidate = _describe(proc, int(name), containers)
            except (NotFound, AccessDenied):
                continue
            if candidate.container == container:
                found.append(candidate)
    if not found:
        raise NotFound(
            f"no process of the container {container[:12]} is visible",
            why="the PID namespace is not shared with it, or it has ended",
        )
    return min(found, key=lambda candidate: (candidate.start_ticks, candidate.pid))


def target_info(proc: str, found: FoundTarget, read_only: bool) -> TargetInfo:
    """What a client needs to know once; facts that may not be read are None with the reason."""
    reasons: dict[str, str] = {}
    return TargetInfo(
        pid=found.pid,
        start_ticks=found.start_ticks,
        name=found.name,
        container=found.container,
        same_pid_namespace=_same_namespace(proc, found.pid, "pid", reasons),
        same_network_namespace=_same_namespace(proc, found.pid, "net", reasons),
        boot_id=_boot_id(proc, reasons),
        clock_ticks=os.sysconf("SC_CLK_TCK"),
        page_size=os.sysconf("SC_PAGE_SIZE"),
        read_only=read_only,
        agent_container=_own_container(proc, found),
        reasons=reasons,
    )


def _own_container(proc: str, found: FoundTarget) -> Optional[str]:
    """None as well where it is the target's too, whose processes are not kdebug's."""
    try:
        mine = Containers(proc).of(read_small(f"{proc}/self/cgroup").decode("utf-8", "surrogateescape"))
    except OSError:
        return None
    return None if mine == found.container and found.pid != os.getpid() else mine


def _same_namespace(proc: str, pid: int, kind: str, reasons: dict[str, str]) -> Optional[bool]:
    """namespaces(7): two links with the same text are the same namespace."""
    try:
        return os.readlink(f"{proc}/{pid}/ns/{kind}") == os.readlink(f"{proc}/self/ns/{kind}")
    except OSError as error:
        reasons[f"same_{'network' if kind == 'net' else kind}_namespace"] = error.strerror or str(error)
        return None


def _boot_id(proc: str, reasons: dict[str, str]) -> Optional[str]:
    try:
        return read_small(f"{proc}/sys/kernel/random/boot_id").decode().strip()
    except OSError as error:
        reasons["boot_id"] = error.strerror or str(error)
        return None


def agent_info(
    proc: str, *, source_hash: str, python: str, uptime_seconds: float, cpu_quota_cores: Optional[float]
) -> AgentInfo:
    """The agent about itself. Sizes in bytes, times in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return AgentInfo(
        pid=os.getpid(),
        python=python,
        source_hash=source_hash,
        rss_bytes=int(read_small(f"{proc}/self/statm").split()[1]) * os.sysconf("SC_PAGE_SIZE"),
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        uptime_seconds=uptime_seconds,
        oom_score_adj=_oom_score_adj(proc),
        dumpable=_dumpable(),
        psutil=_psutil_version(),
        cpu_quota_cores=cpu_quota_cores,
        clock_at=time.time(),
        shell=next((path for path in SHELLS if os.access(path, os.X_OK)), ""),
    )


def _oom_score_adj(proc: str) -> Optional[int]:
    try:
        return int(read_small(f"{proc}/self/oom_score_adj"))
    except (OSError, ValueError):
        return None


def _dumpable() -> Optional[bool]:
    from kdebug.probe import syscalls

    try:
        return syscalls.get_dumpable()
    except OSError:
        return None


def _psutil_version() -> Optional[str]:
    """Found without importing it: the question must not cost the memory that it asks about."""
    from importlib.util import find_spec

    add_site_packages()
    return "present" if find_spec("psutil") else None


def add_site_packages() -> None:
    """A delivered agent starts without the image's own packages (-S), of which it seldom needs one."""
    if sys.flags.no_site and "site" not in sys.modules:
        try:
            import site

            site.main()
        except ImportError:
            pass  # our own image has no site, and psutil where it is found
