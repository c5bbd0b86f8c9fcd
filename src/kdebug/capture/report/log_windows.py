"""The lines around the moments that matter, out of logs of any length: read once, a few lines are kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from kdebug.target.cluster import LogLine, Story
from kdebug.units import unix_time

WITHIN_SECONDS = 30.0
"""Of a moment: what is further away is told by the whole log."""
BEFORE, AFTER = 15, 10
"""Lines of each window; what led to it is worth more."""
LAST_LINES = 40
MAX_WINDOWS = 8
TOGETHER_SECONDS = 10.0
"""Moments so near to each other have one window."""


@dataclass
class Window:
    """One moment, with the lines around it."""

    began: float
    """Unix time of the first thing that happened in it; `ended` of the last."""
    ended: float
    happened: list[tuple[float, str]]
    """(Unix time, what), earliest first."""
    before: deque[LogLine] = field(default_factory=lambda: deque(maxlen=BEFORE))
    after: list[LogLine] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Stamps of logs compare as text, which is ten times as quick as their times.
        self.first, self.middle = stamp(self.began - WITHIN_SECONDS), stamp(self.began)
        self.last = stamp(self.ended + WITHIN_SECONDS)

    def see(self, line: LogLine) -> None:
        if not self.first <= line.at < self.last:
            return
        if line.at < self.middle:
            self.before.append(line)
        elif len(self.after) < AFTER:
            self.after.append(line)

    @property
    def lines(self) -> list[LogLine]:
        return [*self.before, *self.after]


def stamp(at: float) -> str:
    """As the kubelet writes times, up to the milliseconds; 0 for what no calendar has."""
    try:
        moment = datetime.fromtimestamp(0, timezone.utc) + timedelta(seconds=at)
    except OverflowError:
        return "0"
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}"


def windows(story: Story) -> list[Window]:
    """Around what Kubernetes told of the pod, the latest; earliest first."""
    moments = [
        (at, f"{event.about}: {event.reason}" + (f": {event.message}" if event.message else ""))
        for event in story.events
        if event.kind != "Normal" and (at := unix_time(event.at)) is not None
    ]
    for one in story.facts["containers"]:
        for at, what in (
            (unix_time(one["started_at"]), f"{one['name']} started"),
            (unix_time(one["last_termination_at"]), f"{one['name']} ended: {one['last_termination']}"),
        ):
            moments += [(at, what)] if at is not None else []
    found: list[Window] = []
    for at, what in sorted(set(moments)):
        if found and at - found[-1].ended <= TOGETHER_SECONDS:
            found[-1] = Window(found[-1].began, at, [*found[-1].happened, (at, what)])
        else:
            found.append(Window(at, at, [(at, what)]))
    return found[-MAX_WINDOWS:]


class Logs:
    """Takes lines in the order of their times; gives windows, and the last lines."""

    def __init__(self, around: Sequence[Window]) -> None:
        self.around = around
        self.last: deque[LogLine] = deque(maxlen=LAST_LINES)
        self.count = 0

    def see(self, line: LogLine) -> None:
        self.count += 1
        self.last.append(line)
        for window in self.around:
            window.see(line)
