"""Copies on the test node against kubectl, in one run. Needs root.

Ours and theirs take turns and the medians of whole processes count. `kubectl exec cat` and `kubectl cp` run
in a container with a busybox, for the target itself has neither cat nor tar.
"""

from __future__ import annotations

import argparse
import hashlib
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


def say(name: str, value: float, unit: str, aim: str = "-") -> None:
    print(f"{name:<66} {value:>8.3f} {unit:<6} aim {aim}", flush=True)


class Bench:
    def __init__(self, node: Node, folder: Path, mib: int, rounds: int) -> None:
        self.node, self.folder, self.mib, self.rounds = node, folder, mib, rounds
        self.namespace = node.namespace("privileged")
        self.kubectl = [str(BIN / "kubectl"), "--kubeconfig", str(node.kubeconfig), "-n", self.namespace]
        self.flags = ["--kubeconfig", str(node.kubeconfig), "-n", self.namespace, "-c", "app"]

    def timed(self, *command: str, output: str | None = None) -> float:
        started = time.perf_counter()
        with open(output or os.devnull, "wb") as out:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE)
        assert done.returncode == 0, (command, done.stderr.decode())
        return time.perf_counter() - started

    def kdebug(self, verb: str, *words: str, output: str | None = None) -> float:
        return self.timed(str(BIN / "kdebug"), verb, *self.flags, *words, output=output)

    def prepare(self) -> None:
        manifest = targets.root("big")
        mount = [{"name": "scratch", "mountPath": "/scratch"}]
        manifest["spec"]["volumes"] = [{"name": "scratch", "emptyDir": {}}]
        manifest["spec"]["containers"][0]["volumeMounts"] = mount
        manifest["spec"]["containers"].append(
            {"name": "writer", "image": images.BUSYBOX, "command": ["sleep", "3600"], "volumeMounts": mount}
        )
        self.node.run(manifest, self.namespace)
        fill = f"dd if=/dev/urandom of=/scratch/blob bs=1M count={self.mib} 2>/dev/null"
        fill += "; sha256sum /scratch/blob"
        told = self.folder / "digest"
        self.timed(*self.kubectl, "exec", "big", "-c", "writer", "--", "sh", "-c", fill, output=str(told))
        self.digest = told.read_text().split()[0]
        self.kdebug("ps", "big")

    def fresh(self) -> Path:
        """A path without a file: what was there is gone before the clock starts."""
        path = self.folder / "copy"
        path.unlink(missing_ok=True)
        return path

    def check(self) -> None:
        with open(self.folder / "copy", "rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == self.digest

    def downloads(self) -> None:
        ours, theirs, cats = [], [], []
        cat = ("exec", "big", "-c", "writer", "--", "cat", "/scratch/blob")
        for _ in range(self.rounds):
            ours.append(self.kdebug("cp", "big:/scratch/blob", str(self.fresh())))
            self.check()
            theirs.append(self.timed(*self.kubectl, *cat, output=str(self.fresh())))
            cats.append(self.kdebug("cat", "big:/scratch/blob", output=str(self.fresh())))
            self.check()
        rates = [self.mib / statistics.median(times) for times in (ours, theirs, cats)]
        say(f"cp of {self.mib} MiB, digest included, whole process", rates[0], "MiB/s")
        say("kubectl exec cat > file", rates[1], "MiB/s")
        say("kdebug cat > file", rates[2], "MiB/s")
        say("  ratio of rates, cp", rates[0] / rates[1], "", ">= 0.95")
        say("  ratio of rates, cat", rates[2] / rates[1], "", ">= 0.9")

    def kubectl_cp(self) -> None:
        times = []
        for _ in range(self.rounds):
            words = ("cp", "-c", "writer", f"{self.namespace}/big:/scratch/blob", str(self.fresh()))
            times.append(self.timed(*self.kubectl, *words))
        say("kubectl cp, which needs tar in the target", self.mib / statistics.median(times), "MiB/s")

    def uploads(self) -> None:
        self.kdebug("cp", "big:/scratch/blob", str(self.fresh()))
        times = []
        for _ in range(self.rounds):
            times.append(self.kdebug("cp", "-f", str(self.folder / "copy"), "big:/scratch/up"))
        say("cp into the target, fsync included", self.mib / statistics.median(times), "MiB/s", "report")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench_transfer.py needs root: it runs a container runtime")
    with tempfile.TemporaryDirectory() as folder:
        node = Node(Path(folder))
        try:
            bench = Bench(node, Path(folder), arguments.mib, arguments.rounds)
            bench.prepare()
            parts: list[Callable[[], None]] = [bench.downloads, bench.kubectl_cp, bench.uploads]
            for part in parts:
                part()
        finally:
            node.close()


if __name__ == "__main__":
    main()
