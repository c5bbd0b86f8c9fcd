"""Out of the target: files, directories by descriptor, globs; resumed, verified, within caps."""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from kdebug.errors import (
    ConnectionLost,
    DeadlinePassed,
    Failed,
    KdebugError,
    NotFound,
    UsageError,
)
from kdebug.protocol.files import Entry, FileChunk
from kdebug.protocol.requests import MAX_CHUNK, ListDir
from kdebug.protocol.transfer import DigestRange
from kdebug.target.landing import (
    FULL,
    Landing,
    LandingFailed,
    Part,
    Twice,
    Version,
    final_mode,
    landing_error,
    link_refusal,
    refusal,
)
from kdebug.target.reader import Packing, Reader
from kdebug.target.target import Target
from kdebug.target.transfer import (
    MAX_DEPTH,
    Budget,
    CapReached,
    Progress,
    TransferOptions,
    TransferReport,
    Watcher,
)

T = TypeVar("T")

WORKERS = 6
"""Entries in work at once: the agent reads on two threads, and the link has a round trip to hide."""
SEGMENT_BYTES = 16 * MAX_CHUNK
"""A part is compared in such segments; the first that differs is where reading starts again."""
SMALL_BYTES = 64 * 1024
"""Less is hashed and written at once: handing it to a thread would take longer."""
QUICK_SECONDS, WARY_PIECES = 0.02, 64
"""Larger pieces are, too, as long as none takes longer: handing them over takes a sixth of a copy's time.
Where the disk made us wait, so many pieces go to a thread, and everything else goes on meanwhile."""
MAX_HASHED_HOLES = 1024**3
"""A file with more holes gets no digest as a whole: a hostile size must not cost hours of hashing zeros.
Its pieces are verified all the same."""
GLOB = "*?["


class Replaced(Failed):
    """The name leads to another version of the file than was listed."""


@dataclass
class Folder:
    """A directory that is being copied: open until the last of its entries is done."""

    path: str
    landing: Landing
    entry: Entry | None
    """None for one that was there before: its mode and time stay."""
    parent: Folder | None
    pending: int = 1


Job = tuple[Folder, Entry | None]
"""An entry of a folder, or with None the folder itself, to be listed."""


