"""The kubelet's part: what is published when containers cannot start, end, or run into their limits."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from .support import exec_client, images, targets
from .support.cluster import Refused, container_status, state, waiting_reason
from .support.node import Node

Object = dict[str, Any]


def test_crash_loop(node: Node) -> None:
    namespace = node.namespace()
    node.apply(targets.crash_loop("crash"), namespace)
    pod = node.wait(namespace, "crash", lambda pod: waiting_reason(pod, "app") == "CrashLoopBackOff")
    status = container_status(pod, "app")
    where = f"crash_{namespace}({pod['metadata']['uid']})"
    text = f"back-off 10s restarting failed container=app pod={where}"
    assert status["state"]["waiting"]["message"] == text
    last = status["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"], status["restartCount"]) == (3, "Error", 1)
    assert pod["status"]["phase"] == "Running"
    assert {"type": "Ready", "status": "False"}.items() <= pod["status"]["conditions"][2].items()
    assert any(event["reason"] == "BackOff" for event in node.events(namespace, "crash"))


def test_toolbox_waits_for_a_target_that_is_down_and_starts_with_it(node: Node) -> None:
    namespace = node.namespace()
    node.set_backoff(restart=3)
    app = targets.container("app", "root", "--exit-after", "2", "--code", "1")
    node.apply(targets.pod("flaky", app), namespace)
    node.wait(namespace, "flaky", lambda pod: waiting_reason(pod, "app") == "CrashLoopBackOff")
    node.add_ephemeral(namespace, "flaky", targets.ephemeral("tools"))
    pod = node.wait(namespace, "flaky", lambda pod: waiting_reason(pod, "tools") == "CreateContainerError")
    message = state(pod, "tools")["waiting"]["message"]
    assert "invalid target container" in message and "is not running - in state CONTAINER_EXITED" in message
    node.wait(namespace, "flaky", lambda pod: "running" in state(pod, "tools"))
    ended = node.wait(namespace, "flaky", lambda pod: "terminated" in state(pod, "tools"))
    assert state(ended, "tools")["terminated"]["exitCode"] == 137  # the namespace's first process has ended


def test_target_that_never_started(node: Node) -> None:
    namespace = node.namespace()
    node.apply(targets.pod("stuck", targets.container(image="registry.invalid/none:1")), namespace)
    node.add_ephemeral(namespace, "stuck", targets.ephemeral("tools"))
    pod = node.wait(
        namespace, "stuck", lambda pod: waiting_reason(pod, "tools") == "CreateContainerConfigError"
    )
    assert state(pod, "tools")["waiting"]["message"] == "unable to find target container app"
    assert pod["status"]["phase"] == "Pending"


def test_image_that_cannot_be_pulled(node: Node) -> None:
    namespace = node.namespace()
    started = time.monotonic()
    node.apply(targets.pod("web", targets.container(image="registry.invalid/none:1")), namespace)
    pod = node.wait(namespace, "web", lambda pod: waiting_reason(pod, "app") == "ErrImagePull")
    assert (
        'failed to pull and unpack image "registry.invalid/none:1"'
        in state(pod, "app")["waiting"]["message"]
    )
    pod = node.wait(namespace, "web", lambda pod: waiting_reason(pod, "app") == "ImagePullBackOff")
    text = 'Back-off pulling image "registry.invalid/none:1": ErrImagePull: '
    assert state(pod, "app")["waiting"]["message"].startswith(text)
    assert time.monotonic() - started < 5
    reasons = [event["reason"] for event in node.events(namespace, "web")]
    assert {"Pulling", "Failed", "BackOff"} <= set(reasons)


@pytest.mark.parametrize(
    ("fields", "reason", "text"),
    [
        (
            {"image": "none", "imagePullPolicy": "Never"},
            "ErrImageNeverPull",
            "not present with pull policy of Never",
        ),
        ({"image": "Not A Name"}, "InvalidImageName", 'Failed to apply default image tag "Not A Name"'),
        ({"command": ["/missing"]}, "RunContainerError", "/missing"),
        (
            {"securityContext": {"runAsNonRoot": True}},
            "CreateContainerConfigError",
            "container has runAsNonRoot and image will run as root",
        ),
        (
            {"securityContext": {"runAsNonRoot": True, "runAsUser": 0}},
            "CreateContainerConfigError",
            "container's runAsUser breaks non-root policy",
        ),
        (
            {"image": f"{images.TARGET}:named", "securityContext": {"runAsNonRoot": True}},
            "CreateContainerConfigError",
            "image has non-numeric user (app), cannot verify user is non-root",
        ),
    ],
)
def test_what_cannot_start_says_why(node: Node, fields: Object, reason: str, text: str) -> None:
    namespace = node.namespace()
    node.apply(targets.pod("web", {**targets.container(), **fields}), namespace)
    pod = node.wait(namespace, "web", lambda pod: waiting_reason(pod, "app") == reason)
    assert text in state(pod, "app")["waiting"]["message"]


def test_every_target_runs_where_it_may(node: Node) -> None:
    """And the levels that admit it are those its manifest was made for."""
    levels = {"restricted": ("restricted", "restricted_image_user"), "baseline": tuple(targets.ALL)}
    for level, admitted in levels.items():
        namespace = node.namespace(level)
        for name, made in targets.ALL.items():
            if name in admitted:
                node.apply(made(), namespace)
            else:
                with pytest.raises(Refused):
                    node.apply(made(), namespace)
        for name in admitted:
            node.wait_running(namespace, targets.ALL[name]()["metadata"]["name"])
        node.end_work(namespace)


def test_crowd_has_children_and_a_deleted_file(node: Node) -> None:
    namespace = node.namespace()
    node.run(targets.crowd(children=5), namespace)
    first, *children = node.container_pids(namespace, "crowd", "app")
    assert sorted(Path(f"/proc/{child}/comm").read_text() for child in children) == [
        f"worker-{number}\n" for number in range(5)
    ]
    files = {os.readlink(entry) for entry in Path(f"/proc/{first}/fd").iterdir()}
    assert "/tmp/gone (deleted)" in files


def test_completed_pods(node: Node) -> None:
    namespace = node.namespace()
    for name, code, phase in (("good", "0", "Succeeded"), ("bad", "7", "Failed")):
        app = targets.container("app", "root", "--exit-after", "0", "--code", code)
        node.apply(targets.pod(name, app, restartPolicy="Never"), namespace)
        pod = node.wait(namespace, name, lambda pod: "terminated" in state(pod, "app"))
        assert pod["status"]["phase"] == phase


@pytest.mark.parametrize(
    ("target", "user"),
    [
        ("root", (0, 0, [0])),
        ("image_user", (65532, 0, [0])),
        ("listed_user", (65532, 65532, [65532])),
        ("explicit_user", (1000, 2000, [2000])),
        ("restricted", (65532, 65532, [65532])),
        ("named_user", (1000, 2000, [2000])),
    ],
)
def test_status_tells_the_user(node: Node, target: str, user: tuple[int, int, list[int]]) -> None:
    namespace = node.namespace()
    pod = node.run(targets.ALL[target](), namespace)
    name = pod["metadata"]["name"]
    told = container_status(pod, "app")["user"]["linux"]
    assert (told["uid"], told["gid"], told["supplementalGroups"]) == user
    process = node.container_pids(namespace, name, "app")[0]
    facts = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    assert (int(facts["Uid"].split()[0]), int(facts["Gid"].split()[0])) == user[:2]


def test_security_context_reaches_the_kernel(node: Node) -> None:
    namespace = node.namespace()
    node.run(targets.restricted("strict"), namespace)
    facts = _kernel_facts(node, namespace, "strict")
    assert (int(facts["CapEff"], 16), facts["NoNewPrivs"].strip(), facts["Seccomp"].strip()) == (
        0,
        "1",
        "2",
    )
    node.run(targets.added_capabilities("caps"), namespace)
    facts = _kernel_facts(node, namespace, "caps")
    assert int(facts["CapEff"], 16) == 1 << 10 | 1 << 1  # NET_BIND_SERVICE, DAC_OVERRIDE
    assert (facts["NoNewPrivs"].strip(), facts["Seccomp"].strip()) == ("0", "0")


def _kernel_facts(node: Node, namespace: str, pod: str) -> dict[str, str]:
    process = node.container_pids(namespace, pod, "app")[0]
    return dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())


def test_pod_limits_hold_for_the_toolbox_too(node: Node) -> None:
    namespace = node.namespace()
    node.run(targets.tight("tight"), namespace)
    node.add_ephemeral(namespace, "tight", targets.ephemeral("tools"))
    node.wait(namespace, "tight", lambda pod: "running" in state(pod, "tools"))
    script = "import mmap; m = mmap.mmap(-1, 64 << 20); [m.write(b'x' * 4096) for _ in range(16384)]"
    greedy = exec_client.stream(node.kubeconfig, namespace, "tight", "tools", "python3", "-c", script)
    assert greedy.exit_code != 0


def test_busy_target_is_throttled(node: Node) -> None:
    namespace = node.namespace()
    node.run(targets.busy("busy"), namespace)
    process = node.container_pids(namespace, "busy", "app")[0]

    def cpu_seconds() -> float:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    started, used = time.monotonic(), cpu_seconds()
    while (now := cpu_seconds()) - used < 0.1:
        assert time.monotonic() - started < 10
        time.sleep(0.05)
    assert (now - used) / (time.monotonic() - started) < 0.3
    node.end_work(namespace)


def test_shared_process_namespace(node: Node) -> None:
    namespace = node.namespace()
    node.run(targets.shared("shared"), namespace)
    node.add_ephemeral(namespace, "shared", targets.ephemeral("tools"))
    node.wait(namespace, "shared", lambda pod: "running" in state(pod, "tools"))
    listing = exec_client.stream(node.kubeconfig, namespace, "shared", "tools", "ps", "-o", "pid,user,comm")
    rows = [line.split() for line in listing.stdout.decode().splitlines()]
    assert ["1", "65535", "pause"] in rows
    assert sorted(row[1] for row in rows if row[2] == "app") == ["1000", "root"]


def test_host_namespaces_are_the_nodes(node: Node) -> None:
    namespace = node.namespace()
    node.run(
        targets.pod(
            "host", targets.container("app", "root", "--port", "0"), hostPID=True, hostNetwork=True
        ),
        namespace,
    )
    assert node.pod(namespace, "host")["status"]["podIP"] == "192.0.2.1"
    node.add_ephemeral(namespace, "host", targets.ephemeral("tools"))
    node.wait(namespace, "host", lambda pod: "running" in state(pod, "tools"))
    seen = exec_client.stream(
        node.kubeconfig, namespace, "host", "tools", "cat", "/proc/net/dev", "/proc/1/cmdline"
    )
    assert b"kdebug0" in seen.stdout and b"keeper.py" in seen.stdout


def test_volumes_are_shared(node: Node) -> None:
    namespace = node.namespace()
    mount = {"name": "scratch", "mountPath": "/scratch"}
    app = targets.container("app", "root", "--deleted", "/scratch/gone", volumeMounts=[mount])
    pod = targets.pod(
        "web", app, volumes=[{"name": "scratch", "emptyDir": {}}], securityContext={"fsGroup": 3000}
    )
    node.run(pod, namespace)
    node.add_ephemeral(namespace, "web", targets.ephemeral("tools", volumeMounts=[mount]))
    node.wait(namespace, "web", lambda pod: "running" in state(pod, "tools"))
    listed = exec_client.stream(node.kubeconfig, namespace, "web", "tools", "ls", "-ldn", "/scratch")
    assert listed.stdout.split()[3] == b"3000"


def test_deletion_takes_its_grace(node: Node) -> None:
    namespace = node.namespace()
    stubborn = targets.container("app", "root", "--ignore-term", "1")
    node.run(targets.pod("stubborn", stubborn), namespace)
    process = node.container_pids(namespace, "stubborn", "app")[0]
    gone = node.delete_pod(namespace, "stubborn", grace=1)
    assert gone["metadata"]["deletionGracePeriodSeconds"] == 1
    assert "deletionTimestamp" in node.pod(namespace, "stubborn")["metadata"]
    assert Path(f"/proc/{process}").exists()
    assert [event["type"] for event in _until_deleted(node, namespace)][-1] == "DELETED"
    assert not Path(f"/proc/{process}").exists()


def _until_deleted(node: Node, namespace: str) -> list[Object]:
    events = []
    for event in node.watch(f"api/v1/namespaces/{namespace}/pods?watch=1", 20):
        events.append(event)
        if event["type"] == "DELETED":
            break
    return events


def test_digest_notices_a_write(node: Node) -> None:
    namespace = node.namespace()
    node.run(targets.root("web"), namespace)
    before = node.rootfs_digest(namespace, "web", "app")
    assert node.rootfs_digest(namespace, "web", "app") == before
    (node.rootfs(namespace, "web", "app") / "tmp/note").write_text("x")
    assert node.rootfs_digest(namespace, "web", "app") != before
