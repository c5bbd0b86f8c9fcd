"""Data towards the agent: real agents over pipes, clients that lie about it, die, or may only read."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_agent import interpreters

from kdebug.agent.server import MAX_HELD_BYTES, Server
from kdebug.agent.session import Session
from kdebug.channel.delivery import archive, delivered_agent_command
from kdebug.channel.subprocess import SubprocessChannel, local_agent_command
from kdebug.errors import AccessDenied, ConnectionLost
from kdebug.protocol import framing
from kdebug.protocol import writes as ask
from kdebug.protocol.hello import BANNER
from kdebug.protocol.requests import MAX_CHUNK, OpenTarget, ReadFile
from kdebug.protocol.transfer import DigestRange
from kdebug.target import Target
from kdebug.target.connection import Connection
from kdebug.target.transfer import TransferOptions, download, upload

DIGEST = "0" * 64


def request(request_id: int, **fields: Any) -> bytes:
    return framing.encode(framing.Frame(framing.REQUEST, request_id, json.dumps(fields).encode()))


def write_request(request_id: int, size: int) -> bytes:
    return request(request_id, request="write", handle="w1", offset=0, size=size, sha256=DIGEST)


def data(request_id: int, payload: bytes, flags: int = 0) -> bytes:
    return framing.encode(framing.Frame(framing.DATA, request_id, payload, flags))


def converse(stream: bytes) -> tuple[str, list[framing.Frame]]:
    """Why the agent ended, and what it said."""
    read_fd, client_write = os.pipe()
    client_read, write_fd = os.pipe()
    heard = bytearray()

    def drain() -> None:
        while piece := os.read(client_read, 1 << 16):
            heard.extend(piece)

    def feed() -> None:
        view = memoryview(stream)
        try:
            while view:
                view = view[os.write(client_write, view) :]
        except BrokenPipeError:
            pass
        os.close(client_write)

    threads = [threading.Thread(target=body, daemon=True) for body in (drain, feed)]
    for thread in threads:
        thread.start()
    reason = Server(read_fd, write_fd, session=Session(), silence_seconds=20).run()
    os.close(read_fd)
    os.close(write_fd)
    for thread in threads:
        thread.join(20)
    os.close(client_read)
    assert heard.startswith(BANNER)
    return reason, list(framing.FrameDecoder().feed(bytes(heard[len(BANNER) :])))


PIECE = bytes(framing.MAX_PAYLOAD)
LIES = {
    "unannounced": data(1, b"x"),
    "for a request without data": request(1, request="follow", path="/x", wait_seconds=5) + data(1, b"x"),
    "more than announced": write_request(1, 10) + data(1, b"x" * 11),
    "more in a second frame": write_request(1, 10) + data(1, b"x" * 6) + data(1, b"x" * 6),
    "empty frames for ever": write_request(1, 10) + data(1, b"") * 10,
    "more than one chunk": write_request(1, MAX_CHUNK + 1) + data(1, b"x"),
    "too much at once": b"".join(write_request(number, MAX_CHUNK) for number in range(1, 20)),
    "an id twice": write_request(1, 10) + write_request(1, 10),
    "another request meanwhile of the same id": write_request(1, 10) + request(1, request="agent"),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_about_data_end_the_stream(lie: str) -> None:
    started = time.monotonic()
    reason, frames = converse(LIES[lie])
    assert time.monotonic() - started < 10
    (last,) = [frame for frame in frames if frame.kind == framing.ERROR and frame.request_id == 0]
    assert json.loads(last.payload)["kind"] == "ProtocolViolation", reason


def test_nothing_is_gathered_beyond_the_cap() -> None:
    whole = MAX_HELD_BYTES // MAX_CHUNK
    stream = b"".join(
        write_request(number, MAX_CHUNK) + data(number, PIECE) * (MAX_CHUNK // len(PIECE))
        for number in range(1, whole + 1)
    )
    reason, _ = converse(stream)
    assert "closed the stream" in reason  # incomplete, so it waits for the rest and ends with the client


def test_data_that_is_not_complete_is_never_handled() -> None:
    _, frames = converse(write_request(1, 10) + data(1, b"x" * 9))
    assert all(frame.request_id != 1 for frame in frames)


async def opened(*flags: str, command: list[str] | None = None) -> tuple[Target, SubprocessChannel]:
    channel = await SubprocessChannel.start(command or local_agent_command(*flags))
    connection = await Connection.open(channel, request_seconds=20)
    return await Target.open(connection, OpenTarget(pid=os.getpid()), "test"), channel


def test_both_ways_over_a_real_agent(run: asyncio.Runner, tmp_path: Path) -> None:
    content = os.urandom(20 * MAX_CHUNK + 3)
    (tmp_path / "f").write_bytes(content)

    async def talk() -> None:
        target, _ = await opened()
        up = await upload(target, [str(tmp_path / "f")], str(tmp_path / "up"), TransferOptions())
        down = await download(target, [str(tmp_path / "up")], str(tmp_path / "down"), TransferOptions())
        assert up.sha256 == down.sha256 == hashlib.sha256(content).hexdigest()
        info = await target.agent()
        assert info.rss_bytes is None or info.rss_bytes < 32 * 2**20, info
        await target.close()

    run.run(talk())
    assert (tmp_path / "down").read_bytes() == content
    assert sorted(os.listdir(tmp_path)) == ["down", "f", "up"]


@pytest.mark.parametrize("python", interpreters())
def test_the_delivered_agent_writes_on(python: str, run: asyncio.Runner, tmp_path: Path) -> None:
    async def talk() -> None:
        payload = archive()
        channel = await SubprocessChannel.start(delivered_agent_command(payload, python=python))
        await channel.write(payload)
        connection = await Connection.open(channel, request_seconds=20)
        await connection.send(OpenTarget(pid=os.getpid()))
        await connection.send(ask.MakeDir(f"{tmp_path}/d/e", 0o700, True))
        begun = await connection.send(ask.BeginWrite(f"{tmp_path}/d/f", 0o640))
        digest = hashlib.sha256(b"data").hexdigest()
        await connection.send(ask.WriteChunk(begun.handle, 0, 4, digest, b"data"))
        await connection.send(ask.CommitWrite(begun.handle, 4))
        assert (tmp_path / "d" / "f").read_bytes() == b"data"
        answer = await connection.send(ReadFile(f"{tmp_path}/d/f", digest=True, compress=True))
        assert answer.sha256 == digest
        assert (await connection.send(DigestRange(f"{tmp_path}/d/f"))).sha256 == digest
        await connection.send(ask.MakeSymlink(f"{tmp_path}/d/l", "f"))
        await connection.send(ask.SetTimes(f"{tmp_path}/d", 5, 0o750, True))
        assert (tmp_path / "d").stat().st_mtime_ns == 5
        await connection.send(ask.Chmod(f"{tmp_path}/d", True, False, "go="))
        await connection.send(ask.Remove(f"{tmp_path}/d", recursive=True))
        await connection.close()

    run.run(talk())
    assert os.listdir(tmp_path) == []


def test_a_client_that_lies_cannot_write_on_a_read_only_agent(run: asyncio.Runner, tmp_path: Path) -> None:
    """It opens the target as if it might write; the flag of the agent stands."""

    async def talk() -> None:
        target, _ = await opened("--read-only")
        assert target.info.read_only
        with pytest.raises(AccessDenied, match="read-only"):
            await target.backend.send(ask.BeginWrite(f"{tmp_path}/f"))
        with pytest.raises(AccessDenied, match="read-only"):
            digest = hashlib.sha256(b"x").hexdigest()
            await target.backend.send(ask.WriteChunk("w1", 0, 1, digest, b"x"))
        await target.agent()
        await target.close()

    run.run(talk())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("end", ["client", "agent killed", "target"])
def test_ends_in_the_middle_of_an_upload_leave_nothing(
    run: asyncio.Runner, tmp_path: Path, end: str
) -> None:
    victim = subprocess.Popen(["sleep", "100"])

    async def talk() -> None:
        channel = await SubprocessChannel.start(local_agent_command())
        connection = await Connection.open(channel, request_seconds=20)
        await connection.send(OpenTarget(pid=victim.pid))
        begun = await connection.send(ask.BeginWrite(f"{tmp_path}/f", 0o640))
        content = os.urandom(MAX_CHUNK)
        digest = hashlib.sha256(content).hexdigest()
        await connection.send(ask.WriteChunk(begun.handle, 0, MAX_CHUNK, digest, content))
        if end == "client":
            os.close(os.dup(0))
            channel._process.stdin.close()  # type: ignore[union-attr]  # as when the client is killed
            await channel._process.wait()
        elif end == "agent killed":
            os.kill(connection.hello.pid, signal.SIGKILL)
            with pytest.raises(ConnectionLost):
                await connection.send(ask.CommitWrite(begun.handle, MAX_CHUNK))
        else:
            victim.kill()
            victim.wait()
            with pytest.raises(Exception, match="has ended"):
                await connection.send(ask.BeginWrite(f"{tmp_path}/g"))
        await connection.close()

    try:
        run.run(talk())
    finally:
        victim.kill()
        victim.wait()
    assert os.listdir(tmp_path) == []


KDEBUG = [sys.executable, "-m", "kdebug.cli.entry"]


def kdebug(*words: str, agent: str = "process", **environment: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"KDEBUG_LOCAL_AGENT": agent} | environment
    return subprocess.run([*KDEBUG, *words], capture_output=True, text=True, env=variables, timeout=60)


def here(path: Path | str) -> str:
    return f"local:{os.getpid()}:{path}"


@pytest.fixture(params=["thread", "process", "delivered"])
def agent(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_command_line(tmp_path: Path, agent: str) -> None:
    (tmp_path / "f").write_bytes(os.urandom(3_000_000))
    digest = hashlib.sha256((tmp_path / "f").read_bytes()).hexdigest()
    done = kdebug("cp", here(tmp_path / "f"), str(tmp_path / "g"), agent=agent)
    assert (done.returncode, done.stdout) == (0, "") and digest in done.stderr, done
    done = kdebug("cp", here(tmp_path / "f"), str(tmp_path / "g"), agent=agent)
    assert done.returncode == 1 and "-f overwrites it" in done.stderr and done.stderr.count("\n") == 1
    done = kdebug("cp", "-f", "-o", "json", str(tmp_path / "g"), here(tmp_path / "h"), agent=agent)
    assert json.loads(done.stdout)["sha256"] == digest and done.stderr == ""
    assert (tmp_path / "h").read_bytes() == (tmp_path / "f").read_bytes()
    assert kdebug("mkdir", "-p", "-m", "750", here(tmp_path / "a/b"), agent=agent).returncode == 0
    assert kdebug("chmod", "u=rwx,go=", here(tmp_path / "a/b"), agent=agent).returncode == 0
    assert (tmp_path / "a/b").stat().st_mode & 0o7777 == 0o700
    assert kdebug("rm", here(tmp_path / "a"), agent=agent).returncode == 1
    assert kdebug("rm", "-r", here(tmp_path / "a"), here(tmp_path / "h"), agent=agent).returncode == 0
    assert kdebug("rm", here(tmp_path / "h"), agent=agent).returncode == 4
    assert kdebug("rm", "-f", here(tmp_path / "h"), agent=agent).returncode == 0
    assert sorted(os.listdir(tmp_path)) == ["f", "g"]


@pytest.mark.parametrize(
    "words",
    [
        ("cp", "--read-only", "{local}", "{remote}/new"),
        ("rm", "--read-only", "{remote}/f"),
        ("mkdir", "--read-only", "{remote}/d"),
        ("chmod", "--read-only", "0", "{remote}/f"),
        ("edit", "--read-only", "{remote}/f"),
    ],
)
def test_read_only_refuses_every_change(tmp_path: Path, agent: str, words: tuple[str, ...]) -> None:
    (tmp_path / "f").write_text("old")
    filled = [word.format(local=tmp_path / "f", remote=here(tmp_path)) for word in words]
    done = kdebug(*filled, agent=agent, EDITOR="false")
    assert done.returncode == 3 and "this session is read-only" in done.stderr, done
    done = kdebug(
        *[w for w in filled if w != "--read-only"], agent=agent, KDEBUG_READ_ONLY="1", EDITOR="false"
    )
    assert done.returncode == 3 and "this session is read-only" in done.stderr
    assert os.listdir(tmp_path) == ["f"] and (tmp_path / "f").read_text() == "old"


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("cp", "a"), 2, "needs a source and a destination"),
        (("cp", "a", "b"), 2, "one side of cp is a target"),
        (("cp", "demo:/a", "demo:/b"), 2, "from target to target"),
        (("cp", "demo:/a", "x", "."), 2, "one side"),
        (("cp", "demo:/a", "local:1:/b", "."), 2, "in one target"),
        (("cp", "--max-bytes", "lots", "demo:/a", "."), 2, "not a number of bytes"),
        (("chmod", "0644"), 2, "a mode and a path"),
        (("chmod", "u+q", "demo:/a"), 2, "is not a mode"),
        (("rm",), 2, "needs a path"),
        (("rm", "demo:"), 2, "needs a path"),
        (("mkdir", "-m", "zz", "demo:/a"), 2, "is not a mode"),
    ],
)
def test_usage(words: tuple[str, ...], code: int, text: str) -> None:
    done = kdebug(*words)
    assert done.returncode == code and text in done.stderr and done.stderr.count("\n") == 1, done


EDITORS = {
    "changes": ('printf changed > "$1"', 0, "was changed"),
    "changes nothing": ("true", 0, "was left as it is"),
    "fails": ("false", 1, "ended with 1"),
    "changes and fails": ('printf changed > "$1"; exit 3', 1, "edited copy is kept"),
    "meanwhile": ('printf mine > "$1"; printf theirs > "$REAL"', 1, "changed meanwhile"),
}


@pytest.mark.parametrize("how", EDITORS)
def test_edit(tmp_path: Path, how: str, agent: str) -> None:
    script, code, text = EDITORS[how]
    file = tmp_path / "app.yaml"
    file.write_text("original")
    file.chmod(0o4640)
    editor = tmp_path / "editor"
    check = 'case "$1" in *.yaml) ;; *) exit 9;; esac; [ "$(stat -c %a "$1")" = 600 ] || exit 8\n'
    editor.write_text(f"#!/bin/sh\n{check}{script}\n")
    editor.chmod(0o755)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    done = kdebug(
        "edit", here(file), agent=agent, VISUAL=str(editor), REAL=str(file), TMPDIR=str(temporary)
    )
    assert done.returncode == code and text in done.stderr, done
    kept = [one for one in temporary.rglob("*") if one.is_file()]
    expected = {"changes": "changed", "meanwhile": "theirs"}.get(how, "original")
    assert file.read_text() == expected and file.stat().st_mode & 0o7777 == 0o4640
    if how in ("meanwhile", "changes and fails"):
        assert str(kept[0]) in done.stderr and kept[0].read_text() in ("mine", "changed")
    else:
        assert kept == [] and os.listdir(temporary) == []


def start_on_terminal(*words: str) -> tuple[subprocess.Popen[bytes], int]:
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [*KDEBUG, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs,
        env=os.environ | {"KDEBUG_LOCAL_AGENT": "process"}, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    return process, ours


def read_until(fd: int, enough: Callable[[bytes], bool], seconds: float = 30.0) -> bytes:
    seen, end = b"", time.monotonic() + seconds
    while not enough(seen) and time.monotonic() < end:
        try:
            piece = os.read(fd, 65536)
        except OSError:  # EIO: the other side has ended
            break
        if not piece:
            break
        seen += piece
    return seen


@pytest.mark.soak
def test_interrupted_on_a_terminal_and_gone_on_with(tmp_path: Path) -> None:
    """The bar shows rate and time left; Ctrl-C leaves a part, and the same command ends it."""
    with open(tmp_path / "f", "wb") as file:
        for _ in range(1200):
            file.write(os.urandom(1 << 20))
    process, terminal = start_on_terminal("cp", here(tmp_path / "f"), str(tmp_path / "g"))
    shown = read_until(terminal, lambda seen: b" left" in seen)
    assert b"% [" in shown and b"/s" in shown
    process.send_signal(signal.SIGINT)
    shown += read_until(terminal, lambda seen: False)
    assert process.wait(20) == 130 and b"the same command goes on from there" in shown
    assert b"Traceback" not in shown
    (part,) = [one for one in os.listdir(tmp_path) if one.endswith(".kdebug-part")]
    had = (tmp_path / part).stat().st_size
    assert 0 < had < 1200 << 20
    done = kdebug("cp", "-o", "json", here(tmp_path / "f"), str(tmp_path / "g"))
    report = json.loads(done.stdout)
    assert report["resumed_bytes"] == had and report["data_bytes"] == (1200 << 20) - had
    assert subprocess.run(["cmp", tmp_path / "f", tmp_path / "g"]).returncode == 0
    (tmp_path / "f").unlink()
    (tmp_path / "g").unlink()
