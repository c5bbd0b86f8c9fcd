"""What a second, a third and a failed try leave in a pod, and whom each of them runs as."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .support import images, targets
from .support.cluster import state
from .support.node import Node

Kdebug = Callable[..., "subprocess.CompletedProcess[str]"]

DROPS_ITS_USER = (
    "import os, sys; os.setgroups([]); os.setgid(999); os.setuid(999);"
    "os.execvp('python3', ['python3', '-c', 'import signal; signal.pause()'])"
)
"""As the official images of databases do: root at first, then a user of their own (gosu, su-exec)."""


@pytest.fixture
def kdebug(node: Node, tmp_path: Path) -> Kdebug:
    def call(*words: str, image: str = images.PYTHON) -> subprocess.CompletedProcess[str]:
        given = () if "--kubeconfig" in words else ("--kubeconfig", str(node.kubeconfig))
        argv = [str(Path(sys.executable).with_name("kdebug")), *words, *given]
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KDEBUG_IMAGE": image}
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, env=environment)

    return call


def toolboxes(node: Node, namespace: str, name: str) -> list[dict[str, Any]]:
    return list(node.pod(namespace, name)["spec"].get("ephemeralContainers") or [])


def first(pod: dict[str, Any]) -> str:
    return str(pod["spec"]["ephemeralContainers"][0]["name"])


def drops_user(name: str = "drops-user") -> dict[str, Any]:
    container = {"name": "app", "image": images.PYTHON, "command": ["python3", "-c", DROPS_ITS_USER]}
    return targets.pod(name, container)


def test_a_corrected_toolbox_is_reused_and_nothing_climbs(node: Node, kdebug: Kdebug) -> None:
    namespace = node.namespace("privileged")
    node.run(drops_user(), namespace)
    for _ in range(3):
        done = kdebug("ls", "drops-user:/", "-n", namespace)
        assert done.returncode == 0, done.stderr
    node.wait(namespace, "drops-user", lambda pod: "terminated" in state(pod, first(pod)))
    made = toolboxes(node, namespace, "drops-user")
    assert [one["securityContext"]["runAsUser"] for one in made] == [0, 999]
    assert all("add" not in (one["securityContext"].get("capabilities") or {}) for one in made)


def test_an_image_that_cannot_be_pulled_is_added_once(node: Node, kdebug: Kdebug) -> None:
    namespace = node.namespace("privileged")
    node.run(targets.root(), namespace)
    for attempt in range(3):
        done = kdebug("ps", "root", "-n", namespace, image="registry.invalid/none:1")
        assert done.returncode == 1 and "cannot be pulled" in done.stderr
        assert ("stays listed there" in done.stderr) == (attempt == 0)
    assert len(toolboxes(node, namespace, "root")) == 1


def test_an_image_without_python_is_no_reason_to_climb(node: Node, kdebug: Kdebug) -> None:
    namespace = node.namespace("privileged")
    node.run(targets.explicit_user(), namespace)
    done = kdebug("ps", "explicit-user", "-n", namespace, image=images.BUSYBOX)
    assert done.returncode == 1 and "has no python3" in done.stderr
    assert [one["securityContext"]["runAsUser"] for one in toolboxes(node, namespace, "explicit-user")] == [
        1000
    ]


@pytest.mark.parametrize("verb", ["get", "create"])
def test_who_may_not_exec_adds_nothing(node: Node, kdebug: Kdebug, verb: str) -> None:
    namespace = node.namespace("privileged")
    node.run(targets.root(), namespace)
    node.forbid(verb, "pods/exec")
    done = kdebug("ps", "root", "-n", namespace, "--kubeconfig", str(node.engineer))
    assert done.returncode == 3 and "pods/exec" in done.stderr, done.stderr
    assert not toolboxes(node, namespace, "root")


def test_who_waits_for_what_never_comes_is_told(node: Node, kdebug: Kdebug) -> None:
    namespace = node.namespace("privileged")
    node.apply(
        targets.pod("over", targets.container("app", "root", "--exit-after", "0"), restartPolicy="Never"),
        namespace,
    )
    node.wait(namespace, "over", lambda pod: pod["status"].get("phase") == "Succeeded")
    done = kdebug("ps", "over", "-n", namespace, "--wait")
    assert done.returncode == 1 and "has ended (phase Succeeded)" in done.stderr


def test_nothing_is_added_to_a_pod_that_terminates(node: Node, kdebug: Kdebug) -> None:
    """It had a toolbox once, which has ended; a new one would never start."""
    namespace = node.namespace("privileged")
    container = targets.container("app", "root", "--ignore-term", "1")
    node.run(targets.pod("leaving", container, terminationGracePeriodSeconds=60), namespace)
    assert kdebug("ps", "leaving", "-n", namespace).returncode == 0
    assert kdebug("sessions", "stop", "leaving", "-n", namespace).returncode == 0
    node.wait(namespace, "leaving", lambda pod: "terminated" in state(pod, first(pod)))
    node.delete_pod(namespace, "leaving")
    done = kdebug("ps", "leaving", "-n", namespace)
    assert done.returncode == 1 and "is terminating" in done.stderr
    assert len(toolboxes(node, namespace, "leaving")) == 1
    node.delete_pod(namespace, "leaving", grace=0)
