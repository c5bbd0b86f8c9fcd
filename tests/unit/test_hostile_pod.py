"""An agent that lies to a download: nothing is written outside, nothing is overwritten, caps hold, no hang.

At the `Backend` seam: whatever passes the codec and the requests' own checks reaches the download code.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import hashlib
import os
import tempfile
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdebug.errors import Failed, KdebugError, ProtocolViolation
from kdebug.protocol.files import Entry, FileChunk, FileStat, Listing
from kdebug.protocol.requests import MAX_CHUNK, ListDir, ReadFile, StatPath
from kdebug.target import Target
from kdebug.target import landing as landing_module
from kdebug.target.landing import link_refusal, refusal
from kdebug.target.transfer import TransferOptions, TransferReport, download
from support.trees import facts

SECONDS = 20.0
Tree = dict[str, Any]
"""Names to bytes, to a subtree, to ("link", text), or to an `Entry` as it stands. A list of pairs instead
of a dict may hold a name twice."""


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class LyingAgent:
    """Serves a tree that no file system would, and changes its mind where a test wants it to."""

    def __init__(self, tree: Any) -> None:
        self.tree = tree
        self.requests = 0
        self.chunk: Callable[[ReadFile, FileChunk], FileChunk] = lambda request, chunk: chunk
        self.listing: Callable[[ListDir, Listing], Listing] = lambda request, listing: listing

    async def send(self, request: Any) -> Any:
        self.requests += 1
        await asyncio.sleep(0)
        answer = self._answer(request)
        request.check(answer)
        return answer

    def _answer(self, request: Any) -> Any:
        if isinstance(request, StatPath):
            return FileStat(request.path, entry("top", self._find(request.path)))
        if isinstance(request, ListDir):
            rows = tuple(entry(name, node) for name, node in pairs(self._find(request.path)))
            start = int(request.cursor or 0)
            more = start + request.limit < len(rows)
            cursor = str(start + request.limit) if more else ""
            return self.listing(request, Listing(request.path, rows[start : start + request.limit], cursor))
        assert isinstance(request, ReadFile), request
        node = self._find(request.path)
        data = node if isinstance(node, bytes) else b"not a file at all"
        piece = data[request.offset : request.offset + request.size]
        end = request.offset + len(piece) >= len(data)
        chunk = FileChunk(
            request.path,
            request.offset,
            len(data),
            end,
            inode(node),
            1,
            0,
            "h",
            sha256=sha(piece),
            data=piece,
        )
        return self.chunk(request, chunk)

    def _find(self, path: str) -> Any:
        node = self.tree
        if not path.startswith("/top"):
            raise Failed(f"{path}: outside of what was asked for")
        rest = path[len("/top") :]
        while rest:
            assert rest.startswith("/")
            # The longest name that fits: a hostile one may hold a slash.
            name, node = max(
                ((n, v) for n, v in pairs(node) if rest[1:].startswith(n)), key=lambda one: len(one[0])
            )
            rest = rest[1 + len(name) :]
        return node

    async def close(self) -> None:
        pass


def pairs(node: Any) -> list[tuple[str, Any]]:
    if isinstance(node, dict):
        return list(node.items())
    return node if isinstance(node, list) else []


def inode(node: Any) -> int:
    return id(node) % 2**40 + 1


def entry(name: str, node: Any) -> Entry:
    if isinstance(node, Entry):
        return dataclasses.replace(node, name=name)
    if isinstance(node, (dict, list)):
        return Entry(name, "dir", 4096, 0o755, 0, 0, 0, inode(node), 1)
    if isinstance(node, tuple):
        return Entry(name, "symlink", len(node[1]), 0o777, 0, 0, 0, inode(node), 1, link_target=node[1])
    return Entry(name, "file", len(node), 0o644, 0, 0, 0, inode(node), 1, allocated_bytes=len(node))


def fetch(agent: LyingAgent, into: Path | str, **options: Any) -> TransferReport:
    """Into a fresh name below `into`; a hang is a failure."""
    options = {"recursive": True, "links": True} | options
    target = Target(agent, None, "liar")  # type: ignore[arg-type]

    async def run() -> TransferReport:
        work = download(target, ["/top"], str(into), TransferOptions(**options))
        return await asyncio.wait_for(work, SECONDS)

    return asyncio.run(run())


@pytest.fixture
def place(tmp_path: Path) -> Any:
    """A destination with neighbours, which must never change."""
    (tmp_path / "neighbour").mkdir()
    (tmp_path / "neighbour" / "file").write_text("mine")
    (tmp_path / "mine").write_text("mine")
    before = facts(tmp_path / "neighbour"), (tmp_path / "mine").read_text()
    yield tmp_path / "out"
    assert (facts(tmp_path / "neighbour"), (tmp_path / "mine").read_text()) == before
    assert set(os.listdir(tmp_path)) <= {"neighbour", "mine", "out"}


@pytest.mark.parametrize(
    "name",
    [
        "../escaped",
        "/etc/cron.d/x",
        "..",
        ".",
        "",
        "a/b",
        "a\0b",
        "x" * 256,
        "../../" * 20 + "tmp/x",
        "\udcff/\udcfe",
    ],
)
def test_names_that_lead_elsewhere_are_refused_and_told(place: Path, name: str) -> None:
    """CVE-2018-1002100, CVE-2019-11249: `..` and absolute names of a hostile tar."""
    report = fetch(LyingAgent({name: b"evil", "good": b"good"}), place)
    assert facts(place).keys() == {b".", b"good"}
    assert report.failed.count == 1 and "was refused" in report.failed.kept[0]


@pytest.mark.parametrize("kind", ["dir", "symlink"])
def test_other_kinds_with_such_names(place: Path, kind: str) -> None:
    node: Any = {"x": b"evil"} if kind == "dir" else ("link", "x")
    report = fetch(LyingAgent({"../mine": node, "..": node}), place)
    assert facts(place).keys() == {b"."} and report.failed.count == 2


LINKS_OUT = [
    "/etc/passwd", "/", "..", "../..", "../mine", "a/../../mine", "x/..", "./../mine", "../../../../etc/x",
    "d/../../mine", "", "d/..", ".//..//mine",
]  # fmt: skip


@pytest.mark.parametrize("text", LINKS_OUT)
def test_links_that_point_outside_are_not_made(place: Path, text: str) -> None:
    """CVE-2019-1002101, CVE-2019-11246: a link first, then a file through it."""
    report = fetch(LyingAgent([("l", ("link", text)), ("l", {"mine": b"evil"}), ("d", {})]), place)
    assert not (place / "l").is_symlink() and report.failed.count == 1


def test_a_file_is_never_written_through_a_link(place: Path) -> None:
    """CVE-2019-11251: a harmless link, then an entry of the same name that goes through it."""
    tree = [("sub", {}), ("l", ("link", "sub")), ("l", {"file": b"evil"}), ("l", b"evil")]
    for order in (tree, tree[::-1]):
        report = fetch(LyingAgent(order), f"{place}", overwrite=True)
        assert report.failed.count >= 1
        assert not (place / "sub" / "file").exists()
        for one in sorted(place.rglob("*"), reverse=True):
            one.unlink() if not one.is_dir() or one.is_symlink() else one.rmdir()
        place.rmdir()


def test_links_that_climb_by_other_links_are_not_made(place: Path) -> None:
    """CVE-2025-4517, CVE-2025-4330: each text looks harmless; resolved in turn they would climb."""
    tree = {
        "d": {"e": {}},
        "a": ("link", "d/e"),
        "b": ("link", "a/../../mine"),
        "c": ("link", "a/.."),
        "s": ("link", "."),
    }
    report = fetch(LyingAgent(tree), place)
    assert report.failed.count == 2 and os.readlink(place / "a") == "d/e"
    assert not os.path.lexists(place / "b") and not os.path.lexists(place / "c")


def inside(top: Path, path: Path) -> bool:
    try:
        return os.path.realpath(path, strict=True).startswith(os.path.realpath(top))
    except FileNotFoundError:
        return os.path.realpath(path).startswith(os.path.realpath(top))
    except OSError as error:
        assert error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG)
        return True  # it leads nowhere at all


names = st.sampled_from(
    ["a", "b", "A", "..", ".", "", "a/b", "\0", "é", unicodedata.normalize("NFD", "é"), "c" * 300]
)
texts = st.lists(st.sampled_from(["..", ".", "a", "b", "A", "", "é"]), max_size=5).map("/".join) | st.just(
    "/a"
)
trees = st.recursive(
    st.binary(max_size=20) | texts.map(lambda text: ("link", text)),
    lambda below: st.lists(st.tuples(names, below), max_size=5),
    max_leaves=25,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=st.lists(st.tuples(names, trees), max_size=6), overwrite=st.booleans(), links=st.booleans())
def test_no_tree_leaves_the_destination(tree: Any, overwrite: bool, links: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "a").write_text("mine")
        (base / "b").mkdir()
        (base / "b" / "a").write_text("mine")
        before = facts(base)
        try:
            report = fetch(LyingAgent(tree), base / "out", overwrite=overwrite, links=links)
        except AssertionError:
            return  # the test's own agent cannot serve this tree
        made = base / "out"
        for one in made.rglob("*"):
            assert inside(made, one)
            assert ".kdebug-part" not in one.name
        after = {path: fact for path, fact in facts(base).items() if path.split(b"/")[0] != b"out"}
        assert {p: f for p, f in after.items() if p != b"."} == {
            p: f for p, f in before.items() if p != b"."
        }
        assert report.files == sum(1 for one in made.rglob("*") if one.is_file() and not one.is_symlink())


@given(st.lists(texts, min_size=1, max_size=6), st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_no_set_of_links_leads_out(links: list[str], depth: int) -> None:
    """Whatever links are let pass, in whatever directory, following them stays inside."""
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder) / "top"
        here = top.joinpath(*["a"] * depth)
        here.mkdir(parents=True)
        for number, text in enumerate(links):
            if not link_refusal(text, depth):
                name = here / "abAé"[number % 4]
                if not os.path.lexists(name):
                    name.symlink_to(text)
        for one in top.rglob("*"):
            assert inside(top, one), (links, depth)


def test_a_name_listed_twice_does_not_overwrite(place: Path) -> None:
    report = fetch(
        LyingAgent([("f", b"first"), ("f", b"second"), ("d", {}), ("d", {"x": b"x"})]),
        place,
        overwrite=True,
    )
    assert (report.files, report.failed.count) in ((1, 2), (2, 2)) and len(os.listdir(place)) == 2
    assert all("in this run already" in line for line in report.failed.kept)


def test_names_that_are_one_on_this_file_system(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reaches the kernel is folded, as such a file system does for itself."""
    plain = landing_module.raw
    folded = lambda name: plain(unicodedata.normalize("NFD", name).casefold())  # noqa: E731
    monkeypatch.setattr(landing_module, "raw", folded)
    tree = {
        "README": b"one",
        "readme": b"two",
        "é": b"one",
        unicodedata.normalize("NFD", "é"): b"two",
        "D": {},
        "d": {"x": b"x"},
    }
    report = fetch(LyingAgent(tree), place, overwrite=True)
    assert report.files == 2 + (1 if (place / "d" / "x").exists() else 0)
    assert report.failed.count == 3


