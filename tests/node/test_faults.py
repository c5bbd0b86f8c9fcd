"""Every fault that a test can switch on does what it says, and is over when it is taken back."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from .conftest import Kubectl
from .support import exec_client, targets
from .support.certificates import Authority
from .support.cluster import Refused, state
from .support.facade import errors
from .support.node import ENGINEER, Node


@pytest.fixture(scope="module")
def place(started_node: Node) -> Iterator[str]:
    """A namespace with a pod `web` that runs, and a python toolbox `tools` in it."""
    namespace = started_node.namespace()
    started_node.run(targets.root("web"), namespace)
    started_node.add_ephemeral(namespace, "web", targets.ephemeral("tools"))
    started_node.wait(namespace, "web", lambda pod: "running" in state(pod, "tools"))
    yield namespace


def names(node: Node, namespace: str) -> list[str]:
    return [one["name"] for one in node.pod(namespace, "web")["spec"]["ephemeralContainers"]]


def test_webhook_refusal(node: Node, place: str, kubectl: Kubectl) -> None:
    node.faults.webhook_refusal = ("policy.example.org", "no debugging on Fridays")
    with pytest.raises(Refused) as caught:
        node.add_ephemeral(place, "web", targets.ephemeral("no"))
    assert caught.value.code == 403
    text = 'admission webhook "policy.example.org" denied the request: no debugging on Fridays'
    assert str(caught.value) == text
    argv = ("debug", "web", "-n", place, "--image=busybox:1.37", "--target=app", "--", "true")
    assert text in kubectl(*argv, ok=False).stderr.decode()
    node.faults.clear()
    node.add_ephemeral(place, "web", targets.ephemeral("yes"), dry_run=True)


def test_webhook_that_strips(node: Node, place: str) -> None:
    node.faults.webhook_strips = True
    node.add_ephemeral(place, "web", targets.ephemeral("stripped"))
    assert "stripped" not in names(node, place)


def test_webhook_that_cannot_dry_run(node: Node, place: str) -> None:
    node.faults.webhook_without_dry_run = "effects.example.org"
    with pytest.raises(Refused) as caught:
        node.add_ephemeral(place, "web", targets.ephemeral("wet"), dry_run=True)
    assert caught.value.code == 400
    assert str(caught.value) == 'admission webhook "effects.example.org" does not support dry run'
    node.add_ephemeral(place, "web", targets.ephemeral("wet"))
    assert "wet" in names(node, place)


def test_conflict_once(node: Node, place: str) -> None:
    node.faults.conflicts = 1
    with pytest.raises(Refused) as caught:
        node.add_ephemeral(place, "web", targets.ephemeral("second"))
    assert caught.value.code == 409
    node.add_ephemeral(place, "web", targets.ephemeral("second"))


def test_expired_token(node: Node, place: str, kubectl: Kubectl) -> None:
    node.expire(ENGINEER)
    done = kubectl("get", "pod", "-n", place, kubeconfig=node.engineer, ok=False)
    assert b"You must be logged in to the server" in done.stderr
    node.expire(ENGINEER, False)
    kubectl("get", "pod", "-n", place, kubeconfig=node.engineer)


def test_late_answers(node: Node, place: str) -> None:
    node.faults.delay_seconds = 0.3
    started = time.monotonic()
    node.pod(place, "web")
    assert 0.3 <= time.monotonic() - started < 3


def test_any_verb_can_fail(node: Node, place: str) -> None:
    node.faults.fail["get", "pods"] = errors.ApiError(
        503, "ServiceUnavailable", "apiserver is shutting down"
    )
    with pytest.raises(Refused) as caught:
        node.pod(place, "web")
    assert caught.value.code == 503


def test_api_server_that_comes_back(node: Node, place: str, kubectl: Kubectl) -> None:
    process = node.container_pids(place, "web", "app")[0]
    node.stop_api()
    try:
        done = kubectl("get", "pod", "-n", place, ok=False)
        assert b"connection refused" in done.stderr or b"was refused" in done.stderr
    finally:
        node.start_api()
    assert kubectl("get", "pod", "web", "-n", place).returncode == 0
    assert node.container_pids(place, "web", "app")[0] == process


def test_restart_ends_watches_and_streams(node: Node, place: str) -> None:
    outcomes: list[exec_client.Outcome] = []

    def stream() -> None:
        outcomes.append(
            exec_client.stream(node.kubeconfig, place, "web", "tools", "cat", stdin=b"", close_stdin=False)
        )

    thread = threading.Thread(target=stream)
    thread.start()
    _await_streams(node)
    node.stop_api()
    node.start_api()
    thread.join(10)
    assert [(one.close_code, one.status) for one in outcomes] == [(1006, {})]


def _await_streams(node: Node) -> None:
    deadline = time.monotonic() + 10
    while not node.faults.open_streams:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_streams_are_cut_now(node: Node, place: str, kubectl_binary: str) -> None:
    argv = [
        kubectl_binary,
        "--kubeconfig",
        str(node.kubeconfig),
        "exec",
        "-i",
        "web",
        "-c",
        "tools",
        "-n",
        place,
    ]
    with subprocess.Popen([*argv, "--", "cat"], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as client:
        _await_streams(node)
        assert node.cut_streams() == 1
        assert client.wait(10) != 0
    assert node.faults.open_streams == 0


def test_streams_are_cut_after_so_many_bytes(node: Node, place: str) -> None:
    node.faults.cut_after_bytes = 100_000
    argv = ("head", "-c", "1000000", "/dev/zero")
    outcome = exec_client.stream(node.kubeconfig, place, "web", "tools", *argv)
    assert (len(outcome.stdout), outcome.close_code, outcome.status) == (100_000, 1006, {})


def test_status_that_is_not_published(node: Node, place: str) -> None:
    node.publish_status(False)
    node.add_ephemeral(place, "web", targets.ephemeral("silent", "app", "true"))
    deadline = time.monotonic() + 10
    while not any(event["message"] == "Started container silent" for event in node.events(place, "web")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert state(node.pod(place, "web"), "silent") == {}
    node.publish_status(True)
    node.wait(place, "web", lambda pod: "terminated" in state(pod, "silent"))


def test_wrong_authority(node: Node, kubectl: Kubectl) -> None:
    other = Authority(node.folder, "someone-else")
    path = node.write_kubeconfig("misled", {"token": "x"}, ca=other.certificate)
    done = kubectl("get", "pod", kubeconfig=path, ok=False)
    assert b"x509: certificate signed by unknown authority" in done.stderr


def test_credential_plugin(node: Node, place: str, kubectl: Kubectl) -> None:
    """A kubeconfig may hold any user entry: here an exec plugin, as clouds have them."""
    token = node.facade.access.users[ENGINEER].token
    version = "client.authentication.k8s.io/v1"
    credential = json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": {"token": token}})
    plugin = {
        "apiVersion": version,
        "command": "echo",
        "args": [credential],
        "interactiveMode": "Never",
    }
    kubectl("get", "pod", "-n", place, kubeconfig=node.write_kubeconfig("plugin", {"exec": plugin}))
