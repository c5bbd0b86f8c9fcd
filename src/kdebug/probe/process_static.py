"""What seldom changes in a process' life: owner, arguments, program, container, PID namespace."""

from __future__ import annotations

import os
from typing import Callable, NamedTuple, Optional

from kdebug.probe.container_id import parse_container_id
from kdebug.probe.process_parse import ids, parse_cmdline, parse_status

MAX_CMDLINE = 4096
"""In the table; `proc` shows the rest. Also what the kernel itself used to cut at."""
UserName = Callable[[int], Optional[str]]
NEEDS = "needs the same uid and gid and no fewer capabilities than the process, or SYS_PTRACE"


class Static(NamedTuple):
    uid: Optional[int]
    gid: Optional[int]
    user: Optional[str]
    cmdline: Optional[tuple[str, ...]]
    cmdline_truncated: bool
    exe: Optional[str]
    container: Optional[str]
    in_scope: bool
    reasons: dict[str, str]


def read_at(dir_fd: int, path: str, limit: int) -> bytes:
    """The first `limit` bytes of a file below /proc; `OSError` as the kernel says it."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        data = os.read(fd, limit)
        while 0 < len(data) < limit:
            more = os.read(fd, limit - len(data))
            if not more:
                break
            data += more
        return data
    finally:
        os.close(fd)


def reason_of(error: OSError) -> str:
    """Why a fact is None: the kernel's words, and what would do."""
    words = error.strerror or str(error)
    return f"{words} ({NEEDS})" if isinstance(error, PermissionError) else words


def read_static(
    proc_fd: int, pid: int, kernel_thread: bool, user_name: UserName, in_scope: Callable[[int], bool]
) -> Static:
    """One process' static facts; raises `OSError` (ENOENT, ESRCH) only when it has ended."""
    reasons: dict[str, str] = {}
    status = parse_status(read_at(proc_fd, f"{pid}/status", 8192))
    # The owner of /proc/PID is root for non-dumpable processes: only status tells the truth.
    uid, gid = ids(status[b"Uid"])[1], ids(status[b"Gid"])[1]
    cmdline, truncated = _cmdline(proc_fd, pid, reasons)
    return Static(
        uid=uid,
        gid=gid,
        user=user_name(uid),
        cmdline=cmdline,
        cmdline_truncated=truncated,
        exe=None if kernel_thread else _exe(proc_fd, pid, reasons),
        container=_container(proc_fd, pid, reasons),
        in_scope=in_scope(pid),
        reasons=reasons,
    )


def _cmdline(proc_fd: int, pid: int, reasons: dict[str, str]) -> tuple[Optional[tuple[str, ...]], bool]:
    try:
        raw = read_at(proc_fd, f"{pid}/cmdline", MAX_CMDLINE + 1)
    except PermissionError as error:
        reasons["cmdline"] = reason_of(error)
        return None, False
    return parse_cmdline(raw[:MAX_CMDLINE]), len(raw) > MAX_CMDLINE


def _exe(proc_fd: int, pid: int, reasons: dict[str, str]) -> Optional[str]:
    try:
        return os.readlink(f"{pid}/exe", dir_fd=proc_fd)
    except FileNotFoundError:
        # Zombies and processes that are ending have no program any more (proc(5)).
        return None
    except OSError as error:
        reasons["exe"] = reason_of(error)
        return None


def _container(proc_fd: int, pid: int, reasons: dict[str, str]) -> Optional[str]:
    try:
        return parse_container_id(
            read_at(proc_fd, f"{pid}/cgroup", 16384).decode("utf-8", "surrogateescape")
        )
    except PermissionError as error:
        reasons["container"] = reason_of(error)
        return None
