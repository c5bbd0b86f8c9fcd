"""du, df and checksum: the same numbers as coreutils on the same trees."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdebug.cli.usage import mount_of
from kdebug.errors import NotFound, ProtocolViolation
from kdebug.probe import usage
from kdebug.probe.checksum import ChecksumSearch
from kdebug.probe.rooted import Root
from kdebug.probe.usage import UsageSearch
from kdebug.protocol.search import Checksum, Digest, DigestPage, DiskUsage, Usage, UsagePage
from kdebug.protocol.system import Mount


@pytest.fixture
def host() -> Iterator[Root]:
    with Root.at(os.open("/", os.O_PATH | os.O_DIRECTORY)) as root:
        yield root


def sums(root: Root, path: Path | str, **options: object) -> list[Usage]:
    search = UsageSearch(root, DiskUsage(path=str(path), **options))  # type: ignore[arg-type]
    return [row for row in search.rows() if row is not None]


def gnu_du(path: Path, *options: str) -> dict[str, int]:
    command = ["du", "-0", "--block-size=1", *options, str(path)]
    out = subprocess.run(command, capture_output=True, check=True).stdout.decode("utf-8", "surrogateescape")
    lines = (line.split("\t", 1) for line in out.split("\0")[:-1])
    return {name: int(count) for count, name in lines}


def plant(top: Path, dice: random.Random, links: bool) -> None:
    folders, files = [top], []
    for number in range(200):
        place = dice.choice(folders) / f"{dice.choice(['', 'é ', '-'])}{number}"
        kind = dice.random()
        if kind < 0.2:
            place.mkdir()
            folders.append(place)
        elif kind < 0.4 and files and links:
            os.link(dice.choice(files), place)
        elif kind < 0.5:
            place.symlink_to("x" * dice.randrange(1, 200))
        elif kind < 0.6:
            with open(place, "wb") as file:
                file.truncate(dice.randrange(10**7))
        else:
            place.write_bytes(bytes(dice.randrange(20_000)))
            files.append(place)


def test_the_sums_of_gnu_du(tmp_path: Path, host: Root, seed: int) -> None:
    plant(tmp_path, random.Random(seed), links=False)
    rows = sums(host, tmp_path)
    assert {row.path: row.allocated_bytes for row in rows} == gnu_du(tmp_path)
    shallow = sums(host, tmp_path, max_depth=1)
    assert {row.path: row.allocated_bytes for row in shallow} == gnu_du(tmp_path, "--max-depth=1")


def test_hard_links_count_once(tmp_path: Path, host: Root, seed: int) -> None:
    """In which directory such a file counts is the order of the walk; the whole is the same."""
    plant(tmp_path, random.Random(seed), links=True)
    rows = sums(host, tmp_path)
    whole = rows[-1]
    assert whole.path == str(tmp_path) and whole.allocated_bytes == gnu_du(tmp_path, "-s")[str(tmp_path)]
    files = [row for row in sums(host, tmp_path, files=True) if row.kind == "file"]
    regular = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    inodes = {path.stat().st_ino: path.stat().st_blocks * 512 for path in regular}
    assert sum(row.allocated_bytes for row in files) == sum(inodes.values())


def test_lengths_are_summed_beside_blocks(tmp_path: Path, host: Root) -> None:
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 10**9)
    (row,) = sums(host, tmp_path)
    own = os.stat(tmp_path)
    assert (row.allocated_bytes, row.apparent_bytes) == (own.st_blocks * 512, 10**9 + own.st_size)
    assert row.files == 1


def test_the_largest_come_first(tmp_path: Path, host: Root) -> None:
    for size in (5, 50, 500, 20):
        (tmp_path / f"{size}").write_bytes(bytes(size * 4096))
    rows = sums(host, tmp_path, top=3, files=True)
    assert [row.path.rpartition("/")[2] for row in rows] == [tmp_path.name, "500", "50"]


def test_files_with_many_names_are_remembered_to_a_bound(
    tmp_path: Path, host: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "MAX_LINKED", 1)
    for name in "ab":
        (tmp_path / name).write_bytes(bytes(4096))
        os.link(tmp_path / name, tmp_path / f"{name}2")
    search = UsageSearch(host, DiskUsage(path=str(tmp_path)))
    rows = [row for row in search.rows() if row is not None]
    # Two names of one file may come together, and then nothing had to be remembered twice.
    assert rows[0].files in (2, 3) and (rows[0].files == 2 or search.progress(True).skipped)


def test_digests_are_those_of_hashlib_and_check_with_sha256sum(
    tmp_path: Path, host: Root, seed: int
) -> None:
    dice = random.Random(seed)
    for number, size in enumerate([0, 1, 262_143, 262_144, 262_145, dice.randrange(10**6)]):
        (tmp_path / f"file {number}").write_bytes(dice.randbytes(size))
    search = ChecksumSearch(host, Checksum(path=str(tmp_path), max_depth=5))
    rows = [row for row in search.rows() if row is not None]
    assert {row.path: row.sha256 for row in rows} == {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()
    }
    assert search.progress(True).bytes_read == sum(path.stat().st_size for path in tmp_path.iterdir())
    (error,) = [row for row in ChecksumSearch(host, Checksum(path=str(tmp_path))).rows() if row is not None]
    assert error.sha256 is None and "directory" in str(error.error)


def test_answers_that_cannot_be_are_refused() -> None:
    for digest in (
        Digest("/a", "xyz"),
        Digest("/a", None),
        Digest("/a", "0" * 64, error="both"),
        Digest("/b", "0" * 64),
    ):
        with pytest.raises(ProtocolViolation):
            Checksum(path="/a").check(DigestPage((digest,)))
    with pytest.raises(ProtocolViolation):
        DiskUsage(path="/a").check(UsagePage((Usage("/a", 0, "dir", -1),)))


def mount(path: str, number: int) -> Mount:
    return Mount(number, 1, f"0:{number}", "/", path, (), "ext4", "x", (), False)


def test_a_path_is_on_the_mount_that_covers_it() -> None:
    mounts = [mount("/", 1), mount("/var", 2), mount("/var/log", 3), mount("/var", 4)]
    assert mount_of(mounts, "/etc").mount_id == 1
    assert mount_of(mounts, "/var/lib").mount_id == 4
    assert mount_of(mounts, "/var/log/app").mount_id == 3
    assert mount_of(mounts, "/various").mount_id == 1
    with pytest.raises(NotFound):
        mount_of([mount("/var", 1)], "/etc")
