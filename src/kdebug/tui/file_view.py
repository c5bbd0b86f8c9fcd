"""One file on the screen: text with colours or hexadecimal, by window, and followed while it grows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar, Optional

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from kdebug.errors import KdebugError
from kdebug.protocol.files import FileChunk
from kdebug.tui.file_window import HEX_ROW, PIECE, HexWindow, TextWindow, hex_line, looks_binary
from kdebug.tui.highlight import MAX_HIGHLIGHTED, highlight
from kdebug.tui.session import Session
from kdebug.tui.text import fit, safe_line
from kdebug.tui.theme import styles
from kdebug.tui.work import start
from kdebug.units import size as human

FOLLOW_SECONDS = 10.0
NEAR_LINES = 200
"""This close to the edge of the window more is fetched."""
MAX_SHIFT = 4000


class FileView(ScrollView, can_focus=True):
    """`show` it a path. What it says of itself is in `caption`; `captioned` is called when that changes."""

    DEFAULT_CSS = """
    FileView { background: $background; color: $foreground; height: 1fr; overflow-x: hidden;
        scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_up", "Up", show=False),
        Binding("down,j", "scroll_down", "Down", show=False),
        Binding("home,g", "first", "To the beginning of the file", show=False),
        Binding("end,G", "last", "To the end of the file", show=False),
        Binding("left,h", "shift(-8)", "Shift to the left", show=False),
        Binding("right,l", "shift(8)", "Shift to the right", show=False),
        Binding("x", "toggle_hex", "Text or hexadecimal"),
        Binding("f", "toggle_follow", "Follow the file as it grows"),
    ]

    def __init__(self, session: Session, captioned: Callable[[], None]) -> None:
        super().__init__(id="file-view")
        self.session = session
        self._captioned = captioned
        self.path = ""
        self.problem: Optional[KdebugError] = None
        self.following = False
        self._hex = False
        self._shift = 0
        self._handle = ""
        self._reset()
        self._styles: dict[str, Style] = {}

    def _reset(self) -> None:
        self._text = TextWindow(self._fetch)
        self._bytes = HexWindow(self._fetch)
        self._colours: dict[int, list[Segment]] = {}
        self._fetching = asyncio.Lock()

    # What is shown

    def show(self, path: str) -> None:
        """Read the beginning of the regular file at `path`."""
        self.path, self.problem, self._handle, self._shift = path, None, "", 0
        self.following = False
        self._reset()
        self.scroll_to(y=0, animate=False, force=True)
        self._measure()
        start(self, "file", self._open)

    def clear(self) -> None:
        self.workers.cancel_group(self, "file")
        self.workers.cancel_group(self, "follow")
        self.path, self.following = "", False
        self._reset()
        self._measure()

    @property
    def caption(self) -> str:
        if self.problem is not None:
            return str(self.problem)
        if not self.path:
            return ""
        window = self._text
        if self._hex:
            place = f"at {human(int(self.scroll_y) * HEX_ROW)} of {human(self._bytes.size)}"
        elif window.start == 0 and window.at_end:
            count = len(window.lines)
            place = f"{human(window.end)}, {count} line{'' if count == 1 else 's'}"
        else:
            of = f" of {human(window.size)}" if window.size else ""
            place = f"bytes {human(window.start)} to {human(window.end)}{of}"
        return f"{place}{'  hex' if self._hex else ''}{'  following' if self.following else ''}"

    async def _fetch(self, offset: int, size: int) -> FileChunk:
        path, handle = self.path, self._handle
        chunk = await self.session.ask(path, lambda target: target.read(path, offset, size, handle))
        if path == self.path:
            self._handle = chunk.handle
        return chunk

    async def _open(self) -> None:
        try:
            await self._text.open_at(0)
            head = b"\n".join(line for _, line in self._text.lines[:400])
            self._hex = looks_binary(head)
            if self._hex:
                await self._load_rows(0)
        except KdebugError as error:
            self._fail(error)
            return
        if not self._hex and self._text.at_end and self._text.end <= MAX_HIGHLIGHTED:
            self._colours = highlight(self.path, [safe_line(line) for _, line in self._text.lines])
        self._measure()

    def _fail(self, error: KdebugError) -> None:
        self.problem = error
        self._measure()

    def _measure(self) -> None:
        """The scroll bar stands for the window of a text, and for the whole of a file in hexadecimal."""
        rows = -(-self._bytes.size // HEX_ROW) if self._hex else len(self._text.lines)
        self.virtual_size = Size(self.size.width, rows)
        self.refresh()
        self._captioned()

    # Moving

    def watch_scroll_y(self, old: float, new: float) -> None:
        super().watch_scroll_y(old, new)
        if self.path and self.problem is None:
            self._captioned()
            start(self, "reach", self._reach)

    async def _reach(self) -> None:
        """Fetch what the reader is about to see."""
        if self._fetching.locked():
            return
        lock = self._fetching
        async with lock:
            try:
                if self._hex:
                    await self._load_rows(int(self.scroll_y))
                else:
                    await self._extend()
            except KdebugError as error:
                self._fail(error)

    async def _extend(self) -> None:
        window = self._text
        top, height = int(self.scroll_y), self.size.height
        if top + height + NEAR_LINES > len(window.lines) and not window.at_end:
            await window.forward()
            dropped = window.trim_front()
            self._colours = {}
            self._measure()
            if dropped:
                self.scroll_to(y=max(0, int(self.scroll_y) - dropped), animate=False, force=True)
        elif top < NEAR_LINES and window.start > 0:
            added = await window.backward()
            window.trim_back()
            self._measure()
            if added:
                self.scroll_to(y=int(self.scroll_y) + added, animate=False, force=True)

    async def _load_rows(self, row: int) -> None:
        await self._bytes.load(row)
        await self._bytes.load(row + max(1, self.size.height))
        self._measure()

    def action_first(self) -> None:
        self._jump(0)

    def action_last(self) -> None:
        self._jump(-1)

    def _jump(self, offset: int) -> None:
        if self.path:
            start(self, "file", self._go, offset)

    async def _go(self, offset: int) -> None:
        try:
            if self._hex:
                rows = -(-self._bytes.size // HEX_ROW)
                self.scroll_to(y=0 if offset == 0 else rows, animate=False, force=True)
            elif offset == 0:
                if self._text.start:
                    await self._text.open_at(0)
                    self._measure()
                self.scroll_to(y=0, animate=False, force=True)
            else:
                await self._to_end()
        except KdebugError as error:
            self._fail(error)

    async def _to_end(self) -> None:
        chunk = await self._fetch(self._text.end, PIECE)
        if chunk.size_bytes > self._text.end + PIECE:
            self._colours = {}
            await self._text.open_end(chunk.size_bytes)
        else:
            while not self._text.at_end and await self._text.forward():
                self._text.trim_front()
        self._measure()
        self.scroll_to(y=len(self._text.lines), animate=False, force=True)

    def action_shift(self, cells: int) -> None:
        self._shift = max(0, min(MAX_SHIFT, self._shift + cells))
        self.refresh()

    def action_toggle_hex(self) -> None:
        if not self.path:
            return
        self._hex = not self._hex
        self.scroll_to(y=0, animate=False, force=True)
        start(self, "file", self._reach)
        self._measure()

    # Following

    def action_toggle_follow(self) -> None:
        if not self.path or self._hex:
            return
        self.following = not self.following
        if self.following:
            start(self, "follow", self._follow)
        else:
            self.workers.cancel_group(self, "follow")
        self._captioned()

    async def _follow(self) -> None:
        """From the end on, through truncation and rotation, until it is switched off."""
        try:
            await self._to_end()
            path = self.path
            while self.following and path == self.path:
                await self._follow_once(path)
        except KdebugError as error:
            self.following = False
            self._fail(error)

    async def _follow_once(self, path: str) -> None:
        offset, handle = self._text.end, self._handle
        chunk = await self.session.ask(
            "", lambda target: target.follow(path, offset, handle, FOLLOW_SECONDS)
        )
        if chunk.rotated or chunk.shrunk:
            self._handle = chunk.handle
            await self._text.open_at(0)
        elif chunk.data or chunk.hole_bytes:
            self._text.append(chunk.data + bytes(min(chunk.hole_bytes, PIECE)))
            self._text.size = chunk.size_bytes
            self._text.trim_front()
        else:
            return
        self._colours = {}
        at_bottom = self.scroll_y >= self.max_scroll_y - 1
        self._measure()
        if at_bottom:
            self.scroll_to(y=len(self._text.lines), animate=False, force=True)

    # Drawing

    def on_resize(self, event: events.Resize) -> None:
        self._measure()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._styles = {}

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if not self._styles:
            self._styles = styles(self.app.theme_variables)
        base = self.rich_style
        row = int(self.scroll_y) + y
        if self._hex:
            return self._hex_strip(row, width, base)
        if row >= len(self._text.lines):
            return Strip([Segment(" " * width, base)], width)
        coloured = self._colours.get(row)
        if coloured is not None:
            strip = Strip([Segment(s.text, base + s.style if s.style else base) for s in coloured])
            return strip.crop(self._shift, self._shift + width).adjust_cell_length(width, base)
        text = safe_line(self._text.lines[row][1])
        if self._shift:
            shifted = Strip([Segment(text, base)]).crop(self._shift, self._shift + width)
            return shifted.adjust_cell_length(width, base)
        return Strip([Segment(fit(text, width), base)], width)

    def _hex_strip(self, row: int, width: int, base: Style) -> Strip:
        if row * HEX_ROW >= self._bytes.size:
            return Strip([Segment(" " * width, base)], width)
        data = self._bytes.row(row)
        if data is None:
            return Strip(
                [Segment(fit(f"{row * HEX_ROW:08x}  …", width), base + self._styles["dim"])], width
            )
        return Strip([Segment(fit(hex_line(row * HEX_ROW, data), width), base)], width)
