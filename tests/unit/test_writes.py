"""Changes of the target's files: over the agent's own dispatch, and as a client that lies about itself."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import random
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import needs_root
from kdebug.agent import dispatch
from kdebug.agent.session import Session
from kdebug.errors import AccessDenied, Failed, KdebugError, NotFound, UsageError
from kdebug.probe import change as change_module
from kdebug.probe import write as write_module
from kdebug.probe.rooted import Root
from kdebug.protocol import writes as ask
from kdebug.protocol.modes import apply_mode
from kdebug.protocol.requests import MAX_CHUNK, OpenTarget, registered
from kdebug.target import Target
from kdebug.target.local import LocalBackend
from kdebug.target.transfer import TransferOptions, TransferReport, upload
from support.trees import allocated, facts, make_tree


class InTree(Session):
    """A session whose root is a folder of the test."""

    def __init__(self, top: Path, **options: Any) -> None:
        super().__init__(**options)
        self._tree = Root.at(os.open(top, os.O_PATH | os.O_DIRECTORY))

    def root(self) -> Root:
        return self._tree


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """The target's root: whatever is beside it must never change."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def send(top: Path, tmp_path: Path) -> Iterator[Callable[[Any], Any]]:
    session = InTree(top)
    outside = facts(tmp_path / "outside")
    yield lambda request: dispatch.handle(session, request)
    session.close()
    assert facts(tmp_path / "outside") == outside
    assert not leftovers(top)


def leftovers(top: Path) -> list[Path]:
    return [one for one in top.rglob("*") if ".kdebug-" in one.name]


def chunk(handle: str, offset: int, data: bytes) -> ask.WriteChunk:
    return ask.WriteChunk(handle, offset, len(data), hashlib.sha256(data).hexdigest(), data)


def put(send: Any, path: str, data: bytes, replace: bool = False, **options: Any) -> ask.Changed:
    begun = send(ask.BeginWrite(path, options.pop("mode", 0o640), replace))
    send(chunk(begun.handle, 0, data))
    answer = send(ask.CommitWrite(begun.handle, len(data), **options))
    assert isinstance(answer, ask.Changed)
    return answer


