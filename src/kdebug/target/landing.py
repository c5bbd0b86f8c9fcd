"""Where downloads land: local directories by descriptor, and files beside their names until they are whole.

Whatever a pod says, nothing is written but names directly below a directory that is open: O_NOFOLLOW and
O_EXCL, no name that could lead elsewhere, nothing replaced that this run did not create unless that was
asked for, and never two files of one run under one name (case, Unicode normalisation, or a lie).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from kdebug.errors import Failed, KdebugError, from_os_error
from kdebug.protocol.files import Entry
from kdebug.protocol.requests import MAX_CHUNK

PART = ".kdebug-part"
MAX_NAME_BYTES = 255
"""NAME_MAX of Linux and macOS."""
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)
"""Going on with the next file would only fail again."""


class LandingFailed(Failed):
    """The local file system refused; nothing else will work either where `errno` is one of `FULL`."""

    @property
    def kind(self) -> str:
        return "Failed"


class Twice(Failed):
    """A name that this run has written or made already."""

    @property
    def kind(self) -> str:
        return "Failed"


@dataclass(frozen=True)
class Version:
    """Which state of which file: another inode, size or time is another version."""

    path: str
    device: int
    inode: int
    size_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, path: str, entry: Entry) -> Version:
        return cls(path, entry.device or 0, entry.inode or 0, entry.size_bytes or 0, entry.mtime_ns or 0)

    @property
    def digest(self) -> str:
        """Twelve hex digits for the name of a part."""
        text = "\0".join(map(str, vars(self).values()))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def raw(name: str) -> bytes:
    """The very bytes that the target has; the locale has no say in them."""
    return name.encode("utf-8", "surrogateescape")


def refusal(name: str) -> str:
    """Why a remote name can not be one here; "" when it can."""
    if name in ("", ".", ".."):
        return "it is no name of a file"
    if "/" in name or "\0" in name:
        return "it holds a / or a NUL"
    if len(raw(name)) > MAX_NAME_BYTES:
        return f"it is longer than {MAX_NAME_BYTES} bytes"
    return ""


def link_refusal(link: str, depth: int) -> str:
    """Why a symlink `depth` directories below the destination may not be made; "" when it may.

    `..` counts only at the front, where the link's own directory is a real one: behind a name that may be
    a symlink itself it could climb out (CVE-2025-4517), whatever the text looks like.
    """
    if link.startswith("/"):
        return "it is absolute"
    if not link or "\0" in link or len(raw(link)) >= 4096:
        return "its text is no path"
    parts = [part for part in link.split("/") if part not in ("", ".")]
    climbs = 0
    while climbs < len(parts) and parts[climbs] == "..":
        climbs += 1
    if climbs > depth:
        return "it points outside of the destination"
    if ".." in parts[climbs:]:
        return "it climbs behind a name that could be a link"
    return ""


def final_mode(mode: int | None, special_bits: bool) -> int | None:
    if mode is None:
        return None
    return mode & (0o7777 if special_bits else 0o777)


class Created:
    """What this run has made, by device and inode: only that may be met again, and must not be."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()

    def add(self, status: os.stat_result) -> None:
        self._seen.add((status.st_dev, status.st_ino))

    def __contains__(self, status: os.stat_result) -> bool:
        return (status.st_dev, status.st_ino) in self._seen


