"""The process table and one process in full, against ps, psutil and a second reading of /proc."""

from __future__ import annotations

import ctypes
import json
import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from conftest import needs_root
from kdebug.agent import dispatch
from kdebug.agent.session import Session
from kdebug.demo import start_demo
from kdebug.errors import Failed, NotFound
from kdebug.probe import process_fds, process_limits, process_table
from kdebug.probe.identity import MAX_SMALL, find_target
from kdebug.probe.process_detail import process_detail
from kdebug.probe.process_environ import read_environ
from kdebug.probe.process_table import KEPT_GENERATIONS, REVALIDATE_EVERY, ProcessTable
from kdebug.protocol import requests as ask
from kdebug.protocol.processes import Process

T, U = TypeVar("T"), TypeVar("U")
PR_SET_NAME = 15


def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come"
        time.sleep(0.02)


def table(pid: int = 0) -> dict[int, Process]:
    reader = ProcessTable(target_pid=pid or os.getpid(), user_name=lambda uid, container: None)
    return {row.pid: row for row in reader.open_pass().rows()}


@pytest.fixture
def session() -> Iterator[Session]:
    session = Session()
    dispatch.handle(session, ask.OpenTarget(pid=os.getpid()))
    yield session
    session.close()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0].decode()


def child(name: bytes) -> int:
    """A process with this command name that waits for a signal."""
    pid = os.fork()
    if pid == 0:
        ctypes.CDLL(None).prctl(PR_SET_NAME, ctypes.c_char_p(name), 0, 0, 0)
        signal.pause()
        os._exit(0)
    # Named and asleep: nothing of it changes any more while it is compared.
    until(lambda: Path(f"/proc/{pid}/comm").read_bytes() == name[:15] + b"\n" and state(pid) == "S")
    return pid


@pytest.fixture
def odd_children() -> Iterator[dict[bytes, int]]:
    names = [b"plain", b"two words", b"a) R 1 2 (b", b"((", b"line\nfeed", b"\xff\xfe", b"x" * 20]
    pids = {name: child(name) for name in names}
    yield pids
    for pid in pids.values():
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_names_of_any_bytes(odd_children: dict[bytes, int]) -> None:
    rows = table()
    for name, pid in odd_children.items():
        assert os.fsencode(rows[pid].name) == name[:15]
        assert (rows[pid].ppid, rows[pid].state) == (os.getpid(), "S")


def test_every_row_equals_ps(odd_children: dict[bytes, int]) -> None:
    columns = "pid,ppid,uid,gid,stat,nlwp,rss,vsz,ni"
    before = table()
    lines = subprocess.run(["ps", "-eo", columns, "--no-headers"], capture_output=True, text=True).stdout
    compared = 0
    for line in lines.splitlines():
        pid, ppid, uid, gid, state, threads, rss, vsize, nice = line.split()
        row = before.get(int(pid))
        if row is None or row.pid not in odd_children.values():
            continue
        compared += 1
        assert (row.ppid, row.uid, row.gid, row.state) == (int(ppid), int(uid), int(gid), state[0])
        assert (row.threads, row.vsize_bytes, row.nice) == (int(threads), int(vsize) * 1024, int(nice))
        assert row.rss_bytes == int(rss) * 1024
    assert compared == len(odd_children)


def test_every_row_equals_psutil() -> None:
    """Other processes of the machine only where they are the same before and after psutil's look."""
    rows = table()
    theirs = list(
        psutil.process_iter(["ppid", "uids", "gids", "create_time", "cmdline", "exe", "cpu_times"])
    )
    later = table()
    compared = 0
    for process in theirs:
        row, info = rows.get(process.pid), process.info
        # psutil has nothing of some that ended or may not be read.
        if row is None or process.pid == os.getpid() or None in info.values():
            continue
        if lasting(row) != lasting(later.get(process.pid)):
            continue
        assert row.ppid == info["ppid"]
        assert (row.uid, row.gid) == (info["uids"].effective, info["gids"].effective)
        assert abs(row.started_at - info["create_time"]) < 1.5
        # It reads them as text, where a carriage return becomes a line feed.
        if row.cmdline is not None and not row.cmdline_truncated and "\r" not in "".join(row.cmdline):
            assert list(row.cmdline) == info["cmdline"]
        if row.exe and not row.exe.endswith(" (deleted)"):
            assert row.exe == info["exe"]
        assert row.cpu_seconds <= info["cpu_times"].user + info["cpu_times"].system + 0.05
        compared += 1
    assert compared >= 5


