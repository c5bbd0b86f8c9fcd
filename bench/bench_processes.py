"""CPU of one refresh of the process table at 500 processes, against `top -b` in the same minute.

Rounds of ours and theirs take turns, each round gives a ratio, and the median of the ratios counts. The
crowd reaps its own: zombies that an earlier run left to a slow PID 1 were once counted as processes, and
vanished in mid-run. A run whose crowd did not stay as large as it should be is refused.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from kdebug.probe.process_table import ProcessTable

PROCESSES = 500
ROUNDS = 9
OUR_PASSES = 60
TOP_FEW, TOP_MANY = 3, 15
"""The difference leaves out what top spends on starting up."""
WARM_UP = 40
"""Passes until every row was revalidated and the table is in its steady state."""
CROWD = """
import os, signal, sys
pids = []
for _ in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0: signal.pause(); os._exit(0)
    pids.append(pid)
print('ready', flush=True)
sys.stdin.read()
for pid in pids: os.kill(pid, 9)
for pid in pids: os.waitpid(pid, 0)
"""
"""Ends, children first, when its stdin does: also when the bench is killed."""


def refresher(fds: bool) -> Callable[[], None]:
    """One call, one pass of what changed, as a client that watches asks for it."""
    table = ProcessTable(target_pid=os.getpid(), user_name=lambda uid, container: None)
    generation = 0

    def refresh() -> None:
        nonlocal generation
        current = table.open_pass(generation, fds=fds)
        for _ in current.rows():
            pass
        current.gone()
        generation = current.generation

    for _ in range(WARM_UP):
        refresh()
    return refresh


def our_cost(refresh: Callable[[], None]) -> float:
    """CPU seconds a pass."""
    started = time.process_time()
    for _ in range(OUR_PASSES):
        refresh()
    return (time.process_time() - started) / OUR_PASSES


def top_run(looks: int) -> float:
    """CPU seconds of a whole `top`, from wait4(2) of that very process."""
    top = subprocess.Popen(["top", "-b", "-d", "0.1", "-n", str(looks)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(top.pid, 0)
    top.returncode = os.waitstatus_to_exitcode(status)
    assert top.returncode == 0, "top failed"
    return usage.ru_utime + usage.ru_stime


def top_cost() -> float:
    """CPU seconds a refresh."""
    return (top_run(TOP_MANY) - top_run(TOP_FEW)) / (TOP_MANY - TOP_FEW)


def measure() -> dict[str, object]:
    plain, with_fds = refresher(False), refresher(True)
    rounds = [(our_cost(plain), our_cost(with_fds), top_cost()) for _ in range(ROUNDS)]
    ratios = [ours / top for ours, _, top in rounds]
    return {
        "bench": "process table refresh, steady state, all fields of ps but fds",
        "processes": population(),
        "ours_ms": round(statistics.median(ours for ours, _, _ in rounds) * 1000, 3),
        "ours_with_fds_ms": round(statistics.median(fds for _, fds, _ in rounds) * 1000, 3),
        "top_ms": round(statistics.median(top for _, _, top in rounds) * 1000, 3),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_lowest": round(min(ratios), 3),
        "ratio_highest": round(max(ratios), 3),
        "ratio_with_fds": round(statistics.median(fds / top for _, fds, top in rounds), 3),
        "aim": "<= 1.0, star <= 0.6",
    }


def population() -> int:
    """Processes that are not zombies."""
    alive = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                alive += file.read().rpartition(b")")[2].split()[0] != b"Z"
        except OSError:
            continue
    return alive


def main() -> None:
    crowd = subprocess.Popen(
        [sys.executable, "-S", "-c", CROWD, str(PROCESSES - population())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert crowd.stdout is not None and crowd.stdout.readline() == b"ready\n"
        before = population()
        figures = measure()
        after = population()
    finally:
        crowd.communicate()
    if min(before, after) < PROCESSES * 0.95 or crowd.returncode != 0:
        sys.exit(f"not measured: {before} processes at the start, {after} at the end")
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
