"""Who may read a target's root: the table that the access ladder is built on, on this machine's kernel.

The rows of a real cluster are among them. One that fails here means that the node does not give containers
the rights that a cluster gives them, or that the ladder's ground has moved.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from .support import targets
from .support.cluster import state
from .support.node import Node

Object = dict[str, Any]

PROBE = """
import json, os
def attempt(action):
    try:
        action()
        return True
    except OSError:
        return False
def write(root, uid):
    home = {0: "root", 65532: "home/nonroot", 1000: "home/app"}.get(uid, "tmp")
    os.close(os.open(f"{root}/{home}/{os.urandom(8).hex()}", os.O_CREAT | os.O_EXCL))
found, roots = {}, {}
for pid in (int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()):
    root = f"/proc/{pid}/root"
    try:
        with open(f"/proc/{pid}/status") as status:
            _, name, *rest = status.read().split()
    except (FileNotFoundError, ProcessLookupError):
        continue  # another row's toolbox beside this one, which has ended
    uid = int(rest[rest.index("Uid:") + 1])
    roots[f"{name} {uid}"] = root
    found[f"{name} {uid}"] = {
        "root": attempt(lambda: os.listdir(root)),
        "environ": attempt(lambda: open(f"/proc/{pid}/environ").read()),
        "fds": attempt(lambda: os.readlink(f"/proc/{pid}/fd/0")),
        "maps": attempt(lambda: open(f"/proc/{pid}/maps").read()),
        "write": attempt(lambda: write(root, uid)),
    }
for process in sorted(roots):
    if process.startswith("app"):
        found[process]["chroot"] = attempt(lambda: os.chroot(roots[process]))
        break
print(json.dumps(found))
"""
"""Run in the toolbox: what it can do with each process it sees, by name and owner."""


def user(uid: int, gid: int | None = None, **fields: Any) -> Object:
    groups = {} if gid is None else {"runAsGroup": gid}
    return {"runAsUser": uid, **groups, "capabilities": targets.DROP_ALL, **fields}


def capabilities(*added: str, drop: bool = True) -> Object:
    dropped = targets.DROP_ALL if drop else {}
    return {"runAsUser": 0, "capabilities": {**dropped, "add": list(added)}}


LEAST = {"allowPrivilegeEscalation": False, "seccompProfile": {"type": "RuntimeDefault"}}
MATCH = user(65532, 0, **LEAST)

ROWS: list[tuple[str, str, str, Object, str]] = [
    # name, target, namespace level, toolbox, what it may do beyond reading /proc/PID/status
    (
        "root-ptrace",
        "image_user",
        "privileged",
        capabilities("SYS_PTRACE", drop=False),
        "read write chroot",
    ),
    ("only-ptrace", "image_user", "privileged", capabilities("SYS_PTRACE", "DAC_READ_SEARCH"), "read"),
    ("root-default", "image_user", "privileged", {"runAsUser": 0}, ""),
    ("gid-of-image", "image_user", "privileged", user(65532, 65532), ""),
    ("real-gid", "image_user", "privileged", MATCH, "read write"),
    ("other-uid", "image_user", "privileged", user(1000), ""),
    ("listed-gid", "listed_user", "privileged", user(65532, 65532, **LEAST), "read write"),
    ("listed-gid-0", "listed_user", "privileged", user(65532, 0, **LEAST), ""),
    ("root-on-root", "root", "baseline", {}, "read write chroot"),
    ("bare-root-on-root", "root", "baseline", user(0, 0), ""),
    ("exact", "added_capabilities", "baseline", capabilities("NET_BIND_SERVICE", "DAC_OVERRIDE"), "read"),
    ("no-superset", "added_capabilities", "baseline", user(0, 0), ""),
    ("restricted", "restricted", "restricted", {**targets.RESTRICTED, **user(65532, 65532)}, "read write"),
    ("explicit", "explicit_user", "privileged", user(1000, 2000), "read write"),
    ("not-dumpable", "unreadable", "privileged", user(65532, 0), ""),
    (
        "ptrace-not-dumpable",
        "unreadable",
        "privileged",
        capabilities("SYS_PTRACE", "DAC_READ_SEARCH"),
        "read",
    ),
]


@pytest.fixture(scope="module")
def measured(started_node: Node) -> Iterator[dict[str, Object]]:
    """All rows at once: a pod for each target and level, a toolbox in it for each row."""
    node = started_node
    pods: dict[tuple[str, str], str] = {}
    for _, target, level, *_ in ROWS:
        if (target, level) not in pods:
            pods[target, level] = node.namespace(level)
            pod = targets.ALL[target]()
            pod["metadata"]["name"] = "web"
            node.apply(pod, pods[target, level])
    for namespace in pods.values():
        node.wait_running(namespace, "web")
    for name, target, level, context, *_ in ROWS:
        toolbox = targets.ephemeral(name, "app", "python3", "-c", PROBE, securityContext=context)
        node.add_ephemeral(pods[target, level], "web", toolbox)
    yield {name: _result(node, pods[target, level], name) for name, target, level, *_ in ROWS}


def _result(node: Node, namespace: str, name: str) -> Object:
    node.wait(namespace, "web", lambda pod: "terminated" in state(pod, name))
    text = node.request("GET", f"api/v1/namespaces/{namespace}/pods/web/log?container={name}")
    found: Object = json.loads(text.splitlines()[-1])
    return found


@pytest.mark.parametrize(("name", "may"), [(row[0], row[-1]) for row in ROWS], ids=[row[0] for row in ROWS])
def test_who_may_read_the_root(node: Node, measured: dict[str, Object], name: str, may: str) -> None:
    facts = next(facts for process, facts in measured[name].items() if process.startswith("app"))
    seen = {key: facts[key] for key in ("root", "environ", "fds", "maps")}
    assert seen == dict.fromkeys(seen, "read" in may)
    assert {key: facts[key] for key in ("write", "chroot")} == {
        key: key in may for key in ("write", "chroot")
    }


def test_shared_namespace_opens_its_own_user_only(node: Node) -> None:
    namespace = node.namespace()
    node.run(targets.shared("web"), namespace)
    toolbox = targets.ephemeral("tools", "app", "python3", "-c", PROBE, securityContext=user(1000, 2000))
    node.add_ephemeral(namespace, "web", toolbox)
    found = _result(node, namespace, "tools")
    assert {process: facts["root"] for process, facts in found.items()} == {
        "pause 65535": False,
        "app 1000": True,
        "app 0": False,
    }
