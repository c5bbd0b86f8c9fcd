"""Downloads over the thread's agent: what arrives, what is refused, what is resumed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import needs_root
from kdebug.agent.session import Session
from kdebug.errors import Failed, KdebugError, NotFound, UsageError
from kdebug.protocol.requests import MAX_CHUNK, OpenTarget, ReadFile
from kdebug.target import Target
from kdebug.target.landing import LandingFailed
from kdebug.target.local import LocalBackend
from kdebug.target.reader import PAUSE_PIECES, READS_AHEAD, SLOW_PIECE, WINDOW_BYTES, Packing
from kdebug.target.transfer import TransferOptions, TransferReport, download
from support.trees import allocated, facts, make_tree


class Watched:
    """A backend that notes what is read, and does what a test says before an answer goes on."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.read_bytes = 0
        self.hook: Any = None

    async def send(self, request: Any) -> Any:
        if self.hook is not None:
            await self.hook(request)
        answer = await self.backend.send(request)
        if isinstance(request, ReadFile):
            self.read_bytes += len(answer.data)
        return answer

    async def close(self) -> None:
        await self.backend.close()


@pytest.fixture
def target(run: asyncio.Runner) -> Iterator[Target]:
    backend = Watched(LocalBackend(Session()))
    opened = run.run(Target.open(backend, OpenTarget(pid=os.getpid()), "test"))
    yield opened
    run.run(opened.close())


def copy(
    run: asyncio.Runner, target: Target, sources: Any, destination: Path | str, **options: Any
) -> TransferReport:
    paths = [str(one) for one in (sources if isinstance(sources, list) else [sources])]
    return run.run(download(target, paths, str(destination), TransferOptions(**options)))


def test_a_tree_arrives_bit_for_bit(run: asyncio.Runner, target: Target, tmp_path: Path, seed: int) -> None:
    make_tree(tmp_path / "src", 400, random.Random(seed))
    report = copy(run, target, tmp_path / "src", tmp_path / "out", recursive=True, links=True)
    assert report.complete and not report.skipped.count, report
    assert facts(tmp_path / "out") == facts(tmp_path / "src")
    without = copy(run, target, tmp_path / "src", tmp_path / "plain", recursive=True)
    assert facts(tmp_path / "plain") == facts(tmp_path / "src", links=False)
    assert without.skipped.count == report.links > 0


