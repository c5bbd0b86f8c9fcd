"""Files that are being written: beside their names, nameless where the file system can, renamed when whole.

O_TMPFILE (open(2)) leaves nothing even when the agent is killed. Where it is missing, the file is called
.NAME.kdebug-XXXXXXXX until then, and whatever ends the session removes it.
"""

from __future__ import annotations

import binascii
import errno
import itertools
import os
import stat

from kdebug import threads
from kdebug.annotations import Optional
from kdebug.errors import Failed, KdebugError, UsageError
from kdebug.probe.files import entry_from
from kdebug.probe.place import Place, find, word
from kdebug.probe.rooted import Root
from kdebug.probe.rooted_walk import path_text
from kdebug.protocol.writes import (
    BeginWrite,
    Changed,
    CommitWrite,
    FileVersion,
    WriteBegun,
    WriteChunk,
    Written,
)

MAX_OPEN_WRITES = 16
MAX_STEM_BYTES = 200
"""Of NAME in the name of a temporary file."""
CLOSE_SECONDS = 1.0
"""How long the end of a session waits for a write inside a system call."""
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)
"""open(2): file systems and kernels without it answer so."""


class OpenWrite:
    """One file on its way. `lock` is held by whoever uses the descriptor."""

    def __init__(self, place: Place, request: BeginWrite, proc: str) -> None:
        self.place = place
        self.replace = request.replace
        self.lock = threads.Lock()
        self.ended = False
        self.notes: list[str] = []
        self._proc = proc
        self._mode = request.mode
        self._end = 0
        self._temporary = b""
        """The name that it has meanwhile; empty for none."""
        self._fd = self._create()

    def _create(self) -> int:
        try:
            return os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=self.place.fd)
        except OSError as error:
            if error.errno not in _NO_TMPFILE:
                raise
        self._temporary = self._temporary_name()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self._temporary, flags, 0o600, dir_fd=self.place.fd)

    def _temporary_name(self) -> bytes:
        digits = binascii.hexlify(os.urandom(4))
        return b"." + self.place.name[:MAX_STEM_BYTES] + b".kdebug-" + digits

    def write(self, request: WriteChunk) -> Written:
        import hashlib

        if hashlib.sha256(request.data).hexdigest() != request.sha256:
            raise Failed(
                f"{len(request.data)} bytes for {self.place.path} arrived damaged", why="wrong SHA-256"
            )
        view, position = memoryview(request.data), request.offset
        while view:
            count = os.pwrite(self._fd, view, position)
            view, position = view[count:], position + count
        self._end = max(self._end, position)
        return Written(len(request.data))

    def commit(self, request: CommitWrite) -> Changed:
        if request.size_bytes < self._end:
            raise UsageError(
                f"{self._end} bytes were written, and {request.size_bytes} are to be the whole"
            )
        os.ftruncate(self._fd, request.size_bytes)
        self._dress(request.mtime_ns)
        if request.durable:
            os.fsync(self._fd)
        there = self.place.look()
        self._check_name(there, request.expect)
        self._name(there)
        if request.durable:
            self.place.sync()
        status = os.fstat(self._fd)
        return Changed(
            self.place.path,
            entry_from(path_text(self.place.name), status),
            notes=tuple(self.notes),
        )

    def _dress(self, mtime_ns: Optional[int]) -> None:
        """Owner before mode: chown(2) clears set-id bits."""
        mode, before = self._mode, self.place.status
        if before is not None and stat.S_ISREG(before.st_mode):
            mode = stat.S_IMODE(before.st_mode)
            self._keep_owner(before)
            if before.st_nlink > 1:
                self.notes.append(f"{before.st_nlink - 1} other hard links still have the old contents")
        os.fchmod(self._fd, mode)
        if mtime_ns is not None:
            os.utime(self._fd, ns=(mtime_ns, mtime_ns))

    def _keep_owner(self, before: os.stat_result) -> None:
        now = os.fstat(self._fd)
        if (now.st_uid, now.st_gid) == (before.st_uid, before.st_gid):
            return
        try:
            os.fchown(self._fd, before.st_uid, before.st_gid)
        except PermissionError:
            try:
                os.fchown(self._fd, -1, before.st_gid)
            except PermissionError:
                pass
            now = os.fstat(self._fd)
            self.notes.append(
                f"its owner is now {now.st_uid}:{now.st_gid}: only root with CHOWN could keep "
                f"{before.st_uid}:{before.st_gid}"
            )

    def _check_name(self, there: Optional[os.stat_result], expect: Optional[FileVersion]) -> None:
        if expect is not None and (there is None or not self._as_expected(there, expect)):
            raise Failed(f"{self.place.path} was changed meanwhile", why="it was not replaced")
        if there is not None:
            check_replaceable(self.place.path, there, self.replace)

    def _as_expected(self, there: os.stat_result, expect: FileVersion) -> bool:
        now = (there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns)
        if now != (expect.device, expect.inode, expect.size_bytes, expect.mtime_ns):
            return False
        return not expect.sha256 or self._digest_of_name() == expect.sha256

    def _digest_of_name(self) -> str:
        import hashlib

        digest = hashlib.sha256()
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(self.place.name, flags, dir_fd=self.place.fd)
        try:
            while piece := os.read(fd, 1 << 20):
                digest.update(piece)
        finally:
            os.close(fd)
        return digest.hexdigest()

    def _name(self, there: Optional[os.stat_result]) -> None:
        """rename(2) replaces at once; link(2) gives a new name only where there is none."""
        name, fd = self.place.name, self.place.fd
        if (there is None or not self.replace) and self._link(name):
            self._remove_temporary()
            return
        if not self._temporary:
            temporary = self._temporary_name()
            if not self._link(temporary):
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            self._temporary = temporary
        os.rename(self._temporary, name, src_dir_fd=fd, dst_dir_fd=fd)
        self._temporary = b""

    def _link(self, name: bytes) -> bool:
        """Whether it has `name` now; False where the file system has no links."""
        fd = self.place.fd
        try:
            if self._temporary:
                os.link(self._temporary, name, src_dir_fd=fd, dst_dir_fd=fd, follow_symlinks=False)
            else:
                # open(2): how a nameless file gets a name without a capability.
                os.link(f"{self._proc}/self/fd/{self._fd}", name, dst_dir_fd=fd, follow_symlinks=True)
        except FileExistsError:
            raise already(self.place.path) from None
        except OSError as error:
            if self._temporary and error.errno in (
                errno.EPERM,
                errno.EOPNOTSUPP,
                errno.ENOSYS,
                errno.EMLINK,
            ):
                return False
            raise
        return True

    def _remove_temporary(self) -> None:
        name, self._temporary = self._temporary, b""
        if name:
            try:
                os.unlink(name, dir_fd=self.place.fd)
            except OSError:
                pass  # somebody was quicker, or took the right away: nothing more can be done

    def end(self, *, sure: bool = True) -> None:
        """Nothing is left of it unless it was committed. Not `sure`: somebody may be inside the descriptor,
        which then stays open."""
        if self.ended:
            return
        self.ended = True
        self._remove_temporary()
        if sure:
            os.close(self._fd)
            self.place.close()


