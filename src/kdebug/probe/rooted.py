"""The target's file system through its own root, and nothing outside of it (design 7).

Every path goes through `Root._resolve`: openat2(2) with RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS, or the
walk with the same meaning where that call is missing. The result is an O_PATH descriptor, which has no
side effect on any kind of file; only regular files and directories are then opened for reading.

Below the target's /proc plain files can be read; its magic links are never followed. /proc/self there
is the agent itself, since the kernel answers for whoever asks.
"""

from __future__ import annotations

import errno
import os
import stat

from kdebug import threads
from kdebug.annotations import Any, Callable, Optional
from kdebug.errors import (
    AccessDenied,
    Failed,
    KdebugError,
    NotFound,
    TargetEnded,
    UsageError,
    from_os_error,
)
from kdebug.probe import syscalls
from kdebug.probe.identity import read_small
from kdebug.probe.rooted_walk import MagicLink, Walk, path_bytes, path_text
from kdebug.protocol.requests import check_path

MAX_RACES = 64
"""EAGAIN: a rename elsewhere disturbed `..` (openat2(2)). After so many the walk, which cannot be
disturbed, takes over."""
MAX_SMALL_BYTES = 1024 * 1024
_RESOLVE = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
_MISSING = (errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG)
"""EPERM: seccomp profiles older than the call answer so, and openat2 with O_PATH never does itself."""


def kind_of(mode: int) -> str:
    """The word for a file type (st_mode)."""
    tests = (
        (stat.S_ISREG, "file"),
        (stat.S_ISDIR, "dir"),
        (stat.S_ISLNK, "symlink"),
        (stat.S_ISFIFO, "fifo"),
        (stat.S_ISSOCK, "socket"),
        (stat.S_ISCHR, "char"),
        (stat.S_ISBLK, "block"),
    )
    return next((word for test, word in tests if test(mode)), "unknown")


class _InUse:
    """`with` for `Root`; contextlib's own would bring `functools` and `collections` into every agent."""

    def __init__(self, begin: Callable[[], int], end: Callable[[], None]) -> None:
        self._begin, self._end = begin, end

    def __enter__(self) -> int:
        return self._begin()

    def __exit__(self, *error: object) -> None:
        self._end()


