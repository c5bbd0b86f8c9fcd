"""Processes: a live table or tree, CPU% from two samples, and one process in full beside it."""

from __future__ import annotations

import signal as signals
from collections.abc import Callable
from operator import attrgetter
from typing import Any, ClassVar, Optional

from textual import on
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container

from kdebug.errors import KdebugError
from kdebug.process_model import ProcessRow, tree
from kdebug.protocol.processes import Process
from kdebug.tui.dialog import Choice, Confirm
from kdebug.tui.pane import Pane
from kdebug.tui.process_detail import ProcessDetailView
from kdebug.tui.session import Session
from kdebug.tui.table import Cell, Column, LineTable
from kdebug.tui.theme import ACCENT, BAD, DIM, PLAIN, WARN
from kdebug.tui.work import start
from kdebug.units import duration, size

BUSY_PERCENT = 80.0
STATES = {"D": WARN, "Z": BAD, "T": WARN, "t": WARN, "X": BAD, "R": ACCENT}


def _cpu(row: ProcessRow) -> Cell:
    if row.cpu_percent is None:
        return "-", DIM
    return f"{row.cpu_percent:.1f}", (WARN if row.cpu_percent >= BUSY_PERCENT else PLAIN)


def _command(row: ProcessRow) -> Cell:
    style = DIM if row.ours or row.process.kernel_thread else PLAIN
    return row.branch + row.process.command + ("  (kdebug)" if row.ours else ""), style


def _fds(row: ProcessRow) -> Cell:
    fds = row.process.fds
    return ("-", DIM) if fds is None else (str(fds), PLAIN)


def _user(row: ProcessRow) -> Cell:
    process = row.process
    return process.user or ("-" if process.uid is None else str(process.uid)), PLAIN


def _state(row: ProcessRow) -> Cell:
    return row.process.state, STATES.get(row.process.state, DIM)


def _number(read: Callable[[Process], int | float], show: Callable[[Any], str] = str) -> dict[str, Any]:
    """A column of numbers: aligned right, largest first."""
    return {
        "cell": lambda row: (show(read(row.process)), PLAIN),
        "sort": lambda row: read(row.process),
        "descending": True,
        "right": True,
    }


COLUMNS: list[Column[ProcessRow]] = [
    Column("pid", "PID", 7, lambda r: (str(r.process.pid), PLAIN), lambda r: r.process.pid, right=True),
    Column("user", "USER", 10, _user, lambda r: _user(r)[0], optional=2),
    Column("state", "S", 1, _state, lambda r: r.process.state),
    Column("cpu", "CPU%", 6, _cpu, lambda r: r.cpu_percent or 0.0, descending=True, right=True),
    Column("rss", "RSS", 8, **_number(lambda p: p.rss_bytes, size)),
    Column("time", "TIME", 9, **_number(lambda p: p.cpu_seconds, duration), optional=3),
    Column("threads", "THR", 4, **_number(lambda p: p.threads), optional=4),
    Column("fds", "FDS", 5, _fds, lambda r: r.process.fds or -1, descending=True, right=True, optional=1),
    Column("command", "COMMAND", 0, _command, lambda r: r.process.command),
]
SIGNALS = ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "STOP", "CONT", "ABRT", "KILL")


