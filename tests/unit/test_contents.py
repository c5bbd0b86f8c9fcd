"""head, tail and hexdump against their namesakes; tail -F through every way in which logs are rotated."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdebug.cli.hexdump import Dump

KDEBUG = [sys.executable, "-m", "kdebug.cli.entry"]


@pytest.fixture(scope="module")
def victim() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait()


def ours(
    victim: subprocess.Popen[bytes], verb: str, path: Path | str, *words: str, agent: str = "thread"
) -> bytes:
    environment = os.environ | {"KDEBUG_LOCAL_AGENT": agent}
    done = subprocess.run(
        [*KDEBUG, verb, f"local:{victim.pid}:{path}", *words],
        capture_output=True,
        env=environment,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def theirs(verb: str, path: Path | str, *words: str) -> bytes:
    return subprocess.run([verb, *words, str(path)], capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    ("verb", "words"),
    [("head", words) for words in ("", "-n3", "-n-3", "-n0", "-n-0", "-c100", "-c-100", "-c1k", "-n999999")]
    + [
        ("tail", words)
        for words in ("", "-n3", "-n+3", "-n0", "-n+1", "-c100", "-c+100", "-n999999", "-c0")
    ],
)
def test_the_ends_are_those_of_coreutils(
    victim: subprocess.Popen[bytes], tmp_path: Path, seed: int, verb: str, words: str
) -> None:
    dice = random.Random(seed)
    text = b"".join(b"x" * dice.randrange(200) + b"\n" for _ in range(3000))
    for name, data in (("text", text), ("unended", text + b"end"), ("short", b"a\nb"), ("empty", b"")):
        (tmp_path / name).write_bytes(data)
        arguments = words.split()
        assert ours(victim, verb, tmp_path / name, *arguments) == theirs(
            verb, tmp_path / name, *arguments
        ), name
        if dice.random() < 0.7:
            continue
        assert ours(victim, verb, tmp_path / name, *arguments, agent="process") == theirs(
            verb, tmp_path / name, *arguments
        )


def test_the_end_of_a_file_without_a_size(victim: subprocess.Popen[bytes]) -> None:
    path = f"/proc/{victim.pid}/status"
    last = Path(path).read_bytes().splitlines(keepends=True)
    assert ours(victim, "head", path, "-n", "2") == b"".join(last[:2])
    assert ours(victim, "tail", path, "-n", "1").startswith(b"nonvoluntary_ctxt_switches")


@pytest.mark.skipif(shutil.which("hexdump") is None, reason="needs hexdump (package bsdextrautils)")
@pytest.mark.parametrize("words", ["", "-s 3", "-n 100", "-s 0x11 -n 33", "-v", "-n 0"])
def test_hexdump_is_hexdump(victim: subprocess.Popen[bytes], tmp_path: Path, seed: int, words: str) -> None:
    dice = random.Random(seed)
    data = dice.randbytes(1000) + bytes(500) + dice.randbytes(dice.randrange(40)) + b"A" * 64 + bytes(16)
    (tmp_path / "f").write_bytes(data)
    assert ours(victim, "hexdump", tmp_path / "f", *words.split()) == theirs(
        "hexdump", tmp_path / "f", "-C", *words.split()
    )


def test_a_dump_squeezes_holes_without_making_them(seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(200):
        sent, held = Dump(0, True), Dump(0, True)
        whole, told = "", ""
        for _ in range(dice.randrange(1, 5)):
            data, hole = dice.randbytes(dice.randrange(40)), dice.randrange(300)
            whole += sent.feed(data + bytes(hole))
            told += held.feed(data) + held.hole(hole)
        assert told + held.end() == whole + sent.end()
    large = Dump(0, True)
    assert large.hole(1 << 50).count("\n") == 2 and large.end() == f"{1 << 50:08x}\n"


def test_letters_that_kubectl_has_too(victim: subprocess.Popen[bytes], tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"1\n2\n3\n")
    assert ours(victim, "head", tmp_path / "f", "-n", "1") == b"1\n"
    # Not numbers: a namespace and a container, which local: has no use for.
    assert ours(victim, "head", tmp_path / "f", "-n", "2", "-n", "prod", "-c", "app") == b"1\n2\n"
    assert ours(victim, "head", tmp_path / "f", "-n", "prod", "-c", "2") == b"1\n"


class Follower:
    """`kdebug tail -F` with its output gathered as it comes."""

    def __init__(self, victim: subprocess.Popen[bytes], log: Path, agent: str, *words: str) -> None:
        self.process = subprocess.Popen(
            [*KDEBUG, "tail", *(words or ("-F", "-n", "+1")), f"local:{victim.pid}:{log}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"KDEBUG_LOCAL_AGENT": agent},
        )
        self.lines: list[bytes] = []
        self._thread = threading.Thread(target=self._gather)
        self._thread.start()

    def _gather(self) -> None:
        assert self.process.stdout is not None
        self.lines += iter(self.process.stdout.readline, b"")

    def wait_for(self, line: bytes, seconds: float = 60.0) -> None:
        """Until the follower has come to `line`."""
        deadline = time.monotonic() + seconds
        while not self.lines or self.lines[-1] != line:
            assert time.monotonic() < deadline and self.process.poll() is None, self.lines[-3:]
            time.sleep(0.01)

    def stop(self) -> tuple[int, bytes]:
        self.process.send_signal(2)
        self._thread.join()
        assert self.process.stderr is not None
        return self.process.wait(), self.process.stderr.read()


@contextlib.contextmanager
def following(victim: subprocess.Popen[bytes], log: Path, agent: str, *words: str) -> Iterator[Follower]:
    follower = Follower(victim, log, agent, *words)
    try:
        yield follower
    finally:
        if follower.process.poll() is None:
            follower.stop()


def number(count: int) -> bytes:
    return b"line %06d\n" % count


LINES = 10_000


def by_rename(log: Path, round_: int) -> None:
    """logrotate's `create`."""
    log.rename(log.with_name(f"log.{round_}"))


