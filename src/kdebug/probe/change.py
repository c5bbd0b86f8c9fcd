"""mkdir, symlinks, removal, modes and times in the target, by descriptor and inside its root.

A tree is walked with one descriptor: down with O_NOFOLLOW, up by `..` whose device and inode must be
those that we came from, so nothing that is moved or swapped meanwhile leads anywhere else, and depth costs
no descriptors.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from kdebug import threads
from kdebug.annotations import Callable, Iterator, Optional
from kdebug.errors import Failed, KdebugError, NotFound, UsageError
from kdebug.probe.files import entry_from
from kdebug.probe.place import Place, find, lstat, word
from kdebug.probe.rooted import Root, _mount_id
from kdebug.probe.rooted_walk import path_text
from kdebug.probe.write import already, check_replaceable
from kdebug.protocol.modes import apply_mode
from kdebug.protocol.writes import (
    MAX_FAILURES,
    Changed,
    Chmod,
    MakeDir,
    MakeSymlink,
    Remove,
    SetTimes,
    TreeChange,
)

STEP_SECONDS = 0.8
"""Of one answer: the client hears from us every second, and can stop us."""
_DOWN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make_dir(root: Root, request: MakeDir) -> Changed:
    made = 0
    if request.parents:
        made = _make_parents(root, request.path)
    with find(root, request.path, follow=True) as place:
        there = place.status
        if there is not None and request.parents and stat.S_ISDIR(there.st_mode):
            return Changed(place.path, entry_from(path_text(place.name), there), changed=made)
        if there is not None:
            raise Failed(f"{place.path} exists and is {word(there)}", errno=errno.EEXIST)
        _mkdir(place, request.mode)
        status = place.look()
        entry = None if status is None else entry_from(path_text(place.name), status)
        return Changed(place.path, entry, changed=made + 1)


def _make_parents(root: Root, path: str) -> int:
    made, parts = 0, [part for part in path.split("/") if part]
    for count in range(1, len(parts)):
        above = "/" + "/".join(parts[:count])
        try:
            if not stat.S_ISDIR(root.stat(above).st_mode):
                raise Failed(f"{above} is not a directory", errno=errno.ENOTDIR)
            continue
        except NotFound:
            pass
        with find(root, above, follow=True) as place:
            _mkdir(place, 0o755)
            made += 1
    return made


def _mkdir(place: Place, mode: int) -> None:
    """With exactly `mode`, whatever our umask is."""
    try:
        os.mkdir(place.name, mode, dir_fd=place.fd)
        fd = os.open(place.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.fd)
    except OSError as error:
        raise place.explained(error, "cannot be made") from error
    try:
        if stat.S_IMODE(os.fstat(fd).st_mode) != mode:
            _chmod_fd(fd, mode)
    except OSError as error:
        raise place.explained(error, "was made, but does not take its mode") from error
    finally:
        os.close(fd)


def _chmod_fd(fd: int, mode: int) -> None:
    """chmod(2) of an O_PATH descriptor, which fchmod(2) refuses."""
    os.chmod(f"/proc/self/fd/{fd}", mode)


def make_symlink(root: Root, request: MakeSymlink) -> Changed:
    with find(root, request.path, follow=False) as place:
        try:
            if place.status is not None:
                if not stat.S_ISLNK(place.status.st_mode):
                    check_replaceable(place.path, place.status, request.replace)
                if not request.replace:
                    raise already(place.path)
                os.unlink(place.name, dir_fd=place.fd)
            os.symlink(request.link_target.encode("utf-8", "surrogateescape"), place.name, dir_fd=place.fd)
        except OSError as error:
            raise place.explained(error, "cannot be made a symlink") from error
        return Changed(place.path)


def set_times(root: Root, request: SetTimes) -> Changed:
    fd = root.open(request.path, os.O_PATH)
    try:
        os.utime(f"/proc/self/fd/{fd}", ns=(request.mtime_ns, request.mtime_ns))
        if request.mode is not None:
            _chmod_fd(fd, request.mode)
        if request.durable and stat.S_ISDIR(os.fstat(fd).st_mode):
            with Place(os.dup(fd), b".", request.path, None) as place:
                place.sync()
    except OSError as error:
        with Place(os.dup(fd), b".", request.path, None) as place:
            raise place.explained(error, "does not take its time and mode") from error
    finally:
        os.close(fd)
    return Changed(request.path)


class Step:
    """What one answer's worth of work did."""

    def __init__(self, request: TreeChange, cancelled: threads.Event) -> None:
        self._request = request
        self._cancelled = cancelled
        self._until = time.monotonic() + STEP_SECONDS
        self.changed = 0
        self.failures: list[str] = []
        self.failed = 0
        self.out_of_time = False

    def fail(self, path: str, error: OSError) -> None:
        self.failed += 1
        if len(self.failures) < MAX_FAILURES:
            self.failures.append(f"{path}: {error.strerror}")

    def may_go_on(self) -> bool:
        if self._cancelled.is_set():
            raise Failed("the request was cancelled")
        # Something is always done, so that asking again comes to an end.
        self.out_of_time = time.monotonic() > self._until and (self.changed > 0 or self.failed > 0)
        return not self.out_of_time

    def answer(self) -> Changed:
        return Changed(
            self._request.path,
            changed=self.changed,
            done=not self.out_of_time,
            failures=tuple(self.failures),
            failed=self.failed,
        )


