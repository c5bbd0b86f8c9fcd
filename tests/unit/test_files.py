"""Listings, ranged reads and following, on directories that were made to hurt."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from kdebug.errors import Failed
from kdebug.probe.files import OpenFiles, iter_dir, stat_path
from kdebug.probe.rooted import Root
from kdebug.protocol.requests import FollowFile, ReadFile

NEVER = threading.Event()


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root.at(os.open(tmp_path, os.O_PATH | os.O_DIRECTORY))


def test_odd_names_are_listed_exactly(tmp_path: Path, root: Root) -> None:
    odd = [b"line\nfeed", b"\x1b[31m", b"\xff\xfe", b" ", b"[x]", "\u202e".encode(), b"a" * 255]
    for name in odd:
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).touch()
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    (tmp_path / "link").symlink_to("/etc")
    found = {os.fsencode(entry.name): entry for entry in iter_dir(root, "/")}
    assert set(found) == {*odd, b"fifo", b"socket", b"link"}
    assert (found[b"fifo"].kind, found[b"socket"].kind, found[b"link"].link_target) == (
        "fifo",
        "socket",
        "/etc",
    )


def test_facts_equal_stat(tmp_path: Path, root: Root) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"12345")
    file.chmod(0o4751)
    os.utime(file, ns=(1, 1_700_000_000_123_456_789))
    status = file.stat()
    entry = stat_path(root, "/f", True).entry
    assert (entry.size_bytes, entry.mode, entry.mtime_ns) == (5, 0o4751, 1_700_000_000_123_456_789)
    assert (entry.inode, entry.device, entry.uid, entry.links) == (
        status.st_ino,
        status.st_dev,
        status.st_uid,
        1,
    )


def test_a_hundred_thousand_entries() -> None:
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    # In memory where that is possible: making and removing them on a disk takes longer than the test.
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        for number in range(100_000):
            os.close(os.open(f"{folder}/{number}", os.O_CREAT))
        with Root.at(os.open(folder, os.O_PATH | os.O_DIRECTORY)) as root:
            before = len(os.listdir("/proc/self/fd"))
            names = {entry.name for entry in iter_dir(root, "/")}
            assert names == {str(number) for number in range(100_000)}
            abandoned = iter_dir(root, "/")
            next(abandoned)
            abandoned.close()
            assert len(os.listdir("/proc/self/fd")) == before


def read_all(root: Root, path: str, size: int = 1000) -> tuple[bytes, int]:
    files, out, offset, requests = OpenFiles(), [], 0, 0
    handle = ""
    while True:
        chunk = files.read(root, ReadFile(path, offset, size, handle))
        requests += 1
        out.append(chunk.data + bytes(min(chunk.hole_bytes, 10_000)))
        offset += len(chunk.data) + chunk.hole_bytes
        handle = chunk.handle
        if chunk.eof:
            files.close()
            return b"".join(out), requests


def test_ranged_reads_give_the_file(tmp_path: Path, root: Root) -> None:
    data = os.urandom(10_500)
    (tmp_path / "f").write_bytes(data)
    assert read_all(root, "/f")[0] == data
    (tmp_path / "empty").touch()
    assert read_all(root, "/empty") == (b"", 1)


def test_holes_are_not_read(tmp_path: Path, root: Root) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        file.write(b"start")
        file.seek(1 << 39)
        file.write(b"middle")
        file.truncate(1 << 40)
    data, requests = read_all(root, "/sparse", 1 << 20)
    assert data.startswith(b"start") and b"middle" in data
    assert requests < 10


def test_a_file_that_ends_in_a_hole_is_at_its_end_with_it(tmp_path: Path, root: Root) -> None:
    (tmp_path / "sparse").write_bytes(b"x" * 65536)
    os.truncate(tmp_path / "sparse", 1 << 30)
    chunk = OpenFiles().read(root, ReadFile("/sparse", 0, 1 << 20))
    assert (len(chunk.data) + chunk.hole_bytes, chunk.eof) == (1 << 30, True)


def test_proc_files_without_a_size_are_read_to_their_end() -> None:
    with Root.at(os.open("/", os.O_PATH)) as host:
        assert read_all(host, "/proc/self/status", 64)[0].startswith(b"Name:")


def test_a_handle_stays_on_the_file_that_was_opened(tmp_path: Path, root: Root) -> None:
    (tmp_path / "f").write_bytes(b"old file")
    files = OpenFiles()
    first = files.read(root, ReadFile("/f", 0, 3))
    (tmp_path / "new").write_bytes(b"new file")
    (tmp_path / "new").rename(tmp_path / "f")
    assert files.read(root, ReadFile("/f", 3, 99, first.handle)).data == b" file"
    files.close()
    with pytest.raises(Failed, match="replaced"):
        files.read(root, ReadFile("/f", 3, 99, first.handle))


def test_the_file_of_a_reader_that_comes_back_stays_open(tmp_path: Path, root: Root) -> None:
    (tmp_path / "f").write_bytes(b"old file")
    files = OpenFiles()
    handle = files.read(root, ReadFile("/f", 0, 3)).handle
    (tmp_path / "new").write_bytes(b"new file")
    (tmp_path / "new").rename(tmp_path / "f")
    for number in range(40):
        (tmp_path / str(number)).write_bytes(b"x")
        files.read(root, ReadFile(f"/{number}"))
        assert files.read(root, ReadFile("/f", 3, 99, handle)).data == b" file"
    files.close()


def test_directories_have_no_content(tmp_path: Path, root: Root) -> None:
    with pytest.raises(Failed, match="is a directory"):
        OpenFiles().read(root, ReadFile("/"))


def test_descriptors_are_bounded(tmp_path: Path, root: Root) -> None:
    files = OpenFiles()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(100):
        (tmp_path / str(number)).write_bytes(b"x")
        files.read(root, ReadFile(f"/{number}"))
    assert len(os.listdir("/proc/self/fd")) - before <= 16
    files.close()
    assert len(os.listdir("/proc/self/fd")) == before


def follow(files: OpenFiles, root: Root, offset: int, handle: str, wait: float = 5.0):  # type: ignore[no-untyped-def]
    return files.follow(root, FollowFile("/log", offset, handle=handle, wait_seconds=wait), NEVER)


def test_follow_drains_the_old_file_before_it_says_rotated(tmp_path: Path, root: Root) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"one\n")
    files = OpenFiles()
    first = follow(files, root, 0, "")
    assert first.data == b"one\n"
    with open(log, "ab") as old:
        log.rename(tmp_path / "log.1")
        old.write(b"two\n")
    log.write_bytes(b"three\n")
    second = follow(files, root, 4, first.handle)
    assert (second.data, second.rotated) == (b"two\n", False)
    third = follow(files, root, 8, first.handle)
    assert (third.data, third.rotated) == (b"", True)
    assert follow(files, root, 0, "").data == b"three\n"


def test_follow_sees_truncation_and_growth(tmp_path: Path, root: Root) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"one\n")
    files = OpenFiles()
    handle = follow(files, root, 0, "").handle
    os.truncate(log, 0)
    assert follow(files, root, 4, handle).shrunk
    writer = subprocess.Popen(["sh", "-c", f"sleep 0.2; echo grown >> {log}"])
    assert follow(files, root, 0, handle).data == b"grown\n"
    writer.wait()
    assert follow(files, root, 6, handle, wait=0.0).data == b""


def test_no_descriptor_is_left_by_readers_that_cross(tmp_path: Path, root: Root) -> None:
    """Two readers come back with a handle that was dropped, and one after everything was closed."""
    (tmp_path / "f").write_bytes(b"x")
    before = len(os.listdir("/proc/self/fd"))
    files = OpenFiles()
    handle = files.read(root, ReadFile("/f")).handle
    files.close()
    files = OpenFiles()
    one = files._open(root, "/f", handle)
    other = files._open(root, "/f", handle)
    files._release(one)
    files._release(other)
    files.close()
    assert files.read(root, ReadFile("/f")).data == b"x"
    assert len(os.listdir("/proc/self/fd")) == before
