"""What a client left in a pod, as the API server and the host show it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kdebug.expression import parse
from kdebug.open import OpenOptions, PodOptions, open_target
from kdebug.target import Target

from .node import Node, Object

BASE: Object = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What every rung below sysadmin has."""


def user(uid: int, gid: int) -> Object:
    return {**BASE, "runAsUser": uid, "runAsGroup": gid, "runAsNonRoot": uid != 0}


def match(uid: int, gid: int) -> Object:
    return {**user(uid, gid), "capabilities": {"drop": ["ALL"]}}


PTRACE = {**user(0, 0), "capabilities": {"drop": ["ALL"], "add": ["SYS_PTRACE", "DAC_READ_SEARCH"]}}


def toolboxes(pod: Object) -> list[Object]:
    return list(pod["spec"].get("ephemeralContainers") or [])


def environment(container: Object) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container["env"]}


def rung(container: Object) -> str:
    return environment(container)["KDEBUG_PROFILE"]


def status_fields(pid: int) -> dict[str, list[str]]:
    """Of a process, as the host's kernel shows it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.partition(":")[0]: line.partition(":")[2].split() for line in lines}


def inner_pid(pid: int) -> int:
    """The number that a process has in its own PID namespace."""
    return int(status_fields(pid)["NSpid"][-1])


def processes_inside(pid: int) -> Iterator[tuple[int, str, str]]:
    """(pid, name, state) of every process in the PID namespace of `pid`, zombies too."""
    proc = Path(f"/proc/{pid}/root/proc")
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                head, _, rest = (entry / "stat").read_text().rpartition(")")
            except OSError:
                continue
            yield int(entry.name), head.partition("(")[2], rest.split()[0]


def listening(pid: int) -> set[str]:
    """Every socket that listens in the network namespace of `pid`: TCP, UDP and unix by name."""
    found = set()
    for kind, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == state:
                found.add(f"{kind} {fields[1]}")
    for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
        if int(line.split()[3], 16) & 0x10000:
            found.add(f"unix {line.split()[-1]}")
    return found


@asynccontextmanager
async def opened(
    node: Node, namespace: str, name: str, notes: list[str] | None = None, **options: Any
) -> AsyncIterator[Target]:
    """A target through the library, for many questions in one session."""
    kept = [] if notes is None else notes
    pod = PodOptions(kubeconfig=str(node.kubeconfig), namespace=namespace, **options)
    async with open_target(parse(name), OpenOptions(note=kept.append, step=kept.append, pod=pod)) as target:
        yield target
