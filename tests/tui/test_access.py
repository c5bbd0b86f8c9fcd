"""The access tab: what works, why not, what would fix it; and what we cost."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kdebug.errors import AccessDenied
from kdebug.expression import TargetExpression
from kdebug.open import OpenOptions
from kdebug.protocol.system import Ability, Access, AgentInfo
from kdebug.target.cluster import PlanStep, PodRef
from kdebug.tui.access_text import ability_lines, cost_lines, identity_lines, plan_lines, step_lines

from .conftest import Ui, play
from .fakes import HOSTILE, FakeBackend, opening
from .test_network import harmless

ABILITIES = (
    Ability("files read", True, "8 entries in /"),
    Ability("files write", False, "Read-only file system", "a writable volume"),
    Ability("trace", None, "not tried (it would stop the target)"),
)


def test_every_ability_has_a_word_beside_its_mark_and_a_remedy_where_it_is_refused() -> None:
    lines = [(line.text, line.style) for line in ability_lines(Access(0, 0, (), ABILITIES))]
    assert [(text.split()[:2], style) for text, style in lines[1:3]] == [
        (["✓", "yes"], "good"), (["✗", "no"], "bad")
    ]  # fmt: skip
    assert lines[3][0].strip() == "fix: a writable volume"
    assert lines[4][0].split()[:2] == ["?", "unknown"] and lines[4][1] == "warn" and len(lines) == 5


def test_what_we_cost_is_told_as_a_share_and_a_clock_that_differs_is_told() -> None:
    agent = AgentInfo(7, "3.11.2", "abc", 12 << 20, 1.5, 60.0, 1000, True, None, 0.5, 0.0)
    text = "\n".join(line.text for line in cost_lines(agent, 0.1))
    cpu = "1.50 s in 1m00s: 2.5 % of one core, of a quota of 0.5"
    for part in ("12.0M resident", cpu, "oom_score_adj 1000", "before the target", "without psutil"):
        assert part in text
    assert "clock" not in text
    assert any("-90 s" in line.text for line in cost_lines(agent, -90.0))


def test_read_only_rung_and_capabilities_are_told() -> None:
    def told(access: Access, read_only: bool, rung: str) -> str:
        return "\n".join(line.text for line in identity_lines(access, read_only, rung))

    assert "NET_RAW SYS_PTRACE" in told(
        Access(0, 0, ("cap_net_raw", "cap_sys_ptrace"), ()), False, "ptrace"
    )
    assert "read-only" in told(Access(1, 2, (), ()), True, "") and "uid 1 gid 2" in told(
        Access(1, 2, (), ()), True, ""
    )
    assert "rung" not in told(Access(1, 2, (), ()), True, "")


def test_steps_have_times_and_nothing_made_is_said() -> None:
    text = [line.text for line in step_lines([(0.25, "PATCH")], [])]
    assert any("0.25 s  PATCH" in line for line in text) and text[-1].strip() == "nothing"


def test_the_tab_on_the_practice_target_has_no_ladder() -> None:
    async def script(ui: Ui) -> None:
        await ui.attached()
        pane = await ui.tab("Access")
        await ui.shows("✓ yes      process list")
        await ui.shows("packet capture")
        assert not any(active.binding.action == "plan" for active in ui.screen.active_bindings.values())
        await ui.press("d")
        assert pane.host.screen is ui.screen and "ladder" not in ui.text()
        await ui.press("slash", *"resident", "enter")
        await ui.until(lambda: "process list" not in ui.text())
        assert "resident" in ui.text()

    play("demo:", script)


def test_on_this_machine_without_the_right_to_write() -> None:
    async def script(ui: Ui) -> None:
        await ui.attached()
        await ui.tab("Access")
        await ui.shows("read-only: the agent refuses")
        await ui.shows(f"PID {os.getpid()}")

    play(f"local:{os.getpid()}", script, options=OpenOptions(read_only=True), size=(120, 60))


class FakeCluster:
    """One pod, and one answer after the other to the question for its plan."""

    def __init__(self, answers: list[Any]) -> None:
        self.answers = answers

    async def choose(self, expression: TargetExpression) -> PodRef:
        return PodRef("shop", expression.value, "app", ("app",))

    async def refresh(self, pod: PodRef) -> PodRef:
        return pod

    async def story(self, pod: PodRef) -> Any:
        raise AccessDenied("the pod may not be read")

    async def plan(self, pod: PodRef) -> list[PlanStep]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [PlanStep(*step) for step in answer]


def with_cluster(answers: list[Any]) -> Any:
    @contextlib.asynccontextmanager
    async def open_one(options: OpenOptions) -> AsyncIterator[Any]:
        yield FakeCluster(answers)

    return open_one


def test_the_ladder_of_a_pod_is_asked_on_request_only() -> None:
    answers = [
        AccessDenied("the plan may not be asked", why="pods is forbidden"),
        [("match", "uid 1000", "passes restricted", "accepted"),
         ("ptrace", "root", "adds SYS_PTRACE", "refused", "violates PodSecurity \x1b[31m")],
    ]  # fmt: skip
    backend = FakeBackend()
    backend.access = Access(0, 0, (), ABILITIES)

    async def script(ui: Ui) -> None:
        await ui.attached()
        await ui.tab("Access")
        await ui.shows("[d] asks the API server")
        assert len(answers) == 2
        await ui.press("d")
        await ui.shows("✗ the plan may not be asked")
        await ui.press("d")
        await ui.shows("✓ accepted match")
        await ui.shows("✗ refused  ptrace")
        await ui.shows("the server: violates PodSecurity \\x1b[31m")
        assert not answers

    clusters = with_cluster(answers)
    play("pod/web", script, opener=opening(backend), cluster_opener=clusters, size=(100, 50))


@pytest.mark.parametrize("size", [(80, 24), (20, 10)])
def test_hostile_reasons_never_reach_the_screen_raw(size: tuple[int, int]) -> None:
    backend = FakeBackend()
    backend.access = Access(0, 0, HOSTILE, tuple(Ability(text, False, text, text) for text in HOSTILE))

    async def script(ui: Ui) -> None:
        await ui.attached()
        await ui.tab("Access")
        await ui.shows("what works")
        for _ in range(6):
            harmless(ui.text())
            await ui.press("pagedown")
        await ui.press("y")
        harmless(ui.text())

    play("demo:", script, opener=opening(backend), size=size)
    assert [line.style for line in plan_lines([PlanStep("r", "r", "w", HOSTILE[0])])][1] == "warn"
