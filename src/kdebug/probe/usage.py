"""du: what directories take, summed on the way up. A file with several names counts once."""

from __future__ import annotations

import heapq
import itertools
import os

from kdebug.annotations import Iterator, Optional
from kdebug.probe.rooted import Root, kind_of
from kdebug.probe.walk import Level, Step, TreeWalk
from kdebug.protocol.search import DiskUsage, Progress, Usage

MAX_LINKED = 50_000
"""Files with several names that are remembered until all their names were seen: some 10 MiB."""


class Sum:
    """Of one directory, so far."""

    __slots__ = ("allocated", "apparent", "files")

    def __init__(self, allocated: int = 0, apparent: int = 0, files: int = 0) -> None:
        self.allocated, self.apparent, self.files = allocated, apparent, files

    def add(self, other: Sum) -> None:
        self.allocated += other.allocated
        self.apparent += other.apparent
        self.files += other.files


class UsageSearch:
    """One sum; `rows` yields directories after what is in them, and None now and then."""

    def __init__(self, root: Root, request: DiskUsage) -> None:
        self._asked = request
        self._walk = TreeWalk(
            root,
            request.path,
            follow=request.follow,
            one_file_system=request.one_file_system,
            skip_pseudo=True,
        )
        self._linked: dict[tuple[int, int], int] = {}
        """How many names of a file have not been seen yet."""
        self._twice = False
        self._largest: list[tuple[int, int, Usage]] = []
        self._serial = itertools.count()

    def progress(self, done: bool) -> Progress:
        notes = list(self._walk.skipped)
        if self._twice:
            notes.append(f"more than {MAX_LINKED} files with several names: some count more than once")
        return Progress(self._walk.visited, 0, tuple(notes) if done else ())

    def rows(self) -> Iterator[Optional[Usage]]:
        for step in self._walk.steps():
            row = None if step is None else self._take(step)
            if row is not None and self._asked.top and not row.error:
                self._keep(row)
                row = None
            yield row
        while self._largest:
            # The heap gives the smallest first.
            self._largest.sort(reverse=True)
            yield from (row for _, _, row in self._largest)
            self._largest = []

    def _keep(self, row: Usage) -> None:
        size = row.apparent_bytes if self._asked.apparent else row.allocated_bytes
        heapq.heappush(self._largest, (size, -next(self._serial), row))
        if len(self._largest) > self._asked.top:
            heapq.heappop(self._largest)

    def _take(self, step: Step) -> Optional[Usage]:
        if step.error:
            return Usage(self._walk.path_of(step), step.depth, "dir", error=step.error)
        if step.leaving:
            return self._leave(step)
        if step.is_dir:
            return None
        return self._file(step)

    def _leave(self, step: Step) -> Optional[Usage]:
        if step.level is None:
            return None  # another file system
        whole = _sum_of(step.level)
        whole.allocated += step.level.status.st_blocks * 512
        whole.apparent += step.level.status.st_size
        if step.parent is not None:
            _sum_of(step.parent).add(whole)
        return self._row(step, "dir", whole)

    def _file(self, step: Step) -> Optional[Usage]:
        try:
            status = self._status(step)
        except FileNotFoundError:
            return None  # it takes nothing any more
        except OSError as error:
            reason = error.strerror or str(error)
            return Usage(self._walk.path_of(step), step.depth, "unknown", error=reason)
        if self._asked.one_file_system and status.st_dev != self._walk.top_status.st_dev:
            return None  # a file that another one is mounted on
        one = Sum(status.st_blocks * 512, status.st_size, 1) if self._first_name(status) else Sum()
        if step.parent is not None:
            _sum_of(step.parent).add(one)
        elif step.depth == 0:
            return self._row(step, kind_of(status.st_mode), one)
        if not self._asked.files or not one.files:
            return None
        return self._row(step, kind_of(status.st_mode), one)

    def _status(self, step: Step) -> os.stat_result:
        if step.parent is None:
            return self._walk.top_status
        return os.stat(step.name, dir_fd=step.parent.fd, follow_symlinks=False)

    def _first_name(self, status: os.stat_result) -> bool:
        if status.st_nlink <= 1:
            return True
        key = (status.st_dev, status.st_ino)
        left = self._linked.get(key)
        if left is None:
            if len(self._linked) < MAX_LINKED:
                self._linked[key] = status.st_nlink - 1
            else:
                self._twice = True
            return True
        if left <= 1:
            del self._linked[key]
        else:
            self._linked[key] = left - 1
        return False

    def _row(self, step: Step, kind: str, whole: Sum) -> Optional[Usage]:
        if step.depth > self._asked.max_depth:
            return None
        return Usage(
            self._walk.path_of(step), step.depth, kind, whole.allocated, whole.apparent, whole.files
        )


def _sum_of(level: Level) -> Sum:
    if level.data is None:
        level.data = Sum()
    whole: Sum = level.data
    return whole
