"""One process in full: every file of /proc/PID that says something, each with its own reason if not."""

from __future__ import annotations

import os

from kdebug.annotations import Callable, Optional, TypeVar
from kdebug.errors import AccessDenied, NotFound
from kdebug.probe import process_limits
from kdebug.probe.capabilities import capability_names
from kdebug.probe.identity import MAX_SMALL, read_small
from kdebug.probe.process_environ import read_environ as read_environ
from kdebug.probe.process_io import io_detail
from kdebug.probe.process_memory import memory_detail
from kdebug.probe.process_parse import Stat, ids, parse_cmdline, parse_stat, parse_status, text_of
from kdebug.probe.process_signal import check_same
from kdebug.probe.process_static import ENDED, UserName, read_link, reason_of
from kdebug.probe.process_table import TICKS, ProcessTable
from kdebug.protocol.processes import Capabilities, LimitInfo, Process, ProcessDetail, ThreadInfo
from kdebug.protocol.record import replace

T = TypeVar("T")
MAX_THREADS = 1000
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
SECCOMP = {b"0": "disabled", b"1": "strict", b"2": "filter"}
OVERFLOW_ID = 65534
"""Stands for every id that the agent's user namespace has no number for (user_namespaces(7))."""


def process_detail(proc: str, pid: int, start_ticks: int, *, user_name: UserName) -> ProcessDetail:
    """Everything about `pid`. `NotFound` when it has ended or is no longer the same process.

    `AccessDenied` where not even its stat may be read (hidepid); other refusals are reasons in the answer.
    """
    check_same(proc, pid, start_ticks)
    row = ProcessTable(target_pid=pid, proc=proc, user_name=user_name).one(pid)
    if row is None:
        raise NotFound(f"the process {pid} has ended")
    try:
        detail = _Reader(proc, pid).detail(row)
    except PermissionError as error:
        raise AccessDenied(f"the process {pid} may not be examined", why=reason_of(error)) from error
    except ENDED:
        raise NotFound(f"the process {pid} has ended") from None
    # All of it was read by number: only now is it known to be of one process.
    check_same(proc, pid, start_ticks or row.start_ticks)
    return detail


