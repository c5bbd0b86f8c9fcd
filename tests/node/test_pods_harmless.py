"""Looking changes nothing in the target: no file, no zombie, no listener, no CPU beyond the share."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .support import targets, toolboxes
from .support.cli import Kdebug
from .support.node import Node

VERBS: dict[str, list[str]] = {
    "attach": ["attach", "POD"],
    "ps": ["ps", "POD"],
    "ps-tree": ["ps", "POD", "--tree"],
    "proc": ["proc", "POD"],
    "top": ["top", "POD", "--iterations", "1"],
    "env": ["env", "POD", "--reveal"],
    "limits": ["limits", "POD"],
    "fds": ["fds", "POD"],
    "maps": ["maps", "POD"],
    "ls": ["ls", "-l", "POD:/"],
    "stat": ["stat", "-L", "POD:/data/current"],
    "cat": ["cat", "POD:/data/current"],
    "mounts": ["mounts", "POD"],
    "net": ["net", "POD", "--unix"],
    "logs": ["logs", "POD"],
    "events": ["events", "POD"],
    "describe": ["describe", "POD"],
    "access": ["access", "POD"],
    "doctor": ["doctor", "POD"],
    "sessions": ["sessions", "--ask"],
    "stop": ["sessions", "stop", "POD"],
}
"""Every verb that looks at a pod; `stop` last, since it ends the toolbox of the others."""
RUNGS = {"match": targets.restricted, "match+caps": targets.root, "ptrace": targets.unreadable}


@pytest.fixture(scope="module")
def place(started_node: Node) -> str:
    """A target for each rung."""
    namespace = started_node.namespace()
    for make in RUNGS.values():
        started_node.apply(make(), namespace)
    for make in RUNGS.values():
        started_node.wait_running(namespace, make()["metadata"]["name"])
    return namespace


@pytest.mark.parametrize("rung", RUNGS)
def test_nothing_is_written(node: Node, kdebug: Kdebug, place: str, rung: str) -> None:
    """A recursive digest of the target's root (names, modes, times, contents), before and after.

    Every verb on one rung, on the others those that differ; `make soak` does all, each by itself.
    """
    pod = RUNGS[rung]()["metadata"]["name"]
    before, ports = node.rootfs_digest(place, pod, "app"), listening(node, place, pod)
    for name in VERBS if rung == "match+caps" else ("attach", "cat", "doctor"):
        kdebug(*(word.replace("POD", pod) for word in VERBS[name]), "-n", place)
        assert listening(node, place, pod) == ports, name
    assert node.rootfs_digest(place, pod, "app") == before
    used = [toolboxes.rung(one) for one in toolboxes.toolboxes(node.pod(place, pod))]
    assert used[-1] == rung


def listening(node: Node, place: str, pod: str) -> set[str]:
    return toolboxes.listening(node.container_pids(place, pod, "app")[0])


@pytest.mark.soak
@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("name", VERBS)
def test_nothing_is_written_by(node: Node, kdebug: Kdebug, place: str, rung: str, name: str) -> None:
    """The same after each verb alone."""
    pod = RUNGS[rung]()["metadata"]["name"]
    before, ports = node.rootfs_digest(place, pod, "app"), listening(node, place, pod)
    kdebug(*(word.replace("POD", pod) for word in VERBS[name]), "-n", place)
    assert node.rootfs_digest(place, pod, "app") == before
    assert listening(node, place, pod) == ports


ATTACHES, AT_ONCE = 20, 5


def test_no_zombie(node: Node, kdebug: Kdebug, seed: int) -> None:
    """20 attaches of which half are killed -9 at random: what they started is gone, and reaped."""
    namespace, chance = node.namespace(), random.Random(seed)
    node.run(targets.root("web"), namespace)
    kdebug("ps", "web", "-n", namespace)
    first = node.container_pids(namespace, "web", "app")[0]
    _await(lambda: len(inside(first)) == 2)  # the target and hold; the agent of `ps` is about to leave
    calm = inside(first)
    for start in range(0, ATTACHES, AT_ONCE):
        words = ("top", "web", "--iterations", "2", "--delay", "0.1", "-n", namespace)
        clients = [kdebug.start(*words) for _ in range(AT_ONCE)]
        for number, client in enumerate(clients, start):
            _end(client, number % 2 == 0, chance)
    # Agents of clients that died leave at the end of their stream; a zombie would stay.
    _await(lambda: inside(first) == calm)
    assert len(toolboxes.toolboxes(node.pod(namespace, "web"))) == 1


def _end(client: subprocess.Popen[bytes], killed: bool, chance: random.Random) -> None:
    if killed:
        time.sleep(chance.uniform(0, 0.6))
        client.kill()
        client.communicate()
    else:
        _, stderr = client.communicate(timeout=60)
        assert client.returncode == 0, stderr


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def inside(first: int) -> set[tuple[int, str]]:
    return {(pid, name) for pid, name, _ in toolboxes.processes_inside(first)}


WATCH_SECONDS = 6.0
QUOTA_CORES, SHARE = 0.1, 0.02
TICK = 0.004
"""The kernel accounts in nanoseconds, but a pass that has begun is to be paid whole."""


def cpu_seconds(pids: list[int]) -> float:
    """Exactly, from the scheduler."""
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids) / 1e9


def test_throttled_target(node: Node, kdebug: Kdebug) -> None:
    """A tenth of a CPU, all of it used: right answers, and `top` costs 2% of the quota at most."""
    namespace = node.namespace()
    node.run(targets.busy("busy"), namespace)
    rows = kdebug("ps", "busy", "-o", "json", "-n", namespace).json["processes"]
    assert next(row["cmdline"] for row in rows if row["pid"] == 1) == ["/app", "--burn", "1"]
    (toolbox,) = toolboxes.toolboxes(node.pod(namespace, "busy"))
    client = kdebug.start("top", "busy", "--iterations", "1000", "-n", namespace)
    try:
        # From the second look on: starting an agent is what the user asked for.
        assert client.stdout is not None
        while not client.stdout.readline().strip():
            pass
        assert share_used(node, namespace, toolbox["name"]) <= SHARE + TICK / WATCH_SECONDS / QUOTA_CORES
    finally:
        client.kill()
        stdout, _ = client.communicate()
    assert stdout.count(b"PID") >= 3
    _check_heavy_work(node, kdebug, namespace, toolbox["name"])
    node.end_work(namespace)


def share_used(node: Node, namespace: str, toolbox: str) -> float:
    """Of the pod's quota, by hold and one agent, over some seconds."""
    pids = node.container_pids(namespace, "busy", toolbox)
    assert len(pids) == 2
    before, started = cpu_seconds(pids), time.monotonic()
    time.sleep(WATCH_SECONDS)
    used, took = cpu_seconds(pids) - before, time.monotonic() - started
    share = used / took / QUOTA_CORES
    print(f"{used * 1000:.1f} ms of CPU in {took:.1f} s: {100 * share:.2f}% of the quota")
    return share


