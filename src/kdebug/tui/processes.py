"""Processes: a live table or tree, CPU% from two samples, and one process in full beside it."""

from __future__ import annotations

import signal as signals
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Optional

from textual import on
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container

from kdebug.errors import KdebugError
from kdebug.protocol.processes import Process, ProcessPage
from kdebug.target import Target
from kdebug.tui.dialog import Choice, Confirm
from kdebug.tui.pane import INTERVAL_SECONDS, Pane
from kdebug.tui.process_detail import ProcessDetailView
from kdebug.tui.session import Session
from kdebug.tui.table import Cell, Column, LineTable
from kdebug.tui.theme import ACCENT, BAD, DIM, PLAIN, WARN
from kdebug.tui.work import start
from kdebug.units import duration, size

ProcessKey = tuple[int, int]
"""(pid, start_ticks): a PID that was given to another process is another row."""
BUSY_PERCENT = 80.0
STATES = {"D": WARN, "Z": BAD, "T": WARN, "t": WARN, "X": BAD, "R": ACCENT}


@dataclass(frozen=True)
class ProcessRow:
    process: Process
    cpu_percent: Optional[float]
    """Share of one core between the last two looks; None at the first one."""
    branch: str = ""
    """What a tree draws before the command."""
    ours: bool = False
    """A process of kdebug's own toolbox."""

    @property
    def key(self) -> ProcessKey:
        return self.process.pid, self.process.start_ticks

    @property
    def command(self) -> str:
        """As ps writes it: the command line, or the name in brackets where there is none."""
        process = self.process
        if process.cmdline:
            return " ".join(process.cmdline)
        return f"[{process.name}]"


class ProcessModel:
    """The process table kept up to date by deltas."""

    def __init__(self) -> None:
        self.rows: dict[ProcessKey, ProcessRow] = {}
        self._page: Optional[ProcessPage] = None

    @property
    def since(self) -> int:
        return self._page.generation if self._page else 0

    def forget(self) -> None:
        """Another agent counts its passes anew."""
        self._page = None

    def apply(self, page: ProcessPage, own_container: Optional[str]) -> None:
        """Take in one answer to `ListProcesses(since=self.since)`."""
        before = self._page
        elapsed = page.taken_at - before.taken_at if before else 0.0
        old = self.rows
        kept = {} if page.full else {key: _idle(row) for key, row in old.items()}
        for process in page.items:
            key = (process.pid, process.start_ticks)
            percent = _percent(old.get(key), process, elapsed)
            ours = own_container is not None and process.container == own_container
            kept[key] = ProcessRow(process, percent, ours=ours)
        for key in page.gone:
            kept.pop((key[0], key[1]), None)
        self.rows, self._page = kept, page

    @property
    def pause(self) -> float:
        return max(INTERVAL_SECONDS, self._page.next_after_seconds if self._page else 0.0)


def _percent(row: Optional[ProcessRow], process: Process, elapsed: float) -> Optional[float]:
    if row is None or elapsed <= 0:
        return None
    return max(0.0, 100 * (process.cpu_seconds - row.process.cpu_seconds) / elapsed)


def _idle(row: ProcessRow) -> ProcessRow:
    """A row that the delta does not name has used no CPU since."""
    return row if row.cpu_percent == 0.0 else replace(row, cpu_percent=0.0)


def tree(rows: Iterable[ProcessRow]) -> list[ProcessRow]:
    """Children below their parents, by PID; whoever's parent is not there is a root."""
    everyone = sorted(rows, key=lambda row: row.process.pid)
    pids = {row.process.pid for row in everyone}
    children: dict[int, list[ProcessRow]] = {}
    roots = []
    for row in everyone:
        parent = row.process.ppid
        if parent in pids and parent != row.process.pid:
            children.setdefault(parent, []).append(row)
        else:
            roots.append(row)
    ordered: list[ProcessRow] = []
    # A stack of our own: a chain of 10,000 children would end Python's.
    waiting = [(row, "", "") for row in reversed(roots)]
    seen: set[ProcessKey] = set()
    while waiting:
        row, lead, below = waiting.pop()
        if row.key in seen:
            continue
        seen.add(row.key)
        ordered.append(replace(row, branch=lead))
        below = below[-64:]
        offspring = children.get(row.process.pid, [])
        for index, child in reversed(list(enumerate(offspring))):
            last = index == len(offspring) - 1
            waiting.append((child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  ")))
    # Parents in a ring (a hostile agent, or a PID reused between two reads) still are shown.
    ordered += [row for row in everyone if row.key not in seen]
    return ordered


def _cpu(row: ProcessRow) -> Cell:
    if row.cpu_percent is None:
        return "-", DIM
    return f"{row.cpu_percent:.1f}", (WARN if row.cpu_percent >= BUSY_PERCENT else PLAIN)


def _command(row: ProcessRow) -> Cell:
    style = DIM if row.ours or row.process.kernel_thread else PLAIN
    return row.branch + row.command + ("  (kdebug)" if row.ours else ""), style


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
    Column("command", "COMMAND", 0, _command, lambda r: r.command),
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
        self.model = ProcessModel()
        self._tree = False
        self._generation = -1
        self._wanted: Optional[int] = None

    def compose(self) -> ComposeResult:
        yield Container(
            LineTable(
                COLUMNS, lambda row: row.key, sort="cpu", id="table", empty="no processes yet",
                search=lambda row: f"{row.process.pid} {_user(row)[0]} {row.process.name} {row.command}",
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
        if self._generation != self.session.generation:
            self._generation = self.session.generation
            self.model.forget()
        since = self.model.since
        page = await self.session.ask("the processes", lambda target: _look(target, since))
        target = self.session.target
        self.model.apply(page, target.info.agent_container if target else None)
        self._show()
        if self.has_class("detailed"):
            self.detail.reload()
        if self._wanted is not None and self.show_process(self._wanted):
            self._wanted = None
        return self.model.pause

    def _show(self) -> None:
        rows = self.model.rows.values()
        self.table.show(tree(rows) if self._tree else rows)

    @property
    def needle(self) -> str:
        return self.table.needle

    def filter(self, needle: str) -> None:
        self.table.filter(needle)

    def show_process(self, pid: int) -> bool:
        """Put the cursor on a process and open its details; where it is not there yet, once it is."""
        row = next((row for row in self.model.rows.values() if row.process.pid == pid), None)
        if row is None or not self.table.select(row.key):
            self._wanted = pid
            return False
        self._open(row)
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
            self.host.copy_line(row.command)

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


async def _look(target: Target, since: int) -> ProcessPage:
    return await target.processes(since=since)
