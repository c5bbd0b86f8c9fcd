"""Logs: all containers of a pod merged by time with its events, followed, searched, saved."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from typing import ClassVar, Optional

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from kdebug.errors import KdebugError, from_os_error
from kdebug.tui.dialog import Ask, Choice
from kdebug.tui.log_reader import LogReader
from kdebug.tui.log_view import CLOCKS, LogView
from kdebug.tui.log_window import LogRow
from kdebug.tui.pane import Pane
from kdebug.tui.session import Session
from kdebug.tui.text import plain
from kdebug.tui.work import start
from kdebug.units import size

EVERYONE = "all containers"
NAMES_SHOWN = 3


class LogsPane(Pane):
    title = "Logs"
    hint = "f follow  p previous  c container  e events  t times  w wrap  S save"
    filter_words = "search: n and N go on; Enter keeps it, Esc ends it"
    DEFAULT_CSS = """
    LogsPane #head { height: 1; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "follow", "Follow the log, or stop"),
        Binding("p", "previous", "The previous instance, or this one"),
        Binding("c", "container", "Choose the container"),
        Binding("e", "events", "Show or hide the pod's events"),
        Binding("t", "clock", "Times: off, UTC, local"),
        Binding("w", "wrap", "Wrap long lines"),
        Binding("n", "find(-1)", "Find the next, upwards"),
        Binding("N", "find(1)", "Find the next, downwards"),
        Binding("y", "copy", "Copy the found line, or the last one"),
        Binding("S", "save", "Save the window to a file"),
        Binding("escape", "back", "End the search", show=False),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.reader = LogReader(session, self._changed)
        self._events = True
        self._hits = 0, 0
        """Which found line the search stands on, of how many."""

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield LogView()
        yield self.notice

    @property
    def view(self) -> LogView:
        return self.query_one(LogView)

    def on_mount(self) -> None:
        self.set_interval(1.0, self._recount)

    def may_load(self) -> bool:
        """Also without an attach: that is when logs are needed most."""
        return self.session.cluster is not None and self.session.pod is not None

    async def load(self) -> Optional[float]:
        self.view.names = len(self.reader.containers) > 1
        await self.reader.run()
        return None

    def _restart(self) -> None:
        self.view.show([])
        self.view.follow(True)
        self.stop()
        self.start()

    def action_reload(self) -> None:
        self.stop()
        self.start()

    def show_container(self, container: str, previous: bool = False) -> None:
        """Only this one's log, or everybody's where there is none of the name."""
        pod = self.session.pod
        known = pod is not None and container in pod.containers
        self.reader.begin((container,) if known else (), previous)
        self._restart()

    # What is shown

    def _changed(self) -> None:
        if not self.query(LogView):
            return  # taken away already
        rows = self.reader.window.rows
        self.view.show(list(rows) if self._events else [row for row in rows if row.event is None])
        problems = [f"{what}: {why}" for what, why in sorted(self.reader.problems.items())]
        self.notice.tell("✗ " + "; ".join(problems) if problems else "", mild=True)
        self._head()

    def _recount(self) -> None:
        if self.seen and self.query(LogView):
            self._hits = self.view.hits()
            self._head()

    def _head(self) -> None:
        if not self.seen or not self.query("#head"):
            return
        reader, view, window = self.reader, self.view, self.reader.window
        names = list(reader.containers)
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        parts = [", ".join(names[:NAMES_SHOWN]) + more]
        if view.needle:
            at, count = self._hits
            parts.append(f"found {at} of {count:,}" if count else "nothing found")
        parts += ["previous instance"] if reader.previous else []
        parts.append("following" if view.following else self._paused())
        dropped = f" ({window.dropped:,} older dropped)" if window.dropped else ""
        parts.append(f"{len(view.rows):,} lines{dropped}")
        parts += ["no events"] if not self._events else []
        parts += [f"times {self._zone()}"] if view.clock != "off" else []
        text = Text(" ", end="")
        self.query_one("#head", Static).update(text.append_text(plain("  ·  ".join(parts))))

    def _paused(self) -> str:
        return "stopped, the window is full" if self.reader.window.full else "not following"

    def _zone(self) -> str:
        return "UTC" if self.view.clock == "UTC" else f"local ({time.strftime('%Z')})"

    @on(LogView.Moved)
    def _moved(self) -> None:
        # Who reads must not have the lines taken away; who follows wants the newest.
        if self.view.following:
            self.reader.may_drop.set()
        else:
            self.reader.may_drop.clear()
        self._head()

    @on(LogView.AtTop)
    def _at_top(self) -> None:
        if self.may_load():
            start(self, "older", self._load_older)

    async def _load_older(self) -> None:
        with self.session.waiting("older lines"):
            told = await self.reader.load_older()
        if told:
            self.host.tell(told)

    # Search

    @property
    def needle(self) -> str:
        return self.view.needle

    def filter(self, needle: str) -> None:
        self.view.search(needle)
        self._recount()

    def action_find(self, direction: int) -> None:
        if not self.view.find(direction):
            self.host.tell(
                f"{self.view.needle} is not in these lines" if self.view.needle else "/ searches"
            )
        self._head()

    def action_back(self) -> None:
        if self.view.needle:
            self.filter("")

    # Keys

    def action_follow(self) -> None:
        self.view.follow(not self.view.following)

    def action_previous(self) -> None:
        self.reader.begin(self.reader.chosen, not self.reader.previous)
        self._restart()

    def action_container(self) -> None:
        pod = self.session.pod
        if pod is None:
            return

        def chosen(name: Optional[str]) -> None:
            if name is not None:
                self.reader.begin(() if name == EVERYONE else (name,), self.reader.previous)
                self._restart()

        self.app.push_screen(Choice("Logs of", [EVERYONE, *pod.containers]), chosen)

    def action_events(self) -> None:
        self._events = not self._events
        self._changed()

    def action_clock(self) -> None:
        self.view.clock = CLOCKS[(CLOCKS.index(self.view.clock) + 1) % len(CLOCKS)]
        self.view.lay_out()
        self._head()

    def action_wrap(self) -> None:
        self.view.toggle_wrap()

    def action_copy(self) -> None:
        row = self.view.hit or (self.view.rows[-1] if self.view.rows else None)
        if row is not None:
            self.host.copy_line(row.shown)

    def action_save(self) -> None:
        pod = self.session.pod
        rows = list(self.view.rows)
        name = f"{pod.name if pod else 'pod'}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.log"

        def answered(path: Optional[str]) -> None:
            if path:
                start(self, "save", self._save, path, rows)

        self.app.push_screen(Ask(f"Save {len(rows):,} lines to", name), answered)

    async def _save(self, path: str, rows: Sequence[LogRow]) -> None:
        try:
            written = await asyncio.to_thread(save, os.path.expanduser(path), rows)
        except KdebugError as error:
            self.host.tell(f"✗ {error}")
            return
        self.host.tell(f"{len(rows):,} lines ({size(written)}) are in {path}")


def save(path: str, rows: Sequence[LogRow]) -> int:
    """Into a new file that only its owner may read: time, container, and the line as it was written.

    Returns its size in bytes. Raises `Failed` or `AccessDenied`; an existing file is never touched.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(path, flags, 0o600), "wb") as file:
            for row in rows:
                cut = f" (and {row.cut} more bytes)".encode() if row.cut else b""
                file.write(f"{row.at or '-'} {row.container} ".encode() + row.text + cut + b"\n")
            return file.tell()
    except FileExistsError as error:
        raise from_os_error(error, f"{path} is there already", "choose another name") from error
    except OSError as error:
        raise from_os_error(error, f"{path} cannot be written") from error
