"""`demo:`: a practice workload without a shell, to learn on and to test against.

It runs in user, pid, mount, network, uts and ipc namespaces of its own, and its root holds neither a
shell nor an interpreter: everything it needs was loaded before that root was entered. It writes nothing
on the machine and ends with the process that started it, however that one ends.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from dataclasses import dataclass
from types import TracebackType

from kdebug.demo.environment import ENVIRONMENT
from kdebug.errors import Failed

USER_NAMESPACE, AS_ROOT, PLAIN = "user namespace", "namespaces as root", "plain process"
END_SECONDS = 5.0
_NOTES = {
    USER_NAMESPACE: "the practice target runs in namespaces of its own, without a shell",
    AS_ROOT: "the practice target runs in namespaces made as root: user namespaces are not allowed here",
    PLAIN: "the practice target runs as a plain process: namespaces are not allowed here, "
    "so its files are this machine's",
}


@dataclass
class DemoTarget:
    """A running practice target."""

    pid: int
    """Its first process, in the caller's numbers."""
    isolation: str
    note: str
    """One sentence about how it runs."""
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """End it; returns when nothing of it is left. Idempotent."""
        _end(self.process)

    def __enter__(self) -> DemoTarget:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_demo(*, timeout: float = 10.0, isolation: str | None = None) -> DemoTarget:
    """Start it in the best isolation that this machine allows; returns when every fault is planted.

    Raises `Failed` where there is no Linux, or when nothing worked, with each refusal.
    """
    if sys.platform != "linux":
        raise Failed(
            f"the practice target does not run on {sys.platform}",
            why="it is made of Linux namespaces",
            next_step="open a recorded bundle instead",
        )
    refusals = []
    for mode in (isolation,) if isolation else _modes():
        try:
            return _start(mode, timeout)
        except Failed as refusal:
            refusals.append(f"{mode}: {refusal.why}")
    raise Failed("the practice target could not be started", why="; ".join(refusals))


def _modes() -> tuple[str, ...]:
    return (USER_NAMESPACE, AS_ROOT, PLAIN) if os.geteuid() == 0 else (USER_NAMESPACE, PLAIN)


def _start(mode: str, timeout: float) -> DemoTarget:
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "__main__.py")
    process = subprocess.Popen(
        [sys.executable, "-I", script, mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    line = _first_line(process, timeout)
    try:
        return DemoTarget(int(json.loads(line)["pid"]), mode, _NOTES[mode], process)
    except (ValueError, KeyError):
        why = _last_words(process) or f"it was not ready within {timeout:g} s"
        _end(process)
        raise Failed("the practice target could not be started", why=why) from None


def _first_line(process: subprocess.Popen[bytes], timeout: float) -> bytes:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], timeout)
    return process.stdout.readline() if ready else b""


def _last_words(process: subprocess.Popen[bytes]) -> str:
    assert process.stderr is not None
    ready, _, _ = select.select([process.stderr], [], [], 0.5)
    text = os.read(process.stderr.fileno(), 65536) if ready else b""
    return (text.decode("utf-8", "replace").strip().splitlines() or [""])[-1]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Closing stdin is the signal to end; the kill is for a workload that was stopped or hangs."""
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
