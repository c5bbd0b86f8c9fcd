"""Toolboxes over time: reuse, the three ways they end, several clients, and the account of what remains."""

from __future__ import annotations

import json
import threading
import time
from datetime import datetime, timezone
from typing import Any

import pytest

from .support import targets, toolboxes
from .support.cli import Kdebug
from .support.cluster import state
from .support.node import Node

Object = dict[str, Any]


@pytest.fixture(scope="module")
def place(started_node: Node) -> str:
    return started_node.namespace()


@pytest.fixture
def pod(node: Node, place: str, request: pytest.FixtureRequest) -> str:
    """A fresh pod, named after the test."""
    name = request.node.name.removeprefix("test_").partition("[")[0].replace("_", "-")[:50].strip("-")
    node.run(targets.root(name), place)
    return name


def made(node: Node, place: str, pod: str) -> list[Object]:
    return toolboxes.toolboxes(node.pod(place, pod))


def ended(node: Node, place: str, pod: str, toolbox: str, seconds: float = 30) -> Object:
    """How a toolbox ended, awaited."""
    found = node.wait(place, pod, lambda pod: "terminated" in state(pod, toolbox), seconds)
    terminated: Object = state(found, toolbox)["terminated"]
    return terminated


def lifetime(terminated: Object) -> float:
    start, end = (moment(terminated[key]) for key in ("startedAt", "finishedAt"))
    return (end - start).total_seconds()


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def test_reuse(node: Node, kdebug: Kdebug, place: str, pod: str) -> None:
    """The second run adds nothing, also before the kubelet has published that the toolbox runs."""
    node.publish_status(False)
    first = kdebug("ps", pod, "-n", place)
    second = kdebug("net", pod, "-n", place)
    node.publish_status(True)
    assert "added the ephemeral container" in first.stderr and "added" not in second.stderr
    assert len(made(node, place, pod)) == 1


def test_another_image_or_target_is_not_reused(node: Node, kdebug: Kdebug, place: str, pod: str) -> None:
    kdebug("ps", pod, "-n", place)
    kdebug("ps", pod, "--image", "docker.io/library/python:3.13", "-n", place, code=1)
    images = [one["image"] for one in made(node, place, pod)]
    assert images == ["docker.io/library/python:3.13-slim", "docker.io/library/python:3.13"]
    kdebug("ps", pod, "--profile", "ptrace", "-n", place)
    assert [toolboxes.rung(one) for one in made(node, place, pod)] == ["match+caps", "match+caps", "ptrace"]


def test_ended_toolbox_is_not_reused(node: Node, kdebug: Kdebug, place: str, pod: str) -> None:
    kdebug("ps", pod, "-n", place)
    kdebug("sessions", "stop", pod, "-n", place)
    kdebug("ps", pod, "-n", place)
    assert len(made(node, place, pod)) == 2


def test_one_that_ended_before_the_kubelet_said_that_it_ran(
    node: Node, kdebug: Kdebug, place: str, pod: str
) -> None:
    node.publish_status(False)
    try:
        kdebug("ps", pod, "-n", place)
        kdebug("sessions", "stop", pod, "-n", place)
        client = kdebug.start("ps", pod, "-v", "-n", place)
        assert client.stderr is not None
        told = iter(client.stderr.readline, b"")
        assert any(b"is there already and does not run yet" in line for line in told)
    finally:
        node.publish_status(True)
    assert any(b"added the ephemeral container" in line for line in told)
    assert client.wait(30) == 0
    assert len(made(node, place, pod)) == 2


def test_time_to_live_and_renewal_by_an_attached_client(
    node: Node, kdebug: Kdebug, place: str, pod: str
) -> None:
    """Over its TTL, it stays while somebody is attached, and ends soon after."""
    client = kdebug.start("top", pod, "--iterations", "90", "--ttl", "2", "-n", place)
    try:
        (toolbox,) = awaited(node, place, pod)
        node.wait(place, pod, lambda pod: "running" in state(pod, toolbox["name"]))
        time.sleep(3.5)  # the TTL itself, and a look of hold after it
        assert "running" in state(node.pod(place, pod), toolbox["name"]) and client.poll() is None
    finally:
        client.kill()
        client.communicate()
    terminated = ended(node, place, pod, toolbox["name"])
    assert terminated["exitCode"] == 0 and lifetime(terminated) >= 3
    assert "the time to live of 2 s is over and nobody is attached" in said(node, place, pod, toolbox)


def awaited(node: Node, place: str, pod: str) -> list[Object]:
    return toolboxes.toolboxes(node.wait(place, pod, toolboxes.toolboxes))


def said(node: Node, place: str, pod: str, toolbox: Object) -> str:
    """By the toolbox' first process."""
    path = f"api/v1/namespaces/{place}/pods/{pod}/log?container={toolbox['name']}"
    return str(node.request("GET", path))


def test_idle(node: Node, kdebug: Kdebug, place: str, pod: str) -> None:
    kdebug("ps", pod, "--idle", "1", "-n", place)
    (toolbox,) = made(node, place, pod)
    assert ended(node, place, pod, toolbox["name"])["exitCode"] == 0
    assert "nobody was attached for 1 s" in said(node, place, pod, toolbox)


