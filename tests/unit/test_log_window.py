"""The window on logs: order, bounds, times, and what a stream that is resumed repeats."""

from __future__ import annotations

import random
import time
from datetime import timezone

import pytest

from kdebug.target.cluster import EventInfo, LogLine
from kdebug.target.log_tail import Tail, nanoseconds
from kdebug.tui.log_window import (
    MAX_LINE_BYTES,
    LogRow,
    LogWindow,
    clock,
    event_row,
    occurrences,
    row_of,
    severities,
)


def stamp(nanosecond: int) -> str:
    return f"2024-05-01T10:00:{nanosecond // 10**9:02d}.{nanosecond % 10**9:09d}Z"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T02:00:00.000000001+02:00", 1),
        ("1970-01-01T00:00:00.1234567899Z", 123_456_789),
        ("yesterday", None),
        ("", None),
        ("2024-13-01T00:00:00Z", None),
        ("9999-99-99T99:99:99Z", None),
    ],
)
def test_times(text: str, expected: int | None) -> None:
    assert nanoseconds(text) == expected


def test_the_clock_of_a_moment() -> None:
    assert clock(1_500_000_000, timezone.utc) == "00:00:01.500"
    assert clock(10**30, timezone.utc).strip() == "-"


def test_rows_stand_by_time_and_lines_of_one_moment_as_they_came() -> None:
    window = LogWindow()
    window.add(LogRow(moment, "app", text) for moment, text in ((2, b"b"), (4, b"d")))
    window.add(LogRow(moment, "side", text) for moment, text in ((1, b"a"), (2, b"c")))
    assert [row.text for row in window.rows] == [b"a", b"b", b"c", b"d"]


def test_bounds_by_lines_and_by_bytes() -> None:
    window = LogWindow(max_lines=3, max_bytes=100)
    window.add(LogRow(n, "app", b"x") for n in range(5))
    assert [row.moment for row in window.rows] == [2, 3, 4] and window.dropped == 2
    window.add([LogRow(9, "app", b"x" * 99)])
    assert [row.moment for row in window.rows] == [4, 9] and window.bytes == 100
    window.add([LogRow(10, "app", b"x" * 500)])
    assert [row.moment for row in window.rows] == [10], "one line stays, however long it is"


def test_events_move_to_their_last_time() -> None:
    def event(at: int, count: int) -> LogRow:
        return event_row(EventInfo(stamp(at), "Warning", "BackOff", "again", count, "kubelet", "app"))

    window = LogWindow()
    window.add(row_of(LogLine("app", stamp(n), b"x"), 0) for n in (1, 3))
    window.replace_events([event(2, 1)])
    window.replace_events([event(4, 2)])
    assert [row.event is not None for row in window.rows] == [False, False, True]
    assert b"(2 times)" in window.rows[-1].text
    assert window.bytes == sum(len(row.text) for row in window.rows)


def test_a_line_without_a_time_belongs_to_the_one_before() -> None:
    assert row_of(LogLine("app", "", b"Traceback"), 17).moment == 17


def test_a_long_line_is_cut_and_says_so() -> None:
    row = row_of(LogLine("app", stamp(1), b"y" * (MAX_LINE_BYTES + 5)), 0)
    assert len(row.text) == MAX_LINE_BYTES and row.cut == 5
    assert row.shown.endswith(f"… ({MAX_LINE_BYTES + 5 - 8192} more bytes)")


def test_words_that_say_how_bad_it_is() -> None:
    def words(text: str) -> list[tuple[str, str]]:
        return [(text[start:end], style) for start, end, style in severities(text)]

    assert words('ts=1 level=error msg="x"') == [("error", "bad")]
    assert words("WARN slow; ERROR bad; debug") == [("WARN", "warn"), ("ERROR", "bad"), ("debug", "dim")]
    assert words("errors terror warned errorless") == []


def test_occurrences_whatever_the_case() -> None:
    assert occurrences("aXax", "x") == [(1, 2), (3, 4)]
    text = "İİ needle"  # its lower case is longer than it is
    assert [text[start:end] for start, end in occurrences(text, "needle")] == ["needle"]
    assert occurrences("text", "") == []


def test_resuming_at_any_line_neither_doubles_nor_loses() -> None:
    seed = time.time_ns()
    print("seed", seed)
    chance = random.Random(seed)
    log, moment = [], 0
    for _ in range(300):
        moment += chance.choice((0, 0, 1, 400_000_000))
        log.append(LogLine("app", stamp(moment), chance.choice((b"same", b"same", b"other"))))
    tail, at = Tail(), 0
    read: list[LogLine] = []
    while at < len(log):
        # As a server does: what was written in that second or later.
        since = (nanoseconds(tail.resume()) or 0) // 10**9
        start = (
            0
            if not read
            else next(i for i, line in enumerate(log) if (nanoseconds(line.at) or 0) // 10**9 >= since)
        )
        at = min(len(log), max(at, start) + chance.randrange(1, 20))
        read += [line for line in log[start:at] if tail.new(line)]
    assert [id(line) for line in read] == [id(line) for line in log]
