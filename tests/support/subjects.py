"""Real processes whose facts differ wherever two could be confused, each with its own account of itself.

A subject tells what the system calls tell *it* (getresuid, getrusage, capget, fcntl ...), so nothing that a
reader of /proc can get wrong is in its account.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SELF_ACCOUNT = Path(__file__).with_name("subject.py")
KTHREADD = 2


class Subject:
    """One process, what it says of itself, and what its maker knows."""

    def __init__(self, pid: int, began: tuple[float, float], account: dict[str, Any]) -> None:
        self.pid = pid
        self.began = began
        """CLOCK_BOOTTIME just before and just after it was made."""
        self.account = account
        self.argv: tuple[str, ...] = tuple(account.get("argv", ()))
        self.exe: str | None = account.get("exe")
        self.environ: dict[str, str] = {}
        self.root = "/"
        self.terminal = 0
        """Device number of its controlling terminal."""
        self.kernel = False
        self.ended = False


def boot_clock() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Workshop:
    """Makes subjects; all of them end with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._close = contextlib.ExitStack()

    def __enter__(self) -> Workshop:
        return self

    def __exit__(self, *_: object) -> None:
        self._close.close()

    def talking(self, role: str, *, prefix: tuple[str, ...] = (), extra: tuple[str, ...] = ()) -> Subject:
        """A process that plays `role` (subject.py) and has said so."""
        environ = {"PATH": os.environ["PATH"], "ROLE": role, "EMPTY": "", "TWO": "a=b", "ODD": "\udcff\n"}
        command = [*prefix, sys.executable, "-S", str(SELF_ACCOUNT), role, str(self.folder), *extra]
        before = boot_clock()
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, cwd="/usr"
        )
        self._close.callback(process.communicate)
        self._close.callback(process.kill)
        after = boot_clock()
        assert process.stdout is not None
        account = json.loads(process.stdout.readline())
        if account["outer_pid"]:
            after = boot_clock()  # it is a child of the one that was started here
        subject = Subject(account["outer_pid"] or process.pid, (before, after), account)
        subject.environ = environ
        return subject

    def on_a_terminal(self) -> Subject:
        """A child in the background of a terminal: neither leader of its session nor in front of it."""
        before = boot_clock()
        leader, terminal = pty.fork()
        if leader == 0:
            os.execv(
                sys.executable,
                [sys.executable, "-S", str(SELF_ACCOUNT), "terminal", str(self.folder)],
            )
        self._close.callback(os.waitpid, leader, 0)
        self._close.callback(os.close, terminal)
        self._close.callback(os.kill, leader, signal.SIGKILL)
        with os.fdopen(os.dup(terminal), "rb", buffering=0) as lines:
            text = b""
            while not text.endswith(b"}\r\n"):
                text += lines.read(4096)
        account = json.loads(text)
        self._close.callback(os.kill, account["outer_pid"], signal.SIGKILL)
        subject = Subject(account["outer_pid"], (before, boot_clock()), account)
        subject.terminal = account["terminal"]
        return subject

    def deleted(self) -> Subject:
        program = self.folder / "two words) R (x"
        shutil.copy(shutil.which("cat") or "/bin/cat", program)
        before = boot_clock()
        process = subprocess.Popen([str(program), "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._close.callback(process.communicate)
        subject = Subject(process.pid, (before, boot_clock()), {"name": program.name[:15]})
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"x\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"x\n"
        program.unlink()
        subject.argv, subject.exe = (str(program), "-"), f"{program} (deleted)"
        return subject

    def zombie(self) -> Subject:
        before = boot_clock()
        pid = os.fork()
        if pid == 0:
            ctypes.CDLL(None).prctl(15, ctypes.c_char_p(b"gone"), 0, 0, 0)
            os._exit(0)
        after = boot_clock()
        self._close.callback(os.waitpid, pid, 0)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        subject = Subject(pid, (before, after), {"name": "gone"})
        subject.ended = True
        return subject

    @staticmethod
    def kernel_thread() -> Subject | None:
        """None where a container hides them."""
        try:
            if Path(f"/proc/{KTHREADD}/comm").read_text() != "kthreadd\n":
                return None
        except OSError:
            return None
        subject = Subject(KTHREADD, (0.0, boot_clock()), {"name": "kthreadd"})
        subject.kernel = True
        return subject


def make_subjects(workshop: Workshop) -> Iterator[tuple[str, Subject]]:
    nested = ("unshare", "--pid", "--fork", "--mount", "--net", "--uts", "--ipc", "--kill-child")
    yield "worker", workshop.talking("worker")
    yield "shy", workshop.talking("shy", extra=("x" * 5000,))
    inside = workshop.talking("nested", prefix=nested)
    inside.root = str(workshop.folder / "root")
    yield "nested", inside
    yield "terminal", workshop.on_a_terminal()
    yield "deleted", workshop.deleted()
    yield "zombie", workshop.zombie()
    thread = workshop.kernel_thread()
    if thread is not None:
        yield "kernel", thread
