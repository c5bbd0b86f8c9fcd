"""Copies out of pods and into them, over streams that are cut, on rungs with few rights."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import threading
from pathlib import Path

import pytest

from kdebug.target.reader import WINDOW_BYTES
from kdebug.target.transfer import TransferOptions, TransferReport, download
from support.trees import facts, make_tree

from .support import images, targets, toolboxes
from .support.cli import Kdebug
from .support.node import Node

MIB = 1 << 20


@pytest.fixture(scope="module")
def place(started_node: Node) -> str:
    namespace = started_node.namespace()
    started_node.run(targets.root("web"), namespace)
    started_node.run(targets.restricted("nobody"), namespace)
    started_node.run(targets.read_only("fixed"), namespace)
    return namespace


def test_a_tree_out_and_in(node: Node, kdebug: Kdebug, place: str, tmp_path: Path, seed: int) -> None:
    inside = node.rootfs(place, "web", "app")
    make_tree(inside / "tree", 300, random.Random(seed))
    original = facts(inside / "tree")
    kdebug("cp", "-r", "--links", "web:/tree", str(tmp_path / "out"), "-n", place)
    assert facts(tmp_path / "out") == original
    kdebug("cp", "-r", "--links", str(tmp_path / "out"), "web:/back", "-n", place)
    assert facts(inside / "back") == original
    kdebug("chmod", "-R", "u+rwX", "web:/back", "-n", place)
    kdebug("rm", "-r", "web:/back", "web:/tree", "-n", place)
    assert not (inside / "back").exists() and not (inside / "tree").exists()


def test_a_download_goes_on_across_cuts(node: Node, kdebug: Kdebug, place: str, tmp_path: Path) -> None:
    """Each stream ends after 20 MB: one command, and every byte once but for what was on its way."""
    kdebug("ps", "web", "-n", place)
    node.faults.cut_after_bytes = 20_000_000
    done = kdebug("cp", "web:/data/blob.bin", str(tmp_path / "blob"), "-n", place, "-o", "json")
    report = json.loads(done.stdout)
    assert (tmp_path / "blob").read_bytes() == images.blob()
    assert report["sha256"] == hashlib.sha256(images.blob()).hexdigest() and report["reconnects"] >= 1
    assert os.listdir(tmp_path) == ["blob"]


def test_an_upload_that_is_cut_leaves_nothing(
    node: Node, kdebug: Kdebug, place: str, tmp_path: Path
) -> None:
    kdebug("ps", "web", "-n", place)
    with open(tmp_path / "f", "wb") as file:
        file.truncate(0)
        for _ in range(300):
            file.write(os.urandom(MIB))
    inside = node.rootfs(place, "web", "app")
    before = set(os.listdir(inside))
    client = kdebug.start("cp", str(tmp_path / "f"), "web:/uploaded", "-n", place)
    stop = threading.Event()

    def cut() -> None:
        while not stop.wait(0.5):
            node.cut_streams()

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        _, stderr = client.communicate(timeout=60)
    finally:
        stop.set()
        thread.join()
    assert client.returncode == 6, stderr
    assert set(os.listdir(inside)) == before


def test_the_least_rung_writes_what_the_target_may(
    node: Node, kdebug: Kdebug, place: str, tmp_path: Path
) -> None:
    (tmp_path / "f").write_text("new")
    inside = node.rootfs(place, "nobody", "app")
    writable = next(path for path in ("/tmp", "/data") if (inside / path[1:]).exists())
    os.chmod(inside / writable[1:], 0o1777)
    kdebug("cp", str(tmp_path / "f"), f"nobody:{writable}/f", "-n", place)
    assert ((inside / writable[1:] / "f").read_text(), (inside / writable[1:] / "f").stat().st_uid) == (
        "new",
        65532,
    )
    done = kdebug("cp", str(tmp_path / "f"), "nobody:/etc/new", "-n", place, code=3)
    assert "Permission denied in its directory (owner uid 0" in done.last_line
    assert "uid 65532" in done.last_line


def test_a_read_only_root_and_a_read_only_session(
    node: Node, kdebug: Kdebug, place: str, tmp_path: Path
) -> None:
    (tmp_path / "f").write_text("new")
    done = kdebug("cp", str(tmp_path / "f"), "fixed:/etc/new", "-n", place, code=3)
    assert "Read-only file system; write to a volume" in done.last_line
    before = node.rootfs_digest(place, "web", "app")
    for words in (
        ("cp", str(tmp_path / "f"), "web:/new"), ("rm", "web:/etc/passwd"), ("mkdir", "web:/d"),
        ("chmod", "0", "web:/etc/passwd"), ("edit", "web:/etc/passwd"),
    ):  # fmt: skip
        done = kdebug(*words, "--read-only", "-n", place, code=3)
        assert "read-only" in done.last_line
    assert node.rootfs_digest(place, "web", "app") == before


CUTS = 10


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_half_a_gigabyte_cut_at_ten_points(node: Node, place: str, tmp_path: Path, seed: int) -> None:
    """Within one run: the stream is cut at random bytes, and the download goes on each time."""
    chance = random.Random(seed)
    source = node.rootfs(place, "web", "app") / "half"
    with open(source, "wb") as file:
        for _ in range(512):
            file.write(chance.randbytes(MIB))
    points = sorted(chance.sample(range(MIB, 511 * MIB), CUTS))
    report = asyncio.run(_cut_at(node, place, tmp_path / "half", points))
    with open(source, "rb") as file:
        assert report.sha256 == hashlib.file_digest(file, "sha256").hexdigest()
    with open(tmp_path / "half", "rb") as file:
        assert report.sha256 == hashlib.file_digest(file, "sha256").hexdigest()
    source.unlink()
    twice = report.travelled_bytes - 512 * MIB
    print(f"{report.reconnects} reconnects, {twice} bytes fetched twice; a window is {WINDOW_BYTES}")
    assert 1 <= report.reconnects <= CUTS and twice <= CUTS * WINDOW_BYTES


async def _cut_at(node: Node, place: str, to: Path, points: list[int]) -> TransferReport:
    left, cuts = list(points), []

    def watch(now: object) -> None:
        if left and now.done_bytes >= left[0]:  # type: ignore[attr-defined]
            left.pop(0)
            cuts.append(asyncio.get_running_loop().run_in_executor(None, node.cut_streams))

    async with toolboxes.opened(node, place, "web") as target:
        report = await download(target, ["/half"], str(to), TransferOptions(), watch)
        await asyncio.gather(*cuts)
        return report


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_ten_thousand_files(node: Node, kdebug: Kdebug, place: str, tmp_path: Path, seed: int) -> None:
    inside = node.rootfs(place, "web", "app")
    make_tree(inside / "large", 10_000, random.Random(seed))
    original = facts(inside / "large")
    kdebug("cp", "-r", "--links", "web:/large", str(tmp_path / "out"), "-n", place, seconds=300)
    assert facts(tmp_path / "out") == original
    kdebug("cp", "-r", "--links", str(tmp_path / "out"), "web:/back", "-n", place, seconds=300)
    assert facts(inside / "back") == original
    kdebug("chmod", "-R", "u+rwX", "web:/back", "web:/large", "-n", place)
    kdebug("rm", "-r", "web:/back", "web:/large", "-n", place)
