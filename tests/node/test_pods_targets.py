"""Every target at every level that admits it, without a flag: the lowest rung that works, and the truth.

A pod is attached to once, by the command line; its facts are then asked in one session that reuses the
toolbox, and compared with what the host's kernel shows of the same processes and files.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kdebug.errors import AccessDenied
from kdebug.expression import parse
from kdebug.open import OpenOptions, PodOptions, open_cluster
from kdebug.target import Target
from kdebug.target.cluster import LogQuery
from kdebug.target.reader import pieces

from .support import images, pod_security, targets, toolboxes
from .support.cli import Done, Kdebug
from .support.node import Node

Object = dict[str, Any]

ROOT = toolboxes.user(0, 0)
CAPABILITIES = {"drop": ["ALL"], "add": ["NET_BIND_SERVICE", "DAC_OVERRIDE"]}
EXPECTED: dict[str, tuple[str, Object]] = {
    "root": ("match+caps", ROOT),
    "image_user": ("match", toolboxes.match(65532, 0)),
    "listed_user": ("match", toolboxes.match(65532, 65532)),
    "explicit_user": ("match", toolboxes.match(1000, 2000)),
    "restricted": ("match", toolboxes.match(65532, 65532)),
    "restricted_image_user": ("match", toolboxes.match(65532, 0)),
    "added_capabilities": ("match+caps", {**ROOT, "capabilities": CAPABILITIES}),
    "read_only": ("match+caps", ROOT),
    "busy": ("match+caps", ROOT),
    "tight": ("match+caps", ROOT),
    "shared": ("match", toolboxes.match(1000, 2000)),
    "crowd": ("match+caps", ROOT),
    "unreadable": ("ptrace", toolboxes.PTRACE),
    "named_user": ("match", toolboxes.match(1000, 2000)),
}
"""The rung that must do, with its exact security context; at *privileged* unless a case says otherwise."""


def admitted(name: str, level: str) -> bool:
    return not pod_security.refusal({pod_security.LABEL: level}, targets.ALL[name]()["spec"])


LEVELS = ("restricted", "baseline", "privileged")
CASES = [(name, level) for name in targets.ALL for level in LEVELS if admitted(name, level)]
STRICTEST = {(name, next(level for level in LEVELS if admitted(name, level))) for name in targets.ALL}
PROMPT = STRICTEST | {("unreadable", "privileged")}
"""What every run does; `make soak` does all of `CASES`."""


@dataclass(frozen=True)
class Attached:
    """A pod of a target, after the first `ps -v`."""

    node: Node
    namespace: str
    name: str
    target: str
    level: str
    first: Done

    @property
    def pid(self) -> int:
        """Of the target's first process, on the host."""
        return self.node.container_pids(self.namespace, self.name, "app")[0]

    @property
    def root(self) -> Path:
        return self.node.rootfs(self.namespace, self.name, "app")

    @property
    def closed(self) -> bool:
        """Not dumpable, where nothing may trace it: its files stay closed."""
        return self.target == "unreadable" and self.level == "baseline"


@pytest.fixture(scope="module")
def places(started_node: Node) -> dict[str, str]:
    """A namespace for each level."""
    return {level: started_node.namespace(level) for level in LEVELS}


def _case(case: tuple[str, str]) -> Any:
    return pytest.param(case, id="-".join(case), marks=() if case in PROMPT else pytest.mark.soak)


@pytest.fixture(scope="module", params=map(_case, CASES))
def attached(
    request: pytest.FixtureRequest, started_node: Node, started_kdebug: Kdebug, places: dict[str, str]
) -> Iterator[Attached]:
    name, level = request.param
    manifest, namespace = targets.ALL[name](), places[level]
    pod = manifest["metadata"]["name"]
    started_node.run(manifest, namespace)
    first = started_kdebug("ps", pod, "-v", "-o", "json", "-n", namespace)
    yield Attached(started_node, namespace, pod, name, level, first)
    started_node.end_work(namespace)


def test_rung(node: Node, attached: Attached) -> None:
    """One container on the lowest rung that can do it, and the words of what was refused on the way."""
    made = toolboxes.toolboxes(node.pod(attached.namespace, attached.name))
    rung, context = EXPECTED[attached.target]
    if attached.target == "unreadable":
        _check_unreadable(attached, made)
        return
    assert [(toolboxes.rung(one), one["securityContext"]) for one in made] == [(rung, context)]
    assert f"kdebug: adding {made[0]['name']} on the rung {rung} (" in attached.first.stderr
    assert "refused" not in attached.first.stderr
    added = f"added the ephemeral container {made[0]['name']} to {attached.namespace}/{attached.name}"
    assert f"kdebug: {added} (rung {rung}: " in attached.first.stderr


