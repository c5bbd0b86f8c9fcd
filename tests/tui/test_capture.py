"""The Capture tab: what a recipe would take, a capture as it goes, what came of it, opened."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path
from typing import Any

import pytest

from kdebug.capture.reader import BundleReader
from kdebug.errors import Failed
from kdebug.expression import parse
from kdebug.open import knows_pod
from kdebug.tui.app import account
from kdebug.tui.capture import CapturePane
from kdebug.tui.dialog import Ask
from kdebug.tui.screen import SessionScreen
from kdebug.tui.session import State

from .conftest import Ui, play
from .fake_cluster import NOT_RUNNING, refusing
from .fakes import FakeBackend, opening
from .test_bundle import cluster_of

SLOW = """
name: slow
steps:
  - facts: [cgroup, processes]
  - facts: [agent]
    samples: {every: 200ms, count: 600}
"""


async def begin(ui: Ui, path: Path) -> CapturePane:
    """Answer the question for the bundle's path."""
    pane: CapturePane = ui.screen.pane  # type: ignore[assignment]
    await answer(ui, "c", path)
    return pane


async def answer(ui: Ui, key: str, path: Path) -> None:
    """The key asks for a path."""
    await ui.press(key)
    await ui.until(lambda: isinstance(ui.app.screen, Ask) and ui.app.screen.query("Input"))
    ui.app.screen.query_one("Input").value = str(path)  # type: ignore[attr-defined]
    await ui.press("enter")
    await ui.until(lambda: not isinstance(ui.app.screen, Ask))


async def recipes(ui: Ui) -> CapturePane:
    await ui.attached()
    pane: CapturePane = await ui.tab("Capture")
    await ui.until(lambda: pane.table.rows)
    return pane


def test_a_recipe_is_looked_at_run_and_opened(tmp_path: Path, victim: Any) -> None:
    path = tmp_path / "web.kdebug.tar.gz"

    async def script(ui: Ui) -> None:
        pane = await recipes(ui)
        assert [row.name for row in pane.table.rows][:2] == ["quick", "standard"]
        await ui.press("enter")
        await ui.shows("the target is never paused")
        assert "ARTIFACTS" in ui.text() and not list(tmp_path.iterdir())
        await begin(ui, path)
        await ui.shows("[o] opens it here")
        assert "✓ quick: complete" in ui.text() or "! quick: partial" in ui.text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await ui.press("enter")
        await ui.shows("the target is never paused")  # what was made can be opened all the same
        below = ui.screen
        await ui.press("o")
        await ui.until(lambda: ui.app.screen is not below)
        await ui.attached()
        assert not below.pane.seen  # what is not seen asks nothing
        processes = await ui.tab("Processes")
        await ui.until(lambda: any(r.process.pid == victim.pid for r in processes.model.rows.values()))
        offline = await ui.tab("Capture")
        await ui.shows("Nothing can be captured here")
        assert not any(offline.check_action(action, ()) for action in ("capture", "file", "open", "stop"))
        await ui.press("q")
        await ui.until(lambda: ui.app.screen is below)
        await ui.until(lambda: below.pane.seen)
        assert account(below.session)[-1] == f"Captured into {path}."

    play(f"local:{victim.pid}", script, size=(100, 40))


def test_a_capture_is_ended_and_leaves_a_bundle(tmp_path: Path, victim: Any) -> None:
    recipe, path = tmp_path / "slow.yaml", tmp_path / "b"
    recipe.write_text(SLOW)

    async def script(ui: Ui) -> None:
        pane = await recipes(ui)
        await answer(ui, "f", recipe)
        await ui.until(lambda: pane.table.selected is not None and pane.table.selected.name == str(recipe))
        await begin(ui, path)
        await ui.until(lambda: pane.run is not None and pane.run.taken is not None)
        await ui.shows("[x] ends it")
        await ui.press("q")
        await ui.shows("still running")  # leaving asks
        await ui.press("n")
        await ui.press("c")  # no second one beside it
        assert ui.app.screen is ui.screen
        await ui.press("x")
        await ui.shows("slow: interrupted")
        with BundleReader(str(path)) as bundle:
            assert bundle.json("manifest.json")["status"] == "interrupted" and not bundle.verify()

    play(f"local:{victim.pid}", script)


@pytest.mark.parametrize("there", [True, False])
def test_a_bundle_that_cannot_be_made(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "b" if there else tmp_path / "no" / "b"
    if there:
        path.write_text("mine")

    async def script(ui: Ui) -> None:
        await recipes(ui)
        await begin(ui, path)
        await ui.shows("is there already" if there else "was not captured")
        assert ui.screen.session.bundles == []

    play("local:1", script, opener=opening(FakeBackend()))
    assert not there or path.read_text() == "mine"


def test_a_target_that_refuses_the_look_is_told(tmp_path: Path) -> None:
    backend = FakeBackend()

    async def script(ui: Ui) -> None:
        pane = await recipes(ui)
        backend.problem = Failed("\x1b[31mno", why="[/b] not today")
        await ui.press("enter")
        await ui.shows("\\x1b[31mno")
        assert pane.session.state is State.LIVE
        backend.problem = None
        await ui.press("enter")
        await ui.shows("would take at most about")

    play("local:1", script, opener=opening(backend))


def test_a_pod_that_cannot_be_entered_is_captured_as_kubernetes_tells_it(tmp_path: Path) -> None:
    path = tmp_path / "b"

    async def script(ui: Ui) -> None:
        await ui.until(lambda: isinstance(ui.app.screen, SessionScreen))
        await ui.until(lambda: ui.screen.session.state is State.CLOSED and ui.screen.session.pod)
        pane = await ui.tab("Capture")
        await ui.until(lambda: pane.table.rows)
        await ui.press("enter")
        await ui.shows("the container app of the pod web")
        await begin(ui, path)
        await ui.shows("! quick: partial")
        assert knows_pod(parse(f"bundle:{path}"))

    cluster = cluster_of(random.Random(1))
    play("web", script, opener=refusing(NOT_RUNNING), cluster_opener=cluster.opener(), size=(100, 40))


def test_a_recipe_with_a_mistake_says_where(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("steps:\n  - facts: [nothing]\n")

    async def script(ui: Ui) -> None:
        pane = await recipes(ui)
        await pane._use_file(str(recipe))
        await ui.shows("cannot be used")
        await ui.shows("fact 'nothing'")
        await ui.press("c")
        assert ui.app.screen is ui.screen and os.listdir(tmp_path) == ["r.yaml"]

    play(parse("local:1"), script, opener=opening(FakeBackend()))
