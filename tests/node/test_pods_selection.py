"""From what the user typed to one container of one pod."""

from __future__ import annotations

from typing import Any

import pytest

from .support import targets, toolboxes
from .support.cli import Kdebug
from .support.node import Node

Object = dict[str, Any]

LABELS = {"app": "shop", "tier": "front"}


def labelled(name: str, **labels: str) -> Object:
    pod = targets.root(name)
    pod["metadata"]["labels"] = labels
    return pod


@pytest.fixture(scope="module")
def place(started_node: Node) -> str:
    """Two pods of every owner, of which only one runs, beside a pod that nobody owns."""
    namespace = started_node.namespace()
    stuck = labelled("aaa-stuck", **LABELS)
    stuck["spec"]["containers"][0]["image"] = "registry.invalid/none:1"
    for pod in (labelled("shop-1", **LABELS), stuck, labelled("other", app="other")):
        started_node.apply(pod, namespace)
    for manifest in owners():
        started_node.apply(manifest, namespace)
    for name in ("shop-1", "other"):
        started_node.wait_running(namespace, name)
    return namespace


def owners() -> list[Object]:
    kinds = (("apps/v1", "Deployment"), ("apps/v1", "StatefulSet"), ("apps/v1", "DaemonSet"))
    kinds += (("apps/v1", "ReplicaSet"), ("batch/v1", "Job"))
    selector: Object = {"matchLabels": {"app": "shop"}}
    selector["matchExpressions"] = [{"key": "tier", "operator": "In", "values": ["front", "back"]}]
    made: list[Object] = [
        {"apiVersion": group, "kind": kind, "metadata": {"name": "shop"}, "spec": {"selector": selector}}
        for group, kind in kinds
    ]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop"}}
    return [*made, service | {"spec": {"selector": {"app": "shop"}}}]


@pytest.mark.parametrize("owner", ["deploy", "sts", "ds", "rs", "job", "svc"])
def test_owners(kdebug: Kdebug, place: str, owner: str) -> None:
    """The pod that can be entered is taken, and the choice is told."""
    done = kdebug("logs", f"{owner}/shop", "-n", place)
    assert done.stdout == b"ready\n"
    assert done.lines == [f"kdebug: {owner}/shop has 2 pods; this is shop-1 (others: aaa-stuck)"]


@pytest.mark.parametrize(
    "words", [["shop-1"], ["pod/shop-1"], ["pod", "shop-1"], ["-l", "app=shop,tier=front"]]
)
def test_ways_to_say_it(kdebug: Kdebug, place: str, words: list[str]) -> None:
    found = kdebug("describe", *words, "-n", place, "-o", "json").json
    assert (found["namespace"], found["pod"], found["phase"]) == (place, "shop-1", "Running")


def test_a_verb_attaches_to_what_a_deployment_runs(kdebug: Kdebug, place: str) -> None:
    found = kdebug("ps", "deploy", "shop", "-n", place, "-o", "json").json
    assert [row["name"] for row in found["processes"] if row["pid"] == 1] == ["app"]


def test_no_such_pod(kdebug: Kdebug, place: str) -> None:
    error = kdebug.prompt("ps", "shop-2", "-n", place, code=4).error
    assert error == f"there is no pod shop-2 in the namespace {place} (context node); did you mean shop-1?"


def test_no_such_pod_and_none_may_be_listed(node: Node, kdebug: Kdebug, place: str) -> None:
    node.forbid("list", "pods")
    error = kdebug.with_options(kubeconfig=node.engineer).prompt("ps", "shop-2", "-n", place, code=4).error
    assert error.endswith(f"in the namespace {place} (context node); check -n and --context")


def test_no_such_owner(kdebug: Kdebug, place: str) -> None:
    error = kdebug.prompt("ps", "deploy/shoop", "-n", place, code=4).error
    assert error == 'deploy/shoop cannot be read: deployments "shoop" not found; did you mean shop?'


def test_selector_that_selects_nothing(kdebug: Kdebug, place: str) -> None:
    error = kdebug.prompt("ps", "-l", "app=nothing", "-n", place, code=4).error
    assert error.startswith("the selector app=nothing has no pods; check -n; ")


