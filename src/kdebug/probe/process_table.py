"""The process table: the hot path of a session, refreshed every second beside a busy target.

One pass reads one file a process (/proc/PID/stat). Where its text is the same as before, so is the row.
What seldom changes (owner, arguments, program, container) is read again at once when the name, the
program's addresses, or the flags for fork, privilege and end change, and otherwise after
`REVALIDATE_EVERY` passes at the latest: within that bound every exec and every setuid shows, and so does
resident memory that others took away from a process which did nothing itself.
"""

from __future__ import annotations

import os
import sys
import time

from kdebug import threads
from kdebug.annotations import Optional
from kdebug.errors import Failed
from kdebug.probe.container_id import Containers
from kdebug.probe.process_fds import count_fds
from kdebug.probe.process_parse import PF_KTHREAD, Stat, exec_mark, parse_stat, text_of
from kdebug.probe.process_pass import Pass
from kdebug.probe.process_scope import Scope
from kdebug.probe.process_static import ENDED, Static, UserName, read_static
from kdebug.protocol.processes import Process

REVALIDATE_EVERY = 16
KEPT_GENERATIONS = 64
"""How far back a client's `since` may lie; older ones get a full pass."""
MAX_GONE = 10_000
"""Ends remembered for them: a target that forks in a loop must not fill the agent's memory."""
Key = tuple[int, int]
"""(pid, start_ticks)."""

OUTSIDE = sys.maxsize
"""`Known.due` of a process out of scope: it is never looked at again."""
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


class Known:
    """What the table remembers of one process."""

    __slots__ = ("changed", "counted", "due", "fds", "key", "mark", "row", "seen", "static", "text")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.text = 0
        """Hash of the text of stat that `row` was made from: the text itself is ten times larger."""
        self.mark = 0
        """Hash of `exec_mark`."""
        self.static: Optional[Static] = None
        """None for processes out of scope, too."""
        self.row: Optional[Process] = None
        """None for processes out of scope."""
        self.counted = False
        self.fds: Optional[int] = None
        self.changed = 0
        self.seen = 0
        self.due = 0
        """Generation at which the static facts are read again."""


