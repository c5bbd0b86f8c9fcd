"""The time slider of a bundle. Its stops are the samples of the process table, or of whatever else was
asked most often; what was taken around a stop counts as taken then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

from kdebug.capture.offline import OfflineBackend
from kdebug.protocol.requests import ListProcesses, Request

R = TypeVar("R")


class BundleTimeline:
    """`Timeline` over an `OfflineBackend`; begins at its end."""

    def __init__(self, backend: OfflineBackend) -> None:
        self._backend = backend
        table = backend.times_of(ListProcesses())
        stops = table if len(table) > 1 else backend.longest_series()
        self.stops: Sequence[float] = stops if len(stops) > 1 else []
        self._bounds = [(sooner + later) / 2 for sooner, later in pairwise(self.stops)]
        self.index = max(0, len(self.stops) - 1)

    @property
    def now(self) -> float:
        return self.stops[self.index] if self.stops else max(self._backend.times, default=0.0)

    def go(self, index: int) -> None:
        self.index = max(0, min(index, len(self.stops) - 1))
        self._backend.moment = self._bounds[self.index] if self.index < len(self._bounds) else None
        self._backend.answered.clear()

    def apart(self) -> Mapping[str, float]:
        if not self.stops:
            return {}
        sooner = self._bounds[self.index - 1] if self.index else float("-inf")
        later = self._bounds[self.index] if self.index < len(self._bounds) else float("inf")
        told = self._backend.answered
        return {name: at for name, at in told.items() if not sooner <= at <= later}

    def series(self, request: Request[R], most: int) -> list[tuple[float, R]]:
        return self._backend.series(request, most)
