"""Size of the core image, and the memory of hold and agent on its own CPython, which runs in the pod.

The peer is the bare interpreter of the same image, in the same minute.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from kdebug.channel.subprocess import SubprocessChannel
from kdebug.protocol.requests import OpenTarget
from kdebug.target import Target
from kdebug.target.connection import Connection
from support.toolbox_image import Built, core_image


def say(name: str, value: float, unit: str, aim: str) -> None:
    print(f"{name:<58} {value:>9.3f} {unit:<6} aim {aim}", flush=True)


def rss(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def idle_memory(core: Built, name: str, aim: str, *command: str) -> None:
    process = subprocess.Popen(core.command(*command), stdin=subprocess.PIPE)
    used = ""
    # Started up: it has used no CPU for a tenth of a second.
    while (now := Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]) != used:
        used = now
        time.sleep(0.1)
    say(name, rss(process.pid), "MiB", aim)
    process.kill()
    process.wait()


async def agent_memory(core: Built) -> None:
    channel = await SubprocessChannel.start(core.command("/usr/bin/kdebug-agent", "serve"))
    connection = await Connection.open(channel)
    pid = connection.hello.pid
    target = await Target.open(connection, OpenTarget(pid=pid), "itself")
    say("agent, core loop, resident", rss(pid), "MiB", "<= 16")
    await target.processes()
    await target.sockets()
    say("agent after a process table and sockets", rss(pid), "MiB", "-")
    await target.process(pid)
    say("agent with psutil loaded", rss(pid), "MiB", "<= 20")
    await target.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        core = core_image(Path(folder))
        say("core, packed", core.archive.stat().st_size / 1e6, "MB", "<= 12")
        idle_memory(core, "bare interpreter of core", "-", "/usr/bin/python3", "-I", "-S", "-c", "input()")
        idle_memory(core, "hold", "<= 9", "/usr/bin/kdebug-agent", "hold")
        asyncio.run(agent_memory(core))


if __name__ == "__main__":
    main()
