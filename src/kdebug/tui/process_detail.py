"""One process in full: a summary, and its descriptors, environment, limits, mappings, sockets, threads.

Each section is read when it is looked at, and again on `r`; those that move also with the process table.
The environment is masked as the command line masks it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Optional

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Static

from kdebug.errors import KdebugError
from kdebug.mask import looks_secret
from kdebug.protocol.network import Socket
from kdebug.protocol.processes import (
    EnvVar,
    FdInfo,
    LimitInfo,
    MapInfo,
    Process,
    ProcessDetail,
    ThreadInfo,
)
from kdebug.target import Target
from kdebug.tui.pane import Notice, labelled
from kdebug.tui.session import Session
from kdebug.tui.table import Cell, Column, LineTable
from kdebug.tui.theme import BAD, DIM, PLAIN, WARN
from kdebug.tui.work import start
from kdebug.units import duration, rfc3339, size

MASK = "••••••••"
NEARLY = 0.8
"""Of a limit: worth a colour and a mark."""


def _maybe(value: Optional[object]) -> Cell:
    return ("-", DIM) if value is None else (str(value), PLAIN)


FDS: list[Column[FdInfo]] = [
    Column("fd", "FD", 5, lambda f: (str(f.fd), PLAIN), lambda f: f.fd, right=True),
    Column("kind", "KIND", 7, lambda f: (f.kind, PLAIN), lambda f: f.kind),
    Column("mode", "MODE", 4, lambda f: _maybe(f.access)),
    Column(
        "size", "SIZE", 8, lambda f: (size(f.size_bytes), PLAIN), lambda f: f.size_bytes or -1, True, True
    ),
    Column("position", "POS", 8, lambda f: (size(f.position), DIM), right=True, optional=1),
    Column("target", "TARGET", 0, lambda f: _fd_target(f), lambda f: f.target or ""),
]
MAPS: list[Column[MapInfo]] = [
    Column("start", "ADDRESS", 13, lambda m: (f"{m.start:012x}", DIM), lambda m: m.start),
    Column(
        "size", "SIZE", 8, lambda m: (size(m.end - m.start), PLAIN), lambda m: m.end - m.start, True, True
    ),
    Column("perm", "PERM", 4, lambda m: (m.permissions, WARN if "wx" in m.permissions else PLAIN)),
    Column("path", "PATH", 0, lambda m: _map_path(m), lambda m: m.path or ""),
]
LIMITS: list[Column[LimitInfo]] = [
    Column("name", "LIMIT", 22, lambda item: (item.name, PLAIN), lambda item: item.name),
    Column("used", "USED", 12, lambda item: _used(item), lambda item: item.used or -1, True, True),
    Column("soft", "SOFT", 14, lambda item: (_bound(item.soft), PLAIN), right=True),
    Column("hard", "HARD", 14, lambda item: (_bound(item.hard), DIM), right=True, optional=1),
    Column("unit", "UNIT", 0, lambda item: (item.unit, DIM)),
]
THREADS: list[Column[ThreadInfo]] = [
    Column("tid", "TID", 8, lambda t: (str(t.tid), PLAIN), lambda t: t.tid, right=True),
    Column("state", "S", 1, lambda t: (t.state, PLAIN), lambda t: t.state),
    Column(
        "time", "TIME", 9, lambda t: (duration(t.cpu_seconds), PLAIN), lambda t: t.cpu_seconds, True, True
    ),
    Column("name", "NAME", 0, lambda t: (t.name, PLAIN), lambda t: t.name),
]
SOCKETS: list[Column[Socket]] = [
    Column("type", "TYPE", 6, lambda s: (s.type, PLAIN), lambda s: s.type),
    Column("state", "STATE", 11, lambda s: (s.state, socket_style(s)), lambda s: s.state),
    Column("local", "LOCAL", 24, lambda s: (s.local, PLAIN), lambda s: s.local),
    Column("remote", "REMOTE", 0, lambda s: (s.remote, PLAIN), lambda s: s.remote),
]


def socket_style(entry: Socket) -> str:
    return BAD if entry.state == "CLOSE-WAIT" else DIM if entry.state == "TIME-WAIT" else PLAIN


def _fd_target(item: FdInfo) -> Cell:
    if item.error:
        return item.error, DIM
    return item.target or "-", (BAD if item.deleted and item.kind == "file" else PLAIN)


def _map_path(item: MapInfo) -> Cell:
    return (item.path or "") + (" (deleted)" if item.deleted else ""), (WARN if item.deleted else PLAIN)


def _bound(value: Optional[int]) -> str:
    return "unlimited" if value is None else str(value)


def _used(item: LimitInfo) -> Cell:
    if item.used is None:
        return "-", DIM
    near = item.soft is not None and item.soft > 0 and item.used >= NEARLY * item.soft
    return f"{item.used}{' !' if near else ''}", (BAD if near else PLAIN)


class EnvTable(LineTable[EnvVar]):
    """Values that look secret are hidden until they are asked for, one look at a time."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("v", "reveal", "Show or hide secret values")]

    def __init__(self) -> None:
        self._revealed = False
        columns: list[Column[EnvVar]] = [
            Column("name", "NAME", 28, lambda e: (e.name, PLAIN), lambda e: e.name),
            Column("value", "VALUE", 0, self._value),
        ]
        super().__init__(
            columns, lambda e: (e.name, e.value), sort="name", id="env", empty="no variables",
            search=lambda e: e.name.casefold(),
        )  # fmt: skip

    def _value(self, entry: EnvVar) -> Cell:
        if entry.value and not self._revealed and looks_secret(entry.name, entry.value):
            return MASK, DIM
        return entry.value or "", PLAIN

    def action_reveal(self) -> None:
        self._revealed = not self._revealed
        self.refresh()

    def show_hidden(self) -> None:
        self._revealed = False


