"""find: GNU's tests, in GNU's spelling or with two dashes, answered by the agent row by row."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import click

from kdebug.cli.console import Document, emit, note, write_bytes
from kdebug.cli.files import HEADERS, entry_document, file_verb, long_row
from kdebug.cli.meter import Meter
from kdebug.cli.table import exact, table
from kdebug.cli.verb import Common
from kdebug.errors import UsageError
from kdebug.probe.users import parse_passwd
from kdebug.protocol.requests import MAX_PAGE
from kdebug.protocol.search import MAX_DEPTH, Find, Found
from kdebug.sanitise import one_line
from kdebug.target import Target
from kdebug.target.search import search_pages
from kdebug.target.target import MAX_ROWS

TYPES = {"f": "file", "d": "dir", "l": "symlink", "p": "fifo", "s": "socket", "c": "char", "b": "block"}
UNITS = {"c": 1, "w": 2, "b": 512, "k": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
DAY, MINUTE = 86400.0, 60.0
Bounds = tuple[Any, Any]


def size_bounds(text: str) -> tuple[int | None, int | None]:
    """Least and most bytes for find's -size: sizes are rounded up to the unit before they are compared."""
    match = re.fullmatch(r"([+-]?)(\d{1,15})([cwbkMGT]?)", text)
    if not match:
        raise UsageError(
            f"the size {text!r} is not understood", next_step="write [+-]N with c, k, M or G: +10M"
        )
    sign, number, unit = match[1], int(match[2]), UNITS[match[3] or "b"]
    if sign == "+":
        return number * unit + 1, None
    if sign == "-":
        return None, (number - 1) * unit
    return (number - 1) * unit + 1 if number else 0, number * unit


def age_bounds(text: str, unit: float) -> tuple[float | None, float | None]:
    """Least age, and the age below which a file must be, for -mtime (days) and -mmin (minutes).

    Ages in days are cut to whole ones, ages in minutes rounded up, as GNU find does.
    """
    match = re.fullmatch(r"([+-]?)(\d{1,9}(?:\.\d+)?)", text)
    if not match:
        raise UsageError(f"the age {text!r} is not understood", next_step="write [+-]N: -mtime +7")
    sign, number = match[1], float(match[2])
    if sign == "+":
        return (number + 1) * unit if unit == DAY else number * unit, None
    if sign == "-":
        return None, number * unit
    return (number * unit, (number + 1) * unit) if unit == DAY else ((number - 1) * unit, number * unit)


def kinds(text: str) -> tuple[str, ...]:
    """f,d,l ... as kinds."""
    wanted = text.split(",") if text else []
    unknown = [letter for letter in wanted if letter not in TYPES]
    if unknown:
        raise UsageError(f"there is no type {unknown[0]!r}", next_step=f"there are: {', '.join(TYPES)}")
    return tuple(TYPES[letter] for letter in wanted)


async def owner_id(target: Target, name: str, file: str) -> int | None:
    """A number, or a name of the target's own passwd or group file."""
    if not name:
        return None
    if name.isdigit():
        return int(name)
    known = parse_passwd((await target.read(file)).data)
    found = [number for number, known_name in known.items() if known_name == name]
    if not found:
        raise UsageError(f"{file} in the target does not know {name!r}", next_step="give the number")
    return found[0]


def _intersection(one: Bounds, other: Bounds) -> Bounds:
    low = [bound for bound in (one[0], other[0]) if bound is not None]
    high = [bound for bound in (one[1], other[1]) if bound is not None]
    return max(low, default=None), min(high, default=None)


@dataclass
class Answers:
    """What came of a search: rows where a document is wanted, and what could not be looked at."""

    rows: list[Found] = field(default_factory=list)
    failed: int = 0
    truncated: bool = False


async def collect(
    target: Target, request: Find, each: Any, answers: Answers, limit: int | None = None
) -> None:
    """Hand every row to `each` as it comes; rows with an error are counted and told on stderr."""
    meter, count = Meter(), 0
    try:
        async for page in search_pages(target, request, meter.tell):
            meter.clear()
            good = []
            for row in page.items:
                if row.entry.error:
                    answers.failed += 1
                    note(f"{row.path}: {row.entry.error}")
                good.append(row)
            if limit is not None and count + len(good) > limit:
                each(good[: limit - count])
                answers.truncated = True
                return
            count += len(good)
            each(good)
    finally:
        meter.clear()


