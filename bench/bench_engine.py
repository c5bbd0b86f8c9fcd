"""The engine's figures, each against a named peer run in the same minute. Prints one line a figure."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kdebug.channel.subprocess import SubprocessChannel, local_agent_command
from kdebug.protocol import codec
from kdebug.protocol import requests as ask
from kdebug.protocol.processes import Process, ProcessPage
from kdebug.target import Target
from kdebug.target.connection import Connection


def say(name: str, value: float, unit: str, aim: str) -> None:
    print(f"{name:<58} {value:>9.3f} {unit:<6} aim {aim}", flush=True)


async def agent_figures() -> None:
    channel = await SubprocessChannel.start(local_agent_command())
    connection = await Connection.open(channel)
    target = await Target.open(connection, ask.OpenTarget(pid=os.getpid()), "bench")
    pid = connection.hello.pid
    say("agent, core loop, resident", rss(pid), "MiB", "<= 16")
    await target.processes()
    await target.sockets()
    say("agent after a process table and sockets", rss(pid), "MiB", "-")
    await target.process(os.getpid())
    say("agent with psutil loaded", rss(pid), "MiB", "<= 20")
    await first_page(target)
    await cat(target)
    await target.close()


def rss(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


HOLD = "import sys; sys.path.insert(0, {!r}); from kdebug.agent.__main__ import main; main()"


def hold_memory() -> None:
    """Without site and user paths, as the toolbox starts it; a bare interpreter is the peer."""
    sources = str(Path(__file__).parents[1] / "src")
    for name, code, aim in (("hold", HOLD.format(sources), "<= 9"), ("bare interpreter", "input()", "-")):
        command = [sys.executable, "-I", "-S", "-c", code, "hold"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE)
        wait_until_asleep(process.pid)
        say(f"{name}, resident", rss(process.pid), "MiB", aim)
        process.kill()
        process.wait()


def wait_until_asleep(pid: int) -> None:
    """Started up: the process has used no CPU for a tenth of a second."""
    used = ""
    while (now := Path(f"/proc/{pid}/schedstat").read_text().split()[0]) != used:
        used = now
        time.sleep(0.1)


async def first_page(target: Target) -> None:
    folder = tempfile.mkdtemp()
    try:
        for number in range(100_000):
            os.close(os.open(f"{folder}/{number}", os.O_CREAT))
        started = time.perf_counter()
        await target.backend.send(ask.ListDir(path=folder, limit=1000))
        say("first page of a directory of 100,000 entries", time.perf_counter() - started, "s", "<= 0.1")
    finally:
        shutil.rmtree(folder)


async def cat(target: Target) -> None:
    from kdebug.target.reader import pieces

    with tempfile.NamedTemporaryFile() as file:
        for _ in range(1024):
            file.write(os.urandom(1 << 20))
        file.flush()
        started = time.perf_counter()
        subprocess.run(f"cat {file.name} | cat > /dev/null", shell=True, check=True)
        theirs = time.perf_counter() - started
        started = time.perf_counter()
        size = 0
        async for chunk in pieces(target, file.name):
            size += len(chunk.data)
        ours = time.perf_counter() - started
        assert size == 1 << 30
    say("cat of 1 GiB through the protocol", 1024 / ours, "MiB/s", "report")
    say("cat | cat", 1024 / theirs, "MiB/s", "-")


def decoding() -> None:
    row = Process(
        1234,
        5678,
        1,
        "server",
        "S",
        1 << 26,
        1 << 30,
        12.34,
        7,
        1.7e9,
        cmdline=("/app/server", "--port", "8080"),
    )
    payload = codec.to_json(ProcessPage(tuple([row] * ask.ListProcesses().limit), 1, True))
    codec.from_json(ProcessPage, payload)
    worst = 0.0
    for _ in range(20):
        started = time.perf_counter()
        codec.from_json(ProcessPage, payload)
        worst = max(worst, time.perf_counter() - started)
    say("10,000 rows: longest block of the event loop (a page)", worst * 1000, "ms", "<= 8")


def help_time() -> None:
    command = [str(Path(sys.executable).parent / "kdebug"), "--help"]
    times = []
    for _ in range(10):
        started = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - started)
    say("kdebug --help, whole process, median", sorted(times)[5], "s", "<= 0.2")


if __name__ == "__main__":
    decoding()
    help_time()
    hold_memory()
    asyncio.run(agent_figures())
