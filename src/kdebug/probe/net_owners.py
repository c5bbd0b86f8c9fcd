"""Who holds which socket: the "socket:[inode]" links below /proc/*/fd."""

from __future__ import annotations

import os

from kdebug.annotations import Iterator


class Owners:
    """inode -> pids, of every process: one of another network namespace may hold sockets of the target's,
    for it was there before or got them from a socket activation."""

    def __init__(self, proc: str) -> None:
        self.pids: dict[int, tuple[int, ...]] = {}
        self.unread = 0
        """Processes that may hold sockets and may not be asked."""
        for name in os.listdir(proc):
            if name.isdigit():
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


def _socket_inodes(entries: Iterator[os.DirEntry[str]]) -> Iterator[int]:
    for entry in entries:
        try:
            target = os.readlink(entry.path)
        except OSError:
            continue  # closed meanwhile
        if target.startswith("socket:["):
            yield int(target[8:-1])
