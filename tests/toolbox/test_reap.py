"""The reaping wrapper: the command's own code, and nothing left of what it started."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.toolbox_image import SCRIPT

REAP = [sys.executable, "-IS", str(SCRIPT.parent / "reap.py")]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -9 $$"], 137),
        (["/nonexistent/program"], 127),
        (["/etc/hostname"], 126),
        ([], 2),
    ],
)
def test_the_code_is_the_commands(command: list[str], code: int) -> None:
    assert subprocess.run([*REAP, *command], capture_output=True).returncode == code


def test_orphans_are_ended_and_reaped() -> None:
    """A daemon in a session of its own, twice forked, as a careless tool leaves it."""
    orphan = "setsid sh -c 'sleep 1000 & echo $!; exec sleep 1000' & sleep 0.1; echo done"
    done = subprocess.run([*REAP, "sh", "-c", orphan], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and "done" in done.stdout
    for pid in (word for word in done.stdout.split() if word.isdigit()):
        assert not Path(f"/proc/{pid}").exists()


def test_signals_reach_the_command() -> None:
    script = "trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    process = subprocess.Popen([*REAP, "sh", "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.read() == "got\n"
    assert process.wait(10) == 3


def test_the_command_dies_with_the_wrapper() -> None:
    process = subprocess.Popen(
        [*REAP, "sh", "-c", "echo $$; exec sleep 1000"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while _alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False
