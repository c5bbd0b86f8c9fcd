"""Rooted paths against a chroot oracle: every answer equal, and no byte from outside, ever."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import needs_root
from kdebug.errors import AccessDenied, Failed, KdebugError, NotFound, UsageError
from kdebug.probe import syscalls
from kdebug.probe.rooted import Root

SECRET = b"outside the root"
ORACLE = """
import json, os, sys
os.chroot(sys.argv[1]); os.chdir("/")
for line in sys.stdin:
    path, follow = json.loads(line)
    try:
        fd = os.open(path, os.O_PATH | (0 if follow else os.O_NOFOLLOW))
        st = os.fstat(fd)
        print(json.dumps([st.st_dev, st.st_ino, st.st_mode]), flush=True)
        os.close(fd)
    except OSError as error:
        print(json.dumps(error.errno), flush=True)
"""


@pytest.fixture(params=[False, True], ids=["openat2", "walk"])
def force_walk(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def root_at(path: str | Path, force_walk: bool = False) -> Root:
    return Root.at(os.open(path, os.O_PATH | os.O_DIRECTORY), force_walk=force_walk)


names = st.sampled_from(["a", "b", "c"])
parts = st.sampled_from(["a", "b", "c", "..", ".", ""])
targets = st.tuples(st.booleans(), st.lists(parts, min_size=1, max_size=6)).map(
    lambda t: ("/" if t[0] else "") + ("/".join(t[1]) or ".")
)
nodes = st.lists(
    st.tuples(st.lists(names, min_size=1, max_size=3), st.sampled_from(["dir", "file", "link"]), targets),
    max_size=12,
)
paths = st.lists(parts, max_size=7).map(lambda p: "/" + "/".join(p))


def plant(base: str, forest: list[tuple[list[str], str, str]]) -> None:
    for where, kind, target in forest:
        path = base
        for part in where[:-1]:
            path = f"{path}/{part}"
            if not os.path.lexists(path):
                os.mkdir(path)
            if os.path.islink(path) or not os.path.isdir(path):
                break
        else:
            path = f"{path}/{where[-1]}"
            if not os.path.lexists(path):
                {"dir": os.mkdir, "file": lambda p: Path(p).write_bytes(p.encode())}.get(
                    kind, lambda p: os.symlink(target, p)
                )(path)


@needs_root
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(nodes, st.lists(st.tuples(paths, st.booleans()), min_size=1, max_size=12))
def test_every_answer_equals_the_chroot(forest: Any, questions: list[tuple[str, bool]]) -> None:
    outer = tempfile.mkdtemp(prefix="kdebug-oracle-")
    base = f"{outer}/x/root"
    os.makedirs(base)
    # The same names outside: whoever leaves the root finds something, and it shows.
    for place in (outer, f"{outer}/x"):
        for name in ("a", "b", "c"):
            if not os.path.exists(f"{place}/{name}"):
                Path(f"{place}/{name}").write_bytes(SECRET)
    try:
        plant(base, forest)
        asked = "".join(json.dumps(question) + "\n" for question in questions)
        oracle = subprocess.run(
            [sys.executable, "-c", ORACLE, base], input=asked, capture_output=True, text=True, check=True
        )
        expected = [json.loads(line) for line in oracle.stdout.splitlines()]
        for force_walk in (False, True):
            with root_at(base, force_walk) as root:
                for (path, follow), answer in zip(questions, expected, strict=True):
                    assert ours(root, path, follow) == answer, (path, follow, force_walk)
    finally:
        shutil.rmtree(outer)


def ours(root: Root, path: str, follow: bool) -> object:
    try:
        fd = root.open(path, os.O_PATH, follow=follow)
    except KdebugError as error:
        return error.errno
    status = os.fstat(fd)
    os.close(fd)
    resolved = root.resolved(path) if follow else None
    if resolved is not None:
        again = root.stat(resolved)
        assert (again.st_dev, again.st_ino) == (status.st_dev, status.st_ino)
    return [status.st_dev, status.st_ino, status.st_mode]


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    base = tmp_path / "root"
    (base / "dir").mkdir(parents=True)
    (base / "file").write_bytes(b"inside")
    (tmp_path / "secret").write_bytes(SECRET)
    for name, target in {
        "absolute": "/file",
        "escape": "../../../../secret",
        "up": "../secret",
        "loop": "loop",
        "loop2": "loop3",
        "loop3": "loop2",
        "dangling": "/nowhere",
        "outside": str(tmp_path / "secret"),
        "magic": "/proc/self/root",
    }.items():
        (base / name).symlink_to(target)
    os.mkfifo(base / "fifo")
    return base


def test_links_stay_inside(hostile: Path, force_walk: bool) -> None:
    with root_at(hostile, force_walk) as root:
        assert root.read_small("/absolute") == b"inside"
        assert root.read_small("/dir/../../../file") == b"inside"
        assert root.resolved("/absolute") == "/file"
        for path in ("/escape", "/up", "/outside", "/dangling", "/../secret"):
            with pytest.raises(NotFound):
                root.read_small(path)
        for path in ("/loop", "/loop2"):
            with pytest.raises(Failed, match="symlink loop"):
                root.read_small(path)


def test_as_many_links_are_followed_as_by_the_kernel(tmp_path: Path, force_walk: bool) -> None:
    (tmp_path / "0").write_bytes(b"end")
    for number in range(1, 43):
        (tmp_path / str(number)).symlink_to(str(number - 1))
    folder = os.open(tmp_path, os.O_PATH)
    with root_at(tmp_path, force_walk) as root:
        for number in range(43):
            try:
                status = os.stat(str(number), dir_fd=folder)
                expected: object = [status.st_dev, status.st_ino, status.st_mode]
            except OSError as error:
                expected = error.errno
            assert ours(root, f"/{number}", True) == expected, number
    os.close(folder)


def test_no_path_leaves_a_descriptor_open(hostile: Path, force_walk: bool) -> None:
    (hostile / "dir" / "link").symlink_to("../dir/deep")
    (hostile / "dir" / "deep").mkdir()
    paths = ["/file", "/absolute", "/dir/link/../../file", "/dir/link/", "/escape", "/loop", "/dangling"]
    paths += ["/file/x", "/missing", "/fifo", "/magic", "/dir/deep/..", "/absolute/"]
    with root_at(hostile, force_walk) as root:
        before = os.listdir("/proc/self/fd")
        for path in paths:
            for look in (root.read_small, root.stat, root.readlink, root.resolved):
                with contextlib.suppress(KdebugError):
                    look(path)
            assert os.listdir("/proc/self/fd") == before, path


@pytest.mark.parametrize("limit", [0, 1, 5, 6, 7])
def test_small_files_are_read_up_to_the_limit(hostile: Path, limit: int) -> None:
    with root_at(hostile) as root:
        assert root.read_small("/file", limit) == b"inside"[:limit]


@pytest.mark.parametrize("flag", [os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC])
def test_nothing_is_opened_for_writing(hostile: Path, flag: int) -> None:
    with root_at(hostile) as root, pytest.raises(UsageError, match="for reading only"):
        root.open("/file", flag)
    assert (hostile / "file").read_bytes() == b"inside"


@pytest.mark.parametrize("path", ["/file", "/dir", "/fifo"])
def test_only_symlinks_have_a_text(hostile: Path, force_walk: bool, path: str) -> None:
    with root_at(hostile, force_walk) as root:
        assert root.readlink("/dangling") == "/nowhere"
        with pytest.raises(Failed, match="is not a symlink"):
            root.readlink(path)


def test_descriptors_are_not_left_to_programs_that_are_started(hostile: Path, force_walk: bool) -> None:
    with root_at(hostile, force_walk) as root:
        for flags in (os.O_PATH, os.O_RDONLY):
            fd = root.open("/absolute", flags)
            assert not os.get_inheritable(fd)
            os.close(fd)


def test_a_fifo_is_refused_without_waiting(hostile: Path, force_walk: bool) -> None:
    with root_at(hostile, force_walk) as root, pytest.raises(Failed, match="FIFO"):
        root.open("/fifo", os.O_RDONLY)


@needs_root
def test_a_device_is_refused(hostile: Path, force_walk: bool) -> None:
    os.mknod(hostile / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    with root_at(hostile, force_walk) as root, pytest.raises(Failed, match="character device"):
        root.read_small("/zero")


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("relative", UsageError, "not absolute"),
        ("/a\0b", UsageError, "NUL"),
        ("/" + "a" * 4096, UsageError, "4097 bytes long"),
        ("/" + "a" * 300, Failed, "File name too long"),
        ("/file/x", Failed, "not a directory"),
        ("/file/", Failed, "not a directory"),
        ("/missing", NotFound, "does not exist"),
        ("/\udcff", NotFound, "does not exist"),
    ],
)
def test_bad_paths(
    hostile: Path, force_walk: bool, path: str, error: type[KdebugError], words: str
) -> None:
    with root_at(hostile, force_walk) as root, pytest.raises(error, match=words):
        root.read_small(path)


def test_magic_links_of_proc_are_not_followed(force_walk: bool) -> None:
    with root_at("/", force_walk) as root:
        pid = os.getpid()
        for path in (f"/proc/{pid}/root/etc", f"/proc/{pid}/cwd", f"/proc/{pid}/fd/0", "/proc/self/exe"):
            with pytest.raises(Failed, match="magic link"):
                root.open(path, os.O_PATH)
        # Ordinary links of procfs and plain files still work; the link itself can be read.
        assert root.read_small("/proc/self/comm")
        assert root.read_small("/proc/mounts")
        assert root.readlink(f"/proc/{pid}/cwd") == os.getcwd()


@needs_root
def test_permission_denied_names_the_owner(hostile: Path, force_walk: bool) -> None:
    closed = hostile / "closed"
    closed.mkdir(mode=0o700)
    (closed / "x").write_text("x")
    root = root_at(hostile, force_walk)
    pid = os.fork()
    if pid == 0:
        os.setresuid(4242, 4242, 4242)
        code = 1
        try:
            root.read_small("/closed/x")
        except AccessDenied as denied:
            code = 0 if "/closed (owner uid 0, gid 0, mode 0700)" in str(denied) else 2
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_process_that_ended_is_not_found() -> None:
    child = subprocess.Popen(["sleep", "100"])
    with Root.of_process(child.pid) as root:
        root.check_alive()
        child.kill()
        child.wait()
        with pytest.raises(NotFound, match="has ended"):
            root.check_alive()
    with pytest.raises(NotFound):
        Root.of_process(child.pid)
    with pytest.raises(NotFound, match="another process"):
        Root.of_process(os.getpid(), start_ticks=1)


SECCOMP = """
import ctypes, errno, os, struct, sys
number = getattr(errno, sys.argv[2])
# BPF: load the syscall number; openat2 returns the error, the rest is allowed (seccomp(2)).
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 437), (0x06, 0, 0, 0x00050000 | number), (0x06, 0, 0, 0x7FFF0000)]
program = b"".join(struct.pack("HBBI", *line) for line in code)
buffer = ctypes.create_string_buffer(program)
fprog = struct.pack("HxxxxxxP", len(code), ctypes.addressof(buffer))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, fprog, 0, 0) == 0
from kdebug.probe.rooted import Root
root = Root.at(os.open(sys.argv[1], os.O_PATH))
assert root.read_small("/absolute") == b"inside"
assert root._walk_only
try:
    root.read_small("/up")