async def _sockets(target: Target, pid: int) -> list[Socket]:
    return [entry for entry in (await target.sockets()).items if entry.pids and pid in entry.pids]


AT_REST = ("env", "maps")
"""Sections that stay as they are, or are long: read when they are looked at, and when it is asked for."""
SECTIONS = ("summary", "fds", "env", "limits", "maps", "sockets", "threads")


class ProcessDetailView(Widget):
    DEFAULT_CSS = """
    ProcessDetailView { layout: vertical; }
    ProcessDetailView > #sections { height: 1; background: $surface; }
    ProcessDetailView ContentSwitcher { height: 1fr; }
    ProcessDetailView VerticalScroll { height: 1fr; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,l", "section(1)", "Next section of the details", show=False),
        Binding("left,h", "section(-1)", "Previous section of the details", show=False),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.process: Optional[Process] = None
        self.section = "summary"
        self._threads: tuple[ThreadInfo, ...] = ()

    def compose(self) -> ComposeResult:
        yield Static(id="sections")
        with ContentSwitcher(initial="summary"):
            with VerticalScroll(id="summary", can_focus=True):
                yield Static(id="summary-text")
            yield LineTable(FDS, lambda f: f.fd, sort="fd", id="fds", empty="no open descriptors")
            yield EnvTable()
            yield LineTable(LIMITS, lambda item: item.name, id="limits", empty="no limits")
            yield LineTable(MAPS, lambda m: m.start, sort="start", id="maps", empty="no mappings")
            yield LineTable(
                SOCKETS, lambda s: (s.type, s.local, s.remote, s.inode), id="sockets", empty="no sockets"
            )
            yield LineTable(THREADS, lambda t: t.tid, sort="tid", id="threads", empty="no threads")
        yield Notice()

    def show_process(self, process: Process) -> None:
        """Another process, or the same with newer numbers."""
        before = self.process
        self.process = process
        if before is None or (before.pid, before.start_ticks) != (process.pid, process.start_ticks):
            self.query_one(EnvTable).show_hidden()
            self._load()

    def action_section(self, step: int) -> None:
        index = (SECTIONS.index(self.section) + step) % len(SECTIONS)
        within = self.has_focus_within
        self.show_section(SECTIONS[index])
        if within:
            self.focus_section()

    def focus_section(self) -> None:
        self.query_one(f"#{self.section}").focus()

    def show_section(self, name: str) -> None:
        self.section = name
        self.query_one(ContentSwitcher).current = name
        self._load()

    @property
    def rows_in_sight(self) -> list[Any]:
        """What can be seen of the section in front; the summary lists nothing."""
        tables = self.query(f"#{self.section}").results(LineTable)
        return next((table.rows_in_sight for table in tables), [])

    def reload(self) -> None:
        self._load()

    def refresh_moving(self) -> None:
        """With each pass of the table, where the section is one that moves: reading the others costs the
        target, and they are read again on `r`."""
        if self.section not in AT_REST:
            self._load()

    def _titles(self) -> None:
        process = self.process
        text = Text(" ", end="")
        for name in SECTIONS:
            text.append(f" {name} ", "bold reverse" if name == self.section else "")
        if process is not None:
            text.append(f"  {process.pid} ", "bold")
        text.append(" [ ] to switch", "dim")
        self.query_one("#sections", Static).update(text)

    def _load(self) -> None:
        self._titles()
        if self.process is not None:
            start(self, "detail", self._load_section)

    async def _load_section(self) -> None:
        process, name = self.process, self.section
        assert process is not None
        notice = self.query_one(Notice)
        try:
            shown = await self.session.ask(f"{name} of {process.pid}", self._question(process, name))
        except KdebugError as error:
            notice.fail(error)
            return
        notice.fail(None)
        if name == "summary":
            self._show_summary(shown)
        else:
            self.query_one(f"#{name}", LineTable).show(shown)

    def _question(self, process: Process, name: str) -> Callable[[Target], Awaitable[Any]]:
        async def items(answer: Awaitable[Any]) -> Any:
            return (await answer).items

        async def threads(target: Target) -> Any:
            return (await target.process(process.pid, process.start_ticks)).threads

        questions: dict[str, Callable[[Target], Awaitable[Any]]] = {
            "summary": lambda target: target.process(process.pid, process.start_ticks),
            "fds": lambda target: items(target.fds(process.pid)),
            "env": lambda target: items(target.environ(process.pid)),
            "limits": lambda target: items(target.limits(process.pid)),
            "maps": lambda target: items(target.maps(process.pid)),
            "sockets": lambda target: _sockets(target, process.pid),
            "threads": threads,
        }
        return questions[name]

    def _show_summary(self, detail: ProcessDetail) -> None:
        self.query_one("#summary-text", Static).update(labelled(summary(detail)))


def summary(detail: ProcessDetail) -> list[tuple[str, str]]:
    """What is known of a process, in the order in which it is asked for; reasons for what is not."""
    process, memory = detail.process, detail.memory
    capabilities = detail.capabilities
    pairs: list[tuple[str, Optional[str]]] = [
        ("command", " ".join(process.cmdline or ()) or f"[{process.name}]"),
        ("program", process.exe),
        ("started", rfc3339(process.started_at)),
        ("parent", str(process.ppid)),
        ("user", f"{_ids(detail.real_uid, process.uid)}  group {_ids(detail.real_gid, process.gid)}"),
        ("memory", _memory(detail)),
        ("swap", size(memory.swap_bytes) if memory.swap_bytes else None),
        ("cpu", f"user {duration(detail.user_seconds)}  system {duration(detail.system_seconds)}"),
        ("threads", str(process.threads)),
        ("cwd", detail.cwd),
        ("container", process.container),
        ("capabilities", None if capabilities is None else " ".join(capabilities.effective) or "none"),
        ("seccomp", detail.seccomp),
        ("no new privs", _yes(detail.no_new_privs)),
        ("dumpable", _yes(detail.dumpable)),
        ("oom score", f"{detail.oom_score} (adjusted by {detail.oom_score_adj})"),
        ("switches", f"{detail.voluntary_switches} voluntary, {detail.involuntary_switches} not"),
        ("io", None if detail.io is None else f"{size(detail.io.read_bytes)} read, "
         f"{size(detail.io.write_bytes)} written"),
        ("cgroup", " ".join(detail.cgroup)),
    ]  # fmt: skip
    known = [(name, value) for name, value in pairs if value]
    reasons = {**process.reasons, **detail.reasons}
    return known + [(f"no {name}", reason) for name, reason in sorted(reasons.items())]


def _memory(detail: ProcessDetail) -> str:
    memory = detail.memory
    parts = [f"rss {size(detail.process.rss_bytes)}"]
    for name, value in (("peak", memory.peak_rss_bytes), ("anon", memory.anonymous_bytes)):
        parts += [f"{name} {size(value)}"] if value is not None else []
    for name, value in (("pss", memory.pss_bytes), ("unique", memory.uss_bytes)):
        parts += [f"{name} {size(value)}"] if value is not None else []
    return "  ".join(parts)


def _ids(real: Optional[int], effective: Optional[int]) -> str:
    if real == effective or effective is None:
        return "-" if real is None else str(real)
    return f"{real} acting as {effective}"


def _yes(value: Optional[bool]) -> Optional[str]:
    return None if value is None else ("yes" if value else "no")
