"""checksum: SHA-256 as sha256sum writes it, so that `sha256sum -c` checks a copy."""

from __future__ import annotations

from typing import Any

import click

from kdebug.cli.console import Document, emit, note, stdout_is_terminal, write_bytes
from kdebug.cli.files import file_verb
from kdebug.cli.meter import Meter
from kdebug.cli.table import exact
from kdebug.cli.verb import Common
from kdebug.protocol.requests import MAX_PAGE
from kdebug.protocol.search import MAX_DEPTH, Checksum, Digest
from kdebug.sanitise import one_line
from kdebug.target import Target
from kdebug.target.search import search_pages

_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}


def line(digest: str, path: str) -> bytes:
    """One line of sha256sum: names with a backslash or line feed are escaped and marked in front."""
    escaped = "".join(_ESCAPES.get(character, character) for character in path)
    mark = "\\" if escaped != path else ""
    shown = one_line(escaped) if stdout_is_terminal() else escaped
    return f"{mark}{digest}  {shown}\n".encode("utf-8", "surrogateescape")


@file_verb(
    "checksum",
    "Print the SHA-256 of a file, as sha256sum does; -r of every file below a directory.",
    click.option("-r", "--recursive", "recursive", is_flag=True, help="all files below a directory"),
    click.option("--relative", is_flag=True, help="paths from the directory, to check a copy of it"),
    click.option("--xdev", "--one-file-system", "xdev", is_flag=True, help="stay on one file system"),
    formats=("table", "json", "yaml"),
)
async def checksum(
    target: Target, path: str, common: Common, recursive: bool, relative: bool, xdev: bool
) -> int:
    depth = MAX_DEPTH if recursive else 0
    request = Checksum(path=path, limit=MAX_PAGE, follow=True, max_depth=depth, one_file_system=xdev)
    gathered: list[Digest] = []
    meter, failed = Meter(), 0
    documents = common.output in ("json", "yaml")
    try:
        async for page in search_pages(target, request, meter.tell):
            if page.items:
                meter.clear()
            for row in page.items:
                failed += row.error is not None
                if row.error:
                    note(f"{row.path}: {row.error}")
                elif not documents:
                    write_bytes(line(row.sha256 or "", _shown_path(row, path, relative)))
            if documents:
                gathered += page.items
    finally:
        meter.clear()
    for text in meter.last.skipped:
        note(text)
    if documents:
        data: dict[str, Any] = {}
        exact(data, "path", path)
        data["files"] = [_document(row) for row in gathered]
        emit(Document(data, lambda wide: []), common.output)
    return 1 if failed else 0


def _shown_path(row: Digest, top: str, relative: bool) -> str:
    if not relative:
        return row.path
    below = row.path[len(top.rstrip("/")) + 1 :]
    return below or row.path.rpartition("/")[2]


def _document(row: Digest) -> dict[str, Any]:
    document: dict[str, Any] = {}
    exact(document, "path", row.path)
    document |= {"sha256": row.sha256, "size_bytes": row.size_bytes}
    if row.error:
        document["error"] = row.error
    return document


COMMANDS: dict[str, click.Command] = {"checksum": checksum}
