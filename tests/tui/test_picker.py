"""The picker on a cluster of our own: 5,000 pods, fuzzy filter, what Enter does, what fails and returns."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import stat
import statistics
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Optional

import pytest

from kdebug import recent
from kdebug.errors import AccessDenied, ConnectionLost, KdebugError, NotFound
from kdebug.expression import TargetExpression
from kdebug.kube.podlist import intent
from kdebug.kube.summary import summary
from kdebug.open import OpenOptions, PodOptions
from kdebug.recent import Recent
from kdebug.target import Target
from kdebug.target.cluster import ContextInfo, Intent, PodDelta, PodRef, PodSummary, Story
from kdebug.tui.app import KdebugApp
from kdebug.tui.chooser import Chooser
from kdebug.tui.fuzzy import Fuzzy, Haystack
from kdebug.tui.picker import PickerScreen
from kdebug.tui.picker_feed import PodFeed
from kdebug.tui.picker_rows import BROKEN, FINE, OVER, UNSETTLED, PodRow
from kdebug.tui.screen import SessionScreen
from kdebug.tui.session import State
from support import many_pods

from .conftest import Ui

HOSTILE = "\x1b]0;pwned\x07[/foo][bold]\u202e\u200b日本\u0301\n\r" + "x" * 10_000


def pod(name: str, namespace: str = "default", **fields: Any) -> PodSummary:
    """A running pod; `fields` are the API's: `reason` makes its container wait."""
    reason, names = fields.pop("reason", ""), fields.pop("containers", ["app"])
    state: dict[str, Any] = {"waiting": {"reason": reason}} if reason else {"running": {"startedAt": ""}}
    last = fields.pop("last", {})
    found = summary(
        {
            "metadata": {
                "name": name,
                "namespace": namespace,
                "resourceVersion": str(fields.pop("version", 1)),
                **fields.pop("metadata", {}),
            },
            "spec": {
                "nodeName": fields.pop("node", "node-1"),
                "containers": [
                    {
                        "name": one,
                        "image": fields.pop("image", "registry/app:1"),
                        "securityContext": {"runAsUser": 1000, "runAsGroup": 1000},
                    }
                    for one in names
                ],
            },
            "status": {
                "phase": "Running",
                "containerStatuses": [
                    {
                        "name": one,
                        "state": state,
                        "ready": not reason,
                        "restartCount": 1 if last else 0,
                        "lastState": last,
                    }
                    for one in names
                ],
                **fields,
            },
        }
    )
    assert found is not None
    return found


class FakeCluster:
    """`Cluster` as the picker uses it: what is put into `deltas` is what the server tells."""

    def __init__(self, context: str, namespaces: dict[str, list[PodSummary]]) -> None:
        self.context = context
        self.namespace = next(iter(namespaces))
        self.content = namespaces
        self.problem: Optional[KdebugError] = None
        """Raised instead of the next list, and by the watch that is under way."""
        self.no_namespaces = False
        self.asked: list[str] = []
        self.long_story = False
        self.log: list[str] = []
        """Stories that are asked and ended, and connections that are closed, in their order."""
        self._queues: set[asyncio.Queue[PodDelta | None]] = set()

    async def namespaces(self) -> list[str]:
        if self.no_namespaces:
            raise AccessDenied("the namespaces cannot be listed", why="RBAC says no")
        return sorted(self.content)

    async def pods(self, namespace: str) -> AsyncIterator[PodDelta]:
        self.asked.append(namespace)
        if self.problem is not None:
            raise self.problem
        if not namespace and self.no_namespaces:
            raise AccessDenied("the pods of all namespaces cannot be listed", why="RBAC says no")
        chosen = [p for name, pods in self.content.items() if namespace in ("", name) for p in pods]
        for start in range(0, max(1, len(chosen)), 500):
            left = max(0, len(chosen) - start - 500)
            yield PodDelta(tuple(chosen[start : start + 500]), (), start == 0, not left, left)
            await asyncio.sleep(0)
        queue: asyncio.Queue[PodDelta | None] = asyncio.Queue()
        self._queues.add(queue)
        try:
            while True:
                delta = await queue.get()
                if delta is None:
                    assert self.problem is not None
                    raise self.problem
                yield delta
        finally:
            self._queues.discard(queue)

    def tell(self, *pods: PodSummary, gone: tuple[tuple[str, str], ...] = ()) -> None:
        for queue in self._queues:
            queue.put_nowait(PodDelta(pods, gone))

    def breaks(self, problem: KdebugError) -> None:
        self.problem = problem
        for queue in self._queues:
            queue.put_nowait(None)

    def intent(self, found: PodSummary, container: str) -> Intent:
        return intent(found, container, "image", "auto")

    async def choose(self, expression: TargetExpression) -> Any:
        every = [found for pods in self.content.values() for found in pods]
        named = [found for found in every if found.name == expression.value or expression.scheme != "pod"]
        if not named:
            raise NotFound(f"there is no pod {expression.value}")
        found = named[0]
        whole = json.loads(found.essence)
        names = tuple(container.name for container in found.containers)
        return PodRef(found.namespace, found.name, found.default_container, names, (), whole)

    async def refresh(self, pod: PodRef) -> PodRef:
        return pod

    async def story(self, pod: PodRef) -> Story:
        if not self.long_story:
            raise NotFound("no story is told here")
        self.log.append("asked")
        try:
            await asyncio.sleep(600)
        finally:
            self.log.append("ended")
        raise AssertionError("nobody waits so long")


