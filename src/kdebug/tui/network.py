"""Network: the sockets of the target's network namespace with their owners, live; interfaces behind `i`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar, Optional, cast

from rich.text import Text
from textual import on
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.widgets import ContentSwitcher, Static

from kdebug.protocol.network import SocketPage
from kdebug.tui.dialog import Choice
from kdebug.tui.lines import draw
from kdebug.tui.network_config import Sample, Samples, config_lines
from kdebug.tui.network_detail import ConnectionView
from kdebug.tui.network_rows import (
    COLUMNS,
    LISTENING,
    LOUD,
    Names,
    SocketModel,
    SocketRow,
    search_text,
    state_style,
)
from kdebug.tui.pane import Pane
from kdebug.tui.processes import ProcessesPane
from kdebug.tui.session import Session
from kdebug.tui.table import LineTable
from kdebug.tui.text import plain
from kdebug.tui.theme import DIM, WARN, styles

if TYPE_CHECKING:
    from kdebug.tui.screen import SessionScreen

INTERVAL_SECONDS = 3.0
COST_FACTOR = 10
"""Sockets are joined by reading everybody's descriptors: looking takes at most a tenth of the time."""
LONGEST_SECONDS = 60.0
NAMES_SECONDS = 15.0
"""A PID may be given to another process: the names are looked at anew after this long."""
EVERY_STATE = "every state"


