"""Copies, listings and searches on the test node against kubectl, in one run. Needs root.

Ours and theirs take turns and the medians of whole processes count. `kubectl exec cat` and `kubectl cp` run
in a container with a busybox, for the target itself has neither cat nor tar; so do its ls and grep.
"""

from __future__ import annotations

import argparse
import asyncio
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

from kdebug.cli.long_listing import long_lines, ordered_rows, rows_of_page
from kdebug.expression import parse
from kdebug.open import open_target
from kdebug.protocol.search import MAX_NAMES, ListTable
from kdebug.target.options import OpenOptions, PodOptions
from kdebug.target.search import tables

BIN = Path(sys.executable).parent
ENTRIES = 100_000
LOGS, LOG_LINES = 2000, 7200
"""Half a MiB each."""


def say(name: str, value: float, unit: str, aim: str = "-") -> None:
    print(f"{name:<66} {value:>8.3f} {unit:<6} aim {aim}", flush=True)


class Bench:
    def __init__(self, node: Node, folder: Path, mib: int, rounds: int) -> None:
        self.node, self.folder, self.mib, self.rounds = node, folder, mib, rounds
        self.namespace = node.namespace("privileged")
        self.kubectl = [str(BIN / "kubectl"), "--kubeconfig", str(node.kubeconfig), "-n", self.namespace]
        self.flags = [
            "--kubeconfig",
            str(node.kubeconfig),
            "--namespace",
            self.namespace,
            "--container",
            "app",
        ]

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

    def busybox(self, *words: str) -> float:
        return self.timed(*self.kubectl, "exec", "big", "-c", "writer", "--", "busybox", *words)

    def listing(self) -> None:
        make = f"mkdir /scratch/many && cd /scratch/many && seq -w {ENTRIES} | sed s/^/file-/ | xargs touch"
        self.busybox("sh", "-c", make)
        firsts, opened, whole, theirs = [], [], [], []
        for _ in range(self.rounds):
            first, all_of_it = asyncio.run(self._in_open_session("/scratch/many"))
            firsts.append(first)
            opened.append(all_of_it)
            whole.append(self.kdebug("ls", "-la", "big:/scratch/many"))
            theirs.append(self.busybox("ls", "-la", "/scratch/many"))
        times = [statistics.median(values) for values in (firsts, opened, whole, theirs)]
        say(f"first page of a directory of {ENTRIES} entries, session open", times[0], "s", "<= 0.3")
        say("the whole of it, session open, sorted and formatted", times[1], "s")
        say("kdebug ls -la, whole process", times[2], "s")
        say("kubectl exec -- busybox ls -la, whole process", times[3], "s")
        say("  ratio, session open", times[1] / times[3], "", "<= 1.5")
        say("  ratio, whole process", times[2] / times[3], "", "report")

    async def _in_open_session(self, folder: str) -> tuple[float, float]:
        pod = PodOptions(kubeconfig=str(self.node.kubeconfig), namespace=self.namespace, container="app")
        async with open_target(parse("big"), OpenOptions(pod=pod)) as target:
            started = time.perf_counter()
            await target.backend.send(ListTable(path=folder, limit=MAX_NAMES))
            first = time.perf_counter() - started
            started = time.perf_counter()
            rows = [row async for page in tables(target, folder) for row in rows_of_page(page)]
            lines = long_lines(ordered_rows(rows, "name", False), False)
            assert len(lines) == ENTRIES + 1
            return first, time.perf_counter() - started

    def searching(self) -> None:
        """1 GiB of text, as in `bench_files.py`."""
        line = "info request & GET /api/items status=200 latency ms worker accepted"
        fill = f"mkdir /scratch/logs && seq {LOG_LINES} | sed 's|.*|{line}|' > /scratch/log"
        fill += f" && for i in $(seq {LOGS}); do cp /scratch/log /scratch/logs/$i; done"
        self.busybox("sh", "-c", fill + "; echo error: the needle code=4711 >> /scratch/logs/7")
        for title, our_flags, flags, pattern in (
            ("plain", "-rF", "-rF", "the needle"),
            ("regex", "-r", "-rE", "needle.*code=[0-9]+$"),
        ):
            ours, theirs = [], []
            for _ in range(self.rounds):
                ours.append(self.kdebug("grep", our_flags, pattern, "big:/scratch/logs"))
                theirs.append(self.busybox("grep", flags, pattern, "/scratch/logs"))
            times = [statistics.median(values) for values in (ours, theirs)]
            say(f"grep -r, {title}, {LOGS} files, whole process", times[0], "s")
            say("kubectl exec -- busybox grep -r", times[1], "s")
            say("  ratio", times[0] / times[1], "", "<= 2")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part", default="", help="only this one, such as listing")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench_transfer.py needs root: it runs a container runtime")
    with tempfile.TemporaryDirectory() as folder:
        node = Node(Path(folder))
        try:
            bench = Bench(node, Path(folder), arguments.mib, arguments.rounds)
            bench.prepare()
            parts: list[Callable[[], None]] = [
                bench.downloads,
                bench.kubectl_cp,
                bench.uploads,
                bench.listing,
                bench.searching,
            ]
            for part in parts:
                if arguments.part in ("", part.__name__):
                    part()
        finally:
            node.close()


if __name__ == "__main__":
    main()
