"""Overview: findings with a way to their place, a pod that cannot be entered, waiting for its start."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

import pytest

from kdebug.errors import Failed, TargetLost
from kdebug.expression import TargetExpression
from kdebug.open import OpenOptions, open_target
from kdebug.target import Target
from kdebug.target.cluster import EventInfo, LogLine
from kdebug.tui.overview import Findings
from kdebug.tui.session import State

from .conftest import Ui, play
from .fake_cluster import CRASHED, NOT_RUNNING, FakeCluster, own_process, pod_object, refusing, stamp


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
def test_the_faults_of_the_practice_target_and_the_way_to_them(size: tuple[int, int]) -> None:
    async def script(ui: Ui) -> None:
        await ui.attached()
        await ui.shows("holds a socket in CLOSE-WAIT")
        await ui.shows("a deleted file of 3.0M is held open by server")
        findings = ui.screen.pane.query_one(Findings)
        for _ in range(20):
            if findings.selected is not None and "deleted file" in findings.selected.text:
                break
            await ui.press("j" if findings.cursor < len(findings.found) - 1 else "k")
        await ui.press("enter")
        await ui.until(lambda: ui.screen.pane.title == "Processes")
        await ui.shows("upload-7f3a.tmp")
        await ui.press("1")
        # A trend takes its time, on a busy machine more of it.
        await ui.shows("memory of worker-leak", seconds=90)

    play("demo:", script, size=size)


def test_usage_over_time_and_who_uses_most() -> None:
    async def script(ui: Ui) -> None:
        await ui.attached()
        await ui.shows("Top by CPU")
        await ui.until(lambda: len(ui.screen.session.usage.cores()) >= 2)
        await ui.shows("Usage  the last")
        text = ui.text()
        assert "Top by memory" in text and "access" in text

    play(f"local:{os.getpid()}", script, size=(160, 40))


def test_both_tabs_share_one_process_table() -> None:
    async def script(ui: Ui) -> None:
        await ui.attached()
        await ui.until(lambda: ui.screen.session.processes.rows)
        pane = await ui.tab("Processes")
        await ui.until(lambda: pane.table.rows)
        assert pane.model is ui.screen.session.processes

    play("demo:", script)


def test_a_pod_that_cannot_be_entered_is_told_by_kubernetes_alone() -> None:
    event = EventInfo(stamp(-30), "Warning", "BackOff", "Back-off restarting", 9, "kubelet", "app")
    cluster = FakeCluster(pod_object(**CRASHED), listed=[event])
    cluster.previous["app"] = [LogLine("app", stamp(-121), b"fatal: out of memory")]

    async def script(ui: Ui) -> None:
        await ui.until(lambda: ui.screen.session.state is State.CLOSED)
        await ui.shows("[w] attach by itself when the container starts")
        await ui.shows("✗ app does not run: CrashLoopBackOff")
        await ui.shows("exit code 137 (OOMKilled), ")
        await ui.press("pagedown", "pagedown")
        await ui.shows("app: BackOff (9 times)")
        await ui.press("enter")
        await ui.shows("fatal: out of memory")
        assert ui.screen.pane.title == "Logs" and "previous instance" in ui.text()

    play("web", script, opener=refusing(NOT_RUNNING), cluster_opener=cluster.opener(), size=(80, 24))


def test_waiting_attaches_by_itself_and_can_be_cancelled() -> None:
    started = asyncio.Event()
    asked: list[OpenOptions] = []

    @contextlib.asynccontextmanager
    async def opener(expression: TargetExpression, options: OpenOptions) -> AsyncIterator[Target]:
        asked.append(options)
        if not options.pod.wait:
            raise NOT_RUNNING
        options.step("waiting for app to start")
        await started.wait()
        async with own_process(expression, options) as target:
            yield target

    async def script(ui: Ui) -> None:
        await ui.shows("[w] attach by itself")
        await ui.press("w")
        await ui.shows("waiting for app to start")
        await ui.shows("[esc] cancel")
        await ui.press("escape")
        await ui.shows("the attach was cancelled")
        await ui.press("a")
        await ui.until(lambda: len(asked) == 3)
        assert not asked[-1].pod.wait, "to try again is not to wait"
        await ui.shows("does not run")
        await ui.press("w")
        await ui.shows("waiting for app to start")
        started.set()
        await ui.attached()
        await ui.shows("Top by CPU")

    cluster = FakeCluster(pod_object(**CRASHED))
    play("web", script, opener=opener, cluster_opener=cluster.opener())


def test_of_an_owner_the_pod_that_is_attached_is_the_one_that_is_described() -> None:
    asked: list[tuple[str, OpenOptions]] = []

    @contextlib.asynccontextmanager
    async def opener(expression: TargetExpression, options: OpenOptions) -> AsyncIterator[Target]:
        asked.append((str(expression), options))
        async with own_process(expression, options) as target:
            yield target

    async def script(ui: Ui) -> None:
        await ui.attached()
        await ui.shows("shop/web › app")

    play("deploy/shop", script, opener=opener, cluster_opener=FakeCluster().opener())
    ((expression, options),) = asked
    assert expression == "pod/web" and options.pod.container == "app"


def test_a_target_that_ended_leaves_its_data_marked_until_the_new_one_answers() -> None:
    ending: list[Target] = []

    @contextlib.asynccontextmanager
    async def opener(expression: TargetExpression, options: OpenOptions) -> AsyncIterator[Target]:
        async with open_target(TargetExpression("local", str(os.getpid())), options) as target:
            ending.append(target)
            yield target

    async def script(ui: Ui) -> None:
        await ui.attached()
        pane = await ui.tab("Processes")
        await ui.until(lambda: pane.table.rows)

        async def send(request: object) -> object:
            raise TargetLost("the container app has ended while it was looked at", why="exit code 137")

        ending[0].backend.send = send  # type: ignore[method-assign,assignment]
        await ui.shows("attach to the new instance")
        assert pane.table.rows and "is" in ui.text()
        await ui.press("a")
        await ui.attached()
        await ui.until(lambda: "new instance" not in ui.text())
        assert ui.screen.session.generation == 2

    play("web", script, opener=opener, cluster_opener=FakeCluster().opener())


def test_hostile_facts_never_reach_the_screen_raw() -> None:
    evil = "\x1b[2J[/foo]\u202e" + "中" * 300
    pod = pod_object({"waiting": {"reason": evil, "message": evil}})
    pod["spec"]["containers"][0]["image"] = evil
    pod["spec"]["containers"][0]["livenessProbe"] = {"exec": {"command": [evil]}}
    pod["metadata"]["ownerReferences"] = [{"kind": evil, "name": evil}]
    events = [EventInfo(stamp(-1), "Warning", evil, evil, 1, evil, evil)]

    async def script(ui: Ui) -> None:
        await ui.until(lambda: ui.screen.session.state is State.CLOSED)
        await ui.shows(r"\x1b[2J[/foo]\u202e")
        for size in ((80, 24), (200, 60), (30, 10)):
            await ui.pilot.resize_terminal(*size)
            await ui.press("j", "pagedown", "g")
            assert all(c.isprintable() or c == "\n" for c in ui.text())

    cluster = FakeCluster(pod, listed=events)
    play("web", script, opener=refusing(Failed(evil, why=evil)), cluster_opener=cluster.opener())