def lasting(row: Process | None) -> tuple[object, ...] | None:
    return row and (row.start_ticks, row.ppid, row.uid, row.gid, row.cmdline, row.exe)


def test_zombies_kernel_threads_and_stopped_processes() -> None:
    zombie = os.fork()
    if zombie == 0:
        os._exit(0)
    stopped = child(b"stopped")
    os.kill(stopped, 19)
    try:
        until(lambda: table()[zombie].state == "Z" and table()[stopped].state == "T")
        rows = table()
        assert (rows[zombie].cmdline, rows[zombie].exe, rows[zombie].rss_bytes) == ((), None, 0)
        if 2 in rows and rows[2].name == "kthreadd":
            assert rows[2].kernel_thread and rows[2].cmdline == () and rows[2].exe is None
    finally:
        os.waitpid(zombie, 0)
        os.kill(stopped, 9)
        os.waitpid(stopped, 0)


def test_a_deleted_program_and_a_long_command_line(tmp_path: Path) -> None:
    program = tmp_path / "sleeper"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    running = subprocess.Popen([str(program), "1000"])
    long = subprocess.Popen([sys.executable, "-c", "input()", "x" * 10_000], stdin=subprocess.PIPE)
    try:
        until(lambda: os.readlink(f"/proc/{running.pid}/exe") == str(program))
        until(lambda: len(Path(f"/proc/{long.pid}/cmdline").read_bytes()) > 10_000)
        program.unlink()
        rows = table()
        assert rows[running.pid].exe == f"{program} (deleted)"
        assert rows[long.pid].cmdline_truncated
        assert rows[long.pid].cmdline is not None and len("\0".join(rows[long.pid].cmdline)) <= 4096
    finally:
        for process in (running, long):
            process.kill()
            process.wait()


def test_empty_arguments_at_the_end_are_arguments(session: Session) -> None:
    command = ["sh", "-c", "read line", "", ""]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        until(lambda: Path(f"/proc/{process.pid}/cmdline").read_bytes().endswith(b"\0read line\0\0\0"))
        in_full = dispatch.handle(session, ask.GetProcess(process.pid)).process
        assert table()[process.pid].cmdline == in_full.cmdline == tuple(command)
    finally:
        process.communicate()


@pytest.mark.parametrize(("length", "cut"), [(4096, False), (4097, True)])
def test_a_command_line_is_whole_up_to_four_kibibytes(length: int, cut: bool) -> None:
    command = [sys.executable, "-c", "input()", ""]
    command[-1] = "x" * (length - sum(len(part) + 1 for part in command))
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        until(lambda: len(Path(f"/proc/{process.pid}/cmdline").read_bytes()) == length)
        row = table()[process.pid]
        assert (row.cmdline_truncated, row.cmdline == tuple(command)) == (cut, True)
    finally:
        process.communicate()


@pytest.mark.parametrize(("length", "cut"), [(MAX_SMALL, False), (MAX_SMALL + 1, True)])
def test_one_process_shows_sixty_four_kibibytes_of_its_command_line(length: int, cut: bool) -> None:
    command = [sys.executable, "-c", "input()", ""]
    command[-1] = "x" * (length - sum(len(part) + 1 for part in command))
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        until(lambda: len(Path(f"/proc/{process.pid}/cmdline").read_bytes()) == length)
        row = process_detail("/proc", process.pid, 0, user_name=lambda uid, container: None).process
        assert (row.cmdline_truncated, row.cmdline == tuple(command)) == (cut, True)
    finally:
        process.communicate()


def test_an_exec_shows_within_the_bound() -> None:
    reader = ProcessTable(target_pid=os.getpid(), user_name=lambda uid, container: None)
    process = subprocess.Popen(
        ["sh", "-c", "read line; exec sh -c 'read other' after"], stdin=subprocess.PIPE
    )
    try:
        list(reader.open_pass().rows())
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        # Empty for a moment while the new program takes over.
        until(lambda: Path(f"/proc/{process.pid}/cmdline").read_bytes().endswith(b"\0after\0"))
        for _ in range(REVALIDATE_EVERY):
            rows = {row.pid: row for row in reader.open_pass().rows()}
        assert rows[process.pid].cmdline == ("sh", "-c", "read other", "after")
    finally:
        process.kill()
        process.wait()


