"""The process table: the hot path of a session, refreshed every second beside a busy target.

One pass reads one file a process (/proc/PID/stat); what seldom changes is kept by (pid, start time,
name) and read again for one row in `REVALIDATE_EVERY` on each pass, so an exec that keeps its name, or a
change of user, shows after at most that many passes.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Callable, Optional

from kdebug.probe.process_parse import PF_KTHREAD, Stat, parse_stat, text_of
from kdebug.probe.process_scope import Scope
from kdebug.probe.process_static import Static, read_static, reason_of
from kdebug.protocol.processes import Process

REVALIDATE_EVERY = 16
KEPT_GENERATIONS = 64
"""How far back a client's `since` may lie; older ones get a full pass."""
Key = tuple[int, int]

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


class Known:
    """What the table remembers of one process."""

    __slots__ = ("changed", "name", "raw", "row", "static")

    def __init__(self, static: Static, name: bytes) -> None:
        self.static = static
        self.name = name
        self.raw = b""
        self.row: Optional[Process] = None
        self.changed = 0


class ProcessTable:
    """One session's table. Several passes may run, one page at a time, from one thread."""

    def __init__(
        self, *, target_pid: int, proc: str = "/proc", user_name: Callable[[int], Optional[str]]
    ) -> None:
        self._proc = proc
        self._proc_fd = os.open(proc, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._user_name = user_name
        self._scope = Scope(self._proc_fd, target_pid)
        self._boot = _boot_time(self._proc_fd)
        self._known: dict[Key, Known] = {}
        self._gone: list[tuple[int, Key]] = []
        self._generation = 0
        self._lock = threading.Lock()

    def __del__(self) -> None:
        os.close(self._proc_fd)

    def open_pass(self, since: int = 0, fds: bool = True) -> Pass:
        """Begin to read the table; rows come while `Pass.rows` is iterated."""
        with self._lock:
            self._generation += 1
            full = not (0 < since < self._generation and self._generation - since <= KEPT_GENERATIONS)
            return Pass(self, self._generation, 0 if full else since, fds, self._scope.sentence)

    def pids(self) -> list[int]:
        return sorted([int(name) for name in os.listdir(self._proc_fd) if name.isdigit()])

    def row(self, pid: int, generation: int, fds: bool) -> Optional[tuple[Key, Known]]:
        """The present row of a process (no row when it is out of scope); None when it has ended."""
        try:
            raw = self._stat(pid)
            stat = parse_stat(raw)
            key = (pid, stat.start_ticks)
            known = self._static(key, stat, generation)
        except (FileNotFoundError, ProcessLookupError, ValueError, KeyError):
            return None
        if not known.static.in_scope:
            return key, known
        # The same text of stat is the same row, unless static facts or descriptors are looked at.
        if raw != known.raw or fds or known.row is None:
            try:
                self._update(known, key, stat, generation, fds)
            except (OSError, IndexError):
                return None
            known.raw = raw
        return key, known

    def _stat(self, pid: int) -> bytes:
        fd = os.open(f"{pid}/stat", os.O_RDONLY, dir_fd=self._proc_fd)
        try:
            return os.read(fd, 2048)
        finally:
            os.close(fd)

    def _static(self, key: Key, stat: Stat, generation: int) -> Known:
        known = self._known.get(key)
        due = (key[0] + generation) % REVALIDATE_EVERY == 0
        if known is not None and known.name == stat.name and not due:
            return known
        kernel_thread = bool(stat.flags & PF_KTHREAD)
        static = read_static(self._proc_fd, key[0], kernel_thread, self._user_name, self._scope.contains)
        # The pid may have been given to another process between the two reads.
        if parse_stat(self._stat(key[0])).start_ticks != key[1]:
            raise ProcessLookupError(key[0])
        if known is None or known.static != static or known.name != stat.name:
            fresh = Known(static, stat.name)
            fresh.changed = generation
            self._known[key] = known = fresh
        return known

    def _update(self, known: Known, key: Key, stat: Stat, generation: int, fds: bool) -> None:
        count, reason = self._fd_count(key[0]) if fds else (None, "")
        row = self._build(key, stat, self._rss(key[0]), known.static, count, reason)
        if row != known.row:
            known.row, known.changed = row, generation

    def _fd_count(self, pid: int) -> tuple[Optional[int], str]:
        try:
            return len(os.listdir(f"{self._proc}/{pid}/fd")), ""
        except OSError as error:
            return None, reason_of(error)

    def _rss(self, pid: int) -> int:
        """Bytes from statm: the figure in stat is off by some pages for each CPU (proc(5))."""
        fd = os.open(f"{pid}/statm", os.O_RDONLY, dir_fd=self._proc_fd)
        try:
            return int(os.read(fd, 256).split()[1]) * PAGE
        finally:
            os.close(fd)

    def _build(
        self, key: Key, stat: Stat, rss: int, static: Static, fds: Optional[int], why: str
    ) -> Process:
        return Process(
            pid=key[0],
            start_ticks=key[1],
            ppid=stat.ppid,
            name=text_of(stat.name),
            state=stat.state,
            rss_bytes=rss,
            vsize_bytes=stat.vsize,
            cpu_seconds=(stat.user_ticks + stat.system_ticks) / TICKS,
            threads=stat.threads,
            started_at=self._boot + key[1] / TICKS,
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

    def end_pass(self, generation: int, seen: set[Key]) -> None:
        """Forget who was not seen; called once a pass has reached its end."""
        with self._lock:
            for key in [key for key in self._known if key not in seen]:
                known = self._known[key]
                if known.changed <= generation:
                    del self._known[key]
                    # Who was out of scope never had a row that a client could miss.
                    self._gone += [(generation, key)] if known.row is not None else []
            oldest = self._generation - KEPT_GENERATIONS
            self._gone = [entry for entry in self._gone if entry[0] > oldest]

    def gone_since(self, since: int, generation: int) -> list[Key]:
        return [key for when, key in self._gone if since < when <= generation]


class Pass:
    """One reading of the table."""

    def __init__(self, table: ProcessTable, generation: int, since: int, fds: bool, scope: str) -> None:
        self._table = table
        self._since = since
        self._fds = fds
        self.generation = generation
        self.full = since == 0
        self.scope = scope
        self.taken_at = time.time()
        self.cost_seconds = 0.0
        """CPU time spent so far, by whichever thread took the pages."""

    def rows(self) -> Iterator[Process]:
        """Every row, or every row that changed after `since`; a process that ends meanwhile is skipped."""
        seen: set[Key] = set()
        started = time.thread_time()
        for pid in self._table.pids():
            found = self._table.row(pid, self.generation, self._fds)
            if found is None:
                continue
            key, known = found
            seen.add(key)
            if known.changed > self._since and known.row is not None:
                self.cost_seconds += time.thread_time() - started
                yield known.row
                started = time.thread_time()
        self._table.end_pass(self.generation, seen)
        self.cost_seconds += time.thread_time() - started

    def gone(self) -> list[Key]:
        """Who ended since; only complete once `rows` is exhausted. Empty on a full pass."""
        return [] if self.full else self._table.gone_since(self._since, self.generation)


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
