"""Captures on the test node, in one run: against a script of `kubectl exec`, 20 pods against one, what the
agent uses meanwhile, and opening a bundle of 2 GiB. Needs root, and 5 GB below the temporary folder.

Ours and theirs take turns, and medians count. The script asks once for each kind of fact, not once for
each process: nobody would wait for that.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.node.support import images, targets
from tests.node.support.node import Node

from kdebug.capture import writer
from kdebug.capture.offline import OfflineBackend
from kdebug.capture.reader import BundleReader

BIN = Path(sys.executable).parent
ROUNDS = 3
CHILDREN = 49
PODS = 20
GIB = 2**30
BIG_BYTES = 2 * GIB
ANSWERS = 5_000
EACH = "for p in /proc/[0-9]*; do echo $p; cat $p/{}; done 2>/dev/null"
ROOT = "/proc/$(pidof app | tr ' ' '\\n' | sort -n | head -1)/root"
FACTS = [
    *(EACH.format(name) for name in ("status", "stat", "cmdline", "environ", "limits", "maps", "io")),
    "ls -l /proc/[0-9]*/fd 2>/dev/null",
    "cd /proc/net && cat tcp tcp6 udp udp6 unix route dev",
    "cat /proc/1/mounts; cat /sys/fs/cgroup/*.stat /sys/fs/cgroup/*/*.stat 2>/dev/null",
    *(
        f"find {ROOT}{place} -maxdepth 2 -exec ls -ld {{}} + 2>/dev/null"
        for place in ("/", "/etc", "/tmp", "/var/log")
    ),
    f"cd {ROOT}/etc && cat os-release passwd hosts resolv.conf 2>/dev/null",
]
"""What `standard` asks, as a shell in a sidecar reads it; each is an exec of its own."""
SAMPLE = "cat /proc/[0-9]*/stat /sys/fs/cgroup/*.stat 2>/dev/null"
OBJECTS = (
    ["get", "pod", "{}", "-o", "json"],
    ["get", "events"],
    ["get", "nodes", "-o", "json"],
    ["logs", "{}", "-c", "app", "--timestamps", "--tail", "5000"],
)


def say(name: str, value: float, unit: str, aim: str) -> None:
    print(f"{name:<66} {value:>8.3f} {unit:<6} aim {aim}", flush=True)


class Bench:
    def __init__(self, node: Node, folder: Path) -> None:
        self.node, self.folder = node, folder
        self.namespace = node.namespace("privileged")
        self.kubectl = [str(BIN / "kubectl"), "--kubeconfig", str(node.kubeconfig), "-n", self.namespace]
        self.count = 0

    def pod(self, name: str, app: str = "") -> str:
        manifest = targets.crowd(name, CHILDREN)
        manifest["metadata"]["labels"] = {"app": app or name}
        self.node.run(manifest, self.namespace)
        return name

    def kdebug(self, *arguments: str, codes: tuple[int, ...] = (0,)) -> tuple[float, Any]:
        """(seconds of the whole process, its document)."""
        self.count += 1
        path = str(self.folder / f"bundle-{self.count}")
        command = [str(BIN / "kdebug"), "capture", *arguments, "--output", path, "-o", "json"]
        command += ["-n", self.namespace, "--kubeconfig", str(self.node.kubeconfig)]
        started = time.perf_counter()
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
        seconds = time.perf_counter() - started
        assert done.returncode in codes, done.stderr.decode()
        return seconds, json.loads(done.stdout)

    def script(self, name: str) -> float:
        """Everything into files, one after the other, as a runbook does it; the samples are half a second
        apart, as ours are."""
        started = time.perf_counter()
        execute = [*self.kubectl, "exec", name, "-c", "tool", "--", "sh", "-c"]
        commands = [[*execute, f"{fact}; true"] for fact in FACTS]
        commands += [[*self.kubectl, *(word.format(name) for word in words)] for words in OBJECTS]
        for number, command in enumerate(commands):
            self._into(f"fact-{number}", command)
        for number in range(4):
            began = time.perf_counter()
            self._into(f"sample-{number}", [*execute, f"{SAMPLE}; true"])
            time.sleep(max(0.0, 0.5 - (time.perf_counter() - began)) if number < 3 else 0)
        return time.perf_counter() - started

    def _into(self, name: str, command: list[str]) -> None:
        with (self.folder / name).open("wb") as file:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.PIPE)
        assert done.returncode == 0, (command, done.stderr.decode())

    def one_pod(self) -> None:
        name = self.pod("crowd")
        tool = targets.ephemeral("tool", image=images.BUSYBOX, command=["sleep", "3600"])
        self.node.add_ephemeral(self.namespace, name, tool)
        self.node.wait(self.namespace, name, _tool_runs)
        self.kdebug(name, "-r", "quick")  # the attach
        ours, after, theirs, cost = [], [], [], {}
        for _ in range(ROUNDS):
            seconds, told = self.kdebug(name)
            ours.append(seconds)
            with BundleReader(told["path"]) as bundle:
                manifest = bundle.json("manifest.json")
                processes = len(bundle.json("target/processes.json")["answer"]["items"])
            after.append(manifest["seconds"])
            cost = manifest["cost"]
            theirs.append(self.script(name))
        assert processes > CHILDREN, processes
        say(
            f"standard of {processes} processes, after the attach, median",
            statistics.median(after),
            "s",
            "<= 3",
        )
        say("  the whole process, session reused", statistics.median(ours), "s", "-")
        say(
            f"a script of {len(FACTS) + 4} kubectl exec, the same facts",
            statistics.median(theirs),
            "s",
            "-",
        )
        say("  ratio", statistics.median(ours) / statistics.median(theirs), "", "<= 1")
        say("agent: CPU over the capture", cost["agent_cpu_seconds"], "s", "-")
        say("agent: resident at its end", cost["agent_rss_bytes"] / 2**20, "MiB", "<= 40")

    def many_pods(self) -> None:
        """All fresh, so that each is attached to."""
        single = self.pod("single")
        for number in range(PODS):
            self.pod(f"fleet-{number}", "fleet")
        one, _ = self.kdebug(single)
        many, told = self.kdebug("-l", "app=fleet")
        assert [row["state"] for row in told["pods"]] == ["complete"] * PODS, told
        say("standard of one fresh pod, attach included", one, "s", "-")
        say(f"standard of {PODS} fresh pods", many, "s", "-")
        say("  ratio", many / one, "", "<= 3")

    def opening(self) -> None:
        path, small = str(self.folder / "big"), str(self.folder / "bundle-1")
        big_bundle(path, small)
        started = time.perf_counter()
        with BundleReader(path) as bundle:
            OfflineBackend(bundle)
            size, members = bundle.size_bytes, len(bundle.members)
        say(f"opening {size / GIB:.1f} GiB, {members} members", time.perf_counter() - started, "s", "<= 1")
        for name, place in (
            (f"kdebug ps bundle: of {size / GIB:.1f} GiB", path),
            ("  of a small one", small),
        ):
            command = [str(BIN / "kdebug"), "ps", f"bundle:{place}"]
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            say(f"{name}, whole process", time.perf_counter() - started, "s", "-")
        os.unlink(path)


def big_bundle(path: str, small: str) -> None:
    """A true one with logs that do not shrink and many samples; stored, since packing takes minutes and
    opening reads none of it."""
    writer.LEVEL = 0
    made = writer.BundleWriter(path)
    with BundleReader(small) as bundle:
        manifest = bundle.json("manifest.json")
        for name in bundle.members:
            if name != "manifest.json":
                made.add(name, bundle.read(name))
        sample = bundle.json("target/cgroup.json")
    for number in range(ANSWERS):
        name = f"target/cgroup.s{number:04}.json"
        made.add_json(name, sample | {"at": float(number)})
        row = {"question": sample["question"], "at": float(number), "member": name}
        manifest["answers"].append(row)
    noise = os.urandom(64 * 2**20)
    made.stream("logs/big.log", (noise for _ in range(BIG_BYTES // len(noise))))
    made.add_json("manifest.json", manifest)
    made.close()


def _tool_runs(pod: Any) -> bool:
    statuses = pod.get("status", {}).get("ephemeralContainerStatuses") or []
    return any(status["name"] == "tool" and "running" in status["state"] for status in statuses)


def main() -> None:
    if os.geteuid() != 0:
        sys.exit("bench_capture.py needs root: it runs a container runtime")
    with tempfile.TemporaryDirectory() as folder:
        node = Node(Path(folder))
        try:
            bench = Bench(node, Path(folder))
            for part in (bench.one_pod, bench.many_pods, bench.opening):
                part()
        finally:
            node.close()


if __name__ == "__main__":
    main()
