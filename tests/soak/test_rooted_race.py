"""A process swaps directories for symlinks in a tight loop while paths are read: nothing from outside."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from kdebug.errors import KdebugError
from kdebug.probe.files import iter_dir
from kdebug.probe.rooted import Root
from support.swaps import SECRET, swap_for_ever

SECONDS = 30


@pytest.mark.soak
@pytest.mark.parametrize("force_walk", [False, True], ids=["openat2", "walk"])
def test_no_byte_from_outside(tmp_path: Path, force_walk: bool) -> None:
    base = tmp_path / "x/root"
    (base / "a/b").mkdir(parents=True)
    (base / "a/b/file").write_bytes(b"inside")
    for outside in (tmp_path / "outside", tmp_path / "x/outside"):
        outside.mkdir()
        (outside / "file").write_bytes(SECRET)
        (outside / "secret-name").touch()
    swapper = os.fork()
    if swapper == 0:
        swap_for_ever(base)
    read = failed = 0
    try:
        root = Root.at(os.open(base, os.O_PATH | os.O_DIRECTORY), force_walk=force_walk)
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            for path in ("/a/b/file", "/a/b/../b/file", "/a/../a/b/file", "/a/b/../../a/b/file"):
                try:
                    assert root.read_small(path) == b"inside"
                    read += 1
                except KdebugError:
                    failed += 1
            try:
                assert {entry.name for entry in iter_dir(root, "/a/b")} <= {"file"}
            except KdebugError:
                failed += 1
    finally:
        os.kill(swapper, signal.SIGKILL)
        os.waitpid(swapper, 0)
    print(f"{read} reads, {failed} refused while swapped")
    assert read > 100 and failed > 100
