"""Large copies that are broken off again and again, and 10,000 files, over the agent as a process."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from kdebug.channel.subprocess import SubprocessChannel, local_agent_command
from kdebug.errors import ConnectionLost
from kdebug.protocol.requests import OpenTarget
from kdebug.target import Target
from kdebug.target.connection import Connection
from kdebug.target.reader import WINDOW_BYTES
from kdebug.target.transfer import TransferOptions, TransferReport, download, upload
from support.trees import facts, make_tree

MIB = 1 << 20
SIZE = 512 * MIB


async def opened() -> tuple[Target, int]:
    """A target, and the pid of its agent."""
    channel = await SubprocessChannel.start(local_agent_command())
    connection = await Connection.open(channel, request_seconds=30)
    target = await Target.open(connection, OpenTarget(pid=os.getpid()), "soak")
    return target, connection.hello.pid


@pytest.mark.soak
def test_a_download_that_is_killed_at_ten_points(run: asyncio.Runner, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    with open(tmp_path / "f", "wb") as file:
        for _ in range(SIZE // MIB):
            file.write(chance.randbytes(MIB))
    points = sorted(chance.sample(range(MIB, SIZE - MIB), 10))
    travelled = 0

    async def one(point: int | None) -> TransferReport:
        nonlocal travelled
        target, agent = await opened()
        report, killed = TransferReport(), False

        def watch(now: Any) -> None:
            nonlocal killed
            if point is not None and now.done_bytes >= point and not killed:
                killed = True
                os.kill(agent, signal.SIGKILL)

        try:
            paths = [str(tmp_path / "f")]
            await download(target, paths, str(tmp_path / "g"), TransferOptions(), watch, report)
        except ConnectionLost:
            assert point is not None and report.left_part
        finally:
            travelled += report.travelled_bytes
            await target.close()
        return report

    had = 0
    for point in points:
        report = run.run(one(point))
        assert report.resumed_bytes == had
        (part,) = [name for name in os.listdir(tmp_path) if name.endswith(".kdebug-part")]
        had = (tmp_path / part).stat().st_size
        assert point - MIB <= had <= point + WINDOW_BYTES
    report = run.run(one(None))
    with open(tmp_path / "f", "rb") as file:
        assert report.sha256 == hashlib.file_digest(file, "sha256").hexdigest()
    with open(tmp_path / "g", "rb") as file:
        assert report.sha256 == hashlib.file_digest(file, "sha256").hexdigest()
    print(f"{travelled - SIZE} bytes were fetched twice over ten cuts; a window is {WINDOW_BYTES}")
    assert travelled - SIZE <= 10 * WINDOW_BYTES
    assert sorted(os.listdir(tmp_path)) == ["f", "g"]


@pytest.mark.soak
def test_ten_thousand_files_both_ways(run: asyncio.Runner, tmp_path: Path, seed: int) -> None:
    make_tree(tmp_path / "src", 10_000, random.Random(seed))
    original = facts(tmp_path / "src")
    options = TransferOptions(recursive=True, links=True)

    async def both() -> None:
        target, agent = await opened()
        out = await download(target, [str(tmp_path / "src")], str(tmp_path / "out"), options)
        assert out.complete and not out.skipped.count
        back = await upload(target, [str(tmp_path / "out")], str(tmp_path / "in"), options)
        assert back.complete and (back.files, back.links) == (out.files, out.links)
        resident = int(Path(f"/proc/{agent}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        print(f"the agent has {resident / MIB:.1f} MiB resident")
        assert resident < 32 * MIB
        await target.close()

    run.run(both())
    assert facts(tmp_path / "out") == original
    assert facts(tmp_path / "in") == original
