"""The regular files of a tree, open one after the other: for whatever reads contents (grep, checksum).

Only what is a regular file when it is looked at through O_PATH is opened, so no FIFO blocks and no device
acts. Pseudo file systems below the top (/proc, /sys) are skipped, and said; asked for by name, their files
are read to a bound, since some have no end.
"""

from __future__ import annotations

import os
import stat

from kdebug.annotations import Any, Callable, Iterator, Optional
from kdebug.probe import syscalls
from kdebug.probe.rooted import Root, owner_text
from kdebug.probe.walk import Step, TreeWalk
from kdebug.protocol.search import TreeRequest

PSEUDO_BYTES = 16 * 1024 * 1024
"""Of one file of a pseudo file system: more than any table there has, and an end to those without one."""
NO_LIMIT = 2**63


class OpenedFile:
    """A file to read, or why there is none. The descriptor is closed when the next one is asked for."""

    __slots__ = ("error", "fd", "limit", "path")

    def __init__(self, path: str, fd: int, error: str = "", limit: int = NO_LIMIT) -> None:
        self.path = path
        self.fd = fd
        self.error = error
        self.limit = limit


class TreeFiles:
    """Walks as the request says; `name_fits` chooses below the top."""

    def __init__(
        self,
        root: Root,
        request: TreeRequest[Any],
        name_fits: Optional[Callable[[bytes], object]] = None,
        proc: str = "/proc",
    ) -> None:
        self._root = root
        self._proc = proc
        self._path = request.path
        self._name_fits = name_fits
        self._recursive = request.max_depth > 0
        self._walk = TreeWalk(
            root,
            request.path,
            follow=request.follow,
            max_depth=request.max_depth,
            one_file_system=request.one_file_system,
            skip_pseudo=True,
        )
        self._device = -1
        self._limit = NO_LIMIT
        self.bytes_read = 0

    @property
    def visited(self) -> int:
        return self._walk.visited

    @property
    def skipped(self) -> list[str]:
        return self._walk.skipped

    def files(self) -> Iterator[Optional[OpenedFile]]:
        for step in self._walk.steps():
            if step is None or step.leaving:
                yield None
            elif step.error:
                yield OpenedFile(self._walk.path_of(step), -1, step.error)
            elif step.parent is None:
                yield from self._top(step)
            elif not step.is_dir and (self._name_fits is None or self._name_fits(step.name)):
                yield from self._below(step)

    def _top(self, step: Step) -> Iterator[OpenedFile]:
        if step.is_dir:
            if not self._recursive:
                yield OpenedFile(self._path, -1, "is a directory (-r searches in it)")
            return
        yield from self._opened(self._path, self._root.reopen(self._walk.top_fd, self._path, os.O_RDONLY))

    def _below(self, step: Step) -> Iterator[OpenedFile]:
        assert step.parent is not None
        try:
            fd = open_regular(step.name, step.parent.fd, self._proc)
        except FileNotFoundError:
            yield OpenedFile(self._walk.path_of(step), -1, "it vanished while it was looked at")
            return
        except OSError as error:
            reason = (error.strerror or str(error)) + self._owner(error, step)
            yield OpenedFile(self._walk.path_of(step), -1, reason)
            return
        if fd >= 0:
            yield from self._opened(self._walk.path_of(step), fd)

    @staticmethod
    def _owner(error: OSError, step: Step) -> str:
        if not isinstance(error, PermissionError) or step.parent is None:
            return ""
        try:
            return owner_text(os.stat(step.name, dir_fd=step.parent.fd, follow_symlinks=False))
        except OSError:
            return ""

    def _opened(self, path: str, fd: int) -> Iterator[OpenedFile]:
        try:
            device = os.fstat(fd).st_dev
            if device != self._device:
                self._device = device
                self._limit = PSEUDO_BYTES if is_pseudo(fd) else NO_LIMIT
            yield OpenedFile(path, fd, limit=self._limit)
        finally:
            os.close(fd)


def is_pseudo(fd: int) -> bool:
    """Whether the file system makes its files up, as /proc does."""
    try:
        return syscalls.file_system_type(fd) in syscalls.PSEUDO_FILE_SYSTEMS
    except OSError:
        return False


def open_regular(name: bytes, dir_fd: int, proc: str = "/proc") -> int:
    """A regular file of a directory, for reading; -1 for everything else, which is not opened at all."""
    looked = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        if not stat.S_ISREG(os.fstat(looked).st_mode):
            return -1
        # A magic link of our own to a descriptor that was checked: the very same file.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        return os.open(f"{proc}/self/fd/{looked}", flags)
    finally:
        os.close(looked)
