"""kdebug as people run it: a process of its own, with a home of its own, against the node."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = Path(sys.executable).with_name("kdebug")
SECONDS = 60.0
PROMPT = 5.0
"""A failure is told within this time."""
USUAL_START = 0.3
"""Of `kdebug version` on a machine that nobody else uses."""


@dataclass(frozen=True)
class Done:
    """One run to its end."""

    arguments: tuple[str, ...]
    code: int
    stdout: bytes
    stderr: str
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)

    @property
    def lines(self) -> list[str]:
        """Of stderr."""
        return self.stderr.splitlines()

    @property
    def error(self) -> str:
        """The one line that says what failed, and nothing else."""
        assert len(self.lines) == 1 and self.stdout == b"", self.stderr
        return self.last_line

    @property
    def last_line(self) -> str:
        """The one line that says what failed; notes of what was created may stand before it."""
        assert self.code != 0 and "Traceback" not in self.stderr, self.stderr
        assert all(line.startswith("kdebug: ") for line in self.lines), self.stderr
        return self.lines[-1].removeprefix("kdebug: ")


class Kdebug:
    """`kdebug("ps", "web", "-n", namespace)`: asserts the exit code, returns what came of it."""

    def __init__(self, home: Path, kubeconfig: Path, *always: str, **environment: str) -> None:
        self.home, self.kubeconfig, self.always = home, kubeconfig, always
        self.environment = environment

    def with_options(self, *always: str, kubeconfig: Path | None = None, **environment: str) -> Kdebug:
        """The same with options that every call gets, another user or more environment."""
        return Kdebug(
            self.home,
            kubeconfig or self.kubeconfig,
            *self.always,
            *always,
            **self.environment | environment,
        )

    def __call__(self, *arguments: str, code: int = 0, seconds: float = SECONDS) -> Done:
        started = time.monotonic()
        process = self.start(*arguments)
        try:
            stdout, stderr = process.communicate(timeout=seconds)
        finally:
            process.kill()
            process.wait()
        took = time.monotonic() - started
        done = Done(arguments, process.returncode, stdout, stderr.decode("utf-8", "replace"), took)
        assert done.code == code, f"{arguments} ended with {done.code} after {took:.1f} s:\n{done.stderr}"
        return done

    def prompt(self, *arguments: str, code: int, seconds: float = PROMPT) -> Done:
        """A run that must fail within seconds; where others use the machine, by as much more as they do."""
        done = self(*arguments, code=code)
        if done.seconds > seconds:
            started = time.monotonic()
            Kdebug(self.home, self.kubeconfig)("version")  # it takes none of the options of the others
            slowness = max(1.0, (time.monotonic() - started) / USUAL_START)
            assert done.seconds < seconds * slowness, f"{done.seconds:.1f} s: {done.stderr}"
        return done

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """For those who want to be there while it runs."""
        clusterless = "KUBECONFIG" in self.environment or arguments[0] in ("rbac", "version")
        kubeconfig = [] if clusterless else ["--kubeconfig", str(self.kubeconfig)]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            **self.environment,
        }
        return subprocess.Popen(
            [PROGRAM, *arguments, *self.always, *kubeconfig],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
