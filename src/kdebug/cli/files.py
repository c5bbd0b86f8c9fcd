"""stat, cat, and what the verbs on files share."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

import click

from kdebug.cli.console import Document, emit, note, write_bytes
from kdebug.cli.table import exact, rfc3339, size
from kdebug.cli.verb import Common, common_options, with_target, within
from kdebug.errors import ConnectionLost, Failed, Partial
from kdebug.expression import parse_with_path
from kdebug.protocol.files import Entry, FileStat
from kdebug.protocol.requests import MAX_CHUNK
from kdebug.sanitise import one_line
from kdebug.target import Target
from kdebug.target.reader import pieces
from kdebug.units import mode_text

ENDLESS_BYTES = 64 * 1024 * 1024
"""Where a file that says no size (procfs) is left: some of them have no end."""


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


def long_row(entry: Entry, human: bool = False) -> list[object]:
    name = entry.name if entry.link_target is None else f"{entry.name} -> {entry.link_target}"
    mtime = None if entry.mtime_ns is None else (rfc3339(entry.mtime_ns / 1e9) or "-")[:19]
    length = entry.device_number or (size(entry.size_bytes) if human else entry.size_bytes)
    return [
        mode_text(entry.kind, entry.mode),
        entry.links,
        entry.uid,
        entry.gid,
        length,
        mtime,
        name,
        entry.error or "",
    ]


HEADERS = ["MODE", "LINKS", "UID", "GID", "SIZE", "MODIFIED", "NAME", ""]


def file_callback(name: str, work: Callable[..., Awaitable[int]]) -> Callable[..., int]:
    """Opens the target of `location`, as the process of --pid sees it, and hands `work` its path."""

    def callback(location: str, common: Common, root_pid: int, **options: Any) -> int:
        expression = parse_with_path(location, name)
        seen = dataclasses.replace(common, root_pid=root_pid)
        return with_target(expression, seen, lambda target: work(target, expression.path, seen, **options))

    option = click.option(
        "--pid", "root_pid", type=click.IntRange(min=0), default=0, metavar="PID",
        help="files as this process of the target sees them",
    )  # fmt: skip
    with_pid: Callable[..., int] = option(callback)
    return with_pid


def file_verb(
    name: str,
    help_text: str,
    *parameters: Callable[[Any], Any],
    formats: tuple[str, ...],
    help_flags: tuple[str, ...] = ("-h", "--help"),
) -> Callable[[Callable[..., Awaitable[int]]], click.Command]:
    """A verb on `TARGET:/path`: decorates `async (target, path, common, **options) -> exit code`."""

    def decorate(work: Callable[..., Awaitable[int]]) -> click.Command:
        decorated: Any = common_options(formats, short_selector=False)(file_callback(name, work))
        for parameter in reversed(parameters):
            decorated = parameter(decorated)
        decorated = click.argument("location", metavar="TARGET:/PATH")(decorated)
        settings = {"help_option_names": list(help_flags)}
        return click.command(name, help=help_text, context_settings=settings)(decorated)

    return decorate


@file_verb(
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
    shown = {"mode": f"{data['mode']} ({mode_text(found.entry.kind, found.entry.mode)})"}
    return [
        one_line(f"{key}: {shown.get(key, value)}")
        for key, value in data.items()
        if value is not None and not key.endswith("_base64")
    ]


@file_verb("cat", "Write a file of the target to stdout, byte for byte.", formats=("table",))
async def cat(target: Target, path: str, common: Common) -> int:
    written = 0
    try:
        async for chunk in pieces(target, path):
            write_bytes(chunk.data)
            _write_zeros(chunk.hole_bytes)
            written += len(chunk.data) + chunk.hole_bytes
            if chunk.size_bytes == 0 and written >= ENDLESS_BYTES and not chunk.eof:
                raise Partial(f"{path} was left", why="it says no size and may have no end")
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


COMMANDS: dict[str, click.Command] = {"stat": stat, "cat": cat}