class Landing:
    """An open local directory. `shown` is its path, for messages only."""

    def __init__(self, fd: int, shown: str, created: Created | None = None, depth: int = 0) -> None:
        self.fd = fd
        self.shown = shown
        self.created = created if created is not None else Created()
        self.depth = depth

    @classmethod
    def at(cls, path: str) -> Landing:
        """A directory that the user named: links in it are the user's own."""
        try:
            return cls(os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), path or ".")
        except OSError as error:
            raise from_os_error(error, f"the local directory {path} cannot be opened") from error

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def where(self, name: str) -> str:
        return os.path.join(self.shown, name)

    @contextlib.contextmanager
    def _explained(self, name: str, what: str = "cannot be written") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise landing_error(error, f"the local file {self.where(name)} {what}") from error

    def status(self, name: str) -> os.stat_result | None:
        """lstat; None when there is nothing."""
        with self._explained(name, "cannot be looked at"):
            try:
                return os.stat(raw(name), dir_fd=self.fd, follow_symlinks=False)
            except FileNotFoundError:
                return None

    def check_free(self, name: str, overwrite: bool) -> None:
        """Raise `Failed` unless a file may be put at `name`."""
        status = self.status(name)
        if status is None:
            return
        if status in self.created:
            raise Twice(
                f"{self.where(name)} was written in this run already",
                why="two names of the target are one here (case, normalisation, or listed twice)",
            )
        if stat.S_ISDIR(status.st_mode):
            raise Failed(f"the local {self.where(name)} is a directory", errno=errno.EISDIR)
        if not overwrite:
            raise Failed(
                f"the local file {self.where(name)} exists",
                next_step="-f overwrites it",
                errno=errno.EEXIST,
            )
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
            raise Failed(f"the local {self.where(name)} is no regular file", why="it is not replaced")

    def unchanged(self, name: str, entry: Entry) -> int:
        """A descriptor for reading of a plain file that looks like the one to be copied; -1 for none."""
        try:
            fd = os.open(
                raw(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.fd
            )
        except OSError:
            return -1
        status = os.fstat(fd)
        here = (status.st_size, status.st_mtime_ns)
        plain = stat.S_ISREG(status.st_mode) and status not in self.created
        if plain and here == (entry.size_bytes, entry.mtime_ns):
            return fd
        os.close(fd)
        return -1

    def folder(self, name: str) -> tuple[Landing, bool]:
        """The directory `name` below, made if it is not there, and whether it was. Never through a link."""
        made = True
        with self._explained(name, "cannot be made"):
            try:
                os.mkdir(raw(name), 0o700, dir_fd=self.fd)
            except FileExistsError:
                made = False
            try:
                fd = os.open(raw(name), DIRECTORY, dir_fd=self.fd)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise Failed(f"the local {self.where(name)} exists and is no directory") from error
                raise
        status = os.fstat(fd)
        if not made and status in self.created:
            os.close(fd)
            raise Twice(
                f"{self.where(name)} was made in this run already",
                why="two names of the target are one here (case, normalisation, or listed twice)",
            )
        self.created.add(status)
        return Landing(fd, self.where(name), self.created, self.depth + 1), made

    def link(self, name: str, text: str, overwrite: bool) -> None:
        """A symlink, after `link_refusal` has let it pass. One with this very text may be there already."""
        there = self.status(name)
        if there is not None and stat.S_ISLNK(there.st_mode) and there not in self.created:
            with contextlib.suppress(OSError):
                if os.readlink(raw(name), dir_fd=self.fd) == raw(text):
                    return
        self.check_free(name, overwrite)
        with self._explained(name, "cannot be made a link"):
            if overwrite and self.status(name) is not None:
                os.unlink(raw(name), dir_fd=self.fd)
            os.symlink(raw(text), raw(name), dir_fd=self.fd)
            self.created.add(os.stat(raw(name), dir_fd=self.fd, follow_symlinks=False))

    def finish(self, mode: int | None, mtime_ns: int | None) -> None:
        """Mode and time of a directory that was made, once nothing more comes into it."""
        with contextlib.suppress(OSError, OverflowError):
            if mtime_ns is not None:
                os.utime(self.fd, ns=(mtime_ns, mtime_ns))
        with contextlib.suppress(OSError):
            if mode is not None:
                os.fchmod(self.fd, mode)

    def other_parts(self, name: str, version: Version) -> list[str]:
        """Parts of other versions of this file that lie about."""
        start = part_stem(name) + "."
        try:
            names = [os.fsencode(one).decode("utf-8", "surrogateescape") for one in os.listdir(self.fd)]
        except OSError:
            return []
        mine = part_name(name, version)
        return [one for one in names if one.startswith(start) and one.endswith(PART) and one != mine]


def part_stem(name: str) -> str:
    """`name`, cut so that digits and ending fit behind it; never within a character of UTF-8."""
    room = MAX_NAME_BYTES - len(PART) - 13
    while len(raw(name)) > room:
        name = name[:-1]
    return name


def part_name(name: str, version: Version) -> str:
    """NAME.0123456789ab.kdebug-part: the digits stand for the version that it is a part of."""
    return f"{part_stem(name)}.{version.digest}{PART}"


def landing_error(error: OSError, what: str) -> KdebugError:
    number = error.errno or 0
    step = {
        errno.ENOSPC: "make room and run the same command again: what has come is kept",
        errno.EDQUOT: "make room and run the same command again: what has come is kept",
        errno.EILSEQ: "the local file system does not take such a name",
    }.get(number, "")
    told = from_os_error(error, what, step)
    return told if told.exit_code != 1 else LandingFailed(what, why=told.why, next_step=step, errno=number)


class Part:
    """A file that is arriving, beside its name. Positions are bytes from its start."""

    def __init__(self, landing: Landing, name: str, version: Version, fd: int, resumed_bytes: int) -> None:
        self.landing, self.name = landing, name
        self.part = part_name(name, version)
        self.fd = fd
        self.size = resumed_bytes
        """Bytes that are there, verified or about to be."""
        self.resumed = resumed_bytes
        self._existed = resumed_bytes > 0

    @classmethod
    def open(cls, landing: Landing, name: str, version: Version) -> Part:
        """The part of this very version where one is left, else a new one.

        Raises `Failed` when the name is taken by anything that is not our own plain file, or another
        kdebug writes it.
        """
        part = part_name(name, version)
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        with landing._explained(part):
            try:
                fd = os.open(raw(part), flags | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=landing.fd)
                resumed = 0
            except FileExistsError:
                fd = os.open(raw(part), flags, dir_fd=landing.fd)
                resumed = cls._usable(landing, part, fd, version)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                os.close(fd)
                where = landing.where(part)
                raise Failed(
                    f"{where} is being written", why="another kdebug copies the same file"
                ) from None
        return cls(landing, name, version, fd, resumed)

    @staticmethod
    def _usable(landing: Landing, part: str, fd: int, version: Version) -> int:
        status = os.fstat(fd)
        plain = stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_uid == os.geteuid()
        if not plain:
            os.close(fd)
            raise Failed(f"{landing.where(part)} is in the way", why="it is not a plain file of yours")
        if status.st_size > version.size_bytes:
            os.ftruncate(fd, 0)
            return 0
        return status.st_size

    def write(self, data: bytes, hole_bytes: int) -> None:
        """Append; a hole stays one. `OSError` as pwrite(2) raises it."""
        view, position = memoryview(data), self.size
        while view:
            written = os.pwrite(self.fd, view, position)
            view = view[written:]
            position += written
        if hole_bytes:
            position += hole_bytes
            os.ftruncate(self.fd, position)
        self.size = position

    def cut(self, size: int) -> None:
        """Forget everything from `size` on."""
        os.ftruncate(self.fd, size)
        self.size = size

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self.fd, min(size, MAX_CHUNK), offset)

    def commit(self, mode: int | None, mtime_ns: int | None, overwrite: bool) -> None:
        """Give it its name. Raises `Failed` where something else has it and `overwrite` is not set."""
        landing = self.landing
        landing.check_free(self.name, overwrite)
        with landing._explained(self.name):
            os.ftruncate(self.fd, self.size)
            if mode is not None:
                os.fchmod(self.fd, mode)
            if mtime_ns is not None:
                with contextlib.suppress(OverflowError, OSError):
                    os.utime(self.fd, ns=(mtime_ns, mtime_ns))
            if overwrite:
                os.rename(raw(self.part), raw(self.name), src_dir_fd=landing.fd, dst_dir_fd=landing.fd)
            else:
                self._name_if_free()
            landing.created.add(os.fstat(self.fd))
        self._close()

    def _name_if_free(self) -> None:
        """link(2) fails where the name exists, which rename(2) would replace."""
        fd = self.landing.fd
        try:
            os.link(raw(self.part), raw(self.name), src_dir_fd=fd, dst_dir_fd=fd, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            # FAT and some network file systems have no links: looked at a moment ago.
            os.rename(raw(self.part), raw(self.name), src_dir_fd=fd, dst_dir_fd=fd)
            return
        os.unlink(raw(self.part), dir_fd=fd)

    def leave(self) -> str:
        """Keep what has come for another run; the path of the part, "" when there was nothing to keep."""
        kept = self.size > 0
        if self.fd >= 0 and not kept:
            self._unlink()
        self._close()
        return self.landing.where(self.part) if kept else ""

    def discard(self) -> None:
        """Of no use any more; a part of an earlier run stays."""
        if self.fd >= 0 and not self._existed:
            self._unlink()
        self._close()

    def _unlink(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(raw(self.part), dir_fd=self.landing.fd)

    def _close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
