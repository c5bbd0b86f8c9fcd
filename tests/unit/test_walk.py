"""find and the walk under it: the same as GNU find, on trees that were made to hurt."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import needs_root
from kdebug.cli.find import DAY, MINUTE, age_bounds, size_bounds
from kdebug.errors import NotFound, ProtocolViolation, UsageError
from kdebug.probe import walk
from kdebug.probe.find import FindSearch
from kdebug.probe.rooted import Root
from kdebug.protocol.files import Entry
from kdebug.protocol.search import Find, Found, FoundPage


@pytest.fixture
def host() -> Iterator[Root]:
    with Root.at(os.open("/", os.O_PATH | os.O_DIRECTORY)) as root:
        yield root


def found(root: Root, path: Path | str, **options: object) -> list[Found]:
    search = FindSearch(root, Find(path=str(path), **options))  # type: ignore[arg-type]
    return [row for row in search.rows() if row is not None]


def gnu_find(path: Path | str, *tests: str) -> set[bytes]:
    done = subprocess.run(["find", str(path), *tests, "-print0"], capture_output=True, check=True)
    return set(done.stdout.split(b"\0")[:-1])


def paths(rows: list[Found]) -> set[bytes]:
    return {row.path.encode("utf-8", "surrogateescape") for row in rows}


def plant(top: Path, dice: random.Random, count: int = 300) -> None:
    """Directories, files of all sizes and ages, links, FIFOs, with odd names."""
    folders = [os.fsencode(top)]
    for number in range(count):
        odd = dice.choice([b"", b"\n", b"\xff", b" ", b"*", b".", "é".encode(), b"\x1b[1m", b"-"])
        place = os.path.join(dice.choice(folders), odd + str(number).encode() + dice.choice([b"", b".log"]))
        kind = dice.random()
        if kind < 0.3:
            os.mkdir(place)
            folders.append(place)
        elif kind < 0.4:
            os.symlink(dice.choice([b"/", b"..", b"nowhere", place]), place)
        elif kind < 0.45:
            os.mkfifo(place)
        else:
            with open(place, "wb") as file:
                file.truncate(dice.choice([0, 1, 511, 512, 513, 1024, 1025, 10240, 2**20, 2**20 + 1]))
            age = dice.choice([5, 35, 85, 95, 3625, 86375, 86425, 2 * 86400 + 25, 400 * 86400])
            now = int(os.stat(place).st_mtime)
            os.utime(place, (now, now - age))


TESTS: list[tuple[list[str], dict[str, object]]] = [
    ([], {}),
    (["-name", "*.log"], {"names": ("*.log",)}),
    (["-iname", "*.LOG"], {"names": ("*.LOG",), "ignore_case": True}),
    (["-name", "[1-3]*"], {"names": ("[1-3]*",)}),
    (["-type", "f"], {"kinds": ("file",)}),
    (["-type", "l,p"], {"kinds": ("symlink", "fifo")}),
    (["-maxdepth", "2"], {"max_depth": 2}),
    (["-maxdepth", "0"], {"max_depth": 0}),
    (["-mindepth", "2"], {"min_depth": 2}),
    (["-xdev"], {"one_file_system": True}),
    (["-uid", "12345"], {"uid": 12345}),
]


def test_every_test_finds_what_gnu_find_finds(tmp_path: Path, host: Root, seed: int) -> None:
    plant(tmp_path, random.Random(seed))
    for words, options in TESTS:
        rows = found(host, tmp_path, **options)
        assert paths(rows) == gnu_find(tmp_path, *words), words
        assert len(rows) == len(paths(rows)), "a name came twice"


@pytest.mark.parametrize(
    "text", ["+1k", "-1k", "1k", "0", "2", "-2", "+0", "1M", "+1M", "-2M", "513c", "-0c"]
)
def test_sizes_round_as_gnu_find_does(tmp_path: Path, host: Root, seed: int, text: str) -> None:
    plant(tmp_path, random.Random(seed))
    low, high = size_bounds(text)
    rows = found(host, tmp_path, kinds=("file",), min_bytes=low, max_bytes=high)
    assert paths(rows) == gnu_find(tmp_path, "-type", "f", "-size", text)


@pytest.mark.parametrize(
    ("test", "text", "unit"),
    [("-mtime", text, DAY) for text in ("0", "1", "+0", "+1", "-1", "-3", "2")]
    + [("-mmin", text, MINUTE) for text in ("+1", "-1", "1", "2", "-60", "+60")],
)
def test_ages_are_those_of_gnu_find(
    tmp_path: Path, host: Root, seed: int, test: str, text: str, unit: float
) -> None:
    plant(tmp_path, random.Random(seed))
    low, high = age_bounds(text, unit)
    # The two looks are less apart than the 25 seconds that every age stays before an edge.
    rows = found(host, tmp_path, kinds=("file",), min_age_seconds=low, max_age_seconds=high)
    assert paths(rows) == gnu_find(tmp_path, "-type", "f", test, text)


def test_newer_than(tmp_path: Path, host: Root) -> None:
    for number, name in enumerate(["old", "mark", "new"]):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 1_700_000_000 + number))
    os.utime(tmp_path, (0, 0))
    rows = found(host, tmp_path, newer_than_ns=os.stat(tmp_path / "mark").st_mtime_ns)
    assert paths(rows) == gnu_find(tmp_path, "-newer", str(tmp_path / "mark"))


def test_a_tree_of_4000_levels_costs_few_descriptors(tmp_path: Path, host: Root) -> None:
    here = os.open(tmp_path, os.O_PATH)
    for _ in range(4000):
        os.mkdir("deep", dir_fd=here)
        os.mkdir("beside", dir_fd=here)
        below = os.open("deep", os.O_PATH, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    try:
        before, most = len(os.listdir("/proc/self/fd")), 0
        search = FindSearch(host, Find(path=str(tmp_path)))
        rows = []
        for row in search.rows():
            if row is not None:
                rows.append(row)
            if len(rows) % 500 == 0:
                most = max(most, len(os.listdir("/proc/self/fd")) - before)
        assert [row.entry.error for row in rows if row.entry.error] == []
        assert len(rows) == 8001 and max(row.depth for row in rows) == 4000
        assert most < 20
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / "deep")], check=True)


def test_what_is_too_deep_is_said(tmp_path: Path, host: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "MAX_DEPTH", 5)
    (tmp_path / "1/2/3/4/5/6/7").mkdir(parents=True)
    rows = found(host, tmp_path)
    assert [row.path for row in rows if row.entry.error] == [f"{tmp_path}/1/2/3/4/5"]
    assert not any(row.path.endswith("/6") for row in rows)


def test_wide_trees_are_walked_in_batches(
    tmp_path: Path, host: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "BATCH_NAMES", 3)
    monkeypatch.setattr(walk, "OPEN_LEVELS", 2)
    for a in range(7):
        for b in range(7):
            (tmp_path / f"{a}/{b}/x/y/z").mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    rows = found(host, tmp_path)
    assert paths(rows) == gnu_find(tmp_path) and len(rows) == len(paths(rows))
    assert len(os.listdir("/proc/self/fd")) == before
    monkeypatch.setattr(walk, "MAX_UNFINISHED", 2)
    rows = found(host, tmp_path)
    missing = gnu_find(tmp_path) - paths(rows)
    refused = [row.path.encode() + b"/" for row in rows if row.entry.error]
    assert missing and all(path.startswith(tuple(refused)) for path in missing), "left out without a word"


def test_an_abandoned_walk_closes_everything(tmp_path: Path, host: Root) -> None:
    (tmp_path / "a/b/c/d").mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    rows = FindSearch(host, Find(path=str(tmp_path))).rows()
    for _ in range(4):
        next(rows)
    rows.close()  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/fd")) == before


@needs_root
def test_what_may_not_be_entered_is_a_row_with_its_owner(seed: int) -> None:
    top = tempfile.mkdtemp()
    os.chmod(top, 0o755)
    closed = f"{top}/closed"
    os.mkdir(closed)
    os.mkdir(f"{closed}/inside")
    os.chmod(closed, 0o700)
    os.chown(closed, 1234, 4321)
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        with Root.at(os.open("/", os.O_PATH)) as root:
            rows = found(root, top)
        (error,) = [row.entry.error or "" for row in rows if row.entry.error]
        good = {row.path for row in rows} == {
            top,
            closed,
        } and "owner uid 1234, gid 4321, mode 0700" in error
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    shutil.rmtree(top)


@needs_root
def test_loops_by_bind_mounts_are_cut(tmp_path: Path) -> None:
    script = f"""
        mkdir -p {tmp_path}/a/b/loop && mount --bind {tmp_path}/a {tmp_path}/a/b/loop
        exec sleep 600
    """
    holder = subprocess.Popen(["unshare", "-m", "sh", "-c", script])
    try:
        while Path(f"/proc/{holder.pid}/comm").read_text() != "sleep\n":
            assert holder.poll() is None
        with Root.of_process(holder.pid) as root:
            rows = found(root, tmp_path)
        assert [row.path for row in rows if row.entry.error] == [f"{tmp_path}/a/b/loop"]
        assert "loop" in str(rows[-1].entry.error) and len(rows) == 5
    finally:
        holder.kill()
        holder.wait()


def test_symlinks_are_followed_at_the_top_only_when_asked(tmp_path: Path, host: Root) -> None:
    (tmp_path / "dir/in").mkdir(parents=True)
    (tmp_path / "link").symlink_to("dir")
    assert paths(found(host, tmp_path / "link")) == gnu_find(tmp_path / "link")
    assert paths(found(host, f"{tmp_path}/link/")) == gnu_find(f"{tmp_path}/link/")
    assert len(found(host, tmp_path / "link", follow=True)) == 2


def test_a_path_that_is_not_there(tmp_path: Path, host: Root) -> None:
    with pytest.raises(NotFound):
        found(host, tmp_path / "missing")


@pytest.mark.parametrize(
    "row",
    [
        Found("/etc/passwd", 0, Entry("passwd", "file")),
        Found("/a", 0, Entry("a", "kind that is none")),
        Found("/a", -1, Entry("a", "file")),
        Found("/a/" + "x" * 70_000, 1, Entry("a", "file")),
        Found("/a/x\0", 1, Entry("a", "file")),
        Found("/ab", 1, Entry("ab", "file")),
    ],
)
def test_answers_that_cannot_be_are_refused(row: Found) -> None:
    with pytest.raises(ProtocolViolation):
        Find(path="/a").check(FoundPage((row,)))
    with pytest.raises(ProtocolViolation):
        Find(path="/a", limit=1).check(FoundPage((Found("/a", 0, Entry("a", "dir")),) * 2))


@pytest.mark.parametrize("text", ["", "k", "1x", "++1", "1.5k", "9" * 16])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        size_bounds(text)
