"""Signals, to the very process that was meant."""

from __future__ import annotations

import errno
import os

from kdebug.annotations import Optional
from kdebug.errors import AccessDenied, NotFound, from_os_error
from kdebug.probe.identity import read_small
from kdebug.probe.process_parse import parse_stat
from kdebug.probe.process_static import ENDED

_NO_PIDFD = (errno.ENOSYS, errno.EPERM)
"""Kernels before 5.3, and seccomp profiles older than the call."""
_A_THREAD = (errno.EINVAL, errno.ENOENT)
"""pidfd_open(2) of a thread that does not lead its process."""


def check_same(proc: str, pid: int, start_ticks: int) -> None:
    """Raise `NotFound` unless `pid` still is the process that started at `start_ticks` (0: whoever)."""
    try:
        now = parse_stat(read_small(f"{proc}/{pid}/stat")).start_ticks
    except ENDED:
        raise NotFound(f"there is no process {pid}", why="it has ended" if start_ticks else "") from None
    except OSError as error:
        raise from_os_error(error, f"the process {pid} cannot be examined") from error
    if start_ticks and now != start_ticks:
        raise NotFound(f"the process {pid} has ended", why="another process has its PID now")


def send_signal(proc: str, pid: int, start_ticks: int, number: int) -> None:
    """pidfd_send_signal(2), or kill(2) where there are no pidfds. Raises `NotFound`, `AccessDenied`."""
    fd = _hold(pid)
    try:
        # Checked after the descriptor is held, so the pid cannot change hands in between.
        check_same(proc, pid, start_ticks)
        if fd is not None:
            import signal  # brings `enum`: only who sends one pays for it

            signal.pidfd_send_signal(fd, number)
        else:
            os.kill(pid, number)
    except PermissionError as error:
        raise AccessDenied(
            f"signal {number} may not be sent to process {pid}",
            why=f"{error.strerror} (EPERM)",
            next_step="it takes the same real or saved uid, or the capability KILL (kill(2))",
        ) from error
    except ProcessLookupError:
        raise NotFound(f"the process {pid} has ended") from None
    except OSError as error:
        raise from_os_error(error, f"signal {number} could not be sent to process {pid}") from error
    finally:
        if fd is not None:
            os.close(fd)


def _hold(pid: int) -> Optional[int]:
    """A descriptor of the process; None where the kernel has no such thing."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise NotFound(f"there is no process {pid}") from None
    except OSError as error:
        if error.errno in _NO_PIDFD:
            return None
        if error.errno in _A_THREAD:
            raise NotFound(f"{pid} is a thread, not a process") from error
        raise from_os_error(error, f"the process {pid} could not be held") from error