except Exception as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize("answer", ["EPERM", "ENOSYS"])
def test_openat2_taken_away_by_seccomp(hostile: Path, answer: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SECCOMP, str(hostile), answer], capture_output=True, text=True
    )
    assert (done.stdout.strip(), done.returncode) == ("NotFound", 0), done.stderr


def test_a_rename_race_ends_in_the_walk(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*arguments: object) -> int:
        raise OSError(errno.EAGAIN, "raced")

    monkeypatch.setattr(syscalls, "openat2", busy)
    with root_at(hostile) as root:
        assert root.read_small("/absolute") == b"inside"


def test_a_root_closed_by_another_thread_is_not_another_directory(tmp_path: Path) -> None:
    """The number of a closed descriptor is the next open file's: a path must never start there."""
    (tmp_path / "inside").mkdir()
    root = root_at(tmp_path / "inside")
    number = root._fd
    with root._in_use() as fd:
        root.close()
        assert (fd, os.fstat(fd).st_ino) == (number, (tmp_path / "inside").stat().st_ino)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    (tmp_path / "secret").write_bytes(SECRET)
    stranger = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    assert stranger == number
    for use in (root.read_small, root.stat, root.resolved):
        with pytest.raises(Failed, match="was closed"):
            use("/secret")
    root.close()
    os.fstat(stranger)
    os.close(stranger)