def by_recreate(log: Path, round_: int) -> None:
    log.unlink()


@pytest.mark.parametrize("agent", ["thread", "process"])
@pytest.mark.parametrize("rotate", [by_rename, by_recreate])
def test_no_line_is_lost_or_doubled_when_the_file_is_another(
    victim: subprocess.Popen[bytes], tmp_path: Path, agent: str, rotate, seed: int
) -> None:  # type: ignore[no-untyped-def]
    """The writer keeps its old file open for a while after the rotation, as daemons do."""
    dice, log = random.Random(seed), tmp_path / "log"
    log.write_bytes(b"begin\n")
    with following(victim, log, agent) as follower:
        follower.wait_for(b"begin\n")
        writer = open(log, "ab", buffering=0)
        for count in range(LINES):
            writer.write(number(count))
            if count % 1500 == 1499:
                rotate(log, count)
                for late in range(dice.randrange(5)):
                    writer.write(b"late %d of %d\n" % (late, count))
                log.touch()
                time.sleep(dice.random() / 5)
                writer.write(b"last of %d\n" % count)
                writer.close()
                writer = open(log, "ab", buffering=0)
                # A second rotation before the follower has come by would hide a whole file from anybody.
                writer.write(b"first after %d\n" % count)
                follower.wait_for(b"first after %d\n" % count)
        writer.close()
        follower.wait_for(number(LINES - 1))
        assert [line for line in follower.lines if line.startswith(b"line")] == [
            number(n) for n in range(LINES)
        ]
        rounds = [n for n in range(LINES) if n % 1500 == 1499]
        for word in (b"last of %d\n", b"first after %d\n"):
            assert [line for line in follower.lines if line.startswith(word[:5])] == [
                word % n for n in rounds
            ]
        code, errors = follower.stop()
    assert (
        code == 130
        and errors.count(b"was replaced") == len(rounds)
        and errors.endswith(b"kdebug: interrupted\n")
    )


@pytest.mark.parametrize("agent", ["thread", "process"])
def test_no_line_is_lost_or_doubled_when_the_file_is_truncated(
    victim: subprocess.Popen[bytes], tmp_path: Path, agent: str
) -> None:
    """What was not yet read is gone for everybody, so the writer truncates when all was; the lines after it
    come at once, more of them than before: the size alone would tell nothing."""
    log = tmp_path / "log"
    log.touch()
    with following(victim, log, agent) as follower, open(log, "ab", buffering=0) as writer:
        size = 100
        count = 0
        while count < LINES:
            for _ in range(min(size, LINES - count)):
                writer.write(number(count))
                count += 1
            follower.wait_for(number(count - 1))
            os.truncate(log, 0)
            size *= 2
        assert follower.lines == [number(n) for n in range(LINES)]


def test_a_log_that_comes_later_and_goes(victim: subprocess.Popen[bytes], tmp_path: Path) -> None:
    log = tmp_path / "log"
    with following(victim, log, "thread", "-F") as follower:
        assert follower.process.stderr is not None
        assert b"waiting for it" in follower.process.stderr.readline()
        log.write_bytes(b"one\n")
        follower.wait_for(b"one\n")
        log.unlink()
        log.write_bytes(b"two\n")
        follower.wait_for(b"two\n")
        code, errors = follower.stop()
    assert follower.lines == [b"one\n", b"two\n"] and b"has appeared" in errors


def test_f_stays_on_the_file_that_is_open(victim: subprocess.Popen[bytes], tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"old\n")
    with following(victim, log, "thread", "-f") as follower, open(log, "ab", buffering=0) as writer:
        follower.wait_for(b"old\n")
        log.rename(tmp_path / "log.1")
        log.write_bytes(b"new\n")
        writer.write(b"more of the old\n")
        follower.wait_for(b"more of the old\n")
    assert follower.lines == [b"old\n", b"more of the old\n"]


def test_ctrl_c_is_one_line(victim: subprocess.Popen[bytes], tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"x\n")
    for words in (["tail", "-f"], ["grep", "-r", "nothing like this"], ["find"], ["du"]):
        path = tmp_path / "log" if words[0] == "tail" else "/usr"
        command = [*KDEBUG, *words, f"local:{victim.pid}:{path}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if words[0] == "tail":
            assert process.stdout is not None and process.stdout.readline() == b"x\n"
        else:
            time.sleep(1.0)
        process.send_signal(2)
        _, errors = process.communicate(timeout=20)
        if process.returncode == 130:
            assert errors == b"kdebug: interrupted\n", words
        else:
            assert process.returncode in (0, 1), errors  # it had come to its end before
