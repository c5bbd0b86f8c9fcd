"""How the terminal UI feels: from a key to its effect on a real pseudo terminal, beside heavy refreshes.

    python bench/bench_tui.py

The processes are made up (10,000, a tenth of them changed in each pass), the UI and the terminal are not.
`sh -c 'read'` on the same pseudo terminal is the named peer for what the terminal itself costs, and an
app of Textual that shows one word that for the start. Whatever else the machine does makes times longer,
not the CPU time beside them. Python's bytecode is kept meanwhile, as every installation has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pty
import random
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import AsyncIterator
from fcntl import ioctl
from pathlib import Path
from typing import Any

PROCESSES = 10_000
KEYS = 120
COLUMNS, ROWS = 120, 40
QUIET_SECONDS = 0.03
"""An effect is on the screen once nothing more is written for so long."""
STARTS = 5
ENTRIES, ENTERED = 1000, 10
WORD = b"connected"
PEER = f"""
from textual.app import App
from textual.widgets import Static
class Peer(App):
    def compose(self):
        yield Static({WORD.decode()!r})
Peer().run()
"""


class Screen:
    """A command on a pseudo terminal."""

    def __init__(self, *command: str) -> None:
        self.master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color"}, preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        self.seen = b""

    def read(self, seconds: float) -> bytes:
        if not select.select([self.master], [], [], seconds)[0]:
            return b""
        data = os.read(self.master, 1 << 16)
        self.seen += data
        return data

    def wait_for(self, text: bytes, seconds: float = 30) -> float:
        """Seconds since its start until `text` was written."""
        deadline, mark = time.monotonic() + seconds, max(0, len(self.seen) - len(text))
        while text not in self.seen[mark:]:
            if time.monotonic() > deadline:
                raise SystemExit(f"{text!r} does not come; last: {self.seen[-300:]!r}")
            self.read(0.05)
        return time.monotonic() - self.began

    def drain(self) -> None:
        while self.read(QUIET_SECONDS):
            pass

    def effect(self, keys: str, text: bytes = b"") -> float:
        """Seconds from the key to its effect: the first bytes written, or `text` among them."""
        self.drain()
        mark, began = len(self.seen), time.monotonic()
        os.write(self.master, keys.encode())
        while not (text in self.seen[mark:] if text else len(self.seen) > mark):
            if time.monotonic() - began > 10:
                raise SystemExit(f"no effect of {keys!r}")
            self.read(0.01)
        return time.monotonic() - began

    def cpu(self) -> float:
        """Seconds that the command has used until now (proc_pid_stat: utime, stime)."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