def test_existing_files_and_links_of_the_user_are_left(place: Path, tmp_path: Path) -> None:
    (place / "top").mkdir(parents=True)
    (place / "top" / "d").symlink_to(tmp_path / "neighbour")
    (place / "top" / "file").write_text("mine")
    (place / "top" / "l").symlink_to(tmp_path / "mine")
    tree = {"d": {"file": b"evil"}, "file": b"evil", "l": b"evil"}
    report = fetch(LyingAgent(tree), place)
    assert report.failed.count == 3 and report.files == 0
    fetch(LyingAgent(tree), place, overwrite=True)
    assert (place / "top" / "l").read_bytes() == b"evil" and not (place / "top" / "l").is_symlink()
    assert (place / "top" / "d").is_symlink()


def test_special_bits_are_dropped(place: Path) -> None:
    evil = Entry("x", "file", 4, 0o6777, 0, 0, 0, 7, 1, allocated_bytes=4)
    agent = LyingAgent({"x": evil})
    agent.chunk = lambda request, chunk: dataclasses.replace(
        chunk, inode=7, size_bytes=4, data=b"evil", sha256=sha(b"evil"), eof=True
    )
    fetch(agent, place)
    assert (place / "x").stat().st_mode & 0o7777 == 0o777


def test_times_and_sizes_beyond_reason(place: Path) -> None:
    for mtime, size in ((2**100, 5), (-(2**100), 5), (0, 2**100), (0, -5), (0, 2**62)):
        evil = Entry("x", "file", size, 0o644, 0, 0, mtime, 7, 1, allocated_bytes=0)
        agent = LyingAgent({"x": evil})
        agent.chunk = lambda request, chunk, s=size: dataclasses.replace(
            chunk, inode=7, size_bytes=s, data=b"", hole_bytes=max(0, s - request.offset), eof=True
        )
        try:
            report = fetch(agent, place, overwrite=True)
            assert report.capped or report.failed.count or (place / "x").stat().st_size <= 5
        except KdebugError as error:
            assert "\n" not in str(error)
        assert not place.exists() or not [one for one in os.listdir(place) if one.endswith("part")]


