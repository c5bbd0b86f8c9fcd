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
        argv = [str(Path(sys.executable).with_name("kdebug")), *words, "--kubeconfig", str(node.kubeconfig)]
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
