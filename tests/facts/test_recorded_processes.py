"""A process made of recorded files, where every number is another: for what no machine need show us.

Swap, a container's cgroup, a thousand threads, a descriptor that leads nowhere.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kdebug.probe.process_detail import MAX_THREADS, process_detail
from kdebug.probe.process_fds import iter_fds
from kdebug.probe.process_table import PAGE, TICKS
from kdebug.protocol.processes import ProcessDetail

PID = 7
CONTAINER, OUTER = "0123456789abcdef" * 4, "fedcba9876543210" * 4
MEMORY = {
    "VmPeak": 9001,
    "VmSize": 9002,
    "VmLck": 9003,
    "VmPin": 9004,
    "VmHWM": 9005,
    "VmRSS": 9006,
    "RssAnon": 9007,
    "RssFile": 9008,
    "RssShmem": 9009,
    "VmData": 9010,
    "VmStk": 9011,
    "VmPTE": 9012,
    "VmSwap": 9013,
}
ROLLUP = {"Rss": 1, "Pss": 102, "Pss_Dirty": 103, "Private_Clean": 205, "Private_Dirty": 407, "SwapPss": 8}


def numbered(fields: dict[int, object]) -> str:
    """/proc/PID/stat with field n holding 1000 + n, but for those given (proc(5) counts from 1)."""
    rest = [str(fields.get(number, 1000 + number)) for number in range(3, 53)]
    return f"{PID} (a) b (c) {' '.join(rest)}\n"


def record(folder: Path, threads: int = 1) -> None:
    process = folder / str(PID)
    for name in ("fd", "ns", "task"):
        (process / name).mkdir(parents=True)
    stat = numbered({3: "S", 9: 0, 22: 2222})
    lines = ["Uid:\t11\t12\t13\t14", "Gid:\t21\t22\t23\t24", "Groups:\t31 32", "NSpid:\t7\t1"]
    lines += [f"{key}:\t{value} kB" for key, value in MEMORY.items()]
    lines += ["voluntary_ctxt_switches:\t41", "nonvoluntary_ctxt_switches:\t42"]
    files = {
        "stat": stat,
        "status": "Name:\tx\n" + "\n".join(lines) + "\n",
        "statm": "51 52 53 54 55 56 57",
        "cmdline": "one\0two\0",
        "cgroup": f"3:x:/docker/{OUTER}/kubepods/cri-containerd-{CONTAINER}.scope\n0::/\n",
        "limits": "",
        "environ": "",
        "oom_score": "61\n",
        "oom_score_adj": "-62\n",
        "smaps_rollup": "".join(f"{key}: {value} kB\n" for key, value in ROLLUP.items()),
    }
    for name, text in files.items():
        (process / name).write_text(text)
    for tid in range(PID, PID + threads):
        (process / f"task/{tid}").mkdir()
        (process / f"task/{tid}/stat").write_text(stat)


def read(folder: Path) -> ProcessDetail:
    return process_detail(str(folder), PID, 2222, user_name=lambda uid, container: f"{uid} of {container}")


def test_every_number_is_taken_from_its_own_place(tmp_path: Path) -> None:
    record(tmp_path)
    detail = read(tmp_path)
    row, memory = detail.process, detail.memory
    assert (row.ppid, row.threads, row.nice, row.start_ticks) == (1004, 1020, 1019, 2222)
    assert (row.vsize_bytes, row.rss_bytes, row.cpu_seconds) == (1023, 52 * PAGE, (1014 + 1015) / TICKS)
    assert (row.uid, row.gid, row.user) == (12, 22, f"12 of {CONTAINER}")
    assert (row.name, row.container, row.kernel_thread) == ("a) b (c", CONTAINER, False)
    assert (detail.process_group, detail.session, detail.tty, detail.priority) == (1005, 1006, 1007, 1018)
    assert (detail.user_seconds, detail.system_seconds) == (1014 / TICKS, 1015 / TICKS)
    assert (detail.real_uid, detail.saved_uid, detail.real_gid, detail.saved_gid) == (11, 13, 21, 23)
    assert (detail.voluntary_switches, detail.involuntary_switches) == (41, 42)
    assert (detail.oom_score, detail.oom_score_adj) == (61, -62)
    kib = {name: (value or 0) / 1024 for name, value in vars(memory).items()}
    assert kib == {
        "rss_bytes": 9006,
        "peak_rss_bytes": 9005,
        "anonymous_bytes": 9007,
        "file_bytes": 9008,
        "shared_memory_bytes": 9009,
        "swap_bytes": 9013,
        "pss_bytes": 102,
        "uss_bytes": 205 + 407,
        "locked_bytes": 9003,
        "page_tables_bytes": 9012,
    }


@pytest.mark.parametrize(("threads", "cut"), [(MAX_THREADS, False), (MAX_THREADS + 1, True)])
def test_threads_past_a_thousand_are_said_to_be_missing(tmp_path: Path, threads: int, cut: bool) -> None:
    record(tmp_path, threads)
    detail = read(tmp_path)
    assert (len(detail.threads), detail.threads_truncated) == (MAX_THREADS, cut)
    assert [thread.tid for thread in detail.threads] == list(range(PID, PID + MAX_THREADS))


def test_what_the_kernel_does_not_say_is_null_with_the_reason(tmp_path: Path) -> None:
    record(tmp_path)
    (tmp_path / "7/oom_score").write_text("much\n")
    (tmp_path / "7/smaps_rollup").unlink()
    detail = read(tmp_path)
    assert detail.oom_score is detail.capabilities is detail.seccomp is detail.no_new_privs is None
    for name in ("oom_score", "capabilities", "seccomp", "no_new_privs"):
        assert detail.reasons[name] == "this kernel does not say"
    assert detail.memory.pss_bytes is detail.memory.uss_bytes is None
    assert detail.reasons["memory.uss_bytes"] == detail.reasons["memory.pss_bytes"] == os.strerror(2)


def test_a_descriptor_that_cannot_be_looked_at_says_why(tmp_path: Path) -> None:
    record(tmp_path)
    os.symlink("3", tmp_path / "7/fd/3")
    (found,) = iter_fds(str(tmp_path), PID)
    assert (found.fd, found.kind, found.target, found.inode) == (3, "unknown", "3", None)
    assert found.error == os.strerror(40)
