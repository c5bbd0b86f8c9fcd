"""The time slider: a bundle with samples is looked at as of each of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kdebug.capture.recipe import parse_recipe
from kdebug.capture.redaction import NoRedaction
from kdebug.capture.runner import Capture, CaptureOptions
from kdebug.errors import AccessDenied
from kdebug.protocol import requests as ask
from kdebug.protocol.processes import ProcessPage
from kdebug.protocol.record import replace
from kdebug.protocol.system import CgroupInfo
from kdebug.target import Target
from kdebug.tui.time_bar import TimeBar, clock, track

from .conftest import Ui, play
from .fakes import INFO, FakeBackend, a_process, a_socket

RECIPE = """
steps:
  - facts: [sockets]
  - facts: [cgroup, processes]
    samples: {every: 300ms, count: 4}
"""
UNRECORDED = 1
"""The runner's own look at the process table, before anything is kept."""


class Changing(FakeBackend):
    """Another process table and another memory at each look; one of them may be refused."""

    def __init__(self, refused: int = 0) -> None:
        super().__init__(lambda: [a_socket(1)])
        self.looks = self.groups = 0
        self.refused = refused

    def _processes(self, request: ask.ListProcesses) -> ProcessPage:
        self.looks += 1
        number = self.looks - UNRECORDED
        if self.refused and number == self.refused:
            raise AccessDenied("the process table is refused", why="it was hidden meanwhile")
        rows = (a_process(1), a_process(100 + number, f"sample-{number}"))
        first = replace(rows[0], cpu_seconds=0.5 * number)
        return ProcessPage((first, rows[1]), number, True, (), taken_at=1000.0 + number)

    def _cgroup(self, request: ask.GetCgroup) -> CgroupInfo:
        self.groups += 1
        return CgroupInfo(2, "/app", memory_usage_bytes=self.groups << 20)


@pytest.fixture
def bundle(tmp_path: Path, run: asyncio.Runner, request: pytest.FixtureRequest) -> str:
    path = tmp_path / "b"
    backend = Changing(getattr(request, "param", 0))

    async def captured() -> None:
        target = Target(backend, INFO, "local:1")
        await Capture(parse_recipe(RECIPE, "r", {}), CaptureOptions(str(path), NoRedaction()), target).run()

    run.run(captured())
    return f"bundle:{path}"


def names(pane: Any) -> set[str]:
    return {row.process.name for row in pane.table.rows}


def test_processes_and_usage_as_of_each_sample(bundle: str) -> None:
    async def script(ui: Ui) -> None:
        await ui.attached()
        timeline, session = ui.screen.session.timeline, ui.screen.session
        assert timeline is not None and len(timeline.stops) == 4
        await ui.shows("(4/4)")
        await ui.until(lambda: len(session.usage.memory()) == 4)
        assert session.usage.memory()[-1] > session.usage.memory()[0]
        pane = await ui.tab("Processes")
        await ui.until(lambda: names(pane) == {"app", "sample-4"})
        assert {row.process.pid: row.cpu_percent for row in pane.table.rows}[1] == pytest.approx(50.0)
        for number in (3, 2, 1):
            await ui.press("{")
            await ui.shows(f"({number}/4)")
            await ui.shows(clock(timeline.stops[number - 1]))
            await ui.until(lambda number=number: names(pane) == {"app", f"sample-{number}"})
        assert all(row.cpu_percent is None for row in pane.table.rows)  # nothing before it to compare with
        await ui.press("{")  # there is no earlier one
        await ui.press("1")
        await ui.until(lambda: len(session.usage.memory()) == 1)
        await ui.press("}", "}", "}", "}")
        await ui.shows("(4/4)")
        await ui.until(lambda: len(session.usage.memory()) == 4)

    play(bundle, script, size=(120, 30))


def test_what_was_not_taken_then_is_named(bundle: str) -> None:
    async def script(ui: Ui) -> None:
        await ui.attached()
        timeline = ui.screen.session.timeline
        assert timeline is not None
        pane = await ui.tab("Network")
        await ui.until(lambda: pane.table.rows)
        taken = timeline.stops[0]
        await ui.shows("not taken then:")
        await ui.until(lambda: abs(dict(timeline.apart()).get("sockets", 0) - taken) < 0.3)
        await ui.shows("sockets (of ")
        for _ in range(3):
            await ui.press("{")
        await ui.shows("(1/4)")
        await ui.until(lambda: "sockets" not in timeline.apart())
        await ui.shows("all that is shown was taken then")

    play(bundle, script, size=(120, 30))


@pytest.mark.parametrize("bundle", [3], indirect=True)
def test_a_sample_that_was_refused_says_so(bundle: str) -> None:
    async def script(ui: Ui) -> None:
        await ui.attached()
        pane = await ui.tab("Processes")
        await ui.until(lambda: names(pane) == {"app", "sample-4"})
        await ui.press("{")
        await ui.shows("it was hidden meanwhile")
        assert not pane.table.rows
        await ui.press("{")
        await ui.until(lambda: names(pane) == {"app", "sample-2"})

    play(bundle, script, size=(120, 30))


def test_a_living_target_has_no_slider(victim: Any) -> None:
    async def script(ui: Ui) -> None:
        await ui.attached()
        await ui.press("{", "}")
        assert ui.screen.session.timeline is None and not ui.screen.query_one(TimeBar).display

    play(f"local:{victim.pid}", script)


def test_the_line_has_its_mark_where_the_sample_is() -> None:
    class Line:
        stops = (1.0, 2.0, 3.0)
        index = 1

    assert track(Line()) == "─●─"  # type: ignore[arg-type]
    assert clock(0.0) == "00:00:00.000" and clock(float("inf")) == "?"