def test_maximum_ends_it_under_a_client(node: Node, kdebug: Kdebug, place: str, pod: str) -> None:
    """And the client says that the toolbox ended, not that the network did."""
    client = kdebug.start("top", pod, "--iterations", "90", "--max-ttl", "3", "-n", place)
    (toolbox,) = awaited(node, place, pod)
    _, stderr = client.communicate(timeout=40)
    assert client.returncode == 6
    last = stderr.decode().splitlines()[-1]
    assert last.startswith(f"kdebug: the toolbox {toolbox['name']} has ended: exit code 0"), last
    assert "the maximum time to live of 3 s is over" in said(node, place, pod, toolbox)


def test_several_clients_at_once(node: Node, kdebug: Kdebug, place: str, pod: str) -> None:
    kdebug("ps", pod, "-n", place)
    clients = [kdebug.start("ps", pod, "-o", "json", "-n", place) for _ in range(4)]
    answers = [client.communicate(timeout=60) for client in clients]
    assert [client.returncode for client in clients] == [0] * 4, answers
    assert all(any(row["pid"] == 1 for row in json.loads(out)["processes"]) for out, _ in answers)
    assert len(made(node, place, pod)) == 1


def test_sessions_tell_the_truth(node: Node, kdebug: Kdebug, place: str, pod: str) -> None:
    times = ("--ttl", "600", "--idle", "300", "--max-ttl", "900")
    kdebug("ps", pod, "--reason", "INC-7", *times, "-n", place)
    (toolbox,) = made(node, place, pod)
    found = node.wait(place, pod, lambda pod: "running" in state(pod, toolbox["name"]))
    started = state(found, toolbox["name"])["running"]["startedAt"]
    rows = kdebug("sessions", "-n", place, "-o", "json").json["sessions"]
    (row,) = [row for row in rows if row["pod"] == pod]
    assert row == {
        "namespace": place,
        "pod": pod,
        "container": "app",
        "toolbox": toolbox["name"],
        "state": "running",
        "profile": "match+caps",
        "image": "docker.io/library/python:3.13-slim",
        "started_at": started,
        "expires_at": None,
        "reason": "INC-7",
    }
    _check_expiry(kdebug, place, pod)
    everywhere = kdebug("sessions", "-A", "-o", "name").stdout.decode().split()
    assert toolbox["name"] in everywhere


def _check_expiry(kdebug: Kdebug, place: str, pod: str) -> None:
    """When it ends if nobody comes: the idle time from now, which is before its TTL."""
    asked = kdebug("sessions", "--ask", "-n", place, "-o", "json").json["sessions"]
    (row,) = [row for row in asked if row["pod"] == pod]
    left = (moment(row["expires_at"]) - datetime.now(timezone.utc)).total_seconds()
    assert 280 < left <= 301


def test_stop(node: Node, kdebug: Kdebug, place: str, pod: str) -> None:
    kdebug("ps", pod, "-n", place)
    (toolbox,) = made(node, place, pod)
    node.wait(place, pod, lambda pod: "running" in state(pod, toolbox["name"]))
    done = kdebug("sessions", "stop", pod, "-n", place)
    assert done.lines == [f"kdebug: ended {toolbox['name']} in {place}/{pod}; it stays listed in the pod"]
    assert ended(node, place, pod, toolbox["name"])["exitCode"] == 0
    rows = kdebug("sessions", "-n", place, "-o", "json").json["sessions"]
    assert [row["state"] for row in rows if row["pod"] == pod] == ["terminated (Completed)"]
    again = kdebug("sessions", "stop", f"pod/{pod}", "-n", place)
    assert again.lines == [f"kdebug: nothing of kdebug runs in {pod}"]


def test_stop_in_a_crowd(node: Node, kdebug: Kdebug, place: str) -> None:
    """More processes with long command lines than one page holds stand before the toolbox' own."""
    words = ("--children", "80", "--say", "x" * 4000)
    node.run(targets.pod("crowd", targets.container("app", "root", *words)), place)
    assert len(kdebug("ps", "crowd", "-n", place, "-o", "json").json["processes"]) > 80
    (toolbox,) = made(node, place, "crowd")
    kdebug("sessions", "stop", "crowd", "-n", place)
    assert ended(node, place, "crowd", toolbox["name"])["exitCode"] == 0


def test_stop_at_once(node: Node, kdebug: Kdebug, place: str, pod: str) -> None:
    """Before the kubelet has published that it runs: who just attached may have had second thoughts."""
    node.publish_status(False)
    kdebug("ps", pod, "-n", place)
    (toolbox,) = made(node, place, pod)
    assert toolbox["name"] in kdebug("sessions", "stop", pod, "-n", place).stderr
    node.publish_status(True)
    assert ended(node, place, pod, toolbox["name"])["exitCode"] == 0


def test_stop_of_nothing(kdebug: Kdebug, place: str) -> None:
    error = kdebug.prompt("sessions", "stop", "nobody", "-n", place, code=4).error
    assert error == "no toolbox is or is in nobody; `kdebug sessions` lists what there is"


