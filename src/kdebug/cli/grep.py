"""grep: lines of the target's files, found where they are."""

from __future__ import annotations

from typing import Any

import click

from kdebug.cli.console import Document, emit, note, stdout_is_terminal, write_bytes
from kdebug.cli.files import file_callback
from kdebug.cli.meter import Meter
from kdebug.cli.table import exact
from kdebug.cli.verb import Common, common_options
from kdebug.protocol.grep import COUNT, LINES, MAX_CONTEXT, MAX_LINE_SHOWN, NAMES, Grep, GrepRow
from kdebug.protocol.requests import MAX_PAGE
from kdebug.protocol.search import MAX_DEPTH
from kdebug.sanitise import file_bytes, one_line
from kdebug.target import Target
from kdebug.target.search import search_pages
from kdebug.target.target import MAX_ROWS

CONTEXT = click.IntRange(0, MAX_CONTEXT)
HELP = """Print the lines of a file in the target that match PATTERN; -r searches a directory.

PATTERN is an extended regular expression, on bytes. Exit code 0: a line was selected, 1: none was, or
something could not be searched. The cluster's options are --namespace and --container here: -n and -c
are grep's own.
"""


class Printer:
    """Rows as grep prints them: exact in a pipe, sanitised on a terminal."""

    def __init__(self, names: bool, numbers: bool, context: bool) -> None:
        self._names, self._numbers, self._context = names, numbers, context
        self._terminal = stdout_is_terminal()
        self._last: tuple[str, int] | None = None
        self.cut = 0

    def lines(self, rows: list[GrepRow]) -> bytes:
        return b"".join(self._line(row) for row in rows)

    def _line(self, row: GrepRow) -> bytes:
        path = one_line(row.path).encode("utf-8", "backslashreplace")
        if row.kind == "name":
            return path + b"\n"
        if row.kind == "count":
            return (path + b":" if self._names else b"") + b"%d\n" % (row.count or 0)
        if row.kind not in ("match", "context"):
            return b""
        self.cut += row.cut
        mark = b":" if row.kind == "match" else b"-"
        head = (path + mark if self._names else b"") + (
            b"%d" % (row.line or 0) + mark if self._numbers else b""
        )
        return self._separator(row) + head + self._text(row.text or "") + b"\n"

    def _text(self, text: str) -> bytes:
        raw = text.encode("utf-8", "surrogateescape")
        return file_bytes(raw).encode("utf-8") if self._terminal else raw

    def _separator(self, row: GrepRow) -> bytes:
        last, self._last = self._last, (row.path, row.line or 0)
        if not self._context or last is None or last == (row.path, (row.line or 0) - 1):
            return b""
        return b"--\n"


def row_document(row: GrepRow) -> dict[str, Any]:
    """One row in JSON, without what it does not have."""
    document: dict[str, Any] = {}
    exact(document, "path", row.path)
    document |= {"kind": row.kind, "line": row.line}
    if row.text is not None:
        exact(document, "text", row.text)
        document["cut"] = row.cut
    if row.count is not None:
        document["count"] = row.count
    if row.error:
        document["error"] = row.error
    return document


class Outcome:
    """What decides the exit code, gathered row by row."""

    def __init__(self) -> None:
        self.selected = False
        self.failed = 0

    def see(self, rows: list[GrepRow]) -> None:
        for row in rows:
            self.selected = self.selected or row.kind in ("match", "binary", "name") or bool(row.count)
            if row.kind == "error":
                self.failed += 1
                note(f"{row.path}: {row.error}")
            elif row.kind == "binary":
                note(f"{row.path}: binary file matches (-a shows its lines)")