def test_an_exec_of_the_same_program_shows_in_the_next_pass() -> None:
    """In every row: the turn of one of them to be read again may have come."""
    reader = ProcessTable(target_pid=os.getpid(), user_name=lambda uid, container: None)
    command = ["sh", "-c", "read line; exec sh -c 'read other' after"]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(3)]
    pids = [process.pid for process in processes]
    try:
        rows = {row.pid: row for row in reader.open_pass().rows()}
        assert [rows[pid].cmdline for pid in pids] == [tuple(command)] * 3
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
        until(lambda: all(Path(f"/proc/{p}/cmdline").read_bytes().endswith(b"\0after\0") for p in pids))
        rows = {row.pid: row for row in reader.open_pass().rows()}
        assert [rows[pid].cmdline for pid in pids] == [("sh", "-c", "read other", "after")] * 3
    finally:
        for process in processes:
            process.communicate()


GROUP_CHANGE = (
    "os.setresgid(4251, 4252, 4253); os.setuid(4241); print('ready', flush=True); "
    "input(); os.setegid(4253); print(flush=True)"
)


@needs_root
def test_another_group_taken_without_privilege_shows_within_the_bound() -> None:
    """Neither the name nor the program nor a flag of the kernel tells of it."""
    reader = ProcessTable(target_pid=os.getpid(), user_name=lambda uid, container: None)
    process = prepared(GROUP_CHANGE)
    try:
        rows = {row.pid: row for row in reader.open_pass(fds=False).rows()}
        assert (rows[process.pid].uid, rows[process.pid].gid) == (4241, 4252)
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"\n"
        for _ in range(REVALIDATE_EVERY):
            rows = {row.pid: row for row in reader.open_pass(fds=False).rows()}
        assert psutil.Process(process.pid).gids().effective == rows[process.pid].gid == 4253
    finally:
        process.communicate()


def record(folder: Path, pid: int, start: int) -> None:
    """A process of files, which starts and ends when the test says so."""
    process = folder / str(pid)
    process.mkdir(exist_ok=True)
    for name, text in {
        "stat": f"{pid} (p) S{' 0' * 18} {start} 0 0\n",
        "statm": "9 9",
        "status": "\nUid:\t0 0\nGid:\t0 0",
        "cmdline": "",
        "cgroup": "",
    }.items():
        (process / name).write_text(text)


def test_a_process_whose_pid_is_taken_between_two_passes_is_gone(tmp_path: Path) -> None:
    record(tmp_path, 7, 500)
    reader = ProcessTable(target_pid=7, proc=str(tmp_path), user_name=lambda uid, container: None)
    since = 0
    for start, gone in ((500, []), (900, [(7, 500)])):
        record(tmp_path, 7, start)
        reading = reader.open_pass(since, fds=False)
        assert [row.start_ticks for row in reading.rows()] == [start]
        assert reading.gone() == gone
        since = reading.generation


def test_another_descriptor_shows_though_nothing_else_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only the kernel's own folders have the number of their entries for a size.
    monkeypatch.setattr(process_fds, "KERNEL_COUNTS", False)
    record(tmp_path, 7, 500)
    descriptors = tmp_path / "7" / "fd"
    descriptors.mkdir()
    reader = ProcessTable(target_pid=7, proc=str(tmp_path), user_name=lambda uid, container: None)
    since = 0
    for number in (1, 2, 3):
        (descriptors / str(number)).touch()
        reading = reader.open_pass(since)
        assert [row.fds for row in reading.rows()] == [number]
        since = reading.generation


def test_deltas_add_up_to_the_table() -> None:
    reader = ProcessTable(target_pid=os.getpid(), user_name=lambda uid, container: None)
    first = reader.open_pass(fds=False)
    known = {(row.pid, row.start_ticks): row for row in first.rows()}
    ends, comes = subprocess.Popen(["sleep", "1000"]), None
    second = reader.open_pass(first.generation, fds=False)
    changed = list(second.rows())
    assert not second.full and len(changed) < len(known)
    known |= {(row.pid, row.start_ticks): row for row in changed}
    assert any(row.pid == ends.pid for row in changed)
    ends.kill()
    ends.wait()
    comes = subprocess.Popen(["sleep", "1000"])
    third = reader.open_pass(second.generation, fds=False)
    known |= {(row.pid, row.start_ticks): row for row in third.rows()}
    gone = third.gone()
    assert ends.pid in {pid for pid, _ in gone}
    for key in gone:
        known.pop(key, None)
    assert comes.pid in {pid for pid, _ in known}
    assert {pid for pid, _ in known} >= {os.getpid(), comes.pid} and ends.pid not in {
        pid for pid, _ in known
    }
    comes.kill()
    comes.wait()