@needs_root
def test_the_root_of_a_zombie_is_gone(tmp_path: Path) -> None:
    """Its mounts went with it: what lay beneath them must not be taken for its files."""
    script = f"mount -t tmpfs none {tmp_path} && touch {tmp_path}/mounted && echo && exec sleep 1000"
    process = subprocess.Popen(["unshare", "-m", "sh", "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    with Root.of_process(process.pid) as root:
        root.check_alive()
        assert stat.S_ISREG(root.stat(f"{tmp_path}/mounted").st_mode)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(NotFound, match="has ended"):
            root.check_alive()
    process.wait()
    process.stdout.close()


def test_a_process_without_its_first_thread_lives() -> None:
    script = (
        "import ctypes, platform, threading, time\n"
        "threading.Thread(target=time.sleep, args=(1000,)).start(); print(flush=True)\n"
        "ctypes.CDLL(None).syscall({'x86_64': 60, 'aarch64': 93}[platform.machine()], 0)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    with Root.of_process(os.getpid()) as own, pytest.MonkeyPatch.context() as patch:
        while "Z" not in Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2]:
            pass
        theirs = os.open(f"/proc/{process.pid}", os.O_PATH)
        patch.setattr(own, "_pid_fd", theirs)
        own.check_alive()
        os.close(theirs)
    process.kill()
    process.wait()
    process.stdout.close()
