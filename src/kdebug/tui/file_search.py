"""Searches below a directory, shown while they run: names, contents, what takes space, deleted files.

The agent does the searching; rows come as they are found, Esc ends it, Enter goes there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Optional, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Static

from kdebug.errors import KdebugError
from kdebug.protocol.grep import Grep
from kdebug.protocol.requests import Paged
from kdebug.protocol.search import DiskUsage, Find, ListDeleted, Progress
from kdebug.target import Target
from kdebug.target.search import search_pages
from kdebug.tui.pane import Notice
from kdebug.tui.session import Session
from kdebug.tui.table import Cell, Column, LineTable
from kdebug.tui.text import plain
from kdebug.tui.theme import ACCENT, BAD, DIM, PLAIN
from kdebug.tui.work import start
from kdebug.units import size

if TYPE_CHECKING:
    from kdebug.tui.app import KdebugApp

MAX_HITS = 20_000
"""More is not read by anybody; that there was more is said."""
TOP = 200


@dataclass(frozen=True)
class Hit:
    """One row of any search."""

    key: int
    path: str
    """Where Enter goes; `deleted:PID/FD` for a file without a name."""
    text: str
    size_bytes: int = -1
    line: int = 0
    error: bool = False


@dataclass(frozen=True)
class Query:
    """What is asked, and how its rows look."""

    title: str
    request: Paged[Any]
    row: Callable[[int, Any], Hit]
    sort: str = ""
    sized: bool = False
    numbered: bool = False


def by_name(folder: str, words: str) -> Query:
    """Names that hold the words, or that fit where they are a glob."""
    pattern = words if any(letter in words for letter in "*?[") else f"*{words}*"
    request = Find(path=folder, names=(pattern,), ignore_case=words.islower(), limit=500)
    return Query(f"names like {pattern} below {folder}", request, _found, sized=True)


def by_content(folder: str, pattern: str) -> Query:
    request = Grep(
        path=folder, pattern=pattern, max_depth=4096, numbers=True, ignore_case=pattern.islower(), limit=500
    )
    return Query(f"lines that match {pattern} below {folder}", request, _grepped, numbered=True)


def by_size(folder: str) -> Query:
    request = DiskUsage(path=folder, files=True, top=TOP, one_file_system=True, limit=500)
    return Query(f"what takes space below {folder} (this file system)", request, _used, "size", sized=True)


def deleted() -> Query:
    return Query("deleted files that are still open", ListDeleted(limit=500), _held, "size", sized=True)


def _found(number: int, row: Any) -> Hit:
    entry = row.entry
    mark = "/" if entry.kind == "dir" else ""
    text = f"{row.path}{mark}" + (f"  ✗ {entry.error}" if entry.error else "")
    return Hit(
        number, row.path, text, -1 if entry.size_bytes is None else entry.size_bytes, 0, bool(entry.error)
    )


def _grepped(number: int, row: Any) -> Hit:
    if row.error:
        return Hit(number, row.path, f"{row.path}  ✗ {row.error}", error=True)
    text = row.text if row.text is not None else "(a binary file that matches)"
    return Hit(number, row.path, f"{row.path}: {text}", line=row.line or 0)


def _used(number: int, row: Any) -> Hit:
    text = row.path + ("/" if row.kind == "dir" and row.path != "/" else "")
    return Hit(
        number,
        row.path,
        text + (f"  ✗ {row.error}" if row.error else ""),
        row.allocated_bytes,
        0,
        bool(row.error),
    )


def _held(number: int, row: Any) -> Hit:
    if row.error:
        return Hit(number, "", f"PID {row.pid} {row.process}  ✗ {row.error}", error=True)
    text = f"{row.path}  held by {row.process} (PID {row.pid}, fd {row.fd})"
    return Hit(number, f"deleted:{row.pid}/{row.fd}", text, row.size_bytes or 0)


def _text(hit: Hit) -> Cell:
    return hit.text, (BAD if hit.error else PLAIN)


def _size(hit: Hit) -> Cell:
    return (size(hit.size_bytes), PLAIN) if hit.size_bytes >= 0 else ("-", DIM)


class SearchScreen(ModalScreen[Optional[Hit]]):
    """The rows of one query; the chosen one is its answer."""

    DEFAULT_CSS = """
    SearchScreen { layout: vertical; background: $background; }
    SearchScreen > Static { height: 1; background: $panel; padding: 0 1; }
    SearchScreen > #title { text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss(None)", "Back"),
        Binding("y", "copy", "Copy the path"),
    ]

    def __init__(self, session: Session, query: Query) -> None:
        super().__init__()
        self.session = session
        self.asked = query
        self.hits: list[Hit] = []
        self.ended = False
        self._progress = Progress()
        self._stopped = ""

    def compose(self) -> ComposeResult:
        columns: list[Column[Hit]] = []
        if self.asked.sized:
            columns.append(Column("size", "SIZE", 8, _size, lambda hit: hit.size_bytes, True, True))
        if self.asked.numbered:
            columns.append(Column("line", "LINE", 7, lambda hit: (str(hit.line or ""), ACCENT), right=True))
        columns.append(Column("text", "FOUND", 0, _text, lambda hit: hit.text))
        yield Static(plain(self.asked.title), id="title")
        yield LineTable(
            columns, lambda hit: hit.key, sort=self.asked.sort, search=lambda hit: hit.text.casefold(),
            empty="nothing yet", id="hits",
        )  # fmt: skip
        yield Notice()
        yield Static(id="progress")

    @property
    def table(self) -> LineTable[Hit]:
        return self.query_one("#hits", LineTable)

    def on_mount(self) -> None:
        self.set_focus(self.table)
        start(self, "search", self._run)

    async def _run(self) -> None:
        try:
            await self.session.ask(self.asked.title, self._search)
        except KdebugError as error:
            self.query_one(Notice).fail(error)
        self.ended = True
        self.table.empty = "nothing"
        self._show()

    async def _search(self, target: Target) -> None:
        async for rows in self._pages(target):
            room = MAX_HITS - len(self.hits)
            self.hits += [
                self.asked.row(len(self.hits) + index, row) for index, row in enumerate(rows[:room])
            ]
            self._show()
            if len(rows) > room:
                self._stopped = f"only the first {MAX_HITS} are shown"
                return

    async def _pages(self, target: Target) -> AsyncIterator[list[Any]]:
        def tell(progress: Progress) -> None:
            self._progress = progress

        async for page in search_pages(target, self.asked.request, tell):
            yield list(page.items)

    def _show(self) -> None:
        self.table.show(self.hits)
        progress = self._progress
        parts = [f"{'done' if self.ended else 'searching'}: {len(self.hits)} found"]
        parts += [f"{progress.entries} entries looked at"] if progress.entries else []
        parts += [f"{size(progress.bytes_read)} read"] if progress.bytes_read else []
        parts += [self._stopped] if self._stopped else []
        parts += [f"left out: {', '.join(progress.skipped)}"] if progress.skipped else []
        keys = "[enter] go there  [esc] back" + ("" if self.ended else " and end the search")
        self.query_one("#progress", Static).update(plain("  ".join([*parts, keys])))

    @on(LineTable.Chosen)
    def _chosen(self, event: LineTable.Chosen) -> None:
        if event.row.path:
            self.dismiss(event.row)

    def action_copy(self) -> None:
        hit = self.table.selected
        if hit is not None:
            cast("KdebugApp", self.app).copy_line(hit.path)
