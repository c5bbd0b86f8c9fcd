"""Open descriptors of a process and what they lead to. Nothing is opened: links are read and stat'ed."""

from __future__ import annotations

import os
import stat

from kdebug.annotations import Iterator, Optional
from kdebug.errors import AccessDenied, NotFound, from_os_error
from kdebug.probe.identity import read_small
from kdebug.probe.process_static import ENDED, read_link, reason_of
from kdebug.protocol.processes import FdInfo

_ACCESS = {os.O_RDONLY: "r", os.O_WRONLY: "w", os.O_RDWR: "rw"}
DELETED = " (deleted)"
"""What the kernel appends to the path of an unlinked file (proc(5)). A file may be named so, too:
`deleted` is only said when no link to the inode is left."""


def _release() -> tuple[int, ...]:
    """Major and minor number of the kernel; what is no number counts as 0."""
    return tuple(int(part) if part.isdigit() else 0 for part in os.uname().release.split(".")[:2])


KERNEL_COUNTS = _release() >= (6, 2)
"""Since Linux 6.2 the size of /proc/PID/fd is the number of descriptors (proc_pid_fd(5))."""


def count_fds(path: str, dir_fd: Optional[int] = None) -> tuple[Optional[int], str]:
    """How many descriptors, or None and why not. Raises `OSError` when the process has ended."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=dir_fd)
    except PermissionError as error:
        return None, reason_of(error)
    try:
        if KERNEL_COUNTS:
            return os.fstat(fd).st_size, ""
        with os.scandir(fd) as entries:
            return sum(1 for _ in entries), ""
    finally:
        os.close(fd)


def iter_fds(proc: str, pid: int) -> Iterator[FdInfo]:
    """Every descriptor, by number; one that is closed meanwhile is left out.

    The directory is read as it is iterated: a million descriptors cost the memory of one page.
    Raises `NotFound`, or `AccessDenied` with who could read it.
    """
    try:
        with os.scandir(f"{proc}/{pid}/fd") as entries:
            # The kernel writes them in ascending order.
            for entry in entries:
                found = _describe(proc, pid, entry.name)
                if found is not None:
                    yield found
    except PermissionError as error:
        raise AccessDenied(f"/proc/{pid}/fd may not be read", why=reason_of(error)) from error
    except ENDED as error:
        raise NotFound(f"there is no process {pid}") from error
    except OSError as error:
        raise from_os_error(error, f"/proc/{pid}/fd cannot be read") from error


def _describe(proc: str, pid: int, name: str) -> Optional[FdInfo]:
    path = f"{proc}/{pid}/fd/{name}"
    target: Optional[str] = None
    try:
        target = read_link(path)
        # stat through the magic link asks the inode itself; it opens nothing.
        status = os.stat(path)
    except ENDED:
        return None
    except OSError as error:
        return FdInfo(int(name), "unknown", target, error=reason_of(error))
    info = _fdinfo(proc, pid, name)
    flags = int(info["flags"], 8) if "flags" in info else None
    regular = stat.S_ISREG(status.st_mode)
    kind = _kind(target, status)
    return FdInfo(
        fd=int(name),
        kind=kind,
        target=target,
        # A memfd never had a name; the kernel calls it deleted all the same (memfd_create(2)).
        deleted=target.endswith(DELETED) and status.st_nlink == 0 and kind != "memfd",
        inode=status.st_ino,
        size_bytes=status.st_size if regular else None,
        position=int(info["pos"]) if "pos" in info and regular else None,
        flags=flags,
        access=_access(flags),
    )


def _access(flags: Optional[int]) -> Optional[str]:
    """None as well for O_PATH, which gives neither reading nor writing (open(2))."""
    return None if flags is None or flags & os.O_PATH else _ACCESS.get(flags & os.O_ACCMODE)


def _kind(target: str, status: os.stat_result) -> str:
    if target.startswith("/memfd:") and target.endswith(DELETED) and status.st_nlink == 0:
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
