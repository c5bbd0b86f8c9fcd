"""Deleted files that a process still holds: listed, and opened by process and descriptor.

The only place where a magic link of /proc is followed, and only for `deleted:PID/FD`, which the user wrote:
the process must be of the target's scope, and what its descriptor leads to a regular file without a name.
"""

from __future__ import annotations

import errno
import os
import stat

from kdebug.annotations import Iterator, Optional
from kdebug.errors import AccessDenied, Failed, KdebugError, NotFound, from_os_error
from kdebug.probe.process_fds import DELETED, iter_fds
from kdebug.probe.process_scope import Scope
from kdebug.probe.process_static import ENDED, NEEDS, read_at
from kdebug.probe.rooted_walk import path_text
from kdebug.protocol.requests import parse_held
from kdebug.protocol.search import HeldFile, Progress


def require_scope(proc: str, pid: int, target_pid: int) -> None:
    """Raise unless `pid` is a process of the target."""
    fd = _open_proc(proc)
    try:
        os.stat(str(pid), dir_fd=fd)
        if not Scope(fd, target_pid, proc).contains(pid):
            raise AccessDenied(
                f"the process {pid} is not one of the target's", why="it is outside its scope"
            )
    except FileNotFoundError:
        raise NotFound(f"there is no process {pid}") from None
    finally:
        os.close(fd)


def _open_proc(proc: str) -> int:
    return os.open(proc, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


class HeldPlace:
    """Stands where a `Root` does, for the one path `deleted:PID/FD`."""

    def __init__(self, proc: str, target_pid: int) -> None:
        self._proc = proc
        self._target_pid = target_pid

    def _look(self, path: str) -> int:
        """An O_PATH descriptor of the file. The process is held meanwhile: its pid cannot change hands."""
        pid, number = parse_held(path)
        try:
            process = os.open(f"{self._proc}/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise NotFound(f"there is no process {pid}") from error
        try:
            require_scope(self._proc, pid, self._target_pid)
            fd = os.open(f"fd/{number}", os.O_PATH | os.O_CLOEXEC, dir_fd=process)
        except PermissionError as error:
            raise AccessDenied(f"{path} may not be opened", why=NEEDS, errno=error.errno) from error
        except ENDED as error:
            raise NotFound(f"the process {pid} has no descriptor {number}", errno=error.errno) from error
        except OSError as error:
            raise from_os_error(error, f"{path} cannot be opened") from error
        finally:
            os.close(process)
        try:
            self._check(path, fd)
        except KdebugError:
            os.close(fd)
            raise
        return fd

    def _check(self, path: str, fd: int) -> None:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise Failed(f"{path} is no regular file", why="reading it could block or have effects")
        if status.st_nlink:
            raise Failed(
                f"{path} is not deleted", why=f"it is {self._name(fd)}", next_step="read it by its path"
            )

    def _name(self, fd: int) -> str:
        return path_text(os.readlink(os.fsencode(f"{self._proc}/self/fd/{fd}")))

    def open(self, path: str, flags: int, *, follow: bool = True) -> int:
        """For reading, or with O_PATH for looking. Close it."""
        fd = self._look(path)
        if flags & os.O_PATH:
            return fd
        try:
            return os.open(f"{self._proc}/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise from_os_error(error, f"{path} cannot be opened") from error
        finally:
            os.close(fd)

    def stat(self, path: str, follow: bool = True) -> os.stat_result:
        fd = self._look(path)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def readlink(self, path: str) -> str:
        raise Failed(f"{path} is not a symlink", errno=errno.EINVAL)

    def resolved(self, path: str) -> Optional[str]:
        """The last name it had."""
        fd = self._look(path)
        try:
            name = self._name(fd)
        finally:
            os.close(fd)
        return name[: -len(DELETED)] if name.endswith(DELETED) else name


class HeldSearch:
    """Every deleted file that the target's processes hold; None after each process."""

    def __init__(self, proc: str, target_pid: int) -> None:
        self._proc = proc
        self._target_pid = target_pid
        self._seen = 0

    def progress(self, done: bool) -> Progress:
        return Progress(self._seen)

    def rows(self) -> Iterator[Optional[HeldFile]]:
        proc_fd = _open_proc(self._proc)
        try:
            scope = Scope(proc_fd, self._target_pid, self._proc)
            for pid in sorted(int(name) for name in os.listdir(proc_fd) if name.isdigit()):
                if scope.contains(pid):
                    self._seen += 1
                    yield from self._of_process(proc_fd, pid)
                yield None
        finally:
            os.close(proc_fd)

    def _of_process(self, proc_fd: int, pid: int) -> Iterator[HeldFile]:
        name = _comm(proc_fd, pid)
        try:
            for fd in iter_fds(self._proc, pid):
                if fd.deleted or fd.kind == "memfd":
                    row = self._row(pid, fd.fd, fd.access, name)
                    if row is not None:
                        yield row
        except NotFound:
            return
        except KdebugError as error:
            yield HeldFile(pid, -1, "", process=name, error=str(error))

    def _row(self, pid: int, fd: int, access: Optional[str], name: str) -> Optional[HeldFile]:
        path = f"{self._proc}/{pid}/fd/{fd}"
        try:
            link, status = path_text(os.readlink(os.fsencode(path))), os.stat(path)
        except OSError:
            return None  # closed meanwhile
        if not stat.S_ISREG(status.st_mode) or status.st_nlink:
            return None
        return HeldFile(
            pid,
            fd,
            link[: -len(DELETED)] if link.endswith(DELETED) else link,
            status.st_size,
            status.st_blocks * 512,
            status.st_ino,
            status.st_dev,
            access,
            name,
        )


def _comm(proc_fd: int, pid: int) -> str:
    try:
        return path_text(read_at(proc_fd, f"{pid}/comm", 64).rstrip(b"\n"))
    except OSError:
        return ""
