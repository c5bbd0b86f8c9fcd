"""The facade answers as an API server does: the rules that a debugging client has to live with."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from .support import exec_client, targets
from .support.cluster import Refused, state
from .support.node import Node

Object = dict[str, Any]


@pytest.fixture(scope="module")
def place(started_node: Node) -> Iterator[str]:
    """A namespace with a pod `web` that runs, and a python toolbox `tools` in it."""
    namespace = started_node.namespace()
    started_node.run(targets.root("web"), namespace)
    started_node.add_ephemeral(namespace, "web", targets.ephemeral("tools"))
    started_node.wait(namespace, "web", lambda pod: "running" in state(pod, "tools"))
    yield namespace


def refusal(call: Any, *arguments: Any, **named: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        call(*arguments, **named)
    return caught.value


def ephemeral_path(namespace: str, pod: str) -> str:
    return f"api/v1/namespaces/{namespace}/pods/{pod}/ephemeralcontainers"


# Pod Security


def test_restricted_refuses_in_the_words_of_the_server(node: Node) -> None:
    refused = refusal(node.apply, targets.root("web"), node.namespace("restricted"))
    assert refused.code == 403
    violations = (
        "allowPrivilegeEscalation != false "
        '(container "app" must set securityContext.allowPrivilegeEscalation=false)',
        'unrestricted capabilities (container "app" must set securityContext.capabilities.drop=["ALL"])',
        'runAsNonRoot != true (pod or container "app" must set securityContext.runAsNonRoot=true)',
        'seccompProfile (pod or container "app" must set securityContext.seccompProfile.type '
        'to "RuntimeDefault" or "Localhost")',
    )
    start = 'pods "web" is forbidden: violates PodSecurity "restricted:latest": '
    assert str(refused) == start + ", ".join(violations)


def test_baseline_refuses_ptrace_on_an_ephemeral_container(node: Node) -> None:
    namespace = node.namespace("baseline")
    node.run(targets.root("web"), namespace)
    ptrace = targets.ephemeral("tools", securityContext={"capabilities": {"add": ["SYS_PTRACE"]}})
    for dry_run in (True, False):
        refused = refusal(node.add_ephemeral, namespace, "web", ptrace, dry_run=dry_run)
        assert refused.code == 403
        assert str(refused) == (
            'pods "web" is forbidden: violates PodSecurity "baseline:latest": non-default capabilities '
            '(container "tools" must not include "SYS_PTRACE" in securityContext.capabilities.add)'
        )
    assert "ephemeralContainers" not in node.pod(namespace, "web")["spec"]
    node.add_ephemeral(namespace, "web", targets.ephemeral("plain"))


def test_restricted_admits_what_meets_it(node: Node) -> None:
    namespace = node.namespace("restricted")
    node.run(targets.restricted("web"), namespace)
    plain = refusal(node.add_ephemeral, namespace, "web", targets.ephemeral("plain"), dry_run=True)
    assert 'container "plain" must set securityContext.allowPrivilegeEscalation=false' in str(plain)
    proper = targets.ephemeral("proper", securityContext={**targets.RESTRICTED, "runAsUser": 65532})
    node.add_ephemeral(namespace, "web", proper)


# Ephemeral containers


def test_dry_run_stores_nothing(node: Node, place: str) -> None:
    before = node.pod(place, "web")
    answered = node.add_ephemeral(place, "web", targets.ephemeral("ghost"), dry_run=True)
    assert answered["spec"]["ephemeralContainers"][-1]["name"] == "ghost"
    assert node.pod(place, "web")["spec"] == before["spec"]


def test_existing_ones_cannot_be_changed_or_removed(node: Node, place: str) -> None:
    changed = refusal(node.add_ephemeral, place, "web", {"name": "tools", "image": "other:1"})
    assert changed.code == 422
    text = 'spec.ephemeralContainers: Forbidden: existing ephemeral containers "tools" may not be changed'
    assert str(changed).startswith(f'Pod "web" is invalid: {text}')
    patch = {"spec": {"ephemeralContainers": [{"name": "tools", "$patch": "delete"}]}}
    path, strategic = ephemeral_path(place, "web"), "application/strategic-merge-patch+json"
    removed = refusal(node.request, "PATCH", path, patch, strategic)
    assert 'existing ephemeral containers "tools" may not be removed' in str(removed)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"targetContainerName": "nope"}, '.targetContainerName: Not found: "nope"'),
        ({"name": "app"}, '.name: Duplicate value: "app"'),
        ({"name": ""}, ".name: Required value"),
        ({"name": "Not_Good"}, '.name: Invalid value: "Not_Good": a lowercase RFC 1123 label must'),
        ({"image": ""}, ".image: Required value"),
        ({"ports": [{"containerPort": 1}]}, ".ports: Forbidden: cannot be set for an Ephemeral Container"),
        (
            {"resources": {"limits": {"cpu": "1"}}},
            ".resources: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            {"livenessProbe": {"exec": {}}},
            ".livenessProbe: Forbidden: cannot be set for an Ephemeral Container",
        ),
    ],
)
def test_what_an_ephemeral_container_may_not_be(node: Node, place: str, fields: Object, text: str) -> None:
    refused = refusal(node.add_ephemeral, place, "web", targets.ephemeral("bad") | fields)
    assert refused.code == 422 and refused.status["reason"] == "Invalid"
    assert f"spec.ephemeralContainers[1]{text}" in str(
        refused
    ) or f"spec.ephemeralContainers[0]{text}" in str(refused)


def test_stale_version_is_a_conflict(node: Node, place: str) -> None:
    patch = {
        "metadata": {"resourceVersion": "1"},
        "spec": {"ephemeralContainers": [targets.ephemeral("late")]},
    }
    path, strategic = ephemeral_path(place, "web"), "application/strategic-merge-patch+json"
    refused = refusal(node.request, "PATCH", path, patch, strategic)
    assert (refused.code, refused.status["reason"]) == (409, "Conflict")
    assert "the object has been modified; please apply your changes to the latest version" in str(refused)


def test_other_changes_are_dropped(node: Node, place: str) -> None:
    patch = {
        "metadata": {"annotations": {"note": "x"}, "labels": {"a": "b"}},
        "spec": {"nodeName": "other"},
    }
    path, strategic = ephemeral_path(place, "web"), "application/strategic-merge-patch+json"
    node.request("PATCH", path, patch, strategic)
    found = node.request("GET", path)
    assert (
        "note" not in (found["metadata"].get("annotations") or {})
        and "a" not in found["metadata"]["labels"]
    )
    assert found["spec"]["nodeName"] == node.name


def test_mirror_pods_have_none(node: Node) -> None:
    namespace = node.namespace()
    pod = targets.root("static")
    pod["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    node.run(pod, namespace)
    refused = refusal(node.add_ephemeral, namespace, "static", targets.ephemeral("tools"))
    text = 'Pod "static" is invalid: []: Forbidden: static pods do not support ephemeral containers'
    assert (refused.code, str(refused)) == (422, text)


def test_json_patch_and_update(node: Node) -> None:
    namespace = node.namespace()
    node.run(targets.root("web"), namespace)
    path = ephemeral_path(namespace, "web")
    add = [{"op": "add", "path": "/spec/ephemeralContainers", "value": [targets.ephemeral("one")]}]
    node.request("PATCH", path, add, "application/json-patch+json")
    pod = node.request("GET", path)
    pod["spec"]["ephemeralContainers"].append(targets.ephemeral("two"))
    updated = node.request("PUT", path, pod)
    assert [one["name"] for one in updated["spec"]["ephemeralContainers"]] == ["one", "two"]
    assert refusal(node.request, "PUT", path, pod).code == 409


# Reading


def test_not_found(node: Node, place: str) -> None:
    assert str(refusal(node.pod, place, "nobody")) == 'pods "nobody" not found'
    assert str(refusal(node.apply, targets.root(), "no-such")) == 'namespaces "no-such" not found'
    assert refusal(node.request, "GET", "api/v1/unknown").code == 404


def test_lists_come_in_pages(node: Node) -> None:
    namespace = node.namespace()
    for number in range(5):
        manifest = {
            "kind": "Service",
            "metadata": {"name": f"s{number}", "labels": {"even": str(number % 2 == 0)}},
        }
        node.apply(manifest, namespace)
    path, names, token = f"api/v1/namespaces/{namespace}/services?limit=2", [], ""
    while True:
        page = node.request("GET", f"{path}&continue={token}")
        names.append([one["metadata"]["name"] for one in page["items"]])
        token = page["metadata"].get("continue", "")
        if not token:
            break
    assert names == [["s0", "s1"], ["s2", "s3"], ["s4"]]
    even = node.request("GET", f"api/v1/namespaces/{namespace}/services?labelSelector=even%3DTrue")
    assert [one["metadata"]["name"] for one in even["items"]] == ["s0", "s2", "s4"]


def test_watch_expires_with_410(node: Node, place: str) -> None:
    version = node.pod(place, "web")["metadata"]["resourceVersion"]
    node.forget_history()
    path = f"api/v1/namespaces/{place}/pods?watch=1&timeoutSeconds=2&resourceVersion={version}"
    events = list(node.watch(path, 5))
    assert [event["type"] for event in events] == ["ERROR"]
    assert events[0]["object"]["code"] == 410


def test_watch_sends_bookmarks_and_ends_in_time(
    node: Node, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.support.facade.listing.Watch.bookmark_seconds", 0.2)
    path = f"api/v1/namespaces/{place}/pods?watch=1&timeoutSeconds=1&allowWatchBookmarks=true"
    started = time.monotonic()
    events = list(node.watch(path, 5))
    assert events[0]["type"] == "ADDED" and events[-1]["type"] == "BOOKMARK"
    assert time.monotonic() - started < 3


def test_events_tell_what_the_kubelet_did(node: Node, place: str) -> None:
    reasons = [event["reason"] for event in node.events(place, "web")]
    assert {"Pulled", "Created", "Started"} <= set(reasons)
    fields = {event["involvedObject"].get("fieldPath") for event in node.events(place, "web")}
    assert {"spec.containers{app}", "spec.ephemeralContainers{tools}"} <= fields


# Permissions


@pytest.mark.parametrize(
    ("verb", "resource", "method", "below", "text"),
    [
        (
            "get",
            "pods",
            "GET",
            "/web",
            'pods "web" is forbidden: User "engineer" cannot get resource "pods"',
        ),
        ("list", "pods", "GET", "", 'pods is forbidden: User "engineer" cannot list resource "pods"'),
        (
            "patch",
            "pods/ephemeralcontainers",
            "PATCH",
            "/web/ephemeralcontainers",
            'pods "web" is forbidden: User "engineer" cannot patch resource "pods/ephemeralcontainers"',
        ),
        (
            "get",
            "pods/log",
            "GET",
            "/web/log",
            'pods "web" is forbidden: User "engineer" cannot get resource "pods/log"',
        ),
    ],
)
def test_forbidden(
    node: Node, place: str, verb: str, resource: str, method: str, below: str, text: str
) -> None:
    engineer = node.as_engineer()
    node.forbid(verb, resource)
    refused = refusal(engineer.request, method, f"api/v1/namespaces/{place}/pods{below}", {})
    assert refused.code == 403
    assert str(refused) == f'{text} in API group "" in the namespace "{place}"'
    node.permit(verb, resource)
    if method == "GET":
        engineer.request(method, f"api/v1/namespaces/{place}/pods{below}")


def test_exec_needs_create_too(node: Node, place: str) -> None:
    node.forbid("create", "pods/exec")
    with pytest.raises(exec_client.Handshake) as caught:
        exec_client.stream(node.engineer, place, "web", "tools", "true")
    assert caught.value.code == 403
    node.permit("create", "pods/exec")
    assert exec_client.stream(node.engineer, place, "web", "tools", "true").exit_code == 0


def test_access_reviews_follow_the_table(node: Node, place: str) -> None:
    engineer = node.as_engineer()

    def allowed() -> bool:
        asked = {"namespace": place, "verb": "create", "resource": "pods", "subresource": "exec"}
        body = {"spec": {"resourceAttributes": asked}}
        answer = engineer.request("POST", "apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)
        return bool(answer["status"]["allowed"])

    assert allowed()
    node.forbid("create", "pods/exec", namespace=place)
    assert not allowed()


def test_a_user_with_nothing_is_permitted_step_by_step(node: Node, place: str) -> None:
    viewer = node.connect(node.user("viewer", everything=False))
    assert refusal(viewer.pod, place, "web").code == 403
    node.permit("get", "pods", user="viewer")
    assert viewer.pod(place, "web")["metadata"]["name"] == "web"


# Streams


def test_exec_speaks_v5_and_v4(node: Node, place: str) -> None:
    both = exec_client.stream(node.kubeconfig, place, "web", "tools", "cat", stdin=b"over v5")
    assert (both.protocol, both.stdout, both.exit_code) == (exec_client.V5, b"over v5", 0)
    script = "head -c 7; exit 3"
    old = exec_client.stream(
        node.kubeconfig,
        place,
        "web",
        "tools",
        "sh",
        "-c",
        script,
        stdin=b"over v4",
        protocols=(exec_client.V4,),
    )
    assert (old.protocol, old.stdout, old.exit_code) == (exec_client.V4, b"over v4", 3)
    assert old.status["reason"] == "NonZeroExitCode"
    assert old.close_code == 1000


def test_v4_cannot_close_stdin(node: Node, place: str) -> None:
    """What makes v5 worth asking for: here `cat` would wait for ever, so it is given a second."""
    argv = ("timeout", "1", "cat")
    old = exec_client.stream(
        node.kubeconfig, place, "web", "tools", *argv, stdin=b"x", protocols=(exec_client.V4,)
    )
    assert (old.stdout, old.exit_code) == (b"x", 143)


def test_exec_with_a_terminal(node: Node, place: str) -> None:
    outcome = exec_client.stream(node.kubeconfig, place, "web", "tools", "tty", tty=True)
    assert outcome.stdout == b"/dev/pts/0\r\n"


def test_exec_into_what_is_not_there(node: Node, place: str) -> None:
    with pytest.raises(exec_client.Handshake) as caught:
        exec_client.stream(node.kubeconfig, place, "web", "nobody", "true")
    assert caught.value.code == 400
    missing = exec_client.stream(node.kubeconfig, place, "web", "tools", "no-such-program")
    assert missing.status["status"] == "Failure"
    assert "no-such-program" in missing.status["message"]


def test_exec_is_refused_with_500_until_the_container_runs(node: Node, place: str) -> None:
    node.add_ephemeral(place, "web", targets.ephemeral("never", image="registry.invalid/none:1"))
    with pytest.raises(exec_client.Handshake) as caught:
        exec_client.stream(node.kubeconfig, place, "web", "never", "true")
    assert caught.value.code == 500
    node.faults.exec_error_in_stream = True
    inside = exec_client.stream(node.kubeconfig, place, "web", "never", "true")
    assert inside.status["code"] == 500 and 'container not found ("never")' in inside.status["message"]


def test_optimistic_exec_succeeds_before_the_status_says_so(node: Node, place: str) -> None:
    node.publish_status(False)
    node.add_ephemeral(place, "web", targets.ephemeral("quick"))
    deadline = time.monotonic() + 5
    while True:
        try:
            outcome = exec_client.stream(node.kubeconfig, place, "web", "quick", "true")
            break
        except exec_client.Handshake as problem:
            assert problem.code == 500 and time.monotonic() < deadline
    assert outcome.exit_code == 0
    assert state(node.pod(place, "web"), "quick") == {}


def test_attach_reaches_a_container_with_stdin(node: Node, place: str) -> None:
    command = ("python3", "-uc", "print(input()[::-1]); input()")
    node.add_ephemeral(place, "web", targets.ephemeral("echo", "app", *command, stdin=True, stdinOnce=True))
    node.wait(place, "web", lambda pod: "running" in state(pod, "echo"))
    attached = exec_client.stream(
        node.kubeconfig, place, "web", "echo", stdin=b"abc\nend\n", close_stdin=False, verb="attach"
    )
    assert attached.stdout == b"cba\n"


def test_two_clients_at_once(node: Node, place: str) -> None:
    outcomes: list[exec_client.Outcome] = []

    def one(word: str) -> None:
        outcomes.append(exec_client.stream(node.kubeconfig, place, "web", "tools", "echo", word))

    threads = [threading.Thread(target=one, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(json.loads(outcome.stdout) for outcome in outcomes) == [0, 1, 2, 3]


# The node without a runtime


def test_windows_pods_are_there_but_empty(node: Node) -> None:
    namespace = node.namespace()
    node.apply(
        targets.pod("iis", targets.container(), nodeSelector={"kubernetes.io/os": "windows"}), namespace
    )
    pod = node.pod(namespace, "iis")
    assert (pod["spec"]["nodeName"], pod["status"]["phase"]) == (node.windows_name, "Running")
    labels = node.request("GET", f"api/v1/nodes/{node.windows_name}")["metadata"]["labels"]
    assert labels["kubernetes.io/os"] == "windows"
