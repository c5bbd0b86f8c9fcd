"""The line table: a selection that sticks, order, filter, and cells of exact width."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from kdebug.tui.table import Column, LineTable
from kdebug.tui.text import fit
from kdebug.tui.theme import THEMES


@dataclass(frozen=True)
class Row:
    key: int
    value: int
    name: str = "row"


COLUMNS: list[Column[Row]] = [
    Column("key", "KEY", 6, lambda row: (str(row.key), "plain"), lambda row: row.key, right=True),
    Column("value", "VALUE", 8, lambda row: (str(row.value), "dim"), lambda row: row.value, True, True),
    Column("name", "NAME", 0, lambda row: (row.name, "plain"), lambda row: row.name),
]


class TableApp(App[None]):
    def __init__(self, rows: list[Row]) -> None:
        super().__init__()
        self.register_theme(THEMES[0])
        self.theme = THEMES[0].name
        self.rows = rows
        self.table = LineTable(COLUMNS, lambda row: row.key, sort="key")
        self.chosen: list[int] = []

    def compose(self) -> ComposeResult:
        yield self.table

    def on_mount(self) -> None:
        self.table.show(self.rows)
        self.table.focus()

    def on_line_table_chosen(self, event: LineTable.Chosen) -> None:
        self.chosen.append(event.row.key)

    def lines(self) -> list[str]:
        strips = self.screen._compositor.render_strips()
        return ["".join(segment.text for segment in strip) for strip in strips]


def drive(rows: list[Row], script: Any, size: tuple[int, int] = (60, 12)) -> TableApp:
    async def whole() -> TableApp:
        app = TableApp(rows)
        async with app.run_test(size=size) as pilot:
            await script(app, pilot)
        return app

    return asyncio.run(whole())


def numbered(count: int) -> list[Row]:
    return [Row(number, count - number) for number in range(count)]


def test_the_selection_sticks_to_its_row_and_its_line(seed: int) -> None:
    chance = random.Random(seed)

    async def script(app: TableApp, pilot: Pilot[None]) -> None:
        table = app.table
        for _ in range(40):
            await pilot.press(chance.choice(["down", "down", "pagedown", "up"]))
        key = table.selected.key if table.selected else -1
        await pilot.pause()
        line = next(index for index, text in enumerate(app.lines()) if text.startswith(">"))
        # New rows before it, others gone, everything in another order: it is still there.
        for _ in range(20):
            added = [Row(-number, 0) for number in range(1, chance.randrange(2, 200))]
            app.table.show([*added, *numbered(500)])
            await pilot.pause()
            assert table.selected is not None and table.selected.key == key
            now = next(index for index, text in enumerate(app.lines()) if text.startswith(">"))
            assert now == line or now < line  # never pushed off, and never further down

    drive(numbered(500), script)


def test_until_it_is_moved_the_cursor_stays_on_the_first_line() -> None:
    async def script(app: TableApp, pilot: Pilot[None]) -> None:
        app.table.show([Row(-5, 1), *numbered(50)])
        await pilot.pause()
        assert app.table.selected is not None and app.table.selected.key == -5
        assert app.lines()[1].startswith(">")

    drive(numbered(50), script)


def test_the_selection_moves_on_when_its_row_is_gone() -> None:
    async def script(app: TableApp, pilot: Pilot[None]) -> None:
        await pilot.press("end")
        app.table.show(numbered(10))
        await pilot.pause()
        assert app.table.selected is not None and app.table.selected.key == 9
        app.table.show([])
        await pilot.pause()
        assert app.table.selected is None and "nothing" in app.lines()[1]
        await pilot.press("down", "enter", "space", "end", "home")
        assert app.chosen == []

    drive(numbered(100), script)


def test_sorting_by_keys_and_by_clicks_on_the_header() -> None:
    async def script(app: TableApp, pilot: Pilot[None]) -> None:
        await pilot.press("greater_than_sign")
        assert app.table.sorted_by == "value" and app.table.rows[0].key == 0
        await pilot.press("I")
        assert app.table.rows[0].key == 29
        await pilot.click(LineTable, offset=(5, 0))
        assert app.table.sorted_by == "key" and app.table.rows[0].key == 0
        await pilot.pause()
        assert "KEY▲" in app.lines()[0]

    drive(numbered(30), script)


def test_filter_marks_and_choice() -> None:
    async def script(app: TableApp, pilot: Pilot[None]) -> None:
        app.table.filter("1 29")
        wanted = {
            row.key for row in app.rows if all(w in f"{row.key} {row.value} row" for w in ("1", "29"))
        }
        assert {row.key for row in app.table.rows} == wanted and 0 < len(wanted) < 300
        app.table.filter("")
        await pilot.press("space", "space")
        assert [row.key for row in app.table.marked] == [0, 1]
        await pilot.press("enter")
        assert app.chosen == [2]

    drive(numbered(300), script)


HOSTILE = [
    "\x1b[31mred\x1b[0m", "[/foo] [bold]x", "\u202etxt.exe", "日本語のファイル名", "e\u0301\u0301\u0301",
    "a\nb\rc\td", "x" * 10_000, "👨‍👩‍👧 family", "\ud800\udcff", "", "\x9b2J",
]  # fmt: skip


def test_hostile_text_fills_exactly_its_cells() -> None:
    async def script(app: TableApp, pilot: Pilot[None]) -> None:
        await pilot.pause()
        for line in app.lines():
            assert cell_len(line) == 60
            assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in line), line
            assert "\u202e" not in line

    drive([Row(index, 0, text) for index, text in enumerate(HOSTILE)], script, (60, 20))


def test_fit_is_exact_at_every_width() -> None:
    for text in HOSTILE:
        for width in range(1, 30):
            for right in (False, True):
                assert cell_len(fit(text, width, right)) == width, (text[:20], width)
