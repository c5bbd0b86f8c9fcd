"""The UI refreshes for half an hour over the practice target, tab by tab, and holds no more than before.

KDEBUG_UI_MEMORY_SECONDS makes it shorter; what it saw is printed.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from support.terminal import Terminal

SECONDS = float(os.environ.get("KDEBUG_UI_MEMORY_SECONDS", "1800"))
TABS = 6
STAY_SECONDS = 5.0
"""On each tab: two looks at the process table at least."""
ALLOWED_MIB = 3.0
"""Between the middle third of the time and the last: the allocator's own ups and downs. The first third
loads whatever is loaded at first need."""


def resident_mib(pid: int) -> float:
    """proc_pid_status: VmRSS."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 300)
def test_half_an_hour_of_refreshes_is_flat(tmp_path: Path) -> None:
    terminal = Terminal("attach", "demo:", columns=120, rows=40, HOME=str(tmp_path))
    try:
        terminal.until(lambda: "connected" in terminal.screen.display[0], "connected", 60)
        seen = watched(terminal)
        terminal.type("q")
        assert terminal.ended() == 0
    finally:
        terminal.close()
    third = len(seen) // 3
    middle, last = max(seen[third : 2 * third]), max(seen[2 * third :])
    print(
        f"MiB: {seen[0]:.1f} at first, {middle:.1f} in the middle, {last:.1f} in the end, {len(seen)} looks"
    )
    assert last - middle <= ALLOWED_MIB, seen


def watched(terminal: Terminal) -> list[float]:
    """What it held after each stay on a tab."""
    ends, seen = time.monotonic() + SECONDS, list[float]()
    while time.monotonic() < ends or len(seen) < 3 * TABS:
        terminal.type(str(len(seen) % TABS + 1))
        stays = time.monotonic() + STAY_SECONDS
        terminal.until(lambda stays=stays: time.monotonic() > stays, "the next tab", 2 * STAY_SECONDS)
        seen.append(resident_mib(terminal.process.pid))
    return seen
