"""Overview and logs of real pods: followed, previous of a crash loop, not to be entered, restarted."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from kdebug.open import OpenOptions, PodOptions
from kdebug.tui.logs import LogsPane
from kdebug.tui.overview import Findings
from kdebug.tui.session import State
from tui.conftest import Ui, play

from .support import targets
from .support.cli import PROGRAM
from .support.cluster import waiting_reason
from .support.node import Node

SLOW = 40.0
"""Seconds for what waits for a kubelet."""


@pytest.fixture(scope="module")
def place(started_node: Node) -> str:
    return started_node.namespace()


def look(node: Node, place: str, expression: str, script: Any, kubeconfig: Any = None) -> None:
    pod = PodOptions(kubeconfig=str(kubeconfig or node.kubeconfig), namespace=place)
    play(expression, script, options=OpenOptions(pod=pod))


async def logs(ui: Ui) -> LogsPane:
    await ui.until(lambda: ui.screen.session.pod, SLOW)
    pane: LogsPane = await ui.tab("Logs")
    return pane


def test_logs_are_followed_and_hostile_lines_are_shown_as_they_are(node: Node, place: str) -> None:
    say = "\x1b[2J\x1b]0;owned\x07[/foo] level=error"
    app = targets.container("app", "root", "--lines", "50", "--every", "200", "--say", say)
    side = targets.container("side", "root", "--port", "8081", "--say", "side is ready")
    node.run(targets.pod("talks", app, side), place)

    async def script(ui: Ui) -> None:
        await ui.until(lambda: ui.screen.session.state is State.LIVE, SLOW)
        pane = await logs(ui)
        await ui.until(lambda: len(pane.view.rows) > 55)
        count = len(pane.view.rows)
        await ui.until(lambda: len(pane.view.rows) > count + 5)
        assert b"side is ready" in {row.text for row in pane.view.rows}
        assert any(row.event is not None for row in pane.view.rows)
        lines = [row.text for row in pane.view.rows if row.container == "app" and row.event is None]
        assert lines[:50] == [b"line %d" % n for n in range(50)] and len(set(lines)) == len(lines)
        await ui.press("slash", *"owned", "enter")
        await ui.shows(r"\x1b[2J\x1b]0;owned\x07[/foo] level=error")
        assert all(c.isprintable() or c == "\n" for c in ui.text())

    look(node, place, "talks", script)


def test_nothing_of_a_hostile_log_reaches_the_terminal_raw(node: Node, place: str, home: Path) -> None:
    """The very bytes that a terminal gets."""
    app = targets.container("app", "root", "--say", "\x1b]0;owned\x07\x1b[3J[/foo]\u202e")
    node.run(targets.pod("hostile", app), place)
    terminal = Terminal(["attach", "hostile", "-n", place, "--kubeconfig", str(node.kubeconfig)], home)
    try:
        terminal.until(b"connected")
        tab = re.search(rb"(\d) Logs", terminal.seen)
        assert tab is not None
        terminal.send(tab[1])
        terminal.until(b"owned")
        terminal.send(b"q")
        terminal.ended()
    finally:
        terminal.close()
    assert rb"\x1b]0;owned\x07\x1b[3J[/foo]\u202e" in terminal.seen
    for raw in (b"\x1b]0;", b"\x1b[3J", "\u202e".encode(), b"owned\x07"):
        assert raw not in terminal.seen


class Terminal:
    """kdebug on a terminal of 200 x 50 cells."""

    def __init__(self, arguments: list[str], home: Path) -> None:
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (50, 200))
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            [PROGRAM, *arguments], stdin=slave, stdout=slave, stderr=slave, env=environment, close_fds=True
        )
        os.close(slave)
        self.seen = b""

    def send(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def _read(self, seconds: float) -> bool:
        if not select.select([self.master], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.master, 1 << 16)
        except OSError:
            return False  # EIO: nobody has the other end any more
        self.seen += data
        return bool(data)

    def until(self, text: bytes) -> None:
        deadline = time.monotonic() + SLOW
        while text not in self.seen:
            assert time.monotonic() < deadline and self._read(0.2), self.seen[-3000:]

    def ended(self) -> None:
        deadline = time.monotonic() + SLOW
        while self._read(0.2):
            assert time.monotonic() < deadline, self.seen[-3000:]
        assert self.process.wait(10) == 0

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


def test_a_broken_connection_to_the_api_doubles_no_line(node: Node, place: str) -> None:
    node.run(targets.pod("cut", targets.container("app", "root", "--every", "100")), place)

    async def script(ui: Ui) -> None:
        pane = await logs(ui)
        await ui.until(lambda: len(pane.view.rows) > 20, SLOW)
        node.stop_api()
        await ui.until(lambda: pane.reader.problems, SLOW)
        node.start_api()
        await ui.until(lambda: not pane.reader.problems, SLOW)
        count = len(pane.view.rows)
        await ui.until(lambda: len(pane.view.rows) > count + 20, SLOW)
        ticks = [row.text for row in pane.view.rows if row.text.startswith(b"tick")]
        assert ticks == [b"tick %d" % n for n in range(len(ticks))]

    look(node, place, "cut", script)


def test_the_last_words_of_a_crash_loop(node: Node, place: str) -> None:
    node.set_backoff(restart=60)
    node.apply(targets.crash_loop("crashing"), place)
    node.wait(place, "crashing", lambda pod: waiting_reason(pod, "app") == "CrashLoopBackOff")

    async def script(ui: Ui) -> None:
        await ui.shows("[w] attach by itself when the container starts", SLOW)
        await ui.shows("✗ app does not run: CrashLoopBackOff")
        await ui.shows("exit code 3")
        await ui.press("enter")
        await ui.shows("about to fail")
        await ui.shows("previous instance")

    look(node, place, "crashing", script)


def test_waiting_attaches_at_the_next_start(node: Node, place: str) -> None:
    node.set_backoff(restart=4)
    app = targets.container("app", "root", "--exit-after", "6", "--code", "1")
    node.apply(targets.pod("flaky", app), place)
    node.wait(place, "flaky", lambda pod: waiting_reason(pod, "app") == "CrashLoopBackOff")

    async def script(ui: Ui) -> None:
        await ui.shows("[w] attach by itself", SLOW)
        await ui.press("w")
        await ui.until(lambda: ui.screen.session.state is State.LIVE, SLOW)
        await ui.shows("Top by CPU")

    look(node, place, "flaky", script)


def test_a_target_that_restarts_is_told_and_entered_anew(node: Node, place: str) -> None:
    node.set_backoff(restart=0.5)
    node.run(targets.pod("restarts", targets.container("app", "root")), place)

    async def script(ui: Ui) -> None:
        await ui.until(lambda: ui.screen.session.state is State.LIVE, SLOW)
        pane = await ui.tab("Processes")
        await ui.until(lambda: pane.table.rows)
        os.kill(node.container_pids(place, "restarts", "app")[0], signal.SIGKILL)
        await ui.until(lambda: ui.screen.session.state is State.ENDED, SLOW)
        assert pane.table.rows, "what was read stays"
        await ui.shows("attach to the")
        node.wait_running(place, "restarts")
        await ui.press("a")
        await ui.until(lambda: ui.screen.session.state is State.LIVE, SLOW)
        await ui.tab("Overview")
        findings = ui.screen.pane.query_one(Findings)
        await ui.until(lambda: any("app restarted" in one.text for one in findings.found))
        await ui.until(lambda: not any("does not run" in one.text for one in findings.found), SLOW)

    look(node, place, "restarts", script)


def test_who_may_not_read_logs_is_told_so_in_place(node: Node, place: str) -> None:
    node.run(targets.pod("quiet", targets.container("app", "root")), place)
    node.forbid("get", "pods/log")

    async def script(ui: Ui) -> None:
        await logs(ui)
        await ui.shows("cannot get resource", SLOW)

    look(node, place, "quiet", script, node.engineer)


def test_a_busy_pod_is_found_throttled(node: Node, place: str) -> None:
    node.run(targets.busy(), place)

    async def script(ui: Ui) -> None:
        await ui.until(lambda: ui.screen.session.state is State.LIVE, 90)
        await ui.shows("CPU is throttled: the quota of 0.1 cores", 90)

    look(node, place, "busy", script)
    node.end_work(place)
