"""ls, cat, find and grep while directories are swapped for symlinks in a tight loop, for a minute.

Nothing from outside the root may come out, and nothing may be left out without a word: in every pass, what
is below the swapped name was found, or a row says why not, or the name was something else at that moment.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from kdebug.errors import KdebugError
from kdebug.probe.files import OpenFiles, iter_dir
from kdebug.probe.find import FindSearch
from kdebug.probe.grep import GrepSearch
from kdebug.probe.rooted import Root
from kdebug.protocol.grep import Grep
from kdebug.protocol.requests import ReadFile
from kdebug.protocol.search import Find
from support.swaps import INSIDE, plant, swap_for_ever

SECONDS = 60


class Counts:
    def __init__(self) -> None:
        self.whole = self.stopped = self.elsewhere = self.refused = 0


def look_with_find(root: Root, counts: Counts) -> None:
    rows = [row for row in FindSearch(root, Find(path="/")).rows() if row is not None]
    paths = {row.path for row in rows}
    assert not any("secret-name" in path for path in paths)
    assert {"/a", "/a/steady", "/a/steady/file"} <= paths
    places = [path for path in ("/a/b", "/a/real", "/moved") if path in paths]
    if any(f"{place}/file" in paths and f"{place}/c/d/file" in paths for place in places):
        counts.whole += 1
    elif any(row.entry.error for row in rows):
        counts.stopped += 1
    else:
        # Not one of its names when its directory was read, or a link at that moment.
        kinds = {row.entry.kind for row in rows if row.path in places}
        assert not places or kinds == {"symlink"}, [(row.path, row.entry.kind) for row in rows]
        counts.elsewhere += 1


def look_with_grep(root: Root, counts: Counts) -> None:
    request = Grep(path="/", pattern="needle", max_depth=100)
    rows = [row for row in GrepSearch(root, request).rows() if row is not None]
    assert all(row.text == INSIDE.decode().strip() for row in rows if row.kind == "match")
    assert "/a/steady/file" in {row.path for row in rows}
    found = sum(row.kind == "match" for row in rows)
    counts.whole += found >= 3
    counts.stopped += any(row.kind == "error" for row in rows)


def look_with_the_rest(root: Root, counts: Counts) -> None:
    files = OpenFiles()
    for path in ("/a/b/file", "/a/b/c/d/file", "/a/b/../b/c/../file"):
        try:
            assert files.read(root, ReadFile(path)).data == INSIDE
        except KdebugError:
            counts.refused += 1
    files.close()
    for path, names in (("/a/b", {"file", "c"}), ("/a/b/c", {"d"})):
        try:
            assert {entry.name for entry in iter_dir(root, path)} == names
        except KdebugError:
            counts.refused += 1


@pytest.mark.soak
@pytest.mark.parametrize("force_walk", [False, True], ids=["openat2", "walk"])
def test_no_byte_from_outside_and_nothing_left_out(tmp_path: Path, force_walk: bool) -> None:
    base = tmp_path / "x/root"
    base.mkdir(parents=True)
    plant(base)
    before = len(os.listdir("/proc/self/fd"))
    swapper = os.fork()
    if swapper == 0:
        swap_for_ever(base)
    counts = Counts()
    try:
        with Root.at(os.open(base, os.O_PATH | os.O_DIRECTORY), force_walk=force_walk) as root:
            deadline = time.monotonic() + SECONDS
            while time.monotonic() < deadline:
                look_with_find(root, counts)
                look_with_grep(root, counts)
                look_with_the_rest(root, counts)
    finally:
        os.kill(swapper, signal.SIGKILL)
        os.waitpid(swapper, 0)
    print(vars(counts))
    assert counts.whole > 100 and counts.stopped > 10 and counts.refused > 100
    assert len(os.listdir("/proc/self/fd")) <= before
