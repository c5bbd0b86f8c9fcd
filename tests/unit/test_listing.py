"""ls and tree: by columns the same as by rows, and what the flags of their namesakes do."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdebug.cli.files import HEADERS, long_row
from kdebug.cli.listing import listing_lines, ordered
from kdebug.cli.long_listing import long_lines, ordered_rows, rows_of_entries, rows_of_page
from kdebug.cli.table import table as table_of
from kdebug.errors import NotFound, ProtocolViolation
from kdebug.probe import table
from kdebug.probe.files import iter_dir
from kdebug.probe.rooted import Root
from kdebug.protocol import codec
from kdebug.protocol.files import Entry
from kdebug.protocol.search import COLUMNS, EntryTable, ListTable
from kdebug.target.search import entries_of

KDEBUG = [sys.executable, "-m", "kdebug.cli.entry"]


@pytest.fixture
def host() -> Iterator[Root]:
    with Root.at(os.open("/", os.O_PATH | os.O_DIRECTORY)) as root:
        yield root


@pytest.fixture(scope="module")
def victim() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait()


def ls(victim: subprocess.Popen[bytes], path: Path | str, *words: str, verb: str = "ls") -> list[str]:
    command = [*KDEBUG, verb, f"local:{victim.pid}:{path}", *words]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()


def gnu(path: Path, *words: str) -> list[str]:
    command = ["ls", *words, str(path)]
    return subprocess.run(command, capture_output=True, text=True, env={"LC_ALL": "C"}).stdout.splitlines()


def plant(top: Path) -> None:
    for number, name in enumerate(["b", "a", "C", ".hidden", "é", "with blank"]):
        (top / name).write_bytes(bytes(number * 100))
        os.utime(top / name, (0, 1_700_000_000 - number * 1000))
    (top / "folder/.dot/deep").mkdir(parents=True)
    (top / "folder/plain").mkdir()
    (top / "folder/plain/file").touch()
    (top / "link").symlink_to("no/where")
    os.utime(top / "link", (0, 1_600_000_000), follow_symlinks=False)
    os.utime(top / "folder", (0, 1_500_000_000))


def pages(host: Root, path: Path | str, limit: int) -> list[EntryTable]:
    """Through the codec and the client's check, as they come over a stream."""
    request = ListTable(path=str(path), limit=limit)
    sent = [codec.to_json(page) for page, _ in table.pages(host, str(path), limit)]
    found = [codec.from_json(EntryTable, payload) for payload in sent]
    for page in found:
        request.check(page)
    return found


@pytest.mark.parametrize(
    ("path", "limit"),
    [(path, limit) for path in ("/dev", "/proc/self/fd", "/etc") for limit in (1, 7, 1000)]
    + [("/usr/bin", 1000)],
)
def test_columns_say_what_rows_say(host: Root, path: str, limit: int) -> None:
    def stable(entries: list[object]) -> dict[str, object]:
        # The directory that is read is itself open while it is: its descriptor differs. Others use /dev.
        return {
            e.name: dataclasses.replace(e, error=None, mtime_ns=None if e.kind == "char" else e.mtime_ns)  # type: ignore
            for e in entries
            if path != "/proc/self/fd"
        }

    rows = stable(list(iter_dir(host, path)))
    columns = stable([entry for page in pages(host, path, limit) for entry in entries_of(page)])
    assert rows == columns


def test_pages_stay_small_with_long_link_targets(tmp_path: Path, host: Root) -> None:
    for number in range(300):
        os.symlink("\udcff" * 4000, tmp_path / str(number))
    found = pages(host, tmp_path, 1000)
    assert sum(len(page.names) for page in found) == 300
    assert max(len(codec.to_json(page)) for page in found) < 2 * 2**20
    assert entries_of(found[0])[0].link_target == "\udcff" * 4000


def test_empty_and_missing_directories(tmp_path: Path, host: Root) -> None:
    assert [page.names for page in pages(host, tmp_path, 10)] == [()]
    with pytest.raises(NotFound):
        pages(host, tmp_path / "missing", 10)


@pytest.mark.parametrize(
    "lie",
    [
        EntryTable("/", ("a", "b", "c")),
        EntryTable("/", ("a", "b"), modes=(1, 2, 3)),
        EntryTable("/", (), cursor="1"),
        EntryTable("/", (), targets=((0, "x"),)),
    ],
)
def test_tables_that_cannot_be_are_refused(lie: EntryTable) -> None:
    with pytest.raises(ProtocolViolation):
        ListTable(path="/", limit=2).check(lie)