def test_leaving_note(node: Node, kdebug: Kdebug, place: str, pod: str) -> None:
    """Fit to paste: what was attached, with which rights, by whose agent, what remains and how it ends."""
    done = kdebug("attach", pod, "-n", place)
    (toolbox,) = made(node, place, pod)
    rights = "uid 0 gid 0, the runtime's default capabilities"
    assert done.lines[-2:] == [
        f"kdebug: kdebug looked into {place}/{pod}, container app: added the ephemeral container "
        f"{toolbox['name']}, rung match+caps ({rights}), agent delivered by the client.",
        f"kdebug: What remains: {toolbox['name']} stays listed in the pod (Kubernetes cannot remove "
        "ephemeral containers); its process ends by itself 15 min after the last session, and 480 min "
        f"after its start at the latest. `kdebug sessions stop {pod}` ends it.",
    ]
    again = kdebug("attach", pod, "-n", place)
    assert f"reused the ephemeral container {toolbox['name']}" in again.lines[-2]


def test_leaving_note_names_refused_rungs(node: Node, kdebug: Kdebug) -> None:
    namespace = node.namespace("baseline")
    node.run(targets.unreadable("closed"), namespace)
    done = kdebug("attach", "closed", "-n", namespace)
    assert any(line.startswith("kdebug: The rung match was refused: it reads too l") for line in done.lines)
    assert any(line.startswith("kdebug: The rung ptrace was refused: pods") for line in done.lines)


def test_the_spec_is_what_security_teams_allow(node: Node, kdebug: Kdebug, place: str, pod: str) -> None:
    """Name, environment and fields of the container; nothing that is more than it needs."""
    kdebug("ps", pod, "--reason", "INC-8", "-n", place)
    (toolbox,) = made(node, place, pod)
    assert toolbox["name"].startswith("kdebug-") and len(toolbox["name"]) == len("kdebug-") + 5
    environment = toolboxes.environment(toolbox)
    names = ("HOLD", "IMAGE", "VERSION", "PROFILE", "REASON")
    assert set(environment) == {f"KDEBUG_{name}" for name in names}
    assert environment["KDEBUG_REASON"] == "INC-8"
    given = {key for key in toolbox if key not in ("resources", "terminationMessagePath")}
    assert given == {
        "name", "image", "imagePullPolicy", "command", "env", "targetContainerName", "securityContext",
        "terminationMessagePolicy",
    }  # fmt: skip


def test_target_without_user_status(node: Node, kdebug: Kdebug, place: str) -> None:
    """An older cluster tells no user: what the target's process shows corrects the guess."""
    node.facade.kubelet.tells_user = False
    node.run(targets.image_user("untold"), place)
    done = kdebug("ps", "untold", "-v", "-n", place)
    first, second = made(node, place, "untold")
    assert first["securityContext"] == toolboxes.match(65532, 65532)
    assert second["securityContext"] == toolboxes.match(65532, 0)
    assert [toolboxes.rung(one) for one in (first, second)] == ["match", "match"]
    assert "kdebug: match is refused: it reads too little: " in done.stderr
    kdebug("ls", "untold:/", "-n", place)
    assert len(made(node, place, "untold")) == 2


def test_guess_that_is_right(node: Node, kdebug: Kdebug, place: str) -> None:
    node.facade.kubelet.tells_user = False
    node.run(targets.listed_user("guessed"), place)
    kdebug("ls", "guessed:/", "-n", place)
    assert [one["securityContext"] for one in made(node, place, "guessed")] == [
        toolboxes.match(65532, 65532)
    ]


def test_old_runtime_speaks_v4_only(node: Node, kdebug: Kdebug, place: str, pod: str) -> None:
    node.faults.subprotocols = ("v4.channel.k8s.io",)
    kdebug("ls", f"{pod}:/", "-n", place)


def test_exec_that_fails_in_the_stream(node: Node, kdebug: Kdebug, place: str, pod: str) -> None:
    """Servers differ: until the container runs, some upgrade first and refuse then."""
    node.faults.exec_error_in_stream = True
    kdebug("ls", f"{pod}:/", "-n", place)
    assert len(made(node, place, pod)) == 1


def test_watches_that_are_too_old(node: Node, kdebug: Kdebug, place: str, pod: str) -> None:
    stop = threading.Event()

    def forget() -> None:
        while not stop.wait(0.05):
            node.forget_history()

    thread = threading.Thread(target=forget)
    thread.start()
    try:
        kdebug("ps", pod, "-n", place)
    finally:
        stop.set()
        thread.join()


def test_read_only(node: Node, kdebug: Kdebug, place: str, pod: str) -> None:
    kdebug("ps", pod, "--read-only", "-n", place)
    kdebug("sessions", "stop", pod, "-n", place)


def test_only_data_on_stdout(kdebug: Kdebug, place: str, pod: str) -> None:
    """Notes, steps and what was added are beside the data, in every format."""
    for output in ("json", "yaml", "table", "wide"):
        done = kdebug("ps", pod, "-v", "-n", place, "-o", output)
        assert b"kdebug: " not in done.stdout and b"added" not in done.stdout
