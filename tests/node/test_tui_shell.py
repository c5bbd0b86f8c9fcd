"""The shell on a real pod and a real terminal: there and back, resized, cut off, refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.terminal import Terminal

from .support import targets
from .support.node import Node

Open = Callable[..., Terminal]


@pytest.fixture(scope="module")
def place(started_node: Node) -> str:
    """A pod of a user without any right, in the strictest namespace."""
    namespace = started_node.namespace("restricted")
    started_node.run(targets.restricted("web"), namespace)
    return namespace


@pytest.fixture
def attach(node: Node, place: str, home: Path) -> Iterator[Open]:
    """A UI on the pod that offers the shell."""
    opened: list[Terminal] = []

    def start(*options: str, kubeconfig: Path = node.kubeconfig) -> Terminal:
        arguments = ("attach", "web", "-n", place, "--kubeconfig", str(kubeconfig), *options)
        terminal = Terminal(*arguments, columns=120, rows=40, HOME=str(home))
        opened.append(terminal)
        terminal.shows("connected", "Top by CPU")
        return terminal

    yield start
    for terminal in opened:
        terminal.close()


def enter(terminal: Terminal) -> None:
    """Once the agent has said that there is a shell; before that its key says that there is none."""

    def inside() -> bool:
        if "a shell in the toolbox" in terminal.text():
            return True
        if "no shell: the toolbox' image has no shell" in terminal.text() or not asked:
            asked.append(True)
            terminal.type("!")
        return False

    asked: list[bool] = []
    terminal.until(inside, "the shell")


def test_there_and_back(attach: Open) -> None:
    terminal = attach()
    enter(terminal)
    before = len(terminal.seen)
    terminal.type("echo $((6 * 7)) $(id -u) $(stty size); tty >/dev/null && echo is a tty\r")
    terminal.shows("42 65532 40 120", "is a tty")
    terminal.type("cat /proc/1/root/etc/app.conf\r")
    terminal.shows("greeting = hello")
    terminal.resize(100, 30)
    terminal.type("stty size\r")
    terminal.shows("30 100")
    terminal.type("echo $((50 + 5)); sleep 1000\r")
    terminal.shows("55")
    terminal.type("\x03")
    terminal.shows("^C")
    assert b"\x1b[38;2;" not in terminal.seen[before:], "the UI draws into the shell"
    terminal.type("printf '\\033[?1000h\\033]0;owned\\007\\033(0'; exit 3\r")
    terminal.shows("the shell has ended with 3", "Top by CPU")
    terminal.type("2")
    terminal.shows("CPU%", "COMMAND")
    terminal.type("q")
    assert terminal.ended() == 0
    said = " ".join(terminal.seen.decode(errors="replace").split())
    assert "Done in the target: opened a shell (/bin/sh) in the toolbox kdebug-" in said
    assert b"Traceback" not in terminal.seen


def test_cut_inside(node: Node, attach: Open) -> None:
    terminal = attach()
    enter(terminal)
    terminal.type("echo $((6 * 7))\r")
    terminal.shows("42")
    node.cut_streams()
    terminal.shows("the shell is cut off", "Top by CPU")
    terminal.shows("connected")
    enter(terminal)
    terminal.type("exit\r")
    terminal.shows("the shell has ended", "Top by CPU")


def test_read_only_offers_none(attach: Open) -> None:
    terminal = attach("--read-only")
    terminal.type("!")
    terminal.shows("no shell: a shell is not read-only")
    terminal.type("?")
    terminal.shows("Keys of this place")
    assert "Shell in the toolbox" not in terminal.text()


def test_a_right_that_was_taken_away_is_told_in_place(node: Node, attach: Open) -> None:
    terminal = attach(kubeconfig=node.engineer)
    node.forbid("create", "pods/exec")
    node.forbid("get", "pods/exec")

    def refused() -> bool:
        if "no shell can be opened in kdebug-" in terminal.text():
            return True
        if "has no shell" in terminal.text() or not asked:
            asked.append(True)
            terminal.type("!")
        return False

    asked: list[bool] = []
    terminal.until(refused, "the refusal")
