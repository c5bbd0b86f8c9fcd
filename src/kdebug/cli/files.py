"""ls, stat, cat: the target's files."""

from __future__ import annotations

import stat as stat_bits
from collections.abc import Awaitable, Callable
from typing import Any

import click

from kdebug.cli.console import Document, emit, note, write_bytes
from kdebug.cli.table import exact, rfc3339, size, table
from kdebug.cli.verb import Common, common_options, with_target, within
from kdebug.errors import ConnectionLost, Failed
from kdebug.expression import parse_with_path
from kdebug.protocol.files import Entry, FileStat
from kdebug.protocol.requests import MAX_CHUNK, ListDir
from kdebug.sanitise import one_line
from kdebug.target import Target
from kdebug.target.reader import pieces

_TYPE_BITS = {
    "file": stat_bits.S_IFREG,
    "dir": stat_bits.S_IFDIR,
    "symlink": stat_bits.S_IFLNK,
    "fifo": stat_bits.S_IFIFO,
    "socket": stat_bits.S_IFSOCK,
    "char": stat_bits.S_IFCHR,
    "block": stat_bits.S_IFBLK,
}


def entry_document(entry: Entry) -> dict[str, Any]:
    """One entry in the JSON of design 5."""
    row: dict[str, Any] = {}
    exact(row, "name", entry.name)
    row |= {"kind": entry.kind, "size_bytes": entry.size_bytes}
    row["mode"] = None if entry.mode is None else f"{entry.mode:04o}"
    row |= {"uid": entry.uid, "gid": entry.gid}
    row["mtime"] = None if entry.mtime_ns is None else rfc3339(entry.mtime_ns / 1e9)
    row["mtime_ns"] = entry.mtime_ns
    exact(row, "link_target", entry.link_target)
    row |= {"inode": entry.inode, "device": entry.device, "links": entry.links}
    row |= {"allocated_bytes": entry.allocated_bytes, "device_number": entry.device_number}
    if entry.error:
        row["error"] = entry.error
    return row


def mode_text(entry: Entry) -> str:
    """drwxr-xr-x, as ls writes it; question marks for what could not be read."""
    if entry.mode is None:
        return "?" * 10
    return stat_bits.filemode(_TYPE_BITS.get(entry.kind, 0) | entry.mode)


def long_row(entry: Entry) -> list[object]:
    name = entry.name if entry.link_target is None else f"{entry.name} -> {entry.link_target}"
    mtime = None if entry.mtime_ns is None else (rfc3339(entry.mtime_ns / 1e9) or "-")[:19]
    length = entry.device_number or size(entry.size_bytes)
    return [mode_text(entry), entry.links, entry.uid, entry.gid, length, mtime, name, entry.error or ""]


HEADERS = ["MODE", "LINKS", "UID", "GID", "SIZE", "MODIFIED", "NAME", ""]


def _file_verb(
    name: str, help_text: str, *parameters: Callable[[Any], Any], formats: tuple[str, ...]
) -> Callable[[Callable[..., Awaitable[int]]], click.Command]:
    """A verb on `TARGET:/path`: decorates `async (target, path, common, **options) -> exit code`."""

    def decorate(work: Callable[..., Awaitable[int]]) -> click.Command:
        def callback(location: str, common: Common, **options: Any) -> int:
            expression = parse_with_path(location, name)
            return with_target(
                expression, common, lambda target: work(target, expression.path, common, **options)
            )

        decorated: Any = common_options(formats, short_selector=False)(callback)
        for parameter in reversed(parameters):
            decorated = parameter(decorated)
        decorated = click.argument("location", metavar="TARGET:/PATH")(decorated)
        settings = {"help_option_names": ["-h", "--help"]}
        return click.command(name, help=help_text, context_settings=settings)(decorated)

    return decorate


@_file_verb(
    "ls",
    "List a directory of the target; a file is listed as itself.",
    click.option("-l", "long", is_flag=True, help="also mode, owner, size and time (as -o wide)"),
    click.option("--limit", type=click.IntRange(min=1), help="stop after this many entries"),
    formats=("table", "wide", "json", "yaml", "name"),
)
async def ls(target: Target, path: str, common: Common, long: bool, limit: int | None) -> int:
    found = await target.stat(path, follow=True)
    if found.entry.kind == "dir":
        entries, truncated = await _entries(target, path, limit)
    else:
        entries, truncated = [found.entry], False
    entries.sort(key=lambda entry: entry.name)
    data: dict[str, Any] = {}
    exact(data, "path", path)
    data |= {"entries": [entry_document(entry) for entry in entries], "truncated": truncated}

    def lines(wide: bool) -> list[str]:
        if long or wide:
            return table(HEADERS, map(long_row, entries), right="LINKS UID GID SIZE")
        return [one_line(entry.name) for entry in entries]

    notes = [f"only the first {len(entries)} entries are listed (--limit)"] if truncated else []
    failed = sum(1 for entry in entries if entry.error)
    if failed:
        notes.append(f"{failed} entries could not be examined; -l shows why")
    names = lambda: (entry.name for entry in entries)  # noqa: E731
    return emit(Document(data, lines, names=names, notes=notes, partial=bool(failed)), common.output)


async def _entries(target: Target, path: str, limit: int | None) -> tuple[list[Entry], bool]:
    entries: list[Entry] = []
    async for page in target.pages(ListDir(path=path, limit=min(limit or 1000, 1000))):
        entries += page.entries
        if limit is not None and len(entries) >= limit:
            return entries[:limit], bool(page.cursor) or len(entries) > limit
        if page.truncated:
            return entries, True
    return entries, False


@_file_verb(
    "stat",
    "Show what the target's file system says of a path; a symlink is shown itself unless -L.",
    click.option("-L", "follow", is_flag=True, help="follow symlinks, inside the target"),
    formats=("table", "json", "yaml"),
)
async def stat(target: Target, path: str, common: Common, follow: bool) -> int:
    found = await within(common.timeout, "stat", target.stat(path, follow=follow))
    data: dict[str, Any] = {}
    exact(data, "path", path)
    data |= entry_document(found.entry)
    exact(data, "resolved", found.resolved)
    return emit(Document(data, lambda wide: _stat_lines(found, data)), common.output)


def _stat_lines(found: FileStat, data: dict[str, Any]) -> list[str]:
    shown = {"mode": f"{data['mode']} ({mode_text(found.entry)})"}
    return [
        one_line(f"{key}: {shown.get(key, value)}")
        for key, value in data.items()
        if value is not None and not key.endswith("_base64")
    ]


@_file_verb("cat", "Write a file of the target to stdout, byte for byte.", formats=("table",))
async def cat(target: Target, path: str, common: Common) -> int:
    written = 0
    try:
        async for chunk in pieces(target, path):
            write_bytes(chunk.data)
            _write_zeros(chunk.hole_bytes)
            written += len(chunk.data) + chunk.hole_bytes
    except (ConnectionLost, Failed) as error:
        if written:
            note(f"only the first {written} bytes were written")
        raise error
    return 0


def _write_zeros(count: int) -> None:
    """A hole reads as zeros; cat has to write them even though nobody sent them."""
    zeros = bytes(min(count, MAX_CHUNK))
    while count > 0:
        write_bytes(zeros[:count])
        count -= len(zeros)


COMMANDS: dict[str, click.Command] = {"ls": ls, "stat": stat, "cat": cat}
