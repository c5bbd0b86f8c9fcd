"""How much of the pod's CPU the agent takes, so that looking costs the pod almost nothing.

Promise 1: refreshing uses at most 2% of the CPU that the pod may use. Work that a person asked for once
(a search, a digest, a copy) is not stretched where the pod has no limit, for it runs at low priority. Where
there is one, nice(2) helps nobody: what the agent uses is missing to the target until the period ends. So
heavy work then rests between its steps, the more the more the target is throttled.
"""

from __future__ import annotations

import os
import time

from kdebug import threads
from kdebug.annotations import Callable, Optional

SHARE = 0.02
SHORTEST_SECONDS = 1.0
"""Nobody reads faster."""
LONGEST_SECONDS = 30.0
"""Half of the silence that counts as a lost connection."""
HEAVY_SHARE = 0.5
"""Of the pod's CPU for heavy work, as long as the target is not throttled."""
BURST_SECONDS = 0.2
"""CPU time that heavy work may have at once: a directory or a page of a file is not worth a rest."""
MAX_REST_SECONDS = 10.0
"""A third of a request's usual deadline."""
LOOK_SECONDS = 2.0
"""Between two looks at whether the target is throttled."""


def refresh_interval(cost_seconds: float, quota_cores: Optional[float]) -> float:
    """Seconds until the next pass when one pass costs `cost_seconds` of CPU time."""
    cores = quota_cores or float(os.cpu_count() or 1)
    return min(LONGEST_SECONDS, max(SHORTEST_SECONDS, cost_seconds / (SHARE * cores)))


class Pace:
    """The rests of heavy work: a bucket of CPU time, filled at a share of what the pod may use.

    The share falls to a fifth with each look that finds the target throttled since the last (cpu.stat,
    Documentation/admin-guide/cgroup-v2.rst), at worst to `SHARE`, and doubles with each that does not.
    Thread-safe: the heavy threads share it.
    """

    def __init__(
        self,
        cores: Callable[[], Optional[float]],
        throttled: Callable[[], Optional[int]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`throttled` counts the periods in which the target was; None where that cannot be read."""
        self._cores, self._throttled, self._clock = cores, throttled, clock
        self._lock = threads.Lock()
        self._share = HEAVY_SHARE
        self._credit = BURST_SECONDS
        self._at = clock()
        self._looked = self._at - LOOK_SECONDS
        self._periods: Optional[int] = None

    def rest_seconds(self, used_seconds: float) -> float:
        """How long to rest after `used_seconds` of CPU time."""
        cores = self._cores()
        if cores is None:
            return 0.0
        with self._lock:
            now = self._clock()
            self._look(now)
            rate = self._share * cores
            self._credit = min(BURST_SECONDS, self._credit + (now - self._at) * rate) - used_seconds
            self._at = now
            return min(MAX_REST_SECONDS, max(0.0, -self._credit / rate))

    def _look(self, now: float) -> None:
        if now - self._looked < LOOK_SECONDS:
            return
        before, self._periods, self._looked = self._periods, self._throttled(), now
        if before is None or self._periods is None:
            return
        if self._periods > before:
            self._share = max(SHARE, self._share / 5)
        else:
            self._share = min(HEAVY_SHARE, self._share * 2)
