"""A bounded window on log lines of several containers and on events, in the order of their times. Pure.

Of a log of a gibibyte never more is kept than the window; what had to go is counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from itertools import pairwise
from typing import Optional

from kdebug.sanitise import one_line
from kdebug.target.cluster import EventInfo, LogLine
from kdebug.target.log_tail import nanoseconds
from kdebug.tui.theme import BAD, DIM, WARN

MAX_LINES = 20_000
MAX_BYTES = 16 * 1024 * 1024
MAX_LINE_BYTES = 64 * 1024
"""Of one line; what is longer is cut, and says so."""
MAX_SHOWN = 8192
"""Characters of one line that are looked at on the screen."""
TAB = "    "
EVENT_MARK = "◆"

_COLOUR = re.compile(r"\x1b\[[0-9;:]{0,32}m")
"""SGR: what programs colour their output with. It carries no text, so nothing is hidden by leaving it out;
every other escape sequence is shown as what it is."""
_SEVERE = re.compile(
    r"\b(?:(?P<bad>fatal|panic|critical|error|severe|emerg|alert|crit)|(?P<warn>warning|warn)"
    r"|(?P<dim>debug|trace))\b",
    re.IGNORECASE,
)
_STYLES = {"bad": BAD, "warn": WARN, "dim": DIM}
Span = tuple[int, int, str]
"""(from, to, name of a style)."""


@dataclass(eq=False)
class LogRow:
    """One line of the window."""

    moment: int
    """Nanoseconds since the epoch; of a line without a time, that of the one before it."""
    container: str
    text: bytes
    """As it was written, up to `MAX_LINE_BYTES`."""
    at: str = ""
    """The time in the server's words; "" where it gave none."""
    event: Optional[EventInfo] = None
    cut: int = 0
    """Bytes that are missing at the end."""
    height: tuple[int, int] = (0, 1)
    """(cells of a line, lines that it takes when wrapped to these), kept by the view."""

    @cached_property
    def is_plain(self) -> bool:
        """Shown as it was written, each byte in a cell: nearly every line of most logs."""
        text = self.text
        return not self.cut and len(text) <= MAX_SHOWN and text.isascii() and text.decode().isprintable()

    @property
    def shown(self) -> str:
        """The text as a screen may show it, in one line."""
        if self.is_plain:
            return self.text.decode("ascii")
        text = self.text[: 4 * MAX_SHOWN].decode("utf-8", "surrogateescape")[:MAX_SHOWN]
        missing = self.cut + len(self.text) - len(text.encode("utf-8", "surrogateescape"))
        safe = one_line(_COLOUR.sub("", text).replace("\t", TAB))
        return safe + (f"… ({missing} more bytes)" if missing else "")


def row_of(line: LogLine, before: int) -> LogRow:
    """`before`: the moment of the line before it, for one that has no time of its own."""
    moment = nanoseconds(line.at)
    kept = line.text[:MAX_LINE_BYTES]
    return LogRow(
        before if moment is None else moment, line.container, kept, line.at, cut=len(line.text) - len(kept)
    )


def event_row(event: EventInfo) -> LogRow:
    """An event as a line: what it is about, why, how often."""
    times = f" ({event.count} times)" if event.count > 1 else ""
    text = f"{EVENT_MARK} {event.kind} {event.reason}{times}: {event.message}"
    return LogRow(nanoseconds(event.at) or 0, event.about, text.encode("utf-8", "replace"), event.at, event)


def clock(moment: int, zone: Optional[timezone]) -> str:
    """HH:MM:SS.mmm in UTC, or in the zone of this machine where `zone` is None."""
    seconds, rest = divmod(moment, 1_000_000_000)
    try:
        shown = datetime.fromtimestamp(seconds, zone)
    except (ValueError, OverflowError, OSError):
        return "-".ljust(12)
    return f"{shown:%H:%M:%S}.{rest // 1_000_000:03d}"


def severities(text: str) -> list[Span]:
    """The words in a line that say how bad it is."""
    return [
        (match.start(), match.end(), _STYLES[match.lastgroup or "dim"]) for match in _SEVERE.finditer(text)
    ]


def occurrences(text: str, needle: str) -> list[tuple[int, int]]:
    """Where `needle` (casefolded) stands, whatever the case."""
    found, lowered, start = [], text.lower(), 0
    if len(lowered) != len(text):  # of a few characters the small one is longer
        lowered = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    while needle and (at := lowered.find(needle, start)) >= 0:
        found.append((at, at + len(needle)))
        start = at + len(needle)
    return found


class LogWindow:
    """Rows by time, oldest first; the oldest go when there are too many."""

    def __init__(self, max_lines: int = MAX_LINES, max_bytes: int = MAX_BYTES) -> None:
        self.rows: list[LogRow] = []
        self.bytes = 0
        self.dropped = 0
        """Lines that had to go since the window was opened."""
        self._max_lines, self._max_bytes = max_lines, max_bytes

    @property
    def full(self) -> bool:
        return len(self.rows) >= self._max_lines or self.bytes >= self._max_bytes

    def clear(self) -> None:
        self.rows, self.bytes, self.dropped = [], 0, 0

    def add(self, rows: Iterable[LogRow]) -> None:
        """Each behind all that is not younger: lines of one moment stay in the order in which they came."""
        before = len(self.rows)
        self.rows += rows
        new = self.rows[before:]
        self.bytes += sum(len(row.text) for row in new)
        if any(sooner.moment > later.moment for sooner, later in pairwise(self.rows[max(0, before - 1) :])):
            self.rows.sort(key=_moment)  # stable, and fast on what is nearly in order
        self._trim()

    def replace_events(self, events: Iterable[LogRow]) -> None:
        """The events as they are now: one that came again moves to its last time."""
        self.rows = [row for row in self.rows if row.event is None]
        self.bytes = sum(len(row.text) for row in self.rows)
        oldest = self.rows[0].moment if self.dropped and self.rows else None
        self.add(row for row in events if oldest is None or row.moment >= oldest)

    def _trim(self) -> None:
        gone = max(0, len(self.rows) - self._max_lines)
        left = self.bytes - sum(len(row.text) for row in self.rows[:gone])
        while left > self._max_bytes and gone < len(self.rows) - 1:
            left -= len(self.rows[gone].text)
            gone += 1
        if gone:
            self.dropped += gone
            self.bytes = left
            del self.rows[:gone]


def _moment(row: LogRow) -> int:
    return row.moment
