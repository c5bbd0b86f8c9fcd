"""The files tab: listing, preview, viewing, following; hostile names and what cannot be read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdebug.errors import Failed
from kdebug.protocol.files import FileChunk
from kdebug.protocol.requests import ReadFile
from kdebug.protocol.search import COLUMNS, EntryTable, ListTable

from .conftest import Ui, play
from .fakes import FakeBackend, opening

HOSTILE = [
    b"\x1b[31mred",
    b"[bold]x[red",
    "\u202etxt.exe".encode(),
    b"line\nfeed",
    b"\xff\xfe",
    b"-rf",
    b"x" * 250,
]


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose working directory is the test's folder."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], cwd=tmp_path)
    yield process
    process.kill()
    process.wait()


def test_through_directories_and_back(tmp_path: Path, owner: subprocess.Popen[bytes]) -> None:
    (tmp_path / "a-dir" / "inner").mkdir(parents=True)
    (tmp_path / "z-file").write_text("the contents\n")
    (tmp_path / "a-link").symlink_to("a-dir")
    (tmp_path / ".hidden").write_text("")

    async def script(ui: Ui) -> None:
        await ui.attached()
        pane = await ui.tab("Files")
        pane.go(str(tmp_path))
        await ui.shows("z-file")
        assert ".hidden" not in ui.text() and "1 hidden" in ui.text()
        await ui.press("full_stop")
        await ui.shows(".hidden")
        await ui.press("enter")
        await ui.shows("inner/")
        await ui.press("left")
        await ui.until(lambda: pane.table.selected and pane.table.selected.entry.name == "a-dir")
        assert pane.table.select("a-link")
        await ui.press("enter")
        await ui.until(lambda: pane.path == str(tmp_path / "a-dir"))
        await ui.shows("inner/")
        await ui.press("left")
        await ui.shows("z-file")
        assert pane.table.select("z-file")
        await ui.press("enter")
        await ui.shows("the contents")
        await ui.press("x")
        await ui.shows("|the contents.|")
        await ui.press("escape")
        await ui.shows("a-dir/")

    play(f"local:{owner.pid}", script)


def test_a_wide_screen_previews(tmp_path: Path, owner: subprocess.Popen[bytes]) -> None:
    (tmp_path / "conf.json").write_text('{"answer": 42}\n')
    os.mkfifo(tmp_path / "pipe")

    async def script(ui: Ui) -> None:
        await ui.attached()
        pane = await ui.tab("Files")
        pane.go(str(tmp_path))
        await ui.shows('{"answer": 42}')
        await ui.press("down")
        await ui.shows("fifo")
        assert "answer" not in ui.text()

    play(f"local:{owner.pid}", script, size=(160, 40))


def test_a_file_is_followed_through_growth_truncation_and_rotation(
    tmp_path: Path, owner: subprocess.Popen[bytes]
) -> None:
    log = tmp_path / "app.log"
    log.write_text("".join(f"line {number}\n" for number in range(5000)))

    async def script(ui: Ui) -> None:
        await ui.attached()
        pane = await ui.tab("Files")
        pane.go(str(tmp_path))
        await ui.shows("app.log")
        await ui.press("enter")
        await ui.shows("line 0")
        await ui.press("f")
        await ui.shows("line 4999")
        with log.open("a") as file:
            file.write("grown\n")
        await ui.shows("grown")
        os.truncate(log, 0)
        with log.open("a") as file:
            file.write("after truncation\n")
        await ui.shows("after truncation")
        assert "grown" not in ui.text()
        log.rename(tmp_path / "app.log.1")
        log.write_text("after rotation\n")
        await ui.shows("after rotation")

    play(f"local:{owner.pid}", script)


def test_a_large_file_by_window(tmp_path: Path, owner: subprocess.Popen[bytes]) -> None:
    with (tmp_path / "large.log").open("w") as file:
        for number in range(400_000):
            file.write(f"{number:07} some words of a log line that is neither short nor long\n")

    async def script(ui: Ui) -> None:
        await ui.attached()
        pane = await ui.tab("Files")
        pane.go(str(tmp_path))
        await ui.shows("large.log")
        await ui.press("enter")
        await ui.shows("0000000 some")
        await ui.press("G")
        await ui.shows("0399999 some")
        window = pane.view._text
        assert window.end - window.start < 6 * 1024 * 1024
        before = pane.view.scroll_y
        pane.view.scroll_page_up()
        await ui.pilot.pause()
        assert pane.view.scroll_y == before - pane.view.scrollable_content_region.height  # no gliding
        for _ in range(30):
            await ui.press("pageup")
        await ui.until(lambda: "0399999" not in ui.text() and "some words" in ui.text())
        await ui.press("g")
        await ui.shows("0000000 some")

    play(f"local:{owner.pid}", script)


def test_hostile_names_are_shown_as_what_they_are(tmp_path: Path, owner: subprocess.Popen[bytes]) -> None:
    for name in HOSTILE:
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))).write_bytes(
            b"\x1b]52;c;AAAA\x07 [/x] \r\n"
        )

    async def script(ui: Ui) -> None:
        await ui.attached()
        pane = await ui.tab("Files")
        pane.go(str(tmp_path))
        await ui.until(lambda: len(pane.table.rows) == len(HOSTILE))
        await ui.shows("\\x1b[31mred")
        for _ in HOSTILE:
            await ui.press("enter")
            await ui.shows("\\x1b]52;c;AAAA\\x07 [/x] \\r")
            await ui.press("escape", "down")
        text = ui.text()
        assert "\\u202etxt.exe" in text and "\\xff\\xfe" in text and "line\\nfeed" in text
        assert not any(ord(char) < 32 and char != "\n" or 0x7F <= ord(char) < 0xA0 for char in text)

    play(f"local:{owner.pid}", script, size=(160, 40))


def test_go_to_completes_names_and_what_is_missing_is_told(
    tmp_path: Path, owner: subprocess.Popen[bytes]
) -> None:
    (tmp_path / "configuration").mkdir()
    (tmp_path / "configuration" / "only.txt").write_text("here\n")

    async def script(ui: Ui) -> None:
        await ui.attached()
        pane = await ui.tab("Files")
        pane.go(str(tmp_path))
        await ui.shows("configuration/")
        await ui.press("o", *"conf", "tab")
        await ui.until(lambda: ui.app.screen.query_one("Input").value.endswith("/configuration/"))
        await ui.press("tab")
        await ui.until(lambda: ui.app.screen.query_one("Input").value.endswith("only.txt"))
        await ui.press("enter")
        await ui.until(lambda: pane.path == str(tmp_path / "configuration"))
        await ui.shows("only.txt")
        await ui.press("o", *"nonsense", "enter")
        await ui.shows("✗")
        await ui.shows("does not")
        assert "only.txt" in ui.text()

    play(f"local:{owner.pid}", script)


def test_a_directory_of_many_entries_shows_its_first_screen_and_then_all(
    tmp_path: Path, owner: subprocess.Popen[bytes]
) -> None:
    for number in range(5000):
        (tmp_path / f"entry-{number:05}").touch()

    async def script(ui: Ui) -> None:
        await ui.attached()
        pane = await ui.tab("Files")
        pane.go(str(tmp_path))
        await ui.until(lambda: len(pane.table.rows) == 5000)
        await ui.press("slash", *"04999")
        await ui.until(lambda: len(pane.table.rows) == 1)

    play(f"local:{owner.pid}", script)


class Failing(FakeBackend):
    """A directory with one file whose first piece comes and whose second does not."""

    def _list_table(self, request: ListTable) -> EntryTable:
        whole = dict.fromkeys(COLUMNS, (0,))
        return EntryTable(request.path, ("binary",), **{**whole, "modes": (0o100644,)})

    def _read(self, request: ReadFile) -> FileChunk:
        if request.offset or request.handle:
            raise Failed("the disk of the node does not answer")
        return FileChunk(request.path, 0, 1 << 20, False, 1, 1, 0, "h", data=bytes(request.size))


def test_a_binary_file_that_cannot_be_read_on() -> None:
    async def script(ui: Ui) -> None:
        await ui.attached()
        pane = await ui.tab("Files")
        await ui.shows("binary")
        assert pane.table.select("binary")
        await ui.press("enter")
        await ui.shows("the disk of the node does not answer")

    play("demo:", script, opener=opening(Failing()))