@pytest.fixture(params=["nameless", "named"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With O_TMPFILE, and as on file systems without it: EISDIR, as open(2) says."""
    if request.param == "named":
        monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY | os.O_RDWR)


@pytest.mark.usefixtures("way")
def test_a_new_file_and_one_replaced(top: Path, send: Any) -> None:
    put(send, "/f", b"one", mtime_ns=1_600_000_000_000_000_001)
    status = (top / "f").stat()
    assert (status.st_mode & 0o7777, status.st_mtime_ns) == (0o640, 1_600_000_000_000_000_001)
    (top / "f").chmod(0o4711)
    with pytest.raises(Failed, match="exists in the target; -f"):
        put(send, "/f", b"two")
    assert (top / "f").read_bytes() == b"one"
    put(send, "/f", b"two", replace=True)
    assert ((top / "f").read_bytes(), (top / "f").stat().st_mode & 0o7777) == (b"two", 0o4711)


@needs_root
@pytest.mark.usefixtures("way")
def test_the_owner_is_kept(top: Path, send: Any) -> None:
    (top / "f").write_text("old")
    os.chown(top / "f", 1234, 2345)
    assert put(send, "/f", b"new", replace=True).notes == ()
    assert ((top / "f").stat().st_uid, (top / "f").stat().st_gid) == (1234, 2345)


@pytest.mark.usefixtures("way")
def test_hard_links_are_told(top: Path, send: Any) -> None:
    (top / "f").write_text("old")
    os.link(top / "f", top / "g")
    assert "1 other hard links" in put(send, "/f", b"new", replace=True).notes[0]
    assert (top / "g").read_text() == "old"


@pytest.mark.usefixtures("way")
def test_links_are_followed_inside_the_root_only(top: Path, tmp_path: Path, send: Any) -> None:
    (top / "etc").mkdir()
    (top / "etc" / "real").write_text("old")
    (top / "absolute").symlink_to("/etc/real")
    (top / "climbing").symlink_to("../../../outside/secret")
    (top / "etc" / "up").symlink_to("../new")
    begun = send(ask.BeginWrite("/absolute", 0o600, True))
    assert begun.path == "/etc/real" and begun.replaces is not None
    send(ask.AbortWrite(begun.handle))
    put(send, "/absolute", b"new", replace=True)
    assert (top / "etc" / "real").read_text() == "new" and (top / "absolute").is_symlink()
    put(send, "/etc/up", b"x")
    assert (top / "new").read_text() == "x"
    with pytest.raises(NotFound):
        put(send, "/climbing", b"x", replace=True)
    (top / "outside").mkdir()
    put(send, "/climbing", b"x", replace=True)
    assert (top / "outside" / "secret").read_text() == "x"
    (top / "loop").symlink_to("loop")
    with pytest.raises(Failed, match="symlink loop"):
        put(send, "/loop", b"x")


def test_what_is_no_file_is_never_replaced(top: Path, send: Any) -> None:
    os.mkfifo(top / "fifo")
    (top / "d").mkdir()
    for path, words in (("/fifo", "is a fifo"), ("/d", "is a directory"), ("/d/", "is a directory")):
        with pytest.raises(Failed, match=words):
            put(send, path, b"x", replace=True)
    for path in ("/", "/.", "/d/..", "/d/."):
        with pytest.raises(UsageError, match="its last part is no name"):
            put(send, path, b"x")
    with pytest.raises(NotFound):
        put(send, "/missing/x", b"x")
    with pytest.raises(Failed, match="not a directory"):
        put(send, "/fifo/x", b"x")
    with pytest.raises(KdebugError, match="File name too long"):
        put(send, "/" + "x" * 256, b"x")


@pytest.mark.usefixtures("way")
def test_nothing_is_left_of_what_is_given_up(top: Path) -> None:
    session = InTree(top)
    send = lambda request: dispatch.handle(session, request)  # noqa: E731
    aborted = send(ask.BeginWrite("/a", 0o600)).handle
    send(chunk(aborted, 0, b"x" * 1000))
    send(ask.AbortWrite(aborted))
    with pytest.raises(UsageError, match="no file that is being written"):
        send(chunk(aborted, 0, b"x"))
    damaged = send(ask.BeginWrite("/b", 0o600)).handle
    with pytest.raises(Failed, match="arrived damaged"):
        send(ask.WriteChunk(damaged, 0, 1, "0" * 64, b"x"))
    with pytest.raises(UsageError, match="are to be the whole"):
        send(chunk(damaged, 0, b"12345"))
        send(ask.CommitWrite(damaged, 3))
    send(ask.BeginWrite("/c", 0o600))
    before = len(os.listdir("/proc/self/fd"))
    session.close()
    assert os.listdir(top) == [] and len(os.listdir("/proc/self/fd")) < before


@pytest.mark.usefixtures("way")
def test_a_name_taken_meanwhile_is_not_replaced(top: Path, tmp_path: Path, send: Any) -> None:
    begun = send(ask.BeginWrite("/f", 0o600))
    (top / "f").write_text("theirs")
    with pytest.raises(Failed, match="exists in the target"):
        send(ask.CommitWrite(begun.handle, 0))
    begun = send(ask.BeginWrite("/f", 0o600, True))
    (top / "f").unlink()
    (top / "f").symlink_to(tmp_path / "outside" / "secret")
    with pytest.raises(Failed, match="is a symlink"):
        send(ask.CommitWrite(begun.handle, 0))


def version(path: Path) -> ask.FileVersion:
    status = path.stat()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return ask.FileVersion(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, digest)


@pytest.mark.parametrize("how", ["contents", "renamed", "same size and time", "gone"])
def test_a_change_meanwhile_is_not_overwritten(top: Path, send: Any, how: str) -> None:
    file = top / "f"
    file.write_text("first")
    seen = version(file)
    begun = send(ask.BeginWrite("/f", 0o600, True))
    if how == "contents":
        file.write_text("other")
    elif how == "renamed":
        (top / "g").write_text("first")
        (top / "g").rename(file)
    elif how == "gone":
        file.unlink()
    else:
        file.write_text("other")
        os.utime(file, ns=(0, seen.mtime_ns))
    before = file.read_text() if file.exists() else None
    with pytest.raises(Failed, match="was changed meanwhile"):
        send(ask.CommitWrite(begun.handle, 0, None, seen))
    assert (file.read_text() if file.exists() else None) == before
    if before is not None:
        put(send, "/f", b"mine", replace=True, expect=version(file))
        assert file.read_text() == "mine"


def test_too_many_writes_are_refused(top: Path, send: Any) -> None:
    for number in range(write_module.MAX_OPEN_WRITES):
        send(ask.BeginWrite(f"/{number}", 0o600))
    with pytest.raises(Failed, match="are being written"):
        send(ask.BeginWrite("/more", 0o600))


def test_every_mutating_request_is_refused_on_a_read_only_session(top: Path) -> None:
    """By the agent, whatever the client says: `open` of a client that lies cannot take it back."""
    (top / "f").write_text("old")
    session = InTree(top, read_only=True)
    session.bind(os.getpid(), 0, None, False)
    requests = {
        "begin-write": ask.BeginWrite("/n"),
        "write": chunk("w1", 0, b"x"),
        "commit-write": ask.CommitWrite("w1"),
        "abort-write": ask.AbortWrite("w1"),
        "make-dir": ask.MakeDir("/d"),
        "make-symlink": ask.MakeSymlink("/l", "x"),
        "remove": ask.Remove("/f"),
        "chmod": ask.Chmod("/f", mode="0"),
        "set-times": ask.SetTimes("/f", 0),
    }
    mutating = {name for name, cls in registered().items() if cls.mutates}
    assert mutating == {*requests, "signal"}
    before = facts(top)
    for request in requests.values():
        with pytest.raises(AccessDenied, match="read-only"):
            dispatch.handle(session, request)
    assert facts(top) == before


def test_directories(top: Path, tmp_path: Path, send: Any) -> None:
    send(ask.MakeDir("/d", 0o2751))
    assert (top / "d").stat().st_mode & 0o7777 == 0o2751
    with pytest.raises(Failed, match="exists and is a directory"):
        send(ask.MakeDir("/d"))
    assert send(ask.MakeDir("/d", parents=True)).changed == 0
    assert send(ask.MakeDir("/a/b/c", 0o700, True)).changed == 3
    (top / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(KdebugError):
        send(ask.MakeDir("/link/new", parents=False))
    (top / "f").touch()
    with pytest.raises(Failed, match="not a directory"):
        send(ask.MakeDir("/f/x/y", parents=True))


def test_removal(top: Path, tmp_path: Path, send: Any, seed: int) -> None:
    make_tree(top / "tree", 300, random.Random(seed))
    (top / "tree" / "out").symlink_to(tmp_path / "outside")
    with pytest.raises(Failed, match="-r removes it"):
        send(ask.Remove("/tree"))
    in_steps(send, ask.Remove("/tree", recursive=True))
    assert not (top / "tree").exists()
    with pytest.raises(NotFound):
        send(ask.Remove("/tree", recursive=True))
    assert send(ask.Remove("/tree", missing_ok=True)).changed == 0
    (top / "link").symlink_to(tmp_path / "outside")
    send(ask.Remove("/link/", recursive=True))
    assert not os.path.lexists(top / "link")
    (top / "here").symlink_to("/")
    for path in ("/", "//", "/.", "/../..", "/here/.", "/here/.."):
        with pytest.raises(UsageError, match="refused"):
            send(ask.Remove(path, recursive=True))


def in_steps(send: Any, request: Any) -> int:
    """All of a change, as a client asks for it: each answer comes within a second."""
    total = 0
    while True:
        answer = send(request)
        total += answer.changed
        assert not answer.failed, answer.failures
        if answer.done:
            return total
        assert answer.changed
        if isinstance(request, ask.Chmod):
            request = dataclasses.replace(request, skip=total)


def test_long_changes_come_in_steps(top: Path, send: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step does something, and what earlier ones did is not done twice."""
    monkeypatch.setattr(change_module, "STEP_SECONDS", 0.0)
    for number in range(30):
        (top / "d" / str(number % 5)).mkdir(parents=True, exist_ok=True)
        (top / "d" / str(number % 5) / f"f{number}").touch(mode=0o600)
    assert in_steps(send, ask.Chmod("/d", True, False, "u=rwx,go=")) == 36
    assert {stat.S_IMODE(one.stat().st_mode) for one in (top / "d").rglob("*")} == {0o700}
    assert in_steps(send, ask.Remove("/d", recursive=True)) == 36
    assert os.listdir(top) == []


def test_a_deep_tree_costs_no_descriptors(top: Path, send: Any) -> None:
    """4,000 directories below each other: far more than descriptors or stack frames."""
    fd = os.open(top, os.O_RDONLY)
    for _ in range(4000):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    try:
        assert in_steps(send, ask.Chmod("/d", True, False, "u+rwx")) == 4000
        assert in_steps(send, ask.Remove("/d", recursive=True)) == 4000
    finally:
        subprocess.run(["rm", "-rf", top / "d"], check=True)


@needs_root
def test_mounts_below_are_left_alone(top: Path, send: Any) -> None:
    (top / "d" / "mounted").mkdir(parents=True)
    (top / "d" / "bound").mkdir()
    (top / "kept").mkdir()
    (top / "kept" / "file").write_text("x")
    subprocess.run(["mount", "-t", "tmpfs", "none", top / "d" / "mounted"], check=True)
    subprocess.run(["mount", "--bind", top / "kept", top / "d" / "bound"], check=True)
    try:
        (top / "d" / "mounted" / "file").write_text("x")
        (top / "d" / "plain").write_text("x")
        answer = send(ask.Remove("/d", recursive=True))
        assert answer.failed == 2 and all("another mount" in line for line in answer.failures)
        assert (top / "d" / "mounted" / "file").exists() and (top / "kept" / "file").exists()
        assert not (top / "d" / "plain").exists()
        assert send(ask.Chmod("/d", True, False, "0700")).failed == 2
    finally:
        subprocess.run(["umount", top / "d" / "mounted", top / "d" / "bound"], check=True)


@needs_root
def test_no_space_and_read_only_are_one_clear_line(top: Path, send: Any) -> None:
    (top / "small").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "none", top / "small"], check=True)
    try:
        begun = send(ask.BeginWrite("/small/f", 0o600))
        with pytest.raises(Failed, match="No space left on device; make room first; nothing was changed"):
            for number in range(3):
                send(chunk(begun.handle, number * MAX_CHUNK // 2, b"x" * (MAX_CHUNK // 2)))
        send(ask.AbortWrite(begun.handle))
        assert os.listdir(top / "small") == []
        subprocess.run(["mount", "-o", "remount,ro", top / "small"], check=True)
        for request in (
            ask.BeginWrite("/small/f"),
            ask.MakeDir("/small/d"),
            ask.MakeSymlink("/small/l", "x"),
        ):
            with pytest.raises(AccessDenied, match="Read-only file system; write to a volume"):
                send(request)
    finally:
        subprocess.run(["umount", top / "small"], check=True)


@needs_root
def test_denied_names_who_could(top: Path) -> None:
    """As uid 1234, whom root's directory does not let in."""
    (top / "d").mkdir(mode=0o755)
    os.chmod(top.parent.parent, 0o755)
    script = f"""
import ctypes, os, sys
sys.path[:0] = {sys_path()!r}
from pathlib import Path
from test_writes import InTree, ask, dispatch
session = InTree(Path({str(top)!r}))
os.setresgid(1234, 1234, 1234); os.setresuid(1234, 1234, 1234)
for request in (ask.BeginWrite("/d/f"), ask.Remove("/d/g", missing_ok=True), ask.Chmod("/d", mode="0777")):
    try:
        print(dispatch.handle(session, request))
    except Exception as error:
        print(type(error).__name__, error)
"""
    import sys

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("AccessDenied /d/f cannot be written: Permission denied"), done
    assert "owner uid 0, gid 0, mode 0755" in lines[0] and "uid 1234" in lines[0]
    assert "belongs to uid 0, and the agent is uid 1234" in lines[2]


def sys_path() -> list[str]:
    here = Path(__file__).parents[1]
    return [str(here / "unit"), str(here), str(here.parent / "src")]


def test_trees_that_are_swapped_meanwhile_lead_nowhere_else(top: Path, tmp_path: Path, send: Any) -> None:
    """A directory becomes a link to the outside while it is removed or changed, again and again."""
    outside = tmp_path / "not-in-the-root"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            try:
                os.rename(top / "d" / "x", top / "aside")
                os.symlink(outside, top / "d" / "x")
                os.unlink(top / "d" / "x")
                os.rename(top / "aside", top / "d" / "x")
            except OSError:
                pass

    (outside / "f0").write_text("x")
    mode = (outside / "f0").stat().st_mode
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(150):
            for place in (top / "aside", top / "d" / "x"):
                try:
                    os.makedirs(place, exist_ok=True)
                    for number in range(3):
                        (place / f"f{number}").touch()
                except OSError:
                    pass
            for request in (ask.Chmod("/d", True, False, "0700"), ask.Remove("/d", recursive=True)):
                try:
                    send(request)
                except KdebugError:
                    pass
    finally:
        stop.set()
        thread.join()
    assert (outside / "f0").stat().st_mode == mode and (outside / "secret").exists()


@pytest.mark.parametrize(
    "text", ["0640", "u+x", "go-rwx", "a=rX", "u=rw,g=u,o=", "+X", "ug+s", "o+t", "-w"]
)
@pytest.mark.parametrize("mode", [0o644, 0o755, 0o600, 0o4711, 0o000])
def test_modes_as_chmod_has_them(tmp_path: Path, text: str, mode: int) -> None:
    for name, is_dir in (("f", False), ("d", True)):
        path = tmp_path / name
        path.mkdir() if is_dir else path.touch()
        path.chmod(mode)
        subprocess.run(["chmod", text, path], check=True, preexec_fn=lambda: os.umask(0) and None)
        expected = stat.S_IMODE(path.stat().st_mode)
        if is_dir and text.isdigit():
            expected &= ~0o6000 | int(text, 8)  # GNU keeps a directory's set-id bits; we do what is said
        assert apply_mode(text, mode, is_dir) == expected, (text, oct(mode), is_dir)


@pytest.mark.parametrize("text", ["", "9", "u", "u+q", "07777777", "rw", "u+r,,g+r", "u+r\n"])
def test_what_is_no_mode(text: str) -> None:
    with pytest.raises(UsageError):
        apply_mode(text, 0, False)


@pytest.fixture
def target(run: asyncio.Runner) -> Iterator[Target]:
    opened = run.run(Target.open(LocalBackend(Session()), OpenTarget(pid=os.getpid()), "test"))
    yield opened
    run.run(opened.close())


def copy(run: asyncio.Runner, target: Target, source: Path, to: Path, **options: Any) -> TransferReport:
    return run.run(upload(target, [str(source)], str(to), TransferOptions(**options)))


def test_a_tree_goes_in_bit_for_bit(run: asyncio.Runner, target: Target, tmp_path: Path, seed: int) -> None:
    make_tree(tmp_path / "src", 300, random.Random(seed))
    report = copy(run, target, tmp_path / "src", tmp_path / "in", recursive=True, links=True)
    assert report.complete, report
    assert facts(tmp_path / "in") == facts(tmp_path / "src")
    with open(tmp_path / "sparse", "wb") as file:
        file.seek(50 << 20)
        file.write(b"x")
        file.truncate(200 << 20)
    report = copy(run, target, tmp_path / "sparse", tmp_path / "sparse2")
    assert allocated(tmp_path / "sparse2") < 1 << 20 and report.bytes == 200 << 20
    assert subprocess.run(["cmp", tmp_path / "sparse", tmp_path / "sparse2"]).returncode == 0
    assert report.sha256 == hashlib.sha256((tmp_path / "sparse").read_bytes()).hexdigest()


def test_uploads_keep_what_is_there(run: asyncio.Runner, target: Target, tmp_path: Path) -> None:
    (tmp_path / "src" / "d").mkdir(parents=True)
    (tmp_path / "src" / "d" / "f").write_text("new")
    (tmp_path / "in" / "src" / "d").mkdir(parents=True, mode=0o711)
    (tmp_path / "in" / "src" / "d" / "f").write_text("old")
    report = copy(run, target, tmp_path / "src", tmp_path / "in", recursive=True)
    assert "exists in the target" in report.failed.kept[0] and not report.complete
    assert (tmp_path / "in" / "src" / "d" / "f").read_text() == "old"
    report = copy(run, target, tmp_path / "src", tmp_path / "in", recursive=True, overwrite=True)
    assert (tmp_path / "in" / "src" / "d" / "f").read_text() == "new" and report.complete
    assert (tmp_path / "in" / "src" / "d").stat().st_mode & 0o777 == 0o711
    with pytest.raises(NotFound, match="local file"):
        copy(run, target, tmp_path / "missing", tmp_path / "in")


def test_a_cancelled_upload_leaves_nothing(run: asyncio.Runner, target: Target, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(os.urandom(40 * MAX_CHUNK))
    (tmp_path / "in").mkdir()

    async def cancelled() -> None:
        begun = asyncio.Event()
        paths = [str(tmp_path / "f")]
        work = upload(target, paths, str(tmp_path / "in"), TransferOptions(), lambda now: begun.set())
        task = asyncio.create_task(work)
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run.run(cancelled())
    assert os.listdir(tmp_path / "in") == []
