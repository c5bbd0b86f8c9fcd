"""Open descriptors of a process and what they lead to. Nothing is opened: links are read and stat'ed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Optional

from kdebug.errors import AccessDenied, NotFound
from kdebug.probe.identity import read_small
from kdebug.probe.process_static import reason_of
from kdebug.protocol.processes import FdInfo

_ACCESS = {os.O_RDONLY: "r", os.O_WRONLY: "w", os.O_RDWR: "rw"}
DELETED = " (deleted)"
"""What the kernel appends to the path of an unlinked file (proc(5)). A file may be named so, too:
`deleted` is only said when no link to the inode is left."""


def list_pid_dir(proc: str, pid: int, name: str) -> list[str]:
    """Names below /proc/PID/`name`; `NotFound` or `AccessDenied` with who could read it."""
    try:
        return os.listdir(f"{proc}/{pid}/{name}")
    except PermissionError as error:
        raise AccessDenied(f"/proc/{pid}/{name} may not be read", why=reason_of(error)) from error
    except (FileNotFoundError, ProcessLookupError) as error:
        raise NotFound(f"there is no process {pid}") from error


def iter_fds(proc: str, pid: int) -> Iterator[FdInfo]:
    """Every descriptor, by number; one that is closed meanwhile is left out."""
    for name in sorted(list_pid_dir(proc, pid, "fd"), key=int):
        found = _describe(proc, pid, name)
        if found is not None:
            yield found


def _describe(proc: str, pid: int, name: str) -> Optional[FdInfo]:
    path = f"{proc}/{pid}/fd/{name}"
    try:
        target = os.readlink(path)
        # stat through the magic link asks the inode itself; it opens and blocks on nothing.
        status = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return FdInfo(int(name), "unknown", None, error=reason_of(error))
    info = _fdinfo(proc, pid, name)
    flags = int(info["flags"], 8) if "flags" in info else None
    regular = stat.S_ISREG(status.st_mode)
    return FdInfo(
        fd=int(name),
        kind=_kind(target, status),
        target=target,
        deleted=target.endswith(DELETED) and status.st_nlink == 0,
        inode=status.st_ino,
        size_bytes=status.st_size if regular else None,
        position=int(info["pos"]) if "pos" in info and regular else None,
        flags=flags,
        access=None if flags is None else _ACCESS.get(flags & os.O_ACCMODE),
    )


def _kind(target: str, status: os.stat_result) -> str:
    if target.startswith("/memfd:"):
        return "memfd"
    if target.startswith("anon_inode:"):
        return "anon"
    if target.startswith("pipe:"):
        return "pipe"
    mode = status.st_mode
    kinds = (
        (stat.S_ISREG, "file"),
        (stat.S_ISDIR, "dir"),
        (stat.S_ISSOCK, "socket"),
        (stat.S_ISFIFO, "fifo"),
        (stat.S_ISCHR, "char"),
        (stat.S_ISBLK, "block"),
    )
    return next((word for test, word in kinds if test(mode)), "unknown")


def _fdinfo(proc: str, pid: int, name: str) -> dict[str, str]:
    """pos and flags of /proc/PID/fdinfo/N; empty when it may not be read."""
    try:
        lines = read_small(f"{proc}/{pid}/fdinfo/{name}").decode("ascii", "replace").splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines[:4] if ":" in line)
    return {key: value.strip() for key, value in pairs}
