"""A captured pod in the UI and behind the Cluster seam: its logs, events and story as they were."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kdebug.capture.recipe import parse_recipe
from kdebug.capture.redaction import NoRedaction
from kdebug.capture.runner import Capture, CaptureOptions, Result
from kdebug.errors import AccessDenied, KdebugError, NotCaptured
from kdebug.expression import parse
from kdebug.open import OpenOptions, knows_pod, open_cluster, open_target
from kdebug.target.cluster import EventInfo, LogLine, LogQuery, PodRef, Secrets
from kdebug.tui.session import State

from .conftest import Ui, play
from .fake_cluster import CRASHED, NOT_RUNNING, FakeCluster, pod_object, stamp

RECIPE = """
steps:
  - facts: [processes, cgroup, access, agent, sockets]
  - kubernetes: [pod, events, story, node, owner]
  - logs: all
    previous: true
"""


class Recorded(FakeCluster):
    """Also the node and the owner, one of which may not be read."""

    @property
    def context(self) -> str:
        return "test"

    async def secrets(self, pod: PodRef) -> Secrets:
        return Secrets((), (), {})

    async def related(self, pod: PodRef) -> dict[str, Any]:
        return {"node": {"metadata": {"name": "node-1"}}, "owner": AccessDenied("no", why="forbidden")}


async def captured(path: Path, cluster: Any, problem: KdebugError | None = None) -> Result:
    recipe = parse_recipe(RECIPE, "r.yaml", {})
    options = CaptureOptions(str(path), NoRedaction(), "pod/web", problem=problem)
    pod = await cluster.choose(parse("web"))
    if problem is not None:
        return await Capture(recipe, options, None, cluster, pod).run()
    async with open_target(parse(f"local:{os.getpid()}"), OpenOptions()) as target:
        return await Capture(recipe, options, target, cluster, pod).run()


def cluster_of(chance: random.Random) -> Recorded:
    event = EventInfo(stamp(-30), "Warning", "BackOff", "Back-off restarting", 9, "kubelet", "app")
    cluster = Recorded(pod_object(**CRASHED), listed=[event])
    for name in ("app", "side"):
        at, lines = -100.0, []
        for number in range(chance.randrange(50, 300)):
            at += chance.choice((0.0, 0.001, 0.5))
            text = chance.choice((b"", b" lead", b"\x1b[31m\xff", b"line %d" % number, b"x" * 3000))
            lines.append(LogLine(name, chance.choice((stamp(at), stamp(at), "")), text))
        cluster.lines[name] = lines
    cluster.previous["app"] = [LogLine("app", stamp(-121), b"fatal: out of memory")]
    return cluster


async def collected(lines: AsyncIterator[LogLine]) -> list[LogLine]:
    return [line async for line in lines]


def test_what_kubernetes_told_is_the_same_offline(tmp_path: Path, run: asyncio.Runner, seed: int) -> None:
    live, path = cluster_of(random.Random(seed)), tmp_path / "b"
    result = run.run(captured(path, live))
    assert result.status == "partial" and "forbidden" in result.problems[0]  # the owner
    expression = parse(f"bundle:{path}")
    assert knows_pod(expression)

    async def compare() -> None:
        pod = await live.choose(expression)
        async with open_cluster(OpenOptions(), expression) as offline:
            assert await offline.choose(expression) == pod
            assert await offline.refresh(pod) == pod and await offline.events(pod) == live.listed
            assert await offline.story(pod) == await live.story(pod)
            for name in ("app", "side"):
                for tail in (None, 0, 7, 10_000):
                    query = LogQuery(tail=tail)
                    told = await collected(offline.logs(pod, (name,), query))
                    assert told == await collected(live.logs(pod, (name,), query))
            query = LogQuery(previous=True)
            assert await collected(offline.logs(pod, ("app",), query)) == live.previous["app"]
            both = await collected(offline.logs(pod, ("app", "side"), LogQuery()))
            times = [line.at for line in both if line.at]
            assert times == sorted(times) and len(both) == len(live.lines["app"]) + len(live.lines["side"])
            with pytest.raises(NotCaptured):
                await collected(offline.logs(pod, ("side",), query))
            with pytest.raises(NotCaptured):
                await offline.sessions(True)
            related = await offline.related(pod)
            assert related["node"]["metadata"]["name"] == "node-1"
            assert "forbidden" in str(related["owner"])

    run.run(compare())


def test_a_pod_that_could_not_be_entered(tmp_path: Path, run: asyncio.Runner, seed: int) -> None:
    path = tmp_path / "b"
    result = run.run(captured(path, cluster_of(random.Random(seed)), NOT_RUNNING))
    assert result.status == "partial" and "does not run" in result.problems[0]

    async def script(ui: Ui) -> None:
        await ui.until(lambda: ui.screen.session.state is State.CLOSED)
        await ui.shows("exit code 137 (OOMKilled)")
        await ui.tab("Logs")

    play(f"bundle:{path}", script)


def test_the_ui_shows_a_captured_pod(tmp_path: Path, run: asyncio.Runner, seed: int) -> None:
    live, path = cluster_of(random.Random(seed)), tmp_path / "b"
    live.lines["app"].append(LogLine("app", stamp(1), b"the very last line"))
    run.run(captured(path, live))

    async def script(ui: Ui) -> None:
        await ui.attached()
        await ui.shows("app: BackOff (9 times)")
        await ui.tab("Logs")
        await ui.shows("the very last line")
        pane = await ui.tab("Processes")
        await ui.until(lambda: any(row.process.pid == os.getpid() for row in pane.model.rows.values()))

    play(f"bundle:{path}", script, size=(120, 40))


def test_a_bundle_of_no_pod_has_no_logs(tmp_path: Path, run: asyncio.Runner) -> None:
    path = tmp_path / "b"

    async def plain() -> None:
        recipe = parse_recipe("steps: [{facts: [processes]}]", "r.yaml", {})
        async with open_target(parse(f"local:{os.getpid()}"), OpenOptions()) as target:
            await Capture(recipe, CaptureOptions(str(path), NoRedaction()), target).run()

    run.run(plain())
    assert not knows_pod(parse(f"bundle:{path}"))

    async def script(ui: Ui) -> None:
        await ui.attached()
        assert "Logs" not in [pane.title for pane in ui.screen.panes]

    play(f"bundle:{path}", script)


def test_a_damaged_story_is_told(tmp_path: Path, run: asyncio.Runner, seed: int) -> None:
    """A bundle may be anybody's: whatever stands in it, only `KdebugError` comes out."""
    from kdebug.capture.writer import BundleWriter

    chance = random.Random(seed)
    for number in range(60):
        path = tmp_path / str(number)
        writer = BundleWriter(str(path))
        for name in ("pod", "events", "story", "node"):
            odd: list[Any] = [None, 3, "x", [], {}, [1], {"metadata": 1}, {"facts": 1, "changes": [{}]}]
            odd += [{"metadata": {"name": "w"}, "spec": {"containers": [{"name": "a"}]}}]
            odd += [
                {"facts": {"containers": 3, "conditions": []}, "changes": [], "events": [], "missing": {}}
            ]
            writer.add_json(f"kubernetes/{name}.json", chance.choice(odd))
        writer.add("logs/a.log", bytes(chance.randrange(256) for _ in range(300)))
        writer.add_json("manifest.json", chance.choice([{}, [], {"target": 3}, {"artifacts": [3, {}]}]))
        writer.close()
        expression = parse(f"bundle:{path}")

        async def look(expression: Any = expression) -> None:
            async with open_cluster(OpenOptions(), expression) as offline:
                pod = PodRef("n", "w", "a", ("a",))
                for question in (offline.choose(expression), offline.events(pod), offline.story(pod)):
                    try:
                        json.dumps(vars(await question), default=vars)
                    except KdebugError:
                        pass
                    except TypeError:
                        pass  # a list has no vars
                await collected(offline.logs(pod, ("a",), LogQuery(tail=5)))

        run.run(look())