class ProcessTable:
    """One session's table. Several passes may be under way, their pages taken by one thread at a time.

    Generations are one clock for all passes. It starts at the time of day in microseconds, so a `since`
    from another table, of an earlier agent or target, gets a full pass.
    """

    def __init__(self, *, target_pid: int, proc: str = "/proc", user_name: UserName) -> None:
        self.proc_fd = -1
        self.proc_fd = os.open(proc, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._user_name = user_name
        self._containers = Containers(proc)
        self._scope = Scope(self.proc_fd, target_pid, proc)
        self._boot = _boot_time(self.proc_fd)
        self.known: dict[int, Known] = {}
        self._gone: list[tuple[int, Key]] = []
        self.generation = self._floor = time.time_ns() // 1000
        self._lock = threads.Lock()

    def __del__(self) -> None:
        if self.proc_fd >= 0:
            os.close(self.proc_fd)

    def open_pass(self, since: int = 0, fds: bool = True) -> Pass:
        """Begin to read the table; rows come while `Pass.rows` is iterated."""
        with self._lock:
            self.generation += 1
            floor = max(self._floor, self.generation - KEPT_GENERATIONS)
            known = floor <= since < self.generation
            return Pass(self, self.generation, since if known else 0, fds, self._scope.sentence)

    def one(self, pid: int) -> Optional[Process]:
        """The row of a single process, descriptors counted; None when it has ended or is out of scope."""
        reading = self.open_pass()
        known = self.look(pid, reading)
        return known.row if known else None

    def pids(self) -> list[int]:
        return sorted([int(name) for name in os.listdir(self.proc_fd) if name.isdigit()])

    def look(self, pid: int, reading: Pass) -> Optional[Known]:
        """What is known of `pid` now; None when it has ended or may not be seen at all (hidepid)."""
        try:
            text = self._read(pid, "stat")
            known = self.known.get(pid)
            if known is None or known.text != hash(text) or self._stale(known, reading):
                known = self._study(pid, text, known, reading)
        except (*ENDED, PermissionError, ValueError, IndexError):
            return None
        known.seen = self.generation
        return known

    def _read(self, pid: int, name: str) -> bytes:
        fd = os.open(f"{pid}/{name}", os.O_RDONLY, dir_fd=self.proc_fd)
        try:
            return os.read(fd, 2048)
        finally:
            os.close(fd)

    def _stale(self, known: Known, reading: Pass) -> bool:
        """Whether a process with the same stat needs another look all the same."""
        if known.due <= self.generation:
            return True
        if known.row is None or not (reading.fds or known.counted):
            return False
        return known.counted != reading.fds or self._fds(known.key[0])[0] != known.fds

    def _study(self, pid: int, text: bytes, known: Optional[Known], reading: Pass) -> Known:
        """Read whatever may have changed; raises as /proc does when the process has ended meanwhile."""
        stat = parse_stat(text)
        if known is not None and known.key[1] != stat.start_ticks:
            self._bury(known, reading)
            known = None
        known = known or Known((pid, stat.start_ticks))
        mark = hash(exec_mark(stat))
        if known.mark != mark or known.due <= self.generation:
            self._restudy(known, stat)
            known.mark = mark
        if known.static is not None:
            self._renew(known, known.static, stat, reading)
        known.text = hash(text)
        self.known[pid] = known
        return known

    def _restudy(self, known: Known, stat: Stat) -> None:
        pid, first = known.key[0], not known.due
        # A process never changes its own PID namespace (pid_namespaces(7)), whatever it runs or is called.
        if first and not self._scope.contains(pid):
            known.due = OUTSIDE
        if known.due == OUTSIDE:
            return
        kernel_thread = bool(stat.flags & PF_KTHREAD)
        static = read_static(self.proc_fd, pid, kernel_thread, self._user_name, self._containers)
        # The pid may have been given to another process between the two reads.
        if (
            not static.same_as(known.static)
            and parse_stat(self._read(pid, "stat")).start_ticks != known.key[1]
        ):
            raise ProcessLookupError(pid)
        # The first time is staggered by pid, so that one pass re-reads one row in sixteen and not all.
        known.due = self.generation + (1 + pid % REVALIDATE_EVERY if first else REVALIDATE_EVERY)
        known.static = static

    def _renew(self, known: Known, static: Static, stat: Stat, reading: Pass) -> None:
        pid = known.key[0]
        known.fds, why = self._fds(pid) if reading.fds else (None, "")
        known.counted = reading.fds
        row = self._build(pid, stat, static, known.fds, why)
        if row != known.row:
            known.row, known.changed = row, self.stamp(reading)

    def _fds(self, pid: int) -> tuple[Optional[int], str]:
        return count_fds(f"{pid}/fd", self.proc_fd)

    def _build(self, pid: int, stat: Stat, static: Static, fds: Optional[int], why: str) -> Process:
        return Process(
            pid=pid,
            start_ticks=stat.start_ticks,
            ppid=stat.ppid,
            name=text_of(stat.name),
            state=stat.state,
            # Not from stat: there the figure is off by some pages for each CPU (proc(5)).
            rss_bytes=int(self._read(pid, "statm").split(None, 2)[1]) * PAGE,
            vsize_bytes=stat.vsize,
            cpu_seconds=(stat.user_ticks + stat.system_ticks) / TICKS,
            threads=stat.threads,
            started_at=self._boot + stat.start_ticks / TICKS,
            nice=stat.nice,
            uid=static.uid,
            gid=static.gid,
            user=static.user,
            fds=fds,
            cmdline=static.cmdline,
            cmdline_truncated=static.cmdline_truncated,
            exe=static.exe,
            container=static.container,
            kernel_thread=bool(stat.flags & PF_KTHREAD),
            reasons={**static.reasons, "fds": why} if why else static.reasons,
        )

    def stamp(self, reading: Pass) -> int:
        """The generation under which a change seen now is kept.

        Later than every other pass that may have gone by this process already, or the client of that
        pass would never hear of the change.
        """
        with self._lock:
            if reading.stamp != self.generation:
                self.generation += 1
                reading.stamp = self.generation
            return reading.stamp

    def _bury(self, known: Known, reading: Pass) -> None:
        del self.known[known.key[0]]
        # Who was out of scope never had a row that a client could miss.
        if known.row is not None:
            self._gone.append((self.stamp(reading), known.key))

    def end_pass(self, reading: Pass) -> list[Key]:
        """Forget who was not seen since `reading` listed the pids; returns who ended since its `since`."""
        for known in [known for known in self.known.values() if known.seen < reading.listed]:
            self._bury(known, reading)
        if not reading.full and reading.since < self._floor:
            raise Failed(
                "what changed since is no longer known",
                why="too much ended while the table was read",
                next_step="ask for the whole table",
            )
        gone = [key for when, key in self._gone if when > reading.since and not self._alive(key)]
        self._forget_old_ends()
        return gone

    def _alive(self, key: Key) -> bool:
        known = self.known.get(key[0])
        return known is not None and known.key == key

    def _forget_old_ends(self) -> None:
        floor = max(self._floor, self.generation - KEPT_GENERATIONS)
        if len(self._gone) > MAX_GONE:
            floor = max(floor, self._gone[-MAX_GONE][0])
        self._gone = [entry for entry in self._gone if entry[0] > floor]
        self._floor = floor


def _boot_time(proc_fd: int) -> float:
    """btime of /proc/stat, sharpened: it is whole seconds, and CLOCK_BOOTTIME is not."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    if boot is not None:
        return time.time() - time.clock_gettime(boot)
    fd = os.open("stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc_fd)
    try:
        text = os.read(fd, 1 << 20)
    finally:
        os.close(fd)
    return float(text.rpartition(b"btime ")[2].split()[0])
