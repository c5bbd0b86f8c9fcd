"""A few screens as pictures: what they looked like when somebody last looked at them.

`KDEBUG_WRITE_SNAPSHOTS=1 pytest tests/tui/test_snapshots.py` writes them anew; look at each before it is
kept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kdebug.capture.recipe import parse_recipe
from kdebug.protocol.network import Dns, NetworkConfig
from kdebug.protocol.processes import ProcessPage
from kdebug.protocol.record import replace
from kdebug.protocol.system import Access, AgentInfo, CgroupInfo
from kdebug.tui.capture import Choice

from .conftest import Ui, play
from .fakes import HOSTILE, FakeBackend, a_process, a_route, a_socket, an_interface, opening

FOLDER = Path(__file__).parent / "snapshots"
SIZE = (80, 24)
CLOCK = 1_700_000_060.0
STILL = 4
"""So many pictures in a row that are the same: nothing moves any more."""
WRITE = "KDEBUG_WRITE_SNAPSHOTS"
RECIPE = """
description: A recipe of these tests alone.
steps:
  - facts: [cgroup, processes, sockets]
  - logs: all
"""


class Still(FakeBackend):
    """Nothing moves, whatever the clock says."""

    def __init__(self) -> None:
        states = ("ESTAB", "CLOSE-WAIT", "LISTEN")
        super().__init__(lambda: [a_socket(number, state=state) for number, state in enumerate(states)])
        self.processes = [
            a_process(1, "server", cmdline=("/app/server", "--config", "/etc/app/config.yaml"), user="app"),
            a_process(12, "worker", cmdline=("/app/worker", "--shard=1"), user="app"),
            *(a_process(20 + number, text, cmdline=(text,)) for number, text in enumerate(HOSTILE)),
        ]
        self.config = NetworkConfig((an_interface(),), (a_route(),), Dns(), {})
        self.access = Access(65532, 65532, (), ())

    def _processes(self, request: Any) -> ProcessPage:
        parents = [1 if process.pid == 12 else 0 for process in self.processes]
        rows = tuple(
            replace(process, ppid=parent, fds=7) for process, parent in zip(self.processes, parents)
        )
        return ProcessPage(rows, 1, True, (), taken_at=1_700_000_000.0)

    def _agent(self, request: Any) -> AgentInfo:
        return replace(super()._agent(request), clock_at=CLOCK)

    def _cgroup(self, request: Any) -> CgroupInfo:
        return CgroupInfo(2, "/app", memory_usage_bytes=60 << 20, memory_limit_bytes=64 << 20)


async def overview(ui: Ui) -> None:
    await ui.shows("CLOSE-WAIT")
    await ui.shows("everything that was tried works")
    await ui.shows("Top by memory")


async def processes(ui: Ui) -> None:
    await ui.tab("Processes")
    await ui.shows("/app/worker")
    await ui.press("m")


async def network(ui: Ui) -> None:
    pane = await ui.tab("Network")
    await ui.until(lambda: len(pane.table.rows) == 3)


async def capture(ui: Ui) -> None:
    pane = await ui.tab("Capture")
    await ui.until(lambda: pane.table.rows)
    recipe = parse_recipe(RECIPE, "still.yaml", {})
    pane._list([Choice("still", recipe), Choice("broken", None, "broken.yaml:1: there are no steps")])
    await ui.press("enter")
    await ui.shows("would take at most about")
    await ui.shows("the target is no pod")


SCREENS: dict[str, Callable[[Ui], Awaitable[None]]] = {
    "overview": overview, "processes": processes, "network": network, "capture": capture,
}  # fmt: skip


def normal(svg: str) -> str:
    """Without what is not of the screen: fonts, ids, blank lines."""
    svg = re.sub(r"@font-face\s*\{.*?\}", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family:\s*[^;]*;", "font-family: monospace;", svg)
    svg = re.sub(r"terminal-\d+", "kdebug", svg)
    return "\n".join(line.strip() for line in svg.splitlines() if line.strip()) + "\n"


def written(svg: str) -> list[str]:
    """The lines of text in a picture, for a difference that can be read."""
    return [
        re.sub(r"<[^>]*>", "", line).replace("&#160;", " ") for line in svg.splitlines() if "<text" in line
    ]


@pytest.mark.parametrize("name", SCREENS)
def test_a_screen_looks_as_it_did(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("NO_COLOR", "COLORFGBG"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("KDEBUG_THEME", "dark")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("time.time", lambda: CLOCK)
    # A second look would make the line of usage longer, on a machine that is slow enough.
    monkeypatch.setattr("kdebug.tui.overview_facts.INTERVAL_SECONDS", 3600.0)
    pictures: list[str] = []

    async def script(ui: Ui) -> None:
        await ui.attached()
        await SCREENS[name](ui)
        session = ui.screen.session
        # At rest: nothing is asked, and what was answered is drawn.
        await ui.until(lambda: not session.pending)
        while len(pictures) < STILL or len(set(pictures[-STILL:])) > 1:
            await ui.pilot.pause(0.2)
            pictures.append(normal(ui.app.export_screenshot(title=name)))

    play("local:1", script, opener=opening(Still()), size=SIZE)
    path = FOLDER / f"{name}.svg"
    if os.environ.get(WRITE):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(pictures[-1], encoding="utf-8")
    kept = path.read_text(encoding="utf-8")
    assert written(pictures[-1]) == written(kept)
    assert pictures[-1] == kept, f"the same text in other colours or places; {WRITE}=1 writes it anew"