class _Reader:
    """Reads one process' files; a failing one leaves None and its reason."""

    def __init__(self, proc: str, pid: int) -> None:
        self._proc, self._pid = proc, pid
        self._base = f"{proc}/{pid}"
        self.reasons: dict[str, str] = {}

    def _try(self, name: str, read: Callable[[], T]) -> Optional[T]:
        try:
            return read()
        except OSError as error:
            self.reasons[name] = reason_of(error)
        except (ValueError, KeyError, IndexError):
            self.reasons[name] = "this kernel does not say"
        return None

    def _file(self, name: str) -> bytes:
        return read_small(f"{self._base}/{name}")

    def _number(self, name: str) -> Optional[int]:
        return self._try(name, lambda: int(self._file(name)))

    def _link(self, name: str) -> Optional[str]:
        return self._try(name, lambda: read_link(f"{self._base}/{name}"))

    def detail(self, row: Process) -> ProcessDetail:
        stat, status = parse_stat(self._file("stat")), parse_status(self._file("status"))
        uids, gids = ids(status[b"Uid"]), ids(status[b"Gid"])
        threads = self._try("threads", self._threads) or ()
        return ProcessDetail(
            process=self._untruncated(row),
            real_uid=uids[0],
            saved_uid=uids[2],
            real_gid=gids[0],
            saved_gid=gids[2],
            groups=tuple(int(group) for group in status.get(b"Groups", b"").split()),
            ns_pids=tuple(int(number) for number in status.get(b"NSpid", b"").split()),
            session=stat.session,
            process_group=stat.process_group,
            tty=stat.tty,
            priority=stat.priority,
            user_seconds=stat.user_ticks / TICKS,
            system_seconds=stat.system_ticks / TICKS,
            memory=memory_detail(self._base, status, stat, self.reasons),
            capabilities=self._try("capabilities", lambda: _capabilities(status)),
            no_new_privs=self._try("no_new_privs", lambda: int(status[b"NoNewPrivs"]) == 1),
            seccomp=self._try("seccomp", lambda: SECCOMP[status[b"Seccomp"]]),
            dumpable=self._dumpable(stat, (uids[1], gids[1])),
            oom_score=self._number("oom_score"),
            oom_score_adj=self._number("oom_score_adj"),
            cwd=self._link("cwd"),
            root=self._link("root"),
            cgroup=tuple(
                line for line in text_of(self._try("cgroup", self._cgroup) or b"").split("\n") if line
            ),
            namespaces={name: self._namespace(name) for name in NAMESPACES},
            voluntary_switches=self._switches("voluntary_switches", status, b"voluntary_ctxt_switches"),
            involuntary_switches=self._switches(
                "involuntary_switches", status, b"nonvoluntary_ctxt_switches"
            ),
            io=io_detail(self._pid, self.reasons),
            limits=self._limits(),
            threads=threads[:MAX_THREADS],
            threads_truncated=len(threads) > MAX_THREADS,
            reasons=self.reasons,
        )

    def _untruncated(self, row: Process) -> Process:
        """The row with its whole command line (64 KiB at most)."""
        raw = self._try("cmdline", lambda: read_small(f"{self._base}/cmdline", MAX_SMALL + 1))
        if raw is None:
            return row
        whole = len(raw) <= MAX_SMALL
        return replace(row, cmdline=parse_cmdline(raw[:MAX_SMALL]), cmdline_truncated=not whole)

    def _cgroup(self) -> bytes:
        return self._file("cgroup")

    def _limits(self) -> tuple[LimitInfo, ...]:
        try:
            return process_limits.limits(self._proc, self._pid)
        except AccessDenied as denied:
            self.reasons["limits"] = denied.why
            return ()

    def _namespace(self, name: str) -> Optional[int]:
        """namespaces(7): the link reads "net:[4026531992]"."""
        return self._try(
            f"namespaces.{name}",
            lambda: int(read_link(f"{self._base}/ns/{name}").partition("[")[2].rstrip("]")),
        )

    def _switches(self, name: str, status: dict[bytes, bytes], key: bytes) -> Optional[int]:
        return self._try(name, lambda: int(status[key]))

    def _dumpable(self, stat: Stat, effective: tuple[int, int]) -> Optional[bool]:
        """proc(5): files of a non-dumpable process belong to root and its group, else to its effective ids.

        Nothing is proven where those are the same, where there is no memory left to be dumped, or where
        the ids have no number here.
        """
        owner = self._try("dumpable", self._owner)
        if owner is None:
            return None
        if stat.state in "ZXx":
            self.reasons["dumpable"] = "it has ended and has no memory any more"
        elif effective == (0, 0):
            self.reasons["dumpable"] = "cannot be told for a process of root"
        elif OVERFLOW_ID in (*effective, *owner):
            self.reasons["dumpable"] = "cannot be told for ids of another user namespace"
        elif owner == effective:
            return True
        elif owner == (0, 0):
            return False
        else:
            self.reasons["dumpable"] = f"its files belong to {owner[0]}:{owner[1]}, which proves nothing"
        return None

    def _owner(self) -> tuple[int, int]:
        status = os.stat(f"{self._base}/environ")
        return status.st_uid, status.st_gid

    def _threads(self) -> tuple[ThreadInfo, ...]:
        threads = []
        for tid in sorted(int(name) for name in os.listdir(f"{self._base}/task"))[: MAX_THREADS + 1]:
            try:
                stat = parse_stat(self._file(f"task/{tid}/stat"))
            except ENDED:
                continue
            seconds = (stat.user_ticks + stat.system_ticks) / TICKS
            threads.append(ThreadInfo(tid, text_of(stat.name), stat.state, seconds))
        return tuple(threads)


def _capabilities(status: dict[bytes, bytes]) -> Capabilities:
    keys = (b"CapEff", b"CapPrm", b"CapInh", b"CapBnd", b"CapAmb")
    return Capabilities(*(capability_names(int(status[key], 16)) for key in keys))
