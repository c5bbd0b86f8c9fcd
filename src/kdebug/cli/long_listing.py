"""Long lines of a listing by columns: a hundred thousand of them in a fraction of what a table takes.

A row is what a line is made of, unformatted, for it to be sorted by. What most entries share (mode, links,
owner) is formatted once for all who share it, and the second of their modification likewise.
"""

from __future__ import annotations

import itertools
import stat
from collections.abc import Callable, Iterable
from typing import Any, Optional

from kdebug.cli.files import HEADERS
from kdebug.cli.table import UNKNOWN, cut_all, rfc3339, size
from kdebug.protocol.files import Entry
from kdebug.protocol.search import EntryTable
from kdebug.sanitise import one_line, one_line_each
from kdebug.target.search import entries_of
from kdebug.units import KIND_BITS, mode_text

Facts = tuple[Optional[int], ...]
"""st_mode (0 where it is not known), links, uid and gid."""
Row = tuple[str, Optional[int], Optional[int], Facts, Optional[Entry]]
"""Name, size, time of modification in nanoseconds, facts; and the entry, where there is more to say."""

SORTS: dict[str, Callable[[Row], Any]] = {
    "name": lambda row: row[0],
    "size": lambda row: (-(row[1] or 0), row[0]),
    "time": lambda row: (-(row[2] or 0), row[0]),
}
DEVICES = (stat.S_IFCHR, stat.S_IFBLK)
NANO = 10**9


def rows_of_page(page: EntryTable) -> Iterable[Row]:
    """The columns side by side; through entries where some of them are symlinks, devices or unknown."""
    if (
        page.targets
        or page.errors
        or any(not mode or mode & 0o170000 in DEVICES for mode in set(page.modes))
    ):
        return rows_of_entries(entries_of(page))
    count = len(page.names)
    sizes, times = (
        column if len(column) == count else column * count for column in (page.sizes, page.mtimes_ns)
    )
    columns = (page.modes, page.links, page.uids, page.gids)
    facts: Iterable[Facts] = zip(
        *(column if len(column) == count else column * count for column in columns)
    )
    if all(len(column) == 1 for column in columns):
        facts = itertools.repeat(tuple(column[0] for column in columns))
    return zip(page.names, sizes, times, facts, itertools.repeat(None))


def rows_of_entries(entries: Iterable[Entry]) -> Iterable[Row]:
    for entry in entries:
        mode = 0 if entry.mode is None else KIND_BITS.get(entry.kind, 0) | entry.mode
        more = entry.link_target is not None or entry.device_number or entry.error or not mode
        facts = (mode, entry.links, entry.uid, entry.gid)
        yield entry.name, entry.size_bytes, entry.mtime_ns, facts, entry if more else None


def ordered_rows(rows: list[Row], sort: str, reverse: bool) -> list[Row]:
    """Largest and newest first, as ls; "none" is the kernel's order."""
    if sort == "none":
        return rows[::-1] if reverse else rows
    return sorted(rows, key=SORTS[sort], reverse=reverse)


def long_lines(rows: list[Row], human: bool) -> list[str]:
    """`HEADERS` and what belongs below them, each as wide as its widest, as `table` writes them."""
    # Once over the rows, which lie about in memory once they are sorted, and from there by columns.
    names, sizes, times, facts, entries = (
        map(list, zip(*rows, strict=True)) if rows else ([], [], [], [], [])
    )
    seconds = [None if time is None else time // NANO for time in times]
    second_texts = _column("MODIFIED", set(seconds), _time_text)
    shared = _shared_texts(set(facts))
    special = [(place, entry) for place, entry in enumerate(entries) if entry is not None]
    sizes, names = _size_texts(sizes, special, human), _name_texts(names, special)
    width = max(len("SIZE"), *map(len, sizes), 0)
    lines = [f"{shared[()]}  {'SIZE':>{width}}  {second_texts['MODIFIED']}  NAME"]
    lines += [
        f"{shared[fact]}  {length:>{width}}  {second_texts[second]}  {name}"
        for fact, length, second, name in zip(facts, sizes, seconds, names, strict=True)
    ]
    _add_errors(lines, special, names)
    return cut_all(line.rstrip() for line in lines)


Special = list[tuple[int, Entry]]
"""Those with more to say, with their places."""


def _size_texts(sizes: list[int | None], special: Special, human: bool) -> list[str]:
    shown_size = size if human else str
    texts = [UNKNOWN if length is None else shown_size(length) for length in sizes]
    for place, entry in special:
        if entry.device_number:
            texts[place] = one_line(entry.device_number)
    return texts


def _name_texts(names: list[str], special: Special) -> list[str]:
    texts = one_line_each(names)
    for place, entry in special:
        if entry.link_target is not None:
            texts[place] = one_line(f"{entry.name} -> {entry.link_target}")
    return texts


def _column(
    header: str, values: Iterable[Any], text: Callable[[Any], str], right: bool = False
) -> dict[Any, str]:
    """Each value, and the header, as it stands in its column."""
    texts = {header: header, **{value: text(value) for value in values}}
    width = max(map(len, texts.values()))
    return {value: f"{cell:>{width}}" if right else f"{cell:<{width}}" for value, cell in texts.items()}


def _shared_texts(seen: set[Facts]) -> dict[Facts, str]:
    """The first four columns; those of the headers under ()."""
    columns = [
        _column(header, {facts[place] for facts in seen}, _number_text if place else _mode_text, place > 0)
        for place, header in enumerate(HEADERS[:4])
    ]
    texts = {facts: "  ".join(map(dict.__getitem__, columns, facts)) for facts in seen}
    return texts | {(): "  ".join(map(dict.__getitem__, columns, HEADERS))}


def _add_errors(lines: list[str], special: Special, names: list[str]) -> None:
    """In a column of their own, behind the longest name; `lines` begins with the header."""
    wrong = [(place, entry.error) for place, entry in special if entry.error]
    width = max(len("NAME"), *map(len, names)) if wrong else 0
    for place, error in wrong:
        lines[place + 1] += " " * (width - len(names[place])) + "  " + one_line(error)


def _mode_text(mode: int) -> str:
    return stat.filemode(mode & 0o177777) if mode else mode_text("unknown", None)


def _number_text(number: int | None) -> str:
    return UNKNOWN if number is None else str(number)


def _time_text(second: int | None) -> str:
    return UNKNOWN if second is None else (rfc3339(second) or UNKNOWN)[:19]
