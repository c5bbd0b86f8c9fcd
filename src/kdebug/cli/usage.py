"""du and df: what takes the space, and how much is left."""

from __future__ import annotations

from typing import Any

import click

from kdebug.cli.console import Document, emit
from kdebug.cli.files import file_verb
from kdebug.cli.meter import Meter
from kdebug.cli.system import mount_document
from kdebug.cli.table import exact, size, table
from kdebug.cli.verb import Common, common_options, one_target, with_target, within
from kdebug.errors import NotFound
from kdebug.protocol.requests import MAX_PAGE
from kdebug.protocol.search import MAX_DEPTH, MAX_TOP, DiskUsage, Usage
from kdebug.protocol.system import Mount
from kdebug.sanitise import one_line
from kdebug.target import Target
from kdebug.target.search import search_pages
from kdebug.target.target import MAX_ROWS

BLOCK = 1024
"""Of du and df, as coreutils counts unless told otherwise."""


@file_verb(
    "du",
    "Sum what the directories below a path take, in KiB; hard links count once.",
    click.option("-s", "--summarize", "total", is_flag=True, help="the path itself only"),
    click.option("-d", "--max-depth", "depth", type=click.IntRange(0, MAX_DEPTH), help="tell so deep only"),
    click.option("-a", "--all", "files", is_flag=True, help="tell files, too"),
    click.option("--top", type=click.IntRange(1, MAX_TOP), help="the largest so many, largest first"),
    click.option("-x", "--one-file-system", "--xdev", "xdev", is_flag=True, help="stay on one file system"),
    click.option("--apparent-size", "apparent", is_flag=True, help="lengths instead of disk space"),
    click.option("-b", "--bytes", "in_bytes", is_flag=True, help="--apparent-size, in bytes"),
    click.option("-h", "--human-readable", "human", is_flag=True, help="sizes as 1.5K, 23.4M"),
    click.option("-L", "follow", is_flag=True, help="follow the path itself when it is a symlink"),
    formats=("table", "wide", "json", "yaml", "name"),
    help_flags=("--help",),
)
async def du(
    target: Target, path: str, common: Common, total: bool, depth: int | None, files: bool,
    top: int | None, xdev: bool, apparent: bool, in_bytes: bool, human: bool, follow: bool,
) -> int:  # fmt: skip
    apparent = apparent or in_bytes
    request = DiskUsage(
        path=path,
        limit=MAX_PAGE,
        follow=follow,
        max_depth=0 if total else MAX_DEPTH if depth is None else depth,
        one_file_system=xdev,
        files=files,
        top=top or 0,
        apparent=apparent,
    )
    rows: list[Usage] = []
    truncated, meter = False, Meter()
    try:
        async for page in search_pages(target, request, meter.tell):
            rows += page.items
            if len(rows) > MAX_ROWS:
                truncated = True
                break
    finally:
        meter.clear()
    failed = [row for row in rows if row.error]
    good = [row for row in rows if not row.error]
    data: dict[str, Any] = {}
    exact(data, "path", path)
    data |= {"entries": [usage_document(row) for row in rows], "truncated": truncated}
    notes = [*(f"{row.path}: {row.error}" for row in failed), *meter.last.skipped]
    if truncated:
        notes.append(f"only the first {MAX_ROWS} rows are shown: bound them with -d or --top")

    def lines(wide: bool) -> list[str]:
        if wide:
            return table(
                ["ALLOCATED", "APPARENT", "FILES", "PATH"],
                map(_wide, good),
                right="ALLOCATED APPARENT FILES",
            )
        return [f"{shown(row, apparent, in_bytes, human)}\t{one_line(row.path)}" for row in good]

    names = lambda: (row.path for row in good)  # noqa: E731
    partial = bool(failed) or truncated
    return emit(Document(data, lines, names=names, notes=notes, partial=partial), common.output)