def test_a_file_its_digest_mode_and_time(run: asyncio.Runner, target: Target, tmp_path: Path) -> None:
    data = os.urandom(5 * MAX_CHUNK + 17)
    (tmp_path / "f").write_bytes(data)
    (tmp_path / "f").chmod(0o4640)
    os.utime(tmp_path / "f", ns=(1, 1_600_000_000_123_456_789))
    report = copy(run, target, tmp_path / "f", tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == data
    assert report.sha256 == hashlib.sha256(data).hexdigest() and report.verified_files == 1
    status = (tmp_path / "g").stat()
    assert (status.st_mode & 0o7777, status.st_mtime_ns) == (0o640, 1_600_000_000_123_456_789)
    copy(run, target, tmp_path / "f", tmp_path / "h", special_bits=True)
    assert (tmp_path / "h").stat().st_mode & 0o7777 == 0o4640


def test_sparse_files_stay_sparse(run: asyncio.Runner, target: Target, tmp_path: Path) -> None:
    with open(tmp_path / "s", "wb") as file:
        file.write(b"x" * 5000)
        file.seek(100 << 20)
        file.write(b"y")
        file.truncate(300 << 20)
    report = copy(run, target, tmp_path / "s", tmp_path / "t")
    assert (tmp_path / "t").stat().st_size == 300 << 20
    assert allocated(tmp_path / "t") <= allocated(tmp_path / "s") + 8192
    assert report.data_bytes < 20_000
    assert subprocess.run(["cmp", "-n", str(200 << 20), tmp_path / "s", tmp_path / "t"]).returncode == 0


def test_packed_pieces_arrive_the_same(run: asyncio.Runner, target: Target, tmp_path: Path) -> None:
    data = b"the same again and again " * 200_000 + os.urandom(2 * MAX_CHUNK)
    (tmp_path / "f").write_bytes(data)
    report = copy(run, target, tmp_path / "f", tmp_path / "g", compress="always")
    assert (tmp_path / "g").read_bytes() == data
    assert report.travelled_bytes < report.data_bytes - 4_000_000


def test_existing_files_are_kept_unless_force(run: asyncio.Runner, target: Target, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"new")
    (tmp_path / "g").write_bytes(b"old")
    with pytest.raises(Failed, match="exists; -f overwrites it"):
        copy(run, target, tmp_path / "f", tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == b"old"
    copy(run, target, tmp_path / "f", tmp_path / "g", overwrite=True)
    assert (tmp_path / "g").read_bytes() == b"new"
    (tmp_path / "link").symlink_to(tmp_path / "g")
    (tmp_path / "f").write_bytes(b"newer")
    copy(run, target, tmp_path / "f", tmp_path / "link", overwrite=True)
    assert ((tmp_path / "g").read_bytes(), (tmp_path / "link").read_bytes()) == (b"new", b"newer")
    assert sorted(os.listdir(tmp_path)) == ["f", "g", "link"]


def test_bad_sources(run: asyncio.Runner, target: Target, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    with pytest.raises(NotFound, match="does not exist"):
        copy(run, target, tmp_path / "missing", tmp_path / "x")
    with pytest.raises(NotFound, match="nothing in the target matches"):
        copy(run, target, tmp_path / "no*", tmp_path / "x")
    with pytest.raises(Failed, match="not a directory"):
        copy(run, target, "/etc/passwd/x", tmp_path / "x")
    with pytest.raises(Failed, match="symlink loop"):
        copy(run, target, tmp_path / "loop", tmp_path / "x")
    with pytest.raises(UsageError, match="at most 4095"):
        copy(run, target, "/" + "x" * 4096, tmp_path / "x")
    with pytest.raises(UsageError, match="NUL"):
        copy(run, target, "/a\0b", tmp_path / "x")
    for name, word in (("d", "-r copies it"), ("fifo", "is a fifo"), ("socket", "is a socket")):
        report = copy(run, target, tmp_path / name, tmp_path / "x")
        assert not report.complete and word in report.failed.kept[0]
    assert "is a char" in copy(run, target, "/dev/null", tmp_path / "x").failed.kept[0]
    with pytest.raises(NotFound, match="No such file"):
        copy(run, target, "/etc/passwd", tmp_path / "nowhere" / "x")
    assert not (tmp_path / "x").exists()


def test_globs_and_several_sources(run: asyncio.Runner, target: Target, tmp_path: Path) -> None:
    for name in ("a.log", "b.log", ".c.log", "d.txt", "lit*eral"):
        (tmp_path / name).write_text(name)
    out = tmp_path / "out"
    out.mkdir()
    copy(run, target, [tmp_path / "*.log", tmp_path / "d.txt"], out)
    assert sorted(os.listdir(out)) == ["a.log", "b.log", "d.txt"]
    copy(run, target, tmp_path / "lit*eral", out)
    assert (out / "lit*eral").exists()
    with pytest.raises(Failed, match="not a directory"):
        copy(run, target, tmp_path / "*.log", tmp_path / "new")


def test_caps_bite_and_say_so(run: asyncio.Runner, target: Target, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for number in range(20):
        (tmp_path / "d" / str(number)).write_bytes(b"x" * 1000)
    report = copy(run, target, tmp_path / "d", tmp_path / "few", recursive=True, max_files=5)
    assert "only the first 5 entries" in report.capped and not report.complete
    assert len(list((tmp_path / "few").iterdir())) < 5
    report = copy(run, target, tmp_path / "d", tmp_path / "small", recursive=True, max_bytes=4500)
    assert "--max-bytes" in report.capped
    assert sum(one.stat().st_size for one in (tmp_path / "small").iterdir()) <= 4500


def test_files_without_a_size_end_at_their_end_or_the_cap(
    run: asyncio.Runner, target: Target, tmp_path: Path
) -> None:
    copy(run, target, f"/proc/{os.getpid()}/limits", tmp_path / "limits")
    assert (tmp_path / "limits").read_text().startswith("Limit")


def parts(folder: Path) -> list[Path]:
    return [one for one in folder.iterdir() if one.name.endswith(".kdebug-part")]


def stop_after(target: Target, count: int, error: Exception) -> None:
    """The `count`th read and all later ones fail."""
    seen = 0

    async def hook(request: Any) -> None:
        nonlocal seen
        seen += isinstance(request, ReadFile)
        if seen > count:
            raise error

    target.backend.hook = hook  # type: ignore[attr-defined]


def test_a_broken_download_goes_on_where_it_stopped(
    run: asyncio.Runner, target: Target, tmp_path: Path
) -> None:
    from kdebug.errors import ConnectionLost

    backend: Any = target.backend
    data = os.urandom(40 * MAX_CHUNK + 5)
    (tmp_path / "f").write_bytes(data)
    stop_after(target, 21, ConnectionLost("cut"))
    with pytest.raises(ConnectionLost):
        copy(run, target, tmp_path / "f", tmp_path / "g")
    (part,) = parts(tmp_path)
    had = part.stat().st_size
    assert had >= 15 * MAX_CHUNK and not (tmp_path / "g").exists()
    assert backend.read_bytes - had <= WINDOW_BYTES
    backend.hook, backend.read_bytes = None, 0
    report = copy(run, target, tmp_path / "f", tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == data and report.resumed_bytes == had
    assert report.sha256 == hashlib.sha256(data).hexdigest()
    assert backend.read_bytes == len(data) - had
    assert not parts(tmp_path)


def test_a_broken_directory_goes_on_with_what_is_missing(
    run: asyncio.Runner, target: Target, tmp_path: Path, seed: int
) -> None:
    from kdebug.errors import ConnectionLost

    make_tree(tmp_path / "src", 200, random.Random(seed))
    stop_after(target, 90, ConnectionLost("cut"))
    with pytest.raises(ConnectionLost):
        copy(run, target, tmp_path / "src", tmp_path / "out", recursive=True, links=True)
    target.backend.hook = None  # type: ignore[attr-defined]
    had = [one for one in (tmp_path / "out").rglob("*") if one.is_file() and not one.is_symlink()]
    had = [one for one in had if not one.name.endswith(".kdebug-part")]
    changed = max(had, key=lambda one: one.stat().st_size)
    times = changed.stat()
    changed.chmod(0o600)
    changed.write_bytes(bytes(times.st_size))
    os.utime(changed, ns=(0, times.st_mtime_ns))
    report = copy(run, target, f"{tmp_path}/src/.", tmp_path / "out", recursive=True, links=True)
    assert report.unchanged > 30
    # What differs is not overwritten, though size and time are the same; all else counts as copied.
    assert report.failed.count == 1, report.failed
    assert report.failed.kept[0].endswith(f"/{changed.name} exists; -f overwrites it"), report.failed
    again = copy(
        run, target, f"{tmp_path}/src/.", tmp_path / "out", recursive=True, links=True, overwrite=True
    )
    assert again.complete
    files = {path: fact[2:] for path, fact in facts(tmp_path / "src").items()}
    assert {path: fact[2:] for path, fact in facts(tmp_path / "out").items()} == files
    assert not parts(tmp_path / "out")


def test_a_damaged_part_is_fetched_again_from_the_damage(
    run: asyncio.Runner, target: Target, tmp_path: Path
) -> None:
    data = os.urandom(40 * MAX_CHUNK)
    (tmp_path / "f").write_bytes(data)
    stop_after(target, 36, Failed("stop"))
    with pytest.raises(Failed):
        copy(run, target, tmp_path / "f", tmp_path / "g")
    assert not parts(tmp_path), "what failed for good leaves nothing"
    from kdebug.errors import ConnectionLost

    stop_after(target, 36, ConnectionLost("cut"))
    with pytest.raises(ConnectionLost):
        copy(run, target, tmp_path / "f", tmp_path / "g")
    (part,) = parts(tmp_path)
    with open(part, "r+b") as file:
        file.seek(20 * MAX_CHUNK)
        file.write(b"damage")
    target.backend.hook = None  # type: ignore[attr-defined]
    report = copy(run, target, tmp_path / "f", tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == data
    assert report.resumed_bytes == 16 * MAX_CHUNK and "was right up to" in report.notes.kept[0]


def test_a_part_of_another_version_is_not_resumed(
    run: asyncio.Runner, target: Target, tmp_path: Path
) -> None:
    from kdebug.errors import ConnectionLost

    (tmp_path / "f").write_bytes(os.urandom(10 * MAX_CHUNK))
    stop_after(target, 8, ConnectionLost("cut"))
    with pytest.raises(ConnectionLost):
        copy(run, target, tmp_path / "f", tmp_path / "g")
    data = os.urandom(10 * MAX_CHUNK)
    (tmp_path / "f").write_bytes(data)
    target.backend.hook = None  # type: ignore[attr-defined]
    report = copy(run, target, tmp_path / "f", tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == data and report.resumed_bytes == 0
    assert len(parts(tmp_path)) == 1 and "another version" in report.notes.kept[0]


def test_a_stranger_in_the_place_of_a_part(run: asyncio.Runner, target: Target, tmp_path: Path) -> None:
    from kdebug.errors import ConnectionLost

    (tmp_path / "f").write_bytes(os.urandom(10 * MAX_CHUNK))
    stop_after(target, 8, ConnectionLost("cut"))
    with pytest.raises(ConnectionLost):
        copy(run, target, tmp_path / "f", tmp_path / "g")
    (part,) = parts(tmp_path)
    part.rename(tmp_path / "elsewhere")
    part.symlink_to("elsewhere")
    before = (tmp_path / "elsewhere").read_bytes()
    target.backend.hook = None  # type: ignore[attr-defined]
    with pytest.raises(KdebugError, match="symbolic links"):
        copy(run, target, tmp_path / "f", tmp_path / "g")
    assert (tmp_path / "elsewhere").read_bytes() == before
    part.unlink()
    (tmp_path / "elsewhere").rename(part)
    os.link(part, tmp_path / "second-name")
    with pytest.raises(Failed, match="not a plain file of yours"):
        copy(run, target, tmp_path / "f", tmp_path / "g")
    assert (tmp_path / "second-name").read_bytes() == before


def test_a_file_that_shrinks_or_grows_or_changes(
    run: asyncio.Runner, target: Target, tmp_path: Path
) -> None:
    file = tmp_path / "f"

    def at_the_third(work: Any) -> None:
        seen = 0

        async def hook(request: Any) -> None:
            nonlocal seen
            seen += isinstance(request, ReadFile)
            if seen == 3:
                work()

        target.backend.hook = hook  # type: ignore[attr-defined]

    file.write_bytes(b"x" * (10 * MAX_CHUNK))
    at_the_third(lambda: os.truncate(file, MAX_CHUNK))
    with pytest.raises(KdebugError, match="became shorter"):
        copy(run, target, file, tmp_path / "g")
    file.write_bytes(b"x" * (10 * MAX_CHUNK))
    at_the_third(lambda: open(file, "ab").write(b"more"))
    report = copy(run, target, file, tmp_path / "g")
    assert (tmp_path / "g").stat().st_size == 10 * MAX_CHUNK
    assert report.complete and "grew while it was read" in report.notes.kept[0]

    def rewrite() -> None:
        with open(file, "r+b") as stream:
            stream.write(b"y")

    at_the_third(rewrite)
    report = copy(run, target, file, tmp_path / "h")
    assert not report.complete and "may mix old and new" in report.failed.kept[0]


def test_a_file_replaced_between_listing_and_reading_comes_as_it_is_now(
    run: asyncio.Runner, target: Target, tmp_path: Path
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("old")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    swapped = []

    def hooked(work: Any) -> Any:
        async def hook(request: Any) -> None:
            if isinstance(request, ReadFile) and not swapped:
                swapped.append(True)
                work()

        return hook

    def rename() -> None:
        (tmp_path / "new").write_text("newer")
        (tmp_path / "new").rename(tmp_path / "d" / "f")

    target.backend.hook = hooked(rename)  # type: ignore[attr-defined]
    report = copy(run, target, tmp_path / "d", tmp_path / "out", recursive=True)
    assert report.complete and (tmp_path / "out" / "f").read_text() == "newer"

    def to_link() -> None:
        (tmp_path / "d" / "f").unlink()
        (tmp_path / "d" / "f").symlink_to(secret)

    swapped.clear()
    target.backend.hook = hooked(to_link)  # type: ignore[attr-defined]
    report = copy(run, target, tmp_path / "d", tmp_path / "out2", recursive=True)
    assert "was replaced" in report.failed.kept[0] and os.listdir(tmp_path / "out2") == []


@needs_root
def test_no_space_keeps_the_part_and_goes_on_later(
    run: asyncio.Runner, target: Target, tmp_path: Path
) -> None:
    data = os.urandom(3 * MAX_CHUNK)
    (tmp_path / "f").write_bytes(data)
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2M", "none", small], check=True)
    try:
        with pytest.raises(LandingFailed, match="No space left on device; make room") as caught:
            copy(run, target, tmp_path / "f", small / "g")
        assert (caught.value.exit_code, caught.value.kind) == (1, "Failed")
        (part,) = parts(small)
        had = part.stat().st_size
        assert had >= MAX_CHUNK
        subprocess.run(["mount", "-o", "remount,size=4M", small], check=True)
        report = copy(run, target, tmp_path / "f", small / "g")
        assert (small / "g").read_bytes() == data and report.resumed_bytes > 0
    finally:
        subprocess.run(["umount", small], check=True)


def open_files() -> set[str]:
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(f"/proc/self/fd/{fd}"))
    return found


def test_interrupted_downloads_wait_for_their_thread_and_keep_the_part(
    run: asyncio.Runner, target: Target, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(os.urandom(30 * MAX_CHUNK))

    async def interrupted() -> TransferReport:
        report, enough = TransferReport(), asyncio.Event()

        def watch(now: Any) -> None:
            if now.done_bytes >= 10 * MAX_CHUNK:
                enough.set()

        task = asyncio.create_task(
            download(target, [str(tmp_path / "f")], str(tmp_path / "g"), TransferOptions(), watch, report)
        )
        await enough.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return report

    report = run.run(interrupted())
    (part,) = parts(tmp_path)
    assert report.left_part == str(part) and part.stat().st_size >= 10 * MAX_CHUNK
    assert str(part) not in open_files()
    had = part.stat().st_size
    assert copy(run, target, tmp_path / "f", tmp_path / "g").resumed_bytes == had


def shown_pieces(
    packing: Packing, pieces: int, sent: int, seconds: float, size: int = MAX_CHUNK
) -> list[bool]:
    """What was asked for with pieces of `size` on their way that shrink to `sent`."""
    flying = [packing.ask() for _ in range(READS_AHEAD)]
    asked = list(flying)
    for _ in range(pieces):
        packed = flying.pop(0)
        packing.saw(size, sent if packed else size, packed, seconds)
        flying.append(packing.ask())
        asked.append(flying[-1])
    return asked


def test_a_slow_link_gets_packed_pieces_where_they_shrink() -> None:
    begun = 2 * READS_AHEAD + 4
    assert all(shown_pieces(Packing("auto"), 40, MAX_CHUNK // 2, 1.0)[begun:])
    crawling = shown_pieces(Packing("auto"), 60, SLOW_PIECE // 2, 1.0, SLOW_PIECE)
    assert all(crawling[MAX_CHUNK // SLOW_PIECE * 2 + begun :])
    assert not any(shown_pieces(Packing("auto"), 40, MAX_CHUNK // 2, 0.001))
    assert not any(shown_pieces(Packing("never"), 40, MAX_CHUNK // 2, 1.0))
    assert all(shown_pieces(Packing("always"), 40, MAX_CHUNK, 0.001))


def test_what_does_not_shrink_is_tried_one_piece_at_a_time_and_ever_more_seldom() -> None:
    asked = shown_pieces(Packing("auto"), 4000, MAX_CHUNK, 1.0)
    tries = [place for place, packed in enumerate(asked) if packed]
    gaps = [later - earlier for earlier, later in zip(tries, tries[1:], strict=False)]
    assert tries and tries[0] < 10
    assert min(gaps) >= PAUSE_PIECES and gaps == sorted(gaps)
    assert sum(asked) <= 10
