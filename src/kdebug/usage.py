"""What a container used over the last minutes, from samples of its cgroup: rates, shares, series. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Optional

from kdebug.protocol.system import CgroupInfo

MAX_SAMPLES = 300
"""Ten minutes, one each two seconds."""
BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Sample:
    at: float
    """Seconds of a clock that only goes forward."""
    group: CgroupInfo


class Usage:
    """A bounded ring of samples, oldest first."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=MAX_SAMPLES)

    def add(self, sample: Sample) -> None:
        self._samples.append(sample)

    def forget(self) -> None:
        """Another container from now on: its counters begin anew."""
        self._samples.clear()

    @property
    def last(self) -> Optional[CgroupInfo]:
        return self._samples[-1].group if self._samples else None

    @property
    def seconds(self) -> float:
        """The time that the samples span."""
        return self._samples[-1].at - self._samples[0].at if self._samples else 0.0

    def memory(self) -> list[float]:
        """Bytes of the working set (of all usage where that is not known), one a sample."""
        found = (memory_bytes(sample.group) for sample in self._samples)
        return [float(value) for value in found if value is not None]

    def cores(self) -> list[float]:
        """CPU seconds a second, one for each two samples."""
        return self._rates(lambda group: group.cpu_usage_seconds)

    def throttled(self) -> Optional[float]:
        """Share of the periods of the last half minute in which the quota was used up; None: not known."""
        recent = [sample for sample in self._samples if self._samples[-1].at - sample.at <= 30.0]
        if len(recent) < 2:
            return None
        first, last = recent[0].group, recent[-1].group
        periods = _grown(first.cpu_periods, last.cpu_periods)
        throttled = _grown(first.cpu_throttled_periods, last.cpu_throttled_periods)
        if periods is None or throttled is None:
            return None
        return min(1.0, throttled / periods) if periods else 0.0

    def _rates(self, read: Callable[[CgroupInfo], Optional[float]]) -> list[float]:
        samples, found = list(self._samples), []
        for before, after in zip(samples, samples[1:]):
            grown = _grown(read(before.group), read(after.group))
            if grown is not None and after.at > before.at:
                found.append(grown / (after.at - before.at))
        return found


def memory_bytes(group: CgroupInfo) -> Optional[int]:
    """What the kubelet compares with the limit, as far as it is known."""
    known = group.memory_working_set_bytes
    return group.memory_usage_bytes if known is None else known


def _grown(before: Optional[float], after: Optional[float]) -> Optional[float]:
    """None where it is not known, or where the counter began anew."""
    if before is None or after is None or after < before:
        return None
    return after - before


def sparkline(values: Sequence[float], width: int, top: Optional[float] = None) -> str:
    """The last values as bars, `width` of them at most; `top` is a full bar, else the largest value."""
    shown = values[-width:] if width > 0 else ()
    full = max([*shown, top or 0.0], default=0.0)
    if full <= 0:
        return BARS[0] * len(shown)
    steps = len(BARS) - 1
    return "".join(BARS[min(steps, max(0, round(value / full * steps)))] for value in shown)
