"""Signals, to the very process that was meant."""

from __future__ import annotations

import os
import signal

from kdebug.errors import AccessDenied, NotFound, from_os_error
from kdebug.probe.identity import read_small
from kdebug.probe.process_parse import parse_stat


def check_same(proc: str, pid: int, start_ticks: int) -> None:
    """Raise `NotFound` unless `pid` still is the process that started at `start_ticks` (0: whoever)."""
    try:
        now = parse_stat(read_small(f"{proc}/{pid}/stat")).start_ticks
    except (FileNotFoundError, ProcessLookupError):
        raise NotFound(f"there is no process {pid}", why="it has ended" if start_ticks else "") from None
    except OSError as error:
        raise from_os_error(error, f"the process {pid} cannot be examined") from error
    if start_ticks and now != start_ticks:
        raise NotFound(f"the process {pid} has ended", why="another process has its PID now")


def send_signal(proc: str, pid: int, start_ticks: int, number: int) -> None:
    """pidfd_send_signal(2), or kill(2) on kernels before 5.3. Raises `NotFound`, `AccessDenied`."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        raise NotFound(f"there is no process {pid}") from None
    except OSError:
        fd = -1
    try:
        # Checked after the descriptor is held, so the pid cannot change hands in between.
        check_same(proc, pid, start_ticks)
        if fd >= 0:
            signal.pidfd_send_signal(fd, number)
        else:
            os.kill(pid, number)
    except PermissionError as error:
        raise AccessDenied(
            f"signal {number} may not be sent to process {pid}",
            why=error.strerror or "",
            next_step="it takes the same real or saved uid, or the capability KILL (kill(2))",
        ) from error
    except ProcessLookupError:
        raise NotFound(f"the process {pid} has ended") from None
    except OSError as error:
        raise from_os_error(error, f"signal {number} could not be sent to process {pid}") from error
    finally:
        if fd >= 0:
            os.close(fd)