class NetworkPane(Pane):
    title = "Network"
    hint = "enter details  s state  l listeners  u unix  i interfaces"
    DEFAULT_CSS = """
    NetworkPane #network-summary { height: 1; background: $surface; padding: 0 1; }
    NetworkPane #network-views { height: 1fr; }
    NetworkPane #split { layout: vertical; height: 1fr; }
    NetworkPane ConnectionView { display: none; height: 1fr; border-top: solid $primary; }
    NetworkPane.detailed ConnectionView { display: block; }
    NetworkPane.wide #split { layout: horizontal; }
    NetworkPane.wide ConnectionView { border-top: none; border-left: solid $primary;
        width: 64; height: 1fr; }
    NetworkPane #config { height: 1fr; padding: 0 1; }
    NetworkPane #config-text { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "state", "Show one state only"),
        Binding("l", "listeners", "Show listeners only, or all"),
        Binding("u", "unix", "Show unix sockets too, or not"),
        Binding("i", "interfaces", "Interfaces, routes and resolver, or sockets"),
        Binding("o", "owner", "Go to the process that holds the socket"),
        Binding("p", "sort('local')", "Sort by local port"),
        Binding("Q", "sort('rx')", "Sort by receive queue"),
        Binding("y", "copy", "Copy the connection"),
        Binding("escape", "back", "Close the details", show=False),
    ]
    WIDE = 150

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.model = SocketModel()
        self.state_shown = ""
        """"" for every state."""
        self._listeners = False
        self._unix = False
        self._names = Names()
        self._names_at = 0.0
        self._page: Optional[SocketPage] = None
        self._pause = INTERVAL_SECONDS
        self._samples: Optional[Samples] = None
        self._config_needle = ""
        self._generation = -1
        self._ended = False
        """The connection in the details has just gone: the cursor's next move is not the user's."""

    def compose(self) -> ComposeResult:
        yield Static(id="network-summary")
        with ContentSwitcher(initial="split", id="network-views"):
            with Container(id="split"):
                yield LineTable(
                    COLUMNS, lambda row: row.key, sort="state", id="sockets-table",
                    empty="no sockets", search=search_text,
                )  # fmt: skip
                yield ConnectionView(self.session, self._names)
            with VerticalScroll(id="config", can_focus=True):
                yield Static(id="config-text")
        yield self.notice

    @property
    def table(self) -> LineTable[SocketRow]:
        return self.query_one("#sockets-table", LineTable)

    @property
    def connection(self) -> ConnectionView:
        return self.query_one(ConnectionView)

    @property
    def shows_interfaces(self) -> bool:
        return self.query_one("#network-views", ContentSwitcher).current == "config"

    def focus_first(self) -> None:
        self.screen.set_focus(self.query_one("#config") if self.shows_interfaces else self.table)

    def on_resize(self) -> None:
        self.set_class(self.size.width >= self.WIDE, "wide")
        self._show_config()

    # Asking

    async def load(self) -> Optional[float]:
        if self._generation != self.session.generation:
            self._generation = self.session.generation
            self._names_at, self._samples = 0.0, None
        return await (self._load_config() if self.shows_interfaces else self._load_sockets())

    async def _load_sockets(self) -> float:
        families = ("inet", "inet6", "unix") if self._unix else ("inet", "inet6")
        began = time.monotonic()
        page = await self.session.ask("the sockets", lambda target: target.sockets(families))
        took = time.monotonic() - began
        now = time.monotonic()
        if self._names.unknown(page.items) or now - self._names_at > NAMES_SECONDS:
            await self._load_names()
        self.model.apply(page.items, self._names, now)
        self._page, self._pause = page, min(LONGEST_SECONDS, max(INTERVAL_SECONDS, COST_FACTOR * took))
        self._show()
        return self._pause

    async def _load_names(self) -> None:
        model = await self.session.look()
        self._names.take(row.process for row in model.rows.values())
        self._names_at = time.monotonic()

    async def _load_config(self) -> float:
        config = await self.session.ask("the interfaces", lambda target: target.network())
        sample = Sample(time.monotonic(), config)
        self._samples = self._samples.then(sample) if self._samples else Samples(sample)
        self._show_config()
        return INTERVAL_SECONDS

    # Showing

    def _show(self) -> None:
        rows = self.model.rows
        key = self.connection.key
        if key is not None:
            # Its row goes, the cursor moves on, and what is told about it stays until somebody moves.
            self._ended = self.connection.exists and key not in rows and self.has_class("detailed")
            self.connection.update(rows.get(key))
        self.table.show(row for row in rows.values() if self._wanted(row))
        self._show_summary()

    def _wanted(self, row: SocketRow) -> bool:
        state = row.entry.state
        if self.state_shown and state != self.state_shown:
            return False
        return not self._listeners or state in LISTENING

    def _show_summary(self) -> None:
        self.query_one("#network-summary", Static).update(self._summary())

    def _summary(self) -> Text:
        looks = styles(self.app.theme_variables)
        if self.shows_interfaces:
            return Text("interfaces, routes, resolver and counters   [i] sockets", looks[DIM], end="")
        count = len(self.model.rows)
        text = plain(f"{count} socket{'' if count == 1 else 's'} ")
        for state, count in self.model.states().items():
            mark = LOUD if state == "CLOSE-WAIT" else ""
            text.append_text(plain(f" {count} {state}{mark} "))
            text.stylize(looks[state_style(state)], len(text) - len(f" {count} {state}{mark} "))
        for what in self._restrictions():
            text.append(f" {what} ", looks[WARN])
        if self._pause > INTERVAL_SECONDS:
            text.append(f" every {self._pause:.0f} s ", looks[DIM])
        page = self._page
        if page is not None and page.unread_processes:
            text.append(f" owners of {page.unread_processes} processes unknown ", looks[WARN])
        return text

    def _restrictions(self) -> list[str]:
        shown = [f"only {self.state_shown}"] if self.state_shown else []
        shown += ["only listeners"] if self._listeners else []
        return shown + ([f"filter: {self.table.needle}"] if self.table.needle else [])

    def _show_config(self) -> None:
        if self._samples is None:
            return
        width = max(1, self.size.width - 4)
        lines = config_lines(self._samples, width, self._config_needle)
        text = draw(lines, styles(self.app.theme_variables), width)
        self.query_one("#config-text", Static).update(text)

    # Filters

    @property
    def needle(self) -> str:
        return self._config_needle if self.shows_interfaces else self.table.needle

    def filter(self, needle: str) -> None:
        if self.shows_interfaces:
            self._config_needle = needle
            self._show_config()
        else:
            self.table.filter(needle)
            self._show_summary()

    def action_state(self) -> None:
        if self.shows_interfaces:
            return
        options = {f"{state} ({count})": state for state, count in self.model.states().items()}
        options = {EVERY_STATE: "", **options}

        def chosen(option: Optional[str]) -> None:
            if option is not None:
                self.show_state(options[option])

        self.app.push_screen(Choice("Show sockets in", options), chosen)

    def show_state(self, state: str) -> None:
        """Only sockets in one state; "" for all."""
        self.state_shown = state
        self._show()

    def action_listeners(self) -> None:
        self._listeners = not self._listeners
        self._show()

    def action_unix(self) -> None:
        self._unix = not self._unix
        self.host.tell("unix sockets too" if self._unix else "without unix sockets")
        self.wake()

    def action_interfaces(self) -> None:
        current = "split" if self.shows_interfaces else "config"
        self.query_one("#network-views", ContentSwitcher).current = current
        self._show_summary()
        self.focus_first()
        self.wake()

    def action_sort(self, name: str) -> None:
        self.table.sort_by(name)

    # One connection

    @on(LineTable.Chosen, "#sockets-table")
    def _chosen(self, event: LineTable.Chosen) -> None:
        again = self.has_class("detailed")
        self.add_class("detailed")
        self.connection.open(event.row)
        if again:
            self.connection.focus()

    @on(LineTable.Highlighted, "#sockets-table")
    def _highlighted(self, event: LineTable.Highlighted) -> None:
        ended, self._ended = self._ended, False
        if self.has_class("detailed") and event.row is not None and not ended:
            self.connection.open(event.row)

    async def action_owner(self) -> None:
        row = self.table.selected
        pids = row.entry.pids if row is not None and not self.shows_interfaces else None
        if not pids:
            self.host.tell("no process is known to hold it")
        elif len(pids) == 1:
            await self._go_to(pids[0])
        else:
            owners = {self._label(pid): pid for pid in pids}

            async def chosen(option: Optional[str]) -> None:
                if option is not None:
                    await self._go_to(owners[option])

            self.app.push_screen(Choice("Go to the process", owners), chosen)

    def _label(self, pid: int) -> str:
        process = self._names.process(pid)
        return f"{pid} {process.name}" if process else str(pid)

    async def _go_to(self, pid: int) -> None:
        pane = await cast("SessionScreen", self.screen).show_pane(ProcessesPane)
        if pane is not None:
            pane.show_process(pid)

    def action_copy(self) -> None:
        row = self.table.selected
        if row is not None:
            self.host.copy_line(f"{row.entry.local} {row.entry.remote} {row.entry.state} {row.owner}")

    def action_back(self) -> None:
        if self.shows_interfaces:
            self.action_interfaces()
        elif self.has_class("detailed"):
            if not self.connection.has_focus:
                self.remove_class("detailed")
            self.table.focus()
        elif self.table.needle or self.state_shown or self._listeners:
            self.state_shown, self._listeners = "", False
            self.table.filter("")
            self._show()
        else:
            raise SkipAction