def test_more_data_than_announced_is_not_written(place: Path) -> None:
    agent = LyingAgent({"x": b"abc"})
    agent.chunk = lambda request, chunk: dataclasses.replace(
        chunk, data=b"abcdefghij", sha256=sha(b"abcdefghij"), eof=False
    )
    try:
        fetch(agent, place)
    except KdebugError:
        pass
    assert not (place / "x").exists() or (place / "x").stat().st_size <= 3


def test_an_endless_file_ends_at_the_cap(place: Path) -> None:
    """It says no size, as procfs does, and never comes to an end."""
    agent = LyingAgent({"x": b""})
    piece = bytes(MAX_CHUNK)
    agent.chunk = lambda request, chunk: dataclasses.replace(
        chunk, size_bytes=0, data=piece, sha256=sha(piece), eof=False
    )
    report = fetch(agent, place, max_bytes=5 * MAX_CHUNK)
    assert "--max-bytes" in report.capped and report.data_bytes <= 5 * MAX_CHUNK
    assert sum(one.stat().st_size for one in place.iterdir()) <= 5 * MAX_CHUNK


def test_a_file_in_crumbs_is_given_up(place: Path) -> None:
    agent = LyingAgent({"x": b"x" * 100_000})
    agent.chunk = lambda request, chunk: dataclasses.replace(chunk, data=b"x", sha256=sha(b"x"), eof=False)
    report = fetch(agent, place)
    assert "crumbs" in report.failed.kept[0] and agent.requests < 3000


