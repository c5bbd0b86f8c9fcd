"""Who holds which socket: the "socket:[inode]" links below /proc/*/fd."""

from __future__ import annotations

import os
from collections.abc import Iterator


class Owners:
    """inode -> pids of the processes in the target's network namespace."""

    def __init__(self, proc: str, pid: int) -> None:
        self.pids: dict[int, tuple[int, ...]] = {}
        self.unread = 0
        """Processes that may hold sockets and may not be asked."""
        namespace = _namespace(proc, pid)
        for name in os.listdir(proc):
            if name.isdigit() and _may_hold(proc, int(name), namespace):
                self._add(proc, int(name))

    def _add(self, proc: str, pid: int) -> None:
        try:
            with os.scandir(f"{proc}/{pid}/fd") as entries:
                for inode in _socket_inodes(entries):
                    held = self.pids.get(inode, ())
                    if pid not in held:
                        self.pids[inode] = (*held, pid)
        except PermissionError:
            self.unread += 1
        except OSError:
            pass  # it has ended, and its sockets with it


def _namespace(proc: str, pid: int) -> str:
    try:
        return os.readlink(f"{proc}/{pid}/ns/net")
    except OSError:
        return ""


def _may_hold(proc: str, pid: int, namespace: str) -> bool:
    """Not a process of another network namespace, as far as that may be read; kernel threads hold none."""
    try:
        return not namespace or os.readlink(f"{proc}/{pid}/ns/net") == namespace
    except PermissionError:
        return True
    except OSError:
        return False


def _socket_inodes(entries: Iterator[os.DirEntry[str]]) -> Iterator[int]:
    for entry in entries:
        try:
            target = os.readlink(entry.path)
        except OSError:
            continue  # closed meanwhile
        if target.startswith("socket:["):
            yield int(target[8:-1])
