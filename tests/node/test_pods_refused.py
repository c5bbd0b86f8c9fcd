"""Refusals: by permissions, Pod Security, quota and webhooks, in the server's own words."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from .support import targets, toolboxes
from .support.cli import Kdebug
from .support.cluster import Refused
from .support.facade import errors
from .support.node import Node

Object = dict[str, Any]

RBAC = "`kdebug rbac` prints the rights that it takes"


@pytest.fixture(scope="module")
def place(started_node: Node) -> str:
    namespace = started_node.namespace()
    started_node.run(targets.root("web"), namespace)
    return namespace


@pytest.fixture
def engineer(node: Node, kdebug: Kdebug, place: str) -> Kdebug:
    return kdebug.with_options("-n", place, kubeconfig=node.engineer)


def added(node: Node, place: str, name: str = "web") -> list[str]:
    return [one["name"] for one in toolboxes.toolboxes(node.pod(place, name))]


def forbidden(place: str, verb: str, resource: str) -> str:
    return (
        f'pods "web" is forbidden: User "engineer" cannot {verb} resource "{resource}" in API group "" '
        f'in the namespace "{place}"'
    )


def test_the_pod_may_not_be_read(node: Node, engineer: Kdebug, place: str) -> None:
    node.forbid("get", "pods")
    error = engineer.prompt("ps", "web", code=3).error
    assert error == f"the pod web cannot be read: {forbidden(place, 'get', 'pods')}; {RBAC}"


def test_nothing_may_be_added(node: Node, engineer: Kdebug, place: str) -> None:
    """Permissions do not depend on the rung, so one answer is enough."""
    node.forbid("patch", "pods/ephemeralcontainers")
    before = added(node, place)
    done = engineer.prompt("ps", "web", "-v", "--ttl", "100", code=3)
    words = forbidden(place, "patch", "pods/ephemeralcontainers")
    assert done.last_line == f"no toolbox may be added to {place}/web: match+caps: {words}; {RBAC}"
    assert "ptrace" not in done.stderr and added(node, place) == before


@pytest.mark.parametrize("verb", ["get", "create"])
def test_exec_is_forbidden(node: Node, engineer: Kdebug, place: str, verb: str) -> None:
    """Newer servers check both verbs for a WebSocket. Nothing is added for whoever may not enter it."""
    node.forbid(verb, "pods/exec")
    node.run(targets.root(f"exec-{verb}"), place)
    done = engineer.prompt("ps", f"exec-{verb}", code=3)
    assert not added(node, place, f"exec-{verb}")
    words = forbidden(place, verb, "pods/exec").replace('"web"', f'"exec-{verb}"')
    assert done.last_line == f"exec into {place}/exec-{verb} is refused: {words}; {RBAC}"
    assert len(done.lines) == 1


def test_exec_into_what_is_there_is_forbidden(node: Node, engineer: Kdebug, place: str) -> None:
    """Another toolbox would not be entered either, so none is added."""
    node.run(targets.root("entered"), place)
    engineer("ps", "entered")
    node.forbid("create", "pods/exec")
    error = engineer.prompt("ps", "entered", code=3).error
    assert error.startswith(f"exec into {place}/entered is refused: ")
    assert len(added(node, place, "entered")) == 1


@pytest.mark.parametrize(
    ("words", "right", "error"),
    [
        (["logs", "web"], ("get", "pods/log"), "the logs of app in web cannot be read"),
        (["events", "web"], ("list", "events"), "the events of web cannot be listed"),
        (["ps", "-l", "app=web"], ("list", "pods"), "the pods cannot be listed"),
        (["sessions"], ("list", "pods"), "the pods cannot be listed"),
    ],
)
def test_other_rights(
    node: Node, engineer: Kdebug, place: str, words: list[str], right: tuple[str, str], error: str
) -> None:
    node.forbid(*right)
    line = engineer.prompt(*words, code=3).error
    assert line.startswith(f"{error}: ") and f"cannot {right[0]} resource" in line and RBAC in line


def test_what_rbac_prints_is_enough_and_not_too_much(node: Node, kdebug: Kdebug, place: str) -> None:
    printed = kdebug("rbac", "--minimal", "-n", place, "--user", "x").stdout
    role, _ = yaml.safe_load_all(printed)
    rights = [(verb, one) for rule in role["rules"] for one in rule["resources"] for verb in rule["verbs"]]
    cases = dict(enumerate([None, *rights]))
    for number in cases:
        node.apply(targets.root(f"least-{number}"), place)
    for number, left_out in cases.items():
        kubeconfig = node.user(f"least-{number}", everything=False)
        for right in rights:
            if right != left_out:
                node.permit(*right, place, f"least-{number}")
        node.wait_running(place, f"least-{number}")
        user = kdebug.with_options(kubeconfig=kubeconfig)
        user("ps", f"least-{number}", "-n", place, code=0 if left_out is None else 3)


@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_pod_security(node: Node, kdebug: Kdebug, level: str) -> None:
    """A rung that the level refuses, quoted; in a restricted namespace even where nothing is given."""
    namespace = node.namespace(level)
    node.run(targets.restricted("web"), namespace)
    done = kdebug.prompt("ps", "web", "--profile", "ptrace", "-n", namespace, code=3)
    words = f'violates PodSecurity "{level}:latest": '
    assert done.error.startswith(
        f'no toolbox may be added to {namespace}/web: ptrace: pods "web" is forbid'
    )
    assert words in done.error and "SYS_PTRACE" in done.error
    assert done.error.endswith("or use a profile that it allows (--profile)")
    assert added(node, namespace) == []


def test_pod_security_refuses_every_rung(node: Node, kdebug: Kdebug) -> None:
    """The level became stricter than the pod that runs."""
    namespace = node.namespace("privileged")
    node.run(targets.root("web"), namespace)
    path = f"api/v1/namespaces/{namespace}"
    labels = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    node.request("PATCH", path, labels, "application/merge-patch+json")
    error = kdebug.prompt("ps", "web", "-n", namespace, code=3).error
    assert "match+caps: pods" in error and "; ptrace: pods" in error
    assert error.count('violates PodSecurity "restricted:latest": ') == 2
    assert "runAsNonRoot" in error and added(node, namespace) == []


def test_quota(node: Node, engineer: Kdebug, place: str) -> None:
    words = 'pods "web" is forbidden: exceeded quota: small, requested: cpu=1, used: cpu=4, limited: cpu=4'
    node.faults.fail["patch", "pods/ephemeralcontainers"] = errors.ApiError(403, "Forbidden", words)
    error = engineer.prompt("ps", "web", "--ttl", "98", code=3).error
    assert words in error and RBAC not in error


def test_webhook(node: Node, engineer: Kdebug, place: str) -> None:
    node.faults.webhook_refusal = ("policy.example.org", "no debugging on Fridays")
    before = added(node, place)
    error = engineer.prompt("ps", "web", "--profile", "netadmin", code=3).error
    words = 'admission webhook "policy.example.org" denied the request: no debugging on Fridays'
    assert error.startswith(f"no toolbox may be added to {place}/web: netadmin: {words}; ask whoever runs")
    assert added(node, place) == before


def test_webhook_that_refuses_every_rung_is_quoted_once(node: Node, kdebug: Kdebug) -> None:
    namespace = node.namespace()
    node.run(targets.root("web"), namespace)
    node.faults.webhook_refusal = ("policy.example.org", "no")
    done = kdebug.prompt("ps", "web", "-v", "-n", namespace, code=3)
    words = 'admission webhook "policy.example.org" denied the request: no'
    assert f": match+caps, ptrace: {words}; " in done.last_line
    assert f"kdebug: match+caps is refused: {words}" in done.lines
    assert f"kdebug: ptrace is refused: {words}" in done.lines


def test_webhook_that_strips(node: Node, kdebug: Kdebug) -> None:
    namespace = node.namespace()
    node.run(targets.root("web"), namespace)
    node.faults.webhook_strips = True
    error = kdebug.prompt("ps", "web", "-n", namespace, code=1).error
    assert error == (
        "the API server took the toolbox for web but did not keep it: an admission webhook removed the "
        "container from the pod; ask whoever runs the cluster's policies to allow containers named kdebug-*"
    )


def test_webhook_that_cannot_dry_run(node: Node, kdebug: Kdebug) -> None:
    """Attaching needs no dry run; the plan says that it does not know."""
    namespace = node.namespace()
    node.run(targets.root("web"), namespace)
    node.faults.webhook_without_dry_run = "effects.example.org"
    plan = kdebug("access", "web", "--plan", "-n", namespace, "-o", "json").json["plan"]
    words = 'admission webhook "effects.example.org" does not support dry run'
    assert [(step["rung"], step["verdict"]) for step in plan] == [
        ("match+caps", "unknown"),
        ("ptrace", "unknown"),
    ]
    assert all(step["words"] == words for step in plan) and added(node, namespace) == []
    kdebug("ps", "web", "-n", namespace)


def test_plan_and_proof(node: Node, kdebug: Kdebug) -> None:
    namespace = node.namespace("baseline")
    node.run(targets.root("web"), namespace)
    found = kdebug("access", "web", "-n", namespace, "-o", "json").json
    assert [(step["rung"], step["verdict"]) for step in found["plan"]] == [
        ("match+caps", "accepted"),
        ("ptrace", "refused"),
    ]
    assert 'violates PodSecurity "baseline:latest"' in found["plan"][1]["words"]
    assert all(right["allowed"] for right in found["permissions"])
    proof = {check["name"]: check["status"] for check in found["proof"]}
    assert (found["uid"], found["gid"]) == (0, 0)
    assert {proof[name] for name in ("files read", "fds", "env")} == {"ok"}


def test_the_plan_knows_what_is_forbidden(node: Node, engineer: Kdebug, place: str) -> None:
    node.forbid("create", "pods/exec")
    found = engineer("access", "web", "--plan", "-o", "json").json
    denied = [(one["verb"], one["resource"]) for one in found["permissions"] if one["allowed"] is False]
    assert denied == [("create", "pods/exec")]


def test_conflicts_are_retried(node: Node, kdebug: Kdebug) -> None:
    namespace = node.namespace()
    node.run(targets.root("web"), namespace)
    node.faults.conflicts = 3
    kdebug("ps", "web", "-n", namespace)
    assert len(added(node, namespace)) == 1


def test_two_engineers_at_the_same_instant(node: Node, kdebug: Kdebug) -> None:
    namespace = node.namespace()
    node.run(targets.root("web"), namespace)
    node.faults.conflicts = 2
    both = [kdebug.start("ps", "web", "-o", "json", "-n", namespace) for _ in range(2)]
    answers = [one.communicate(timeout=60) for one in both]
    assert [one.returncode for one in both] == [0, 0], answers
    for stdout, _ in answers:
        assert any(row["name"] == "app" for row in json.loads(stdout)["processes"])
    assert len(added(node, namespace)) in (1, 2)


def test_admission_that_changes_the_toolbox_is_told(node: Node, kdebug: Kdebug) -> None:
    """No rung is trusted to be what was asked for."""
    namespace = node.namespace()
    node.run(targets.root("web"), namespace)
    node.faults.rewrites = {"runAsGroup": 5}
    done = kdebug("ps", "web", "-n", namespace)
    assert "kdebug: admission changed securityContext.runAsGroup of the toolbox" in done.lines


def test_a_profile_that_is_none(kdebug: Kdebug, place: str) -> None:
    error = kdebug.prompt("ps", "web", "--profile", "superuser", "-n", place, code=2).error
    assert error.startswith("there is no profile superuser; use auto, match, ptrace, netadmin, sysadmin")


def test_a_pod_that_is_refused_at_creation_is_no_target(node: Node) -> None:
    """The node's own check, so that the cases above stand on something."""
    with pytest.raises(Refused):
        node.apply(targets.root("web"), node.namespace("restricted"))
