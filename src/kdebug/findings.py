"""What looks wrong, in plain words: rules over facts that were read anyway. Pure, one function a rule.

A rule says what was measured, never what might be; one whose facts are missing says nothing. Names come
from the pod and are shown through the sanitiser only.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from kdebug.growth import Rising, Rose
from kdebug.protocol.network import Socket
from kdebug.protocol.processes import FdInfo, LimitInfo, Process
from kdebug.target.cluster import EventInfo, Story
from kdebug.units import age, size, unix_time
from kdebug.usage import Usage, memory_bytes

NEARLY = 0.9
"""Of a limit."""
THROTTLED = 0.25
"""Share of the periods: below, short bursts are what a quota is for."""
PRESSURE_PERCENT = {"some": 20.0, "full": 5.0}
"""Of the last ten seconds in which some tasks, or all of them, waited."""
LATELY_SECONDS = 3600.0
PROBE_SECONDS = 600.0
"""A probe that failed longer ago has been answered since: the kubelet repeats the event."""
SKEW_SECONDS = 2.0
OPEN_FILES = "Max open files"
"""In the kernel's table of limits."""


class Place(Enum):
    """Where more can be seen."""

    PROCESS = "process"
    FDS = "descriptors"
    SOCKETS = "sockets"
    LOGS = "logs"
    PREVIOUS_LOGS = "previous logs"


@dataclass(frozen=True)
class Finding:
    key: str
    """Names it from one look to the next."""
    text: str
    bad: bool = False
    """It breaks something now; else it may, or costs."""
    place: Optional[Place] = None
    pid: int = 0
    container: str = ""


@dataclass
class Facts:
    """What was read, as far as it was; everything may be missing."""

    now: float
    """Unix time."""
    container: str = ""
    """The target's, of a pod."""
    usage: Usage = field(default_factory=Usage)
    processes: Sequence[Process] = ()
    rising: Sequence[Rising] = ()
    rose: Sequence[Rose] = ()
    """Where the looks end too soon to tell who rises steadily."""
    sockets: Sequence[Socket] = ()
    deleted: Sequence[tuple[Process, FdInfo]] = ()
    """Files without a name that are held open."""
    files: Sequence[tuple[Process, LimitInfo]] = ()
    """The limit of open files, of those who have many."""
    story: Optional[Story] = None
    skew_seconds: Optional[float] = None
    """How much the agent's clock is ahead of ours."""


def find(facts: Facts) -> list[Finding]:
    """What breaks something first; else in the order of the rules."""
    found = [finding for rule in RULES for finding in rule(facts)]
    return sorted(found, key=lambda finding: not finding.bad)


def not_running(facts: Facts) -> Iterator[Finding]:
    for one in _containers(facts):
        if one["state"] == "running" or (one["state"] == "terminated" and _done(one)):
            continue
        why = f": {one['why']}" if one["why"] else ""
        ended = f"; it ended last with {_last_end(one)}" if one["last_termination"] else ""
        place = Place.PREVIOUS_LOGS if one["last_termination"] else Place.LOGS
        state = "does not run" if one["state"] in ("waiting", "unknown") else f"has ended ({one['ended']})"
        key = f"not-running {one['name']}"
        yield Finding(
            key,
            f"{one['name']} {state}{why if one['state'] == 'waiting' else ''}{ended}",
            one["name"] == facts.container or "Init" not in str(one["why"]),
            place,
            container=one["name"],
        )


def _done(one: dict[str, Any]) -> bool:
    return str(one["ended"] or "").startswith("exit code 0")


def restarted(facts: Facts) -> Iterator[Finding]:
    for one in _containers(facts):
        at = unix_time(one["last_termination_at"])
        if at is None or facts.now - at > LATELY_SECONDS or one["state"] != "running":
            continue
        many = f", {one['restarts']} times so far" if (one["restarts"] or 0) > 1 else ""
        text = f"{one['name']} restarted {age(facts.now - at)} ago{many}: {_last_end(one)}"
        yield Finding(
            f"restarted {one['name']}",
            text,
            "OOMKilled" in text,
            Place.PREVIOUS_LOGS,
            container=one["name"],
        )