class Descent:
    """One directory at a time of a tree; `path` is for messages."""

    def __init__(self, fd: int, path: str, proc: str, cross_mounts: bool) -> None:
        self._fd = fd
        self._proc = proc
        self._mount = None if cross_mounts else self._mount_of(fd)
        self._above: list[tuple[int, int, str]] = []
        self.path = path

    def _mount_of(self, fd: int) -> tuple[Optional[int], int]:
        try:
            return _mount_id(self._proc, fd), os.fstat(fd).st_dev
        except (OSError, KdebugError):
            return None, os.fstat(fd).st_dev

    @property
    def fd(self) -> int:
        return self._fd

    @property
    def depth(self) -> int:
        return len(self._above)

    def names(self) -> Iterator[bytes]:
        with os.scandir(self._fd) as entries:
            for entry in entries:
                yield os.fsencode(entry.name)

    def down(self, name: bytes) -> None:
        """Into a directory, never through a link. `OSError` EXDEV where another mount begins."""
        fd = os.open(name, _DOWN, dir_fd=self._fd)
        if self._mount is not None and self._mount_of(fd) != self._mount:
            os.close(fd)
            raise OSError(errno.EXDEV, "another mount begins here")
        here = os.fstat(self._fd)
        self._above.append((here.st_dev, here.st_ino, self.path))
        os.close(self._fd)
        self._fd = fd
        self.path = f"{self.path.rstrip('/')}/{path_text(name)}"

    def up(self) -> None:
        device, inode, path = self._above.pop()
        try:
            fd = os.open("..", _DOWN, dir_fd=self._fd)
        except PermissionError:
            # The directory that holds the tree may be closed to reading, and needs none.
            fd = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._fd)
        status = os.fstat(fd)
        os.close(self._fd)
        self._fd = fd
        if (status.st_dev, status.st_ino) != (device, inode):
            raise Failed(f"{self.path} was moved meanwhile", why="it is not where we came from any more")
        self.path = path

    def close(self) -> None:
        os.close(self._fd)


def remove(root: Root, request: Remove, proc: str, cancelled: threads.Event) -> Changed:
    _refuse_root(root, request.path, "the root of the target is never removed")
    with find(root, request.path, follow=False) as place:
        if place.status is None:
            if request.missing_ok:
                return Changed(place.path, changed=0)
            raise NotFound(f"{place.path} does not exist in the target", errno=errno.ENOENT)
        try:
            if not stat.S_ISDIR(place.status.st_mode):
                os.unlink(place.name, dir_fd=place.fd)
                return Changed(place.path)
        except OSError as error:
            raise place.explained(error, "cannot be removed") from error
        if not request.recursive:
            raise Failed(
                f"{place.path} is a directory", next_step="-r removes it with all below", errno=errno.EISDIR
            )
        return _remove_tree(place, request, proc, cancelled)


def _refuse_root(root: Root, path: str, why: str) -> None:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts[-1:]:
        raise UsageError(f"{path} is refused", why=why)
    top = root.stat("/")
    try:
        status = root.stat(path, follow=False)
    except KdebugError:
        return
    if (status.st_dev, status.st_ino) == (top.st_dev, top.st_ino):
        raise UsageError(f"{path} is refused", why=why)


def _remove_tree(place: Place, request: Remove, proc: str, cancelled: threads.Event) -> Changed:
    step = Step(request, cancelled)
    above = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place.fd)
    top = Descent(above, place.path.rpartition("/")[0] or "/", proc, request.cross_mounts)
    try:
        _remove_all(top, place.name, step)
    except OSError as error:
        raise place.explained(error, "cannot be removed") from error
    finally:
        top.close()
    return step.answer()


def _remove_all(walk: Descent, name: bytes, step: Step) -> None:
    """Post-order, without recursion: what a directory holds is listed again after each descent."""
    kept: list[set[bytes]] = [set()]
    path: list[bytes] = []
    if not _enter(walk, name, step):
        return
    path.append(name)
    kept.append(set())
    while path:
        child = _next_directory(walk, kept[-1], step)
        if step.out_of_time:
            return
        if child is not None:
            if _enter(walk, child, step):
                path.append(child)
                kept.append(set())
            else:
                kept[-1].add(child)
            continue
        walk.up()
        left, gone = kept.pop(), path.pop()
        shown = f"{walk.path.rstrip('/')}/{path_text(gone)}"
        try:
            os.rmdir(gone, dir_fd=walk.fd)
            step.changed += 1
        except OSError as error:
            kept[-1].add(gone)
            if not left or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                step.fail(shown, error)


