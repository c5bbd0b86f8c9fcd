"""The guided tour: it notices what was really done, and stays out of the way."""

from __future__ import annotations

import pytest

from kdebug.tui.files import FilesPane
from kdebug.tui.tour import CONFIG, STEPS, TourPanel, TourScreen

from .conftest import Ui, play


def tour_of(ui: Ui) -> TourScreen:
    assert isinstance(ui.screen, TourScreen)
    return ui.screen


async def walk(ui: Ui) -> None:
    """The whole tour by keyboard, as its own text says."""
    await ui.attached()
    tour = tour_of(ui)
    await ui.shows(f"tour 1 of {len(STEPS)}")
    pane = await ui.tab("Processes")
    await ui.until(lambda: len(pane.table.rows) >= 5)
    await ui.press("m")
    await ui.until(lambda: pane.table.rows[0].process.name == "worker-leak", 60)
    await ui.press("g")
    assert tour.step == 0
    await ui.press("enter")
    await ui.until(lambda: tour.step == 1)
    await ui.until(lambda: pane.table.rows[1].process.name == "server")
    await ui.press("j")
    await ui.until(lambda: pane.table.selected.process.name == "server")
    assert tour.step == 1
    await ui.press("right_square_bracket")
    await ui.until(lambda: pane.detail.rows_in_sight)
    await ui.press("enter", "G")
    await ui.until(lambda: tour.step == 2)
    await ui.shows("upload-7f3a.tmp (deleted)")
    await ui.press("right_square_bracket")
    await ui.until(lambda: tour.step == 3)
    await ui.shows("••••••••")
    network = await ui.tab("Network")
    await ui.shows("CLOSE-WAIT!")
    await ui.until(lambda: network.table.selected.entry.state == "CLOSE-WAIT")
    assert tour.step == 3
    await ui.press("enter")
    await ui.until(lambda: tour.step == 4)
    files = await ui.tab("Files")
    await ui.until(lambda: files.table.rows)
    await ui.press("o")
    await ui.shows("Go to a path")
    await ui.press(
        *(("slash" if char == "/" else "full_stop" if char == "." else char) for char in CONFIG), "enter"
    )
    await ui.until(lambda: files.table.selected is not None and files.table.selected.key == "config.yaml")
    assert tour.step == 4
    await ui.press("enter")
    await ui.until(lambda: tour.step == len(STEPS))
    await ui.shows("tour, done")
    await ui.shows("which is why worker-leak grows")


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
def test_the_whole_tour(size: tuple[int, int]) -> None:
    play("demo:", walk, size=size, tour=True)


def test_escape_closes_what_is_inside_first_then_the_panel_and_t_brings_it_back() -> None:
    async def script(ui: Ui) -> None:
        await ui.attached()
        pane = await ui.tab("Processes")
        panel = ui.screen.query_one(TourPanel)
        await ui.until(lambda: panel.display and pane.table.rows)
        await ui.press("slash", *"leak", "escape")
        assert panel.display and not pane.needle
        await ui.press("enter")
        await ui.until(lambda: pane.has_class("detailed"))
        await ui.press("escape")
        await ui.until(lambda: not pane.has_class("detailed"))
        assert panel.display
        await ui.press("escape")
        await ui.until(lambda: not panel.display)
        await ui.press("T")
        await ui.until(lambda: panel.display)
        await ui.pilot.resize_terminal(40, 12)
        await ui.until(lambda: not panel.display)
        await ui.pilot.resize_terminal(80, 24)
        await ui.until(lambda: panel.display)

    play("demo:", script, size=(80, 24), tour=True)


def test_without_its_config_the_tour_leaves_the_files_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdebug.tui.tour.CONFIG", "/etc/app/not-there.yaml")

    async def script(ui: Ui) -> None:
        await ui.attached()
        await ui.until(lambda: FilesPane not in {step.place for step in tour_of(ui).steps})
        await ui.shows(f"tour 1 of {len(STEPS) - 1}")

    play("demo:", script, tour=True)


def test_attach_has_no_tour() -> None:
    async def script(ui: Ui) -> None:
        await ui.attached()
        assert not isinstance(ui.screen, TourScreen) and "tour" not in ui.text()

    play("demo:", script)
