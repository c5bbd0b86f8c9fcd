"""What all tabs share: a loop that refreshes while the tab is seen, and the place for what went wrong.

A tab that is not seen asks nothing: every question costs the target's CPU. While the connection is lost
nobody asks either; the session itself finds the toolbox again, and the loop goes on then.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar, Optional, cast

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Static

from kdebug.errors import KdebugError
from kdebug.process_model import INTERVAL_SECONDS as INTERVAL_SECONDS
from kdebug.tui.session import Session, State
from kdebug.tui.text import plain
from kdebug.tui.work import start

if TYPE_CHECKING:
    from kdebug.tui.app import KdebugApp

RETRY_SECONDS = 5.0
"""After something else than the connection failed: it may be a passing thing."""


class Notice(Static):
    """One or two lines in place: what failed, why, and that `r` tries again. Gone when it works."""

    DEFAULT_CSS = """
    Notice { height: auto; max-height: 4; padding: 0 1; background: $panel; color: $error; display: none; }
    Notice.told { display: block; }
    Notice.mild { color: $warning; }
    """

    _told = ""

    def tell(self, text: str, mild: bool = False) -> None:
        self.set_class(bool(text), "told")
        if text == self._told:
            return  # what is told anew is laid out anew, and the whole screen with it
        self._told = text
        self.set_class(mild, "mild")
        self.update(plain(text))

    def fail(self, error: Optional[KdebugError]) -> None:
        self.tell(f"✗ {error}  [r] try again" if error is not None else "")


class Pane(Widget):
    """One tab of a session. Subclasses compose widgets and say in `load` how these get their data."""

    DEFAULT_CSS = """
    Pane { height: 1fr; layout: vertical; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("r", "reload", "Refresh now")]
    title: ClassVar[str] = ""
    hint: ClassVar[str] = ""
    """The keys that matter most here, for the status line."""

    filter_words: ClassVar[str] = "filter: words that must all be there; Enter keeps it, Esc ends it"
    """What `/` does here, for its empty field."""

    def __init__(self, session: Session) -> None:
        super().__init__(id=self.title.lower())
        self.session = session
        self.notice = Notice(id="notice")
        self._wake = asyncio.Event()
        self.seen = False

    @property
    def host(self) -> KdebugApp:
        return cast("KdebugApp", self.app)

    async def load(self) -> Optional[float]:
        """Ask and show; returns the seconds until the next time, None for "only when asked".
        Raises `KdebugError`, which is then shown in place."""
        return None

    @property
    def needle(self) -> str:
        """The filter in use."""
        return ""

    def filter(self, needle: str) -> None:
        """Show only what holds `needle`."""

    def session_changed(self) -> None:
        """The connection stands otherwise than before. Go on at once when it is there (again)."""
        if self.may_load():
            self.wake()

    def start(self) -> None:
        """It is seen now."""
        if not self.seen:
            self.seen = True
            start(self, "refresh", self._loop)

    def stop(self) -> None:
        self.seen = False
        self.workers.cancel_group(self, "refresh")

    def wake(self) -> None:
        """Do not wait any longer."""
        self._wake.set()

    def action_reload(self) -> None:
        self.wake()

    def focus_first(self) -> None:
        """Put the focus where the keys of this tab work."""
        for widget in self.query("*"):
            if widget.focusable:
                self.screen.set_focus(widget)
                return

    async def _loop(self) -> None:
        while True:
            self._wake.clear()
            await self._wait(await self._load_once())

    async def _load_once(self) -> Optional[float]:
        if not self.may_load():
            return None
        try:
            pause = await self.load()
        except KdebugError as error:
            # A lost connection has its own banner, and what was read stays.
            lost = self.session.state in (State.LOST, State.ENDED)
            self.notice.fail(None if lost else error)
            return RETRY_SECONDS
        self.notice.fail(None)
        return pause

    def may_load(self) -> bool:
        return self.session.state is State.LIVE

    async def _wait(self, seconds: Optional[float]) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except asyncio.TimeoutError:
            pass


def labelled(pairs: list[tuple[str, str]]) -> Text:
    """`name value` lines with the names in bold."""
    text = Text()
    width = max((len(name) for name, _ in pairs), default=0)
    for index, (name, value) in enumerate(pairs):
        text.append("\n" if index else "")
        text.append(f"{name.ljust(width)}  ", "bold")
        text.append_text(plain(value))
    return text
