"""What seldom changes in a process' life: owner, arguments, program, container, PID namespace."""

from __future__ import annotations

import errno
import os
import sys

from kdebug.annotations import Callable, Optional, TypeVar
from kdebug.probe.container_id import Containers
from kdebug.probe.process_parse import parse_cmdline, parse_owner, text_of

T = TypeVar("T")
MAX_CMDLINE = 4096
"""In the table; `proc` shows the rest. Also what the kernel itself used to cut at."""
UserName = Callable[[int, Optional[str]], Optional[str]]
"""Name of a uid in a container; None where it has none, or is another container's."""
NEEDS = "needs the same uid and gid and no fewer capabilities than the process, or SYS_PTRACE"
ENDED = (FileNotFoundError, ProcessLookupError)
"""What reading below /proc/PID raises once the process is no more (ENOENT, ESRCH)."""


class Static:
    """Kept for every process, so without a dictionary each."""

    __slots__ = ("cmdline", "cmdline_truncated", "container", "exe", "gid", "reasons", "uid", "user")

    def __init__(
        self, uid: Optional[int], gid: Optional[int], user: Optional[str],
        cmdline: Optional[tuple[str, ...]], cmdline_truncated: bool, exe: Optional[str],
        container: Optional[str], reasons: dict[str, str],
    ) -> None:  # fmt: skip
        self.uid, self.gid, self.user = uid, gid, user
        self.cmdline, self.cmdline_truncated = cmdline, cmdline_truncated
        self.exe, self.container, self.reasons = exe, container, reasons

    def same_as(self, other: Optional[Static]) -> bool:
        return other is not None and all(getattr(self, n) == getattr(other, n) for n in self.__slots__)


def read_at(dir_fd: int, path: str, limit: int) -> bytes:
    """The first `limit` bytes of a file below /proc that the kernel writes in one piece, by one read(2)."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        return os.read(fd, limit)
    finally:
        os.close(fd)


def read_link(path: str, dir_fd: Optional[int] = None) -> str:
    """readlink(2) of hostile bytes: utf-8 with surrogates whatever the agent's locale is."""
    return text_of(os.readlink(os.fsencode(path), dir_fd=dir_fd))


def reason_of(error: OSError) -> str:
    """Why a fact is None: the kernel's words, and what would do. One object for all who share it."""
    words = error.strerror or str(error)
    if not isinstance(error, PermissionError):
        return words
    name = errno.errorcode.get(error.errno or 0, "")
    return sys.intern(f"{words} ({name}): {NEEDS}" if name else f"{words}: {NEEDS}")


def read_static(
    proc_fd: int, pid: int, kernel_thread: bool, user_name: UserName, containers: Containers
) -> Static:
    """One process' static facts; raises `OSError` (ENOENT, ESRCH) only when it has ended."""
    reasons: dict[str, str] = {}
    reader = _Reader(proc_fd, pid, reasons, containers)
    owner = reader.attempt(("uid", "gid", "user"), reader.owner)
    uid, gid = owner if owner else (None, None)
    container = reader.attempt(("container",), reader.container)
    cmdline = reader.attempt(("cmdline",), reader.cmdline)
    return Static(
        uid=uid,
        gid=gid,
        user=None if uid is None else user_name(uid, container),
        cmdline=parse_cmdline(cmdline[:MAX_CMDLINE]) if cmdline is not None else None,
        cmdline_truncated=cmdline is not None and len(cmdline) > MAX_CMDLINE,
        exe=None if kernel_thread else reader.attempt(("exe",), reader.exe),
        container=container,
        reasons=reasons,
    )


class _Reader:
    """The files of one process, each denied for a reason of its own."""

    def __init__(self, proc_fd: int, pid: int, reasons: dict[str, str], containers: Containers) -> None:
        self._proc_fd, self._pid, self._reasons, self._containers = proc_fd, pid, reasons, containers

    def attempt(self, names: tuple[str, ...], read: Callable[[], T]) -> Optional[T]:
        """None when it may not be read, with the reason under each of `names`; ends are not caught."""
        try:
            return read()
        except ENDED:
            raise
        except (OSError, ValueError, IndexError) as error:
            why = reason_of(error) if isinstance(error, OSError) else "the kernel does not say"
            self._reasons.update(dict.fromkeys(names, why))
            return None

    def owner(self) -> tuple[int, int]:
        """Effective ids. Not the owner of /proc/PID, which is root for non-dumpable processes."""
        return parse_owner(read_at(self._proc_fd, f"{self._pid}/status", 8192))

    def cmdline(self) -> bytes:
        return read_at(self._proc_fd, f"{self._pid}/cmdline", MAX_CMDLINE + 1)

    def exe(self) -> Optional[str]:
        try:
            return read_link(f"{self._pid}/exe", self._proc_fd)
        except FileNotFoundError:
            # Zombies and processes that are ending have no program any more (proc(5)).
            return None

    def container(self) -> Optional[str]:
        found = self._containers.of(text_of(read_at(self._proc_fd, f"{self._pid}/cgroup", 16384)))
        # Thousands of processes share one id: they share the object, too.
        return sys.intern(found) if found else None
