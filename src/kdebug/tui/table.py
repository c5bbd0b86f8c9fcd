"""A table that stays fast at 10,000 rows: only the lines on the screen are ever drawn (line API).

Rows have keys. The selection sticks to its row, not to its line, and the row stays where it is on the
screen while the rows around it are sorted anew. Column widths are given, so nothing jumps on a refresh.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from itertools import compress
from typing import Any, ClassVar, Generic, Optional, TypeVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import Reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from kdebug.tui.text import MAX_SHOWN, fit
from kdebug.tui.theme import PLAIN, styles

Row = TypeVar("Row")
Cell = tuple[str, str]
"""Text and the name of a style (tui.theme)."""

GAP = 1
MARK = "●"
MIN_FLEXIBLE = 12
GOOD_FLEXIBLE = 21
"""The flexible column gets this much before others grow to their `more`: an IPv4 address and its port."""


@dataclass(frozen=True)
class Column(Generic[Row]):
    """One column. Exactly one of a table is flexible (width 0) and takes what is left."""

    name: str
    title: str
    width: int
    cell: Callable[[Row], Cell]
    sort: Optional[Callable[[Row], Any]] = None
    """The value to sort by; None: by this column nobody sorts."""
    descending: bool = False
    """How it sorts at first: sizes from the largest, names from the first."""
    right: bool = False
    optional: int = 0
    """Columns with the highest number leave first when the screen is narrow; 0 stays."""
    more: int = 0
    """Up to this width where the screen has room beyond what the flexible column needs. Of the flexible
    column itself: what it must get for optional columns to stay."""


class LineTable(ScrollView, Generic[Row], can_focus=True):
    """`show` gives it its rows. Posts `Highlighted` and `Chosen`."""

    DEFAULT_CSS = """
    LineTable {
        background: $background; color: $foreground; height: 1fr;
        overflow-x: hidden; scrollbar-size-vertical: 1;
    }
    LineTable > .linetable--cursor {
        background: $block-cursor-background; color: $block-cursor-foreground;
    }
    LineTable > .linetable--cursor-blurred { background: $panel; }
    LineTable > .linetable--header { background: $panel; color: $foreground; text-style: bold; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "linetable--cursor",
        "linetable--cursor-blurred",
        "linetable--header",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "Page down", show=False),
        Binding("home,g", "edge(-1)", "First", show=False),
        Binding("end,G", "edge(1)", "Last", show=False),
        Binding("enter", "choose", "Open", show=False),
        Binding("space", "mark", "Mark", show=False),
        Binding("less_than_sign", "sort_next(-1)", "Sort by the column to the left", show=False),
        Binding("greater_than_sign", "sort_next(1)", "Sort by the column to the right", show=False),
        Binding("shift+left", "shift(-16)", "Show the beginning of long cells", show=False),
        Binding("shift+right", "shift(16)", "Show more of long cells", show=False),
        Binding("I", "sort_reverse", "Reverse the order", show=False),
    ]

    virtual_size = Reactive(Size(0, 0), layout=False)
    """How long the list is changes nothing around it: nobody gives a table the height of its rows."""

    min_flexible: int = MIN_FLEXIBLE
    """Optional columns leave before the flexible one gets narrower."""

    class Highlighted(Message):
        """The cursor is on another row, or on none."""

        def __init__(self, table: LineTable[Any], row: Any) -> None:
            super().__init__()
            self.table, self.row = table, row

        @property
        def control(self) -> LineTable[Any]:
            return self.table

    class Chosen(Highlighted):
        """Enter, or a second click."""

    def __init__(
        self,
        columns: Iterable[Column[Row]],
        key: Callable[[Row], Hashable],
        *,
        sort: str = "",
        search: Optional[Callable[[Row], str]] = None,
        id: Optional[str] = None,
        empty: str = "nothing",
    ) -> None:
        """`search`: what a row is found by, casefolded."""
        super().__init__(id=id)
        self._columns = list(columns)
        self._key = key
        self._search = search or self._every_cell
        self._all: list[Row] = []
        self._rows: list[Row] = []
        self._needle = ""
        self._sort = next((column for column in self._columns if column.name == sort), None)
        self._descending = self._sort.descending if self._sort else False
        self._found: Optional[tuple[list[str], list[Row]]] = None
        """What `_found_by` left, and by what each is searched: a letter more is looked for there."""
        self._found_by = ""
        self._cursor = 0
        self._touched = False
        """Until somebody moves it, the cursor stays on the first line."""
        self._marked: set[Hashable] = set()
        self._styles: dict[str, Style] = {}
        self._base = Style()
        self._shown: list[tuple[Column[Row], int]] = []
        self._shift = 0
        """Characters of the flexible column that are left of the screen."""
        self.empty = empty
        """What is said where there are no rows."""

    def _every_cell(self, row: Row) -> str:
        return " ".join(column.cell(row)[0] for column in self._columns).casefold()

    # Rows

    def show(self, rows: Iterable[Row]) -> None:
        """Replace all rows; sort, filter and selection stay."""
        self._all = list(rows)
        self._sort_all()
        self._arrange()

    def filter(self, needle: str) -> None:
        """Only rows that hold every word of `needle`, whatever the case."""
        if needle.casefold() != self._needle:
            self._needle = needle.casefold()
            self._arrange()

    @property
    def needle(self) -> str:
        return self._needle

    @property
    def rows(self) -> list[Row]:
        """What is shown, in its order."""
        return self._rows

    @property
    def rows_in_sight(self) -> list[Row]:
        """Those that the screen has room for, where it is scrolled to."""
        top = int(self.scroll_y)
        return self._rows[top : top + max(0, self.size.height - 1)]

    @property
    def total(self) -> int:
        """Rows before the filter."""
        return len(self._all)

    @property
    def selected(self) -> Optional[Row]:
        return self._rows[self._cursor] if 0 <= self._cursor < len(self._rows) else None

    @property
    def marked(self) -> list[Row]:
        """The marked rows that are there, or the selected one."""
        chosen = [row for row in self._all if self._key(row) in self._marked]
        return chosen or ([self.selected] if self.selected is not None else [])

    def clear_marks(self) -> None:
        self._marked.clear()
        self.refresh()

    def select(self, key: Hashable) -> bool:
        """Put the cursor on the row with `key`; False when it is not shown."""
        for index, row in enumerate(self._rows):
            if self._key(row) == key:
                self._touched = True
                self._move_to(index)
                return True
        return False

    def stick(self) -> None:
        """From now on the cursor stays with the row that it is on, as after a key."""
        self._touched = self._touched or self.selected is not None

    def set_columns(self, columns: Iterable[Column[Row]]) -> None:
        """Show other columns; what it is sorted by stays, where there still is such a column."""
        self._columns = list(columns)
        name = self.sorted_by
        self._sort = next((column for column in self._columns if column.name == name), None)
        self.refresh()

    @property
    def sorted_by(self) -> str:
        return self._sort.name if self._sort else ""

    def sort_by(self, name: str, descending: Optional[bool] = None) -> None:
        """By a column's name; in its own direction, or the other when it is sorted so already."""
        column = next(column for column in self._columns if column.name == name and column.sort)
        if descending is None:
            descending = not self._descending if column is self._sort else column.descending
        self._sort, self._descending = column, descending
        self._sort_all()
        self._arrange()

    def unsort(self) -> None:
        """In the order in which `show` was given the rows (a tree)."""
        self._sort = None

    def _sort_all(self) -> None:
        """All rows, so that a letter of a filter has nothing to sort."""
        if self._sort is not None and self._sort.sort is not None:
            self._all = sorted(self._all, key=self._sort.sort, reverse=self._descending)
        self._found = None

    def _arrange(self) -> None:
        """Filter; keep the selected row selected and on its line of the screen."""
        before = self.selected
        key = self._key(before) if before is not None and self._touched else None
        line = self._cursor - int(self.scroll_y)
        self._rows = rows = self._matching() if self._needle else self._all
        self.virtual_size = Size(self.size.width, len(rows) + 1)
        index = self._index_of(key) if key is not None else None
        if index is not None:
            self._cursor = index
            self.scroll_to(y=max(0, index - line), animate=False, force=True)
        else:
            self._cursor = min(self._cursor, max(0, len(rows) - 1)) if self._touched else 0
            self._reveal()
        self.refresh()
        after = self.selected
        if (before is None) != (after is None) or after is not before:
            self.post_message(self.Highlighted(self, after))

    def _matching(self) -> list[Row]:
        # Two lists rather than pairs: ten thousand new tuples would wake the garbage collector.
        if self._found is None or not self._needle.startswith(self._found_by):
            self._found = [self._search(row) for row in self._all], self._all
        texts, rows = self._found
        for word in self._needle.split():
            hits = [word in text for text in texts]
            texts, rows = list(compress(texts, hits)), list(compress(rows, hits))
        self._found, self._found_by = (texts, rows), self._needle
        return rows

    def _index_of(self, key: Hashable) -> Optional[int]:
        return next((index for index, own in enumerate(map(self._key, self._rows)) if own == key), None)

    # Moving

    def _move_to(self, index: int) -> None:
        index = max(0, min(index, len(self._rows) - 1))
        before, top = self._cursor, self.scroll_y
        if index != before and self._rows:
            self._cursor = index
            self.post_message(self.Highlighted(self, self.selected))
        self._reveal()
        if self.scroll_y == top:  # else all is drawn anyway
            for changed in (before, self._cursor):
                self.refresh_line(changed + 1)

    def _reveal(self) -> None:
        visible = max(1, self.size.height - 1)
        top = int(self.scroll_y)
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False, force=True)
        elif self._cursor >= top + visible:
            self.scroll_to(y=self._cursor - visible + 1, animate=False, force=True)

    def action_move(self, step: int) -> None:
        self._touched = True
        self._move_to(self._cursor + step)

    def action_page(self, direction: int) -> None:
        self.action_move(direction * max(1, self.size.height - 2))

    def action_edge(self, direction: int) -> None:
        self._touched = direction > 0
        self._move_to(0 if direction < 0 else len(self._rows) - 1)

    def action_choose(self) -> None:
        if self.selected is not None:
            self.post_message(self.Chosen(self, self.selected))

    def action_mark(self) -> None:
        if self.selected is not None:
            self._marked ^= {self._key(self.selected)}
            self.action_move(1)

    def action_sort_next(self, step: int) -> None:
        names = [column.name for column in self._columns if column.sort]
        if names:
            at = names.index(self.sorted_by) if self.sorted_by in names else -1
            name = names[(at + step) % len(names)]
            self.sort_by(name, next(c.descending for c in self._columns if c.name == name))

    def action_sort_reverse(self) -> None:
        if self._sort is not None:
            self.sort_by(self._sort.name)

    def action_shift(self, step: int) -> None:
        self._shift = max(0, min(MAX_SHOWN, self._shift + step))
        self.refresh()

    # Mouse

    def on_click(self, event: events.Click) -> None:
        if event.y == 0:
            self._sort_at(event.x)
            return
        index = int(self.scroll_y) + event.y - 1
        if index < len(self._rows):
            again = index == self._cursor and self._touched
            self._touched = True
            self._move_to(index)
            if again and event.chain > 1:
                self.action_choose()

    def _sort_at(self, x: int) -> None:
        start = 2
        for column, width in self._layout(self.size.width):
            if start <= x < start + width + GAP and column.sort:
                self.sort_by(column.name)
                return
            start += width + GAP

    # Drawing

    def on_resize(self, event: events.Resize) -> None:
        self.virtual_size = Size(event.size.width, len(self._rows) + 1)
        self.call_after_refresh(self._reveal)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._styles = {}

    def _layout(self, width: int) -> list[tuple[Column[Row], int]]:
        """The columns that fit, with their widths."""
        shown = list(self._columns)
        wanted = max(self.min_flexible, *(column.more for column in shown if not column.width))
        while True:
            fixed = sum(column.width + GAP for column in shown)
            leaving = max(shown, key=lambda column: column.optional)
            if fixed + wanted <= width - 2 or leaving.optional == 0:
                break
            shown.remove(leaving)
        rest = max(1, width - 2 - fixed)
        widths = []
        for column in shown:
            extra = max(0, min(column.more - column.width, rest - GOOD_FLEXIBLE)) if column.width else 0
            rest -= extra
            widths.append(column.width + extra)
        return [(column, size or rest) for column, size in zip(shown, widths)]

    def watch_virtual_size(self, size: Size) -> None:
        self._scroll_update(size)

    def render_lines(self, crop: Region) -> list[Strip]:
        # Once for all lines: what a style is made of takes longer to find than a line's text.
        self._styles = self._styles or styles(self.app.theme_variables)
        self._base, self._shown = self.rich_style, self._layout(self.size.width)
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        width, base = self.size.width, self._base
        if y == 0:
            return self._header(width)
        index = int(self.scroll_y) + y - 1
        if index >= len(self._rows):
            nothing = "nothing matches the filter" if self._all else self.empty
            text = nothing if index == 0 and not self._rows else ""
            return Strip([Segment(fit(f"  {text}", width), base + self._styles["dim"])], width)
        return self._row(index, width, base)

    def _header(self, width: int) -> Strip:
        style = self.get_component_rich_style("linetable--header")
        segments = [Segment("  ", style)]
        for column, size in self._shown:
            arrow = ("▼" if self._descending else "▲") if column is self._sort else ""
            room = size - len(arrow)
            title = fit(column.title, min(room, len(column.title)))
            text = (title + arrow).rjust(size) if column.right else (title + arrow).ljust(size)
            segments.append(Segment(text + " " * GAP, style))
        return Strip(segments).adjust_cell_length(width, style)

    def _row(self, index: int, width: int, base: Style) -> Strip:
        row = self._rows[index]
        at_cursor = index == self._cursor
        if at_cursor:
            name = "linetable--cursor" if self.has_focus else "linetable--cursor-blurred"
            base = base + self.get_component_rich_style(name)
        marked = self._key(row) in self._marked
        lead = (">" if at_cursor else " ") + (MARK if marked else " ")
        segments = [Segment(lead, base)]
        for column, size in self._shown:
            text, name = column.cell(row)
            if self._shift and not column.width:
                text = "…" + text[self._shift + 1 :]
            style = (
                base if at_cursor and self.has_focus else base + self._styles.get(name, self._styles[PLAIN])
            )
            segments.append(Segment(fit(text, size, column.right) + " " * GAP, style))
        return Strip(segments).adjust_cell_length(width, base)
