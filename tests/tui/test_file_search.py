"""Searches from the files tab: by name, in contents, by size, and deleted files that are still open."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdebug.tui.file_search import SearchScreen

from .conftest import Ui, play
from .test_file_actions import answer, at

HOLDER = """
import os, sys, time
held = open(sys.argv[1] + "/gone.dat", "w+")
held.write("held bytes " * 1000); held.flush()
os.unlink(sys.argv[1] + "/gone.dat")
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-c", HOLDER, str(tmp_path)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "top"
    (top / "a" / "deep").mkdir(parents=True)
    (top / "a" / "deep" / "needle.conf").write_text("colour = blue\nsecret pattern HERE\n")
    (top / "a" / "other.txt").write_text("nothing\n")
    (top / "large.bin").write_bytes(os.urandom(3_000_000))
    return top


async def results(ui: Ui) -> SearchScreen:
    await ui.until(lambda: isinstance(ui.app.screen, SearchScreen) and ui.app.screen.ended)
    screen = ui.app.screen
    assert isinstance(screen, SearchScreen)
    return screen


def test_by_name_and_there(tree: Path, owner: subprocess.Popen[bytes]) -> None:
    async def script(ui: Ui) -> None:
        pane = await at(ui, tree)
        await ui.press("f")
        await answer(ui, "needle")
        screen = await results(ui)
        assert [hit.path for hit in screen.hits] == [str(tree / "a" / "deep" / "needle.conf")]
        await ui.press("enter")
        await ui.until(lambda: pane.path == str(tree / "a" / "deep"))
        await ui.until(lambda: pane.table.selected and pane.table.selected.entry.name == "needle.conf")

    play(f"local:{owner.pid}", script)


def test_in_contents(tree: Path, owner: subprocess.Popen[bytes]) -> None:
    async def script(ui: Ui) -> None:
        await at(ui, tree)
        await ui.press("s")
        await answer(ui, "pattern [A-Z]+")
        screen = await results(ui)
        assert [(hit.line, hit.text.rpartition(": ")[2]) for hit in screen.hits] == [
            (2, "secret pattern HERE")
        ]
        await ui.press("escape", "s")
        await answer(ui, "(unclosed")
        await results(ui)
        await ui.shows("✗")

    play(f"local:{owner.pid}", script)


def test_what_takes_space(tree: Path, owner: subprocess.Popen[bytes]) -> None:
    async def script(ui: Ui) -> None:
        await at(ui, tree)
        await ui.press("D")
        screen = await results(ui)
        assert (
            screen.table.rows[1].path == str(tree / "large.bin")
            and screen.table.rows[1].size_bytes >= 3_000_000
        )

    play(f"local:{owner.pid}", script)


def test_a_deleted_file_is_found_and_read(tree: Path, owner: subprocess.Popen[bytes]) -> None:
    async def script(ui: Ui) -> None:
        await at(ui, tree)
        await ui.press("X")
        screen = await results(ui)
        await ui.press("escape", "X")
        screen = await results(ui)
        mine = next(h for h in screen.hits if f":{owner.pid}/" in h.path and "gone.dat" in h.text)
        assert mine.size_bytes == 11_000 and screen.table.select(mine.key)
        await ui.press("enter")
        await ui.shows("held bytes held bytes")

    play(f"local:{owner.pid}", script)
