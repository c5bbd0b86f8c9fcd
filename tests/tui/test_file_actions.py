"""Copies with their progress, and changes of files, from the files tab."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from kdebug.expression import TargetExpression
from kdebug.open import OpenOptions, open_target
from kdebug.target import Target
from kdebug.tui.session import State

from .conftest import Ui, play


@pytest.fixture
def owner() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    folder = tmp_path / "remote"
    folder.mkdir()
    return folder


class Gate:
    """A target whose reads wait behind an offset until `opened` is set: a copy that lasts."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.opened = asyncio.Event()

    @contextlib.asynccontextmanager
    async def opener(self, expression: TargetExpression, options: OpenOptions) -> AsyncIterator[Target]:
        async with open_target(expression, options) as target:
            inner, gate = target.backend, self

            class Gated:
                async def send(self, request: Any) -> Any:
                    if getattr(request, "offset", 0) >= gate.offset:
                        await gate.opened.wait()
                    return await inner.send(request)

                async def close(self) -> None:
                    await inner.close()

            target.backend = Gated()
            yield target


async def at(ui: Ui, folder: Path) -> object:
    await ui.attached()
    pane = await ui.tab("Files")
    pane.go(str(folder))
    await ui.until(lambda: pane._shown_path == str(folder))
    return pane


async def answer(ui: Ui, text: str) -> None:
    """Fill the field that is asked for and press Enter."""
    await ui.until(lambda: bool(ui.app.screen.query("Input")) and ui.app.screen.focused is not None)
    ui.app.screen.query_one("Input").value = text  # type: ignore[attr-defined]
    await ui.press("enter")


def test_marked_files_are_copied_down_and_told(
    remote: Path, tmp_path: Path, owner: subprocess.Popen[bytes], seed: int
) -> None:
    content = random.Random(seed).randbytes(3_000_000)
    (remote / "a.bin").write_bytes(content)
    (remote / "b").mkdir()
    (remote / "b" / "inner").write_text("inner\n")
    local = tmp_path / "local"
    local.mkdir()

    async def script(ui: Ui) -> None:
        await at(ui, remote)
        await ui.press("space", "space", "d")
        await answer(ui, str(local))
        tasks = ui.screen.session.tasks
        await ui.until(lambda: tasks.all and not tasks.running)
        assert tasks.all[0].state == "done", tasks.all[0].line()
        await ui.press("w")
        await ui.shows("2 verified")

    play(f"local:{owner.pid}", script)
    assert (local / "a.bin").read_bytes() == content and (local / "b" / "inner").read_text() == "inner\n"


def test_what_cannot_be_copied_says_why_and_nothing_is_overwritten(
    remote: Path, tmp_path: Path, owner: subprocess.Popen[bytes]
) -> None:
    (remote / "file").write_text("theirs")
    (tmp_path / "file").write_text("mine")

    async def script(ui: Ui) -> None:
        await at(ui, remote)
        await ui.press("d")
        await answer(ui, str(tmp_path / "nowhere"))
        await ui.until(lambda: "is not a directory" in " ".join(ui.text().split()))
        await ui.press("d")
        await answer(ui, str(tmp_path))
        tasks = ui.screen.session.tasks
        await ui.until(lambda: tasks.all and not tasks.running)
        assert tasks.all[0].state in ("failed", "incomplete")
        assert "exists" in tasks.all[0].line(), tasks.all[0].line()

    play(f"local:{owner.pid}", script)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_copy_can_be_cancelled_and_resumed(
    remote: Path, tmp_path: Path, owner: subprocess.Popen[bytes], seed: int
) -> None:
    content = random.Random(seed).randbytes(12_000_000)
    gate = Gate(8_000_000)
    (remote / "large").write_bytes(content)
    local = tmp_path / "local"
    local.mkdir()

    async def script(ui: Ui) -> None:
        await at(ui, remote)
        await ui.press("d")
        await answer(ui, str(local))
        tasks = ui.screen.session.tasks
        await ui.until(
            lambda: tasks.all and tasks.all[0].progress and tasks.all[0].progress.done_bytes > 4e6
        )
        await ui.press("w", "x")
        await ui.until(lambda: tasks.all[0].state == "cancelled")
        assert not (local / "large").exists() and list(local.iterdir())
        gate.opened.set()
        await ui.press("escape", "d")
        await answer(ui, str(local))
        await ui.until(lambda: len(tasks.all) == 2 and not tasks.running, 60)
        assert tasks.all[1].state == "done" and tasks.all[1].report.resumed_bytes > 0

    play(f"local:{owner.pid}", script, opener=gate.opener)
    assert (local / "large").read_bytes() == content and len(list(local.iterdir())) == 1


