"""One process in full: every file of /proc/PID that says something, each with its own reason if not."""

from __future__ import annotations

import dataclasses
import os
from typing import Callable, Optional, TypeVar

from kdebug.errors import AccessDenied, NotFound
from kdebug.probe import process_limits
from kdebug.probe.capabilities import capability_names
from kdebug.probe.identity import read_small
from kdebug.probe.process_parse import (
    Stat,
    ids,
    kilobytes,
    parse_cmdline,
    parse_stat,
    parse_status,
    text_of,
)
from kdebug.probe.process_signal import check_same
from kdebug.probe.process_static import UserName, reason_of
from kdebug.probe.process_table import TICKS, ProcessTable
from kdebug.protocol.processes import (
    Capabilities,
    EnvVar,
    IoDetail,
    LimitInfo,
    MemoryDetail,
    Process,
    ProcessDetail,
    ThreadInfo,
)

T = TypeVar("T")
MAX_THREADS = 1000
MAX_ENVIRON = 1024 * 1024
MAX_VALUE = 128 * 1024
"""MAX_ARG_STRLEN: the longest string that execve(2) takes. Memory that a process rewrote may be longer."""
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
SECCOMP = {b"0": "disabled", b"1": "strict", b"2": "filter"}


def process_detail(proc: str, pid: int, start_ticks: int, *, user_name: UserName) -> ProcessDetail:
    """Everything about `pid`. `NotFound` when it has ended or is no longer the same process."""
    check_same(proc, pid, start_ticks)
    table = ProcessTable(target_pid=pid, proc=proc, user_name=user_name)
    found = table.row(pid, 1, True)
    if found is None or found[1].row is None:
        raise NotFound(f"there is no process {pid}")
    try:
        return _Reader(proc, pid).detail(found[1].row)
    except (FileNotFoundError, ProcessLookupError):
        raise NotFound(f"the process {pid} has ended") from None