class Fakes:
    """Clusters by context, and the targets that were opened."""

    def __init__(self, *clusters: FakeCluster) -> None:
        self.clusters = {cluster.context: cluster for cluster in clusters}
        self.current = clusters[0].context
        self.opened: list[tuple[TargetExpression, PodOptions]] = []
        self.hang = False
        """Attaching never ends."""
        self.cluster_problem: Optional[KdebugError] = None

    @contextlib.asynccontextmanager
    async def cluster(self, options: OpenOptions) -> AsyncIterator[Any]:
        if self.cluster_problem is not None:
            raise self.cluster_problem
        cluster = self.clusters[options.pod.context or self.current]
        yield cluster
        cluster.log.append("closed")

    @contextlib.asynccontextmanager
    async def target(self, expression: TargetExpression, options: OpenOptions) -> AsyncIterator[Target]:
        self.opened.append((expression, options.pod))
        options.step("adding kdebug-x")
        try:
            if self.hang:
                await asyncio.sleep(600)
        except BaseException:
            options.note("the ephemeral container kdebug-x was added before this failed, and stays")
            raise
        raise NotFound("this is only a fake")
        yield

    def contexts(self, options: OpenOptions) -> list[ContextInfo]:
        return [
            ContextInfo(name, f"cluster of {name}", "me", "", name == self.current)
            for name in self.clusters
        ]


class Picker(Ui):
    fakes: Fakes

    @property
    def picker(self) -> PickerScreen:
        assert isinstance(self.app.screen, PickerScreen)
        return self.app.screen

    @property
    def names(self) -> list[str]:
        return [row.pod.name for row in self.picker.table.rows]

    @property
    def selected(self) -> str:
        row = self.picker.table.selected
        return row.pod.name if row is not None else ""

    async def listed(self) -> None:
        await self.until(lambda: isinstance(self.app.screen, PickerScreen))
        await self.until(lambda: self.picker.feed.complete and self.picker.table.total)

    async def chooser(self) -> None:
        await self.until(lambda: isinstance(self.app.screen, Chooser))


@pytest.fixture(autouse=True)
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "kdebug"


def play(
    fakes: Fakes | FakeCluster,
    script: Callable[[Picker], Any],
    *,
    size: tuple[int, int] = (100, 30),
    pod_options: PodOptions | None = None,
) -> KdebugApp:
    made = fakes if isinstance(fakes, Fakes) else Fakes(fakes)

    async def whole() -> KdebugApp:
        app = KdebugApp(None, OpenOptions(pod=pod_options or PodOptions()), made.target, made.cluster)
        app.contexts = made.contexts
        async with app.run_test(size=size) as pilot:
            ui = Picker(app, pilot)
            ui.fakes = made
            await script(ui)
        return app

    return asyncio.run(whole())


# Fuzzy


def order(needle: str, *names: str) -> list[str]:
    fuzzy = Fuzzy(needle)
    ranked = [
        (fuzzy.rank(Haystack.of(name, (f"ns/{name}", "app", "Running"), ("node-1",))), name)
        for name in names
    ]
    return [name for rank, name in sorted((r, n) for r, n in ranked if r is not None)]