def _check_unreadable(attached: Attached, made: list[Object]) -> None:
    """match is tried and measured; then ptrace where the level lets it."""
    tried = [toolboxes.rung(one) for one in made]
    assert made[0]["securityContext"] == toolboxes.match(65532, 0)
    assert "kdebug: match is refused: it reads too little: " in attached.first.stderr
    if attached.closed:
        assert tried == ["match"]
        words = 'violates PodSecurity "baseline:latest": non-default capabilities (container "kdebug-'
        assert "kdebug: ptrace is refused: " in attached.first.stderr and words in attached.first.stderr
        assert "kdebug: the rung match cannot read everything: " in attached.first.stderr
    else:
        assert tried == ["match", "ptrace"]
        assert made[1]["securityContext"] == toolboxes.PTRACE
        assert (
            f"1 more that did not do remain in the pod, ended: {made[0]['name']}" in attached.first.stderr
        )


def test_processes(node: Node, attached: Attached) -> None:
    """Exactly the processes that the host sees in the container, with their users and command lines."""
    container = node.container_id(attached.namespace, attached.name, "app")
    found = {
        row["pid"]: (row["name"], row["uid"], row["gid"], row["cmdline"], row["ppid"])
        for row in attached.first.json["processes"]
        if row["container"] == container
    }
    pids = node.container_pids(attached.namespace, attached.name, "app")
    assert found == {toolboxes.inner_pid(pid): _on_the_host(pid) for pid in pids}


def _on_the_host(pid: int) -> tuple[str, int, int, list[str], int]:
    fields = toolboxes.status_fields(pid)
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
    uid, gid = int(fields["Uid"][1]), int(fields["Gid"][1])
    parent = Path(f"/proc/{int(fields['PPid'][0])}")
    inside = parent.exists() and (parent / "ns/pid").readlink() == Path(f"/proc/{pid}/ns/pid").readlink()
    return fields["Name"][0], uid, gid, words, toolboxes.inner_pid(int(parent.name)) if inside else 0


def test_facts(node: Node, attached: Attached) -> None:
    """Root directory, 64 MiB of a file, environment and sockets, in one session that reuses the toolbox."""
    before = toolboxes.toolboxes(node.pod(attached.namespace, attached.name))
    asyncio.run(_check_facts(node, attached))
    assert toolboxes.toolboxes(node.pod(attached.namespace, attached.name)) == before


async def _check_facts(node: Node, attached: Attached) -> None:
    notes: list[str] = []
    async with toolboxes.opened(node, attached.namespace, attached.name, notes) as target:
        assert "added" not in " ".join(notes)
        if attached.closed:
            await _check_closed(target)
        else:
            await _check_root(target, attached.root)
            await _check_blob(target)
            await _check_environment(target, attached.pid)
        await _check_sockets(target, attached)


async def _check_closed(target: Target) -> None:
    for question in (target.list_dir("/"), target.environ(), target.fds()):
        with pytest.raises(AccessDenied):
            await question


async def _check_root(target: Target, root: Path) -> None:
    listed = {entry.name: entry for entry in (await target.list_dir("/")).entries}
    assert sorted(listed) == sorted(os.listdir(root))
    for name, entry in listed.items():
        found = os.lstat(root / name)
        assert (entry.mode, entry.uid, entry.gid) == (found.st_mode & 0o7777, found.st_uid, found.st_gid), (
            name
        )


async def _check_blob(target: Target) -> None:
    digest, size = hashlib.sha256(), 0
    async for chunk in pieces(target, "/data/current"):
        digest.update(chunk.data)
        size += len(chunk.data)
    assert (size, digest.digest()) == (images.BLOB_SIZE, _blob_digest())


@functools.cache
def _blob_digest() -> bytes:
    return hashlib.sha256(images.blob()).digest()


async def _check_environment(target: Target, pid: int) -> None:
    raw = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")[:-1]
    found = [f"{one.name}={one.value}" for one in (await target.environ()).items]
    assert found == raw and "APP_SECRET=swordfish" in found


async def _check_sockets(target: Target, attached: Attached) -> None:
    own = toolboxes.inner_pid(attached.pid)
    listens = [one for one in (await target.sockets()).items if one.state == "LISTEN"]
    (http,) = [one for one in listens if one.local == "0.0.0.0:8080"]
    assert (http.family, http.type) == ("inet", "tcp")
    assert http.pids == (None if attached.closed else (own,))


def test_logs(node: Node, attached: Attached) -> None:
    lines = asyncio.run(_logs(node, attached))
    assert [line.text for line in lines if line.container == "app"] == [b"ready"]


async def _logs(node: Node, attached: Attached) -> list[Any]:
    pod = PodOptions(kubeconfig=str(node.kubeconfig), namespace=attached.namespace)
    async with open_cluster(OpenOptions(pod=pod)) as cluster:
        ref = await cluster.choose(parse(attached.name))
        return [line async for line in cluster.logs(ref, ("app",), LogQuery())]