@contextlib.contextmanager
def little_room(size: int) -> Iterator[None]:
    """No file can grow beyond `size`: as a full disk does, the kernel refuses what does not fit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_is_told_and_the_copy_goes_on_once_there_is_room(
    remote: Path, tmp_path: Path, owner: subprocess.Popen[bytes], seed: int
) -> None:
    content = random.Random(seed).randbytes(12_000_000)
    (remote / "large").write_bytes(content)
    local = tmp_path / "local"
    local.mkdir()

    async def script(ui: Ui) -> None:
        pane: Any = await at(ui, remote)
        tasks = ui.screen.session.tasks
        with little_room(8_000_000):
            await ui.press("d")
            await answer(ui, str(local))
            await ui.until(lambda: tasks.all and not tasks.running)
        assert tasks.all[0].state == "failed", tasks.all[0].line()
        assert "File too large" in tasks.all[0].line()
        await ui.shows("failed: ")  # whatever tab is seen
        assert not (local / "large").exists()
        # Nothing else is lost: the same session goes on, and so does the copy.
        assert ui.screen.session.state is State.LIVE and pane.table.rows
        await ui.press("d")
        await answer(ui, str(local))
        await ui.until(lambda: len(tasks.all) == 2 and not tasks.running, 60)
        assert tasks.all[1].state == "done" and tasks.all[1].report.resumed_bytes > 0

    play(f"local:{owner.pid}", script)
    assert (local / "large").read_bytes() == content and len(list(local.iterdir())) == 1


def test_files_are_put_edited_made_and_removed(
    remote: Path, tmp_path: Path, owner: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.txt").write_text("mine\n")

    async def script(ui: Ui) -> None:
        pane = await at(ui, remote)
        await ui.press("u")
        await answer(ui, str(tmp_path / "mine.txt"))
        tasks = ui.screen.session.tasks
        await ui.until(lambda: tasks.all and not tasks.running)
        assert (remote / "mine.txt").read_text() == "mine\n"
        await ui.press("M")
        await answer(ui, "made")
        await ui.until((remote / "made").is_dir)
        await ui.shows("made/")
        await ui.until(lambda: pane.table.select("mine.txt"))
        await ui.press("C")
        await answer(ui, "u=rw,go=")
        await ui.until(lambda: stat.S_IMODE((remote / "mine.txt").stat().st_mode) == 0o600)
        await ui.press("delete")
        await ui.shows("cannot be brought back")
        await ui.press("n")
        assert (remote / "mine.txt").exists()
        await ui.press("delete")
        await ui.shows("cannot be brought back")
        await ui.press("y")
        await ui.until(lambda: not (remote / "mine.txt").exists())
        done = "\n".join(ui.screen.session.actions)
        assert all(word in done for word in ("copied", "made", "mode", "removed"))

    play(f"local:{owner.pid}", script)


def test_a_read_only_session_changes_nothing(remote: Path, owner: subprocess.Popen[bytes]) -> None:
    (remote / "file").write_text("kept")
    os.chmod(remote / "file", 0o640)

    async def script(ui: Ui) -> None:
        await at(ui, remote)
        for key in ("u", "e", "delete", "M", "C"):
            await ui.press(key)
            await ui.shows("this session is read-only")
            assert ui.app.screen is ui.screen

    play(f"local:{owner.pid}", script, options=OpenOptions(read_only=True))
    assert (remote / "file").read_text() == "kept"


def test_leaving_asks_while_something_is_copied(
    remote: Path, tmp_path: Path, owner: subprocess.Popen[bytes]
) -> None:
    (remote / "large").write_bytes(os.urandom(12_000_000))
    local = tmp_path / "local"
    local.mkdir()

    async def script(ui: Ui) -> None:
        await at(ui, remote)
        await ui.press("d")
        await answer(ui, str(local))
        await ui.until(lambda: ui.screen.session.tasks.running)
        await ui.press("q")
        await ui.shows("leave and stop")
        await ui.press("n")
        assert ui.screen.session.target is not None
        await ui.press("q")
        await ui.shows("leave and stop")
        await ui.press("y")
        await ui.until(lambda: ui.app._exit)

    play(f"local:{owner.pid}", script, opener=Gate(4_000_000).opener)
    assert not (local / "large").exists()
