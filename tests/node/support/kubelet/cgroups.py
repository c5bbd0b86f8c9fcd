"""The pod's own control group, with the limits that the toolbox shares with its target.

The kubelet makes it, not the runtime: a limit holds for the pod when every container has declared one.
Paths are the kubelet's too (`kubepods/<qos>/pod<uid>`), below a folder of our own.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from . import translate

Object = dict[str, Any]

TOP = Path("/sys/fs/cgroup")


def is_v2() -> bool:
    return (TOP / "cgroup.controllers").exists()


def path_of(pod: Object, node: str) -> str:
    """As the runtime is told it: absolute below each hierarchy's mount point."""
    kind = translate.qos_class(pod["spec"])
    folder = "" if kind == "Guaranteed" else f"/{kind.lower()}"
    return f"/{node}/kubepods{folder}/pod{pod['metadata']['uid']}"


def _limits(spec: Object, what: str) -> list[Any]:
    """Every container's limit, or nothing if one of them has none."""
    limits = [
        ((one.get("resources") or {}).get("limits") or {}).get(what) for one in spec.get("containers", [])
    ]
    return limits if all(limit is not None for limit in limits) else []


def make(pod: Object, node: str) -> None:
    path, spec = path_of(pod, node).lstrip("/"), pod["spec"]
    cpu = sum(translate.milli_cpu(limit) for limit in _limits(spec, "cpu"))
    memory = sum(translate.in_bytes(limit) for limit in _limits(spec, "memory"))
    if is_v2():
        _make_v2(path, cpu, memory)
        return
    if cpu:
        group = TOP / "cpu" / path
        group.mkdir(parents=True, exist_ok=True)
        (group / "cpu.cfs_period_us").write_text(str(translate.PERIOD))
        (group / "cpu.cfs_quota_us").write_text(str(translate.quota(cpu)))
    if memory:
        group = TOP / "memory" / path
        group.mkdir(parents=True, exist_ok=True)
        (group / "memory.limit_in_bytes").write_text(str(memory))


def _make_v2(path: str, cpu: int, memory: int) -> None:
    group = TOP
    for part in path.split("/"):
        available = (group / "cgroup.controllers").read_text().split()
        wanted = " ".join(
            f"+{name}" for name in ("cpu", "memory", "pids", "cpuset", "io") if name in available
        )
        (group / "cgroup.subtree_control").write_text(wanted)
        group = group / part
        group.mkdir(exist_ok=True)
    if cpu:
        (group / "cpu.max").write_text(f"{translate.quota(cpu)} {translate.PERIOD}")
    if memory:
        (group / "memory.max").write_text(str(memory))


def remove(pod: Object, node: str) -> None:
    path = path_of(pod, node).lstrip("/")
    for folder in (TOP / path, *TOP.glob(f"*/{path}")):
        for group, _, _ in os.walk(folder, topdown=False):
            try:
                os.rmdir(group)
            except OSError:  # still settling: the node's end takes it
                pass


def host_pids(container: str) -> list[int]:
    """The machine's own numbers for the processes of a container, by what the kernel says of each."""
    pids = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            groups = Path(f"/proc/{entry}/cgroup").read_text()
        except OSError:
            continue
        if f"/{container}" in groups:
            pids.append(int(entry))
    return sorted(pids)