class ProcessesPane(Pane):
    title = "Processes"
    hint = "enter details  t tree  s signal  < > sort  I reverse  space mark"
    DEFAULT_CSS = """
    ProcessesPane #split { layout: vertical; height: 1fr; }
    ProcessesPane ProcessDetailView { display: none; height: 1fr; border-top: solid $primary; }
    ProcessesPane.detailed ProcessDetailView { display: block; }
    ProcessesPane.wide #split { layout: horizontal; }
    ProcessesPane.wide ProcessDetailView { border-top: none; border-left: solid $primary; width: 1fr; }
    ProcessesPane.wide LineTable#table { width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "toggle_tree", "Tree or table"),
        Binding("s", "signal", "Send a signal to the process"),
        Binding("c", "sort('cpu')", "Sort by CPU"),
        Binding("m", "sort('rss')", "Sort by memory"),
        Binding("p", "sort('pid')", "Sort by PID"),
        Binding("y", "copy", "Copy the command line"),
        Binding("right_square_bracket", "section(1)", "Next section of the details"),
        Binding("left_square_bracket", "section(-1)", "Previous section of the details"),
        Binding("escape", "back", "Close the details", show=False),
    ]
    WIDE = 150

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.model = session.processes
        self._tree = False
        self._wanted: Optional[tuple[int, str]] = None

    def compose(self) -> ComposeResult:
        yield Container(
            LineTable(
                COLUMNS, attrgetter("key"), sort="cpu", id="table", empty="no processes yet",
                search=ProcessRow.searched,
            ),
            ProcessDetailView(self.session),
            id="split",
        )  # fmt: skip
        yield self.notice

    @property
    def table(self) -> LineTable[ProcessRow]:
        return self.query_one("#table", LineTable)

    @property
    def detail(self) -> ProcessDetailView:
        return self.query_one(ProcessDetailView)

    def on_resize(self) -> None:
        self.set_class(self.size.width >= self.WIDE, "wide")

    async def load(self) -> Optional[float]:
        try:
            await self.session.look()
        except KdebugError:
            self._show()  # of a sample that failed nothing stays from another one
            raise
        self._show()
        if self.has_class("detailed"):
            self.detail.refresh_moving()
        if self._wanted is not None and self.show_process(*self._wanted):
            self._wanted = None
        return None if self.session.recorded else self.model.pause

    def _show(self) -> None:
        rows = self.model.rows.values()
        if self.query("#table"):  # not while the screen is taken down
            self.table.show(tree(rows) if self._tree else rows)

    @property
    def needle(self) -> str:
        return self.table.needle

    def filter(self, needle: str) -> None:
        self.table.filter(needle)

    def show_process(self, pid: int, section: str = "") -> bool:
        """Put the cursor on a process and open its details; where it is not there yet, once it is."""
        row = next((row for row in self.model.rows.values() if row.process.pid == pid), None)
        if row is None or not self.table.select(row.key):
            self._wanted = pid, section
            return False
        self._open(row)
        if section:
            self.detail.show_section(section)
        return True

    @on(LineTable.Chosen, "#table")
    def _chosen(self, event: LineTable.Chosen) -> None:
        self._open(event.row)

    @on(LineTable.Highlighted, "#table")
    def _highlighted(self, event: LineTable.Highlighted) -> None:
        if self.has_class("detailed") and event.row is not None:
            self.detail.show_process(event.row.process)

    def _open(self, row: ProcessRow) -> None:
        if self.has_class("detailed"):
            self.detail.focus_section()
        self.add_class("detailed")
        self.detail.show_process(row.process)

    def action_reload(self) -> None:
        if self.has_class("detailed"):
            self.detail.reload()
        super().action_reload()

    def action_section(self, step: int) -> None:
        if self.has_class("detailed"):
            self.detail.action_section(step)

    def action_back(self) -> None:
        if self.has_class("detailed"):
            # First back to the table, then the details are closed.
            if not self.detail.has_focus_within:
                self.remove_class("detailed")
            self.table.focus()
        elif self.table.needle:
            self.table.filter("")
        else:
            raise SkipAction

    def action_toggle_tree(self) -> None:
        self._tree = not self._tree
        if self._tree:
            self.table.unsort()
            self._show()
        else:
            self._show()
            self.table.sort_by("cpu", True)

    def action_sort(self, name: str) -> None:
        if self._tree:
            self._tree = False
            self._show()
        self.table.sort_by(name)

    def action_copy(self) -> None:
        row = self.table.selected
        if row is not None:
            self.host.copy_line(row.process.command)

    def action_signal(self) -> None:
        row = self.table.selected
        if row is None:
            return
        if self.session.read_only:
            self.notice.tell("signals are refused: this session is read-only", mild=True)
            return
        process = row.process
        title = f"Signal to {process.pid} ({process.name})"

        def chosen(name: Optional[str]) -> None:
            if name is not None:
                self._confirm(process, name)

        self.app.push_screen(Choice(title, [f"SIG{name}" for name in SIGNALS]), chosen)

    def _confirm(self, process: Process, name: str) -> None:
        target = self.session.target
        first = target is not None and process.pid == target.info.pid
        warning = "It is the container's first process: its end restarts the container." if first else ""

        def answered(yes: Optional[bool]) -> None:
            if yes:
                start(self, "signal", self._send, process, name)

        self.app.push_screen(Confirm(f"Send {name} to {process.pid} ({process.name})?", warning), answered)

    async def _send(self, process: Process, name: str) -> None:
        number = int(getattr(signals, name))
        try:
            await self.session.ask(
                "the signal", lambda target: target.signal(process.pid, process.start_ticks, number)
            )
        except KdebugError as error:
            self.notice.fail(error)
            return
        self.session.did(f"sent {name} to the process {process.pid} ({process.name})")
        self.host.tell(f"{name} was sent to {process.pid}")
        self.wake()