def many(generation: int, chance: random.Random) -> Any:
    """One pass: everything at first, then what changed."""
    from kdebug.protocol.processes import Process, ProcessPage

    pids = (
        range(1, PROCESSES + 1)
        if generation == 1
        else chance.sample(range(1, PROCESSES + 1), PROCESSES // 10)
    )
    items = tuple(
        Process(
            pid=pid, start_ticks=pid, ppid=pid // 7, name=f"worker-{pid}", state="S", vsize_bytes=1 << 30,
            rss_bytes=chance.randrange(1 << 28), cpu_seconds=generation * chance.random(), threads=4,
            started_at=1.7e9, uid=1000, gid=1000, user="app", fds=20,
            cmdline=("/srv/app/bin/worker", f"--shard={pid}", "--config=/etc/app/config.yaml"),
        )
        for pid in pids
    )  # fmt: skip
    return ProcessPage(items, generation, generation == 1, taken_at=time.time())


def serve() -> None:
    """The UI over made-up processes, refreshed every second."""
    from kdebug.cli.entry import GARBAGE_AFTER
    from kdebug.expression import parse
    from kdebug.open import OpenOptions
    from kdebug.protocol.system import TargetInfo
    from kdebug.target import Target
    from kdebug.tui import processes
    from kdebug.tui.app import KdebugApp

    gc.set_threshold(GARBAGE_AFTER)  # as the command line does
    processes.INTERVAL_SECONDS = 1.0
    chance = random.Random(1)

    class Made:
        generation = 0

        async def send(self, request: Any) -> Any:
            if request.name != "processes":
                await asyncio.sleep(3600)
            self.generation += 1
            return many(self.generation, chance)

        async def close(self) -> None:
            pass

    @contextlib.asynccontextmanager
    async def opener(expression: Any, options: OpenOptions) -> AsyncIterator[Target]:
        info = TargetInfo(1, 1, "app", None, True, True, None, 100, 4096, False)
        yield Target(Made(), info, "made-up")

    KdebugApp(parse("local:1"), OpenOptions(), opener).run()


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def say(name: str, value: float, unit: str, aim: str) -> None:
    print(f"{name:<66} {value:>9.3f} {unit:<4} aim {aim}")


def echo_seconds() -> float:
    """What a key costs that the terminal itself shows."""
    screen = Screen("sh", "-c", "stty -icanon; while read line; do :; done")
    time.sleep(0.3)
    took = [screen.effect("x") for _ in range(50)]
    screen.close()
    return statistics.median(took)


def keys_beside_refreshes() -> None:
    screen = Screen(sys.executable, __file__, "--serve")
    screen.wait_for(WORD)
    screen.effect("2", b"CPU%")
    time.sleep(3)
    pressed(
        screen,
        "cursor, 10,000 processes refreshed",
        [(random.choice("jjjk"), b"") for _ in range(KEYS)],
    )
    pressed(screen, "page down and up", [(key, b"") for key in ("\x1b[6~", "\x1b[5~") * 20])
    screen.effect("/")
    letters = []
    for text in ("worker", "shard=9", "config 77", "555"):
        letters += [*((letter, letter.encode()) for letter in text), ("\x15", b"")]
    pressed(screen, "letter of a filter over 10,000 rows", letters)
    screen.close()
    say("the same key echoed by the terminal alone: median", echo_seconds() * 1e3, "ms", "peer")


def pressed(screen: Screen, name: str, keys: list[tuple[str, bytes]]) -> None:
    """Say how long keys take to have their effect, and what one costs, refreshes meanwhile included."""
    before = screen.cpu()
    took = [screen.effect(key, text) for key, text in keys]
    spent = screen.cpu() - before
    say(f"key to paint, {name}: median", statistics.median(took) * 1e3, "ms", "-")
    say("  p95", percentile(took, 0.95) * 1e3, "ms", "<= 50")
    say("  CPU time", spent / len(took) * 1e3, "ms", "-")


def first_screen() -> None:
    victim = subprocess.Popen(["sleep", "600"])
    kdebug = str(Path(sys.executable).with_name("kdebug"))
    commands = {
        "kdebug attach local: to its first useful screen, whole process": (
            (kdebug, "attach", f"local:{victim.pid}"),
            "<= 0.8",
        ),
        "an app of Textual that shows one word": ((sys.executable, "-c", PEER), "peer"),
    }
    for name, (command, aim) in commands.items():
        started(command)  # whatever is compiled is compiled now
        took, spent = zip(*(started(command) for _ in range(STARTS)), strict=True)
        say(name, statistics.median(took), "s", aim)
        say("  CPU time", statistics.median(spent), "s", aim)
    victim.kill()
    victim.wait()


def started(command: tuple[str, ...]) -> tuple[float, float]:
    screen = Screen(*command)
    seconds = screen.wait_for(WORD)
    spent = screen.cpu()
    screen.close()
    return seconds, spent


def directory_on_the_node() -> None:
    """From Enter on a directory of a pod to its first screen; each time it is asked of the agent anew."""
    if os.geteuid() != 0:
        print("a directory on the test node: needs root, for its container runtime")
        return
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.node.support import targets
    from tests.node.support.node import Node

    kdebug = str(Path(sys.executable).with_name("kdebug"))
    with tempfile.TemporaryDirectory() as folder:
        node = Node(Path(folder))
        try:
            place = node.namespace("privileged")
            node.run(targets.pod("web", targets.container()), place)
            where = ("-n", place, "--kubeconfig", str(node.kubeconfig))
            full = Path(folder, "many")
            full.mkdir()
            for number in range(ENTRIES):
                (full / f"entry-{number:04}").touch()
            subprocess.run(
                [kdebug, "cp", "-r", str(full), "web:/many", *where], check=True, stdout=subprocess.DEVNULL
            )
            screen = Screen(kdebug, "attach", "web", *where)
            screen.wait_for(WORD)
            screen.effect("3", b"many")
            screen.effect("/many")
            screen.effect("\r")
            took = []
            for _ in range(ENTERED):
                took.append(screen.effect("\r", b"entry-0000"))
                screen.effect("h", b"many")
            screen.close()
        finally:
            node.close()
    say(
        f"Enter to paint, a directory of {ENTRIES} entries in a pod: median",
        statistics.median(took) * 1e3,
        "ms",
        "-",
    )
    say("  the longest", max(took) * 1e3, "ms", "-")


if __name__ == "__main__":
    if "--serve" in sys.argv:
        serve()
    else:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["PYTHONPYCACHEPREFIX"] = folder
            os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
            first_screen()
            directory_on_the_node()
            keys_beside_refreshes()
