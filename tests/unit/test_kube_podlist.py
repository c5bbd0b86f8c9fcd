"""Pods by list and watch: kubectl's columns, pages, versions that are forgotten, hostile objects."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from test_kube_hardships import api_at, serve

from kdebug.errors import AccessDenied, ConnectionLost, KdebugError, UsageError
from kdebug.kube import podlist
from kdebug.kube.podlist import intent, read_page, watched
from kdebug.kube.summary import summary
from kdebug.open import OpenOptions, PodOptions, contexts
from kdebug.target.cluster import PodDelta, PodSummary

Object = dict[str, Any]


def pod(name: str = "web", namespace: str = "default", version: str = "1", **status: Any) -> Object:
    return {
        "metadata": {"name": name, "namespace": namespace, "resourceVersion": version, "uid": f"u-{name}"},
        "spec": {"containers": [{"name": "app", "image": "registry/app:1"}], "nodeName": "node-1"},
        "status": {"phase": "Running", **status},
    }


def container(state: Object, name: str = "app", ready: bool = False, **fields: Any) -> Object:
    return {"name": name, "state": state, "ready": ready, "restartCount": 0, **fields}


def read(made: Object) -> PodSummary:
    found = summary(made)
    assert found is not None
    return found


RUNNING: Object = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


def ended(code: int, reason: str = "", signal: int = 0) -> Object:
    return {"terminated": {"exitCode": code, "reason": reason, "signal": signal}}


def waits(reason: str) -> Object:
    return {"waiting": {"reason": reason}}


def true(kind: str) -> Object:
    return {"type": kind, "status": "True"}


def inits(*states: Object, restart: str = "", **status: Any) -> Object:
    """A pod with init containers in these states."""
    made = pod(**status)
    names = [f"init-{index}" for index in range(len(states))]
    policy = {"restartPolicy": restart} if restart else {}
    made["spec"]["initContainers"] = [{"name": name, **policy} for name in names]
    made["status"]["initContainerStatuses"] = [
        {**container(state, name), **state.get("more", {})} for name, state in zip(names, states)
    ]
    return made


def leaving(made: Object, **status: Any) -> Object:
    made["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    made["status"].update(status)
    return made


def two(first: Object, second: Object, **status: Any) -> Object:
    made = pod(containerStatuses=[first, second], **status)
    made["spec"]["containers"].append({"name": "side"})
    return made


# (object, STATUS, READY) as printPod of Kubernetes 1.36 prints them.
COLUMNS: list[tuple[Object, str, str]] = [
    (pod(containerStatuses=[container(RUNNING, ready=True)]), "Running", "1/1"),
    (pod(containerStatuses=[container(RUNNING)]), "Running", "0/1"),
    (pod(phase="Pending"), "Pending", "0/1"),
    (pod(phase="Failed", reason="Evicted"), "Evicted", "0/1"),
    (pod(containerStatuses=[container(waits("CrashLoopBackOff"))]), "CrashLoopBackOff", "0/1"),
    (pod(containerStatuses=[container(ended(137, "OOMKilled"))]), "OOMKilled", "0/1"),
    (pod(containerStatuses=[container(ended(3))]), "ExitCode:3", "0/1"),
    (pod(containerStatuses=[container(ended(0, signal=9))]), "Signal:9", "0/1"),
    (pod(phase="Succeeded", containerStatuses=[container(ended(0, "Completed"))]), "Completed", "0/1"),
    (
        two(container(RUNNING, ready=True), container(ended(0, "Completed"), "side")),
        "NotReady",
        "1/2",
    ),
    (
        two(
            container(RUNNING, ready=True),
            container(ended(0, "Completed"), "side"),
            conditions=[true("Ready")],
        ),
        "Running",
        "1/2",
    ),
    (
        two(container(waits("ErrImagePull")), container(waits("ImagePullBackOff"), "side")),
        "ErrImagePull",
        "0/2",
    ),
    (
        pod(phase="Pending", conditions=[{"type": "PodScheduled", "reason": "SchedulingGated"}]),
        "SchedulingGated",
        "0/1",
    ),
    (inits(ended(0), RUNNING, phase="Pending"), "Init:1/2", "0/1"),
    (inits(waits("PodInitializing"), phase="Pending"), "Init:0/1", "0/1"),
    (inits(waits("ImagePullBackOff"), phase="Pending"), "Init:ImagePullBackOff", "0/1"),
    (inits(ended(1, "Error"), phase="Pending"), "Init:Error", "0/1"),
    (inits(ended(1), phase="Pending"), "Init:ExitCode:1", "0/1"),
    (inits(ended(1, signal=11), phase="Pending"), "Init:Signal:11", "0/1"),
    (
        inits(
            {**RUNNING, "more": {"started": True, "ready": True}},
            restart="Always",
            containerStatuses=[container(RUNNING, ready=True)],
        ),
        "Running",
        "2/2",
    ),
    (leaving(pod(containerStatuses=[container(RUNNING, ready=True)])), "Terminating", "1/1"),
    (leaving(pod(), reason="NodeLost"), "Unknown", "0/1"),
    (
        leaving(pod(phase="Succeeded", containerStatuses=[container(ended(0, "Completed"))])),
        "Completed",
        "0/1",
    ),
    ({"metadata": {"name": "bare"}}, "Unknown", "0/0"),
]


@pytest.mark.parametrize(
    ("made", "status", "ready"), COLUMNS, ids=[f"{i}-{c[1]}" for i, c in enumerate(COLUMNS)]
)
def test_the_columns_are_those_of_kubectl(made: Object, status: str, ready: str) -> None:
    found = read(made)
    assert (found.status, f"{found.ready}/{found.total}") == (status, ready)


def test_restarts_are_those_of_the_containers_once_the_init_containers_are_done() -> None:
    last = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-01-02T00:00:00Z"}}
    done = inits(ended(0))
    done["status"]["initContainerStatuses"][0]["restartCount"] = 7
    done["status"]["containerStatuses"] = [
        container(RUNNING, ready=True, restartCount=3) | {"lastState": last}
    ]
    found = read(done)
    assert (found.restarts, found.last_restart_at) == (3, "2026-01-02T00:00:00Z")
    app = found.containers[0]
    assert app.last_reason == "OOMKilled" and (app.last_end, app.last_end_at) == (
        "exit code 137 (OOMKilled)",
        "2026-01-02T00:00:00Z",
    )


def test_the_owner_is_what_makes_the_pod_anew() -> None:
    made = pod()
    assert read(made).owner == ""
    owner = {"kind": "ReplicaSet", "name": "web-5d4f", "controller": True}
    made["metadata"] |= {"ownerReferences": [owner], "labels": {"pod-template-hash": "5d4f"}}
    assert read(made).owner == "deploy/web"
    made["metadata"]["labels"] = {}
    assert read(made).owner == "rs/web-5d4f"
    made["metadata"]["ownerReferences"] = [{"kind": "StatefulSet", "name": "db", "controller": True}]
    assert read(made).owner == "sts/db"


# What attaching would do


def planned(made: Object, container: str = "app", profile: str = "auto") -> Any:
    return intent(read(made), container, "image", profile)


def test_the_intent_names_the_rung_the_toolbox_or_the_reason() -> None:
    running = pod(containerStatuses=[container(RUNNING, ready=True)])
    running["spec"]["containers"][0]["securityContext"] = {"runAsUser": 1000, "runAsGroup": 2000}
    first = planned(running)
    assert (first.rung, first.toolbox, first.climbs) == ("match", "", ("ptrace",))
    assert first.rights == "uid 1000 gid 2000, no capabilities"
    assert planned(running, profile="sysadmin").rights == "privileged"
    running["spec"]["ephemeralContainers"] = [
        {
            "name": "kdebug-x",
            "image": "image",
            "targetContainerName": "app",
            "env": [
                {"name": "KDEBUG_PROFILE", "value": "match"},
                {"name": "KDEBUG_HOLD", "value": "x" * 9999},
            ],
            "securityContext": {"runAsUser": 1000, "runAsGroup": 2000, "capabilities": {"drop": ["ALL"]}},
        }
    ]
    running["status"]["ephemeralContainerStatuses"] = [container(RUNNING, "kdebug-x")]
    again = planned(running)
    assert (again.toolbox, again.rung, again.against) == ("kdebug-x", "match", None)
    shown = read(running)
    assert [toolbox.toolbox for toolbox in shown.toolboxes] == ["kdebug-x"]
    assert shown.toolboxes[0].state == "running" and len(shown.essence) < 3000

    crashing = pod(containerStatuses=[container(waits("CrashLoopBackOff"))])
    assert "does not run: CrashLoopBackOff" in str(planned(crashing).against)
    static = pod(containerStatuses=[container(RUNNING)])
    static["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    assert "static pod" in str(planned(static).against)
    windows = pod(containerStatuses=[container(RUNNING)])
    windows["spec"]["os"] = {"name": "windows"}
    assert "Windows" in str(planned(windows).against)


# Hostile objects


def mangled(value: Any, draw: random.Random) -> Any:
    """The same document with parts missing or of another kind."""
    if draw.random() < 0.12:
        return draw.choice(
            [None, [], {}, "x\x1b[2J[/foo]", -1, 2**70, True, [[None]], [{"name": 3}], {"a": 1}]
        )
    if isinstance(value, dict):
        return {key: mangled(item, draw) for key, item in value.items() if draw.random() > 0.05}
    if isinstance(value, list):
        return [mangled(item, draw) for item in value]
    return value


def test_whatever_the_server_says_of_a_pod_it_is_a_line_or_nothing(seed: int) -> None:
    draw = random.Random(seed)
    last = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-01-02T00:00:00Z"}}
    whole = inits(ended(0), restart="Always", containerStatuses=[container(RUNNING, lastState=last)])
    whole["spec"]["ephemeralContainers"] = [
        {
            "name": "kdebug-x",
            "image": "i",
            "targetContainerName": "app",
            "env": [{"name": "KDEBUG_PROFILE"}],
        }
    ]
    whole["spec"]["securityContext"] = {"runAsUser": 5, "capabilities": {"add": ["X"], "drop": ["ALL"]}}
    whole["metadata"] |= {
        "ownerReferences": [{"kind": "Job", "name": "j", "controller": True}],
        "labels": {},
    }
    whole["status"]["ephemeralContainerStatuses"] = [container(RUNNING, "kdebug-x")]
    whole["status"]["conditions"] = [{"type": "Ready", "status": "False", "reason": "r", "message": "m"}]
    seen = 0
    for _ in range(3000):
        made = mangled(whole, draw)
        found = summary(made)
        if found is None:
            continue
        seen += 1
        assert all(
            isinstance(value, str) for value in (found.status, found.node, found.owner, found.version)
        )
        intent(found, found.default_container or "app", "i", "auto")
    assert seen > 500


def test_a_page_is_read_whatever_the_order_of_its_parts() -> None:
    items = [pod("a"), None, pod("b"), {"metadata": {"name": ""}}]
    document = {
        "kind": "PodList",
        "metadata": {"resourceVersion": "7", "continue": "t", "remainingItemCount": 9},
    }
    for made in ({**document, "items": items}, {"items": items, **document}):
        for indent in (None, 2):
            page = read_page(json.dumps(made, indent=indent).encode())
            assert [found.name for found in page.pods] == ["a", "b"]
            assert (page.version, page.token, page.remaining) == ("7", "t", 9)
    nested = {"metadata": {"resourceVersion": "7", "odd": {"items": [1]}}, "items": items}
    assert [found.name for found in read_page(json.dumps(nested).encode()).pods] == ["a", "b"]
    assert read_page(b'{"metadata":{},"items":null}').pods == ()
    for wrong in (b"", b"<html>", b"[]", b'{"items":[', b'{"metadata":{},"items":[{}', b"{}"):
        with pytest.raises(ValueError):
            read_page(wrong)


# The server


class Server:
    """Lists and watches of pods, scripted: each watch takes the next of `watches`."""

    def __init__(self, *pods: Object) -> None:
        self.pods = {item["metadata"]["name"]: item for item in pods}
        self.version = 100
        self.page = 2
        self.lists: list[dict[str, str]] = []
        self.watches: list[Any] = []
        """Coroutine functions that write to the stream, or whole answers."""
        self.watched: list[dict[str, str]] = []
        self.later: dict[str, Object] | None = None
        """The pods as they are once a watch is asked for, which the watch does not tell."""
        self.refusals: list[web.Response] = []
        """Answers to the next lists, before any that works."""
        self.idle = asyncio.Event()
        """Set when a watch is asked for beyond the script; it stays open."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        if "watch" in query:
            return await self._watch(request, query)
        self.lists.append(query)
        if self.refusals:
            return self.refusals.pop(0)
        names = sorted(self.pods)
        start = int(query.get("continue", 0))
        chosen = names[start : start + self.page]
        metadata: Object = {"resourceVersion": str(self.version)}
        if start + self.page < len(names):
            metadata |= {
                "continue": str(start + self.page),
                "remainingItemCount": len(names) - start - self.page,
            }
        return web.json_response(
            {"kind": "PodList", "metadata": metadata, "items": [self.pods[n] for n in chosen]}
        )

    async def _watch(self, request: web.Request, query: dict[str, str]) -> web.StreamResponse:
        self.watched.append(query)
        self.pods = self.pods if self.later is None else self.later
        script = self.watches.pop(0) if self.watches else None
        if isinstance(script, web.Response):
            return script
        response = web.StreamResponse()
        await response.prepare(request)
        if script is None:
            self.idle.set()
            await asyncio.sleep(60)
        else:
            await script(response)
        return response


