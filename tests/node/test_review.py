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


def drops_user(name: str = "drops-user") -> dict[str, Any]:
    container = {"name": "app", "image": images.PYTHON, "command": ["python3", "-c", DROPS_ITS_USER]}
    return targets.pod(name, container)


def test_a_corrected_toolbox_is_reused_and_nothing_climbs(node: Node, kdebug: Kdebug) -> None:
    namespace = node.namespace("privileged")
    node.run(drops_user(), namespace)
    for _ in range(3):
        done = kdebug("ls", "drops-user:/", "-n", namespace)
        assert done.returncode == 0, done.stderr
    made = toolboxes(node, namespace, "drops-user")
    assert [one["securityContext"]["runAsUser"] for one in made] == [0, 999]
    assert all("add" not in (one["securityContext"].get("capabilities") or {}) for one in made)


def test_an_image_that_cannot_be_pulled_is_added_once(node: Node, kdebug: Kdebug) -> None:
    namespace = node.namespace("privileged")
    node.run(targets.root(), namespace)
    for _ in range(3):
        done = kdebug("ps", "root", "-n", namespace, image="registry.invalid/none:1")
        assert done.returncode == 1 and "cannot be pulled" in done.stderr
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
