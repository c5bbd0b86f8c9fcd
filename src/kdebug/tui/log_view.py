"""Log lines on the screen: only what is seen is drawn (line API), wrapped or scrolled sideways.

While it follows, the last line stays at the bottom; else the first line that is seen stays where it is,
whatever comes before or behind it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import timezone
from itertools import accumulate
from typing import ClassVar, Optional

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from kdebug.tui.log_window import LogRow, Span, clock, occurrences, severities
from kdebug.tui.text import fit
from kdebug.tui.theme import ACCENT, DIM, PLAIN, STRONG, WARN, styles

MAX_NAME = 20
"""Cells for a container's name."""
MIN_TEXT = 20
MAX_DRAWN = 256
"""Lines that are kept as they were drawn."""
CLOCKS = ("off", "UTC", "local")
HIT = Style(reverse=True)
HIT_HERE = Style(reverse=True, bold=True, underline=True)


class LogView(ScrollView, can_focus=True):
    """`show` gives it its rows. Posts `AtTop` where somebody wants to see what is older."""

    DEFAULT_CSS = """
    LogView { background: $background; color: $foreground; height: 1fr; overflow-x: hidden;
        scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup,ctrl+b,b", "page(-1)", "Page up", show=False),
        Binding("pagedown,ctrl+f,space", "page(1)", "Page down", show=False),
        Binding("home,g", "edge(-1)", "First line", show=False),
        Binding("end,G", "edge(1)", "Last line, and follow", show=False),
        Binding("left,h", "sideways(-1)", "To the left", show=False),
        Binding("right,l", "sideways(1)", "To the right", show=False),
    ]

    class AtTop(Message):
        """Up, on the first line."""

    class Moved(Message):
        """It follows now, or does not any more."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[LogRow] = []
        self.following = True
        self.wrapping = False
        self.clock = "off"
        self.names = False
        """Whether the container is told on every line."""
        self.needle = ""
        self.hit: Optional[LogRow] = None
        """The line that the search stands on."""
        self._x = 0
        self._starts: list[int] = [0]
        """The screen line on which each row starts, when wrapped."""
        self._name_width = 0
        self._styles: dict[str, Style] = {}
        self._base = Style()
        self._look: object = None
        """What the drawn lines depend on."""
        self._drawn: dict[int, tuple[LogRow, list[Strip]]] = {}

    # Rows

    def show(self, rows: list[LogRow]) -> None:
        """Replace all rows; the view stays at the end, or on its line."""
        if self.is_vertical_scrollbar_grabbed:
            self.follow(False)
        anchor, offset = self._anchor()
        self.rows = rows
        self._arrange(anchor, offset)

    def _anchor(self) -> tuple[Optional[LogRow], int]:
        """The row on the first line of the screen, and how many of its lines are above that."""
        index, offset = self._row_at(int(self.scroll_y))
        return (self.rows[index] if index < len(self.rows) else None), offset

    def _arrange(self, anchor: Optional[LogRow], offset: int) -> None:
        names = {row.container for row in self.rows} if self.names else set()
        self._name_width = min(MAX_NAME, max((cell_len(name) for name in names), default=0))
        self._starts = list(accumulate(self._heights(), initial=0)) if self.wrapping else []
        self.virtual_size = Size(self.size.width, self.line_count)
        if self.following:
            self._scroll(self.line_count)
        elif anchor is not None:
            index = next((i for i, row in enumerate(self.rows) if row is anchor), 0)
            self._scroll(self._line_of(index) + offset)
        self.refresh()

    def lay_out(self) -> None:
        """Lay out anew: another width, clock, wrapping."""
        self._arrange(*self._anchor())

    def toggle_wrap(self) -> None:
        anchor = self._anchor()
        self.wrapping, self._x = not self.wrapping, 0
        self._arrange(anchor[0], 0)

    @property
    def line_count(self) -> int:
        return self._starts[-1] if self.wrapping else len(self.rows)

    def _heights(self) -> Iterator[int]:
        """Lines that each row takes; counted once for each width."""
        room = self._room
        for row in self.rows:
            if row.height[0] != room:
                lines = -(-len(row.text) // room) if row.is_plain else len(self._pieces(row.shown, room))
                row.height = room, max(1, lines)
            yield row.height[1]

    @property
    def _room(self) -> int:
        return max(MIN_TEXT, self.size.width - self._prefix_width)

    @property
    def _prefix_width(self) -> int:
        names = self._name_width + 1 if self._name_width else 0
        return names + (13 if self.clock != "off" else 0)

    def _pieces(self, text: str, room: int) -> list[str]:
        if text.isascii():
            return [text[at : at + room] for at in range(0, len(text), room)] or [""]
        return chop_cells(text, room) or [""]

    def _line_of(self, index: int) -> int:
        return self._starts[min(index, len(self._starts) - 1)] if self.wrapping else index

    def _row_at(self, line: int) -> tuple[int, int]:
        """(index of the row, line within it)."""
        if not self.wrapping:
            return line, 0
        index = bisect_right(self._starts, line) - 1
        return index, line - self._starts[index] if index < len(self._starts) else 0

    # Moving

    def follow(self, on: bool) -> None:
        if on != self.following:
            self.following = on
            self.post_message(self.Moved())
        if on:
            self._scroll(self.line_count)
        self.refresh()

    def _scroll(self, line: int) -> None:
        last = max(0, self.line_count - self.size.height)
        self.scroll_to(y=max(0, min(line, last)), animate=False, force=True)

    def action_move(self, step: int) -> None:
        at = int(self.scroll_y)
        if step < 0:
            if at == 0:
                self.post_message(self.AtTop())
            self.follow(False)
        self._scroll(at + step)

    def action_page(self, direction: int) -> None:
        self.action_move(direction * max(1, self.size.height - 1))

    def action_edge(self, direction: int) -> None:
        if direction > 0:
            self.follow(True)
        else:
            if self.scroll_y == 0:
                self.post_message(self.AtTop())
            self.follow(False)
            self._scroll(0)

    def action_sideways(self, direction: int) -> None:
        longest = 0 if self.wrapping else max((len(row.shown) for row in self._seen()), default=0)
        step = max(8, self._room // 2)
        self._x = max(0, min(self._x + direction * step, max(0, longest - step)))
        self.refresh()

    def _seen(self) -> list[LogRow]:
        first, _ = self._row_at(int(self.scroll_y))
        last, _ = self._row_at(int(self.scroll_y) + self.size.height)
        return self.rows[first : last + 1]

    def _on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_move(-3)

    def _on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_move(3)

    # Search

    def search(self, needle: str) -> None:
        """Mark `needle` everywhere; go to the nearest line that has it, from the bottom up."""
        self.needle = needle.lower()
        self.hit = None
        if self.needle:
            self.find(-1)
        self.refresh()

    def find(self, direction: int) -> bool:
        """To the next line with the needle, over the end; False where no line has it."""
        if not self.needle or not self.rows:
            return False
        at = next((i for i, row in enumerate(self.rows) if row is self.hit), None)
        if at is None:
            # The first search starts from what is seen.
            last, _ = self._row_at(int(self.scroll_y) + self.size.height - 1)
            at = min(last, len(self.rows) - 1) + (1 if direction < 0 else 0)
        count = len(self.rows)
        for step in range(1, count + 1):
            row = self.rows[(at + direction * step) % count]
            if self._has(row):
                self.hit = row
                self.follow(False)
                self._reveal((at + direction * step) % count)
                return True
        return False

    def _has(self, row: LogRow) -> bool:
        if self.needle.isascii() and row.is_plain:
            return self.needle.encode() in row.text.lower()
        return self.needle in row.shown.lower()

    def hits(self) -> tuple[int, int]:
        """(which one the search stands on, how many lines have it)."""
        found = [row for row in self.rows if self._has(row)] if self.needle else []
        return next((i + 1 for i, row in enumerate(found) if row is self.hit), 0), len(found)

    def _reveal(self, index: int) -> None:
        line, top = self._line_of(index), int(self.scroll_y)
        if not top <= line < top + self.size.height:
            self._scroll(line - self.size.height // 2)
        if not self.wrapping:
            places = occurrences(self.rows[index].shown, self.needle)
            if places and not self._x <= places[0][0] < self._x + self._room:
                self._x = max(0, places[0][0] - self._room // 2)
        self.refresh()

    # Drawing

    def on_resize(self) -> None:
        self.call_after_refresh(self.lay_out)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._styles, self._look = {}, None

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if not self._styles:
            self._styles = styles(self.app.theme_variables)
        index, piece = self._row_at(int(self.scroll_y) + y)
        base = self.rich_style
        if index >= len(self.rows):
            return Strip.blank(width, base)
        row = self.rows[index]
        look = base, self.wrapping, self._room, self.needle, self.hit
        if look != self._look:
            self._base, self._look = base, look
            self._drawn.clear()
        strip = Strip([*self._prefix(row, piece, base), *self._text(row, piece)])
        return strip.adjust_cell_length(width, base)

    def _prefix(self, row: LogRow, piece: int, base: Style) -> list[Segment]:
        width = self._prefix_width
        if not width:
            return []
        if piece:
            return [Segment(" " * width, base)]
        parts = []
        if self.clock != "off":
            zone = timezone.utc if self.clock == "UTC" else None
            parts.append(Segment(clock(row.moment, zone) + " ", base + self._styles[DIM]))
        if self._name_width:
            parts.append(Segment(fit(row.container, self._name_width) + " ", base + self._styles[ACCENT]))
        return parts

    def _text(self, row: LogRow, piece: int) -> list[Segment]:
        """The part of the line that is seen, with what stands out in it."""
        strips = self._strips(row)
        if self.wrapping:
            return list(strips[piece]) if piece < len(strips) else []
        return list(strips[0].crop(self._x, self._x + self._room))

    def _strips(self, row: LogRow) -> list[Strip]:
        """The whole line, in its pieces when wrapped. Kept while it is seen: a long one is costly."""
        kept = self._drawn.get(id(row))
        if kept is not None and kept[0] is row:
            return kept[1]
        text = row.shown
        strip = Strip(_styled(text, self._base + self._styles[self._style_of(row)], self._spans(row, text)))
        strips = [strip]
        if self.wrapping:
            ends = list(accumulate(map(cell_len, self._pieces(text, self._room))))
            strips = list(strip.divide(ends))
        if len(self._drawn) > MAX_DRAWN:
            self._drawn.clear()
        self._drawn[id(row)] = row, strips
        return strips

    def _style_of(self, row: LogRow) -> str:
        if row.event is None:
            return PLAIN
        return WARN if row.event.kind == "Warning" else STRONG

    def _spans(self, row: LogRow, text: str) -> list[tuple[int, int, Style]]:
        found: list[Span] = [] if row.event else severities(text)
        spans = [(start, end, self._styles[name]) for start, end, name in found]
        here = HIT_HERE if row is self.hit else HIT
        return spans + [(start, end, here) for start, end in occurrences(text, self.needle)]


def _styled(text: str, base: Style, spans: list[tuple[int, int, Style]]) -> list[Segment]:
    """`text` in pieces, each with every style that covers it."""
    if not spans:
        return [Segment(text, base)]
    edges = sorted({0, len(text), *(edge for start, end, _ in spans for edge in (start, end))})
    segments = []
    for start, end in zip(edges, edges[1:]):
        style = base
        for first, last, extra in spans:
            if first <= start and end <= last:
                style = style + extra
        segments.append(Segment(text[start:end], style))
    return segments