def test_no_such_container(kdebug: Kdebug, place: str) -> None:
    error = kdebug.prompt("ps", "shop-1", "-c", "web", "-n", place, code=4).error
    assert error == "the pod shop-1 has no container web; it has app"


def test_no_such_context(kdebug: Kdebug, place: str) -> None:
    error = kdebug.prompt("ps", "shop-1", "--context", "nod", code=4).error
    assert error == "there is no context nod in the kubeconfig; did you mean node?"


def two(name: str, **annotations: str) -> Object:
    side = targets.container("side", "root", "--port", "8081", securityContext={"runAsUser": 1000})
    pod = targets.pod(name, targets.container(), side)
    pod["metadata"]["annotations"] = annotations
    return pod


def test_container_choice(node: Node, kdebug: Kdebug, place: str) -> None:
    """The first and a word about it; the default-container annotation and -c without one."""
    node.apply(two("plain"), place)
    node.run(two("annotated", **{"kubectl.kubernetes.io/default-container": "side"}), place)
    node.wait_running(place, "plain")
    note = "kdebug: the container is app; choose another with -c (side)"
    assert note in kdebug("net", "plain", "-n", place).lines
    assert "choose another" not in kdebug("net", "annotated", "-n", place).stderr
    kdebug("net", "plain", "-c", "side", "-n", place)
    chosen = [one["targetContainerName"] for one in toolboxes.toolboxes(node.pod(place, "plain"))]
    assert chosen == ["app", "side"]
    assert toolboxes.toolboxes(node.pod(place, "annotated"))[0]["targetContainerName"] == "side"


def pids_of(kdebug: Kdebug, place: str, *words: str) -> dict[str, int]:
    """Names to users, of what is told as the target's own processes."""
    found = kdebug("ps", *words, "-n", place, "-o", "json").json
    target = kdebug("attach", *words, "-n", place, "-o", "json").json["target"]["container"]
    return {row["name"]: row["uid"] for row in found["processes"] if row["container"] == target}


def test_shared_process_namespace(node: Node, kdebug: Kdebug, place: str) -> None:
    """The target is found by its container id: PID 1 is the sandbox's pause, and the other is not it."""
    node.run(targets.shared("shared"), place)
    assert pids_of(kdebug, place, "shared") == {"app": 1000}
    assert pids_of(kdebug, place, "shared", "-c", "sidecar") == {"app": 0}
    app, sidecar = toolboxes.toolboxes(node.pod(place, "shared"))
    assert app["securityContext"] == toolboxes.match(1000, 2000)
    assert sidecar["securityContext"] == toolboxes.user(0, 0)
    rows = kdebug("ps", "shared", "-n", place, "-o", "json").json["processes"]
    own = node.container_id(place, "shared", "app")
    users = {(row["uid"], row["user"]) for row in rows if row["container"] == own}
    others = {(row["uid"], row["user"]) for row in rows if row["container"] != own}
    # The passwd is the target's own: it knows nothing of users elsewhere, whatever their numbers.
    assert users == {(1000, "app")} and (0, None) in others
    assert {name for _, name in others} == {None}


@pytest.mark.parametrize("field", ["hostPID", "hostNetwork"])
def test_host_namespaces(node: Node, kdebug: Kdebug, place: str, field: str) -> None:
    name = field.lower()
    port = {"hostPID": "8090", "hostNetwork": "8091"}[field]
    node.run(targets.pod(name, targets.container("app", "root", "--port", port), **{field: True}), place)
    done = kdebug("ps", name, "-n", place, "-o", "json")
    container = node.container_id(place, name, "app")
    assert [row["name"] for row in done.json["processes"] if row["container"] == container] == ["app"]
    outside = [row for row in done.json["processes"] if row["container"] != container]
    assert any(row["name"] == "containerd" for row in outside) is (field == "hostPID")
    sockets = kdebug("net", name, "-n", place, "-o", "json").json["sockets"]
    (listener,) = [one for one in sockets if one["local"] == f"0.0.0.0:{port}"]
    (owner,) = [row["pid"] for row in done.json["processes"] if row["container"] == container]
    assert listener["pids"] == [owner]