class Root:
    """A pinned root directory. All methods raise `KdebugError`s only; thread-safe."""

    def __init__(self, fd: int, *, proc: str = "/proc", force_walk: bool = False) -> None:
        self._fd = fd
        self._proc = proc
        self._walk_only = force_walk
        self._pid = 0
        self._pid_fd = -1
        self._lock = threads.Lock()
        self._users = 0
        self._closed = False

    @classmethod
    def at(cls, fd: int, *, proc: str = "/proc", force_walk: bool = False) -> Root:
        """Any directory as root; takes over the descriptor."""
        return cls(fd, proc=proc, force_walk=force_walk)

    @classmethod
    def of_process(
        cls, pid: int, *, proc: str = "/proc", start_ticks: int = 0, force_walk: bool = False
    ) -> Root:
        """The root of a process, which is then held by descriptor whatever becomes of the pid.

        /proc/PID is opened first and everything is looked up below it: the descriptor stands for this
        very process, and reading through it fails with ESRCH once it has ended (proc(5)).
        """
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            pid_fd = os.open(f"{proc}/{pid}", flags)
        except OSError as error:
            raise NotFound(f"the process {pid} has ended") from error
        try:
            if start_ticks and int(_stat_fields(pid_fd, pid)[19]) != start_ticks:
                raise NotFound(f"the process {pid} has ended", why="another process has its PID now")
            root = cls(os.open("root", flags, dir_fd=pid_fd), proc=proc, force_walk=force_walk)
        except OSError as error:
            os.close(pid_fd)
            raise _cannot_open_root(proc, pid, error) from error
        except KdebugError:
            os.close(pid_fd)
            raise
        root._pid, root._pid_fd = pid, pid_fd
        return root

    def __enter__(self) -> Root:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent; whoever is inside a call finishes it first."""
        with self._lock:
            self._closed = True
            self._close_unused()

    def _close_unused(self) -> None:
        if self._closed and not self._users:
            for fd in (self._fd, self._pid_fd):
                if fd >= 0:
                    os.close(fd)
            self._fd = self._pid_fd = -1

    def _in_use(self) -> _InUse:
        """The root's descriptor, kept open meanwhile: another directory could get its number."""
        return _InUse(self._begin_use, self._end_use)

    def _begin_use(self) -> int:
        with self._lock:
            if self._closed:
                raise Failed("the target was closed")
            self._users += 1
            return self._fd

    def _end_use(self) -> None:
        with self._lock:
            self._users -= 1
            self._close_unused()

    def check_alive(self) -> None:
        """Raise `NotFound` once the process has ended: its mounts may be gone with it.

        They go before its parent has reaped it. A process may live on without its first thread, though,
        which then shows as a zombie, too.
        """
        with self._in_use():
            if self._pid_fd < 0:
                return
            fields = _stat_fields(self._pid_fd, self._pid)
        if fields[0] in (b"Z", b"X") and int(fields[17]) <= 1:
            raise TargetEnded(f"the target process {self._pid} has ended")

    def open(self, path: str, flags: int, *, follow: bool = True) -> int:
        """A descriptor for reading, or with O_PATH for looking. Close it.

        Never blocks: FIFOs, devices and sockets are refused by kind before they are opened.
        """
        if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR | os.O_TRUNC):
            raise UsageError("a rooted open is for reading only")
        fd = self._resolve(path, follow)
        if flags & os.O_PATH:
            return fd
        try:
            return self.reopen(fd, path, flags)
        finally:
            os.close(fd)

    def reopen(self, fd: int, path: str, flags: int) -> int:
        """What `fd` (O_PATH) stands for, open for reading; regular files and directories only."""
        kind = kind_of(os.fstat(fd).st_mode)
        if flags & os.O_DIRECTORY and kind != "dir":
            raise Failed(f"{path} is not a directory", errno=errno.ENOTDIR)
        if kind not in ("file", "dir"):
            raise Failed(f"{path} is a {_KIND_TEXT[kind]}", why="reading it could block or have effects")
        try:
            # A magic link of our own to a descriptor that was checked: the very same file.
            return os.open(f"{self._proc}/self/fd/{fd}", flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            raise self._explained(error, path, os.fstat(fd)) from error

    def stat(self, path: str, follow: bool = True) -> os.stat_result:
        """stat(2) or lstat(2) inside the root."""
        fd = self._resolve(path, follow)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def readlink(self, path: str) -> str:
        """The text of a symlink, unresolved."""
        fd = self._resolve(path, False)
        try:
            return path_text(os.readlink(b"", dir_fd=fd))
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                raise Failed(f"{path} is not a symlink") from error
            raise from_os_error(error, f"the link {path} cannot be read") from error
        finally:
            os.close(fd)

    def resolved(self, path: str) -> Optional[str]:
        """Where `path` leads inside the root; None when that changed while it was looked at."""
        with self._in_use() as root_fd:
            walk = Walk(root_fd)
            try:
                walked = walk.run(path, True)
            except OSError:
                return None
        try:
            one, other = os.fstat(walked), self.stat(path)
        except KdebugError:
            return None
        finally:
            os.close(walked)
        return walk.place if (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino) else None

    def statvfs(self, path: str, mount_id: int) -> os.statvfs_result:
        """statvfs(3) of the mount at `path`, unless another one covers it. May block on a dead network
        file system."""
        fd = self._resolve(path, True)
        try:
            if _mount_id(self._proc, fd) not in (mount_id, None):
                raise Failed("another mount covers it")
            return os.fstatvfs(fd)
        except OSError as error:
            raise from_os_error(error, f"the file system at {path} does not tell its size") from error
        finally:
            os.close(fd)

    def read_small(self, path: str, limit: int = MAX_SMALL_BYTES) -> bytes:
        """A regular file's first `limit` bytes."""
        fd = self.open(path, os.O_RDONLY)
        try:
            pieces, wanted = [], limit
            while wanted > 0 and (piece := os.read(fd, min(wanted, 65536))):
                pieces.append(piece)
                wanted -= len(piece)
            return b"".join(pieces)
        except OSError as error:
            raise from_os_error(error, f"{path} cannot be read") from error
        finally:
            os.close(fd)

    def _resolve(self, path: str, follow: bool) -> int:
        """An O_PATH descriptor for `path`, from openat2 or the walk."""
        check_path(path)
        with self._in_use() as root_fd:
            try:
                if not self._walk_only:
                    found = self._by_openat2(root_fd, path, follow)
                    if found is not None:
                        return found
                return Walk(root_fd).run(path, follow)
            except OSError as error:
                raise self._explained(error, path) from error

    def _by_openat2(self, root_fd: int, path: str, follow: bool) -> Optional[int]:
        """None when this kernel or seccomp profile does not have the call, or races do not end."""
        flags = os.O_PATH | (0 if follow else os.O_NOFOLLOW)
        for _ in range(MAX_RACES):
            try:
                return syscalls.openat2(root_fd, path_bytes(path), flags, _RESOLVE)
            except OSError as error:
                if error.errno in _MISSING:
                    self._walk_only = True
                    return None
                if error.errno != errno.EAGAIN:
                    raise
        return None

    def _explained(self, error: OSError, path: str, status: Optional[os.stat_result] = None) -> KdebugError:
        """The kernel's word, with the place where the path stops and who could go on."""
        if error.errno == errno.EACCES:
            return self._denied(error, path, status)
        if error.errno in (errno.ELOOP, errno.EXDEV):
            return self._loop(error, path)
        if error.errno == errno.ENOTDIR:
            return Failed(f"{path} is not there", why="a part of it is not a directory", errno=error.errno)
        if error.errno == errno.ENOENT:
            return NotFound(f"{path} does not exist in the target", errno=error.errno)
        return from_os_error(error, f"{path} cannot be opened")

    def _denied(self, error: OSError, path: str, status: Optional[os.stat_result]) -> KdebugError:
        place, stopped = path, status
        if stopped is None:
            walk = Walk(self._fd)
            try:
                os.close(walk.run(path, True))
            except OSError:
                place, stopped = walk.place, walk.stopped_at
        return AccessDenied(
            f"{path} may not be opened",
            why=f"Permission denied at {place}{owner_text(stopped)}",
            next_step=who_may(stopped),
            errno=error.errno,
        )

    def _loop(self, error: OSError, path: str) -> KdebugError:
        try:
            os.close(Walk(self._fd).run(path, True))
        except MagicLink as magic:
            return Failed(
                f"{path} leads to the magic link {magic.link} -> {magic.target}",
                why="following it could leave the target's root",
                next_step=_magic_advice(magic.target),
                errno=errno.ELOOP,
            )
        except OSError:
            pass
        return Failed(f"{path} runs into a symlink loop", why=os.strerror(errno.ELOOP), errno=error.errno)


_KIND_TEXT = {
    "fifo": "FIFO",
    "socket": "socket",
    "char": "character device",
    "block": "block device",
    "symlink": "symlink",
    "unknown": "file of unknown kind",
}


def owner_text(status: Optional[os.stat_result]) -> str:
    """Whose it is and what its mode allows, for refusals."""
    if status is None:
        return ""
    return f" (owner uid {status.st_uid}, gid {status.st_gid}, mode {stat.S_IMODE(status.st_mode):04o})"


def who_may(status: Optional[os.stat_result]) -> str:
    """Who could read a file or search a directory, by its mode, and the rung that always can."""
    always = "DAC_READ_SEARCH, which the rung ptrace has (--profile ptrace; for local: root)"
    if status is None:
        return f"it takes the owner's uid or gid, or {always}"
    bits = 5 if stat.S_ISDIR(status.st_mode) else 4
    owner = f"uid {status.st_uid}" if status.st_mode >> 6 & bits == bits else ""
    group = f"gid {status.st_gid}" if status.st_mode >> 3 & bits == bits else ""
    named = " or ".join(part for part in (owner, group) if part)
    return f"it takes {named}, or {always}" if named else f"it takes {always}"


def _magic_advice(target: str) -> str:
    if target.startswith(("pipe:", "/dev/pts", "socket:")):
        return "if this is the container's output, read it with `kdebug logs`"
    return "name the file itself instead"


def _mount_id(proc: str, fd: int) -> Optional[int]:
    """proc(5), fdinfo: the number that mountinfo has, too; None in sandboxes that do not say."""
    fields = read_small(f"{proc}/self/fdinfo/{fd}").split()
    return int(fields[fields.index(b"mnt_id:") + 1]) if b"mnt_id:" in fields else None


def _stat_fields(pid_fd: int, pid: int) -> list[bytes]:
    """/proc/PID/stat from its third field, the state, on (proc(5)), read below the pinned directory."""
    try:
        fd = os.open("stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=pid_fd)
        try:
            return os.read(fd, 4096).rpartition(b")")[2].split()
        finally:
            os.close(fd)
    except OSError as error:
        raise TargetEnded(f"the target process {pid} has ended") from error


def _cannot_open_root(proc: str, pid: int, error: OSError) -> KdebugError:
    """ptrace(2), PTRACE_MODE_READ_FSCREDS: same uid and gid and no fewer capabilities, or SYS_PTRACE."""
    if error.errno not in (errno.EACCES, errno.EPERM):
        return NotFound(f"the process {pid} has ended", why=error.strerror or "")
    uid, gid = _ids(proc, pid)
    return AccessDenied(
        f"the root of process {pid} may not be read",
        why=f"{error.strerror}; the kernel wants uid {uid} and gid {gid} with the target's capabilities",
        next_step="run as that user and group, or with the capability SYS_PTRACE",
        errno=error.errno,
    )


def _ids(proc: str, pid: int) -> tuple[Any, Any]:
    """Real uid and gid from /proc/PID/status, which everyone may read."""
    try:
        lines = read_small(f"{proc}/{pid}/status").splitlines()
    except OSError:
        return "?", "?"
    fields = {line.split(b":")[0]: line.split() for line in lines if b":" in line}
    return int(fields[b"Uid"][1]), int(fields[b"Gid"][1])