class Download:
    """One run. The report is filled as it goes."""

    def __init__(
        self, target: Target, options: TransferOptions, progress: Watcher, report: TransferReport
    ) -> None:
        self._target, self._options, self._progress = target, options, progress
        self.report = report
        self._budget = Budget(options)
        self._packing = Packing(options.compress)
        self._jobs: list[Job] = []
        self._active = 0
        self._changed = asyncio.Condition()
        self._total: int | None = None
        self._done_bytes = 0
        self.wary = 0
        """So many pieces are written in a thread, since the disk has made us wait."""

    async def run(self, sources: Sequence[str], destination: str) -> TransferReport:
        found = [source async for source in self._expanded(sources)]
        into, landing, name = self._destination(found, destination)
        single = len(found) == 1 and found[0][1].kind == "file"
        self._total = found[0][1].size_bytes if single else None
        try:
            for path, entry in found:
                here = _base(path) if into else name
                await self._source(landing, here, path, entry, single)
        except CapReached as cap:
            self.report.capped = str(cap)
        finally:
            landing.close()
        return self.report

    async def _expanded(self, sources: Sequence[str]) -> AsyncIterator[tuple[str, Entry]]:
        for source in sources:
            try:
                yield source, (await self._target.stat(source, follow=True)).entry
                continue
            except NotFound:
                if not any(mark in source for mark in GLOB):
                    raise
            matched = False
            async for path in self._matches("/", [part for part in source.split("/") if part]):
                try:
                    entry = (await self._target.stat(path, follow=True)).entry
                except KdebugError as error:
                    self.report.failed.add(str(error))
                    matched = True
                    continue
                matched = True
                yield path, entry
            if not matched:
                raise NotFound(f"nothing in the target matches {source}")

    async def _matches(self, folder: str, parts: list[str]) -> AsyncIterator[str]:
        """Paths that the pattern stands for, sorted below each directory."""
        part, rest = parts[0], parts[1:]
        if not any(mark in part for mark in GLOB):
            names = [part]
        else:
            names = await self._matching_names(folder, part)
        for name in names:
            path = f"{folder.rstrip('/')}/{name}"
            if not rest:
                yield path
                continue
            async for deeper in self._matches(path, rest):
                yield deeper

    async def _matching_names(self, folder: str, pattern: str) -> list[str]:
        names = []
        try:
            async for page in self._target.pages(ListDir(path=folder, limit=1000)):
                for entry in page.entries:
                    hidden = entry.name.startswith(".") and not pattern.startswith(".")
                    if not hidden and not refusal(entry.name) and fnmatch.fnmatchcase(entry.name, pattern):
                        names.append(entry.name)
                if len(names) > self._options.max_files:
                    raise CapReached(f"more than {self._options.max_files} names match {pattern}")
        except (NotFound, Failed) as error:
            if isinstance(error, CapReached) or error.exit_code not in (1, 4):
                raise
        return sorted(names)

    def _destination(
        self, found: Sequence[tuple[str, Entry]], destination: str
    ) -> tuple[bool, Landing, str]:
        """Whether names are kept below it, the open directory, and else the one name in it."""
        if not destination:
            raise UsageError("the local path is empty", next_step="write . for this directory")
        if os.path.isdir(destination):
            return True, Landing.at(destination), ""
        if len(found) > 1:
            raise Failed(f"{destination} is not a directory", why="several files cannot be one")
        folder, name = os.path.split(destination.rstrip("/"))
        if destination.endswith("/") and found[0][1].kind != "dir":
            raise NotFound(f"the local directory {destination} does not exist")
        reason = refusal(name)
        if reason:
            raise UsageError(f"{destination!r} cannot be written", why=reason)
        return False, Landing.at(folder), name

    async def _source(self, landing: Landing, name: str, path: str, entry: Entry, single: bool) -> None:
        if entry.kind == "dir":
            if not self._options.recursive:
                self.report.failed.add(f"{path} is a directory; -r copies it")
                return
            await self._tree(landing, name, path, entry)
            return
        self._budget.entry()
        if entry.kind != "file":
            self.report.failed.add(f"{path} is a {entry.kind}, which has no contents to copy")
            return
        reason = refusal(name)
        if reason:
            self.report.failed.add(f"the name of {path} cannot be used here: {reason}")
            return
        try:
            digest = await self._file(landing, name, path, entry, follow=True)
        except KdebugError as error:
            if single or _ends_all(error):
                raise
            self.report.failed.add(str(error))
            return
        if single:
            self.report.sha256 = digest

    async def _tree(self, landing: Landing, name: str, path: str, entry: Entry) -> None:
        """A directory and all below it, by a few workers, depth first: few directories are open at once."""
        if name:
            reason = refusal(name)
            if reason:
                raise UsageError(f"the name of {path} cannot be used here", why=reason)
            below, made = landing.folder(name)
        else:
            below, made = Landing(os.dup(landing.fd), landing.shown, landing.created), False
        while path.endswith(("/", "/.")) and path != "/":
            # The same file has the same path, and its part the same name, however the directory was named.
            path = path[: path.rindex("/")] or "/"
        # Links may point anywhere within what this copy makes, and no further.
        below.depth = 0
        self._budget.entry()
        self._jobs = [(Folder(path, below, entry if made else None, None), None)]
        self._active = 0
        workers = [asyncio.create_task(self._work(), name="kdebug-copy") for _ in range(WORKERS)]
        try:
            done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
            for worker in done:
                worker.result()
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            self._close_left()

    def _close_left(self) -> None:
        """After an early end: directories keep mode 0700, and no descriptor stays."""
        for folder, _ in self._jobs:
            one: Folder | None = folder
            while one is not None:
                one.landing.close()
                one = one.parent
        self._jobs = []

    async def _work(self) -> None:
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._jobs or not self._active)
                if not self._jobs:
                    return
                folder, entry = self._jobs.pop()
                self._active += 1
            try:
                if entry is None:
                    await self._list(folder)
                else:
                    await self._entry(folder, entry)
                self._leave(folder)
            except BaseException:
                self._jobs.append((folder, entry))  # so that its descriptors are closed
                raise
            finally:
                self._active -= 1
                async with self._changed:
                    self._changed.notify_all()

    def _leave(self, folder: Folder) -> None:
        """One entry less; the last closes the directory, and so on upwards."""
        one: Folder | None = folder
        while one is not None:
            one.pending -= 1
            if one.pending:
                return
            if one.entry is not None:
                one.landing.finish(
                    final_mode(one.entry.mode, self._options.special_bits), one.entry.mtime_ns
                )
            one.landing.close()
            one = one.parent

    async def _list(self, folder: Folder) -> None:
        self.report.directories += 1
        try:
            async for page in self._target.pages(ListDir(path=folder.path, limit=1000)):
                for entry in page.entries:
                    self._budget.entry()
                    self._listed(folder, entry)
                if page.truncated:
                    self.report.failed.add(f"{folder.path} was not listed to its end")
        except KdebugError as error:
            if _ends_all(error):
                raise
            self.report.failed.add(str(error))

    def _listed(self, folder: Folder, entry: Entry) -> None:
        path = f"{folder.path.rstrip('/')}/{entry.name}"
        reason = refusal(entry.name)
        if reason:
            self.report.failed.add(f"an entry of {folder.path} was refused, {entry.name!r}: {reason}")
        elif entry.kind in ("file", "dir"):
            folder.pending += 1
            self._jobs.append((folder, entry))
        elif entry.kind == "symlink":
            self._link(folder, entry, path)
        elif entry.kind == "unknown":
            self.report.failed.add(f"{path} could not be examined: {entry.error}")
        else:
            self.report.skipped.add(f"{path} is a {entry.kind}")

    def _link(self, folder: Folder, entry: Entry, path: str) -> None:
        text = entry.link_target
        if not self._options.links:
            self.report.skipped.add(f"{path} is a symlink to {text}")
            return
        reason = link_refusal(text or "", folder.landing.depth)
        if reason:
            self.report.failed.add(f"the symlink {path} -> {text} was not made: {reason}")
            return
        try:
            folder.landing.link(entry.name, text or "", self._options.overwrite)
            self.report.links += 1
        except KdebugError as error:
            if _ends_all(error):
                raise
            self.report.failed.add(str(error))

    async def _entry(self, folder: Folder, entry: Entry) -> None:
        path = f"{folder.path.rstrip('/')}/{entry.name}"
        try:
            if entry.kind == "dir":
                self._enter(folder, entry, path)
            else:
                await self._file(folder.landing, entry.name, path, entry)
        except KdebugError as error:
            if _ends_all(error):
                raise
            self.report.failed.add(str(error))

    def _enter(self, folder: Folder, entry: Entry, path: str) -> None:
        if folder.landing.depth >= MAX_DEPTH:
            raise Failed(f"{path} was not copied", why=f"it is deeper than {MAX_DEPTH} directories")
        if len(path.encode("utf-8", "surrogateescape")) >= 4095:
            raise Failed(f"{path} was not copied", why="its path is longer than Linux takes")
        below, made = folder.landing.folder(entry.name)
        folder.pending += 1
        self._jobs.append((Folder(path, below, entry if made else None, folder), None))

    async def _file(
        self, landing: Landing, name: str, path: str, entry: Entry, follow: bool = False
    ) -> str:
        """Copy one file; its SHA-256, "" where it was too sparse for one as a whole."""
        if not follow and await self._is_there(landing, name, path, entry):
            return ""
        landing.check_free(name, self._options.overwrite)
        try:
            return await _FileCopy(self, landing, name, path, entry).run()
        except Replaced:
            # As when a configuration is renamed into place: the one that is there now, once.
            again = (await self._target.stat(path, follow=follow)).entry
            if again.kind != "file":
                raise
            return await _FileCopy(self, landing, name, path, again).run()

    async def _is_there(self, landing: Landing, name: str, path: str, entry: Entry) -> bool:
        """Whether an earlier run has copied this file of a directory: then it is compared, not fetched."""
        fd = landing.unchanged(name, entry)
        if fd < 0:
            return False
        size = entry.size_bytes or 0
        try:
            sparse = os.fstat(fd).st_blocks * 512 + MAX_HASHED_HOLES < size
            if sparse or await self.equal_bytes(fd, path, size) < size:
                return False
            # Files of /proc say 0 and hold something.
            if not size and (await self._target.backend.send(DigestRange(path, 0, 1))).digested_bytes:
                return False
            mode = final_mode(entry.mode, self._options.special_bits)
            if self._options.overwrite and mode is not None:
                with contextlib.suppress(OSError):
                    os.fchmod(fd, mode)
        finally:
            os.close(fd)
        self.report.unchanged += 1
        self.report.resumed_bytes += size
        self.tell(path, size)
        return True

    async def equal_bytes(self, fd: int, path: str, size: int) -> int:
        """How much of a local file is in the target as well, to whole segments, by digests of both."""
        position = 0
        while position < size:
            length = min(SEGMENT_BYTES, size - position)
            answer, mine = await asyncio.gather(
                self._target.backend.send(DigestRange(path, position, length)),
                threaded(_hash_range, fd, position, length),
            )
            if (answer.digested_bytes, answer.sha256) != (length, mine):
                break
            position += length
        return position

    def tell(self, path: str, more: int) -> None:
        self._done_bytes += more
        report = self.report
        self._progress(Progress(path, self._done_bytes, self._total, report.files, report.resumed_bytes))