def test_the_best_match_comes_first() -> None:
    assert order("web", "cobweb", "my-web", "web-1", "w-e-b", "xwxexbx", "api") == [
        "web-1", "my-web", "cobweb", "w-e-b", "xwxexbx"
    ]  # fmt: skip
    assert order("front web", "web-front", "front", "web") == ["web-front"]
    assert order("WFE", "web-front-end", "wafer") == ["web-front-end", "wafer"]
    assert order("ns/web", "web") == ["web"] and order("node-1 api", "api", "web") == ["api"]
    assert order("n1", "api") == [], "letters are not looked for in the names of nodes"
    assert order("", "a", "b") == ["a", "b"]


def test_every_row_that_is_shown_has_the_letters_in_order(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(2000):
        name = "".join(draw.choices("abc-", k=draw.randrange(1, 12)))
        word = "".join(draw.choices("abc", k=draw.randrange(1, 5)))
        rest = iter(name)
        assert (Fuzzy(word).rank(Haystack.of(name)) is not None) == all(letter in rest for letter in word)


def test_no_name_makes_the_search_slow() -> None:
    row = Haystack.of("a" * 10_000, ("a" * 10_000, "(a+)+$" * 1000))
    fuzzy = Fuzzy("a" * 30 + "b")
    started = time.process_time()
    for _ in range(100):
        assert fuzzy.rank(row) is None
    assert time.process_time() - started < 2.0


# Rows


def test_what_is_urgent() -> None:
    lately = many_pods.stamp(60)
    last = {"terminated": {"reason": "OOMKilled", "exitCode": 137, "finishedAt": lately}}
    long_ago = {
        "terminated": {"reason": "OOMKilled", "exitCode": 137, "finishedAt": many_pods.stamp(10**5)}
    }
    assert PodRow(pod("a")).urgency == FINE
    assert PodRow(pod("a", reason="CrashLoopBackOff")).urgency == BROKEN
    assert PodRow(pod("a", reason="SomethingNew")).urgency == BROKEN
    assert PodRow(pod("a", reason="ContainerCreating")).urgency == UNSETTLED
    assert PodRow(pod("a", phase="Succeeded", containerStatuses=[])).urgency == OVER
    oom = PodRow(pod("a", last=last))
    assert (oom.urgency, oom.status) == (UNSETTLED, "Running OOMKilled")
    calm = PodRow(pod("a", last=long_ago))
    assert (calm.urgency, calm.status) == (FINE, "Running")


# The list


def test_problems_come_first_and_the_selection_stays_with_its_pod() -> None:
    cluster = FakeCluster(
        "here", {"default": [pod("web"), pod("bad", reason="CrashLoopBackOff"), pod("api")]}
    )

    async def script(ui: Picker) -> None:
        await ui.listed()
        assert ui.names == ["bad", "api", "web"]
        await ui.shows("✗ CrashLoopBackOff")
        await ui.shows("here › default")
        await ui.shows("3 pods  ● watching")
        await ui.press("j", "j")
        assert ui.selected == "web"
        await ui.shows("adding a toolbox (rung match: uid 1000 gid 1000")
        cluster.tell(pod("aaa", reason="ErrImagePull"), pod("web", reason="Error", version=2))
        await ui.until(lambda: ui.names == ["aaa", "bad", "web", "api"])
        assert ui.selected == "web"
        await ui.shows("cannot attach now")
        cluster.tell(gone=(("default", "bad"), ("default", "aaa")))
        await ui.until(lambda: ui.names == ["web", "api"])
        assert ui.selected == "web"
        await ui.press("greater_than_sign")
        assert ui.picker.table.sorted_by == "restarts"

    play(cluster, script)


def many(count: int = 5000) -> FakeCluster:
    draw = random.Random(1)
    content: dict[str, list[PodSummary]] = {}
    for number in range(count):
        found = summary(many_pods.pod(draw, number))
        assert found is not None
        content.setdefault(found.namespace, []).append(found)
    return FakeCluster("large", content)


def test_five_thousand_pods(capsys: pytest.CaptureFixture[str]) -> None:
    """Times are printed, not asserted: a busy machine proves nothing. What must hold are the answers."""
    cluster = many()
    told: dict[str, float] = {}

    async def script(ui: Picker) -> None:
        await ui.until(lambda: isinstance(ui.app.screen, PickerScreen))
        await ui.press("0")
        await ui.until(lambda: ui.picker.feed.complete and ui.picker.table.total == 5000, 60)
        await ui.press("slash")
        times = []
        for letter in "payment gateway":
            await ui.pilot.pause()
            started = time.monotonic()
            await ui.press("space" if letter == " " else letter)
            ui.text()
            times.append((time.monotonic() - started) * 1000)
        await ui.until(lambda: len(ui.picker.table.rows) == 500)
        assert all("payment-gateway" in name for name in ui.names)
        await ui.shows("500 of 5,000 pods")
        first = ui.selected
        await ui.press("down", "down", "up")
        await ui.press("enter")
        chosen = ui.selected
        assert chosen == ui.names[1] != first
        await ui.press("escape")
        await ui.until(lambda: len(ui.picker.table.rows) == 5000)
        assert ui.selected == chosen, "who was found stays found"
        times.sort()
        told["filter_p50_ms"], told["filter_max_ms"] = statistics.median(times), times[-1]

    play(cluster, script, size=(80, 24))
    with capsys.disabled():
        print({name: round(value, 1) for name, value in told.items()}, end=" ")


def test_the_filter_finds_by_every_field() -> None:
    pods = [
        pod("web", node="gpu-node"), pod("db", "data"), pod("api", image="registry/payments:2"),
        pod("job", containers=["runner"]), pod("bad", reason="ImagePullBackOff"),
    ]  # fmt: skip
    content: dict[str, list[PodSummary]] = {"default": [], "data": []}
    for one in pods:
        content[one.namespace].append(one)

    async def script(ui: Picker) -> None:
        await ui.listed()
        await ui.press("0")
        await ui.until(lambda: len(ui.names) == 5)
        for typed, found in (
            ("gpu", "web"), ("data/", "db"), ("payments", "api"), ("runner", "job"), ("imagepull", "bad")
        ):  # fmt: skip
            await ui.press("slash", *("slash" if letter == "/" else letter for letter in typed))
            await ui.until(lambda found=found: ui.names == [found])
            await ui.press("escape")
            await ui.until(lambda: len(ui.names) == 5)

    play(FakeCluster("here", content), script)


# Where


def test_namespaces_contexts_and_a_name_that_is_not_listed() -> None:
    first = FakeCluster("one", {"default": [pod("web")], "data": [pod("db", "data")]})
    second = FakeCluster("two", {"prod": [pod("api", "prod")]})

    async def script(ui: Picker) -> None:
        await ui.listed()
        await ui.press("n")
        await ui.chooser()
        await ui.press(*"dat", "enter")
        await ui.until(lambda: isinstance(ui.app.screen, PickerScreen) and ui.names == ["db"])
        await ui.press("0")
        await ui.until(lambda: ui.names == ["db", "web"])
        assert "NAMESPACE" in ui.text() and "all namespaces" in ui.text()
        await ui.press("c")
        await ui.chooser()
        await ui.shows("cluster of two")
        await ui.press(*"two", "enter")
        await ui.until(lambda: isinstance(ui.app.screen, PickerScreen) and ui.names == ["api"])
        await ui.shows("two › prod")
        second.no_namespaces = True
        await ui.press("n")
        await ui.chooser()
        await ui.shows("RBAC says no. Type a name.")
        await ui.press(*"other")
        await ui.shows("use the namespace other")
        await ui.press("enter")
        await ui.until(lambda: second.asked[-1] == "other")
        await ui.shows("no pods are here")
        await ui.press("0")
        await ui.shows("all namespaces may not be listed, this is prod: RBAC says no")
        await ui.until(lambda: ui.names == ["api"])

    play(Fakes(first, second), script)


# Attach


def test_enter_attaches_and_leaving_comes_back_to_the_same_pod(state_folder: Path) -> None:
    pods = [pod("a"), pod("many", containers=["first", "second"]), pod("z")]
    annotations = {"annotations": {"kubectl.kubernetes.io/default-container": "second"}}
    pods[1] = pod("many", containers=["first", "second"], metadata=annotations)
    fakes = Fakes(FakeCluster("here", {"default": pods}))

    async def script(ui: Picker) -> None:
        await ui.listed()
        await ui.press("j", "enter")
        await ui.chooser()
        await ui.shows("Container of many")
        await ui.press("enter")
        await ui.until(lambda: isinstance(ui.app.screen, SessionScreen))
        await ui.shows("this is only a fake")
        expression, options = fakes.opened[-1]
        assert str(expression) == "pod/many"
        assert (options.namespace, options.container, options.context) == ("default", "second", "")
        fakes.clusters["here"].content["default"].insert(0, pod("aa"))
        await ui.press("q")
        await ui.until(lambda: isinstance(ui.app.screen, PickerScreen) and len(ui.names) == 4)
        assert ui.selected == "many"
        await ui.press("enter")
        await ui.chooser()
        await ui.press("escape")
        await ui.until(lambda: isinstance(ui.app.screen, PickerScreen))
        assert len(fakes.opened) == 1
        await ui.press("g", "enter")
        await ui.until(lambda: len(fakes.opened) == 2)

    play(fakes, script)
    file = state_folder / "recent.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [(entry.pod, entry.container) for entry in recent.load()] == [("a", "app"), ("many", "second")]


def test_leaving_ends_what_is_asked_before_the_connection_is_closed() -> None:
    cluster = FakeCluster("here", {"default": [pod("web")]})
    cluster.long_story = True

    async def script(ui: Picker) -> None:
        await ui.listed()
        await ui.press("enter")
        await ui.until(lambda: "asked" in cluster.log)
        await ui.press("q")
        await ui.until(lambda: isinstance(ui.app.screen, PickerScreen))
        await ui.until(lambda: "closed" in cluster.log)
        assert cluster.log == ["asked", "ended", "closed"]

    play(cluster, script)


def test_escape_cancels_an_attach_and_what_was_added_is_told() -> None:
    fakes = Fakes(FakeCluster("here", {"default": [pod("web")]}))
    fakes.hang = True

    async def script(ui: Picker) -> None:
        await ui.listed()
        await ui.press("enter")
        await ui.until(lambda: isinstance(ui.app.screen, SessionScreen))
        await ui.shows("[esc] cancel")
        await ui.press("escape")
        await ui.until(lambda: ui.screen.session.state is State.CLOSED)
        await ui.shows("the attach was cancelled")
        await ui.shows("kdebug-x was added before this failed, and stays")
        await ui.press("a")
        await ui.until(lambda: len(fakes.opened) == 2 and ui.screen.session.state is State.OPENING)
        await ui.press("q")
        await ui.until(lambda: isinstance(ui.app.screen, PickerScreen))

    app = play(fakes, script)
    assert ["kdebug-x" in line for line in app.account] == [True]


def test_a_recent_target_is_attached_to_again_or_its_owner() -> None:
    made = {"kind": "StatefulSet", "name": "db", "controller": True}
    cluster = FakeCluster(
        "here", {"default": [pod("web"), pod("db-0", metadata={"ownerReferences": [made]})]}
    )
    fakes = Fakes(cluster, FakeCluster("there", {"prod": [pod("api", "prod")]}))
    recent.remember(Recent("here", "default", "db-9", "sts/db", "app"))
    recent.remember(Recent("there", "prod", "api", "", "app"))
    recent.remember(Recent("here", "default", "gone", "", "app"))

    async def script(ui: Picker) -> None:
        await ui.listed()
        for typed, expected in (("db-9", "sts/db"), ("api", "pod/api")):
            await ui.press("R")
            await ui.chooser()
            await ui.press(*typed, "enter")
            await ui.until(lambda: isinstance(ui.app.screen, SessionScreen))
            assert str(ui.screen.session.expression) == expected
            await ui.shows("this is only a fake")
            await ui.press("q")
            await ui.until(lambda: isinstance(ui.app.screen, PickerScreen))
        assert fakes.opened[-1][1].context == "there" and fakes.opened[-1][1].namespace == "prod"
        await ui.press("R")
        await ui.chooser()
        await ui.press(*"gone", "enter")
        await ui.shows("the pod gone is no more")

    play(fakes, script)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"recent":7}',
        b'{"recent":[7,{},{"pod":3},{"pod":"x"}]}',
        b"\xff\xfe",
        b"[" * 99999,
    ],
)
def test_a_spoilt_file_of_recent_targets_is_left_out_and_replaced(
    state_folder: Path, content: bytes
) -> None:
    state_folder.mkdir()
    (state_folder / "recent.json").write_bytes(content)
    assert recent.load() == []
    for number in range(30):
        recent.remember(Recent("c", "n", f"pod-{number}", "", "app"))
    recent.remember(Recent("c", "n", "pod-29", "", "app"))
    entries = recent.load()
    assert len(entries) == recent.MAX_ENTRIES and len({entry.pod for entry in entries}) == len(entries)
    assert entries[0].pod == "pod-29"
    assert os.listdir(state_folder) == ["recent.json"]
    json.loads((state_folder / "recent.json").read_bytes())


