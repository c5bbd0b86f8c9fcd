"""`!`: a shell in the toolbox, which has the user's terminal to itself until it ends.

What it writes reaches the terminal as it is, as with ssh: it is the one place past the sanitiser. So the
terminal is put back afterwards, whatever was written to it: modes, colours, title, keys that wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import termios
import time
import tty
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdebug.errors import ConnectionLost, KdebugError
from kdebug.protocol.system import SHELLS
from kdebug.sanitise import one_line
from kdebug.target import Target
from kdebug.target.shell import Shell
from kdebug.tui.lend import terminal_lent
from kdebug.tui.session import Session
from kdebug.units import duration

if TYPE_CHECKING:
    from kdebug.tui.screen import SessionScreen

OUT_KEY, OUT_PRESSES = 0x1D, 3
"""ctrl-] so often, and nothing between: back, even if what runs in the shell hears nothing any more."""
KEEP_TITLE, TITLE_BACK = b"\x1b[22;0t", b"\x1b[23;0t"
RESET = (
    b"\x18\x1b\\"  # ends a sequence that was left unfinished
    b"\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1005l\x1b[?1006l\x1b[?1015l"  # mouse
    b"\x1b[?1004l\x1b[?2004l\x1b[?2026l\x1b[<u\x1b[>4m"  # focus, paste, synchronised output, keyboards
    b"\x1b[?1047l\x1b[!p\x1b[?5l\x1b[?7h\x1b[?25h\x1b[r"  # screen, soft reset, wrap, cursor, margins
    b"\x1b(B\x1b)B\x0f\x1b[0m\x1b]104\x1b\\\x1b]110\x1b\\\x1b]111\x1b\\\x1b]112\x1b\\"  # letters, colours
    b"\x1b[999;1H\r\n"  # below whatever is there: the note at leaving is written from here
)
CHUNK = 1 << 16
CUT = "the shell is cut off: {why}; what ran in it may still run in the toolbox"


def why_not(session: Session) -> str:
    """Why no shell is offered; "" where one is."""
    target = session.target
    if target is None:
        return "not attached"
    if target.shells is None:
        return "only the toolbox of a pod may have one"
    if session.read_only:
        return "a shell is not read-only, and this session is"
    return "" if session.shell else "the toolbox' image has no shell"


async def look_for_shell(session: Session) -> None:
    """Ask the agent which shell its image has. What is not on our list is not run."""
    session.shell = ""
    if session.target is None or session.target.shells is None or session.read_only:
        return
    with contextlib.suppress(KdebugError):  # the session knows of a loss; without an answer there is none
        agent = await session.ask("what the toolbox has", lambda target: target.agent())
        session.shell = agent.shell if agent.shell in SHELLS else ""


async def visit(screen: SessionScreen) -> None:
    """Open it, give it the terminal, come back; how it went is told and stands in the account."""
    session, target = screen.session, screen.session.target
    if target is None or target.shells is None or why_not(session):
        return
    shells, program, size = target.shells, session.shell, screen.app.size
    try:
        shell = await session.ask("a shell", lambda _: shells.open(program, size.width, size.height))
    except KdebugError as error:
        screen.tell(f"✗ {error}")
        return
    began = time.monotonic()
    try:
        with terminal_lent(screen.app):
            how = await Conversation(shell).hold(greeting(session, target, shells.place))
    except KdebugError as error:
        how = str(error)
    finally:
        await shell.close()
        lasted = duration(time.monotonic() - began)
        ended = shell.exit_code is not None or bool(shell.words)
        left = "" if ended else "; it may still run there, and keeps the toolbox alive"
        session.did(
            f"opened a shell ({program}) in {shells.place} for {lasted}; what was typed is not recorded"
            + left
        )
    screen.tell(one_line(how))


def greeting(session: Session, target: Target, place: str) -> str:
    return one_line(
        f"kdebug: a shell in {place}, beside {session.expression}, whose files are below "
        f"/proc/{target.info.pid}/root. `exit` comes back; so does ctrl-] three times, whatever it does."
    )


class Conversation:
    """A shell and the terminal that `keyboard` and `display` are; both ways until one of them ends."""

    def __init__(self, shell: Shell, keyboard: int = 0, display: int = 1) -> None:
        self._shell = shell
        self._keyboard, self._display = keyboard, display
        self._presses = 0

    async def hold(self, greeting: str) -> str:
        """How it ended, in a line. The terminal is as before then."""
        with raw(self._keyboard, self._display):
            await self._show(f"{greeting}\r\n".encode())
            ways = [
                asyncio.create_task(way, name=f"kdebug-shell-{name}")
                for name, way in (("out", self._shown()), ("in", self._typed()), ("size", self._resized()))
            ]
            try:
                done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                return self._ended(next(way for way in ways if way in done))
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)

    def _ended(self, way: asyncio.Task[str]) -> str:
        try:
            return way.result()
        except ConnectionLost as lost:
            return CUT.format(why=lost.why or lost.what)
        except OSError as error:
            return f"the terminal is gone: {error.strerror}"

    async def _shown(self) -> str:
        while data := await self._shell.read():
            await self._show(data)
        if self._shell.words:
            return f"the shell could not be started: {self._shell.words}"
        code = self._shell.exit_code
        if code is None:
            return CUT.format(why="the connection is lost")
        return "the shell has ended" + (f" with {code}" if code else "")

    async def _show(self, data: bytes | memoryview) -> None:
        """In a thread: a terminal that is stopped must not stop the heartbeats."""
        await asyncio.to_thread(write_all, self._display, data)

    async def _typed(self) -> str:
        while True:
            await readable(self._keyboard)
            data = os.read(self._keyboard, CHUNK)
            if not data:
                return "the terminal is gone"
            if self._asks_out(data):
                return "left the shell, which may still run in the toolbox"
            await self._shell.write(data)

    def _asks_out(self, data: bytes) -> bool:
        for byte in data:
            self._presses = self._presses + 1 if byte == OUT_KEY else 0
            if self._presses == OUT_PRESSES:
                return True
        return False

    async def _resized(self) -> str:
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGWINCH, changed.set)
        try:
            while True:
                size = os.get_terminal_size(self._display)
                await self._shell.resize(size.columns, size.lines)
                await changed.wait()
                changed.clear()
        finally:
            loop.remove_signal_handler(signal.SIGWINCH)


@contextlib.contextmanager
def raw(keyboard: int, display: int) -> Iterator[None]:
    """Every key goes through; afterwards everything is as it was, and no answer of the terminal waits."""
    before = termios.tcgetattr(keyboard)
    write_all(display, KEEP_TITLE)
    try:
        tty.setraw(keyboard, termios.TCSANOW)
        yield
    finally:
        write_all(display, RESET + TITLE_BACK)
        termios.tcflush(keyboard, termios.TCIFLUSH)
        termios.tcsetattr(keyboard, termios.TCSANOW, before)


async def readable(descriptor: int) -> None:
    """Wait until something can be read."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
