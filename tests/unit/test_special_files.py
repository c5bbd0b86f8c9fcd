"""Deleted files that are still open, files as another process sees them, pseudo-files without an end."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import needs_root
from kdebug.errors import UsageError
from kdebug.expression import parse

KDEBUG = [sys.executable, "-m", "kdebug.cli.entry"]
HOLDER = """
import os, sys
deleted = open(sys.argv[1] + "/gone\\udcff", "w+b"); deleted.write(b"kept\\n" * 100_000); deleted.flush()
os.unlink(deleted.name)
named = open(sys.argv[1] + "/named", "w+b"); named.write(b"named"); named.flush()
print(deleted.fileno(), named.fileno(), os.pipe()[0], os.memfd_create("mem"), flush=True)
input()
"""


def kdebug(*words: str, agent: str = "thread", code: int = 0) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {"KDEBUG_LOCAL_AGENT": agent}
    done = subprocess.run([*KDEBUG, *words], capture_output=True, env=environment, timeout=60)
    assert done.returncode == code, done.stderr.decode()
    return done


class Holder:
    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-c", HOLDER, str(folder)]
        # pytest's own stderr is a deleted file.
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self.process.stdout is not None
        self.deleted, self.named, self.pipe, self.memory = map(int, self.process.stdout.readline().split())

    def path(self, fd: int) -> str:
        return f"local:{self.process.pid}:deleted:{self.process.pid}/{fd}"


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Holder]:
    found = Holder(tmp_path)
    yield found
    found.process.kill()
    found.process.wait()


@pytest.mark.parametrize("agent", ["thread", "process"])
def test_a_deleted_file_is_listed_and_read(holder: Holder, tmp_path: Path, agent: str) -> None:
    listed = json.loads(
        kdebug("ls", "--deleted", f"local:{holder.process.pid}", "-o", "json", agent=agent).stdout
    )
    rows = {row["fd"]: row for row in listed["deleted"] if row["pid"] == holder.process.pid}
    assert set(rows) == {holder.deleted, holder.memory}
    assert base64.b64decode(rows[holder.deleted]["path_base64"]) == os.fsencode(tmp_path) + b"/gone\xff"
    assert rows[holder.deleted]["size_bytes"] == 500_000
    assert kdebug("cat", holder.path(holder.deleted), agent=agent).stdout == b"kept\n" * 100_000
    assert kdebug("tail", "-n1", holder.path(holder.deleted), agent=agent).stdout == b"kept\n"
    stat = json.loads(kdebug("stat", holder.path(holder.deleted), "-o", "json", agent=agent).stdout)
    assert (stat["size_bytes"], stat["links"], stat["kind"]) == (500_000, 0, "file")


def test_nothing_else_is_opened_through_descriptors(holder: Holder) -> None:
    assert b"is not deleted" in kdebug("cat", holder.path(holder.named), code=1).stderr
    assert b"no regular file" in kdebug("cat", holder.path(holder.pipe), code=1).stderr
    assert b"no descriptor 999" in kdebug("cat", holder.path(999), code=4).stderr
    for verb in ("ls", "find", "du", "checksum"):
        kdebug(verb, holder.path(holder.deleted), code=0 if verb == "ls" else 2)
    pid = holder.process.pid
    # The target's own tree has the same link: it is not followed there.
    assert b"magic link" in kdebug("cat", f"local:{pid}:/proc/{pid}/fd/{holder.deleted}", code=1).stderr


@pytest.mark.parametrize(
    "path", ["deleted:1", "deleted:1/x", "deleted:0/1", "deleted:/1", "deleted:1/2/3", "x"]
)
def test_forms_that_are_none(path: str) -> None:
    with pytest.raises(UsageError):
        parse(f"local:1:{path}")


def test_processes_outside_of_the_scope_are_refused() -> None:
    """The practice target has a PID namespace of its own, and this process is not in it."""
    with open("/tmp", "rb", opener=lambda path, flags: os.open(path, os.O_TMPFILE | os.O_RDWR)) as file:
        done = kdebug("cat", f"demo:deleted:{os.getpid()}/{file.fileno()}", code=3)
    assert b"not one of the target's" in done.stderr
    assert b"not one of the target's" in kdebug("ls", "demo:/", "--pid", str(os.getpid()), code=3).stderr


@needs_root
@pytest.mark.parametrize("agent", ["thread", "process"])
def test_files_as_another_process_sees_them(tmp_path: Path, agent: str) -> None:
    (tmp_path / "place").mkdir()
    place = tmp_path / "place"
    script = f"mount -t tmpfs none {place} && echo inside > {place}/f && echo ready && exec cat"
    inside = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    outside = subprocess.Popen(["sleep", "1000"])
    try:
        assert inside.stdout is not None and inside.stdout.readline() == b"ready\n"
        target = f"local:{outside.pid}:{tmp_path}/place"
        assert kdebug("ls", target, agent=agent).stdout == b""
        assert kdebug("ls", target, "--pid", str(inside.pid), agent=agent).stdout == b"f\n"
        assert kdebug("cat", f"{target}/f", "--pid", str(inside.pid), agent=agent).stdout == b"inside\n"
        assert kdebug("find", target, "--pid", str(inside.pid), "-type", "f", agent=agent).stdout != b""
    finally:
        for process in (inside, outside):
            process.kill()
            process.wait()


def test_pseudo_files_that_wait_or_do_not_end_are_left(holder: Holder) -> None:
    target = f"local:{holder.process.pid}"
    done = subprocess.run(
        [*KDEBUG, "cat", f"{target}:/proc/kmsg", "--timeout", "5"], capture_output=True, timeout=60
    )
    # What the kernel says depends on who asks; what counts is that it ends, in one line.
    assert done.returncode in (0, 1, 3, 5) and done.stderr.count(b"\n") <= 2
    own = f"{target}:/proc/{holder.process.pid}"
    assert kdebug("cat", f"{own}/cmdline").stdout.startswith(os.fsencode(sys.executable))
    code = subprocess.run([*KDEBUG, "cat", f"{own}/mem"], capture_output=True, timeout=60).returncode
    assert code in (1, 3)
    # 8 bytes for each of 2 ** 35 pages: without an end for all that anybody would wait.
    done = subprocess.run(
        [*KDEBUG, "cat", f"{own}/pagemap"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60
    )
    assert done.returncode == 3 or (done.returncode == 1 and b"may have no end" in done.stderr)
