"""Pods that cannot be entered: each in one line, at once, with what would help."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from .support import targets, toolboxes
from .support.cli import Kdebug
from .support.cluster import state, waiting_reason
from .support.facade.errors import ApiError
from .support.node import Node

Object = dict[str, Any]


@pytest.fixture(scope="module")
def place(started_node: Node) -> str:
    return started_node.namespace()


def test_pending(node: Node, kdebug: Kdebug, place: str) -> None:
    node.apply(targets.pod("stuck", targets.container(image="registry.invalid/none:1")), place)
    node.wait(
        place, "stuck", lambda pod: waiting_reason(pod, "app") in ("ErrImagePull", "ImagePullBackOff")
    )
    error = kdebug.prompt("ps", "stuck", "-n", place, code=1).error
    assert error.startswith("the container app of the pod stuck does not run: ")
    assert "ErrImagePull" in error and "registry.invalid" in error
    assert error.endswith(
        "`--wait` attaches when it starts; `kdebug describe stuck` shows what it waits for"
    )


@pytest.mark.parametrize(("code", "phase"), [("0", "Succeeded"), ("4", "Failed")])
def test_ended(node: Node, kdebug: Kdebug, place: str, code: str, phase: str) -> None:
    name = phase.lower()
    app = targets.container("app", "root", "--exit-after", "0", "--code", code)
    node.apply(targets.pod(name, app, restartPolicy="Never"), place)
    node.wait(place, name, lambda pod: pod["status"]["phase"] == phase)
    for wait in ([], ["--wait"]):
        error = kdebug.prompt("ps", name, *wait, "-n", place, code=1).error
        assert error.startswith(f"the pod {name} has ended (phase {phase}): app: exit code {code} at 20")
        assert error.endswith(f"`kdebug logs {name}` and `kdebug describe {name}` still work")
    assert kdebug("logs", name, "-n", place).stdout.startswith(b"ready\nleaving")
    assert kdebug("describe", name, "-n", place, "-o", "json").json["phase"] == phase


def test_terminating(node: Node, kdebug: Kdebug, place: str) -> None:
    app = targets.container("app", "root", "--ignore-term", "1")
    node.run(targets.pod("leaving", app, terminationGracePeriodSeconds=60), place)
    node.delete_pod(place, "leaving")
    for wait in ([], ["--wait"]):
        error = kdebug.prompt("ps", "leaving", *wait, "-n", place, code=1).error
        assert error.startswith("the pod leaving is terminating: it was deleted, and must be gone by 20")
    node.delete_pod(place, "leaving", 0)


def test_terminating_with_a_toolbox(node: Node, kdebug: Kdebug, place: str) -> None:
    """The kubelet asks it to end as well, so there is nothing to reuse; and none is added in vain."""
    app = targets.container("app", "root", "--ignore-term", "1")
    node.run(targets.pod("entered", app, terminationGracePeriodSeconds=60), place)
    kdebug("ps", "entered", "-n", place)
    node.delete_pod(place, "entered")
    error = kdebug.prompt("ps", "entered", "-n", place, code=1).error
    assert error.startswith("the pod entered is terminating")
    assert len(toolboxes.toolboxes(node.pod(place, "entered"))) == 1
    node.delete_pod(place, "entered", 0)


def test_deleted_while_the_toolbox_starts(node: Node, kdebug: Kdebug, place: str) -> None:
    app = targets.container("app", "root", "--ignore-term", "1")
    node.run(targets.pod("deleted", app, terminationGracePeriodSeconds=60), place)
    process = kdebug.start("ps", "deleted", "-v", "--image", "registry.invalid/none:1", "-n", place)
    awaited_step(process, "adding kdebug-")
    node.delete_pod(place, "deleted")
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    assert b"kdebug: the pod deleted is terminating" in stderr or b"ErrImagePull" in stderr
    node.delete_pod(place, "deleted", 0)


def test_deleted_just_before_the_toolbox_is_added(node: Node, kdebug: Kdebug, place: str) -> None:
    """The answer to the PATCH is the last that is heard of the pod: its watch has nothing to tell."""
    app = targets.container("app", "root", "--ignore-term", "1")
    node.run(targets.pod("gone", app, terminationGracePeriodSeconds=60), place)
    node.faults.fail["patch", "pods/ephemeralcontainers"] = ApiError(429, "TooManyRequests", "busy")
    process = kdebug.start("ps", "gone", "-v", "-n", place)
    awaited_step(process, "adding kdebug-")
    node.delete_pod(place, "gone")
    node.faults.fail.clear()
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    assert b"kdebug: the pod gone is terminating" in stderr
    node.delete_pod(place, "gone", 0)


def test_crash_loop(node: Node, kdebug: Kdebug, place: str) -> None:
    node.apply(targets.crash_loop("crash"), place)
    node.wait(place, "crash", lambda pod: waiting_reason(pod, "app") == "CrashLoopBackOff")
    error = kdebug.prompt("ps", "crash", "-n", place, code=1).error
    assert "the container app of the pod crash does not run: CrashLoopBackOff: back-off 10s" in error
    assert "it ended last with exit code 3 at 20" in error
    assert "`--wait` attaches at its next start; `kdebug logs crash --previous`" in error
    previous = kdebug("logs", "crash", "--previous", "-n", place).stdout
    assert previous == b"about to fail\nleaving with 3\n"
    story = kdebug("describe", "crash", "-n", place, "-o", "json").json
    assert story["containers"][0]["last_termination"].startswith("exit code 3")
    assert any("BackOff" in change["what"] for change in story["changes"])


def awaited_step(process: subprocess.Popen[bytes], text: str) -> list[str]:
    """The lines of stderr up to the one with `text`."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line.decode())
        if text in seen[-1]:
            return seen
    raise AssertionError(f"no {text!r} in {seen}")


