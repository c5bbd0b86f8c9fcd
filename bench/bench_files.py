"""The file verbs' figures, each against a named peer run in the same minute: prints one line a figure.

BUSYBOX names a busybox to compare with; else the machine's own, else GNU's tools are the peers, and said.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from kdebug.channel.subprocess import SubprocessChannel, local_agent_command
from kdebug.cli.long_listing import long_lines, ordered_rows, rows_of_page
from kdebug.protocol import requests as ask
from kdebug.protocol.grep import Grep
from kdebug.protocol.search import MAX_DEPTH, Checksum, DiskUsage, Find
from kdebug.target import Target
from kdebug.target.connection import Connection
from kdebug.target.search import search_pages, tables

ENTRIES = 100_000
FILES, FILE_BYTES = 2000, 512 * 1024
BUSYBOX = os.environ.get("BUSYBOX") or shutil.which("busybox")
WORDS = [
    "info",
    "request",
    "user",
    "GET",
    "/api/v1/items",
    "status=200",
    "latency",
    "ms",
    "connection",
    "timeout",
    "worker",
    "accepted",
]


def say(name: str, value: float, unit: str, aim: str) -> None:
    print(f"{name:<66} {value:>9.3f} {unit:<5} aim {aim}", flush=True)


def peer(*words: str) -> tuple[str, list[str]]:
    if BUSYBOX:
        return f"busybox {words[0]}", [BUSYBOX, *words]
    return f"GNU {words[0]}", list(words)


def timed(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    return time.perf_counter() - started


def rss(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


class Watch:
    """The agent's memory and the latency of a process table asked every second, beside some work."""

    def __init__(self, target: Target, pid: int) -> None:
        self._target, self._pid = target, pid
        self.latencies: list[float] = []
        self.most = 0.0

    async def beside(self, work: Coroutine[Any, Any, float]) -> float:
        task = asyncio.create_task(self._look())
        try:
            return await work
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            started = time.perf_counter()
            await self._target.processes(fds=False)
            self.latencies.append(time.perf_counter() - started)
            for _ in range(10):
                self.most = max(self.most, rss(self._pid))
                await asyncio.sleep(0.1)


async def whole(target: Target, request: Any) -> tuple[float, int]:
    started, rows = time.perf_counter(), 0
    async for page in search_pages(target, request):
        rows += len(page.items)
    return time.perf_counter() - started, rows


async def listing(target: Target, folder: str) -> None:
    started = time.perf_counter()
    await target.backend.send(ask.ListDir(path=folder, limit=ask.MAX_PAGE))
    say(f"first page of a directory of {ENTRIES} entries", time.perf_counter() - started, "s", "<= 0.3")
    started = time.perf_counter()
    rows = [row async for page in tables(target, folder) for row in rows_of_page(page)]
    lines = long_lines(ordered_rows(rows, "name", False), False)
    assert len(lines) == ENTRIES + 1
    ours = time.perf_counter() - started
    say("ls -la of it, session open, sorted and formatted", ours, "s", "-")
    for name, command in (peer("ls", "-la", folder), ("coreutils ls", ["ls", "-la", folder])):
        theirs = statistics.median(timed(command) for _ in range(3))
        say(f"{name} -la", theirs, "s", "-")
        say(f"ratio to {name} -la", ours / theirs, "x", "<= 1.5")


async def searching(target: Target, watch: Watch, folder: str) -> None:
    for title, pattern, fixed in (
        ("plain", "the needle of", True),
        ("regex", "needle.*code=[0-9]+$", False),
        ("regex without a string to look for", "[0-9]+: (needle|code)", False),
    ):
        request = Grep(path=folder, pattern=pattern, fixed=fixed, max_depth=MAX_DEPTH, limit=ask.MAX_PAGE)
        ours = await watch.beside(_seconds(whole(target, request)))
        say(f"grep -r, {title}, 1 GiB in {FILES} files", ours, "s", "-")
        name, command = peer("grep", "-rF" if fixed else "-rE", pattern, folder)
        theirs = timed(command)
        say(f"{name}, {title}", theirs, "s", "-")
        say(f"ratio to {name}, {title}", ours / theirs, "x", "<= 2")
    for title, other in (
        ("find", Find(path=folder, limit=ask.MAX_PAGE)),
        ("du", DiskUsage(path=folder, limit=ask.MAX_PAGE)),
        ("checksum -r", Checksum(path=folder, max_depth=MAX_DEPTH, limit=ask.MAX_PAGE)),
    ):
        say(f"{title} of the same", await watch.beside(_seconds(whole(target, other))), "s", "-")


async def _seconds(work: Coroutine[Any, Any, tuple[float, int]]) -> float:
    return (await work)[0]


def plant_logs(folder: str) -> None:
    dice = random.Random(1)
    lines = [" ".join(dice.choices(WORDS, k=dice.randrange(6, 20))) + "\n" for _ in range(20_000)]
    for number in range(FILES):
        text = "".join(dice.choices(lines, k=FILE_BYTES // 80))[:FILE_BYTES]
        if number % 100 == 0:
            text += "\nerror: the needle of the haystack code=4711\n"
        Path(f"{folder}/{number}").write_text(text)


def plant_names(folder: str) -> None:
    for number in range(ENTRIES):
        os.close(os.open(f"{folder}/file-{number:06d}", os.O_CREAT))


async def main() -> None:
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    channel = await SubprocessChannel.start(local_agent_command())
    connection = await Connection.open(channel)
    target = await Target.open(connection, ask.OpenTarget(pid=os.getpid()), "bench")
    pid = connection.hello.pid
    watch = Watch(target, pid)
    steps: list[tuple[Callable[[str], None], Callable[[str], Coroutine[Any, Any, None]]]] = [
        (plant_names, lambda folder: listing(target, folder)),
        (plant_logs, lambda folder: searching(target, watch, folder)),
    ]
    for plant, measure in steps:
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            plant(folder)
            await measure(folder)
    say("agent's resident memory through all of it, at most", max(watch.most, rss(pid)), "MiB", "<= 32")
    latencies = sorted(watch.latencies)
    say(
        "process table every second meanwhile, p95",
        latencies[int(len(latencies) * 0.95)] * 1000,
        "ms",
        "<= 200",
    )
    await target.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
