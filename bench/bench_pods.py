"""Pods on the test node against kubectl, in one run: attach, reuse, throughput, memory. Needs root.

Ours and theirs take turns, and the medians of whole processes count. kubectl is the one from PyPI, the
peers' tool image a busybox; all images are on the node already.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.node.support import images, targets
from tests.node.support.node import Node

BIN = Path(sys.executable).parent
ROUNDS = 7
BIG_MIB = 256
AS_INSTALLED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""pip compiles what it installs, and the first run compiles an editable checkout; without this, every run
would."""
IMPORTS = (
    "import kdebug.cli.entry, kdebug.cli.main, kdebug.cli.processes, kdebug.kube.entry;"
    "from kdebug.kube.library import load; load('config.kube_config')"
)
"""Whatever `ps` on a pod loads."""


def say(name: str, value: float, unit: str, aim: str) -> None:
    print(f"{name:<66} {value:>8.3f} {unit:<6} aim {aim}", flush=True)


def timed(*command: str, output: object = subprocess.DEVNULL) -> float:
    started = time.perf_counter()
    done = subprocess.run(  # type: ignore[call-overload]
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE, env=AS_INSTALLED
    )
    assert done.returncode == 0, (command, done.stderr.decode())
    return time.perf_counter() - started


class Bench:
    def __init__(self, node: Node) -> None:
        self.node = node
        self.namespace = node.namespace("privileged")
        self.kubectl = [str(BIN / "kubectl"), "--kubeconfig", str(node.kubeconfig), "-n", self.namespace]
        self.ours = ["--kubeconfig", str(node.kubeconfig), "-n", self.namespace]

    def kdebug(self, verb: str, *arguments: str, output: object = subprocess.DEVNULL) -> float:
        return timed(str(BIN / "kdebug"), verb, *self.ours, *arguments, output=output)

    def pod(self, name: str) -> str:
        self.node.run(targets.root(name), self.namespace)
        return name

    def attach(self) -> None:
        """A fresh pod each: nothing to reuse."""
        ours, theirs = [], []
        for number in range(ROUNDS):
            ours.append(self.kdebug("ps", self.pod(f"ours-{number}")))
            name = self.pod(f"theirs-{number}")
            debug = ["debug", "-i", "-q", "--target=app", f"--image={images.BUSYBOX}", name, "--", "ps"]
            theirs.append(timed(*self.kubectl, *debug))
        say("attach to first process list, median", statistics.median(ours), "s", "-")
        say("kubectl debug -i --target=app -- ps, median", statistics.median(theirs), "s", "-")
        say("  ratio", statistics.median(ours) / statistics.median(theirs), "", "<= 0.5")

    def reuse(self) -> None:
        name = self.pod("reused")
        self.kdebug("ps", name)
        tool = targets.ephemeral("tool", image=images.BUSYBOX, command=["sleep", "3600"])
        self.node.add_ephemeral(self.namespace, name, tool)
        self.node.wait(self.namespace, name, lambda pod: _running(pod, "tool"))
        ours, theirs, imports = [], [], []
        for _ in range(ROUNDS):
            ours.append(self.kdebug("ps", name))
            theirs.append(timed(*self.kubectl, "exec", name, "-c", "tool", "--", "ps"))
            imports.append(timed(sys.executable, "-c", IMPORTS))
        say("ps in a reused session, whole process, median", statistics.median(ours), "s", "-")
        say("kubectl exec -- ps, whole process, median", statistics.median(theirs), "s", "-")
        say("  ratio", statistics.median(ours) / statistics.median(theirs), "", "<= 4, star 2")
        say("  of ours: python and its imports", statistics.median(imports), "s", "report")

    def throughput(self) -> None:
        manifest = targets.root("big")
        volume = {"name": "scratch", "emptyDir": {}}
        mount = [{"name": "scratch", "mountPath": "/scratch"}]
        manifest["spec"]["volumes"] = [volume]
        manifest["spec"]["containers"][0]["volumeMounts"] = mount
        writer = {
            "name": "writer",
            "image": images.BUSYBOX,
            "command": ["sleep", "3600"],
            "volumeMounts": mount,
        }
        manifest["spec"]["containers"].append(writer)
        self.node.run(manifest, self.namespace)
        fill = f"dd if=/dev/urandom of=/scratch/blob bs=1M count={BIG_MIB} 2>/dev/null"
        timed(*self.kubectl, "exec", "big", "-c", "writer", "--", "sh", "-c", fill)
        self.kdebug("ps", "big", "-c", "app")
        ours, theirs = [], []
        for _ in range(3):
            ours.append(self.kdebug("cat", "big:/scratch/blob", "-c", "app"))
            theirs.append(timed(*self.kubectl, "exec", "big", "-c", "writer", "--", "cat", "/scratch/blob"))
        rates = [BIG_MIB / statistics.median(times) for times in (ours, theirs)]
        say(f"cat of {BIG_MIB} MiB, whole process", rates[0], "MiB/s", "-")
        say("kubectl exec cat, whole process", rates[1], "MiB/s", "-")
        say("  ratio of rates", rates[0] / rates[1], "", ">= 0.9")

    def memory(self) -> None:
        """What the kernel cannot take back from the toolbox' cgroup while two clients look."""
        name = self.pod("memory")
        looking = [str(BIN / "kdebug"), "top", *self.ours, name, "--iterations", "1000", "-o", "json"]
        clients = [
            subprocess.Popen(looking, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(2)
        ]
        try:
            for client in clients:
                assert client.stdout is not None
                for _ in range(40):
                    client.stdout.readline()
            pod = self.node.pod(self.namespace, name)
            boxes = [item["name"] for item in pod["spec"]["ephemeralContainers"]]
            assert len(boxes) <= 2, boxes
            total = sum(_unreclaimable(self.node, self.namespace, name, box) for box in boxes)
            say(
                f"toolbox, not reclaimable, two clients ({len(boxes)} container)",
                total / 2**20,
                "MiB",
                "<= 40",
            )
        finally:
            for client in clients:
                client.kill()
                client.wait()


def _running(pod: dict[str, object], name: str) -> bool:
    statuses = pod.get("status", {}).get("ephemeralContainerStatuses") or []  # type: ignore[attr-defined]
    return any(s["name"] == name and "running" in s["state"] for s in statuses)


def _unreclaimable(node: Node, namespace: str, pod: str, container: str) -> int:
    """cgroup v2: anon and kernel; v1: rss and kmem."""
    folder = _memory_cgroup(node.container_pids(namespace, pod, container)[0])
    stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    if "anon" in stat:
        return int(stat["anon"]) + int(stat.get("kernel", 0))
    kernel = folder / "memory.kmem.usage_in_bytes"
    return int(stat["total_rss"]) + (int(kernel.read_text()) if kernel.exists() else 0)


def _memory_cgroup(pid: int) -> Path:
    """From /proc/PID/cgroup as the host sees it (cgroups(7))."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return Path("/sys/fs/cgroup/memory" + path)
        if not controllers and Path("/sys/fs/cgroup/cgroup.controllers").exists():
            return Path("/sys/fs/cgroup" + path)
    raise AssertionError(f"process {pid} is in no memory cgroup")


def main() -> None:
    if os.geteuid() != 0:
        sys.exit("bench_pods.py needs root: it runs a container runtime")
    with tempfile.TemporaryDirectory() as folder:
        node = Node(Path(folder))
        try:
            bench = Bench(node)
            parts: list[Callable[[], None]] = [bench.attach, bench.reuse, bench.throughput, bench.memory]
            for part in parts:
                part()
        finally:
            node.close()


if __name__ == "__main__":
    main()
