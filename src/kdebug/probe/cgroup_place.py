"""Where the files of the *target's* cgroup can be read.

Two places are tried in order: the target's own /sys/fs/cgroup through its root (a container sees its
own cgroup there); the agent's /sys/fs/cgroup at the path of /proc/PID/cgroup, when the agent is outside
all containers. The agent's own cgroup is never taken for the target's.
"""

from __future__ import annotations

import os

from kdebug.annotations import Callable, Optional
from kdebug.errors import AccessDenied, KdebugError
from kdebug.probe.cgroup_parse import controller_paths
from kdebug.probe.identity import read_small
from kdebug.probe.mounts import iter_mounts
from kdebug.protocol.record import Record, dataclass
from kdebug.protocol.system import Mount

Read = Callable[[str], bytes]


_PROBES = {
    "memory": "memory.stat",
    "cpu": "cpu.stat",
    "cpuacct": "cpuacct.usage",
    "pids": "pids.current",
}
"""A file that every cgroup of the controller has (pids: every one but the root)."""


@dataclass(frozen=True, eq=False, repr=False)
class Place(Record):
    """Reads one controller's files of the target's cgroup."""

    version: int
    path: str
    read: Read
    scope: str

    def file(self, name: str) -> bytes:
        """Raises `KdebugError`."""
        return self.read(f"{self.path.rstrip('/')}/{name}")


def find_place(proc: str, pid: int, controller: str, read_target: Read, read_host: Read) -> Optional[Place]:
    """The place for `controller` ("memory", "cpu", "pids"); None when there is none.

    Raises `AccessDenied` when there is one that may not be read.
    """
    probe = _PROBES[controller]
    paths = controller_paths(read_small(f"{proc}/{pid}/cgroup").decode("utf-8", "surrogateescape"))
    candidates = [
        *_candidates(
            proc, pid, paths, controller, read_target, "the target's cgroup, through its own root"
        ),
    ]
    if _same_mounts(proc, pid) or not candidates:
        candidates += _candidates(proc, 0, paths, controller, read_host, "the target's cgroup")
    denied: Optional[AccessDenied] = None
    for place in candidates:
        try:
            place.file(probe)
            return place
        except AccessDenied as error:
            denied = denied or error
        except KdebugError:
            continue
    if denied is not None:
        raise denied
    return None


def _same_mounts(proc: str, pid: int) -> bool:
    try:
        return os.readlink(f"{proc}/{pid}/ns/mnt") == os.readlink(f"{proc}/self/ns/mnt")
    except OSError:
        return False


def _candidates(
    proc: str, pid: int, paths: dict[str, str], controller: str, read: Read, scope: str
) -> list[Place]:
    """One place for each mount that carries the controller, as `pid` (0: the agent) sees the mounts."""
    places = []
    for mount in _cgroup_mounts(proc, pid):
        version = 2 if mount.filesystem == "cgroup2" else 1
        # On a hybrid machine a controller of v1 has files of the same name in v2, without its limits.
        if (version == 1) != (controller in paths):
            continue
        if version == 1 and controller not in mount.super_options:
            continue
        cgroup = paths.get("" if version == 2 else controller)
        below = None if cgroup is None else _below(mount.root, cgroup)
        if below is not None:
            places.append(Place(version, f"{mount.path.rstrip('/')}{below}", read, scope))
    return places


def _cgroup_mounts(proc: str, pid: int) -> list[Mount]:
    try:
        mounts = list(iter_mounts(pid or os.getpid(), proc=proc))
    except KdebugError:
        return []
    return [mount for mount in mounts if mount.filesystem in ("cgroup", "cgroup2")]


def _below(mount_root: str, cgroup: str) -> Optional[str]:
    """The cgroup's path below a mount whose root is `mount_root`.

    A container's mount has its own cgroup as root. Seen from another cgroup namespace both may be
    written relative to it ("/../ID"), and then they are the same text or the same last part.
    """
    if mount_root in ("/", cgroup):
        return "" if mount_root == cgroup or cgroup == "/" else cgroup if ".." not in cgroup else None
    if cgroup.startswith(mount_root.rstrip("/") + "/"):
        return cgroup[len(mount_root.rstrip("/")) :]
    return "" if mount_root.rpartition("/")[2] == cgroup.rpartition("/")[2] != "" else None
