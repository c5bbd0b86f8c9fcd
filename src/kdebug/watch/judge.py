"""Whether a condition holds, and for how long it has: a spike is not a trend. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Optional

from kdebug.units import UNKNOWN, size
from kdebug.watch.condition import (
    BYTES,
    COMPARISONS,
    CORES,
    Condition,
    LogMatch,
    NotReady,
    Number,
    Restart,
    Test,
)
from kdebug.watch.reading import Reading

LONGEST_GAP = 10.0
"""Seconds between two looks over which a condition counts as held; longer, nobody knows."""
GAP_LOOKS = 3
"""Or so many times the usual time between two."""
MAX_POINTS = 4000
"""Of growth: a look each second for an hour. Where there are more, every second one goes."""


@dataclass(frozen=True)
class Verdict:
    holds: bool
    """Now."""
    seconds: float = 0.0
    """For which it has."""
    met: bool = False
    """For as long as it must."""
    unknown: str = ""
    """Why it cannot be told; it then does not hold."""
    words: str = ""
    """The values that it was judged by."""


class Judge:
    """One condition over time."""

    def __init__(self, condition: Condition, every: float) -> None:
        self.condition = condition
        self._gap = max(LONGEST_GAP, GAP_LOOKS * every)
        self._since: Optional[float] = None
        self._last: Optional[Reading] = None
        self._growth = {test: _Growth(condition.growth_seconds) for test in condition.numbers if test.grows}

    def forget(self) -> None:
        """It must hold anew for as long as it says: after a capture."""
        self._since = None
        for growth in self._growth.values():
            growth.points.clear()

    def see(self, reading: Reading) -> Verdict:
        last, self._last = self._last, reading
        if last is not None and (reading.instance != last.instance or reading.at - last.at > self._gap):
            self.forget()
        found = [self._test(test, reading) for test in self.condition.tests]
        words = ", ".join(one.words for one in found if one.words)
        unknown = next((one.unknown for one in found if one.unknown), "")
        if not all(one.holds for one in found):
            self._since = None
            return Verdict(False, unknown=unknown, words=words)
        self._since = reading.at if self._since is None else self._since
        held = reading.at - self._since
        # Growth was measured over that time already.
        wanted = 0.0 if self._growth and len(self._growth) == len(found) else self.condition.seconds
        return Verdict(True, held, held >= wanted, words=words)

    def _test(self, test: Test, reading: Reading) -> Verdict:
        if isinstance(test, Number):
            return self._grown(test, reading) if test.grows else _compared(test, reading)
        if isinstance(test, LogMatch):
            line = reading.lines.get(test.pattern, "")
            return Verdict(test.pattern in reading.lines, words=f"log: {line}" if line else "")
        if isinstance(test, Restart):
            return Verdict(bool(reading.restarted), words=reading.restarted)
        assert isinstance(test, NotReady)
        unknown = "" if reading.ready is not None else "the kubelet says nothing of it"
        return Verdict(reading.ready is False, unknown=unknown, words="" if reading.ready else "not ready")

    def _grown(self, test: Number, reading: Reading) -> Verdict:
        value = reading.values.get(test.quantity)
        if value is None:
            return Verdict(False, unknown=reading.reasons.get(test.quantity, "it is not known yet"))
        grown = self._growth[test].see(reading.at, value)
        if grown is None:
            return Verdict(False, words=f"{test.quantity} {told(test.kind, value)}")
        by, seconds = grown
        amount = by / seconds * test.per_seconds if test.per_seconds else by
        words = f"{test.quantity} grew by {told(test.kind, by)} in {seconds:.0f} s"
        return Verdict(COMPARISONS[test.comparison](amount, test.value), words=words)


class _Growth:
    """The values of the last while, to see how much they grew over all of it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.points: deque[tuple[float, float]] = deque()

    def see(self, at: float, value: float) -> Optional[tuple[float, float]]:
        """(growth, seconds); None until the time is full."""
        self.points.append((at, value))
        while len(self.points) > 2 and at - self.points[1][0] >= self._seconds:
            self.points.popleft()
        if len(self.points) > MAX_POINTS:
            self.points = deque(list(self.points)[::2])
        began, before = self.points[0]
        return (value - before, at - began) if at - began >= self._seconds else None


def _compared(test: Number, reading: Reading) -> Verdict:
    value = reading.values.get(test.quantity)
    if value is None:
        return Verdict(False, unknown=reading.reasons.get(test.quantity, "it is not known yet"))
    compare = COMPARISONS[test.comparison]
    words = f"{test.quantity} {told(test.kind, value)}"
    if not test.of_limit:
        return Verdict(compare(value, test.value), words=words)
    limit = reading.limits.get(test.quantity)
    if not limit:
        why = reading.reasons.get(f"{test.quantity} of limit", "there is no limit")
        return Verdict(False, unknown=f"the limit of {test.quantity}: {why}", words=words)
    share = f"{value / limit:.0%} of {told(test.kind, limit)}"
    return Verdict(compare(value / limit, test.value), words=f"{words} ({share})")


def told(kind: str, value: Optional[float]) -> str:
    """A quantity for people."""
    if value is None:
        return UNKNOWN
    if kind == BYTES:
        return size(value)
    return f"{value:.2f}" if kind == CORES else f"{value:.0f}"
