"""A real terminal: what is written to it, byte for byte, and what is left of it afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.terminal import Terminal

EVIL = "\x1b]52;c;RVZJTA==\x07\x1b[31;5;7mEVIL\x1b[2J\r\u202e\u200b"
MARKS = [b"\x1b]52;c;RVZJ", b"\x1b[31;5;7m", "\u202e".encode(), "\u200b".encode()]
HOSTILE = """
import os, sys, time
os.chdir(sys.argv[1])
open(sys.argv[2], "w").write(sys.argv[2] * 3)
import ctypes; ctypes.CDLL(None).prctl(15, b"\\x1b[31;5;7mE", 0, 0, 0)
time.sleep(600)
"""


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    script = tmp_path / "s"
    script.write_text(HOSTILE)
    folder = tmp_path / "f"
    folder.mkdir()
    argv = [EVIL, str(script), str(folder), EVIL.replace("/", "") + "[x][bold]"]
    process = subprocess.Popen(
        argv, executable=sys.executable, env={**os.environ, "EVIL_" + EVIL.replace("=", ""): EVIL}
    )
    deadline = time.monotonic() + 10
    while not any(folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    """Those that a test opens end with it."""
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


def test_nothing_hostile_reaches_the_terminal_raw(
    hostile: subprocess.Popen[bytes], tmp_path: Path, terminals: list[Terminal]
) -> None:
    terminal = Terminal("attach", f"local:{hostile.pid}", columns=160, rows=45)
    terminals.append(terminal)
    terminal.shows("connected")
    terminal.type("2")
    terminal.shows("CPU%")
    terminal.type(f"/{hostile.pid}")
    terminal.shows("EVIL", f" {hostile.pid}\n")
    terminal.type("\r")
    terminal.until(lambda: f"\n {hostile.pid}\n" not in terminal.text(), "the filter line closed")
    terminal.type("\r")
    terminal.shows("capabilities")
    for section in ("TARGET", "VALUE", "SOFT", "ADDRESS", "REMOTE", "TID"):
        terminal.type("]")
        terminal.shows(section)
    terminal.type("3")
    terminal.shows("MODIFIED")
    terminal.type("o")
    terminal.shows("Go to a path")
    terminal.type(f"{tmp_path}/f\r")
    terminal.shows("EVIL", str(tmp_path))
    terminal.type("\r")
    terminal.shows("1 line")
    terminal.type("y")
    terminal.shows("copied")
    terminal.type("?")
    terminal.shows("Keys of this place")
    terminal.type("q")
    terminal.until(lambda: "Keys of this place" not in terminal.text(), "help closed")
    terminal.type("q")
    assert terminal.ended() == 0
    for mark in MARKS:
        assert mark not in terminal.seen, mark
    assert b"\\x1b]52;c;RVZJ" in terminal.seen


def test_the_terminal_is_as_it_was_after_leaving(
    hostile: subprocess.Popen[bytes], terminals: list[Terminal]
) -> None:
    terminal = Terminal("attach", f"local:{hostile.pid}")
    terminals.append(terminal)
    terminal.shows("connected")
    terminal.type("q")
    assert terminal.ended() == 0
    assert termios.tcgetattr(terminal.slave) == terminal.before
    assert b"\x1b[?1049l" in terminal.seen and b"\x1b[?25h" in terminal.seen


def test_an_editor_that_cannot_be_started_gives_the_terminal_back(
    hostile: subprocess.Popen[bytes], tmp_path: Path, terminals: list[Terminal]
) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/notes.txt").write_text("a line\n")
    terminal = Terminal("attach", f"local:{hostile.pid}", VISUAL="/nonexistent/editor")
    terminals.append(terminal)
    terminal.shows("connected")
    terminal.type("3")
    terminal.shows("MODIFIED")
    terminal.type("o")
    terminal.shows("Go to a path")
    terminal.type(f"{tmp_path}/plain\r")
    terminal.shows("notes.txt")
    terminal.type("e")
    terminal.shows("cannot be started", "notes.txt")
    terminal.type("2")
    terminal.shows("CPU%", "COMMAND")
    terminal.type("q")
    assert terminal.ended() == 0
    assert (tmp_path / "plain/notes.txt").read_text() == "a line\n"


def test_resized_to_nothing_suspended_and_resumed(
    hostile: subprocess.Popen[bytes], terminals: list[Terminal]
) -> None:
    terminal = Terminal("attach", f"local:{hostile.pid}")
    terminals.append(terminal)
    terminal.shows("connected")
    terminal.type("2")
    terminal.shows("CPU%")
    for columns, rows in ((20, 10), (5, 3), (200, 50), (80, 24)):
        terminal.resize(columns, rows)
        os.kill(terminal.process.pid, signal.SIGWINCH)
        terminal.read(0.3)
        terminal.type("jk")
    terminal.shows("CPU%", "COMMAND")
    terminal.type("\x1a")
    state = Path(f"/proc/{terminal.process.pid}/stat")
    terminal.until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "the stop")
    terminal.until(lambda: b"\x1b[?1049l" in terminal.seen, "the shell's own screen")
    terminal.screen.reset()
    os.kill(terminal.process.pid, signal.SIGCONT)
    terminal.shows("CPU%", "COMMAND")
    terminal.type("q")
    assert terminal.ended() == 0
    assert b"Traceback" not in terminal.seen


def test_a_target_that_is_not_there_is_told_on_the_screen(terminals: list[Terminal]) -> None:
    terminal = Terminal("attach", "local:4194303")
    terminals.append(terminal)
    terminal.shows("there is no process 4194303")
    terminal.type("q")
    assert terminal.ended() == 0


def test_what_cannot_be_a_target_never_opens_a_screen(terminals: list[Terminal]) -> None:
    terminal = Terminal("attach", "local:nonsense")
    terminals.append(terminal)
    assert terminal.ended() == 2
    assert b"\x1b[?1049h" not in terminal.seen and b"is not a process id" in terminal.seen


def test_a_file_is_edited_with_the_users_editor(tmp_path: Path, terminals: list[Terminal]) -> None:
    """The editor has the terminal to itself, and the UI has it back afterwards."""
    editor = tmp_path / "editor.sh"
    editor.write_text('#!/bin/sh\nprintf "your turn: "; read line; echo "$line" >>"$1"\n')
    editor.chmod(0o755)
    (tmp_path / "conf.yaml").write_text("a: 1\n")
    terminal = Terminal("attach", f"local:{os.getpid()}", EDITOR=str(editor), VISUAL="")
    terminals.append(terminal)
    terminal.shows("connected")
    terminal.type("3")
    terminal.shows("MODIFIED")
    terminal.type("o")
    terminal.shows("Go to a path")
    terminal.type(f"{tmp_path}/conf.yaml\r")
    terminal.shows("conf.yaml", "> -rw")
    terminal.type("e")
    terminal.shows("your turn:")
    terminal.type("b: 2\n")
    terminal.shows("changed /", "conf.yaml")
    assert (tmp_path / "conf.yaml").read_text() == "a: 1\nb: 2\n"
    terminal.type("q")
    assert terminal.ended() == 0
    assert b"edited" in terminal.seen
