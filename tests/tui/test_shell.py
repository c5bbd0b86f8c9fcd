"""The shell: where it is offered, how its terminal is kept, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import signal
import struct
import termios
import time
from collections.abc import AsyncIterator, Callable, Iterator
from fcntl import ioctl
from typing import Any, Optional

import pytest

from kdebug.errors import AccessDenied, ConnectionLost
from kdebug.expression import TargetExpression
from kdebug.protocol import requests as ask
from kdebug.protocol.record import replace
from kdebug.protocol.system import AgentInfo
from kdebug.target import Target
from kdebug.target.options import OpenOptions
from kdebug.tui.screen import SessionScreen
from kdebug.tui.shell import OUT_KEY, Conversation, raw

from .conftest import Ui, play
from .fakes import INFO, FakeBackend

NAME = "Shell in the toolbox"


class FakeShell:
    """Says what it is given to say, and then ends, or waits."""

    def __init__(self, *said: bytes, code: Optional[int] = 0, words: str = "", stays: bool = False) -> None:
        self.said, self.exit_code, self.words = list(said), code, words
        self.stays = stays
        self.typed = b""
        self.sizes: list[tuple[int, int]] = []
        self.closed = False
        self.deaf = False

    async def read(self) -> bytes:
        if not self.said and self.stays:
            await asyncio.Event().wait()
        return self.said.pop(0) if self.said else b""

    async def write(self, data: bytes) -> None:
        if self.deaf:
            raise ConnectionLost("the connection to the agent is lost", why="reset by peer")
        self.typed += data

    async def resize(self, columns: int, rows: int) -> None:
        self.sizes.append((columns, rows))

    async def close(self) -> None:
        self.closed = True


class FakeShells:
    place = "the toolbox kdebug-abcde"

    def __init__(self, shell: FakeShell) -> None:
        self.shell = shell
        self.opened: list[tuple[str, int, int]] = []
        self.refusal: Optional[AccessDenied] = None

    async def open(self, program: str, columns: int, rows: int) -> FakeShell:
        if self.refusal is not None:
            raise self.refusal
        self.opened.append((program, columns, rows))
        return self.shell


class Agent(FakeBackend):
    def __init__(self, program: str) -> None:
        super().__init__()
        self.program = program

    def _agent(self, request: ask.GetAgentInfo) -> AgentInfo:
        return replace(super()._agent(request), shell=self.program)


def look(
    script: Callable[[Ui], Any],
    program: str = "/bin/sh",
    shells: Optional[FakeShells] = None,
    read_only: bool = False,
) -> Any:
    backend = Agent(program)

    @contextlib.asynccontextmanager
    async def opener(expression: TargetExpression, options: OpenOptions) -> AsyncIterator[Target]:
        target = Target(backend, replace(INFO, read_only=read_only), str(expression))
        target.shells = shells
        yield target

    return play("local:1", script, opener=opener)


async def asked(ui: Ui) -> None:
    """The agent was asked which shell there is, and the keys follow the answer."""
    await ui.attached()
    await ui.until(lambda: not any(worker.group == "attach" for worker in ui.app.workers))


def offered(screen: SessionScreen) -> bool:
    return any(active.binding.description == NAME for active in screen.active_bindings.values())


@pytest.mark.parametrize(
    ("program", "has_place", "read_only", "why"),
    [
        ("", True, False, "the toolbox' image has no shell"),
        ("/tmp/evil", True, False, "the toolbox' image has no shell"),
        ("/bin/sh", True, True, "a shell is not read-only"),
        ("/bin/sh", False, False, "only the toolbox of a pod may have one"),
    ],
)
def test_it_is_not_offered_where_it_cannot_be_and_its_key_says_why(
    program: str, has_place: bool, read_only: bool, why: str
) -> None:
    shells = FakeShells(FakeShell())

    async def script(ui: Ui) -> None:
        await asked(ui)
        assert not offered(ui.screen)
        await ui.press("exclamation_mark")
        await ui.shows(f"no shell: {why}")
        assert not shells.opened and not ui.screen.session.actions

    look(script, program, shells if has_place else None, read_only)


def test_it_is_offered_where_the_image_has_one() -> None:
    async def script(ui: Ui) -> None:
        await asked(ui)
        await ui.until(lambda: offered(ui.screen))
        await ui.press("question_mark")
        await ui.shows(NAME)

    look(script, shells=FakeShells(FakeShell()))


def test_without_a_terminal_to_give_away_it_says_so_and_is_closed() -> None:
    shells = FakeShells(FakeShell())

    async def script(ui: Ui) -> None:
        await asked(ui)
        await ui.press("exclamation_mark")
        await ui.shows("the terminal cannot be given away")
        assert shells.opened == [("/bin/sh", 100, 30)] and shells.shell.closed

    look(script, shells=shells)


def test_a_refusal_is_told_in_place() -> None:
    shells = FakeShells(FakeShell())
    shells.refusal = AccessDenied("no shell can be opened", why="pods/exec is forbidden")

    async def script(ui: Ui) -> None:
        await asked(ui)
        await ui.press("exclamation_mark")
        await ui.shows("pods/exec is forbidden")
        assert not ui.screen.session.actions

    look(script, shells=shells)


class Tty:
    """A terminal whose other end is the test."""

    def __init__(self) -> None:
        self.user, self.here = pty.openpty()
        os.set_blocking(self.user, False)
        self.resize(80, 24)
        self.before = termios.tcgetattr(self.here)
        self.shown = b""

    def resize(self, columns: int, rows: int) -> None:
        ioctl(self.here, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def look(self) -> bytes:
        with contextlib.suppress(BlockingIOError):
            self.shown += os.read(self.user, 1 << 16)
        return self.shown

    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.here)[3] & termios.ICANON


@pytest.fixture
def terminal() -> Iterator[Tty]:
    made = Tty()
    yield made
    os.close(made.user)
    os.close(made.here)


def converse(
    terminal: Tty, shell: FakeShell, meanwhile: Callable[[], Any] = lambda: asyncio.sleep(0)
) -> str:
    async def whole() -> str:
        holding = asyncio.create_task(Conversation(shell, terminal.here, terminal.here).hold("hello"))
        await meanwhile()
        return await asyncio.wait_for(holding, 30)

    return asyncio.run(whole())


async def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("shell", "how"),
    [
        (FakeShell(b"$ ", code=0), "the shell has ended"),
        (FakeShell(b"$ ", code=3), "the shell has ended with 3"),
        (FakeShell(code=None), "the shell is cut off: the connection is lost; what ran"),
        (
            FakeShell(code=None, words="OCI runtime exec failed"),
            "could not be started: OCI runtime exec failed",
        ),
    ],
)
def test_how_it_ended_is_told(terminal: Tty, shell: FakeShell, how: str) -> None:
    assert how in converse(terminal, shell)
    assert termios.tcgetattr(terminal.here) == terminal.before


def test_keys_and_bytes_pass_as_they_are_and_the_size_follows(terminal: Tty) -> None:
    shell = FakeShell(b"\x1b[31m\xff\n", stays=True)

    async def user() -> None:
        await until(lambda: terminal.is_raw() and b"\x1b[31m\xff\n" in terminal.look())
        os.write(terminal.user, b"\x03\x1a\r\x1b[A")
        await until(lambda: shell.typed == b"\x03\x1a\r\x1b[A")
        terminal.resize(132, 50)
        os.kill(os.getpid(), signal.SIGWINCH)
        await until(lambda: shell.sizes == [(80, 24), (132, 50)])
        os.write(terminal.user, bytes([OUT_KEY]) * 2 + b"x" + bytes([OUT_KEY]))
        await until(lambda: shell.typed.endswith(b"x" + bytes([OUT_KEY])))
        os.write(terminal.user, bytes([OUT_KEY]) * 2)

    assert "may still run" in converse(terminal, shell, user)
    assert termios.tcgetattr(terminal.here) == terminal.before
    assert signal.getsignal(signal.SIGWINCH) == signal.SIG_DFL


def test_a_stream_that_breaks_while_typing_is_told(terminal: Tty) -> None:
    shell = FakeShell(stays=True)
    shell.deaf = True

    async def user() -> None:
        await until(terminal.is_raw)
        os.write(terminal.user, b"ls\r")

    assert "cut off: reset by peer" in converse(terminal, shell, user)


def test_whatever_was_written_the_terminal_is_put_back(terminal: Tty) -> None:
    """Modes, letters and title are as they were; what the terminal was made to answer is dropped."""
    with pytest.raises(KeyError):
        with raw(terminal.here, terminal.here):
            os.write(terminal.user, b"\x1b[?1;2c")
            raise KeyError
    assert termios.tcgetattr(terminal.here) == terminal.before
    os.set_blocking(terminal.here, False)
    with pytest.raises(BlockingIOError):
        os.read(terminal.here, 100)
    shown = terminal.look()
    assert shown.startswith(b"\x1b[22;0t") and shown.endswith(b"\x1b[999;1H\r\n\x1b[23;0t")
    for undone in (b"\x1b[?1003l", b"\x1b[?2004l", b"\x1b[r", b"\x1b(B", b"\x1b[?25h", b"\x1b[0m"):
        assert undone in shown
