"""Pick one of many by typing a part of its name: namespaces, contexts, containers, recent targets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Optional

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, Static

from kdebug.tui.dialog import BOX, Dialog
from kdebug.tui.fuzzy import Fuzzy, Haystack
from kdebug.tui.table import Column, LineTable
from kdebug.tui.text import plain
from kdebug.tui.theme import ACCENT, DIM, PLAIN

MAX_ROWS = 16


@dataclass(frozen=True)
class Item:
    """One line. `value` is what is answered, and tells the lines apart."""

    value: str
    title: str
    detail: str = ""
    current: bool = False
    typed: bool = False
    """Not listed, but what was typed: after all others."""


COLUMNS: list[Column[Item]] = [
    Column(
        "title", "", 0, lambda i: (("* " if i.current else "  ") + i.title, ACCENT if i.current else PLAIN)
    ),
    Column("detail", "", 40, lambda i: (i.detail, DIM), optional=1),
]


class _Items(LineTable[Item]):
    can_focus = False
    min_flexible = 20

    def _matching(self) -> list[Item]:
        fuzzy = Fuzzy(self._needle)
        ranked = [(fuzzy.rank(Haystack.of(item.title, (item.detail,))), item) for item in self._all]
        found = [(rank, item) for rank, item in ranked if rank is not None]
        return [item for _, item in sorted(found, key=lambda pair: (pair[1].typed, pair[0]))]

    def filter(self, needle: str) -> None:
        self._touched = False
        super().filter(needle)


class Chooser(Dialog[Optional[str]]):
    """Answers the `value` of an item, or None. Letters filter, arrows move, Enter takes."""

    DEFAULT_CSS = (
        BOX.format(name="Chooser")
        + """
    Chooser > Vertical { width: 90; }
    Chooser Input, Chooser Input:focus { height: 1; border: none; padding: 0 1; background: $panel; }
    Chooser .note { color: $warning; height: auto; }
    """
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Nothing", show=False),
        Binding("up,ctrl+p,ctrl+k", "move(-1)", "Up", show=False, priority=True),
        Binding("down,ctrl+n,ctrl+j", "move(1)", "Down", show=False, priority=True),
        Binding("pageup", "move(-10)", "Page up", show=False, priority=True),
        Binding("pagedown", "move(10)", "Page down", show=False, priority=True),
    ]

    def __init__(self, title: str, items: Iterable[Item], note: str = "", other: str = "") -> None:
        """`other`: what may be typed that is not listed ("namespace"); "" where nothing else may."""
        super().__init__()
        self._heading = title
        self._items = list(items)
        self._note = note
        self._other = other

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(plain(self._heading), classes="title")
            if self._note:
                yield Static(plain(self._note), classes="note")
            yield Input(placeholder="type to find, ↑ ↓ move, enter takes, esc leaves")
            table = _Items(COLUMNS, lambda item: item.value, empty="nothing is called so")
            table.styles.height = min(MAX_ROWS, max(2, len(self._items) + 1 + bool(self._other)))
            yield table

    @property
    def table(self) -> LineTable[Item]:
        return self.query_one(_Items)

    def on_mount(self) -> None:
        self.table.show(self._items)
        self.query_one(Input).focus()
        self.call_after_refresh(self._to_current)

    def _to_current(self) -> None:
        current = next((item.value for item in self._items if item.current), None)
        if current is not None and not self.table.needle:
            self.table.select(current)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        typed = event.value.strip()
        known = any(item.value == typed for item in self._items)
        other = [Item(typed, typed, f"use the {self._other} {typed}", typed=True)]
        self.table.show([*self._items, *(other if self._other and typed and not known else [])])
        self.table.filter(event.value)

    @on(Input.Submitted)
    @on(LineTable.Chosen)
    def _taken(self) -> None:
        item = self.table.selected
        if item is not None:
            self.dismiss(item.value)

    def action_move(self, step: int) -> None:
        self.table.action_move(step)
