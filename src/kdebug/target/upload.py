"""Into the target: written beside its name by the agent, verified, renamed when it is whole."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import stat
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kdebug.errors import ConnectionLost, Failed, KdebugError, NotFound, from_os_error
from kdebug.protocol.writes import (
    AbortWrite,
    BeginWrite,
    Changed,
    CommitWrite,
    FileVersion,
    MakeDir,
    MakeSymlink,
    SetTimes,
    WriteChunk,
)
from kdebug.target.download import threaded
from kdebug.target.landing import final_mode
from kdebug.target.target import Target
from kdebug.target.transfer import (
    Budget,
    CapReached,
    Progress,
    TransferOptions,
    TransferReport,
    Watcher,
)

PIECE_BYTES = 512 * 1024
WRITES_AHEAD = 4
WORKERS = 4
"""Small files in work at once."""
ABORT_SECONDS = 5.0
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What one file of a tree meets, all others will."""


@dataclass
class Local:
    """A local directory that is being copied, with what waits for its end."""

    path: bytes
    remote: str
    status: os.stat_result
    files: list[tuple[bytes, str]] = field(default_factory=list)
    existed: bool = False
    """In the target: its mode and time are not ours to change."""


class Upload:
    """One run. The report is filled as it goes."""

    def __init__(
        self, target: Target, options: TransferOptions, progress: Watcher, report: TransferReport
    ) -> None:
        self._target, self._options, self._progress = target, options, progress
        self.report = report
        self._budget = Budget(options)
        self._total: int | None = None
        self._done_bytes = 0

    async def run(self, sources: Sequence[str], destination: str) -> TransferReport:
        into = await self._is_directory(destination)
        if len(sources) > 1 and not into:
            raise Failed(
                f"{destination} is not a directory of the target", why="several files cannot be one"
            )
        single = len(sources) == 1
        try:
            for source in sources:
                await self._source(source, destination, into, single)
        except CapReached as cap:
            self.report.capped = str(cap)
        return self.report

    async def _is_directory(self, path: str) -> bool:
        try:
            return (await self._target.stat(path, follow=True)).entry.kind == "dir"
        except NotFound:
            return False

    async def _source(self, source: str, destination: str, into: bool, single: bool) -> None:
        local = os.fsencode(source)
        try:
            status = os.stat(local)
        except OSError as error:
            raise from_os_error(error, f"the local file {source} cannot be read") from error
        remote = destination
        if into:
            name = _text(os.path.basename(local.rstrip(b"/")))
            remote = destination if name in ("", ".", "..") else f"{destination.rstrip('/')}/{name}"
        if stat.S_ISDIR(status.st_mode):
            if not self._options.recursive:
                self.report.failed.add(f"{source} is a directory; -r copies it")
                return
            await self._tree(local, remote, status)
            return
        if destination.endswith("/") and not into:
            raise NotFound(f"the directory {destination} does not exist in the target")
        self._budget.entry()
        self._total = status.st_size if single else None
        try:
            digest = await self._file(local, remote, durable=True)
            self.report.sha256 = digest if single else ""
        except KdebugError as error:
            if single or _ends_all(error):
                raise
            self.report.failed.add(str(error))

    async def _tree(self, top: bytes, remote: str, status: os.stat_result) -> None:
        """Directory after directory, the files of each by a few workers; a directory's mode and time come
        last, for both would be in the way."""
        waiting, done = [Local(top, remote, status)], []
        while waiting:
            folder = waiting.pop()
            self._budget.entry()
            if not await self._make(folder):
                continue
            done.append(folder)
            waiting += await self._list(folder)
            await self._files(folder)
        for folder in reversed(done):
            await self._finish(folder)

    async def _make(self, folder: Local) -> bool:
        try:
            await self._target.backend.send(MakeDir(folder.remote, 0o700, False))
        except KdebugError as error:
            if error.errno != errno.EEXIST or not await self._is_directory(folder.remote):
                if _ends_all(error) or not self.report.directories:
                    raise
                self.report.failed.add(str(error))
                return False
            folder.existed = True
        self.report.directories += 1
        return True

    async def _list(self, folder: Local) -> list[Local]:
        below: list[Local] = []
        try:
            with os.scandir(folder.path) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self.report.failed.add(str(from_os_error(error, f"{_text(folder.path)} cannot be read")))
            return below
        for entry in found:
            remote = f"{folder.remote.rstrip('/')}/{_text(entry.name)}"
            await self._listed(folder, entry, remote, below)
        return below

    async def _listed(
        self, folder: Local, entry: os.DirEntry[bytes], remote: str, below: list[Local]
    ) -> None:
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            below.append(Local(entry.path, remote, status))
            return
        self._budget.entry()
        if stat.S_ISREG(status.st_mode):
            folder.files.append((entry.path, remote))
        elif not stat.S_ISLNK(status.st_mode):
            self.report.skipped.add(f"{_text(entry.path)} is no regular file")
        elif not self._options.links:
            self.report.skipped.add(f"{_text(entry.path)} is a symlink to {_text(os.readlink(entry.path))}")
        else:
            await self._link(_text(os.readlink(entry.path)), remote)

    async def _link(self, text: str, remote: str) -> None:
        try:
            await self._target.backend.send(MakeSymlink(remote, text, self._options.overwrite))
            self.report.links += 1
        except KdebugError as error:
            if _ends_all(error):
                raise
            self.report.failed.add(str(error))

    async def _files(self, folder: Local) -> None:
        waiting = deque(folder.files)
        folder.files = []

        async def work() -> None:
            while waiting:
                local, remote = waiting.popleft()
                try:
                    # The directory is made durable at its end, with all its names.
                    await self._file(local, remote, durable=False)
                except KdebugError as error:
                    if _ends_all(error):
                        raise
                    self.report.failed.add(str(error))

        workers = [
            asyncio.create_task(work(), name="kdebug-copy") for _ in range(min(WORKERS, len(waiting)))
        ]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _finish(self, folder: Local) -> None:
        status = folder.status
        if folder.existed:
            return
        mode = final_mode(stat.S_IMODE(status.st_mode), self._options.special_bits)
        try:
            await self._target.backend.send(SetTimes(folder.remote, status.st_mtime_ns, mode, True))
        except KdebugError as error:
            if _ends_all(error):
                raise
            self.report.failed.add(str(error))

    async def _file(self, local: bytes, remote: str, durable: bool) -> str:
        """Copy one file; its SHA-256."""
        shown = _text(local)
        try:
            fd = os.open(local, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise from_os_error(error, f"the local file {shown} cannot be read") from error
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise Failed(f"the local {shown} is no regular file")
            self._budget.check(min(status.st_size, status.st_blocks * 512 or status.st_size))
            mode = final_mode(stat.S_IMODE(status.st_mode), self._options.special_bits)
            sender = Sender(self._target, remote, 0o600 if mode is None else mode, self._options.overwrite)
            changed = await sender.send(fd, status, self._tell, durable=durable)
        except OSError as error:
            raise from_os_error(error, f"the local file {shown} cannot be read") from error
        finally:
            os.close(fd)
        now = sender.last_status
        if now is not None and (now.st_mtime_ns, now.st_size) != (status.st_mtime_ns, status.st_size):
            self.report.failed.add(f"{shown} changed while it was read: the copy may mix old and new")
        for line in changed.notes:
            self.report.notes.add(f"{changed.path}: {line}")
        self.report.files += 1
        self.report.verified_files += 1
        self.report.bytes += status.st_size
        return sender.sha256

    def _tell(self, path: str, data_bytes: int, all_bytes: int) -> None:
        self._budget.data(data_bytes)
        self.report.data_bytes += data_bytes
        self.report.travelled_bytes += data_bytes
        self._done_bytes += all_bytes
        self._progress(Progress(path, self._done_bytes, self._total, self.report.files))


Tell = Callable[[str, int, int], None]
"""(path, bytes of data, bytes with holes) were read and are on their way."""


class Sender:
    """One open local file on its way to one path of the target."""

    def __init__(self, target: Target, path: str, mode: int, replace: bool) -> None:
        self._target, self._path, self._mode, self._replace = target, path, mode, replace
        self._hash = hashlib.sha256()
        self.last_status: os.stat_result | None = None

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    async def send(
        self,
        fd: int,
        status: os.stat_result,
        tell: Tell,
        *,
        durable: bool = True,
        keep_time: bool = True,
        expect: FileVersion | None = None,
    ) -> Changed:
        """Raises what the agent refuses; nothing is left of it then."""
        backend = self._target.backend
        begun = await backend.send(BeginWrite(self._path, self._mode, self._replace))
        try:
            size = await self._pieces(fd, begun.handle, status.st_size, tell)
            self.last_status = os.fstat(fd)
            mtime = status.st_mtime_ns if keep_time else None
            return await backend.send(CommitWrite(begun.handle, size, mtime, expect, durable))
        except BaseException as error:
            if not isinstance(error, ConnectionLost):
                await self._abort(begun.handle)
            raise

    async def _abort(self, handle: str) -> None:
        """Also when we are cancelled: the agent would keep it until the session ends."""
        task = asyncio.ensure_future(self._target.backend.send(AbortWrite(handle)))
        await asyncio.wait({task}, timeout=ABORT_SECONDS)
        if not task.done():
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _pieces(self, fd: int, handle: str, end: int, tell: Tell) -> int:
        """Every run of data, a few pieces ahead; the size that the file really had."""
        flying: deque[asyncio.Task[int]] = deque()
        offset = 0
        try:
            while offset < end:
                start, stop = _data_run(fd, offset, end)
                if start > offset:
                    await threaded(self._hash_zeros, start - offset)
                    tell(self._path, 0, start - offset)
                    offset = start
                    continue
                data, digest = await threaded(self._read, fd, offset, min(PIECE_BYTES, stop - offset))
                if not data:
                    raise Failed(
                        f"the local file became shorter while it was read, at {offset} of {end} bytes"
                    )
                tell(self._path, len(data), len(data))
                chunk = WriteChunk(handle, offset, len(data), digest, data)
                flying.append(asyncio.create_task(self._write(chunk)))
                offset += len(data)
                if len(flying) == WRITES_AHEAD:
                    await flying.popleft()
            while flying:
                await flying.popleft()
        finally:
            for task in flying:
                task.cancel()
            await asyncio.gather(*flying, return_exceptions=True)
        return end

    async def _write(self, chunk: WriteChunk) -> int:
        return (await self._target.backend.send(chunk)).written_bytes

    def _read(self, fd: int, offset: int, size: int) -> tuple[bytes, str]:
        data = os.pread(fd, size, offset)
        self._hash.update(data)
        return data, hashlib.sha256(data).hexdigest()

    def _hash_zeros(self, count: int) -> None:
        zeros = bytes(min(count, 1 << 20))
        while count > 0:
            self._hash.update(zeros[:count])
            count -= len(zeros)


def _data_run(fd: int, offset: int, end: int) -> tuple[int, int]:
    """The next data at or after `offset` as (start, stop); (end, end) where only a hole is left."""
    try:
        start = os.lseek(fd, offset, os.SEEK_DATA)
        return min(start, end), min(os.lseek(fd, start, os.SEEK_HOLE), end)
    except (OSError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENXIO:
            return end, end
        return offset, end


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _ends_all(error: KdebugError) -> bool:
    return isinstance(error, (ConnectionLost, CapReached)) or error.errno in NO_ROOM
