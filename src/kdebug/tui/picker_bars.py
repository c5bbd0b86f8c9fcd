"""The first and the last line of the picker: where one is and how fresh it is; messages, and keys."""

from __future__ import annotations

import time

from rich.text import Text
from textual.widget import Widget

from kdebug.tui.text import plain

TELL_SECONDS = 6.0
HINT = "enter attach  / filter  n namespace  0 all  c context  R recent  < > sort"
RIGHT = ": commands  ? keys  q quit "


class PickerHeader(Widget):
    """kdebug  CONTEXT › NAMESPACE   12 of 340 pods   ● watching"""

    DEFAULT_CSS = """
    PickerHeader { height: 1; background: $primary; color: $background; text-style: bold; }
    PickerHeader.lost { background: $error; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.place, self.facts = "", ""

    def show(self, place: str, facts: str, lost: bool) -> None:
        self.set_class(lost, "lost")
        if (place, facts) != (self.place, self.facts):
            self.place, self.facts = place, facts
            self.refresh()

    def render(self) -> Text:
        left = plain(f" kdebug  {self.place}")
        right = plain(f"{self.facts} ")
        room = self.size.width - right.cell_len
        left.truncate(max(0, room - 1), overflow="ellipsis")
        left.append(" " * max(1, room - left.cell_len))
        return left.append_text(right)


class PickerStatus(Widget):
    """The last line: a passing message, or the keys that matter."""

    DEFAULT_CSS = """
    PickerStatus { height: 1; background: $panel; color: $foreground; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._message, self._until = "", 0.0

    def tell(self, message: str) -> None:
        self._message, self._until = message, time.monotonic() + TELL_SECONDS
        self.set_timer(TELL_SECONDS, self.refresh)
        self.refresh()

    def render(self) -> Text:
        told = self._message if time.monotonic() < self._until - 0.05 else ""
        left, right = plain(f" {told or HINT}"), Text(RIGHT, end="")
        room = self.size.width - right.cell_len
        if room < left.cell_len + 1:
            # What is told, and what the keys do, matters more than where all keys are listed.
            right, room = Text("? keys ", end=""), self.size.width - 7
        left.truncate(max(0, room - 1), overflow="ellipsis")
        left.append(" " * max(0, room - left.cell_len))
        return left.append_text(right)
