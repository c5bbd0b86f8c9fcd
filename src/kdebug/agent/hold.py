"""Keep a toolbox container alive for its sessions, and no longer.

Runs as the container's main process. It ends by itself: when nobody was attached for the idle time,
when the time to live is over and nobody is attached, and at the maximum in any case. It loads nothing
but what CPython has loaded already, for it stays resident while nobody works.

A client counts as attached while a second process runs in this very container: its cgroup is ours.
/proc/PID/cgroup is readable by everyone (proc(5)), so no file, socket or signal is needed. Where the
kernel shows no cgroups (some sandboxes), nobody can be seen: then only the time to live counts.

Hold is PID 1 where the runtime did not share the target's PID namespace. Then signals without a handler
would not reach it and the pod would wait out its grace period; and orphans are its to reap.
"""

import os
import sys
import time

from kdebug.agent.harden import harden

LOOK_SECONDS = 5.0
"""How often attached clients are looked for; a scan of 500 processes costs about 3 ms."""
DEFAULTS = {"--ttl": 3600.0, "--max-ttl": 8 * 3600.0, "--idle": 900.0}


def parse(arguments: "list[str]") -> "dict[str, float]":
    """`--ttl S --max-ttl S --idle S`, in seconds. Raises ValueError with one line for a person."""
    options = dict(DEFAULTS)
    if len(arguments) % 2:
        raise ValueError(f"{arguments[-1]} needs a value in seconds")
    for name, value in zip(arguments[::2], arguments[1::2]):
        if name not in options:
            raise ValueError(f"unknown option {name}; there are: {', '.join(sorted(options))}")
        try:
            options[name] = float(value)
        except ValueError:
            raise ValueError(f"{name} takes seconds, not {value!r}") from None
        if not 0 < options[name] < 10**9:
            raise ValueError(f"{name} must be more than 0 seconds")
    return options


def read(path: str) -> bytes:
    """The file's first bytes, b"" when it cannot be read (the process has ended)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 4096)
    except OSError:
        return b""
    finally:
        os.close(fd)


def attached(own_pid: int, own_cgroup: bytes, proc: str = "/proc") -> bool:
    """Whether another process runs in the cgroup of this container.

    A zombie does not run: what an ended session left to a PID 1 that never reaps must not keep us here.
    """
    for name in os.listdir(proc):
        if name.isdigit() and int(name) != own_pid and read(f"{proc}/{name}/cgroup") == own_cgroup:
            state = read(f"{proc}/{name}/stat").rpartition(b")")[2][1:2]
            if state not in (b"", b"Z", b"X"):
                return True
    return False


def reason_to_end(options: "dict[str, float]", alive: float, since_attached: float, busy: bool) -> str:
    """Why the toolbox must end now, "" while it may stay. All times in seconds."""
    if alive >= options["--max-ttl"]:
        return f"the maximum time to live of {options['--max-ttl']:.0f} s is over"
    if busy:
        return ""
    if since_attached >= options["--idle"]:
        return f"nobody was attached for {options['--idle']:.0f} s"
    if alive >= options["--ttl"]:
        return f"the time to live of {options['--ttl']:.0f} s is over and nobody is attached"
    return ""


def wait(options: "dict[str, float]", proc: str = "/proc") -> str:
    """Stay until there is a reason to end; returns it."""
    own_pid = os.getpid()
    started = last_attached = time.monotonic()
    pause = min(LOOK_SECONDS, min(options.values()) / 4)
    while True:
        own_cgroup = read(f"{proc}/self/cgroup")
        busy = bool(own_cgroup) and attached(own_pid, own_cgroup, proc)
        now = time.monotonic()
        if busy or not own_cgroup:
            last_attached = now
        reason = reason_to_end(options, now - started, now - last_attached, busy)
        if reason:
            return reason
        time.sleep(pause)


def main(arguments: "list[str]", log) -> int:  # type: ignore[no-untyped-def]  # typing stays unloaded
    """Entry point of `hold`; the exit code."""
    try:
        options = parse(arguments)
    except ValueError as error:
        log(str(error))
        return 2
    for failure in harden():
        log(failure)
    forget_archive()
    try:
        answer_signals()
        log(f"ended: {wait(options)}")
    except Asked as signal:
        log(f"ended: signal {signal}")
    return 0


def forget_archive() -> None:
    """Nothing more is imported: the index of the zipapp would only stay in memory."""
    zipimport = sys.modules.get("zipimport")
    if zipimport is not None:
        zipimport._zip_directory_cache.clear()
    sys.path_importer_cache.clear()


class Asked(Exception):
    """A signal asked us to end; which one is its text."""


def answer_signals() -> None:
    """End at SIGTERM and SIGINT, also as PID 1, which gets no signal that it does not handle."""
    # signal itself would load enum, for memory that stays.
    import _signal  # type: ignore[import-not-found]

    def end(number, frame):  # type: ignore[no-untyped-def]
        raise Asked(number)

    for number in (_signal.SIGTERM, _signal.SIGINT):
        _signal.signal(number, end)
    if os.getpid() == 1:
        # The kernel reaps for a parent that ignores its children's ends (wait(2)).
        _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)
