"""Directories, facts and contents of files, on top of `Root`."""

from __future__ import annotations

import errno
import itertools
import os
import stat
import time

from kdebug import threads
from kdebug.annotations import TYPE_CHECKING, Iterator, Optional, Protocol
from kdebug.errors import Failed, KdebugError, NotFound, from_os_error
from kdebug.probe.rooted import Root, kind_of
from kdebug.probe.rooted_walk import path_text
from kdebug.protocol.files import Entry, FileChunk, FileStat
from kdebug.protocol.requests import FollowFile, ReadFile

if TYPE_CHECKING:
    from kdebug.probe.packing import Chain
    from kdebug.protocol.transfer import DigestRange, RangeDigest

MAX_OPEN_FILES = 16
"""Descriptors kept for readers that come back; the one unused for longest goes first."""
REMEMBERED = 64
"""Bytes before the place where a follower stands: a file that was emptied and filled again has others."""
POLL_SECONDS = 0.1
"""inotify would need a watch on every directory on the way and misses network file systems."""


class Place(Protocol):
    """Where paths are looked up: a `Root`, or the files that processes hold (held.py)."""

    def open(self, path: str, flags: int, *, follow: bool = True) -> int: ...

    def stat(self, path: str, follow: bool = True) -> os.stat_result: ...

    def readlink(self, path: str) -> str: ...

    def resolved(self, path: str) -> Optional[str]: ...


def iter_dir(root: Root, path: str) -> Iterator[Entry]:
    """Every entry in the kernel's order, lazily; the descriptor closes with the generator.

    An entry that vanishes before it is examined is left out; one that may not be examined stays, with
    kind "unknown" and the reason.
    """
    fd = root.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.scandir(fd) as names:
            for name in names:
                # scandir of a descriptor gives names in the locale's encoding.
                entry = examine(os.fsencode(name.name), fd)
                if entry is not None:
                    yield entry
    except OSError as error:
        raise from_os_error(error, f"the directory {path} cannot be read to its end") from error
    finally:
        os.close(fd)