# What fails


def test_a_lost_connection_keeps_the_rows_says_how_old_they_are_and_comes_back() -> None:
    cluster = FakeCluster("here", {"default": [pod("web")]})

    async def script(ui: Picker) -> None:
        await ui.listed()
        cluster.breaks(ConnectionLost("the API server cannot be reached", why="no route"))
        await ui.shows("no route")
        await ui.shows("what is shown is")
        assert ui.names == ["web"] and "✗" in ui.text().splitlines()[0]
        cluster.problem = None
        cluster.content["default"] = [pod("api")]
        await ui.press("r")
        await ui.until(lambda: ui.names == ["api"])
        await ui.shows("● watching")
        assert "no route" not in ui.text()

    play(cluster, script)


def test_it_tries_again_by_itself() -> None:
    cluster = FakeCluster("here", {"default": [pod("web")]})
    cluster.problem = ConnectionLost("the API server cannot be reached")

    async def script(ui: Picker) -> None:
        await ui.shows("cannot be reached")
        cluster.problem = None
        await ui.until(lambda: ui.names == ["web"])
        assert len(cluster.asked) >= 2

    play(cluster, script)


def test_without_a_kubeconfig_it_says_so_and_waits() -> None:
    fakes = Fakes(FakeCluster("here", {"default": [pod("web")]}))
    fakes.cluster_problem = NotFound("no kubeconfig is at ~/.kube/config", next_step="name one")

    async def script(ui: Picker) -> None:
        await ui.shows("no kubeconfig is at")
        assert "by itself" not in ui.text()
        for key in ("enter", "y", "j", "n", "escape", "escape", "c", "escape", "slash", "x", "enter"):
            await ui.press(key)
        fakes.cluster_problem = None
        await ui.until(lambda: isinstance(ui.app.screen, PickerScreen))
        await ui.press("escape", "r")
        await ui.until(lambda: ui.names == ["web"])

    play(fakes, script)


