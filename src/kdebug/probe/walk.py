"""A tree, walked by directory descriptors below `Root`: nothing is ever found again by its full path.

Each directory is opened relative to its parent's descriptor with O_NOFOLLOW, so a name that was swapped
for a symlink stops the walk there, and the stop is a row like everything else. Rows come as they are
found; what is kept is bounded whatever the tree looks like:

- descriptors: those of the last few levels. A level above is reopened as `..` of the one below, and must
  then be the very same directory.
- names: subdirectories are entered after their directory was read, in batches.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque

from kdebug.annotations import Any, Iterator, Optional
from kdebug.probe import syscalls
from kdebug.probe.rooted import Root, owner_text
from kdebug.probe.rooted_walk import path_bytes, path_text
from kdebug.protocol.search import MAX_DEPTH, MAX_TREE_PATH

OPEN_LEVELS = 12
"""Of at most 32 walks at once: far below the usual limit of 1,024 descriptors."""
MAX_UNFINISHED = 64
"""Directories whose reading waits while some of their subdirectories are walked, one descriptor each."""
BATCH_NAMES = 1000
PENDING_BYTES = 2 * 1024 * 1024
"""Of all names that wait; beyond it directories are entered one at a time."""
MAX_SKIPPED = 20
TICK_NAMES = 64
"""The consumer gets a chance to stop this often, also where nothing is found."""
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Level:
    """A directory on the way from the top to where the walk is."""

    __slots__ = (
        "data",
        "depth",
        "fd",
        "identity",
        "name",
        "names",
        "path_length",
        "scan",
        "status",
        "unread",
    )

    def __init__(self, name: bytes, fd: int, depth: int, path_length: int) -> None:
        self.status = status = os.fstat(fd)
        self.name = name
        self.fd = fd
        self.depth = depth
        self.identity = (status.st_dev, status.st_ino)
        self.path_length = path_length
        self.unread = True
        self.scan: Any = None
        self.names: deque[bytes] = deque()
        self.data: Any = None
        """The consumer's."""


class Step:
    """One name that the walk came by. `parent` is the level that it is in; None for the top itself."""

    __slots__ = ("depth", "error", "is_dir", "leaving", "level", "name", "parent")

    def __init__(
        self,
        name: bytes,
        parent: Optional[Level],
        depth: int,
        is_dir: bool,
        error: str = "",
        leaving: bool = False,
        level: Optional[Level] = None,
    ) -> None:
        self.name = name
        self.parent = parent
        self.depth = depth
        self.is_dir = is_dir
        self.error = error
        """Why this directory is not entered, or not to its end. Comes after the step without error."""
        self.leaving = leaving
        """Everything below this directory has been seen."""
        self.level = level
        """Of a directory that is being left."""


