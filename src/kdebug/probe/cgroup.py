"""Limits, usage, throttling and pressure of the target's cgroup, v1 and v2."""

from __future__ import annotations

import os

from kdebug.annotations import Any, Callable, Optional
from kdebug.errors import AccessDenied, KdebugError, NotFound, TargetEnded
from kdebug.probe import cgroup_parse as parse
from kdebug.probe.cgroup_place import Place, Read, find_place
from kdebug.probe.identity import read_small
from kdebug.protocol.system import CgroupInfo

UNSEEN = "no cgroup file system that shows the target's cgroup is mounted in its root or here"


class _Facts:
    """Collects fields; one that cannot be read gets its reason."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.reasons: dict[str, str] = {}

    def add(self, field: str, place: Place, name: str, parse_file: Callable[[bytes], Any]) -> None:
        try:
            self.fields[field] = parse_file(place.file(name))
        except KdebugError as error:
            self.reasons[field] = f"{name}: {error.why or error.what}"
        except (ValueError, KeyError, ZeroDivisionError) as error:
            self.reasons[field] = f"{name}: not understood: {error}"


def cgroup_info(pid: int, *, proc: str = "/proc", read_target: Read, read_host: Read) -> CgroupInfo:
    """What the target's cgroup allows and uses. Raises `NotFound` when the target has ended."""
    facts = _Facts()
    places: dict[str, Place] = {}
    for controller in ("memory", "cpu", "cpuacct", "pids"):
        why = UNSEEN
        try:
            place = find_place(proc, pid, controller, read_target, read_host)
        except (FileNotFoundError, ProcessLookupError) as error:
            raise TargetEnded(f"the target process {pid} has ended") from error
        except AccessDenied as denied:
            place, why = None, denied.why or denied.what
        if controller == "cpuacct" and (place is None or place.version == 2):
            continue  # v2 counts CPU time in cpu.stat
        if place is None:
            facts.reasons[controller] = why
            continue
        places[controller] = place
        _READERS[controller, place.version](facts, place)
    first = next(iter(places.values()), None)
    if first is not None:
        _pressure(facts, places)
    return CgroupInfo(
        version=first.version if first else None,
        path=first.path if first else None,
        scope=first.scope if first else "",
        reasons=facts.reasons,
        **facts.fields,
    )


def _memory_v2(facts: _Facts, place: Place) -> None:
    facts.add("memory_limit_bytes", place, "memory.max", parse.number)
    facts.add("memory_usage_bytes", place, "memory.current", parse.number)
    facts.add("memory_peak_bytes", place, "memory.peak", parse.number)
    facts.add("memory_swap_bytes", place, "memory.swap.current", parse.number)
    facts.add("oom_kills", place, "memory.events", lambda text: parse.keyed(text)["oom_kill"])
    _working_set(facts, place, "inactive_file")


def _memory_v1(facts: _Facts, place: Place) -> None:
    facts.add("memory_limit_bytes", place, "memory.limit_in_bytes", parse.number)
    facts.add("memory_usage_bytes", place, "memory.usage_in_bytes", parse.number)
    facts.add("memory_peak_bytes", place, "memory.max_usage_in_bytes", parse.number)
    facts.add("oom_kills", place, "memory.oom_control", lambda text: parse.keyed(text)["oom_kill"])
    facts.add("memory_swap_bytes", place, "memory.stat", lambda text: parse.keyed(text)["total_swap"])
    _working_set(facts, place, "total_inactive_file")


def _working_set(facts: _Facts, place: Place, inactive: str) -> None:
    """As the kubelet and cadvisor compute it: usage less inactive file pages, never below 0."""
    usage = facts.fields.get("memory_usage_bytes")
    if usage is not None:
        facts.add(
            "memory_working_set_bytes",
            place,
            "memory.stat",
            lambda text: max(0, usage - parse.keyed(text)[inactive]),
        )


def _cpu_v2(facts: _Facts, place: Place) -> None:
    facts.add("cpu_limit_cores", place, "cpu.max", parse.cpu_max)
    facts.add("cpu_usage_seconds", place, "cpu.stat", lambda text: parse.keyed(text)["usage_usec"] / 1e6)
    facts.add("cpu_periods", place, "cpu.stat", lambda text: parse.keyed(text)["nr_periods"])
    facts.add("cpu_throttled_periods", place, "cpu.stat", lambda text: parse.keyed(text)["nr_throttled"])
    facts.add(
        "cpu_throttled_seconds", place, "cpu.stat", lambda text: parse.keyed(text)["throttled_usec"] / 1e6
    )


def _cpu_v1(facts: _Facts, place: Place) -> None:
    def cores(quota: bytes) -> Optional[float]:
        period = parse.integer(place.file("cpu.cfs_period_us").strip())
        allowed = parse.integer(quota.strip())
        return None if allowed < 0 else allowed / period

    facts.add("cpu_limit_cores", place, "cpu.cfs_quota_us", cores)
    facts.add("cpu_periods", place, "cpu.stat", lambda text: parse.keyed(text)["nr_periods"])
    facts.add("cpu_throttled_periods", place, "cpu.stat", lambda text: parse.keyed(text)["nr_throttled"])
    facts.add(
        "cpu_throttled_seconds", place, "cpu.stat", lambda text: parse.keyed(text)["throttled_time"] / 1e9
    )


def _cpuacct_v1(facts: _Facts, place: Place) -> None:
    facts.add("cpu_usage_seconds", place, "cpuacct.usage", lambda text: parse.integer(text.strip()) / 1e9)


def _pids(facts: _Facts, place: Place) -> None:
    facts.add("pids_limit", place, "pids.max", parse.number)
    facts.add("pids_current", place, "pids.current", parse.number)


_READERS: dict[tuple[str, int], Callable[[_Facts, Place], None]] = {
    ("memory", 1): _memory_v1,
    ("memory", 2): _memory_v2,
    ("cpu", 1): _cpu_v1,
    ("cpu", 2): _cpu_v2,
    ("cpuacct", 1): _cpuacct_v1,
    ("pids", 1): _pids,
    ("pids", 2): _pids,
}


def _pressure(facts: _Facts, places: dict[str, Place]) -> None:
    """PSI is a v2 file; v1 has none for a cgroup."""
    unified = next((place for place in places.values() if place.version == 2), None)
    if unified is None:
        facts.reasons["pressure"] = "cgroup v1 has no pressure files"
        return
    found: dict[str, Any] = {}
    for resource in ("cpu", "memory", "io"):
        try:
            lines = parse.pressure(unified.file(f"{resource}.pressure"))
        except KdebugError as error:
            facts.reasons[f"pressure.{resource}"] = error.why or error.what
            continue
        except (ValueError, KeyError) as error:
            facts.reasons[f"pressure.{resource}"] = f"not understood: {error}"
            continue
        found |= {f"{resource}.{kind}": value for kind, value in lines.items()}
    facts.fields["pressure"] = found


def own_cpu_quota_cores(proc: str = "/proc") -> Optional[float]:
    """The CPU limit of the agent's own cgroup in cores; None where there is none or it cannot be read."""

    def read_host(path: str) -> bytes:
        try:
            return read_small(path)
        except OSError as error:
            raise NotFound(path) from error

    try:
        return cgroup_info(
            os.getpid(), proc=proc, read_target=read_host, read_host=read_host
        ).cpu_limit_cores
    except (KdebugError, OSError):
        return None