def _last_end(one: dict[str, Any]) -> str:
    return str(one["last_termination"]).removesuffix(f" at {one['last_termination_at']}")


def probes_fail(facts: Facts) -> Iterator[Finding]:
    for event in _events(facts):
        at = unix_time(event.at)
        if event.reason == "Unhealthy" and at is not None and facts.now - at < PROBE_SECONDS:
            times = f", {event.count} times" if event.count > 1 else ""
            text = f"{event.about}: {event.message} ({age(facts.now - at)} ago{times})"
            yield Finding(
                f"probe {event.about} {event.message}", text, True, Place.LOGS, container=event.about
            )


def pod_leaves(facts: Facts) -> Iterator[Finding]:
    deleted = facts.story.facts.get("deleted_at") if facts.story else None
    if deleted:
        yield Finding("deleted", f"the pod was deleted and must be gone by {deleted}", True)


def node_is_ill(facts: Facts) -> Iterator[Finding]:
    for condition in (facts.story.facts.get("node_conditions") if facts.story else None) or ():
        kind, status = str(condition.get("type")), str(condition.get("status"))
        if status != ("True" if kind == "Ready" else "False"):
            why = f": {condition['why']}" if condition.get("why") else ""
            yield Finding(f"node {kind}", f"the node says {kind}={status}{why}", True)


def memory_is_short(facts: Facts) -> Iterator[Finding]:
    group = facts.usage.last
    used = memory_bytes(group) if group else None
    if group is None or used is None or not group.memory_limit_bytes:
        return
    share = used / group.memory_limit_bytes
    if share >= NEARLY:
        largest = max(facts.processes, key=lambda process: process.rss_bytes, default=None)
        who = f"; most has {_who(largest)}, {size(largest.rss_bytes)}" if largest else ""
        text = f"memory is at {share:.0%} of its limit of {size(group.memory_limit_bytes)}{who}"
        yield Finding(
            "memory", text, True, Place.PROCESS if largest else None, largest.pid if largest else 0
        )


def oom_kills(facts: Facts) -> Iterator[Finding]:
    kills = facts.usage.last.oom_kills if facts.usage.last else None
    if kills:
        times = "a process" if kills == 1 else f"{kills} processes"
        yield Finding("oom", f"the kernel has killed {times} here for want of memory", True)


def memory_rises(facts: Facts) -> Iterator[Finding]:
    group = facts.usage.last
    for one in facts.rising[:3]:
        rate = f"{one.bytes_per_second * 60 / 2**20:.1f} MiB/min"
        text = f"memory of {one.name} (pid {one.pid}) rises by {rate}, now {size(one.rss_bytes)}"
        used = memory_bytes(group) if group else None
        if group and group.memory_limit_bytes and used is not None:
            left = (group.memory_limit_bytes - used) / one.bytes_per_second
            text += f"; at this rate the limit is reached in {age(left)}"
        yield Finding(f"rises {one.pid}", text, False, Place.PROCESS, one.pid)


def memory_rose(facts: Facts) -> Iterator[Finding]:
    steady = {one.pid for one in facts.rising}
    for one in [one for one in facts.rose if one.pid not in steady][:2]:
        text = f"memory of {one.name} (pid {one.pid}) rose by {size(one.bytes)}, to {size(one.rss_bytes)}, "
        text += f"in the {one.seconds:.1f} s of the looks: too short to tell whether it goes on"
        yield Finding(f"rose {one.pid}", text, False, Place.PROCESS, one.pid)


def cpu_is_throttled(facts: Facts) -> Iterator[Finding]:
    share = facts.usage.throttled()
    if share is None or share < THROTTLED:
        return
    limit = facts.usage.last.cpu_limit_cores if facts.usage.last else None
    quota = f" of {limit:.2g} cores" if limit else ""
    text = f"CPU is throttled: the quota{quota} was used up in {share:.0%} of the periods"
    yield Finding("throttled", text, False)


def pids_are_short(facts: Facts) -> Iterator[Finding]:
    group = facts.usage.last
    if group is None or not group.pids_limit or group.pids_current is None:
        return
    if group.pids_current >= NEARLY * group.pids_limit:
        text = f"{group.pids_current} of {group.pids_limit} pids are in use: soon nothing can be started"
        yield Finding("pids", text, True, Place.PROCESS)