def already(path: str) -> KdebugError:
    return Failed(f"{path} exists in the target", next_step="-f replaces it", errno=errno.EEXIST)


def check_replaceable(path: str, status: os.stat_result, replace: bool) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise Failed(f"{path} is a directory", errno=errno.EISDIR)
    if not replace:
        raise already(path)
    if not stat.S_ISREG(status.st_mode):
        raise Failed(f"{path} is {word(status)}", why="only regular files are replaced")


class Writes:
    """The files that one session is writing, by handle. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threads.Lock()
        self._numbers = itertools.count(1)
        self._open: dict[str, OpenWrite] = {}
        self._closed = False

    def begin(self, root: Root, request: BeginWrite, proc: str) -> WriteBegun:
        place = find(root, request.path, follow=True)
        try:
            if place.status is not None:
                check_replaceable(place.path, place.status, request.replace)
            try:
                write = OpenWrite(place, request, proc)
            except OSError as error:
                raise place.explained(error, "cannot be written") from error
        except BaseException:
            place.close()
            raise
        with self._lock:
            full = len(self._open) >= MAX_OPEN_WRITES
            if not full and not self._closed:
                handle = f"w{next(self._numbers)}"
                self._open[handle] = write
                before = place.status
                replaces = entry_from(path_text(place.name), before) if before is not None else None
                return WriteBegun(place.path, handle, replaces)
        write.end()
        raise Failed(
            f"more than {MAX_OPEN_WRITES} files are being written" if full else "the session has ended"
        )

    def write(self, request: WriteChunk) -> Written:
        write = self._get(request.handle)
        with write.lock:
            self._check(write)
            try:
                return write.write(request)
            except OSError as error:
                raise write.place.explained(error, "cannot be written") from error

    def commit(self, request: CommitWrite) -> Changed:
        """Whatever comes of it, the handle is gone afterwards."""
        write = self._take(request.handle)
        with write.lock:
            self._check(write)
            try:
                return write.commit(request)
            except OSError as error:
                raise write.place.explained(error, "cannot be written") from error
            finally:
                write.end()

    def abort(self, handle: str) -> Changed:
        write = self._take(handle)
        path = write.place.path
        with write.lock:
            write.end()
        return Changed(path, changed=0)

    def _get(self, handle: str) -> OpenWrite:
        with self._lock:
            write = self._open.get(handle)
        if write is None:
            raise UsageError(f"{handle!r} is no file that is being written")
        return write

    def _take(self, handle: str) -> OpenWrite:
        write = self._get(handle)
        with self._lock:
            self._open.pop(handle, None)
        return write

    @staticmethod
    def _check(write: OpenWrite) -> None:
        if write.ended:
            raise Failed(f"the write of {write.place.path} was given up")

    def close(self) -> None:
        with self._lock:
            self._closed = True
            writes = list(self._open.values())
            self._open.clear()
        for write in writes:
            # A dead network file system may hold the lock for ever; the name goes all the same.
            held = write.lock.acquire(timeout=CLOSE_SECONDS)
            try:
                write.end(sure=held)
            finally:
                if held:
                    write.lock.release()