def request(pattern: str, path: str, given: dict[str, Any], documents: bool) -> Grep:
    around = given["around"] or 0
    before, after = (around if given[key] is None else given[key] for key in ("before", "after"))
    context = any(given[key] is not None for key in ("before", "after", "around"))
    return Grep(
        path=path,
        limit=MAX_PAGE,
        follow=True,
        pattern=pattern,
        max_depth=MAX_DEPTH if given["recursive"] else 0,
        one_file_system=given["xdev"],
        fixed=given["fixed"],
        ignore_case=given["ignore_case"],
        invert=given["invert"],
        mode=NAMES if given["names_only"] else COUNT if given["count"] else LINES,
        max_count=given["max_count"] or 0,
        before=before,
        after=after,
        numbers=given["numbers"] or context or documents,
        text=given["text"],
        include=given["include"],
    )


async def grep(target: Target, path: str, common: Common, pattern: str, **given: Any) -> int:
    documents = common.output in ("json", "yaml")
    asked = request(pattern, path, given, documents)
    names = (given["recursive"] or given["with_name"]) and not given["no_name"]
    context = any(given[key] is not None for key in ("before", "after", "around"))
    printer, outcome, meter = Printer(names, given["numbers"], context), Outcome(), Meter()
    gathered: list[GrepRow] = []
    truncated = False
    try:
        async for page in search_pages(target, asked, meter.tell):
            rows = list(page.items)
            if rows:
                meter.clear()
                outcome.see(rows)
            if not documents:
                write_bytes(printer.lines(rows))
            elif len(gathered) < MAX_ROWS:
                gathered += rows
            else:
                truncated = True
                break
    finally:
        meter.clear()
    for line in meter.last.skipped:
        note(line)
    if printer.cut:
        note(f"{printer.cut} lines are longer than {MAX_LINE_SHOWN} bytes and were cut")
    code = 1 if outcome.failed or truncated or not outcome.selected else 0
    if documents:
        data: dict[str, Any] = {}
        exact(data, "path", path)
        data |= {"matches": [row_document(row) for row in gathered], "truncated": truncated}
        emit(Document(data, lambda wide: []), common.output)
    return code


OPTIONS = (
    click.option("-r", "-R", "--recursive", "recursive", is_flag=True, help="all files below a directory"),
    click.option("-F", "--fixed-strings", "fixed", is_flag=True, help="PATTERN is a string"),
    click.option("-E", "--extended-regexp", "extended", is_flag=True, hidden=True, expose_value=False),
    click.option("-i", "--ignore-case", "ignore_case", is_flag=True, help="ASCII letters in any case"),
    click.option("-v", "--invert-match", "invert", is_flag=True, help="the lines that do not match"),
    click.option("-l", "--files-with-matches", "names_only", is_flag=True, help="names of files only"),
    click.option("-c", "--count", "count", is_flag=True, help="how many lines a file"),
    click.option("-n", "--line-number", "numbers", is_flag=True, help="with line numbers"),
    click.option("-m", "--max-count", "max_count", type=click.IntRange(min=1), help="lines a file at most"),
    click.option("-A", "--after-context", "after", type=CONTEXT, help="lines after each"),
    click.option("-B", "--before-context", "before", type=CONTEXT, help="lines before each"),
    click.option("-C", "--context-lines", "around", type=CONTEXT, help="lines before and after each"),
    click.option("-a", "--text", "text", is_flag=True, help="lines of binary files, too"),
    click.option("-H", "--with-filename", "with_name", is_flag=True, help="with names of files"),
    click.option("-h", "--no-filename", "no_name", is_flag=True, help="without names of files"),
    click.option("--include", multiple=True, metavar="GLOB", help="with -r: only files so named"),
    click.option("--xdev", "--one-file-system", "xdev", is_flag=True, help="stay on one file system"),
)  # fmt: skip


def _command() -> click.Command:
    decorated: Any = file_callback("grep", grep)
    decorated = common_options(("table", "json", "yaml"), short_selector=False, short_cluster=False)(
        decorated
    )
    for option in reversed(OPTIONS):
        decorated = option(decorated)
    decorated = click.argument("location", metavar="TARGET:/PATH")(decorated)
    decorated = click.argument("pattern", metavar="PATTERN")(decorated)
    settings = {"help_option_names": ["--help"]}
    return click.command("grep", help=HELP, context_settings=settings)(decorated)


COMMANDS: dict[str, click.Command] = {"grep": _command()}