def test_wait_attaches_at_the_next_start(node: Node, kdebug: Kdebug, place: str) -> None:
    node.set_backoff(restart=8)
    app = targets.container("app", "root", "--exit-after", "5", "--code", "1")
    node.apply(targets.pod("flaky", app), place)
    node.wait(place, "flaky", lambda pod: waiting_reason(pod, "app") == "CrashLoopBackOff")
    process = kdebug.start("ps", "flaky", "--wait", "-v", "-n", place)
    awaited_step(process, "waiting for app to start: CrashLoopBackOff")
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert b"app" in stdout
    made = toolboxes.toolboxes(node.pod(place, "flaky"))
    assert [toolboxes.rung(one) for one in made] == ["match+caps"]


def test_wait_attaches_to_a_pod_that_starts(node: Node, kdebug: Kdebug, place: str) -> None:
    """Nobody has seen it yet: no container status at all."""
    node.publish_status(False)
    node.apply(targets.root("early"), place)
    process = kdebug.start("ps", "early", "--wait", "-v", "-n", place)
    awaited_step(process, "waiting for app to start")
    node.publish_status(True)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr


def test_wait_ends_when_the_pod_is_deleted(node: Node, kdebug: Kdebug, place: str) -> None:
    node.apply(targets.pod("never", targets.container(image="registry.invalid/none:1")), place)
    process = kdebug.start("ps", "never", "--wait", "-v", "-n", place)
    awaited_step(process, "waiting for app to start")
    node.delete_pod(place, "never", 0)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 4, stderr
    assert stderr.splitlines()[-1] == (
        f'kdebug: the pod {place}/never cannot be watched: pods "never" not found'.encode()
    )


def test_wait_has_the_deadline_that_is_given(node: Node, kdebug: Kdebug, place: str) -> None:
    node.apply(targets.pod("slow", targets.container(image="registry.invalid/none:1")), place)
    error = kdebug.prompt("ps", "slow", "--wait", "--timeout", "1", "-n", place, code=5).error
    assert error.startswith(f"app of {place}/slow did not start within 1 s")


def test_wait_without_the_right_to_watch(node: Node, kdebug: Kdebug, place: str) -> None:
    node.forbid("watch", "pods")
    node.publish_status(False)
    node.apply(targets.root("polled"), place)
    engineer = kdebug.with_options(kubeconfig=node.engineer)
    process = engineer.start("ps", "polled", "--wait", "-v", "-n", place)
    awaited_step(process, "waiting for app to start")
    node.publish_status(True)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr


def test_mirror_pod(node: Node, kdebug: Kdebug, place: str) -> None:
    pod = targets.root("static")
    pod["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "0123"}
    node.run(pod, place)
    for wait in ([], ["--wait"]):
        error = kdebug.prompt("ps", "static", *wait, "-n", place, code=1).error
        assert error.startswith("static is a static pod: the API server only mirrors it")
        assert "log in to the node" in error


@pytest.mark.parametrize(
    "spec",
    [{"nodeSelector": {"kubernetes.io/os": "windows"}}, {"os": {"name": "windows"}}, {"nodeName": "win-1"}],
)
def test_windows(node: Node, kdebug: Kdebug, place: str, spec: Object) -> None:
    """By what the pod says, else by its node's label."""
    name = f"windows-{next(iter(spec)).lower()}"
    node.apply(targets.pod(name, targets.container(), **spec), place)
    for wait in ([], ["--wait"]):
        error = kdebug.prompt("ps", name, *wait, "-n", place, code=1).error
        assert error == f"{name} runs on a Windows node: kdebug's agent reads Linux' /proc"
    assert toolboxes.toolboxes(node.pod(place, name)) == []


def test_the_node_is_not_asked_of_who_may_not(node: Node, kdebug: Kdebug, place: str) -> None:
    node.forbid("get", "nodes")
    node.run(targets.root("unlabelled"), place)
    kdebug.with_options(kubeconfig=node.engineer)("ps", "unlabelled", "-n", place)


def test_the_image_of_the_toolbox_is_not_to_be_had(node: Node, kdebug: Kdebug, place: str) -> None:
    node.run(targets.root("imageless"), place)
    image = "registry.invalid/tools:9"
    done = kdebug.prompt("ps", "imageless", "--image", image, "-n", place, code=1)
    assert done.last_line.startswith(f"the toolbox image {image} cannot be pulled: ErrImagePull: ")
    assert "registry.invalid" in done.last_line
    assert "name another with --image; `kdebug toolbox` shows how to load ours" in done.last_line
    (made,) = toolboxes.toolboxes(node.pod(place, "imageless"))
    left = f"the ephemeral container {made['name']} was added to {place}/imageless before this failed"
    assert len(done.lines) == 2 and left in done.lines[0]


def test_an_image_without_python(node: Node, kdebug: Kdebug, place: str) -> None:
    node.run(targets.root("pythonless"), place)
    done = kdebug.prompt("ps", "pythonless", "--image", "busybox:1.37", "-n", place, code=1)
    assert done.last_line.startswith("the image busybox:1.37 has no python3, which the agent needs: ")
    assert '"python3": executable file not found in $PATH' in done.last_line
    assert "name an image with python3 >= 3.9 with --image" in done.last_line
    assert len(toolboxes.toolboxes(node.pod(place, "pythonless"))) == 1
    node.wait(place, "pythonless", lambda pod: "running" in state(pod, "app"))
