"""The samples of a bundle as a line: where on it one is, and what is shown though it was not taken then."""

from __future__ import annotations

from rich.text import Text
from textual.widget import Widget

from kdebug.target.timeline import Timeline
from kdebug.tui.session import Session
from kdebug.tui.text import plain
from kdebug.units import rfc3339

LOOK_SECONDS = 0.5
"""How often it is looked whether something else was asked meanwhile."""
TRACK = 24
"""Cells of the line at most."""


def clock(seconds: float) -> str:
    """22:42:04.512"""
    stamp = rfc3339(seconds)
    return stamp[11:-1] if stamp else "?"


def place(timeline: Timeline) -> str:
    """For the header: the time, and which sample that is."""
    return f"{clock(timeline.now)} UTC ({timeline.index + 1}/{len(timeline.stops)})"


def track(timeline: Timeline) -> str:
    """───●──── , by the number of the sample: a burst of samples among rare ones stays a row of stops."""
    last = len(timeline.stops) - 1
    width = min(TRACK, last + 1)
    at = round(timeline.index * (width - 1) / last)
    return "─" * at + "●" + "─" * (width - 1 - at)


def told(timeline: Timeline) -> str:
    apart = sorted(timeline.apart().items())
    if not apart:
        return "all that is shown was taken then"
    return "not taken then: " + ", ".join(f"{name} (of {clock(at)})" for name, at in apart)


class TimeBar(Widget):
    """Shown where there are samples to move between."""

    DEFAULT_CSS = """
    TimeBar { height: 1; background: $surface; color: $accent; display: none; padding: 0 1;
        text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._shown = ""

    def on_mount(self) -> None:
        self.set_interval(LOOK_SECONDS, self.update_time)

    def update_time(self) -> None:
        timeline = self.session.timeline
        there = timeline is not None and bool(timeline.stops)
        if there != self.display:
            self.display = there
        line = self._line(timeline) if timeline is not None and there else ""
        if line != self._shown:
            self._shown = line
            self.refresh()

    def _line(self, timeline: Timeline) -> str:
        return f"{{ {track(timeline)} }}  {told(timeline)}"

    def render(self) -> Text:
        return plain(self._shown)
