"""`cp` both ways while directories of the target are swapped for symlinks in a tight loop, for a minute.

Nothing from outside the target's root may arrive here, nothing of ours may be written out there, and what
was not copied is in the report.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import needs_root
from kdebug.channel.subprocess import SubprocessChannel, local_agent_command
from kdebug.errors import KdebugError
from kdebug.protocol.requests import OpenTarget
from kdebug.target import Target
from kdebug.target.connection import Connection
from kdebug.target.transfer import TransferOptions, TransferReport, download, upload
from support.swaps import INSIDE, plant, swap_for_ever

SECONDS = 60
OURS = b"uploaded"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A root for a target."""
    root = tmp_path / "x/root"
    root.mkdir(parents=True)
    plant(root)
    return root


@pytest.fixture(autouse=True)
def swapper(base: Path) -> Iterator[int]:
    """Swaps the root's directories all the time."""
    pid = os.fork()
    if pid == 0:
        swap_for_ever(base)
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.fixture
def process(base: Path) -> Iterator[int]:
    """One that has it as its root."""
    script = "import os, sys; os.chroot(sys.argv[1]); os.chdir('/'); print('ready', flush=True); input()"
    command = [sys.executable, "-S", "-c", script, str(base)]
    one = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert one.stdout is not None and one.stdout.readline() == b"ready\n"
    yield one.pid
    one.communicate()


async def opened(pid: int) -> Target:
    channel = await SubprocessChannel.start(local_agent_command())
    connection = await Connection.open(channel, request_seconds=30)
    return await Target.open(connection, OpenTarget(pid=pid), "soak")


def judge(copy: Path, report: TransferReport) -> str:
    """Whether everything below the swapped name came, or why not; fails on anything from outside."""
    files = {str(path.relative_to(copy)): path for path in copy.rglob("*") if path.is_file()}
    assert all(path.read_bytes() == INSIDE for path in files.values()), files
    assert not any("secret-name" in name for name in files)
    assert "a/steady/file" in files
    assert report.files == len(files)
    places = ("a/b", "a/real", "moved")
    if any(f"{place}/file" in files and f"{place}/c/d/file" in files for place in places):
        return "whole"
    if report.failed.count:
        return "told"
    # A link at that moment, which is skipped with its name; or at each reading another of its names.
    assert report.skipped.count or not any((copy / place).exists() for place in places), report
    return "elsewhere"


@needs_root
@pytest.mark.soak
def test_out_of_a_target_that_is_swapped(run: asyncio.Runner, process: int, tmp_path: Path) -> None:
    async def copies() -> dict[str, int]:
        target = await opened(process)
        counts = {"whole": 0, "told": 0, "elsewhere": 0}
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            place = tmp_path / f"copy-{sum(counts.values())}"
            place.mkdir()
            report = await download(target, ["/"], str(place), TransferOptions(recursive=True))
            counts[judge(place, report)] += 1
            for left in place.rglob("*"):
                assert not left.name.endswith(".kdebug-part") or report.failed.count
        await target.close()
        return counts

    counts = run.run(copies())
    print(counts)
    assert counts["whole"] > 50 and counts["told"] > 10


@needs_root
@pytest.mark.soak
def test_into_a_target_that_is_swapped(
    run: asyncio.Runner, process: int, base: Path, swapper: int, tmp_path: Path
) -> None:
    (tmp_path / "ours").write_bytes(OURS)
    outside = [base.parent / "outside", base.parent.parent / "outside"]

    async def copies() -> tuple[int, int]:
        target = await opened(process)
        done = refused = 0
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            try:
                name = f"/a/b/ours-{done + refused}"
                report = await upload(target, [str(tmp_path / "ours")], name, TransferOptions())
                assert report.complete
                done += 1
            except KdebugError:
                refused += 1
        await target.close()
        return done, refused

    done, refused = run.run(copies())
    os.kill(swapper, signal.SIGSTOP)  # so that the walk below sees a tree that stands still
    print(f"{done} written, {refused} refused while swapped")
    for folder in outside:
        names = {str(path.relative_to(folder)) for path in folder.rglob("*")}
        assert names == {"c", "c/d", "file", "c/d/file", "secret-name"}, names
    written = [path for path in base.rglob("ours-*") if path.is_file()]
    assert done > 50 and refused > 10
    assert len(written) == done and all(path.read_bytes() == OURS for path in written)
