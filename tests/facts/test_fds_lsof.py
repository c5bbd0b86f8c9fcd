"""Open descriptors and socket owners against lsof, which reads /proc in its own way."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdebug.agent import dispatch
from kdebug.agent.session import Session
from kdebug.protocol import requests as ask
from kdebug.protocol.processes import FdInfo


@pytest.fixture
def session() -> Iterator[Session]:
    session = Session()
    dispatch.handle(session, ask.OpenTarget(pid=os.getpid()))
    yield session
    session.close()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[dict[str, int]]:
    """One descriptor of every kind, by what it is."""
    plain, gone = tmp_path / "plain", tmp_path / "gone"
    plain.write_bytes(b"x" * 5000)
    gone.write_bytes(b"y" * 123)
    os.mkfifo(tmp_path / "fifo")
    tcp, unix = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
    pipe = os.pipe()
    fds = {
        "read": os.open(plain, os.O_RDONLY),
        "write": os.open(plain, os.O_WRONLY),
        "both": os.open(plain, os.O_RDWR),
        "deleted": os.open(gone, os.O_RDWR),
        "dir": os.open(tmp_path, os.O_RDONLY),
        "fifo": os.open(tmp_path / "fifo", os.O_RDWR),
        "char": os.open("/dev/null", os.O_WRONLY),
        "memfd": os.memfd_create("practice"),
        "event": os.eventfd(0) if hasattr(os, "eventfd") else os.open("/dev/zero", os.O_RDONLY),
        "tcp": tcp.fileno(),
        "unix": unix.fileno(),
        "pipe": pipe[0],
        "pipe-end": pipe[1],
    }
    os.lseek(fds["read"], 4321, os.SEEK_SET)
    gone.unlink()
    yield fds
    for name, fd in fds.items():
        if name not in ("tcp", "unix"):
            os.close(fd)
    tcp.close()
    unix.close()


def lsof(*options: str) -> list[dict[str, str]]:
    """Records of `lsof -F`: one a descriptor, letter to value (lsof(8), OUTPUT FOR OTHER PROGRAMS)."""
    done = subprocess.run(
        ["lsof", "-nP", "-a", "-p", str(os.getpid()), *options, "-F", "0fatsikn"],
        capture_output=True,
        check=False,
    )
    records = []
    for line in done.stdout.decode("utf-8", "surrogateescape").split("\n"):
        fields = {part[0]: part[1:] for part in line.split("\0") if part}
        if "f" in fields:
            records.append(fields)
    return records


LSOF_TYPES = {
    "REG": "file",
    "DIR": "dir",
    "FIFO": "fifo",
    "CHR": "char",
    "IPv4": "socket",
    "unix": "socket",
}


def test_every_descriptor_is_what_lsof_says(session: Session, opened: dict[str, int]) -> None:
    ours = {item.fd: item for item in dispatch.handle(session, ask.ListFds(limit=1000)).items}
    theirs = {int(r["f"]): r for r in lsof("-d", ",".join(map(str, opened.values())))}
    assert theirs.keys() == set(opened.values())
    for name, fd in opened.items():
        mine, record = ours[fd], theirs[fd]
        assert mine.access == {"r": "r", "w": "w", "u": "rw"}[record["a"]], name
        kind = LSOF_TYPES.get(record["t"])
        if kind is not None and name not in ("memfd", "pipe", "pipe-end"):
            assert mine.kind == kind, name
        if "i" in record and record["i"].isdigit() and mine.kind != "anon":
            assert mine.inode == int(record["i"]), name
        if mine.kind == "file":
            assert mine.size_bytes == int(record["s"]), name


def test_deleted_files_are_those_without_links(session: Session, opened: dict[str, int]) -> None:
    ours: dict[int, FdInfo] = {i.fd: i for i in dispatch.handle(session, ask.ListFds(limit=1000)).items}
    unlinked = {int(r["f"]) for r in lsof("+L1") if r["f"].isdigit()} - {opened["memfd"]}
    assert opened["deleted"] in unlinked
    assert {fd for fd, item in ours.items() if item.deleted} == unlinked & ours.keys()
    assert ours[opened["memfd"]].kind == "memfd"
    assert ours[opened["read"]].position == 4321


def test_listening_sockets_belong_to_whom_lsof_says(session: Session, opened: dict[str, int]) -> None:
    (record,) = [r for r in lsof("-iTCP", "-sTCP:LISTEN") if int(r["f"]) == opened["tcp"]]
    sockets = dispatch.handle(session, ask.ListSockets(families=("inet",), limit=1000)).items
    mine = next(s for s in sockets if s.inode == os.fstat(opened["tcp"]).st_ino)
    assert (mine.local, mine.state) == (record["n"], "LISTEN")
    assert mine.pids is not None and os.getpid() in mine.pids


def test_a_file_may_be_named_as_if_it_were_deleted(session: Session, tmp_path: Path) -> None:
    """The kernel appends the same words to the path of one that is (proc_pid_fd(5))."""
    path = tmp_path / "report (deleted)"
    with open(path, "w") as file:
        ours = {i.fd: i for i in dispatch.handle(session, ask.ListFds(limit=1000)).items}
        kept = ours[file.fileno()]
        assert (kept.target, kept.deleted) == (str(path), False)
        path.unlink()
        ours = {i.fd: i for i in dispatch.handle(session, ask.ListFds(limit=1000)).items}
        gone = ours[file.fileno()]
        assert (gone.target, gone.deleted) == (f"{path} (deleted)", True)
