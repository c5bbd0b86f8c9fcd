"""`?`: the keys of the place where it was pressed, from the bindings themselves."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Static

from kdebug.tui.dialog import Dialog

EVERYWHERE = (
    ("1 … 9, tab", "the tabs"),
    ("/", "filter what is listed"),
    (": or ctrl+p", "commands by name"),
    ("↑ ↓ j k, pgup pgdn, g G", "move"),
    ("enter, esc", "open, go back"),
    ("q", "leave the session"),
)


class HelpScreen(Dialog[None]):
    DEFAULT_CSS = """
    HelpScreen { align: center middle; background: $background 60%; }
    HelpScreen > VerticalScroll { width: 72; max-width: 95%; height: auto; max-height: 90%; padding: 0 2;
        border: round $primary; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter", "dismiss", "Close", show=False)
    ]

    def __init__(self, place: Screen[Any]) -> None:
        super().__init__()
        self._keys = keys_of(place)

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            text = Text("Keys of this place\n", "bold")
            text.append_text(_lines(self._keys))
            text.append("\nEverywhere\n", "bold")
            text.append_text(_lines(EVERYWHERE))
            yield Static(text)


def keys_of(place: Screen[Any]) -> list[tuple[str, str]]:
    """(keys, what they do) for every action that is bound where the focus is, nearest first."""
    found: dict[str, list[str]] = {}
    for active in place.active_bindings.values():
        binding = active.binding
        if binding.description and not binding.description.startswith("Tab "):
            found.setdefault(binding.description, []).append(place.app.get_key_display(binding))
    return [(" ".join(dict.fromkeys(keys)), what) for what, keys in found.items()]


def _lines(pairs: Any) -> Text:
    text = Text()
    for keys, what in pairs:
        text.append(f"  {keys:<24}", "bold")
        text.append(f"{what}\n")
    return text
