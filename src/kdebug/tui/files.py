"""Files: the target's directories by its own root, and beside them what the selected entry holds."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import ClassVar, Optional

from rich.text import Text
from textual import on
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.timer import Timer
from textual.widgets import Static

from kdebug.errors import KdebugError
from kdebug.protocol.files import Entry, FileStat
from kdebug.protocol.requests import ListDir
from kdebug.target import Target
from kdebug.target.search import directory
from kdebug.tui.dialog import Ask, Choice
from kdebug.tui.file_actions import FileActions
from kdebug.tui.file_search import Hit, Query, SearchScreen, by_content, by_name, by_size, deleted
from kdebug.tui.file_view import FileView
from kdebug.tui.goto import GoTo
from kdebug.tui.pane import Pane, labelled
from kdebug.tui.session import Session
from kdebug.tui.table import Cell, Column, LineTable
from kdebug.tui.text import plain
from kdebug.tui.theme import ACCENT, BAD, DIM, GOOD, PLAIN, WARN
from kdebug.tui.work import start
from kdebug.units import mode_text, rfc3339, size

PREVIEW_SECONDS = 0.12
"""Whoever holds the down key reads nothing on the way."""
PLACES = ("/", "/etc", "/tmp", "/var/log", "/var/run/secrets", "/proc/1", "/app")  # noqa: S108  the target's
MARKS = {"dir": "/", "symlink": "@", "fifo": "|", "socket": "=", "char": "%", "block": "%"}
"""Behind names, as ls -F writes them (devices have none there)."""


@dataclass(frozen=True)
class FileRow:
    entry: Entry
    mounted: bool = False
    """Something else is mounted here."""

    @property
    def key(self) -> str:
        return self.entry.name


def _name(row: FileRow) -> Cell:
    entry = row.entry
    text = entry.name + MARKS.get(
        entry.kind, "*" if (entry.mode or 0) & 0o111 and entry.kind == "file" else ""
    )
    if entry.link_target is not None:
        text += f" -> {entry.link_target}"
    if row.mounted:
        text += "  [mount]"
    return text, _style(row)


def _style(row: FileRow) -> str:
    entry = row.entry
    if entry.error:
        return BAD
    if row.mounted:
        return WARN
    styles = {"dir": ACCENT, "symlink": DIM, "file": GOOD if (entry.mode or 0) & 0o111 else PLAIN}
    return styles.get(entry.kind, WARN)


def _length(row: FileRow) -> Cell:
    entry = row.entry
    if entry.kind == "dir":
        return "", DIM
    return entry.device_number or size(entry.size_bytes), PLAIN


def _owner(row: FileRow) -> Cell:
    entry = row.entry
    return f"{'-' if entry.uid is None else entry.uid}:{'-' if entry.gid is None else entry.gid}", DIM


def _mtime(row: FileRow) -> Cell:
    stamp = rfc3339(row.entry.mtime_ns / 1e9) if row.entry.mtime_ns is not None else None
    return (stamp or "-")[:16].replace("T", " "), DIM


COLUMNS: list[Column[FileRow]] = [
    Column("mode", "MODE", 10, lambda row: (mode_text(row.entry.kind, row.entry.mode), DIM), optional=2),
    Column("owner", "OWNER", 11, _owner, lambda row: row.entry.uid or 0, optional=3),
    Column("size", "SIZE", 8, _length, lambda row: row.entry.size_bytes or 0, descending=True, right=True),
    Column(
        "time", "MODIFIED", 16, _mtime, lambda row: row.entry.mtime_ns or 0, descending=True, optional=1
    ),
    Column("name", "NAME", 0, _name, lambda row: (row.entry.kind != "dir", row.entry.name)),
]


class FilesPane(Pane):
    title = "Files"
    hint = "enter open  ← up  d copy  o go to  f names  s contents  D space"
    DEFAULT_CSS = """
    FilesPane #where { height: 1; background: $surface; padding: 0 1; }
    FilesPane #split { layout: horizontal; height: 1fr; }
    FilesPane #listing { width: 1fr; }
    FilesPane #preview { width: 1fr; border-left: solid $primary; display: none; }
    FilesPane.wide #preview { display: block; }
    FilesPane.reading #preview { display: block; border-left: none; }
    FilesPane.reading #listing { display: none; }
    FilesPane #caption { height: 1; background: $surface; padding: 0 1; }
    FilesPane #facts { height: auto; max-height: 100%; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h,backspace", "up", "To the directory above"),
        Binding("right,l", "open", "Open", show=False),
        Binding("full_stop", "toggle_hidden", "Show or hide dot files"),
        Binding("n", "sort('name')", "Sort by name"),
        Binding("z", "sort('size')", "Sort by size"),
        Binding("t", "sort('time')", "Sort by time"),
        Binding("o", "go_to", "Go to a path"),
        Binding("f", "search_names", "Search below by name"),
        Binding("s", "search_contents", "Search below in contents"),
        Binding("D", "disk_usage", "What takes space below"),
        Binding("X", "deleted", "Deleted files that are still open"),
        Binding("b", "places", "Places and bookmarks"),
        Binding("B", "bookmark", "Bookmark this directory"),
        Binding("y", "copy", "Copy the path"),
        Binding("d", "download", "Copy from the target to this machine"),
        Binding("u", "upload", "Copy from this machine to the target"),
        Binding("e", "edit", "Edit the file"),
        Binding("delete", "remove", "Remove"),
        Binding("M", "make_dir", "Make a directory"),
        Binding("C", "chmod", "Change the mode"),
        Binding("escape", "back", "Back to the list", show=False),
    ]
    WIDE = 120

    def __init__(self, session: Session, start: str = "/") -> None:
        super().__init__(session)
        self.path = start
        self.actions = FileActions(self)
        self._entries: list[Entry] = []
        self._shown_path = ""
        self._hidden = False
        self._mounts: Optional[set[str]] = None
        self._generation = -1
        self._bookmarks: list[str] = []
        self._timer: Optional[Timer] = None
        self._select: Optional[str] = None
        """The name to put the cursor on once the directory is listed."""

    def compose(self) -> ComposeResult:
        yield Static(id="where")
        with Container(id="split"):
            yield LineTable(
                COLUMNS, lambda row: row.key, sort="name", id="listing", empty="nothing here",
                search=lambda row: row.entry.name.casefold(),
            )  # fmt: skip
            with Vertical(id="preview"):
                yield Static(id="caption")
                yield Static(id="facts")
                yield FileView(self.session, self._show_caption)
        yield self.notice

    @property
    def table(self) -> LineTable[FileRow]:
        return self.query_one("#listing", LineTable)

    @property
    def view(self) -> FileView:
        return self.query_one(FileView)

    @property
    def needle(self) -> str:
        return self.table.needle

    def filter(self, needle: str) -> None:
        self.table.filter(needle)

    def focus_first(self) -> None:
        self.screen.set_focus(self.view if self.has_class("reading") else self.table)

    def on_resize(self) -> None:
        self.set_class(self.size.width >= self.WIDE, "wide")
        self._preview()

    # The directory

    async def load(self) -> Optional[float]:
        if self._generation != self.session.generation:
            self._generation, self._mounts = self.session.generation, None
        path = self.path
        if self._mounts is None:
            self._mounts = await self._mount_points()
        entries: list[Entry] = []

        async def read(target: Target) -> None:
            async for page in directory(target, path):
                first = not entries
                entries.extend(page)
                if path == self.path and first:
                    self._show(path, entries)  # the first screen at once, the rest when it is there

        await self.session.ask(f"the directory {path}", read)
        if path == self.path:
            self._show(path, entries)
        return None

    async def _mount_points(self) -> set[str]:
        try:
            page = await self.session.ask("the mounts", lambda target: target.mounts(sizes=False))
        except KdebugError:
            return set()
        return {mount.path for mount in page.items}

    def _show(self, path: str, entries: list[Entry]) -> None:
        self._entries = entries
        moved, self._shown_path = path != self._shown_path, path
        mounts = self._mounts or set()
        shown = [entry for entry in entries if self._hidden or not entry.name.startswith(".")]
        self.table.show(FileRow(entry, posixpath.join(path, entry.name) in mounts) for entry in shown)
        if moved:
            self.table.action_edge(-1)
        if self._select is not None and self.table.select(self._select):
            self._select = None
        self._show_where(len(entries) - len(shown))
        self._preview()

    def _show_where(self, hidden: int) -> None:
        text = plain(self.path, "bold")
        total = len(self._entries)
        count = f"  {total} {'entry' if total == 1 else 'entries'}"
        count += f", {hidden} hidden" if hidden else ""
        text.append(count, "dim")
        self.query_one("#where", Static).update(text)

    def go(self, path: str, select: Optional[str] = None) -> None:
        """To another directory. What cannot be listed is told in place, and the old one stays shown."""
        self.path, self._select = path, select
        self.remove_class("reading")
        self.table.filter("")
        self.wake()
        self.call_after_refresh(self.focus_first)

    def action_up(self) -> None:
        if self.has_class("reading"):
            self.action_back()
        elif self.path != "/":
            above, name = posixpath.split(self.path.rstrip("/"))
            self.go(above or "/", name)

    @on(LineTable.Chosen, "#listing")
    def _chosen(self) -> None:
        self.action_open()

    def action_open(self) -> None:
        row = self.table.selected
        if row is None:
            return
        path = posixpath.join(self.path, row.entry.name)
        if row.entry.kind == "dir":
            self.go(path)
        elif row.entry.kind == "symlink":
            start(self, "open", self._open_link, path)
        else:
            self._read(path)

    async def _open_link(self, path: str) -> None:
        """Where a symlink leads, inside the target: a directory is entered, a file is read."""
        found = await self._followed(path)
        if found is None:
            return
        if found.entry.kind == "dir":
            self.go(found.resolved or path)
        else:
            self._read(path)

    async def _followed(self, path: str) -> Optional[FileStat]:
        """What a path leads to; None when that cannot be told, which is said in place."""
        try:
            return await self.session.ask(path, lambda target: target.stat(path, follow=True))
        except KdebugError as error:
            self.notice.fail(error)
            return None

    def _read(self, path: str) -> None:
        self.add_class("reading")
        # A preview that is still on its way would take the file's place.
        if self._timer is not None:
            self._timer.stop()
        self.workers.cancel_group(self, "facts")
        if self.view.path != path or not self.view.display:
            self._show_file(path)
        self.view.focus()

    def action_back(self) -> None:
        if self.has_class("reading"):
            self.remove_class("reading")
        elif self.table.needle:
            self.table.filter("")
        else:
            raise SkipAction
        self.table.focus()

    # The preview

    @on(LineTable.Highlighted, "#listing")
    def _highlighted(self) -> None:
        self._preview()

    def _preview(self) -> None:
        if self.has_class("wide") and not self.has_class("reading"):
            if self._timer is not None:
                self._timer.stop()
            self._timer = self.set_timer(PREVIEW_SECONDS, self._preview_now)

    def _preview_now(self) -> None:
        row = self.table.selected
        if row is None or self._shown_path != self.path:
            self._show_facts(None)
            return
        path = posixpath.join(self.path, row.entry.name)
        if row.entry.kind == "file":
            if self.view.path != path:
                self._show_file(path)
        else:
            start(self, "facts", self._look_at, path, row.entry)

    def _show_file(self, path: str) -> None:
        self._show_facts(None)
        self.view.display = True
        self.view.show(path)

    async def _look_at(self, path: str, entry: Entry) -> None:
        """What is known of something that cannot simply be read."""
        self.view.clear()
        try:
            found = await self.session.ask(path, lambda target: target.stat(path))
            names = await self._names(path) if entry.kind == "dir" else ""
        except KdebugError as error:
            self._show_facts(plain(f"✗ {error}"))
            return
        pairs = facts(found)
        text = labelled(pairs)
        if names:
            text.append("\n\n")
            text.append(names)
        self._show_facts(text)

    async def _names(self, path: str) -> str:
        page = await self.session.ask(
            path, lambda target: target.backend.send(ListDir(path=path, limit=200))
        )
        names = sorted(page.entries, key=lambda entry: (entry.kind != "dir", entry.name))
        lines = [plain(entry.name + MARKS.get(entry.kind, "")).plain for entry in names]
        return "\n".join([*lines, *(["…"] if page.cursor else [])])

    def _show_facts(self, text: Optional[Text]) -> None:
        facts_widget = self.query_one("#facts", Static)
        facts_widget.display = text is not None
        self.view.display = text is None
        facts_widget.update(text or Text())
        self._show_caption()

    def _show_caption(self) -> None:
        view = self.view
        text = plain(view.path.rpartition("/")[2], "bold")
        text.append_text(plain(f"  {view.caption}", "dim" if view.problem is None else "bold"))
        self.query_one("#caption", Static).update(text)

    # The rest

    def action_toggle_hidden(self) -> None:
        self._hidden = not self._hidden
        self._show(self.path, self._entries)

    def action_sort(self, name: str) -> None:
        self.table.sort_by(name)

    def action_go_to(self) -> None:
        def answered(path: Optional[str]) -> None:
            if path:
                start(self, "open", self._go_to, path)

        self.app.push_screen(GoTo(self.session, self.path), answered)

    async def _go_to(self, path: str) -> None:
        found = await self._followed(path)
        if found is None:
            return
        if found.entry.kind == "dir":
            self.go(posixpath.normpath(path))
        else:
            above, name = posixpath.split(path.rstrip("/"))
            self.go(above or "/", name)

    def action_search_names(self) -> None:
        def answered(words: Optional[str]) -> None:
            if words:
                self._search(by_name(self.path, words))

        self.app.push_screen(Ask(f"Names below {self.path} that hold (or a glob)"), answered)

    def action_search_contents(self) -> None:
        def answered(pattern: Optional[str]) -> None:
            if pattern:
                self._search(by_content(self.path, pattern))

        self.app.push_screen(Ask(f"Lines below {self.path} that match (regular expression)"), answered)

    def action_disk_usage(self) -> None:
        self._search(by_size(self.path))

    def action_deleted(self) -> None:
        self._search(deleted())

    def _search(self, query: Query) -> None:
        def answered(hit: Optional[Hit]) -> None:
            if hit is None:
                return
            if hit.path.startswith("deleted:"):
                self._read(hit.path)
            else:
                start(self, "open", self._go_to, hit.path)

        self.app.push_screen(SearchScreen(self.session, query), answered)

    def action_places(self) -> None:
        places = [*self._bookmarks, *(sorted(self._mounts - set(PLACES)) if self._mounts else [])]

        def answered(path: Optional[str]) -> None:
            if path:
                start(self, "open", self._go_to, path)

        self.app.push_screen(Choice("Go to", dict.fromkeys([*places[:100], *PLACES])), answered)

    def action_bookmark(self) -> None:
        if self.path not in self._bookmarks:
            self._bookmarks.insert(0, self.path)
        self.host.tell(f"bookmarked {self.path}")

    def action_copy(self) -> None:
        row = self.table.selected
        if row is not None:
            self.host.copy_line(posixpath.join(self.path, row.entry.name))

    def action_download(self) -> None:
        self.actions.download()

    def action_upload(self) -> None:
        self.actions.upload()

    def action_edit(self) -> None:
        self.actions.edit()

    def action_remove(self) -> None:
        self.actions.remove()

    def action_make_dir(self) -> None:
        self.actions.make_dir()

    def action_chmod(self) -> None:
        self.actions.chmod()


def facts(found: FileStat) -> list[tuple[str, str]]:
    """What stat tells, for people."""
    entry = found.entry
    pairs = [
        ("kind", entry.kind),
        (
            "mode",
            f"{mode_text(entry.kind, entry.mode)} ({entry.mode:04o})" if entry.mode is not None else "-",
        ),
        ("owner", f"{entry.uid}:{entry.gid}"),
        ("size", size(entry.size_bytes)),
        ("modified", (rfc3339(entry.mtime_ns / 1e9) if entry.mtime_ns is not None else None) or "-"),
    ]
    if entry.link_target is not None:
        pairs += [
            ("leads to", entry.link_target),
            ("that is", found.resolved or "nothing that can be reached"),
        ]
    if entry.error:
        pairs.append(("problem", entry.error))
    return pairs
