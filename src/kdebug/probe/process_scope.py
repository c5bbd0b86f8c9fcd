"""Which of the visible processes belong to the target: those of its PID namespace and below."""

from __future__ import annotations

import fcntl
import os

from kdebug.annotations import Optional
from kdebug.probe.process_parse import parse_status
from kdebug.probe.process_static import read_at

NS_GET_PARENT = 0xB702
"""ioctl_ns(2), Linux 4.9: a descriptor of the namespace above; EPERM at the caller's own and outside it."""
MAX_NAMESPACES = 32
"""PID namespaces nest no deeper (pid_namespaces(7))."""
MAX_ANCESTORS = 1024
MAX_VERDICTS = 1024
MAX_MOUNTINFO = 256 * 1024


class Scope:
    """Decides by namespace: its own, else those above it; by ancestry where its link may not be read.

    The first process of a nested PID namespace is a child of a process of the outer one, and orphans
    stay within their namespace, so whoever has an ancestor in the target's is in it or below it.
    """

    def __init__(self, proc_fd: int, target_pid: int, proc: str = "/proc") -> None:
        self._proc_fd = proc_fd
        self._namespace = self._link(target_pid)
        self._own = self._link("self")
        self._everything = not self._namespace or self._namespace == self._own
        self._verdicts: dict[str, bool] = {}
        """By namespace link: whether it is the target's or below it."""
        self.sentence = self._sentence() + _hidden(read_or_nothing(proc_fd, "self/mountinfo"), proc)

    def contains(self, pid: int) -> bool:
        """Whether `pid` is in the target's namespace or in one below it. Never raises."""
        if self._everything:
            return True
        link = self._link(pid)
        if not link:
            return self._by_ancestry(pid)
        if link not in self._verdicts:
            if len(self._verdicts) >= MAX_VERDICTS:
                self._verdicts.clear()
            verdict = self._by_nesting(pid, link)
            if verdict is None:
                return self._by_ancestry(pid)
            self._verdicts[link] = verdict
        return self._verdicts[link]

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
        return "the processes of the target's PID namespace and below, with the agent's numbers for them"

    def _by_nesting(self, pid: int, link: str) -> Optional[bool]:
        """Climbs from the process' namespace; None where the kernel cannot tell."""
        if link in (self._namespace, self._own):
            return link == self._namespace
        try:
            fd = os.open(f"{pid}/ns/pid", os.O_RDONLY, dir_fd=self._proc_fd)
        except OSError:
            return None
        try:
            if f"pid:[{os.fstat(fd).st_ino}]" != link:
                return None  # the pid changed hands
            for _ in range(MAX_NAMESPACES):
                above = fcntl.ioctl(fd, NS_GET_PARENT)
                os.close(fd)
                fd = above
                if f"pid:[{os.fstat(fd).st_ino}]" == self._namespace:
                    return True
            return False
        except PermissionError:
            return False  # the agent's own namespace was reached and the target's was not on the way
        except OSError:
            return None
        finally:
            os.close(fd)

    def _by_ancestry(self, pid: int) -> bool:
        for _ in range(MAX_ANCESTORS):
            pid = self._parent(pid)
            link = self._link(pid) if pid > 0 else self._own
            if link:
                return link != self._own and self.contains(pid)
        return False

    def _parent(self, pid: int) -> int:
        try:
            return int(parse_status(read_at(self._proc_fd, f"{pid}/status", 8192)).get(b"PPid", b"0"))
        except (OSError, ValueError):
            return 0


def read_or_nothing(proc_fd: int, path: str) -> bytes:
    try:
        return read_at(proc_fd, path, MAX_MOUNTINFO)
    except OSError:
        return b""


def _hidden(mountinfo: bytes, proc: str) -> str:
    """What the mount options of `proc` hide (proc(5): hidepid); the topmost mount comes last."""
    options: list[str] = []
    for line in mountinfo.decode("utf-8", "replace").split("\n"):
        fields = line.split(" ")
        if len(fields) > 9 and fields[4] == proc and fields[-3] == "proc":
            options = fields[-1].split(",")
    value = next((o.partition("=")[2] for o in options if o.startswith("hidepid=")), "off")
    if value in ("off", "0"):
        return ""
    return f"; {proc} is mounted with hidepid={value}: processes that the agent may not trace do not show"
