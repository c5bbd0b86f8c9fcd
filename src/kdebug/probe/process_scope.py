"""Which of the visible processes belong to the target: those of its PID namespace and below."""

from __future__ import annotations

import os

from kdebug.probe.process_parse import parse_status
from kdebug.probe.process_static import read_at


class Scope:
    """Decides by namespace link, and by ancestry where a link may not be read.

    The first process of a nested PID namespace is a child of a process of the outer one, so whoever
    has an ancestor in the target's namespace is in it or below it (pid_namespaces(7)).
    """

    def __init__(self, proc_fd: int, target_pid: int) -> None:
        self._proc_fd = proc_fd
        self._namespace = self._link(target_pid)
        self._everything = not self._namespace or self._namespace == self._link("self")
        self.sentence = self._sentence()

    def _link(self, pid: object) -> str:
        try:
            return os.readlink(f"{pid}/ns/pid", dir_fd=self._proc_fd)
        except OSError:
            return ""

    def _sentence(self) -> str:
        if not self._namespace:
            return "every visible process: which PID namespace the target is in may not be read"
        if self._everything:
            return "every process of the PID namespace that the agent shares with the target"
        return "the processes of the target's PID namespace, with the agent's numbers for them"

    def contains(self, pid: int) -> bool:
        """Whether `pid` is in the target's namespace or in one below it."""
        if self._everything:
            return True
        for _ in range(64):  # a chain of parents is never deeper than namespaces may nest (32), doubled
            link = self._link(pid)
            if link == self._namespace:
                return True
            if link and link == self._link("self"):
                return False
            pid = self._parent(pid)
            if pid <= 1:
                return False
        return False

    def _parent(self, pid: int) -> int:
        try:
            return int(parse_status(read_at(self._proc_fd, f"{pid}/status", 8192)).get(b"PPid", b"0"))
        except (OSError, ValueError):
            return 0