def _enter(walk: Descent, name: bytes, step: Step) -> bool:
    try:
        walk.down(name)
        return True
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        step.fail(f"{walk.path.rstrip('/')}/{path_text(name)}", error)
        return False


def _next_directory(walk: Descent, kept: set[bytes], step: Step) -> Optional[bytes]:
    """Unlink what is no directory; the first directory that was not tried yet, or None."""
    for name in walk.names():
        if name in kept:
            continue
        if not step.may_go_on():
            return None
        try:
            status = lstat(name, walk.fd)
            if status is None:
                continue
            if stat.S_ISDIR(status.st_mode):
                return name
            os.unlink(name, dir_fd=walk.fd)
            step.changed += 1
        except OSError as error:
            kept.add(name)
            step.fail(f"{walk.path.rstrip('/')}/{path_text(name)}", error)
    return None


def chmod(root: Root, request: Chmod, proc: str, cancelled: threads.Event) -> Changed:
    if request.recursive:
        _refuse_root(root, request.path, "the modes of a whole root are never changed")
    fd = root.open(request.path, os.O_PATH)
    try:
        status = os.fstat(fd)
        is_dir = stat.S_ISDIR(status.st_mode)
        if not (request.recursive and is_dir):
            _chmod_one(fd, request, status)
            return Changed(request.path, entry_from(request.path.rpartition("/")[2], os.fstat(fd)))
        return _chmod_tree(fd, request, proc, cancelled)
    except OSError as error:
        with Place(os.dup(fd), b".", request.path, None) as place:
            raise _not_owner(place, status, error) from error
    finally:
        os.close(fd)


def _not_owner(place: Place, status: os.stat_result, error: OSError) -> KdebugError:
    from kdebug.errors import AccessDenied

    if error.errno != errno.EPERM:
        return place.explained(error, "does not take that mode")
    return AccessDenied(
        f"{place.path} does not take that mode",
        why=f"it belongs to uid {status.st_uid}, and the agent is uid {os.geteuid()}",
        next_step="it takes that uid, or the capability FOWNER",
        errno=error.errno,
    )


def _chmod_one(fd: int, request: Chmod, status: os.stat_result) -> None:
    wanted = apply_mode(request.mode, stat.S_IMODE(status.st_mode), stat.S_ISDIR(status.st_mode))
    if wanted != stat.S_IMODE(status.st_mode):
        _chmod_fd(fd, wanted)


def _chmod_tree(fd: int, request: Chmod, proc: str, cancelled: threads.Event) -> Changed:
    """Pre-order as chmod -R; entries that earlier steps did are passed over by their number."""
    step, passed = Step(request, cancelled), 0

    def change(name: bytes, dir_fd: int, shown: str) -> Optional[os.stat_result]:
        nonlocal passed
        passed += 1
        try:
            one = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
        except OSError as error:
            step.fail(shown, error)
            return None
        try:
            status = os.fstat(one)
            if passed > request.skip and not stat.S_ISLNK(status.st_mode):
                _chmod_one(one, request, status)
                step.changed += 1
            return status
        except OSError as error:
            step.fail(shown, error)
            return status
        finally:
            os.close(one)

    walk = Descent(
        os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd),
        request.path,
        proc,
        request.cross_mounts,
    )
    try:
        change(b".", fd, request.path)
        _visit(walk, change, step)
    finally:
        walk.close()
    return step.answer()


Change = Callable[[bytes, int, str], Optional[os.stat_result]]


def _visit(walk: Descent, change: Change, step: Step) -> None:
    """Every entry below once, in the order of its directory."""
    waiting: list[Iterator[bytes]] = [_readable_names(walk, step)]
    while waiting:
        if not step.may_go_on():
            return
        name = next(waiting[-1], None)
        if name is None:
            waiting.pop()
            if waiting:
                walk.up()
            continue
        shown = f"{walk.path.rstrip('/')}/{path_text(name)}"
        status = change(name, walk.fd, shown)
        if status is not None and stat.S_ISDIR(status.st_mode) and _enter(walk, name, step):
            waiting.append(_readable_names(walk, step))


def _readable_names(walk: Descent, step: Step) -> Iterator[bytes]:
    """The whole of a directory at once, in order: modes change while we look."""
    try:
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=walk.fd)
        try:
            return iter(sorted(os.fsencode(name) for name in os.listdir(fd)))
        finally:
            os.close(fd)
    except OSError as error:
        step.fail(walk.path, error)
        return iter(())
