"""The tour in a real terminal, by keyboard alone: `kdebug demo` in tmux, read back from its screen."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdebug.tui.theme import DARK

PATIENCE = 60.0
CURSOR = ";".join(str(int(DARK.primary[at : at + 2], 16)) for at in (1, 3, 5))
"""The colour of the line that the keys work on, as SGR has it."""
KDEBUG = str(Path(sys.executable).with_name("kdebug"))


class Terminal:
    """One tmux server of our own with one window."""

    def __init__(self, folder: Path, size: tuple[int, int]) -> None:
        self._socket = str(folder / "tmux")
        self._size = size

    def tmux(self, *words: str, check: bool = True) -> str:
        command = ["tmux", "-S", self._socket, "-f", "/dev/null", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=check)
        return done.stdout

    def start(self, *command: str, **variables: str) -> None:
        """The shell stays when the command has ended, and shows its exit code."""
        environment = {
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "KDEBUG_TRACEBACK": "1",
            "XDG_CONFIG_HOME": "/nonexistent",
        }
        settings = [f"{name}={value}" for name, value in {**environment, **variables}.items()]
        # The size is the window's, not that of the terminal in which the tests run.
        unset = [word for name in ("NO_COLOR", "COLUMNS", "LINES") for word in ("-u", name)]
        line = " ".join(["env", *unset, *settings, *command])
        width, height = map(str, self._size)
        self.tmux(
            "new-session", "-d", "-x", width, "-y", height, f"{line}; echo ended with $?; exec sleep 600"
        )

    def keys(self, *names: str) -> None:
        self.tmux("send-keys", *names)

    def type(self, text: str) -> None:
        self.tmux("send-keys", "-l", text)

    def screen(self, *flags: str) -> str:
        return self.tmux("capture-pane", "-p", *flags)

    def shows(self, *wanted: str, flags: tuple[str, ...] = ()) -> str:
        """The screen, once it matches every pattern; with -e among `flags` they see the styles too."""
        deadline = time.monotonic() + PATIENCE
        while True:
            text = self.screen(*flags)
            missing = [pattern for pattern in wanted if not re.search(pattern, text, re.MULTILINE)]
            if not missing:
                return text
            assert time.monotonic() < deadline, f"{missing} did not come; the screen shows:\n{text}"
            time.sleep(0.1)

    def hides(self, pattern: str) -> None:
        """Returns once nothing on the screen matches."""
        deadline = time.monotonic() + PATIENCE
        while re.search(pattern, text := self.screen()):
            assert time.monotonic() < deadline, f"{pattern} stays; the screen shows:\n{text}"
            time.sleep(0.1)

    def stop(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self.tmux("kill-server")


@pytest.fixture
def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(tmp_path, getattr(request, "param", (80, 24)))
    yield opened
    opened.stop()


@pytest.mark.parametrize("terminal", [(80, 24), (200, 50)], indirect=True, ids=["80x24", "200x50"])
def test_the_tour_by_keyboard(terminal: Terminal) -> None:
    terminal.start(KDEBUG, "demo")
    terminal.shows(r"● connected", r"tour 1 of 5", r"1 Overview +2 Processes")
    terminal.keys("2")
    terminal.shows(r"PID USER", r"/app/worker-leak")
    terminal.keys("m")
    terminal.shows(r"RSS▼[^\n]*\n>? +\d+ .*/app/worker-leak")  # it is the largest now
    terminal.keys("g", "Enter")
    terminal.shows(r"tour 2 of 5 +✓ worker-leak", r"command +/app/worker-leak")
    terminal.keys("j")
    terminal.shows(r"^> +\d+ .*/app/server")
    terminal.keys("]")
    terminal.shows(r"FD▲ +KIND")
    terminal.keys("Enter")
    terminal.shows(rf"48;2;{CURSOR}m> [^\x1b\n]*0 char", flags=("-e",))  # the keys work there now
    terminal.keys("G")
    terminal.shows(r"tour 3 of 5", r"/tmp/upload-7f3a.tmp \(deleted\)")
    terminal.keys("]")
    text = terminal.shows(r"tour 4 of 5", r"API_TOKEN +•+")
    assert "practice-not-a-secret" not in text
    terminal.keys("4")
    terminal.shows(r"^> tcp +CLOSE-WAIT!")
    terminal.keys("Enter")
    terminal.shows(r"tour 5 of 5", r"the peer has closed", r"owner +\d+ /app/client")
    terminal.keys("3")
    terminal.shows(r"^ /  \d+ entries")
    terminal.keys("o")
    terminal.shows(r"Go to a path")
    terminal.type("/etc/app/config.yaml")
    terminal.shows(r"/etc/app/config.yaml +[^,]")
    terminal.keys("Enter")
    terminal.shows(r"^> l.* config\.yaml@")  # its line in the list, not the text of the tour
    terminal.keys("Enter")
    terminal.shows(r"tour, done", r"max_bytes: 0")
    terminal.keys("?")
    terminal.shows(r"Keys of this place")
    terminal.keys("Escape")
    terminal.hides(r"Keys of this place")  # before that an escape and a letter would be one key
    terminal.keys("q")
    terminal.shows(r"^ended with 0")
    assert "Traceback" not in terminal.screen("-S", "-")


def test_without_colours_none_is_sent_and_the_selection_is_reversed(terminal: Terminal) -> None:
    terminal.start(KDEBUG, "attach", "demo:", NO_COLOR="1")
    terminal.shows(r"● connected")
    terminal.keys("4")
    terminal.shows(r"^> tcp +CLOSE-WAIT!")
    styled = terminal.screen("-e")
    codes = {code for found in re.findall(r"\x1b\[([\d;:]*)m", styled) for code in re.split("[;:]", found)}
    assert "7" in codes and not codes & {"38", "48", *map(str, range(30, 38)), *map(str, range(40, 48))}
    selected = next(line for line in styled.splitlines() if "CLOSE-WAIT!" in line and "> " in line)
    assert re.match(r"\x1b\[(?:\d+;)*7(?:;\d+)*m", selected)
    terminal.keys("q")
    terminal.shows(r"^ended with 0")


def test_the_theme_of_the_environment_is_used_and_a_wrong_one_is_told(terminal: Terminal) -> None:
    terminal.start(KDEBUG, "attach", "demo:", KDEBUG_THEME="pink")
    text = terminal.shows(r"^ended with 2")
    assert "theme is 'pink'" in text and "Traceback" not in text


def test_in_a_pipe_the_demo_ends_by_itself(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(
        [KDEBUG, "demo"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0 and "worker-leak" in done.stdout and "\x1b" not in done.stdout
    assert DARK.name not in done.stdout
