"""Package lists and the lock: what is understood, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder import lockfile
from builder.fetch import fetch
from builder.listing import FLAVOURS, BuildError, PackageList, read_list
from builder.lockfile import ARCHITECTURES, Lock, Locked
from builder.tree import Tree, merged

ENTRY = Locked("core", "amd64", "deb", "libc6", "2.36-9", "a" * 64)


def test_the_committed_lists_and_lock_belong_together() -> None:
    lock = lockfile.read()
    for flavour in FLAVOURS:
        wanted = read_list(flavour)
        for architecture in ARCHITECTURES:
            locked = {entry.name for entry in lock.of(flavour, architecture)}
            assert set(wanted.packages) | set(wanted.wheels) <= locked
            assert not locked & set(wanted.refused)
            if wanted.exactly:
                assert locked == set(wanted.packages)


def test_a_kept_path_wins_over_a_dropped_one() -> None:
    wanted = PackageList(dropped=["usr/share/doc/*"], kept=["usr/share/doc/*/copyright"])
    assert wanted.takes("usr/share/doc/libc6/copyright")
    assert not wanted.takes("usr/share/doc/libc6/NEWS")
    assert wanted.takes("usr/bin/python3.11")


@pytest.mark.parametrize("line", ["@exact", "+usr/bin/python3", "!libc6"])
def test_a_line_that_means_nothing_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "core.list").write_text(f"# first\n{line}\n")
    with pytest.raises(BuildError, match=r"core\.list:2: "):
        read_list("core", tmp_path)


def test_a_lock_comes_back_as_it_was_written() -> None:
    lock = Lock(1_700_000_000, (ENTRY,))
    assert lockfile.parse(lockfile.render(lock)) == lock


@pytest.mark.parametrize("line", ["core amd64 deb libc6 2.36", "core amd64 deb libc6 2.36 " + "g" * 64])
def test_a_broken_lock_line_is_named(line: str) -> None:
    with pytest.raises(BuildError, match="line 2"):
        lockfile.parse(f"epoch 1\n{line}\n")


class ArchiveThatLies:
    """Stands in apt's place and delivers other bytes than the lock names."""

    def download(self, wanted: list[tuple[str, str]], folder: Path) -> None:
        (folder / "libc6_2.36-9_amd64.deb").write_bytes(b"!<arch>\nsomething else")


def test_a_package_with_another_digest_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="another SHA-256"):
        fetch([ENTRY], ArchiveThatLies(), tmp_path / "cache")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "there"),
    [
        ("./bin/bash", "usr/bin/bash"),
        ("./lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/libc.so.6"),
        ("./library/x", "library/x"),
        ("../../etc/passwd", "etc/passwd"),
        ("/etc/../../etc/x", "etc/x"),
    ],
)
def test_paths_of_packages_stay_inside(given: str, there: str) -> None:
    assert merged(given) == there


def test_no_file_is_setuid_or_writable_by_others() -> None:
    tree = Tree()
    tree.file("usr/bin/x", b"", 0o6777)
    assert tree.nodes["usr/bin/x"].mode == 0o755
