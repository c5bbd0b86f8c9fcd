"""Whose memory rises steadily: a leak is a trend, and one look at a process shows none. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from kdebug.protocol.processes import Process, ProcessPage

MAX_POINTS = 16
"""Of one process; where there are more, every second one goes, so that the trend spans the whole time."""
MIN_POINTS = 6
MIN_SECONDS = 10.0
MIN_BYTES = 512 * 1024
"""In the later half of the time: below, a busy allocator looks the same."""
MIN_ROSES = 2
MIN_ROSE_BYTES = 256 * 1024
MIN_ROSE_SHARE = 0.01
"""Of its memory: what a look over a second or two must see to tell of it."""
FALL = 0.02
"""A process that gave back this share of its memory has begun anew."""


@dataclass(frozen=True)
class Rising:
    """A process whose memory rises, in the earlier half of the time seen as in the later one."""

    pid: int
    name: str
    rss_bytes: int
    bytes_per_second: float
    """Over the later half: what it took as it started is no leak."""
    seconds: float
    """How long it has been seen rising."""


@dataclass(frozen=True)
class Rose:
    """A process whose memory only rose while it was looked at, however short that was."""

    pid: int
    name: str
    rss_bytes: int
    bytes: int
    seconds: float
    """From the first look to the last one."""


@dataclass
class _Trend:
    pid: int
    name: str
    points: list[tuple[float, int]] = field(default_factory=list)

    def see(self, at: float, rss: int) -> None:
        if self.points and rss < self.points[-1][1] * (1 - FALL):
            self.points.clear()
        if self.points and rss <= self.points[-1][1]:
            return
        self.points.append((at, rss))
        if len(self.points) > MAX_POINTS:
            del self.points[1:-1:2]

    def rising(self, now: float) -> Optional[Rising]:
        if len(self.points) < MIN_POINTS:
            return None
        (began, first), (at, last) = self.points[0], self.points[-1]
        middle_at, middle = self.points[len(self.points) // 2]
        pause = max(later[0] - sooner[0] for sooner, later in zip(self.points, self.points[1:]))
        stopped = now - at > max(2 * pause, MIN_SECONDS)
        if stopped or now - began < MIN_SECONDS or last - middle < MIN_BYTES or middle <= first:
            return None
        if at <= middle_at:
            return None  # a clock that stands is no clock
        return Rising(self.pid, self.name, last, (last - middle) / (at - middle_at), now - began)

    def rose(self, now: float) -> Optional[Rose]:
        if len(self.points) < MIN_ROSES + 1:
            return None
        (began, first), (_, last) = self.points[0], self.points[-1]
        if last - first < max(MIN_ROSE_BYTES, MIN_ROSE_SHARE * first):
            return None
        return Rose(self.pid, self.name, last, last - first, now - began)


class Growth:
    """The trends of all processes, from the pages of the process table."""

    def __init__(self) -> None:
        self._trends: dict[tuple[int, int], _Trend] = {}
        self._now = 0.0

    def forget(self) -> None:
        """Other processes from now on."""
        self._trends.clear()

    def apply(self, page: ProcessPage, own_container: Optional[str] = None) -> None:
        """One more look; the processes of `own_container`, which are kdebug's, do not count."""
        self._now = page.taken_at
        if page.full:
            there = {(process.pid, process.start_ticks) for process in page.items}
            self._trends = {key: trend for key, trend in self._trends.items() if key in there}
        for process in page.items:
            if own_container is None or process.container != own_container:
                self._see(process)
        for pid, start_ticks in page.gone:
            self._trends.pop((pid, start_ticks), None)

    def _see(self, process: Process) -> None:
        key = (process.pid, process.start_ticks)
        trend = self._trends.get(key)
        if trend is None:
            trend = self._trends[key] = _Trend(process.pid, process.name)
        trend.see(self._now, process.rss_bytes)

    def rising(self) -> list[Rising]:
        """Fastest first."""
        found = [trend.rising(self._now) for trend in self._trends.values()]
        return sorted((one for one in found if one), key=lambda one: -one.bytes_per_second)

    def rose(self) -> list[Rose]:
        """Who rose at all, most first: for looks that end before `rising` can tell."""
        found = [trend.rose(self._now) for trend in self._trends.values()]
        return sorted((one for one in found if one), key=lambda one: -one.bytes)
