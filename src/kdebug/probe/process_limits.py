"""Resource limits of a process and what is used of them (getrlimit(2), /proc/PID/limits)."""

from __future__ import annotations

import os
import re

from kdebug.annotations import Callable, Optional
from kdebug.errors import AccessDenied, NotFound
from kdebug.probe.identity import read_small
from kdebug.probe.process_fds import count_fds
from kdebug.probe.process_parse import kilobytes, parse_stat, parse_status
from kdebug.probe.process_static import ENDED, reason_of
from kdebug.protocol.processes import LimitInfo

_ROW = re.compile(r"^(Max .*?)\s{2,}(\S+)\s+(\S+)\s*(\S*)\s*$")
_MEMORY = {
    "Max address space": b"VmSize",
    "Max stack size": b"VmStk",
    "Max data size": b"VmData",
    "Max resident set": b"VmRSS",
    "Max locked memory": b"VmLck",
}


def parse_limits(text: str) -> list[tuple[str, Optional[int], Optional[int], str]]:
    """(name, soft, hard, unit) of each row; None is unlimited."""
    rows = []
    for line in text.splitlines():
        match = _ROW.match(line)
        if match:
            name, soft, hard, unit = match.groups()
            rows.append((name, _number(soft), _number(hard), unit))
    return rows


def _number(text: str) -> Optional[int]:
    return None if text == "unlimited" else int(text)


def limits(proc: str, pid: int) -> tuple[LimitInfo, ...]:
    """Raises `NotFound`, `AccessDenied`."""
    try:
        text = read_small(f"{proc}/{pid}/limits").decode("ascii", "replace")
        status = parse_status(read_small(f"{proc}/{pid}/status"))
    except PermissionError as error:
        raise AccessDenied(f"the limits of process {pid} may not be read", why=reason_of(error)) from error
    except ENDED as error:
        raise NotFound(f"there is no process {pid}") from error
    return tuple(
        LimitInfo(name, soft, hard, unit, _used(proc, pid, name, status))
        for name, soft, hard, unit in parse_limits(text)
    )


def _used(proc: str, pid: int, name: str, status: dict[bytes, bytes]) -> Optional[int]:
    if name in _MEMORY:
        return kilobytes(status, _MEMORY[name])
    if name == "Max open files":
        return _attempt(lambda: count_fds(f"{proc}/{pid}/fd")[0])
    if name == "Max pending signals":
        # "queued/limit", counted for the real user id (proc(5): SigQ).
        return _attempt(lambda: int(status[b"SigQ"].split(b"/")[0]))
    if name == "Max cpu time":
        return _attempt(lambda: _cpu_seconds(read_small(f"{proc}/{pid}/stat")))
    return None


def _cpu_seconds(text: bytes) -> int:
    stat = parse_stat(text)
    return (stat.user_ticks + stat.system_ticks) // os.sysconf("SC_CLK_TCK")


def _attempt(read: Callable[[], Optional[int]]) -> Optional[int]:
    try:
        return read()
    except (OSError, ValueError, KeyError):
        return None
