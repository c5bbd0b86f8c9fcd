"""Resolve a path below a directory descriptor, component by component, never leaving it.

The fall-back for openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS) with the same meaning (openat2(2),
path_resolution(7)), and the witness that says *where* a path stops. Each directory on the way stays
open on a stack, so `..` pops it and can never name anything above the root, whatever is renamed.
"""

from __future__ import annotations

import errno
import os
import stat

from kdebug.annotations import Optional
from kdebug.probe import syscalls

MAX_LINKS = 40
"""MAXSYMLINKS of the kernel (path_resolution(7))."""
PROC_ROOT_INODE = 1
"""procfs' own root directory: its links (self, mounts, net) are ordinary text; those deeper down
(PID/root, PID/fd/N, PID/ns/X) are magic."""


def path_bytes(path: str) -> bytes:
    """What the kernel gets. Not os.fsencode: the image's locale has no say in the target's names."""
    return path.encode("utf-8", "surrogateescape")


def path_text(raw: bytes) -> str:
    """The name of a file as it travels: bytes that are not UTF-8 become lone surrogates."""
    return raw.decode("utf-8", "surrogateescape")


class MagicLink(OSError):
    """The path stops at a magic link; `link` is its place inside the root, `target` its text."""

    def __init__(self, link: str, target: str) -> None:
        super().__init__(errno.ELOOP, os.strerror(errno.ELOOP), link)
        self.link = link
        self.target = target


class Walk:
    """One resolution. `fd` is the result, open with O_PATH; the caller closes it."""

    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd
        self._stack: list[tuple[bytes, int]] = []
        self._todo: list[bytes] = []
        self._links = 0
        self._must_be_directory = False
        self.stopped_at: Optional[os.stat_result] = None
        """The directory in which the walk stopped, for error messages."""

    @property
    def place(self) -> str:
        """Where the walk is, as the target's own processes would write it."""
        return path_text(b"/" + b"/".join(name for name, _ in self._stack))

    def run(self, path: str, follow_last: bool) -> int:
        """A descriptor for `path`; `OSError` with the kernel's errno, `MagicLink` at a magic link."""
        self._queue(path_bytes(path))
        try:
            result = self._steps(follow_last)
        except OSError:
            self.stopped_at = os.fstat(self._top())
            self._clear()
            raise
        return result

    def _top(self) -> int:
        return self._stack[-1][1] if self._stack else self._root_fd

    def _clear(self) -> None:
        for _, fd in self._stack:
            os.close(fd)

    def _queue(self, path: bytes) -> None:
        parts = path.split(b"/")
        if not self._todo and parts[-1] in (b"", b".", b".."):
            self._must_be_directory = True
        self._todo[:0] = [part for part in parts if part not in (b"", b".")]

    def _steps(self, follow_last: bool) -> int:
        while self._todo:
            name = self._todo.pop(0)
            if name == b"..":
                self._up()
                continue
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._top())
            try:
                kept = self._enter(name, fd, follow_last)
            except BaseException:
                os.close(fd)
                raise
            if not kept:
                os.close(fd)
        return self._finish()

    def _enter(self, name: bytes, fd: int, follow_last: bool) -> bool:
        """Push `fd`, or queue the link's text. Returns whether `fd` stays open."""
        status = os.fstat(fd)
        last = not self._todo
        if stat.S_ISLNK(status.st_mode) and not (last and not follow_last and not self._must_be_directory):
            self._follow(name, fd)
            return False
        if not last and not stat.S_ISDIR(status.st_mode):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
        self._stack.append((name, fd))
        return True

    def _follow(self, name: bytes, fd: int) -> None:
        text = os.readlink(b"", dir_fd=fd)
        if self._is_magic(fd):
            raise MagicLink(f"{self.place.rstrip('/')}/{path_text(name)}", path_text(text))
        self._links += 1
        if self._links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
        if text.startswith(b"/"):
            self._clear()
            self._stack.clear()
        self._queue(text)

    def _is_magic(self, fd: int) -> bool:
        if syscalls.file_system_type(fd) != syscalls.PROC_SUPER_MAGIC:
            return False
        return os.fstat(self._top()).st_ino != PROC_ROOT_INODE

    def _up(self) -> None:
        # The kernel needs search permission on a directory to look up its "..".
        os.close(os.open(".", os.O_PATH | os.O_CLOEXEC, dir_fd=self._top()))
        if self._stack:
            os.close(self._stack.pop()[1])

    def _finish(self) -> int:
        fd = os.dup(self._top())
        if self._must_be_directory and not stat.S_ISDIR(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self.place)
        self._clear()
        self._stack = [(name, -1) for name, _ in self._stack]
        return fd
