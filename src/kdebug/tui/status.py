"""The last line: what is loading and for how long, or the keys that matter here."""

from __future__ import annotations

from rich.text import Text
from textual.widget import Widget

from kdebug.tui.session import Session
from kdebug.tui.text import plain

SHOWN_AFTER_SECONDS = 0.3
"""What answers sooner is not worth a flicker."""
TELL_SECONDS = 6.0
"""How long a message stays."""


class StatusLine(Widget):
    """`tell` puts a message there for a while."""

    DEFAULT_CSS = """
    StatusLine { height: 1; background: $panel; color: $foreground; }
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.hint = ""
        self._message = ""
        self._serial = 0

    def on_mount(self) -> None:
        self.set_interval(0.25, self._tick)

    def _tick(self) -> None:
        if self.session.pending or self._was_loading:
            self.refresh()

    _was_loading = False

    def tell(self, message: str) -> None:
        self._message = message
        self._serial += 1
        serial = self._serial
        self.set_timer(TELL_SECONDS, lambda: self._forget(serial))
        self.refresh()

    def _forget(self, serial: int) -> None:
        if serial == self._serial:
            self._message = ""
            self.refresh()

    def render(self) -> Text:
        what, seconds = self.session.waiting_for()
        self._was_loading = seconds > SHOWN_AFTER_SECONDS
        if self._message:
            left = plain(f" {self._message}")
        elif self._was_loading:
            left = plain(f" loading {what} … {seconds:.1f} s")
        else:
            left = plain(f" {self.hint}")
        right = Text("/ filter  : commands  ? keys  q leave ", end="")
        room = self.size.width - right.cell_len
        if room < 20 or self._message:
            right, room = Text("", end=""), self.size.width
        left.truncate(max(0, room - 1), overflow="ellipsis")
        left.append(" " * max(0, room - left.cell_len))
        return left.append_text(right)