def test_a_generation_that_the_table_does_not_know_gets_everything() -> None:
    """Of an earlier agent's table, of one that is too long ago, of none that has been."""
    earlier = ProcessTable(target_pid=os.getpid(), user_name=lambda uid, container: None)
    until(lambda: time.time_ns() // 1000 > earlier.generation)
    reader = ProcessTable(target_pid=os.getpid(), user_name=lambda uid, container: None)
    first = reader.open_pass(fds=False)
    everybody = list(first.rows())
    known = reader.open_pass(first.generation, fds=False)
    assert not known.full and len(list(known.rows())) < len(everybody)
    for _ in range(KEPT_GENERATIONS + 1):
        reader.open_pass(fds=False)
    for since in (earlier.generation, first.generation, reader.generation + 9):
        whole = reader.open_pass(since, fds=False)
        assert any(row.pid == os.getpid() for row in whole.rows())
        assert whole.full and whole.gone() == []


def test_who_missed_more_ends_than_are_remembered_gets_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target that forks in a loop, and two clients: nobody may keep rows of who has long ended."""
    monkeypatch.setattr(process_table, "MAX_GONE", 2)
    for pid in range(1, 6):
        record(tmp_path, pid, pid * 100)
    reader = ProcessTable(target_pid=1, proc=str(tmp_path), user_name=lambda uid, container: None)
    first = reader.open_pass(fds=False)
    assert [row.pid for row in first.rows()] == [1, 2, 3, 4, 5]
    for pid in range(2, 6):
        shutil.rmtree(tmp_path / str(pid))
    quick, slow = (reader.open_pass(first.generation, fds=False) for _ in range(2))
    assert not list(quick.rows()) and not quick.full
    assert quick.gone() == [(pid, pid * 100) for pid in range(2, 6)]
    # They were told to one client, and are forgotten: neither a delta under way nor a later one is whole.
    with pytest.raises(Failed, match="no longer known"):
        list(slow.rows())
    late = reader.open_pass(first.generation, fds=False)
    assert late.full and [row.pid for row in late.rows()] == [1]
    # Who has heard of every end goes on with deltas.
    again = reader.open_pass(late.generation, fds=False)
    assert not again.full and not list(again.rows()) and not again.gone()


def test_a_change_that_a_slow_pass_finds_is_not_lost_to_who_asked_meanwhile() -> None:
    """Pages of two clients are taken in turns: the quick one has gone by the process when it changes."""
    reader = ProcessTable(target_pid=os.getpid(), user_name=lambda uid, container: None)
    mine = child(b"changes late")
    try:
        list(reader.open_pass(fds=False).rows())
        slow = reader.open_pass(fds=False).rows()
        # The pids come in order: it has only looked at the first one so far.
        assert next(slow).pid < mine
        quick = reader.open_pass(fds=False)
        assert {row.pid: row.state for row in quick.rows()}[mine] == "S"
        os.kill(mine, signal.SIGSTOP)
        until(lambda: state(mine) == "T")
        assert {row.pid: row.state for row in slow}[mine] == "T"
        delta = reader.open_pass(quick.generation, fds=False)
        assert {row.pid: row.state for row in delta.rows()}.get(mine) == "T" and not delta.full
    finally:
        os.kill(mine, 9)
        os.waitpid(mine, 0)


def test_threads_that_renamed_themselves(session: Session) -> None:
    stop, ready = threading.Event(), threading.Event()

    def body() -> None:
        ctypes.CDLL(None).prctl(PR_SET_NAME, ctypes.c_char_p(b"io (worker)"), 0, 0, 0)
        ready.set()
        stop.wait()

    thread = threading.Thread(target=body)
    thread.start()
    ready.wait()
    try:
        detail = dispatch.handle(session, ask.GetProcess(os.getpid()))
    finally:
        stop.set()
        thread.join()
    assert {t.tid: t.name for t in detail.threads}[thread.native_id or 0] == "io (worker)"
    assert len(detail.threads) == detail.process.threads


def resident(session: Session, pid: int) -> tuple[int | None, int | None]:
    memory = dispatch.handle(session, ask.GetProcess(pid)).memory
    return memory.uss_bytes, memory.pss_bytes


def at_rest(ours: Callable[[], T], theirs: Callable[[], U]) -> tuple[T, U]:
    """Both from a moment at which ours stays: pages cease to be private when others map them, too."""
    for _ in range(100):
        before, other, after = ours(), theirs(), ours()
        if before == after:
            return before, other
    raise AssertionError(f"it never rests: {before} became {after}")


def test_one_process_in_full_equals_proc_and_psutil(session: Session) -> None:
    running = subprocess.Popen(["cat"], cwd="/usr", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        # Once it has echoed it only waits for more, and its memory stays as it is.
        assert running.stdin is not None and running.stdout is not None
        running.stdin.write(b"x\n")
        running.stdin.flush()
        assert running.stdout.readline() == b"x\n"
        until(lambda: state(running.pid) == "S")
        detail = dispatch.handle(session, ask.GetProcess(running.pid))
        process = psutil.Process(running.pid)
        assert (detail.cwd, detail.root) == ("/usr", "/")
        assert detail.memory.rss_bytes == process.memory_info().rss
        assert detail.process.user == process.username()
        ours, theirs = at_rest(lambda: resident(session, running.pid), process.memory_full_info)
        assert ours == (theirs.uss, theirs.pss)
        assert detail.io is not None and detail.io.read_chars == process.io_counters().read_chars
        assert detail.namespaces["net"] == os.stat(f"/proc/{running.pid}/ns/net").st_ino
        assert detail.oom_score_adj == int(Path(f"/proc/{running.pid}/oom_score_adj").read_text())
        soft, hard = process.rlimit(psutil.RLIMIT_NOFILE)
        (files,) = [limit for limit in detail.limits if limit.name == "Max open files"]
        assert (files.soft, files.hard, files.used) == (soft, hard, process.num_fds())
        assert detail.seccomp == "disabled" and detail.no_new_privs is False
        assert (detail.voluntary_switches or 0) <= process.num_ctx_switches().voluntary
    finally:
        running.kill()
        running.communicate()


def prepared(script: str) -> subprocess.Popen[bytes]:
    """A process that has run `script` and waits for its stdin to close."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", f"import os, signal; {script}; print('ready', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    return process


@needs_root
def test_real_effective_and_saved_ids_are_told_apart(session: Session) -> None:
    process = prepared(
        "os.setgroups([4261, 4262]); os.setresgid(4251, 4252, 4253); os.setresuid(4241, 4242, 4243)"
    )
    try:
        detail = dispatch.handle(session, ask.GetProcess(process.pid))
        row = detail.process
        assert (detail.real_uid, row.uid, detail.saved_uid) == psutil.Process(process.pid).uids()
        assert (detail.real_gid, row.gid, detail.saved_gid) == psutil.Process(process.pid).gids()
        assert (row.uid, row.gid, detail.groups) == (4242, 4252, (4261, 4262))
    finally:
        process.communicate()


CAPABILITY_SETS = """
import ctypes
libc = ctypes.CDLL(None)
libc.prctl(24, 22, 0, 0, 0)
effective, permitted, inheritable = 1 << 5, 1 << 5 | 1, 1 << 7 | 1
header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (effective, permitted, inheritable, 0, 0, 0)
assert libc.capset(header, (ctypes.c_uint32 * 6)(*data)) == libc.prctl(47, 2, 0, 0, 0) == 0
"""
"""PR_CAPBSET_DROP of sys_boot, capset(2), PR_CAP_AMBIENT_RAISE of chown."""


@needs_root
def test_capability_sets_are_told_apart(session: Session) -> None:
    """What a process may do now is not all that it may take for itself."""
    process = prepared(f"exec({CAPABILITY_SETS!r})")
    try:
        sets = dispatch.handle(session, ask.GetProcess(process.pid)).capabilities
        assert sets is not None
        assert (sets.effective, sets.permitted) == (("cap_kill",), ("cap_chown", "cap_kill"))
        assert (sets.inheritable, sets.ambient) == (("cap_chown", "cap_setuid"), ("cap_chown",))
        assert "cap_kill" in sets.bounding and "cap_sys_boot" not in sets.bounding
    finally:
        process.communicate()


STRANGER = """
import json, os, sys
from kdebug.probe.process_detail import process_detail
os.setgroups([]); os.setresgid(4243, 4243, 4243); os.setresuid(4243, 4243, 4243)
pid = int(sys.argv[1])
detail = process_detail("/proc", pid, 0, user_name=lambda uid, container: None)
try:
    open(f"/proc/{pid}/smaps_rollup").read()
except OSError as error:
    of = detail.memory
    print(json.dumps([error.strerror, of.pss_bytes, of.uss_bytes, of.rss_bytes, detail.reasons]))
"""


@needs_root
def test_memory_that_may_not_be_read_says_who_could_and_hides_no_other_figure() -> None:
    process = prepared("pass")
    try:
        done = subprocess.run(
            [sys.executable, "-c", STRANGER, str(process.pid)], capture_output=True, text=True, timeout=60
        )
        words, pss, uss, rss, reasons = json.loads(done.stdout)
        assert (pss, uss) == (None, None) and rss == psutil.Process(process.pid).memory_info().rss
        for name in ("memory.pss_bytes", "memory.uss_bytes"):
            assert words in reasons[name] and "SYS_PTRACE" in reasons[name]
        assert "memory.rss_bytes" not in reasons
    finally:
        process.communicate()


MEMORY_OF_EACH_KIND = """
import ctypes, mmap
def private(mib):
    return mmap.mmap(-1, mib << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
reserved, once, kept, shared = private(512), private(64), private(24), mmap.mmap(-1, 8 << 20)
for touched in (once, kept, shared):
    touched.write(b"x" * len(touched))
once.close(); private(256).close()
first = ctypes.addressof(ctypes.c_char.from_buffer(shared))
assert ctypes.CDLL(None).mlock(ctypes.c_void_p(first), 2 << 20) == 0
"""
"""What is only reserved is not resident; what was let go counts in the peaks."""


@needs_root
def test_each_kind_of_memory_is_told_from_the_others(session: Session) -> None:
    mib = 1 << 20
    process = prepared(f"exec({MEMORY_OF_EACH_KIND!r})")
    try:
        until(lambda: state(process.pid) == "S")
        memory, second = at_rest(
            lambda: dispatch.handle(session, ask.GetProcess(process.pid)).memory,
            psutil.Process(process.pid).memory_info,
        )
        used = {limit.name: limit.used for limit in process_limits.limits("/proc", process.pid)}
        rss, anonymous = memory.rss_bytes or 0, memory.anonymous_bytes or 0
        assert rss == second.rss == used["Max resident set"]
        assert 64 * mib + rss - 4 * mib < (memory.peak_rss_bytes or 0) < 256 * mib
        assert (memory.shared_memory_bytes, memory.locked_bytes) == (8 * mib, 2 * mib)
        assert memory.file_bytes == second.shared - 8 * mib
        assert 24 * mib <= anonymous == rss - second.shared
        assert used["Max address space"] == second.vms and used["Max locked memory"] == 2 * mib
    finally:
        process.communicate()


@needs_root
@pytest.mark.parametrize("dumpable", [False, True])
def test_who_may_be_dumped_is_told_by_the_effective_ids(session: Session, dumpable: bool) -> None:
    """PR_SET_DUMPABLE, after the ids, which reset it."""
    ids = "os.setresgid(4251, 4252, 4253); os.setresuid(4241, 4242, 4243)"
    process = prepared(f"import ctypes; {ids}; ctypes.CDLL(None).prctl(4, {int(dumpable)}, 0, 0, 0)")
    try:
        detail = dispatch.handle(session, ask.GetProcess(process.pid))
        assert detail.dumpable is dumpable and "dumpable" not in detail.reasons
    finally:
        process.communicate()


@needs_root
def test_whether_a_zombie_could_be_dumped_is_not_told(session: Session) -> None:
    """Its files belong to root, as those of a process that may not be dumped."""
    zombie = os.fork()
    if zombie == 0:
        os.setgid(4251)
        os.setuid(4241)
        os._exit(0)
    try:
        until(lambda: state(zombie) == "Z")
        detail = dispatch.handle(session, ask.GetProcess(zombie))
        assert (detail.process.uid, os.stat(f"/proc/{zombie}/environ").st_uid) == (4241, 0)
        assert detail.dumpable is None and "has ended" in detail.reasons["dumpable"]
    finally:
        os.waitpid(zombie, 0)


def test_session_group_and_terminal_are_told_apart(session: Session) -> None:
    """A child in the background of a terminal: the group in front of it is its parent's."""
    parent, terminal = pty.fork()
    if parent == 0:
        mine = os.fork()
        if mine == 0:
            os.setpgid(0, 0)
        os.write(1, b".")
        signal.pause()
        os._exit(0)
    try:
        until(lambda: bool(children_of(parent)))
        (mine,) = children_of(parent)
        until(lambda: os.getpgid(mine) == mine and state(mine) == "S")
        detail = dispatch.handle(session, ask.GetProcess(mine))
        assert (detail.session, detail.process_group) == (parent, mine)
        assert f"/dev/pts/{os.minor(detail.tty)}" == psutil.Process(mine).terminal()
        assert dispatch.handle(session, ask.GetProcess(parent)).tty == detail.tty
    finally:
        # Before the terminal is closed, which would end the parent and orphan its child.
        for pid in [*children_of(parent), parent]:
            os.kill(pid, signal.SIGKILL)
        os.close(terminal)
        os.waitpid(parent, 0)


def children_of(pid: int) -> list[int]:
    return [one.pid for one in psutil.Process(pid).children()]


def test_the_time_of_a_limit_counts_what_the_kernel_did_for_it(tmp_path: Path) -> None:
    """Two parts of a second that are whole ones together only."""
    record(tmp_path, 7, 500)
    user, system = (os.sysconf("SC_CLK_TCK") * tenths // 10 for tenths in (26, 15))
    (tmp_path / "7" / "stat").write_text(f"7 (p) S{' 0' * 10} {user} {system}{' 0' * 6} 500 0 0\n")
    (tmp_path / "7" / "limits").write_text("Max cpu time              60        unlimited     seconds\n")
    (limit,) = process_limits.limits(str(tmp_path), 7)
    assert (limit.name, limit.soft, limit.hard, limit.used) == ("Max cpu time", 60, None, 4)


@needs_root
def test_pending_signals_are_those_that_wait(session: Session) -> None:
    """A user of its own, for the kernel counts by user; signals from SIGRTMIN on are queued, not merged."""
    process = prepared("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN]); os.setuid(4246)")
    try:
        for _ in range(3):
            os.kill(process.pid, signal.SIGRTMIN)
        limits = dispatch.handle(session, ask.GetLimits(process.pid)).items
        assert {limit.name: limit.used for limit in limits}["Max pending signals"] == 3
    finally:
        process.communicate()


def test_what_a_descriptor_may_be_used_for(session: Session, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    ways = {os.O_RDONLY: "r", os.O_WRONLY: "w", os.O_RDWR | os.O_APPEND: "rw", os.O_PATH: None}
    opened = {os.open(tmp_path / "f", flags): access for flags, access in ways.items()}
    try:
        found = dispatch.handle(session, ask.ListFds(limit=1000)).items
        assert {item.fd: item.access for item in found if item.fd in opened} == opened
    finally:
        for fd in opened:
            os.close(fd)


def test_a_containers_first_process_is_its_oldest(tmp_path: Path) -> None:
    """Once the numbers have come round, it is not the one with the lowest."""
    container = "0123456789abcdef" * 4
    for pid, start, cgroup in (
        (20, 900, container),
        (30, 500, container),
        (40, 700, container),
        (5, 1, ""),
    ):
        (tmp_path / str(pid)).mkdir()
        zeros = " 0" * 18
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (p) S{zeros} {start} 0 0\n")
        (tmp_path / str(pid) / "cgroup").write_text(f"0::/docker/{cgroup}\n")
    assert find_target(str(tmp_path), 0, container).pid == 30


@needs_root
@pytest.mark.parametrize(
    ("mounts", "hidden"),
    [
        ("mount -t proc proc /proc", False),
        ("mount -t proc -o hidepid=2 proc /proc", True),
        ("mount -t proc -o hidepid=2 proc /proc; mount -t proc proc /proc", False),
        ("mount -t proc proc /proc; mount -t proc -o hidepid=2 proc /proc", True),
    ],
)
def test_hidden_processes_are_spoken_of_when_the_topmost_mount_hides_them(
    mounts: str, hidden: bool
) -> None:
    script = (
        "import os; from kdebug.probe.process_table import ProcessTable\n"
        "print(ProcessTable(target_pid=os.getpid(), user_name=lambda uid, c: None).open_pass().scope)"
    )
    command = ["unshare", "-m", "sh", "-ec", f'{mounts}; exec "$@"', "sh", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and ("hidepid" in done.stdout) is hidden, done


@needs_root
def test_five_thousand_processes() -> None:
    script = (
        "import os, signal, sys\n"
        "for _ in range(5000):\n"
        "    if os.fork() == 0: signal.pause(); os._exit(0)\n"
        "print('ready', flush=True); signal.pause()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-S", "-c", script], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert parent.stdout is not None and parent.stdout.readline() == b"ready\n"
        rows = [row for row in table().values() if row.ppid == parent.pid]
        assert len(rows) == 5000
        assert {row.fds for row in rows} == {len(os.listdir(f"/proc/{rows[0].pid}/fd"))}
    finally:
        os.killpg(parent.pid, 9)
        parent.wait()


def test_the_time_of_a_thread_counts_what_the_kernel_did_for_it(session: Session) -> None:
    stop, ready = threading.Event(), threading.Event()

    def body() -> None:
        while resource.getrusage(resource.RUSAGE_THREAD).ru_stime < 0.2:
            os.urandom(1 << 20)
        ready.set()
        stop.wait()

    thread = threading.Thread(target=body)
    thread.start()
    try:
        assert ready.wait(30)
        detail = dispatch.handle(session, ask.GetProcess(os.getpid()))
        theirs = {t.id: t.user_time + t.system_time for t in psutil.Process().threads()}
    finally:
        stop.set()
        thread.join()
    (ours,) = [t.cpu_seconds for t in detail.threads if t.tid == thread.native_id]
    assert ours == pytest.approx(theirs[thread.native_id or 0], abs=0.05)


def test_a_pid_that_changes_hands_while_it_is_read_is_not_mixed_up(tmp_path: Path) -> None:
    """Whoever had it first was asked for by number alone."""
    process = tmp_path / "7"
    process.mkdir()
    line = "7 (p) S" + " 0" * 18 + " {} 0 0\n"
    (process / "stat").write_text(line.format(500))
    (process / "status").write_text("Name:\tp\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n")
    (process / "cgroup").write_text("0::/\n")
    (process / "cmdline").write_text("")
    (process / "statm").write_text("0 0 0 0 0 0 0\n")
    (process / "limits").write_text("")
    (process / "fd").mkdir()
    os.mkfifo(process / "oom_score")

    def successor() -> None:
        # Opens once the other end is being read, in the middle of the answer.
        with open(process / "oom_score", "w") as waiting:
            (process / "new").write_text(line.format(900))
            os.replace(process / "new", process / "stat")
            waiting.write("0\n")

    thread = threading.Thread(target=successor, daemon=True)
    thread.start()
    with pytest.raises(NotFound, match="another process has its PID now"):
        process_detail(str(tmp_path), 7, 0, user_name=lambda uid, container: None)
    thread.join(10)


RAW_ENVIRON = """
import ctypes
strings = (ctypes.c_char_p * 5)(b"PLAIN=value", b"EMPTY=", b"NO_SIGN", b"TWO=a=b", None)
arguments = (ctypes.c_char_p * 2)(b"cat", None)
ctypes.CDLL(None).execve(b"/bin/cat", arguments, strings)
"""


def test_a_string_without_a_sign_is_not_an_empty_variable() -> None:
    """execve(2) takes any strings for the environment."""
    process = subprocess.Popen([sys.executable, "-S", "-c", RAW_ENVIRON], stdin=subprocess.PIPE)
    try:
        raw = b"PLAIN=value\0EMPTY=\0NO_SIGN\0TWO=a=b\0"
        until(lambda: Path(f"/proc/{process.pid}/environ").read_bytes() == raw)
        variables, truncated = read_environ("/proc", process.pid)
        found = [(variable.name, variable.value) for variable in variables]
        assert found == [("PLAIN", "value"), ("EMPTY", ""), ("NO_SIGN", None), ("TWO", "a=b")]
        assert not truncated
    finally:
        process.communicate()


@pytest.mark.parametrize(
    ("sizes", "cut"),
    [
        ((128 * 1024,), False),
        ((128 * 1024 + 1,), True),
        ((10, 200_000, 10), True),
        ((100_000,) * 10, False),
        ((100_000,) * 11, True),
    ],
)
def test_a_cut_environment_is_said_to_be_cut(tmp_path: Path, sizes: tuple[int, ...], cut: bool) -> None:
    """execve(2) takes no string above 128 KiB, but a process may write one into its own memory."""
    (tmp_path / "7").mkdir()
    strings = [b"N=" + b"v" * (size - 2) for size in sizes]
    (tmp_path / "7/environ").write_bytes(b"".join(string + b"\0" for string in strings))
    variables, truncated = read_environ(str(tmp_path), 7)
    lengths = [2 + len(variable.value or "") for variable in variables]
    assert truncated is cut
    assert (lengths == list(sizes)) is not cut and max(lengths) <= 128 * 1024


def test_a_process_outside_the_target_stays_outside_whatever_it_runs() -> None:
    """An exec, or a new name, once made it show as one of the target's."""
    outside = subprocess.Popen(["sh", "-c", "read line; exec sleep 300"], stdin=subprocess.PIPE)
    assert outside.stdin is not None
    try:
        with start_demo() as demo:
            looked = ProcessTable(target_pid=demo.pid, user_name=lambda uid, container: None)
            first = looked.open_pass()
            before = {row.pid for row in first.rows()}
            outside.stdin.write(b"go\n")
            outside.stdin.close()
            until(lambda: Path(f"/proc/{outside.pid}/comm").read_text() == "sleep\n")
            second = looked.open_pass(first.generation)
            changed = {row.pid for row in second.rows()}
    finally:
        outside.kill()
        outside.wait()
    assert demo.pid in before and outside.pid not in before | changed