def _check_heavy_work(node: Node, kdebug: Kdebug, namespace: str, toolbox: str) -> None:
    """It has a fifth of a second at once, and rests then, so that it stays near the share of refreshing."""
    with open(node.rootfs(namespace, "busy", "app") / "large", "wb") as file:
        file.truncate(256 << 30)
    client = kdebug.start("checksum", "busy:/large", "-n", namespace)
    try:
        _await(lambda: _has_rested(node.container_pids(namespace, "busy", toolbox)))
        assert share_used(node, namespace, toolbox) <= 3 * SHARE
        assert client.poll() is None
    finally:
        client.kill()
        client.communicate()


def _has_rested(pids: list[int]) -> bool:
    """An agent has the file open and waits: half a second of next to nothing."""
    try:
        links = {os.readlink(path) for pid in pids for path in Path(f"/proc/{pid}/fd").iterdir()}
    except FileNotFoundError:
        return False  # something has just ended, such as the look of another exec
    if not any(link.endswith("/large") for link in links):
        return False
    before = cpu_seconds(pids)
    time.sleep(0.5)
    return cpu_seconds(pids) - before < 0.01


def test_tight_target_is_warned_of_before_anything_is_added(node: Node, kdebug: Kdebug) -> None:
    namespace = node.namespace()
    node.run(targets.tight("tight"), namespace)
    done = kdebug("ps", "tight", "-v", "-n", namespace)
    warning = "tight may use 104 MiB and no metrics API tells how much it uses"
    places = {text: _line(done.lines, text) for text in (warning, "adding kdebug-")}
    assert places[warning] < places["adding kdebug-"]
    assert "may use" not in kdebug("ps", "tight", "-n", namespace).stderr
    assert node.container_pids(namespace, "tight", "app")


def _line(lines: list[str], text: str) -> int:
    return next(number for number, line in enumerate(lines) if text in line)