@pytest.mark.parametrize("words", ["", "-a", "-A", "-r", "-S", "-t", "-Sr", "-tr", "-At", "-d", "-ar"])
def test_names_in_the_order_of_ls(victim: subprocess.Popen[bytes], tmp_path: Path, words: str) -> None:
    plant(tmp_path)
    wanted = gnu(tmp_path, "-1", *words.split())
    if words == "-d":
        wanted = [tmp_path.name]
    if words == "-ar":
        wanted = [*sorted(wanted[-2:]), *wanted[:-2]]  # . and .. stay in front here
    assert ls(victim, tmp_path, *words.split()) == wanted


def test_trees(victim: subprocess.Popen[bytes], tmp_path: Path) -> None:
    plant(tmp_path)
    assert ls(victim, tmp_path, "-R") == gnu_recursive(tmp_path)
    assert ls(victim, tmp_path, "--depth", "1", "-A") == [f"{tmp_path}:", *gnu(tmp_path, "-1A")]
    drawn = ls(victim, tmp_path / "folder", "-a", verb="tree")
    assert drawn == [
        f"{tmp_path}/folder", "├── .dot", "│   └── deep", "└── plain", "    └── file", "",
        "3 directories, 1 file",
    ]  # fmt: skip
    deep = ls(victim, tmp_path, "-L", "1", "-d", verb="tree")
    assert deep == [str(tmp_path), "└── folder", "", "1 directory"]


def gnu_recursive(path: Path) -> list[str]:
    done = subprocess.run(["ls", "-1R", str(path)], capture_output=True, env={"LC_ALL": "C"})
    return done.stdout.decode("utf-8", "surrogateescape").splitlines()


def test_sizes_are_bytes_or_human(victim: subprocess.Popen[bytes], tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(123_456))
    assert " 123456 " in ls(victim, tmp_path, "-l")[1] and " 120.6K " in ls(victim, tmp_path, "-lh")[1]


def test_documents_hold_hidden_names(victim: subprocess.Popen[bytes], tmp_path: Path) -> None:
    (tmp_path / ".hidden").touch()
    assert [
        row["name"] for row in json.loads("\n".join(ls(victim, tmp_path, "-o", "json")))["entries"]
    ] == [".hidden"]


@pytest.mark.parametrize("human", [False, True])
def test_long_lines_are_those_of_a_table(host: Root, human: bool) -> None:
    entries = [entry for path in ("/dev", "/usr/bin", "/etc") for entry in iter_dir(host, path)]
    entries += [
        Entry("\x1bgone", "unknown", error="No such\ndevice"),
        Entry("dangling", "symlink", 3, 0o777, 0, 0, 10**9, links=1, link_target="\u202e", error="stale"),
        Entry("timeless  ", "file", 2**100, 0o4755, 2**32, 7, 2**120, links=123_456),
        Entry("sized", "file", 5),
    ]
    wanted = table_of(HEADERS, [long_row(entry, human) for entry in entries], right="LINKS UID GID SIZE")
    assert listing_lines(entries, True, human) == wanted
    assert listing_lines([], True, human) == [" ".join(HEADERS).replace(" ", "  ").rstrip()]


@pytest.mark.parametrize("path", ["/dev", "/usr/bin", "/etc", "/proc/1"])
def test_rows_of_columns_are_those_of_entries(host: Root, path: str) -> None:
    for page in pages(host, path, 50):
        rows = list(rows_of_page(page))
        by_entry = list(rows_of_entries(entries_of(page)))
        assert [row[:4] for row in rows] == [row[:4] for row in by_entry]
        for sort in ("name", "size", "time"):
            for reverse in (False, True):
                names = [entry.name for entry in ordered(entries_of(page), sort, reverse)]
                assert [row[0] for row in ordered_rows(rows, sort, reverse)] == names


def test_modes_and_numbers_that_no_kernel_has(host: Root) -> None:
    one = dict.fromkeys(COLUMNS, (1,)) | {"modes": (2**100 + 0o100644,), "mtimes_ns": (-(2**100),)}
    page = EntryTable("/", ("a",), **one)
    ListTable(path="/", limit=2).check(page)
    assert long_lines(list(rows_of_page(page)), False)[1].split() == [
        "-rw-r--r--", "1", "1", "1", "1", "-", "a",
    ]  # fmt: skip
    for number in (2**64, -1):
        with pytest.raises(ProtocolViolation):
            ListTable(path="/", limit=2).check(EntryTable("/", ("a",), **one | {"numbers": (number,)}))