def test_a_feed_that_starts_anew_forgets_who_is_gone(run: asyncio.Runner) -> None:
    cluster = FakeCluster("here", {"default": [pod("a"), pod("b")]})

    async def opened() -> Any:
        return cluster

    async def script() -> None:
        feed = PodFeed(opened, None, lambda: None)
        for content, names in (("ab", "ab"), ("bc", "bc"), ("", "")):
            cluster.content["default"] = [pod(name) for name in content]
            feed.complete = False
            task = asyncio.create_task(feed.run())
            while not feed.complete:
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert "".join(sorted(name for _, name in feed.rows)) == names

    run.run(script())


# Hostile text, every size


@pytest.mark.parametrize("size", [(80, 24), (200, 50), (20, 10), (1, 1)])
def test_whatever_the_pods_are_called_the_screen_stays_whole(size: tuple[int, int]) -> None:
    bad = {"waiting": {"reason": HOSTILE, "message": HOSTILE}}
    found = summary(
        {
            "metadata": {"name": HOSTILE, "namespace": HOSTILE, "labels": {}, "resourceVersion": "1"},
            "spec": {
                "nodeName": HOSTILE, "containers": [{"name": HOSTILE, "image": HOSTILE}, {"name": "b"}]
            },
            "status": {
                "phase": HOSTILE, "reason": HOSTILE, "message": HOSTILE,
                "containerStatuses": [{"name": HOSTILE, "state": bad, "restartCount": -3}],
                "conditions": [{"type": HOSTILE, "status": "False", "message": HOSTILE}],
            },
        }
    )  # fmt: skip
    assert found is not None
    cluster = FakeCluster(HOSTILE, {"default": [pod("web")], HOSTILE: [found]})

    async def script(ui: Picker) -> None:
        await ui.listed()
        await ui.press("0")
        await ui.until(lambda: len(ui.names) == 2)
        for keys in (
            ["g"],
            ["j"],
            ["slash", "[", "x", "enter"],
            ["escape"],
            ["n"],
            ["escape"],
            ["c"],
            ["escape"],
        ):
            await ui.press(*keys)
            await ui.pilot.pause(0.05)
            text = ui.text()
            assert not any(character in text for character in "\x1b\x07\r\u202e\u200b")
            assert all(line for line in text.splitlines()) and len(text.splitlines()) == size[1]
        await ui.press("g")
        row = next(row for row in ui.picker.table.rows if row.pod is found)
        ui.picker.table.select(row.key)
        await ui.press("enter")
        await ui.chooser()
        await ui.press("escape", "y", "question_mark", "escape")
        cluster.breaks(ConnectionLost(HOSTILE, why=HOSTILE))
        await ui.until(lambda: ui.picker.feed.problem is not None)
        await ui.pilot.pause(0.1)
        assert not any(character in ui.text() for character in "\x1b\x07\u202e")

    play(cluster, script, size=size)
