"""The node leaves nothing behind, however its tests end: no process, mount, interface, group or folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support import keeper, packages, runtime
from .support.kubelet import cgroups

TESTS = Path(__file__).resolve().parents[1]

HOLDER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from node.support import targets
from node.support.node import Node
node = Node(Path(sys.argv[2]))
namespace = node.namespace()
node.run(targets.busy("web"), namespace)
print(node.runtime.name, node.container_id(namespace, "web", "app"), node.runtime.keeper_pid, flush=True)
time.sleep(600)
"""
"""Stands for a test session that never gets to its end."""


class Holder:
    def __init__(self, folder: Path) -> None:
        argv = [sys.executable, "-c", HOLDER]
        self.process = subprocess.Popen([*argv, str(TESTS), str(folder)], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.name, self.container, keeper_pid = self.process.stdout.readline().split()
        self.keeper_pid = int(keeper_pid)
        self.folder = packages.HOME / "runs" / self.name

    def leftovers(self) -> list[str]:
        left = [f"process {pid}" for pid in cgroups.host_pids(self.container)]
        left += [f"keeper {self.keeper_pid}"] if Path(f"/proc/{self.keeper_pid}").exists() else []
        left += [f"control group {group}" for group in keeper.cgroup_folders(self.name)]
        left += [str(path) for path in (self.folder, self.folder.with_suffix(".lock")) if path.exists()]
        left += [
            line for line in Path("/proc/self/mountinfo").read_text().splitlines() if self.name in line
        ]
        return left


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Holder]:
    if reason := runtime.reason_against():
        pytest.skip(reason)
    try:
        packages.unpacked("runtime", packages.RUNTIME)
    except packages.Unavailable as reason:
        pytest.skip(str(reason))
    held = Holder(tmp_path)
    yield held
    held.process.kill()
    held.process.wait()


def _await_nothing(holder: Holder) -> None:
    deadline = time.monotonic() + 20
    while (left := holder.leftovers()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_of_an_interrupted_session(holder: Holder, how: signal.Signals) -> None:
    assert cgroups.host_pids(holder.container)
    assert keeper.cgroup_folders(holder.name)
    assert not Path("/sys/class/net/kdebug0").exists()  # the bridge is the node's own, not the machine's
    holder.process.send_signal(how)
    holder.process.wait(30)
    _await_nothing(holder)


def test_the_next_start_sweeps_what_a_killed_keeper_left(holder: Holder) -> None:
    os.kill(holder.keeper_pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while cgroups.host_pids(holder.container) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert cgroups.host_pids(holder.container) == []
    assert holder.folder.exists()
    holder.process.kill()  # it is the keeper's parent, and has not reaped it
    holder.process.wait()
    runtime.sweep(holder.folder.parent)
    _await_nothing(holder)