class _FileCopy:
    """One file on its way."""

    def __init__(self, run: Download, landing: Landing, name: str, path: str, entry: Entry) -> None:
        self._run, self._landing, self._name, self._path, self._entry = run, landing, name, path, entry
        self._version = Version.of(path, entry)
        self._hash: Any = hashlib.sha256()
        self._holes = 0

    async def run(self) -> str:
        entry, budget = self._entry, self._run._budget
        size = entry.size_bytes or 0
        budget.check(min(size, entry.allocated_bytes or size))
        part = Part.open(self._landing, self._name, self._version)
        try:
            if part.resumed:
                await self._take_over(part)
            await self._fetch(part)
        except (asyncio.CancelledError, ConnectionLost, DeadlinePassed, LandingFailed, CapReached):
            self._run.report.left_part = part.leave() or self._run.report.left_part
            raise
        except BaseException:
            part.discard()
            raise
        try:
            part.commit(
                final_mode(entry.mode, self._run._options.special_bits),
                entry.mtime_ns,
                self._run._options.overwrite,
            )
        except Twice:
            part.discard()
            raise
        except BaseException:
            self._run.report.left_part = part.leave() or self._run.report.left_part
            raise
        return self._counted(part)

    def _counted(self, part: Part) -> str:
        report = self._run.report
        report.files += 1
        report.verified_files += 1
        report.bytes += part.size
        others = self._landing.other_parts(self._name, self._version) if part.size > MAX_CHUNK else []
        for other in others:
            report.notes.add(f"{self._landing.where(other)} is a part of another version of the file")
        return self._hash.hexdigest() if self._hash is not None else ""

    async def _take_over(self, part: Part) -> None:
        """Compare what an earlier run left with the target's own digest, segment by segment."""
        if (
            self._version.size_bytes == 0
            or os.fstat(part.fd).st_blocks * 512 + MAX_HASHED_HOLES < part.size
        ):
            part.cut(0)
            return
        there = part.size
        position = await self._run.equal_bytes(part.fd, self._path, there)
        if position < there:
            line = f"{self._landing.where(part.part)} was right up to byte {position} only"
            self._run.report.notes.add(line)
        part.cut(position)
        await threaded(self._hash_again, part, position)
        self._run.report.resumed_bytes += position
        self._run.tell(self._path, position)

    def _hash_again(self, part: Part, size: int) -> None:
        position = 0
        while position < size:
            data = part.read(position, size - position)
            self._hash.update(data)
            position += len(data)

    async def _fetch(self, part: Part) -> None:
        run = self._run
        reader = Reader(run._target, self._path, part.size, digest=True, packing=run._packing)
        try:
            async for chunk in reader.pieces(lambda first: self._accept(first, part)):
                run._budget.data(len(chunk.data))
                await self._taken(part, chunk)
                run.report.data_bytes += len(chunk.data)
                run.tell(self._path, len(chunk.data) + chunk.hole_bytes)
        finally:
            run.report.travelled_bytes += reader.fetched_bytes
            run.report.reconnects += reader.reopened
        self._check_steady(reader)

    async def _taken(self, part: Part, chunk: FileChunk) -> None:
        run, began = self._run, time.monotonic()
        small = len(chunk.data) <= SMALL_BYTES
        if small or not run.wary:
            self._take(part, chunk)
        else:
            await threaded(self._take, part, chunk)
        if not small:
            slow = time.monotonic() - began > QUICK_SECONDS
            run.wary = WARY_PIECES if slow else max(0, run.wary - 1)

    def _accept(self, first: FileChunk, part: Part) -> None:
        """The file that was opened must be the one that was listed; to a part, in the very same state."""
        now = Version(self._path, first.device, first.inode, first.size_bytes, first.mtime_ns)
        listed = self._version
        same = (now.device, now.inode) == (listed.device, listed.inode)
        if not same or (part.resumed and now != listed):
            raise Replaced(f"{self._path} was replaced or changed while it was copied")

    def _take(self, part: Part, chunk: FileChunk) -> None:
        """Verify, hash, write."""
        if chunk.data and not self._verified(chunk):
            raise Failed(
                f"{self._path} did not arrive as it was read",
                why=f"the SHA-256 of {len(chunk.data)} bytes at {part.size} differs",
                next_step="run the same command again",
            )
        self._hash_zeros(chunk.hole_bytes)
        try:
            part.write(chunk.data, chunk.hole_bytes)
        except (OSError, OverflowError) as error:
            what = f"the local file {self._landing.where(self._name)} cannot be written"
            if isinstance(error, OverflowError):
                raise Failed(what, why="it is larger than a file can be") from error
            raise landing_error(error, what) from error

    def _verified(self, chunk: FileChunk) -> bool:
        """Compare with the agent's digest, of the file up to here or of this piece, and go on with ours."""
        if self._hash is not None:
            self._hash.update(chunk.data)
            if chunk.chained:
                return bool(self._hash.copy().hexdigest() == chunk.sha256)
        return not chunk.chained and hashlib.sha256(chunk.data).hexdigest() == chunk.sha256

    def _hash_zeros(self, left: int) -> None:
        if self._hash is None:
            return
        self._holes += left
        if self._holes > MAX_HASHED_HOLES:
            self._hash = None
            return
        zeros = bytes(min(left, MAX_CHUNK))
        while left > 0:
            self._hash.update(zeros[:left])
            left -= len(zeros)

    def _check_steady(self, reader: Reader) -> None:
        first, last = reader.first, reader.last
        if first is None or last is None or last.mtime_ns == first.mtime_ns:
            return
        report = self._run.report
        if last.size_bytes > first.size_bytes:
            report.notes.add(
                f"{self._path} grew while it was read: its first {first.size_bytes} bytes were copied"
            )
        else:
            report.failed.add(f"{self._path} changed while it was read: the copy may mix old and new")


def _hash_range(fd: int, position: int, length: int) -> str:
    digest, end = hashlib.sha256(), position + length
    while position < end:
        data = os.pread(fd, min(MAX_CHUNK, end - position), position)
        if not data:
            break
        digest.update(data)
        position += len(data)
    return digest.hexdigest()


def _ends_all(error: KdebugError) -> bool:
    """Whether the next file could only fail as well."""
    local = isinstance(error, LandingFailed) and error.errno in FULL
    return local or isinstance(error, (ConnectionLost, CapReached))


def _base(path: str) -> str:
    """The name that a copy of `path` gets; "" where its contents are meant (`/`, `dir/.`)."""
    name = path.rstrip("/").rpartition("/")[2]
    return "" if name in (".", "..") else name


async def threaded(work: Callable[..., T], *arguments: Any) -> T:
    """`work` in a thread, which is waited for even when we are cancelled: it uses descriptors of ours."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