def examine(raw: bytes, dir_fd: int) -> Optional[Entry]:
    """lstat of one name below a directory; None when it is not there any more."""
    name = path_text(raw)
    try:
        status = os.stat(raw, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Entry(name, "unknown", error=error.strerror or str(error))
    link, problem = None, None
    if stat.S_ISLNK(status.st_mode):
        try:
            link = path_text(os.readlink(raw, dir_fd=dir_fd))
        except OSError as error:
            problem = error.strerror
    return entry_from(name, status, link, problem)


def entry_from(
    name: str, status: os.stat_result, link: Optional[str] = None, error: Optional[str] = None
) -> Entry:
    """A stat result as a record."""
    kind = kind_of(status.st_mode)
    device = status.st_rdev
    return Entry(
        name=name,
        kind=kind,
        size_bytes=status.st_size,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        inode=status.st_ino,
        device=status.st_dev,
        links=status.st_nlink,
        allocated_bytes=status.st_blocks * 512,
        link_target=link,
        device_number=f"{os.major(device)}:{os.minor(device)}" if kind in ("char", "block") else None,
        error=error,
    )


def stat_path(root: Place, path: str, follow: bool) -> FileStat:
    """What stat(2), or lstat(2) without `follow`, says inside the root."""
    status = root.stat(path, follow)
    link = root.readlink(path) if stat.S_ISLNK(status.st_mode) else None
    name = path.rstrip("/").rpartition("/")[2] or "/"
    return FileStat(path, entry_from(name, status, link), root.resolved(path))


class OpenFile:
    """A descriptor that a reader comes back to."""

    def __init__(self, fd: int, handle: str) -> None:
        self.fd = fd
        self.handle = handle
        self.users = 0
        self.dropped = False
        self.chain: Optional[Chain] = None
        """The running digest of a download."""
        self.last = b""
        self.last_end = -1
        """The last bytes that were read, and where they end."""

    def remember(self, chunk: FileChunk) -> FileChunk:
        if chunk.data:
            self.last, self.last_end = chunk.data[-REMEMBERED:], chunk.offset + len(chunk.data)
        return chunk

    def rewritten(self, offset: int) -> bool:
        """Whether other bytes than those read stand before `offset` now."""
        if offset != self.last_end:
            return False
        return os.pread(self.fd, len(self.last), offset - len(self.last)) != self.last


class OpenFiles:
    """Files that are being read, by handle: "device:inode:serial" in hex. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threads.Lock()
        self._serials = itertools.count(1)
        self._files: dict[str, OpenFile] = {}
        self._closed = False

    def read(self, root: Place, request: ReadFile) -> FileChunk:
        """At most `size` bytes from `offset`; holes are counted in `hole_bytes`, never read."""
        file = self._acquire(root, request.path, request.handle)
        try:
            chunk = file.remember(read_chunk(file, request.path, request.offset, request.size))
        except OSError as error:
            raise _read_error(error, request.path) from error
        finally:
            self._release(file)
        if chunk.data and (request.digest or request.compress):
            from kdebug.probe import packing

            if request.digest and request.offset == 0 and file.chain is None:
                file.chain = packing.Chain()
            return packing.packed(chunk, file.chain, request.digest, request.compress)
        return chunk

    def digest(self, root: Place, request: DigestRange, cancelled: threads.Event) -> RangeDigest:
        """SHA-256 of a range as it is now, holes as zeros."""
        from kdebug.probe import packing

        file = self._acquire(root, request.path, request.handle)
        try:
            return packing.range_digest(file.fd, request, cancelled)
        except OSError as error:
            raise _read_error(error, request.path) from error
        finally:
            self._release(file)

    def follow(self, root: Place, request: FollowFile, cancelled: threads.Event) -> FileChunk:
        """Wait for bytes past `offset`, a shorter file, or another file under the name.

        When the name leads elsewhere, to a file that has something in it already, the old one is read to
        its end first; only then `rotated` is said, with the handle of the new file, open by then: so no
        line is lost, also of a writer that learns of the rotation late.
        """
        file = self._acquire(root, request.path, request.handle)
        deadline = time.monotonic() + request.wait_seconds
        try:
            while True:
                # Looked at before reading: whatever the writer added before it renamed is then seen.
                by_name = request.by_name and bool(request.handle)
                moved = by_name and _leads_elsewhere(root, request.path, file.fd)
                chunk = self._news(file, request, moved)
                if chunk is not None and chunk.rotated:
                    return self._next_file(root, request.path, chunk)
                if chunk is not None:
                    return file.remember(chunk)
                left = deadline - time.monotonic()
                if left <= 0 or cancelled.wait(min(POLL_SECONDS, left)):
                    return file.remember(read_chunk(file, request.path, request.offset, request.size))
        except OSError as error:
            raise _read_error(error, request.path) from error
        finally:
            self._release(file)

    @staticmethod
    def _news(file: OpenFile, request: FollowFile, moved: bool) -> Optional[FileChunk]:
        status = os.fstat(file.fd)
        if status.st_size < request.offset or file.rewritten(request.offset):
            return _chunk(file, status, request.path, 0, b"", eof=status.st_size == 0, shrunk=True)
        chunk = read_chunk(file, request.path, request.offset, request.size)
        if chunk.data or chunk.hole_bytes:
            return chunk
        if moved:
            return _chunk(file, status, request.path, request.offset, b"", eof=True, rotated=True)
        return None

    def _next_file(self, root: Place, path: str, last: FileChunk) -> FileChunk:
        """Open what has the name now, before it can be rotated again."""
        try:
            file = self._open(root, path, "")
        except KdebugError:
            return FileChunk(**vars(last) | {"handle": ""})  # its reader is told at the next request
        self._release(file)
        return FileChunk(**vars(last) | {"handle": file.handle})

    def _acquire(self, root: Place, path: str, handle: str) -> OpenFile:
        with self._lock:
            file = self._files.get(handle)
            if file is not None:
                self._files[handle] = self._files.pop(handle)
                file.users += 1
                return file
        return self._open(root, path, handle)

    def _open(self, root: Place, path: str, handle: str) -> OpenFile:
        fd = root.open(path, os.O_RDONLY)
        status = os.fstat(fd)
        identity = f"{status.st_dev:x}:{status.st_ino:x}"
        if stat.S_ISDIR(status.st_mode):
            os.close(fd)
            raise Failed(f"{path} is a directory", errno=errno.EISDIR)
        if handle and handle.rpartition(":")[0] != identity:
            os.close(fd)
            raise Failed(
                f"{path} was replaced while it was read", next_step="read it again from its beginning"
            )
        with self._lock:
            file = OpenFile(fd, handle or f"{identity}:{next(self._serials):x}")
            file.users = 1
            if self._closed:
                # Another target was opened meanwhile: nobody comes back with this handle.
                file.dropped = True
                return file
            twin = self._files.pop(file.handle, None)
            if twin is not None:
                self._drop(twin)
            self._files[file.handle] = file
            while len(self._files) > MAX_OPEN_FILES:
                self._drop(self._files.pop(next(iter(self._files))))
        return file

    def _release(self, file: OpenFile) -> None:
        with self._lock:
            file.users -= 1
            if file.dropped and file.users == 0:
                os.close(file.fd)

    @staticmethod
    def _drop(file: OpenFile) -> None:
        """Close now, or when the last reader is done."""
        file.dropped = True
        if file.users == 0:
            os.close(file.fd)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for file in self._files.values():
                self._drop(file)
            self._files.clear()


def read_chunk(file: OpenFile, path: str, offset: int, size: int) -> FileChunk:
    """One piece; `OSError` as pread(2) and lseek(2) raise it."""
    status = os.fstat(file.fd)
    start, end = _data_range(file.fd, status, offset)
    if start > offset:
        hole = min(start, status.st_size) - offset
        eof = offset + hole >= status.st_size
        return _chunk(file, status, path, offset, b"", eof=eof, hole_bytes=hole)
    data = os.pread(file.fd, min(size, end - offset) if end > offset else size, offset)
    position = offset + len(data)
    hole, at_end = 0, False
    if not data:
        at_end = True
    elif position == end and status.st_size > end:
        following, _ = _data_range(file.fd, status, position)
        hole = min(following, status.st_size) - position
    # A file that says no size (procfs) ends where a read finds nothing.
    eof = at_end or (0 < status.st_size <= position + hole)
    return _chunk(file, status, path, offset, data, eof=eof, hole_bytes=hole)


def _data_range(fd: int, status: os.stat_result, offset: int) -> tuple[int, int]:
    """The next run of data at or after `offset`, as (start, end); end 0 when it is not known.

    lseek(2): SEEK_DATA past the last data is ENXIO: the rest of the file is a hole.
    """
    sparse = status.st_blocks * 512 < status.st_size
    if not sparse or offset >= status.st_size or not stat.S_ISREG(status.st_mode):
        return offset, 0
    try:
        start = os.lseek(fd, offset, os.SEEK_DATA)
        return start, os.lseek(fd, start, os.SEEK_HOLE)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return status.st_size, status.st_size
        return offset, 0  # the file system has no notion of holes: read them


def _chunk(
    file: OpenFile,
    status: os.stat_result,
    path: str,
    offset: int,
    data: bytes,
    *,
    eof: bool,
    hole_bytes: int = 0,
    rotated: bool = False,
    shrunk: bool = False,
) -> FileChunk:
    return FileChunk(
        path=path,
        offset=offset,
        size_bytes=status.st_size,
        eof=eof,
        inode=status.st_ino,
        device=status.st_dev,
        mtime_ns=status.st_mtime_ns,
        handle=file.handle,
        hole_bytes=hole_bytes,
        rotated=rotated,
        shrunk=shrunk,
        data=data,
    )


def _leads_elsewhere(root: Place, path: str, fd: int) -> bool:
    """Whether the name now stands for another file with something in it. A name that is gone, or stands for
    an empty file, is not yet a rotation: the old one may still be written to."""
    try:
        now = root.stat(path)
    except (NotFound, Failed):
        return False
    except KdebugError:
        return False
    then = os.fstat(fd)
    return now.st_size > 0 and (now.st_dev, now.st_ino) != (then.st_dev, then.st_ino)


def _read_error(error: OSError, path: str) -> KdebugError:
    if error.errno == errno.EIO:
        return Failed(f"{path} cannot be read", why="Input/output error", errno=error.errno)
    if error.errno == errno.EAGAIN:
        return Failed(
            f"{path} has nothing to read now", why="reading it would wait for an event", errno=error.errno
        )
    return from_os_error(error, f"{path} cannot be read")