def test_an_endless_listing_ends_at_the_cap(place: Path) -> None:
    agent = LyingAgent({})
    agent.listing = lambda request, listing: Listing(
        request.path,
        tuple(entry(f"{request.cursor}-{number}", b"x") for number in range(request.limit)),
        cursor="0" * (len(request.cursor) + 1),
    )
    agent._find = lambda path: {} if path == "/top" else b"x"  # type: ignore[method-assign]
    report = fetch(agent, place, max_files=2500)
    assert "only the first 2500 entries" in report.capped and report.files <= 2500


def test_an_endless_depth_ends_at_the_cap(place: Path) -> None:
    agent = LyingAgent({})
    agent._find = lambda path: {"d": {}}  # type: ignore[method-assign]
    report = fetch(agent, place, max_files=1000)
    assert "deeper than 256" in report.failed.kept[0]


def test_kinds_that_change_between_listing_and_reading(place: Path) -> None:
    agent = LyingAgent({"x": b"abc", "d": {"y": b"y"}})
    agent.chunk = lambda request, chunk: dataclasses.replace(chunk, inode=chunk.inode + 1)
    report = fetch(agent, place)
    assert report.files == 0 and report.failed.count == 2
    assert facts(place).keys() == {b".", b"d"}


def test_a_digest_that_differs_fails_and_removes_nothing(place: Path) -> None:
    place.mkdir()
    (place / "top").write_text("mine")
    agent = LyingAgent(b"abc")
    agent.chunk = lambda request, chunk: dataclasses.replace(chunk, data=b"abd")
    with pytest.raises(Failed, match="did not arrive as it was read"):
        fetch(agent, place, overwrite=True)
    assert (place / "top").read_text() == "mine" and os.listdir(place) == ["top"]


@pytest.mark.parametrize("data", [b"not zlib", None, b""])
def test_packed_pieces_that_burst_or_lie(place: Path, data: bytes | None) -> None:
    import zlib

    bomb = zlib.compress(bytes(200 * MAX_CHUNK), 9) if data is None else data
    agent = LyingAgent(b"x" * 1000)
    agent.chunk = lambda request, chunk: dataclasses.replace(chunk, data=bomb, packed=True)
    with pytest.raises(ProtocolViolation, match="pack"):
        fetch(agent, place, compress="always")
    agent.chunk = lambda request, chunk: dataclasses.replace(chunk, packed=True)
    with pytest.raises(ProtocolViolation, match="packed what was to be sent as it is"):
        fetch(agent, place, compress="never")


def test_an_agent_that_repeats_itself_for_ever(place: Path) -> None:
    """Pages without rows, and a listing that is always its own next page."""
    agent = LyingAgent({})
    agent.listing = lambda request, listing: Listing(request.path, (), cursor="1")
    with pytest.raises(ProtocolViolation, match="does not end"):
        fetch(agent, place)


@given(st.text(max_size=300))
def test_no_name_that_is_let_pass_has_a_separator(name: str) -> None:
    try:
        name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return
    if not refusal(name):
        assert os.path.basename(name) == name and name not in (".", "..") and "\0" not in name