def files_are_short(facts: Facts) -> Iterator[Finding]:
    for process, limit in facts.files:
        used = process.fds if process.fds is not None else limit.used
        if used is not None and limit.soft and used >= NEARLY * limit.soft:
            text = f"{_who(process)} has {used} of {limit.soft} files open: soon it can open no more"
            yield Finding(f"files {process.pid}", text, True, Place.FDS, process.pid)


def pressure(facts: Facts) -> Iterator[Finding]:
    for name, value in sorted((facts.usage.last.pressure if facts.usage.last else {}).items()):
        resource, _, kind = name.partition(".")
        if value is not None and value.avg10 >= PRESSURE_PERCENT.get(kind, 100.0):
            who = "everything" if kind == "full" else "something"
            what = {"io": "the disk", "cpu": "a CPU"}.get(resource, resource)
            text = f"pressure: {who} waited for {what} {value.avg10:.0f} % of the last 10 s"
            yield Finding(f"pressure {name}", text, kind == "full")


def close_wait(facts: Facts) -> Iterator[Finding]:
    held: Counter[int] = Counter()
    for socket in facts.sockets:
        if socket.state == "CLOSE-WAIT":
            held.update(socket.pids or ())
    names = {process.pid: process.name for process in facts.processes}
    for pid, count in held.most_common(3):
        sockets = "a socket" if count == 1 else f"{count} sockets"
        who = f"{names[pid]} (pid {pid})" if pid in names else f"pid {pid}"
        text = f"{who} holds {sockets} in CLOSE-WAIT: the peer has closed, it has not"
        yield Finding(f"close-wait {pid}", text, False, Place.SOCKETS, pid)


def deleted_files(facts: Facts) -> Iterator[Finding]:
    """Disk space that nobody finds with du. A file that several processes hold is told once."""
    held: dict[object, list[tuple[Process, FdInfo]]] = defaultdict(list)
    for process, item in facts.deleted:
        held[(item.inode, item.target) if item.inode is not None else len(held)].append((process, item))
    for holders in sorted(held.values(), key=lambda holders: -(holders[0][1].size_bytes or 0))[:3]:
        (process, item), others = holders[0], {process.pid for process, _ in holders[1:]}
        others.discard(process.pid)
        more = f" and {len(others)} more" if others else ""
        path = (item.target or "?").removesuffix(" (deleted)")
        text = f"a deleted file of {size(item.size_bytes)} is held open by {_who(process)}{more}: {path}"
        yield Finding(f"deleted {item.target}", text, False, Place.FDS, process.pid)


def zombies(facts: Facts) -> Iterator[Finding]:
    dead = Counter(process.ppid for process in facts.processes if process.state == "Z")
    names = {process.pid: process.name for process in facts.processes}
    for parent, count in dead.most_common(2):
        what = "a zombie is" if count == 1 else f"{count} zombies are"
        text = f"{what} left: {names.get(parent, '?')} (pid {parent}) does not wait for its children"
        yield Finding(f"zombies {parent}", text, False, Place.PROCESS, parent)


def clock_is_off(facts: Facts) -> Iterator[Finding]:
    skew = facts.skew_seconds
    if skew is not None and abs(skew) >= SKEW_SECONDS:
        way = "ahead of" if skew > 0 else "behind"
        text = f"the clock there is {abs(skew):.0f} s {way} this machine's: times differ by as much"
        yield Finding("clock", text, False)


def is_deleted_file(item: FdInfo) -> bool:
    return item.deleted and item.kind == "file"


def _who(process: Process) -> str:
    return f"{process.name} (pid {process.pid})"


def _containers(facts: Facts) -> list[dict[str, Any]]:
    return list(facts.story.facts.get("containers") or ()) if facts.story else []


def _events(facts: Facts) -> Sequence[EventInfo]:
    return facts.story.events if facts.story else ()


RULES: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    pod_leaves,
    not_running,
    restarted,
    oom_kills,
    memory_is_short,
    pids_are_short,
    files_are_short,
    probes_fail,
    node_is_ill,
    memory_rises,
    memory_rose,
    cpu_is_throttled,
    pressure,
    close_wait,
    deleted_files,
    zombies,
    clock_is_off,
)
