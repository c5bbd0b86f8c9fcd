"""The processes tab: live rows, tree, filter, details, signals."""

from __future__ import annotations

import signal
import subprocess

import pytest

from kdebug.open import OpenOptions
from kdebug.process_model import ProcessModel, ProcessRow, tree
from kdebug.protocol.processes import Process, ProcessPage

from .conftest import Ui, play


def process(pid: int, ppid: int = 1, cpu: float = 0.0, start: int = 1) -> Process:
    return Process(
        pid=pid, start_ticks=start, ppid=ppid, name=f"p{pid}", state="S", rss_bytes=pid, vsize_bytes=0,
        cpu_seconds=cpu, threads=1, started_at=0.0,
    )  # fmt: skip


def page(
    generation: int, *items: Process, full: bool = False, gone: tuple[tuple[int, int], ...] = ()
) -> ProcessPage:
    return ProcessPage(items, generation, full, gone, taken_at=float(generation))


def test_cpu_is_measured_between_two_looks_and_zero_for_who_did_not_change() -> None:
    model = ProcessModel()
    model.apply(page(10, process(1, cpu=5.0), process(2, cpu=1.0), full=True), None)
    assert [row.cpu_percent for row in model.rows.values()] == [None, None]
    model.apply(page(12, process(1, cpu=6.0)), None)
    assert {row.process.pid: row.cpu_percent for row in model.rows.values()} == {1: 50.0, 2: 0.0}
    model.apply(page(13, gone=((2, 1),)), None)
    assert [(row.process.pid, row.cpu_percent) for row in model.rows.values()] == [(1, 0.0)]


def test_a_pid_that_changed_hands_is_another_row() -> None:
    model = ProcessModel()
    model.apply(page(10, process(7, cpu=50.0), full=True), None)
    model.apply(page(11, process(7, cpu=0.1, start=2), gone=((7, 1),)), None)
    (row,) = model.rows.values()
    assert row.key == (7, 2) and row.cpu_percent is None


def test_a_tree_shows_everybody_once_even_in_a_ring() -> None:
    rows = [
        ProcessRow(process(pid, ppid), None)
        for pid, ppid in ((1, 0), (2, 1), (3, 2), (4, 1), (8, 9), (9, 8))
    ]
    shown = tree(rows)
    assert [(row.process.pid, row.branch) for row in shown] == [
        (1, ""), (2, "├─ "), (3, "│  └─ "), (4, "└─ "), (8, ""), (9, "")
    ]  # fmt: skip


def test_ten_thousand_generations_deep() -> None:
    rows = [ProcessRow(process(pid, pid - 1), None) for pid in range(1, 10_001)]
    assert [row.process.pid for row in tree(rows)] == list(range(1, 10_001))


def test_the_table_its_tree_and_its_filter() -> None:
    async def script(ui: Ui) -> None:
        await ui.attached()
        pane = await ui.tab("Processes")
        await ui.shows("/app/worker-leak")
        await ui.press("t")
        await ui.shows("└─ /app/client")
        await ui.press("slash", *"leak")
        await ui.until(lambda: len(pane.table.rows) == 1)
        await ui.press("enter", "enter")
        await ui.shows("summary")
        await ui.shows("capabilities")
        await ui.press("right_square_bracket")
        await ui.shows("socket:[")
        await ui.press("right_square_bracket")
        await ui.shows("DB_PASSWORD")
        assert "••••" in ui.text() and "hunter" not in ui.text()

    play("demo:", script)


def test_a_signal_is_sent_after_a_question_and_accounted_for(victim: subprocess.Popen[bytes]) -> None:
    async def script(ui: Ui) -> None:
        await ui.attached()
        pane = await ui.tab("Processes")
        await ui.press("slash", *"--victim", "enter")
        await ui.until(lambda: [row.process.pid for row in pane.table.rows] == [victim.pid])
        await ui.press("s")
        await ui.shows(f"Signal to {victim.pid}")
        await ui.press("enter")
        await ui.shows("Send SIGTERM")
        assert victim.poll() is None
        await ui.press("n")
        await ui.press("s", "enter")
        await ui.shows("Send SIGTERM")
        await ui.press("y")
        await ui.until(lambda: victim.poll() == -signal.SIGTERM)
        await ui.until(lambda: ui.screen.session.actions)
        assert str(victim.pid) in ui.screen.session.actions[0]

    play(f"local:{victim.pid}", script)


def test_a_read_only_session_sends_no_signal(victim: subprocess.Popen[bytes]) -> None:
    async def script(ui: Ui) -> None:
        await ui.attached()
        pane = await ui.tab("Processes")
        await ui.until(lambda: pane.table.rows)
        await ui.press("s")
        await ui.shows("this session is read-only")
        assert "read-only" in ui.text().splitlines()[0]

    play(f"local:{victim.pid}", script, options=OpenOptions(read_only=True))


@pytest.mark.parametrize("size", [(80, 24), (200, 50), (20, 10)])
def test_every_size_has_a_table(size: tuple[int, int]) -> None:
    async def script(ui: Ui) -> None:
        await ui.attached()
        pane = await ui.tab("Processes")
        await ui.until(lambda: pane.table.rows)
        await ui.press("enter")
        await ui.pilot.resize_terminal(30, 12)
        await ui.pilot.resize_terminal(*size)
        await ui.until(lambda: pane.table.rows)
        lines = ui.text().splitlines()
        assert len(lines) == size[1] and "CPU%" in ui.text() or size[0] < 40

    play("demo:", script, size=size)
