"""A client that we did not write works against the node: kubectl, as people use it."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
from dataclasses import dataclass

import pytest

from .conftest import Kubectl
from .support import images, targets
from .support.cluster import Cluster, state
from .support.node import Node


@dataclass
class Place:
    cluster: Cluster
    namespace: str


@pytest.fixture
def place(cluster: Cluster) -> Place:
    return Place(cluster, cluster.namespace())


@pytest.fixture
def web(place: Place) -> Place:
    """A namespace with a running pod `web` and a python toolbox `tools` beside it."""
    place.cluster.run(targets.root("web"), place.namespace)
    place.cluster.add_ephemeral(place.namespace, "web", targets.ephemeral("tools"))
    place.cluster.wait(place.namespace, "web", lambda pod: "running" in state(pod, "tools"))
    return place


def test_get_and_describe(web: Place, kubectl: Kubectl) -> None:
    head, row = kubectl("get", "pod", "-n", web.namespace).stdout.decode().splitlines()
    assert head.split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert row.split()[:4] == ["web", "1/1", "Running", "0"]
    text = kubectl("describe", "pod", "web", "-n", web.namespace).stdout.decode()
    assert "Ephemeral Containers:\n  tools:" in text
    assert "Started container app" in text
    found = json.loads(kubectl("get", "pod", "web", "-n", web.namespace, "-o", "json").stdout)
    assert found["status"]["containerStatuses"][0]["user"]["linux"]["uid"] == 0
    assert b"node-1" in kubectl("get", "nodes").stdout or not isinstance(web.cluster, Node)


def test_get_watch(place: Place, kubectl_binary: str) -> None:
    place.cluster.run(targets.root("web"), place.namespace)
    argv = [kubectl_binary, "--kubeconfig", str(place.cluster.kubeconfig), "-n", place.namespace]
    argv += ["get", "pod", "-w", "--output-watch-events"]
    watch = subprocess.Popen(argv, stdout=subprocess.PIPE)
    try:
        assert watch.stdout is not None
        assert watch.stdout.readline().split()[:3] == [b"EVENT", b"NAME", b"READY"]
        assert watch.stdout.readline().split()[:4] == [b"ADDED", b"web", b"1/1", b"Running"]
        place.cluster.delete_pod(place.namespace, "web", grace=1)
        seen = [watch.stdout.readline().split() for _ in range(2)]
        assert [seen[0][0], seen[0][3]] == [b"MODIFIED", b"Terminating"]
    finally:
        watch.kill()
        watch.wait()


def test_create_and_label(place: Place, kubectl: Kubectl) -> None:
    manifest = json.dumps(targets.root("web")).encode()
    assert kubectl("apply", "-n", place.namespace, "-f", "-", stdin=manifest).stdout == b"pod/web created\n"
    kubectl("label", "pod", "web", "tier=front", "-n", place.namespace)
    selected = kubectl("get", "pod", "-l", "tier in (front, back)", "-o", "name", "-n", place.namespace)
    assert selected.stdout == b"pod/web\n"


def test_exec_exit_code_and_streams(web: Place, kubectl: Kubectl) -> None:
    script = "echo out; echo err >&2; exit 42"
    done = kubectl("exec", "web", "-c", "tools", "-n", web.namespace, "--", "sh", "-c", script, ok=False)
    assert (done.returncode, done.stdout) == (42, b"out\n")
    assert done.stderr.startswith(b"err\n")


def test_exec_round_trip_is_byte_exact(web: Place, kubectl: Kubectl, seed: int) -> None:
    data = random.Random(seed).randbytes(10 << 20)
    done = kubectl("exec", "-i", "web", "-c", "tools", "-n", web.namespace, "--", "cat", stdin=data)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_exec_sees_the_target(web: Place, kubectl: Kubectl) -> None:
    script = (
        "import os; print(open('/proc/1/comm').read().strip(), *sorted(os.listdir('/proc/1/root/data')))"
    )
    done = kubectl("exec", "web", "-c", "tools", "-n", web.namespace, "--", "python3", "-c", script)
    assert done.stdout.split() == b"app blob.bin conf current dangling empty escape hello.txt".split()


def test_debug_with_target(web: Place, kubectl: Kubectl) -> None:
    image = images.BUSYBOX.removeprefix("docker.io/library/")
    done = kubectl(
        "debug",
        "-i",
        "web",
        "-n",
        web.namespace,
        f"--image={image}",
        "--target=app",
        "--",
        "ps",
        "-o",
        "pid,comm",
    )
    assert [b"1", b"app"] in [line.split() for line in done.stdout.splitlines()]


def test_logs(place: Place, kubectl: Kubectl) -> None:
    chatty = targets.container("app", "root", "--lines", "5", "--exit-after", "1", "--code", "0")
    place.cluster.apply(targets.pod("chatty", chatty, restartPolicy="Never"), place.namespace)
    place.cluster.wait(
        place.namespace, "chatty", lambda pod: state(pod, "app").keys() & {"running", "terminated"}
    )
    followed = kubectl("logs", "-f", "chatty", "-n", place.namespace).stdout.decode().splitlines()
    assert followed == [f"line {number}" for number in range(5)] + ["ready", "leaving with 0"]
    last = kubectl("logs", "chatty", "-n", place.namespace, "--tail", "1").stdout
    assert last == b"leaving with 0\n"
    stamped = kubectl(
        "logs", "chatty", "-n", place.namespace, "--timestamps", "--tail", "1"
    ).stdout.decode()
    assert stamped.split(" ", 1)[0].endswith("Z")
    limited = kubectl("logs", "chatty", "-n", place.namespace, "--limit-bytes", "8").stdout
    assert limited == b"line 0\nl"
    recent = kubectl("logs", "chatty", "-n", place.namespace, "--since", "1h").stdout
    assert recent.startswith(b"line 0\n")


def test_logs_of_the_previous_instance(place: Place, kubectl: Kubectl) -> None:
    if isinstance(place.cluster, Node):
        place.cluster.set_backoff(restart=1)
    place.cluster.apply(targets.crash_loop("crash"), place.namespace)
    place.cluster.wait(
        place.namespace, "crash", lambda pod: pod["status"]["containerStatuses"][0]["restartCount"] > 0
    )
    done = kubectl("logs", "--previous", "crash", "-n", place.namespace)
    assert done.stdout == b"about to fail\nleaving with 3\n"


def test_delete(web: Place, kubectl: Kubectl) -> None:
    kubectl("delete", "pod", "web", "-n", web.namespace)
    gone = kubectl("get", "pod", "web", "-n", web.namespace, ok=False)
    assert gone.stderr == b'Error from server (NotFound): pods "web" not found\n'


def test_can_i(node: Node, kubectl: Kubectl) -> None:
    namespace = node.namespace()
    question = ("auth", "can-i", "patch", "pods", "--subresource=ephemeralcontainers", "-n", namespace)
    assert kubectl(*question, kubeconfig=node.engineer).stdout == b"yes\n"
    node.forbid("patch", "pods/ephemeralcontainers")
    assert kubectl(*question, kubeconfig=node.engineer, ok=False).stdout == b"no\n"


def test_client_certificate(node: Node, kubectl: Kubectl) -> None:
    done = kubectl("auth", "whoami", kubeconfig=node.user_with_certificate("erin"))
    assert b"erin" in done.stdout