DEPTH = click.IntRange(0, MAX_DEPTH)
OPTIONS = (
    click.option("-name", "--name", "names", multiple=True, metavar="GLOB", help="last part of the path"),
    click.option("-iname", "--iname", "inames", multiple=True, metavar="GLOB", help="the same, any case"),
    click.option("-type", "--type", "types", default="", metavar="f,d,l,p,s,c,b", help="kinds"),
    click.option("-size", "--size", "sizes", multiple=True, metavar="[+-]N[ckMG]", help="size, rounded up"),
    click.option("-mtime", "--mtime", "mtimes", multiple=True, metavar="[+-]DAYS", help="age in days"),
    click.option("-mmin", "--mmin", "mmins", multiple=True, metavar="[+-]MINUTES", help="age in minutes"),
    click.option("-newer", "--newer-than", "newer", default="", metavar="PATH", help="than this path is"),
    click.option("-user", "--user", "--uid", "-uid", "user", default="", help="owner: name or number"),
    click.option("-group", "--group", "--gid", "-gid", "group", default="", help="group: name or number"),
    click.option("-maxdepth", "--max-depth", "--maxdepth", "max_depth", type=DEPTH, default=MAX_DEPTH),
    click.option("-mindepth", "--min-depth", "--mindepth", "min_depth", type=DEPTH, default=0),
    click.option("-xdev", "--xdev", "-mount", "xdev", is_flag=True, help="stay on one file system"),
    click.option("-print0", "--print0", "print0", is_flag=True, help="exact names, each ended by NUL"),
    click.option("-L", "follow", is_flag=True, help="follow PATH itself when it is a symlink"),
    click.option("--limit", type=click.IntRange(min=1), help="stop after this many"),
)  # fmt: skip


async def find_request(target: Target, path: str, given: dict[str, Any]) -> Find:
    """The options as one request. Raises `UsageError`."""
    sizes: Bounds = (None, None)
    ages: Bounds = (None, None)
    for text in given["sizes"]:
        sizes = _intersection(sizes, size_bounds(text))
    for unit, texts in ((DAY, given["mtimes"]), (MINUTE, given["mmins"])):
        for text in texts:
            ages = _intersection(ages, age_bounds(text, unit))
    if given["names"] and given["inames"]:
        raise UsageError("-name and -iname cannot be combined")
    newer = await target.stat(given["newer"], follow=True) if given["newer"] else None
    return Find(
        path=path,
        limit=MAX_PAGE,
        follow=given["follow"],
        names=given["names"] or given["inames"],
        ignore_case=bool(given["inames"]),
        kinds=kinds(given["types"]),
        min_bytes=sizes[0],
        max_bytes=sizes[1],
        min_age_seconds=ages[0],
        max_age_seconds=ages[1],
        newer_than_ns=newer.entry.mtime_ns if newer else None,
        uid=await owner_id(target, given["user"], "/etc/passwd"),
        gid=await owner_id(target, given["group"], "/etc/group"),
        max_depth=given["max_depth"],
        min_depth=given["min_depth"],
        one_file_system=given["xdev"],
    )


def found_document(row: Found) -> dict[str, Any]:
    """One row in JSON: its path, and the entry as `ls` has it."""
    document: dict[str, Any] = {}
    exact(document, "path", row.path)
    return document | {"depth": row.depth} | entry_document(row.entry)


def write_paths(paths: Iterable[str], end: bytes = b"") -> None:
    """A path a line, sanitised; or exact, ended by `end`."""
    if end:
        write_bytes(b"".join(path.encode("utf-8", "surrogateescape") + end for path in paths))
    else:
        write_bytes("".join(f"{one_line(path)}\n" for path in paths).encode("utf-8", "backslashreplace"))


@file_verb(
    "find",
    "Search below a path of the target: all tests must hold. Prints a path a line.",
    *OPTIONS,
    formats=("table", "wide", "json", "yaml", "name"),
)
async def find(
    target: Target, path: str, common: Common, print0: bool, limit: int | None, **given: Any
) -> int:
    request, answers = await find_request(target, path, given), Answers()

    def print_each(rows: list[Found]) -> None:
        write_paths((row.path for row in rows if not _only_an_error(row)), b"\0" if print0 else b"")

    gather = common.output not in ("table", "name")
    await collect(
        target, request, answers.rows.extend if gather else print_each, answers, limit or MAX_ROWS
    )
    if answers.truncated:
        note(f"only the first {limit or MAX_ROWS} are shown" + (" (--limit)" if limit else ""))
    if not gather:
        return 1 if answers.failed or (answers.truncated and not limit) else 0
    data: dict[str, Any] = {}
    exact(data, "path", path)
    data |= {"entries": [found_document(row) for row in answers.rows], "truncated": answers.truncated}
    return emit(
        Document(data, lambda wide: _wide(answers.rows), partial=bool(answers.failed)), common.output
    )


def _only_an_error(row: Found) -> bool:
    """The row that says why a directory was not entered follows the directory's own."""
    return bool(row.entry.error) and row.entry.mode is None


def _wide(rows: list[Found]) -> list[str]:
    listed = [[*long_row(row.entry)[:-2], row.path, row.entry.error or ""] for row in rows]
    return table(HEADERS, listed, right="LINKS UID GID SIZE")


COMMANDS: dict[str, click.Command] = {"find": find}