class TreeWalk:
    """One walk. Iterate `steps`; None is a tick, for whoever must look at the clock."""

    def __init__(
        self,
        root: Root,
        path: str,
        *,
        follow: bool = False,
        max_depth: int = MAX_DEPTH,
        one_file_system: bool = False,
        skip_pseudo: bool = False,
    ) -> None:
        self._root = root
        self._path = path
        self._follow = follow or path.endswith("/")
        self._max_depth = max_depth
        self._one_file_system = one_file_system
        self._skip_pseudo = skip_pseudo
        """Leave out mounts below the top that make their files up (/proc, /sys); `skipped` names them."""
        self.skipped: list[str] = []
        self._stack: list[Level] = []
        self._pending = 0
        self._unfinished = 0
        self._prefix = b""
        self._prefix_depth = -1
        """For which depth the prefix is right; -1: for none."""
        self._on_way: dict[tuple[int, int], int] = {}
        self.visited = 0
        self.top_fd = -1
        self.top_status: os.stat_result

    def path_of(self, step: Step) -> str:
        """The step's path from the path asked for; only while the walk stands at it."""
        if step.parent is None:
            return self._path
        if self._prefix_depth != step.depth:
            self._prefix_depth = step.depth
            names = [level.name for level in self._stack[1 : step.depth]]
            self._prefix = b"/".join([path_bytes(self._path).rstrip(b"/"), *names]) + b"/"
        return path_text(self._prefix + step.name)

    def steps(self) -> Iterator[Optional[Step]]:
        """Every name, each directory before what is in it. Raises `KdebugError` for the top only."""
        self.top_fd = self._root.open(self._path, os.O_PATH, follow=self._follow)
        try:
            self.top_status = os.fstat(self.top_fd)
            is_dir = stat.S_ISDIR(self.top_status.st_mode)
            top = Step(b"", None, 0, is_dir)
            self.visited += 1
            yield top
            if is_dir and self._max_depth > 0:
                fd = self._root.reopen(self.top_fd, self._path, os.O_RDONLY | os.O_DIRECTORY)
                self._push(b"", fd, 0)
                yield from self._down()
        finally:
            self._close()

    def _down(self) -> Iterator[Optional[Step]]:
        while self._stack:
            level = self._stack[-1]
            if level.names:
                yield from self._enter(level)
            elif level.unread or level.scan is not None:
                yield from self._read(level)
            else:
                yield from self._leave(level)

    def _read(self, level: Level) -> Iterator[Optional[Step]]:
        """Names until the directory ends, or a batch of subdirectories waits."""
        if level.unread:
            level.unread = False
            try:
                level.scan = os.scandir(level.fd)
            except OSError as error:
                yield self._stop(level, error)
                return
            self._unfinished += 1
        deeper = level.depth + 1 < self._max_depth
        count = 0
        for entry in self._entries(level):
            if isinstance(entry, OSError):
                yield self._stop(level, entry)
                continue
            name, is_dir = entry
            self.visited += 1
            count += 1
            if count % TICK_NAMES == 0:
                yield None
            yield Step(name, level, level.depth + 1, is_dir)
            if is_dir and deeper:
                level.names.append(name)
                self._pending += len(name) + 60
                if len(level.names) >= BATCH_NAMES or self._pending > PENDING_BYTES:
                    return
        self._end_scan(level)

    @staticmethod
    def _entries(level: Level) -> Iterator[Any]:
        """(name, is a directory), or the error that ends the directory early."""
        while True:
            try:
                entry = next(level.scan, None)
                if entry is None:
                    return
                # scandir decodes in the locale's encoding; the kind is d_type's, else lstat's.
                found = (os.fsencode(entry.name), entry.is_dir(follow_symlinks=False))
            except OSError as error:
                yield error
                return
            yield found

    def _end_scan(self, level: Level) -> None:
        if level.scan is not None:
            level.scan.close()
            level.scan = None
            self._unfinished -= 1

    def _enter(self, level: Level) -> Iterator[Optional[Step]]:
        name = level.names.popleft()
        self._pending -= len(name) + 60
        self._prefix_depth = -1
        refusal = self._refusal(level, name)
        try:
            if refusal:
                yield Step(name, level, level.depth + 1, True, refusal)
                return
            fd = os.open(name, DIRECTORY, dir_fd=level.fd)
        except OSError as error:
            yield Step(name, level, level.depth + 1, True, _why_not(error) + _owner(error, name, level.fd))
            return
        stop = self._push(name, fd, level.depth + 1)
        if stop:
            yield Step(name, level, level.depth + 1, True, stop)
        elif stop is None:
            yield Step(name, level, level.depth + 1, True, leaving=True)

    def _refusal(self, level: Level, name: bytes) -> str:
        if level.depth + 1 >= MAX_DEPTH:
            return f"not entered: more than {MAX_DEPTH} directories below one another"
        if level.path_length + len(name) + 256 > MAX_TREE_PATH:
            return f"not entered: its path is longer than {MAX_TREE_PATH} bytes"
        if self._unfinished >= MAX_UNFINISHED:
            return f"not entered: {MAX_UNFINISHED} directories on the way have too many subdirectories"
        return ""

    def _push(self, name: bytes, fd: int, depth: int) -> Optional[str]:
        """Make the directory the current level; else say why not, None when it need not be said."""
        above = self._stack[-1] if self._stack else None
        level = Level(name, fd, depth, (above.path_length if above else len(self._path)) + len(name) + 1)
        if above is not None:
            if self._one_file_system and level.identity[0] != self.top_status.st_dev:
                os.close(fd)
                return None
            if self._skip_pseudo and level.identity[0] != above.identity[0] and self._is_pseudo(level):
                os.close(fd)
                return None
            twin = self._on_way.get(level.identity)
            if twin is not None:
                os.close(fd)
                return f"not entered: a loop, the directory {twin} levels below the top once more"
        self._on_way[level.identity] = depth
        self._stack.append(level)
        self._prefix_depth = -1
        if len(self._stack) > OPEN_LEVELS:
            self._shut(self._stack[-OPEN_LEVELS - 1])
        return ""

    def _is_pseudo(self, level: Level) -> bool:
        if syscalls.file_system_type(level.fd) not in syscalls.PSEUDO_FILE_SYSTEMS:
            return False
        if len(self.skipped) < MAX_SKIPPED:
            names = [other.name for other in self._stack[1:]] + [level.name]
            path = b"/".join([path_bytes(self._path).rstrip(b"/"), *names])
            self.skipped.append(f"{path_text(path)} was left out: a pseudo file system")
        return True

    @staticmethod
    def _shut(level: Level) -> None:
        # A scan that goes on asks by the number of this descriptor.
        if level.fd >= 0 and level.scan is None:
            os.close(level.fd)
            level.fd = -1

    def _leave(self, level: Level) -> Iterator[Optional[Step]]:
        self._stack.pop()
        del self._on_way[level.identity]
        self._prefix_depth = -1
        parent = self._stack[-1] if self._stack else None
        try:
            if parent is not None and parent.fd < 0:
                yield from self._reopen(parent, level)
        finally:
            self._shut(level)
        yield Step(level.name, parent, level.depth, True, leaving=True, level=level)

    def _reopen(self, parent: Level, level: Level) -> Iterator[Optional[Step]]:
        """The level above as `..`; when that leads elsewhere the rest of it is given up, and said."""
        try:
            fd = os.open("..", DIRECTORY, dir_fd=level.fd)
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) != parent.identity:
                os.close(fd)
                raise OSError(errno.ESTALE, "it was moved while it was walked")
            parent.fd = fd
            return
        except OSError as error:
            reason = error.strerror or str(error)
        lost = list(parent.names)
        self._pending -= sum(len(name) + 60 for name in lost)
        parent.names.clear()
        for name in lost:
            yield Step(name, parent, parent.depth + 1, True, f"not entered: {reason}")
        if parent.scan is not None:
            self._end_scan(parent)
            yield self._stop(parent, OSError(errno.ESTALE, reason))

    def _stop(self, level: Level, error: OSError) -> Step:
        """The directory could not be read to its end."""
        self._end_scan(level)
        parent = self._stack[-2] if len(self._stack) > 1 else None
        self._prefix_depth = -1
        return Step(level.name, parent, level.depth, True, _why_not(error))

    def _close(self) -> None:
        for level in self._stack:
            self._end_scan(level)
            self._shut(level)
        self._stack.clear()
        self._on_way.clear()
        if self.top_fd >= 0:
            os.close(self.top_fd)
            self.top_fd = -1


def _owner(error: OSError, name: bytes, dir_fd: int) -> str:
    """Who could enter, where the kernel refused."""
    if error.errno not in (errno.EACCES, errno.EPERM):
        return ""
    try:
        return owner_text(os.stat(name, dir_fd=dir_fd, follow_symlinks=False))
    except OSError:
        return ""


def _why_not(error: OSError) -> str:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return "not entered: it was replaced by something else while it was walked"
    if error.errno == errno.ENOENT:
        return "not entered: it vanished while it was walked"
    return f"not entered: {error.strerror or error}"