def shown(row: Usage, apparent: bool, in_bytes: bool, human: bool) -> str:
    """The size of a row as du writes it: whole KiB, rounded up."""
    count = row.apparent_bytes if apparent else row.allocated_bytes
    if human:
        return size(count)
    return str(count if in_bytes else -(-count // BLOCK))


def _wide(row: Usage) -> list[object]:
    return [size(row.allocated_bytes), size(row.apparent_bytes), row.files, row.path]


def usage_document(row: Usage) -> dict[str, Any]:
    document: dict[str, Any] = {}
    exact(document, "path", row.path)
    document |= {"depth": row.depth, "kind": row.kind, "allocated_bytes": row.allocated_bytes}
    document |= {"apparent_bytes": row.apparent_bytes, "files": row.files}
    if row.error:
        document |= {"error": row.error, "allocated_bytes": None, "apparent_bytes": None, "files": None}
    return document


def _df_rows(mounts: list[Mount], human: bool, inodes: bool) -> list[list[object]]:
    return [_df_row(mount, human, inodes) for mount in mounts]


def _df_row(mount: Mount, human: bool, inodes: bool) -> list[object]:
    free: int | None
    if inodes:
        whole, used = mount.inodes, mount.inodes_used
        free = None if whole is None or used is None else whole - used
        cells: list[object] = [whole, used, free]
    else:
        whole, used, free = mount.size_bytes, mount.used_bytes, mount.available_bytes
        cells = [_blocks(count, human) for count in (whole, used, free)]
    return [mount.source, mount.filesystem, *cells, _share(used, free), mount.path, mount.error or ""]


def _blocks(count: int | None, human: bool) -> object:
    return size(count) if human or count is None else -(-count // BLOCK)


def _share(used: int | None, free: int | None) -> str | None:
    """Per cent of what users may fill, rounded up, as df has it."""
    if used is None or free is None or used + free <= 0:
        return None
    return f"{-(-used * 100 // (used + free))}%"


def told(mounts: list[Mount], every: bool) -> list[Mount]:
    """As df: without those of no size, and each file system once, at its shortest path; with -a all."""
    if every:
        return mounts
    chosen: dict[str, Mount] = {}
    for mount in mounts:
        if mount.size_bytes == 0 or (mount.error or "").endswith("another mount covers it"):
            continue
        known = chosen.get(mount.device)
        if known is None or len(mount.path) < len(known.path):
            chosen[mount.device] = mount
    return [mount for mount in mounts if chosen.get(mount.device) is mount]


def mount_of(mounts: list[Mount], place: str) -> Mount:
    """The mount that a resolved path is on: the last of the longest, since later ones cover earlier."""
    on_way = [m for m in mounts if m.path == place or place.startswith(m.path.rstrip("/") + "/")]
    if not on_way:
        raise NotFound(f"no mount holds {place}")
    longest = max(len(mount.path) for mount in on_way)
    return [mount for mount in on_way if len(mount.path) == longest][-1]


async def _df(target: Target, path: str, common: Common, human: bool, inodes: bool, every: bool) -> int:
    page = await within(common.timeout, "df", target.mounts())
    mounts = list(page.items)
    if path:
        place = (await target.stat(path, follow=True)).resolved or path
        mounts = [mount_of(mounts, place)]
    else:
        mounts = told(mounts, every)
    sizes = ["INODES", "IUSED", "IFREE", "IUSE%"] if inodes else ["SIZE", "USED", "AVAILABLE", "USE%"]
    if not human and not inodes:
        sizes[0] = "1K-BLOCKS"
    headers = ["FILESYSTEM", "TYPE", *sizes, "MOUNTED ON", ""]
    data = {"filesystems": [mount_document(mount) for mount in mounts]}
    lines = lambda wide: table(headers, _df_rows(mounts, human, inodes), right=" ".join(sizes))  # noqa: E731
    return emit(Document(data, lines, names=lambda: (m.path for m in mounts)), common.output)


@click.command(
    "df",
    help="Show how full the target's file systems are.",
    context_settings={"help_option_names": ["--help"]},
)
@click.argument("words", nargs=-1, metavar="TARGET[:/PATH]")
@click.option("-h", "--human-readable", "human", is_flag=True, help="sizes as 1.5K, 23.4M")
@click.option("-i", "--inodes", "inodes", is_flag=True, help="inodes instead of space")
@click.option("-a", "--all", "every", is_flag=True, help="every mount")
@common_options(("table", "json", "yaml", "name"), short_selector=False)
def df(words: tuple[str, ...], common: Common, human: bool, inodes: bool, every: bool) -> int:
    expression = one_target(words, common)
    return with_target(
        expression, common, lambda target: _df(target, expression.path, common, human, inodes, every)
    )


COMMANDS: dict[str, click.Command] = {"du": du, "df": df}