def event(kind: str, item: Object) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


def sends(*events: bytes) -> Any:
    async def script(response: web.StreamResponse) -> None:
        for one in events:
            await response.write(one)

    return script


def status(code: int, message: str = "no") -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "message": message}, status=code)


class View:
    """What a UI would show, from deltas."""

    def __init__(self) -> None:
        self.pods: dict[tuple[str, str], PodSummary] = {}
        self.old: set[tuple[str, str]] = set()
        self.deltas: list[PodDelta] = []

    def take(self, delta: PodDelta) -> None:
        self.deltas.append(delta)
        if delta.first:
            self.old = set(self.pods)
        for found in delta.pods:
            self.pods[found.key] = found
            self.old.discard(found.key)
        for key in {*delta.gone, *(self.old if delta.complete else ())}:
            self.pods.pop(key, None)

    def names(self) -> list[str]:
        return sorted(name for _, name in self.pods)


async def follow(
    folder: Path, server: Server, until: Callable[[View], bool], namespace: str = "default"
) -> View:
    """Watch until the view is as wanted."""
    view = View()
    async with contextlib.AsyncExitStack() as stack:
        url = await serve(stack, web.get("/api/v1/{rest:.*}", server.answer))
        api = await api_at(stack, folder, url)
        deltas: AsyncIterator[PodDelta] = await stack.enter_async_context(
            contextlib.aclosing(watched(api, namespace))  # type: ignore[type-var]
        )
        async with asyncio.timeout(20):
            async for delta in deltas:
                view.take(delta)
                if until(view):
                    break
    return view


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are for servers; these tests have nobody to spare."""
    monkeypatch.setattr(podlist, "RESTART_SECONDS", 0.02)
    monkeypatch.setattr(podlist, "POLL_SECONDS", 0.02)


def test_pages_then_changes_from_the_version_of_the_list(tmp_path: Path, run: asyncio.Runner) -> None:
    server = Server(*(pod(name) for name in "abcde"))
    server.watches = [
        sends(event("ADDED", pod("f", version="101")), event("DELETED", pod("a", version="102")))
    ]
    view = run.run(follow(tmp_path, server, lambda view: view.names() == list("bcdef")))
    assert [query.get("continue") for query in server.lists] == [None, "2", "4"]
    assert [(d.first, d.complete, d.remaining) for d in view.deltas[:3]] == [
        (True, False, 3), (False, False, 1), (False, True, 0)
    ]  # fmt: skip
    assert server.watched[0]["resourceVersion"] == "100"
    assert server.watched[0]["allowWatchBookmarks"] == "true"


def test_all_namespaces(tmp_path: Path, run: asyncio.Runner) -> None:
    server = Server(pod("a"), {**pod("b"), "metadata": {"name": "b", "namespace": "other"}})
    view = run.run(follow(tmp_path, server, lambda view: view.deltas[-1].complete, namespace=""))
    assert sorted(view.pods) == [("default", "a"), ("other", "b")]


def test_a_watch_goes_on_from_the_bookmark(tmp_path: Path, run: asyncio.Runner) -> None:
    server = Server(pod("a"))
    server.watches = [
        sends(event("BOOKMARK", {"metadata": {"resourceVersion": "500"}})),
        sends(event("ADDED", pod("b", version="501"))),
    ]
    run.run(follow(tmp_path, server, lambda view: view.names() == ["a", "b"]))
    assert [query["resourceVersion"] for query in server.watched] == ["100", "500"]
    assert len(server.lists) == 1


GONE_EVENT = event("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"})


@pytest.mark.parametrize("gone", [sends(GONE_EVENT), status(410)], ids=["in the stream", "at once"])
def test_a_version_that_the_server_forgot_makes_it_list_again(
    tmp_path: Path, run: asyncio.Runner, gone: Any
) -> None:
    server = Server(pod("a"), pod("b"))
    server.later = {"b": pod("b"), "c": pod("c")}
    server.watches = [gone]
    view = run.run(follow(tmp_path, server, lambda view: view.names() == ["b", "c"]))
    assert sum(delta.first for delta in view.deltas) == 2


def test_a_page_that_comes_too_late_makes_it_list_again(tmp_path: Path, run: asyncio.Runner) -> None:
    server = Server(*(pod(name) for name in "abc"))
    answer = server.answer

    async def late(request: web.Request) -> web.StreamResponse:
        if request.query.get("continue") and len(server.lists) == 1:
            server.lists.append(dict(request.query))
            return status(410, "The provided continue parameter is too old")
        return await answer(request)

    server.answer = late  # type: ignore[method-assign]
    view = run.run(follow(tmp_path, server, lambda view: view.deltas[-1].complete))
    assert view.names() == list("abc")
    assert [query.get("continue") for query in server.lists] == [None, "2", None, "2"]


def test_where_watching_is_refused_it_lists_again_and_says_why(tmp_path: Path, run: asyncio.Runner) -> None:
    server = Server(pod("a"))
    server.watches = [status(403, 'User "me" cannot watch resource "pods"')]

    def until(view: View) -> bool:
        server.pods = {"b": pod("b")}
        return view.names() == ["b"]

    view = run.run(follow(tmp_path, server, until))
    assert "cannot watch" in view.deltas[-1].polled and len(server.watched) == 1


def test_a_broken_stream_goes_on_where_it_was_and_nonsense_in_it_is_left_out(
    tmp_path: Path, run: asyncio.Runner
) -> None:
    server = Server(pod("a"))

    async def breaks(response: web.StreamResponse) -> None:
        await response.write(event("ADDED", pod("b", version="101")))
        for nonsense in (b'{"type":7,"object":[]}\n', b"[]\n", b'{"type":"NEW","object":{}}\n', b"{\n"):
            await response.write(nonsense)
        assert response._req is not None and response._req.transport is not None
        response._req.transport.close()

    server.watches = [breaks, sends(event("ADDED", pod("c", version="102")))]
    run.run(follow(tmp_path, server, lambda view: view.names() == list("abc")))
    assert [query["resourceVersion"] for query in server.watched[:2]] == ["100", "101"]


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (status(403, 'cannot list resource "pods"'), AccessDenied, "cannot list resource"),
        (status(401, "Unauthorized"), AccessDenied, "does not accept the credentials"),
        (web.Response(text="<html>hello"), ConnectionLost, "not a Kubernetes API server"),
    ],
)
def test_a_list_that_fails_says_why(
    tmp_path: Path, run: asyncio.Runner, answer: web.Response, error: type[KdebugError], words: str
) -> None:
    server = Server()
    server.refusals = [answer]
    with pytest.raises(error) as told:
        run.run(follow(tmp_path, server, lambda view: True))
    assert words in str(told.value)
    if error is AccessDenied:
        assert "the pods of the namespace default cannot be listed" in str(told.value)


# Contexts


def test_contexts_are_read_without_asking_anybody(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "two",
                "contexts": [
                    {"name": "one", "context": {"cluster": "c1", "user": "u1", "namespace": "n1"}},
                    {"name": "two", "context": {"cluster": "c2", "user": "u2"}},
                    {"name": "three", "context": None},
                ],
            }
        )
    )
    options = OpenOptions(pod=PodOptions(kubeconfig=str(path)))
    found = contexts(options)
    assert [(c.name, c.cluster, c.user, c.namespace, c.current) for c in found] == [
        ("one", "c1", "u1", "n1", False), ("two", "c2", "u2", "", True), ("three", "", "", "", False)
    ]  # fmt: skip
    path.write_text("contexts: {")
    with pytest.raises(UsageError, match="cannot be used"):
        contexts(options)
    path.write_text("contexts: 7")
    with pytest.raises(UsageError, match="cannot be used"):
        contexts(options)
