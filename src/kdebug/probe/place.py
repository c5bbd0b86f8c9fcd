"""Where a change happens: the directory, open and inside the root, and the name in it.

Everything that changes the target goes through here: the parent is resolved by `Root` like any path, and
the last name is then only used below that descriptor, so nothing that is swapped meanwhile leads out.
"""

from __future__ import annotations

import errno
import os
import stat

from kdebug.annotations import Optional
from kdebug.errors import AccessDenied, Failed, KdebugError, UsageError, from_os_error
from kdebug.probe.rooted import Root, kind_of
from kdebug.probe.rooted_walk import MAX_LINKS, path_bytes, path_text
from kdebug.protocol.requests import check_path


class Place:
    """One name in an open directory. Close it."""

    def __init__(self, fd: int, name: bytes, path: str, status: Optional[os.stat_result]) -> None:
        self.fd = fd
        self.name = name
        self.path = path
        self.status = status
        """lstat of the name when it was looked up; None where there was nothing."""

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def look(self) -> Optional[os.stat_result]:
        return lstat(self.name, self.fd)

    def sync(self) -> None:
        """fsync(2) of the directory, so that the name survives a crash; needs the right to read it."""
        try:
            fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd)
        except OSError:
            return
        try:
            os.fsync(fd)
        except OSError:
            pass  # some file systems have no such thing
        finally:
            os.close(fd)

    def explained(self, error: OSError, what: str) -> KdebugError:
        """The kernel's word on a change here, and who could do it."""
        if error.errno in (errno.EACCES, errno.EPERM):
            owner = os.fstat(self.fd)
            mode = stat.S_IMODE(owner.st_mode)
            held = f"owner uid {owner.st_uid}, gid {owner.st_gid}, mode {mode:04o}"
            return AccessDenied(
                f"{self.path} {what}",
                why=f"{os.strerror(error.errno)} in its directory ({held}); "
                f"the agent is uid {os.geteuid()}, gid {os.getegid()}",
                next_step="it takes that owner's uid, or the capability DAC_OVERRIDE, which only "
                "--profile sysadmin or a file of yours gives",
                errno=error.errno,
            )
        return from_os_error(error, f"{self.path} {what}", _STEPS.get(error.errno or 0, ""))


_STEPS = {
    errno.EROFS: "write to a volume of the pod instead; `kdebug mounts` shows which can be written",
    errno.ENOSPC: "make room first; nothing was changed",
    errno.EDQUOT: "make room first; nothing was changed",
    errno.EBUSY: "it is a mount point (as /etc/hosts of a pod): what is mounted has to be changed",
}


def lstat(name: bytes, dir_fd: int) -> Optional[os.stat_result]:
    try:
        return os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def split(path: str) -> tuple[str, bytes]:
    """(directory, name). `UsageError` where the end is no name: `/`, `.` and `..` are never changed."""
    check_path(path)
    folder, _, name = path.rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        raise UsageError(
            f"{path} is refused", why="its last part is no name", next_step="name the entry itself"
        )
    return folder or "/", path_bytes(name)


def find(root: Root, path: str, *, follow: bool) -> Place:
    """The place of `path`; with `follow`, that to which symlinks at its end lead inside the root."""
    for _ in range(MAX_LINKS):
        folder, name = split(path)
        place = _open(root, folder, name, path)
        link = place.status is not None and stat.S_ISLNK(place.status.st_mode)
        if not (follow and link):
            return place
        try:
            text = path_text(os.readlink(name, dir_fd=place.fd))
        except OSError as error:
            raise place.explained(error, "cannot be followed") from error
        finally:
            place.close()
        path = text if text.startswith("/") else f"{folder.rstrip('/')}/{text}"
    raise Failed(f"{path} runs into a symlink loop", why=os.strerror(errno.ELOOP), errno=errno.ELOOP)


def _open(root: Root, folder: str, name: bytes, path: str) -> Place:
    fd = root.open(folder, os.O_PATH)
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise Failed(f"{folder} is not a directory", errno=errno.ENOTDIR)
        try:
            return Place(fd, name, path, lstat(name, fd))
        except OSError as error:
            raise Place(fd, name, path, None).explained(error, "cannot be looked at") from error
    except BaseException:
        os.close(fd)
        raise


def word(status: os.stat_result) -> str:
    """What it is, with its article."""
    kind = kind_of(status.st_mode)
    return {"dir": "a directory", "char": "a character device", "block": "a block device"}.get(
        kind, f"a {kind}"
    )