class _Reader:
    """Reads one process' files; a failing one leaves None and its reason."""

    def __init__(self, proc: str, pid: int) -> None:
        self._proc, self._pid = proc, pid
        self._base = f"{proc}/{pid}"
        self.reasons: dict[str, str] = {}

    def _try(self, name: str, read: Callable[[], T]) -> Optional[T]:
        try:
            return read()
        except (OSError, ValueError, KeyError, IndexError) as error:
            self.reasons[name] = (
                reason_of(error) if isinstance(error, OSError) else f"not understood: {error}"
            )
            return None

    def _file(self, name: str) -> bytes:
        return read_small(f"{self._base}/{name}")

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
            memory=self._memory(status),
            capabilities=self._try("capabilities", lambda: _capabilities(status)),
            no_new_privs=self._try("no_new_privs", lambda: status[b"NoNewPrivs"] == b"1"),
            seccomp=SECCOMP.get(status.get(b"Seccomp", b"")),
            dumpable=self._dumpable(stat, uids[1]),
            oom_score=self._try("oom_score", lambda: int(self._file("oom_score"))),
            oom_score_adj=self._try("oom_score_adj", lambda: int(self._file("oom_score_adj"))),
            cwd=self._try("cwd", lambda: os.readlink(f"{self._base}/cwd")),
            root=self._try("root", lambda: os.readlink(f"{self._base}/root")),
            cgroup=tuple(text_of(self._try("cgroup", lambda: self._file("cgroup")) or b"").splitlines()),
            namespaces={name: self._namespace(name) for name in NAMESPACES},
            voluntary_switches=_integer(status, b"voluntary_ctxt_switches"),
            involuntary_switches=_integer(status, b"nonvoluntary_ctxt_switches"),
            io=self._io(),
            limits=self._limits(),
            threads=threads[:MAX_THREADS],
            threads_truncated=len(threads) > MAX_THREADS,
            reasons=self.reasons,
        )

    def _untruncated(self, row: Process) -> Process:
        """The row with its whole command line (64 KiB at most)."""
        raw = self._try("cmdline", lambda: self._file("cmdline"))
        if raw is None:
            return row
        return dataclasses.replace(row, cmdline=parse_cmdline(raw), cmdline_truncated=len(raw) >= 65536)

    def _limits(self) -> tuple[LimitInfo, ...]:
        try:
            return process_limits.limits(self._proc, self._pid)
        except AccessDenied as denied:
            self.reasons["limits"] = denied.why
            return ()

    def _namespace(self, name: str) -> Optional[int]:
        """namespaces(7): the link reads "net:[4026531992]"."""
        try:
            link = os.readlink(f"{self._base}/ns/{name}")
        except OSError as error:
            self.reasons[f"namespaces.{name}"] = reason_of(error)
            return None
        return int(link.partition("[")[2].rstrip("]"))

    def _memory(self, status: dict[bytes, bytes]) -> MemoryDetail:
        rollup = parse_status(self._try("memory.pss_bytes", lambda: self._file("smaps_rollup")) or b"")
        clean, dirty = kilobytes(rollup, b"Private_Clean"), kilobytes(rollup, b"Private_Dirty")
        return MemoryDetail(
            rss_bytes=kilobytes(status, b"VmRSS"),
            peak_rss_bytes=kilobytes(status, b"VmHWM"),
            anonymous_bytes=kilobytes(status, b"RssAnon"),
            file_bytes=kilobytes(status, b"RssFile"),
            shared_memory_bytes=kilobytes(status, b"RssShmem"),
            swap_bytes=kilobytes(status, b"VmSwap"),
            pss_bytes=kilobytes(rollup, b"Pss"),
            uss_bytes=None if clean is None or dirty is None else clean + dirty,
            locked_bytes=kilobytes(status, b"VmLck"),
            page_tables_bytes=kilobytes(status, b"VmPTE"),
        )

    def _dumpable(self, stat: Stat, euid: int) -> Optional[bool]:
        """proc(5): files of a non-dumpable process belong to root. With effective uid 0 both look alike."""
        owner = os.stat(f"{self._base}/environ").st_uid
        if euid != 0:
            return owner == euid
        self.reasons["dumpable"] = "cannot be told for a process of root"
        return None

    def _io(self) -> Optional[IoDetail]:
        try:
            import psutil
        except ImportError:
            self.reasons["io"] = "psutil is missing in this image"
            return None
        try:
            io = psutil.Process(self._pid).io_counters()
        except (psutil.Error, OSError, NotImplementedError) as error:
            self.reasons["io"] = str(error) or type(error).__name__
            return None
        return IoDetail(
            read_calls=io.read_count,
            write_calls=io.write_count,
            read_bytes=io.read_bytes,
            write_bytes=io.write_bytes,
            read_chars=io.read_chars,
            write_chars=io.write_chars,
        )

    def _threads(self) -> tuple[ThreadInfo, ...]:
        threads = []
        for tid in sorted(int(name) for name in os.listdir(f"{self._base}/task"))[: MAX_THREADS + 1]:
            try:
                stat = parse_stat(self._file(f"task/{tid}/stat"))
            except (FileNotFoundError, ProcessLookupError):
                continue
            seconds = (stat.user_ticks + stat.system_ticks) / TICKS
            threads.append(ThreadInfo(tid, text_of(stat.name), stat.state, seconds))
        return tuple(threads)


def _integer(status: dict[bytes, bytes], key: bytes) -> Optional[int]:
    value = status.get(key, b"")
    return int(value) if value.isdigit() else None


def _capabilities(status: dict[bytes, bytes]) -> Capabilities:
    keys = (b"CapEff", b"CapPrm", b"CapInh", b"CapBnd", b"CapAmb")
    return Capabilities(*(capability_names(int(status[key], 16)) for key in keys))


def read_environ(proc: str, pid: int) -> tuple[list[EnvVar], bool]:
    """The environment and whether it was cut (1 MiB in all, 128 KiB a value).

    It is the process' own memory and may hold anything; empty entries are left out.
    """
    try:
        fd = os.open(f"{proc}/{pid}/environ", os.O_RDONLY | os.O_CLOEXEC)
        try:
            raw = _read_up_to(fd, MAX_ENVIRON + 1)
        finally:
            os.close(fd)
    except PermissionError as error:
        raise AccessDenied(
            f"the environment of process {pid} may not be read", why=reason_of(error)
        ) from error
    except (FileNotFoundError, ProcessLookupError) as error:
        raise NotFound(f"there is no process {pid}") from error
    entries = [entry for entry in raw[:MAX_ENVIRON].split(b"\0") if entry]
    cut = len(raw) > MAX_ENVIRON or any(len(entry) > MAX_VALUE for entry in entries)
    return [_variable(entry[:MAX_VALUE]) for entry in entries], cut


def _read_up_to(fd: int, limit: int) -> bytes:
    pieces = b""
    while len(pieces) < limit:
        piece = os.read(fd, limit - len(pieces))
        if not piece:
            break
        pieces += piece
    return pieces


def _variable(entry: bytes) -> EnvVar:
    name, equals, value = entry.partition(b"=")
    return EnvVar(text_of(name), text_of(value) if equals else None)
