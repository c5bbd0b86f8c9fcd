"""One look at the target as numbers: what conditions are judged by, and rows of the black box. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from kdebug.protocol.processes import Process
from kdebug.protocol.system import CgroupInfo
from kdebug.units import rfc3339
from kdebug.usage import memory_bytes


@dataclass
class Reading:
    """What is not known is not in `values`, and `reasons` says why."""

    at: float
    """Seconds of a clock that only goes forward."""
    clock: float
    """Unix time."""
    instance: int = 0
    """Which instance of the target this is of: counts what was attached to."""
    values: dict[str, float] = field(default_factory=dict)
    """Quantity -> bytes, cores or count."""
    limits: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    restarted: str = ""
    """Why the instance before ended, when the container was started anew since the last look."""
    ready: Optional[bool] = None
    """None: not known."""
    lines: dict[str, str] = field(default_factory=dict)
    """Pattern -> the last line of a log that matched it since the last look."""

    def document(self) -> dict[str, Any]:
        """A row of the black box."""
        row: dict[str, Any] = {"at": rfc3339(self.clock)}
        row |= {name: round(value, 4) for name, value in self.values.items()}
        row |= {"restarted": self.restarted} if self.restarted else {}
        row |= {"ready": self.ready} if self.ready is not None else {}
        return row | ({"lines": self.lines} if self.lines else {})


class Meter:
    """From answers to numbers; CPU is a rate and wants the look before."""

    def __init__(self) -> None:
        self._used: dict[tuple[int, int], float] = {}
        self._group_used: Optional[float] = None
        self._at = 0.0

    def read(self, reading: Reading, processes: list[Process], group: CgroupInfo) -> None:
        """`processes` are those of the target's container; the cgroup counts for what has one."""
        contained = bool(processes) and processes[0].container is not None
        reading.values["rss"] = float(sum(p.rss_bytes for p in processes))
        reading.values["threads"] = float(sum(p.threads for p in processes))
        reading.values["processes"] = float(len(processes))
        self._fds(reading, processes)
        memory = memory_bytes(group) if contained else None
        reading.values["memory"] = reading.values["rss"] if memory is None else float(memory)
        cores = self._cores(reading.at, processes, group.cpu_usage_seconds if contained else None)
        if cores is not None:
            reading.values["cpu"] = cores
        self._limits(reading, group)

    def _fds(self, reading: Reading, processes: list[Process]) -> None:
        """Of the process that has most: the limit is one of each process, too."""
        known = [p.fds for p in processes if p.fds is not None]
        if known:
            reading.values["fds"] = float(max(known))
        else:
            why = next((p.reasons["fds"] for p in processes if "fds" in p.reasons), "")
            reading.reasons["fds"] = why or "the descriptors may not be counted"

    def _cores(self, at: float, processes: list[Process], used: Optional[float]) -> Optional[float]:
        before, group_before, passed = self._used, self._group_used, at - self._at
        self._used = {(p.pid, p.start_ticks): p.cpu_seconds for p in processes}
        self._group_used, self._at = used, at
        if not before or passed <= 0:
            return None
        if used is not None and group_before is not None and used >= group_before:
            return (used - group_before) / passed
        # A process that is new since the last look has used all of it since then.
        grown = sum(cpu - before.get(key, 0.0) for key, cpu in self._used.items())
        return max(0.0, grown) / passed

    def _limits(self, reading: Reading, group: CgroupInfo) -> None:
        limits = {
            "rss": group.memory_limit_bytes, "memory": group.memory_limit_bytes,
            "cpu": group.cpu_limit_cores, "threads": group.pids_limit, "processes": group.pids_limit,
        }  # fmt: skip
        sources = {"cpu": "cpu_limit_cores", "threads": "pids_limit", "processes": "pids_limit"}
        for name, limit in limits.items():
            if limit is not None:
                reading.limits[name] = float(limit)
            else:
                why = group.reasons.get(sources.get(name, "memory_limit_bytes"), "")
                reading.reasons.setdefault(f"{name} of limit", why or "its cgroup sets no limit")
