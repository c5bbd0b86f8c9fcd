"""The real agent as a process: hardening, silence, garbage, lanes, kills, and every python3 at hand."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import glob
import importlib.util
import marshal
import os
import random
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from conftest import needs_root
from kdebug import threads
from kdebug.agent import dispatch, hold
from kdebug.agent.budget import LONGEST_SECONDS
from kdebug.agent.cursors import MAX_CURSORS, Cursor, Cursors
from kdebug.agent.outbox import CONTROL_BYTES, Outbox
from kdebug.agent.server import Server
from kdebug.agent.session import Session
from kdebug.agent.source import agent_sources
from kdebug.channel import payload
from kdebug.channel.delivery import archive, delivered_agent_command
from kdebug.channel.payload import build
from kdebug.channel.subprocess import SubprocessChannel, local_agent_command
from kdebug.errors import AccessDenied, DeadlinePassed, Failed, KdebugError, NotFound, UsageError
from kdebug.probe import net_config
from kdebug.protocol import codec, framing
from kdebug.protocol import requests as ask
from kdebug.protocol.hello import BANNER, MAX_ANSWER_BYTES
from kdebug.protocol.processes import EnvVar
from kdebug.protocol.system import CgroupInfo
from kdebug.target.connection import Connection
from kdebug.target.local import LocalBackend
from support.stuck import stuck_file_system

SERVE = [sys.executable, "-m", "kdebug.agent", "serve"]


async def connected(*flags: str) -> tuple[Connection, SubprocessChannel]:
    channel = await SubprocessChannel.start(local_agent_command(*flags))
    return await Connection.open(channel, request_seconds=20), channel


def interpreters() -> list[str]:
    """Every python3 >= 3.9 on this machine, one of each version."""
    found = {f"{os.path.realpath(sys.executable)}": sys.executable}
    for path in [
        *glob.glob("/usr/bin/python3.*"),
        *glob.glob(os.path.expanduser("~/.pyenv/versions/3.*/bin/python3")),
    ]:
        if path.rpartition("3.")[2].isdigit() or path.endswith("/python3"):
            found.setdefault(os.path.realpath(path), path)
    check = "import sys; sys.exit(sys.version_info < (3, 9))"
    return [
        p
        for p in found.values()
        if subprocess.run([p, "-c", check], stderr=subprocess.DEVNULL).returncode == 0
    ]


@pytest.mark.parametrize("python", interpreters())
def test_the_delivered_agent_runs_on(python: str, run: asyncio.Runner) -> None:
    async def talk() -> None:
        payload = archive()
        channel = await SubprocessChannel.start(delivered_agent_command(payload, python=python))
        await channel.write(payload)
        connection = await Connection.open(channel, request_seconds=20)
        await connection.send(ask.OpenTarget(pid=os.getpid()))
        for request in (
            ask.ListProcesses(), ask.GetProcess(os.getpid()), ask.ListFds(), ask.ListMaps(),
            ask.ListEnviron(), ask.GetLimits(os.getpid()), ask.ListSockets(), ask.GetNetwork(),
            ask.ListMounts(), ask.GetCgroup(),
            ask.GetAccess(), ask.GetAgentInfo(), ask.ListDir(path="/etc"), ask.StatPath("/etc/passwd"),
            ask.ReadFile("/etc/passwd"), ask.FollowFile("/etc/passwd", wait_seconds=0),
        ):  # fmt: skip
            await connection.send(request)  # type: ignore[var-annotated]
        assert connection.hello.source_hash
        await connection.close()

    run.run(talk())


def test_a_damaged_delivery_is_refused() -> None:
    """Whichever part is hit: the magic number, what is compiled, or the source."""
    whole = archive()
    command = delivered_agent_command(whole, python=sys.executable)
    for place in (0, 100, len(whole) - 100):
        payload = bytearray(whole)
        payload[place] ^= 1
        done = subprocess.run(command, input=bytes(payload), capture_output=True, timeout=30)
        assert done.returncode == 1 and b"wrong SHA-256" in done.stderr and done.stdout == b""
    done = subprocess.run(command, input=whole[:50], capture_output=True, timeout=30)
    assert done.returncode == 1 and b"50 of" in done.stderr


def spoiled(payload: bytes, *, source: bool) -> bytes:
    """With one part replaced by a program that only says which it is."""
    late = 12 + int.from_bytes(payload[4:8], "big")
    end = late + int.from_bytes(payload[8:12], "big")
    if source:
        return payload[:end] + zlib.compress(b"print('source')")
    code = zlib.compress(marshal.dumps(compile("print('compiled')", "x", "exec")))
    return payload[:4] + len(code).to_bytes(4, "big") + payload[8:12] + code + payload[late:]


def test_the_compiled_part_runs_where_the_magic_number_is_ours_and_the_source_elsewhere() -> None:
    payload = build(agent_sources())
    foreign = bytes([payload[0] ^ 1]) + payload[1:]

    def said(delivered: bytes) -> bytes:
        command = delivered_agent_command(delivered, python=sys.executable)
        done = subprocess.run(command, input=delivered, capture_output=True, timeout=30)
        return done.stdout.strip()

    assert said(spoiled(payload, source=False)) == b"compiled"
    assert said(spoiled(foreign, source=True)) == b"source"
    assert said(spoiled(payload, source=True)).startswith(BANNER.strip())
    assert said(spoiled(foreign, source=False)).startswith(BANNER.strip())


def test_compiled_and_source_delivery_are_the_same_agent(run: asyncio.Runner) -> None:
    async def answers(payload: bytes) -> list[Any]:
        command = delivered_agent_command(payload, python=sys.executable)
        channel = await SubprocessChannel.start(command)
        await channel.write(payload)
        connection = await Connection.open(channel, request_seconds=20)
        opened = await connection.send(ask.OpenTarget(pid=os.getpid()))
        refusal = ""
        try:
            await connection.send(ask.StatPath("/no/such/file"))
        except KdebugError as error:
            refusal = str(error)
        access, limits = await connection.send(ask.GetAccess()), await connection.send(ask.GetLimits(1))
        names = [p.name for p in (await connection.send(ask.ListProcesses())).items if p.pid == os.getpid()]
        await connection.close()
        fixed = [(row.name, row.soft, row.hard) for row in limits.items]
        return [connection.hello.source_hash, opened, refusal, access, fixed, names]

    compiled, source = build(agent_sources()), build(agent_sources(), compiled=False)
    assert compiled != source and compiled == build(agent_sources())
    assert run.run(answers(compiled)) == run.run(answers(source))


def test_whatever_else_is_loaded_the_delivery_has_the_same_digest() -> None:
    code = (
        "import sys, hashlib; [__import__(name) for name in sys.argv[1:]];"
        "from kdebug.channel.payload import agent_sources, build;"
        "print(hashlib.sha256(build(agent_sources())).hexdigest())"
    )
    loaded: tuple[tuple[str, ...], ...] = (
        (),
        ("asyncio", "typing", "kdebug.agent.server", "kdebug.probe.files"),
    )
    digests = {
        subprocess.run([sys.executable, "-c", code, *names], capture_output=True, check=True).stdout
        for names in loaded
    }
    assert len(digests) == 1


def test_the_compiled_agent_is_kept_and_made_again_when_it_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    folder = Path(importlib.util.cache_from_source(payload.__file__)).parent
    fresh = payload.archive.__wrapped__
    assert fresh()[:4] == payload.NO_MAGIC  # the folder is not there: nothing is written
    folder.mkdir(parents=True)
    first = fresh()
    (kept,) = folder.iterdir()
    assert first[:4] == importlib.util.MAGIC_NUMBER and kept.read_bytes().endswith(first)
    written = kept.stat().st_mtime_ns
    assert fresh() == first and kept.stat().st_mtime_ns == written
    for damage in (
        b"",
        kept.read_bytes()[:-1],
        kept.read_bytes()[:-1] + b"x",
        bytes(32) + kept.read_bytes()[32:],
    ):
        kept.write_bytes(damage)
        assert fresh() == first and kept.read_bytes().endswith(first)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert fresh()[:4] == payload.NO_MAGIC
    assert list(folder.iterdir()) == [kept]


def test_the_agent_hardens_itself_and_stays_small(run: asyncio.Runner) -> None:
    async def talk() -> None:
        connection, _ = await connected()
        await connection.send(ask.OpenTarget(pid=os.getpid()))
        info = await connection.send(ask.GetAgentInfo())
        assert (info.oom_score_adj, info.dumpable) == (1000, False)
        assert Path(f"/proc/{connection.hello.pid}/task").exists()
        await connection.close()
        assert not Path(f"/proc/{connection.hello.pid}").exists()

    run.run(talk())


def test_a_stray_print_does_not_reach_the_stream() -> None:
    script = (
        "import os; import kdebug.agent.__main__ as m; r, w = m.take_stdio()\n"
        "print('stray', flush=True); os.write(w, b'frame')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, stdin=subprocess.DEVNULL, timeout=30
    )
    assert (done.stdout, done.stderr) == (b"frame", b"stray\n")


def test_the_agent_exits_when_its_peer_is_silent() -> None:
    process = subprocess.Popen(
        [*SERVE, "--silence", "0.5"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.wait(10) == 0
    assert process.stderr is not None and b"silent for" in process.stderr.read()


def test_the_agent_exits_when_nobody_reads() -> None:
    """A full pipe must not hold it: its reader sees the silence all the same."""
    process = subprocess.Popen(
        [*SERVE, "--silence", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdin is not None
    opened = b'{"request":"open","pid":%d}' % os.getpid()
    process.stdin.write(framing.encode(framing.Frame(framing.REQUEST, 1, opened)))
    for number in range(2, 40):
        body = b'{"request":"list-dir","path":"/usr/bin","limit":1000}'
        process.stdin.write(framing.encode(framing.Frame(framing.REQUEST, number, body)))
    process.stdin.flush()
    assert process.wait(20) == 0


def sent(fill: Callable[[Outbox], None]) -> list[framing.Frame]:
    """What a client gets that begins to read only after `fill`."""
    read_end, write_end = os.pipe()
    outbox = Outbox(write_end)
    outbox.start(BANNER)
    fill(outbox)
    with open(read_end, "rb") as stream, ThreadPoolExecutor(1) as pool:
        reading = pool.submit(stream.read)
        outbox.stop(30)
        os.close(write_end)
        received = reading.result()
    decoder = framing.FrameDecoder()
    frames = list(decoder.feed(received.removeprefix(BANNER)))
    assert decoder.pending_bytes == 0
    return frames


def test_pongs_that_nobody_reads_are_dropped_whole() -> None:
    def flood(outbox: Outbox) -> None:
        for number in range(400):
            outbox.put_now(framing.PONG, number, bytes(64 * 1024))

    frames = sent(flood)
    ids = [frame.request_id for frame in frames]
    assert ids == sorted(ids) and ids[0] == 0
    assert sum(len(frame.payload) for frame in frames) < CONTROL_BYTES + 1024 * 1024


def test_small_answers_overtake_file_data() -> None:
    def fill(outbox: Outbox) -> None:
        outbox.put(framing.DATA, 1, bytes(1024 * 1024))
        outbox.put(framing.ANSWER, 1, b"{}", bulk=True)
        outbox.put_now(framing.PONG, 0, b"")
        outbox.put(framing.ANSWER, 2, b"{}")

    frames = [(frame.kind, frame.request_id) for frame in sent(fill)]
    # One frame of the data may have been on its way before.
    assert frames.index((framing.PONG, 0)) <= 1 and frames.index((framing.ANSWER, 2)) <= 2
    assert frames[-1] == (framing.ANSWER, 1)


def test_a_killed_client_leaves_no_agent() -> None:
    script = (
        "import asyncio, os, sys, time\n"
        "from kdebug.channel.subprocess import SubprocessChannel, local_agent_command\n"
        "from kdebug.target.connection import Connection\n"
        "async def main():\n"
        "    channel = await SubprocessChannel.start(local_agent_command())\n"
        "    connection = await Connection.open(channel, request_seconds=9)\n"
        "    print(connection.hello.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())"
    )
    client = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert client.stdout is not None
    agent = int(client.stdout.readline())
    client.send_signal(signal.SIGKILL)
    client.wait()
    deadline = time.monotonic() + 10
    while (
        os.path.exists(f"/proc/{agent}")
        and Path(f"/proc/{agent}/stat").read_text().rpartition(")")[2][1] != "Z"
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_mutated_frames_never_crash_or_hang_the_agent(seed: int) -> None:
    """A short run of the soak test's fuzz: each conversation ends by itself, with exit code 0."""
    chance = random.Random(seed)
    body = b'{"request":"open","pid":%d}' % os.getpid()
    honest = framing.encode(framing.Frame(framing.REQUEST, 1, body)) * 3
    for _ in range(15):
        stream = bytearray(honest)
        for _ in range(chance.randint(1, 8)):
            stream[chance.randrange(len(stream))] = chance.randrange(256)
        done = subprocess.run(
            [*SERVE, "--silence", "5"], input=bytes(stream), capture_output=True, timeout=30
        )
        assert done.returncode == 0 and done.stdout.startswith(BANNER), done.stderr
        assert b"Traceback" not in done.stderr


def test_several_requests_at_once_and_a_cancel(run: asyncio.Runner, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(range(256)) * 16384)

    async def talk() -> None:
        connection, _ = await connected()
        await connection.send(ask.OpenTarget(pid=os.getpid()))
        waiting = asyncio.create_task(
            connection.send(ask.FollowFile(str(tmp_path / "big"), 1 << 22, wait_seconds=20))
        )
        reads = [connection.send(ask.ReadFile(str(tmp_path / "big"), n << 18, 1 << 18)) for n in range(16)]
        tables = [connection.send(ask.ListProcesses(fds=False)) for _ in range(5)]
        chunks = await asyncio.gather(*reads)
        await asyncio.gather(*tables)
        assert b"".join(chunk.data for chunk in chunks) == (tmp_path / "big").read_bytes()
        assert not waiting.done()
        waiting.cancel()
        started = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert time.monotonic() - started < 5
        await connection.close()

    run.run(talk())


def test_read_only_is_the_agents_word(run: asyncio.Runner) -> None:
    async def talk() -> None:
        connection, _ = await connected("--read-only")
        info = await connection.send(ask.OpenTarget(pid=os.getpid()))
        assert info.read_only
        with pytest.raises(AccessDenied, match="read-only"):
            await connection.send(ask.SendSignal(os.getpid(), 0, signal.SIGKILL))
        await connection.close()

    run.run(talk())


def test_a_signal_reaches_only_the_process_that_was_meant(run: asyncio.Runner) -> None:
    child = subprocess.Popen(["sleep", "1000"])

    async def talk() -> None:
        connection, _ = await connected()
        await connection.send(ask.OpenTarget(pid=child.pid))
        detail = await connection.send(ask.GetProcess(child.pid))
        with pytest.raises(NotFound, match="another process"):
            await connection.send(ask.SendSignal(child.pid, detail.process.start_ticks + 1, signal.SIGKILL))
        assert child.poll() is None
        await connection.send(ask.SendSignal(child.pid, detail.process.start_ticks, signal.SIGTERM))
        await connection.close()

    run.run(talk())
    assert child.wait(5) == -signal.SIGTERM


def test_a_table_says_when_its_target_has_ended(run: asyncio.Runner) -> None:
    child = subprocess.Popen(["sleep", "1000"])

    async def talk() -> None:
        connection, _ = await connected()
        await connection.send(ask.OpenTarget(pid=child.pid))
        await connection.send(ask.ListProcesses())
        child.kill()
        child.wait()
        with pytest.raises(NotFound, match="it has ended"):
            await connection.send(ask.ListProcesses())
        await connection.close()

    run.run(talk())


@pytest.mark.parametrize(
    "request_",
    [
        ask.ListProcesses(), ask.ListFds(), ask.ListFds(pid=os.getpid()), ask.ListMaps(), ask.ListEnviron(),
        ask.GetLimits(os.getpid()), ask.ListSockets(), ask.GetNetwork(), ask.ListMounts(), ask.GetCgroup(),
        ask.GetAccess(), ask.ListDir(path="/"), ask.StatPath("/"), ask.ReadFile("/etc/passwd"),
    ],
    ids=lambda request: request.name,
)  # fmt: skip
def test_whoever_has_the_targets_pid_now_is_not_the_target(request_: ask.Request[object]) -> None:
    session = Session()
    session.bind(os.getpid(), 1, None, False)
    with pytest.raises(NotFound, match="another process has its PID now"):
        dispatch.handle(session, request_)
    session.close()


def test_the_budget_is_the_targets_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toolbox has no CPU limit of its own; its pod has."""
    session = Session()
    session.cpu_quota_cores = None
    session.bind(os.getpid(), 0, None, False)
    without = dispatch.handle(session, ask.ListProcesses())
    session.bind(os.getpid(), 0, None, False)
    limited = CgroupInfo(version=2, path="/", scope="", cpu_limit_cores=0.0001)
    monkeypatch.setattr("kdebug.agent.session.cgroup_info", lambda *given, **options: limited)
    within = dispatch.handle(session, ask.ListProcesses())
    assert within.next_after_seconds == LONGEST_SECONDS > without.next_after_seconds
    session.close()


def test_requests_without_a_target_are_refused(run: asyncio.Runner) -> None:
    async def talk() -> None:
        connection, _ = await connected()
        with pytest.raises(UsageError, match="no target"):
            await connection.send(ask.ListProcesses())
        await connection.close()

    run.run(talk())


def variables(count: int) -> Iterator[EnvVar]:
    return (EnvVar(str(number), "v") for number in range(count))


def test_cursors_work_once_and_are_bounded() -> None:
    cursors = Cursors()
    cursor = Cursor("environ", variables(5))
    assert [row.name for row in cursor.page(2)[0]] == ["0", "1"]
    token = cursors.put(cursor)
    assert [row.name for row in cursors.take(token, "environ").page(9)[0]] == ["2", "3", "4"]
    with pytest.raises(Failed, match="cannot be continued"):
        cursors.take(token, "environ")
    tokens = [cursors.put(Cursor("environ", variables(1))) for _ in range(MAX_CURSORS + 1)]
    with pytest.raises(Failed):
        cursors.take(tokens[0], "environ")
    with pytest.raises(KdebugError):
        cursors.take(tokens[1], "maps")
    cursors.take(tokens[1], "environ")


def test_a_page_is_bounded_by_its_bytes_too() -> None:
    rows = (EnvVar("n", "x" * 100_000) for _ in range(10))
    sizes, more = [], True
    cursor = Cursor("environ", rows)
    while more:
        page, more = cursor.page(1000)
        sizes.append(len(page))
    assert sum(sizes) == 10 and max(sizes) <= 2


@pytest.mark.parametrize(
    ("alive", "since", "busy", "words"),
    [
        (10, 10, False, ""),
        (10, 901, False, "nobody was attached for 900 s"),
        (3601, 5, False, "time to live of 3600 s"),
        (3601, 5, True, ""),
        (28801, 0, True, "maximum"),
    ],
)
def test_when_a_toolbox_ends(alive: float, since: float, busy: bool, words: str) -> None:
    reason = hold.reason_to_end(dict(hold.DEFAULTS), alive, since, busy)
    assert words in reason and bool(words) == bool(reason)


@pytest.mark.parametrize("arguments", [["--ttl"], ["--ttl", "x"], ["--ttl", "-1"], ["--nope", "1"]])
def test_hold_says_what_is_wrong(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kdebug.agent", "hold", *arguments], capture_output=True, timeout=30
    )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and b"--" in done.stderr


def fake_proc(folder: Path, processes: dict[int, tuple[str, str]]) -> str:
    """pid -> (state, cgroup)."""
    for pid, (state, cgroup) in processes.items():
        (folder / str(pid)).mkdir()
        (folder / str(pid) / "cgroup").write_text(cgroup)
        (folder / str(pid) / "stat").write_text(f"{pid} (a) Z (b) {state} 1 1")
    return str(folder)


@pytest.mark.parametrize(
    ("state", "cgroup", "busy"),
    [("S", "0::/\n", True), ("Z", "0::/\n", False), ("X", "0::/\n", False), ("S", "0::/../ab\n", False)],
)
def test_who_counts_as_attached(tmp_path: Path, state: str, cgroup: str, busy: bool) -> None:
    proc = fake_proc(tmp_path, {1: ("S", "0::/../target\n"), 7: ("S", "0::/\n"), 9: (state, cgroup)})
    assert hold.attached(7, b"0::/\n", proc) is busy


def test_without_cgroups_only_the_time_to_live_counts(tmp_path: Path) -> None:
    """Two files that cannot be read are the same, and that says nothing."""
    proc = fake_proc(tmp_path, {9: ("S", "")})
    options = {"--ttl": 0.4, "--max-ttl": 9.0, "--idle": 0.1}
    assert "time to live of 0 s" in hold.wait(options, proc)


HOLD = [sys.executable, "-m", "kdebug.agent", "hold"]


def test_hold_hardens_itself() -> None:
    """The target may have our uid: it must not write into hold's memory, nor be killed before it."""
    script = (
        "import os; from kdebug.agent import hold; from kdebug.probe import syscalls\n"
        "hold.wait = lambda _: open('/proc/self/oom_score_adj').read() + str(syscalls.get_dumpable())\n"
        "hold.main([], print)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert done.stdout.split() == ["ended:", "1000", "False"]


@needs_root
def test_hold_as_pid_1_ends_at_sigterm_and_reaps() -> None:
    """Where the PID namespace is not shared, the pod would otherwise wait out its grace period."""
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    process = subprocess.Popen([*unshare, *HOLD], stderr=subprocess.PIPE)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    try:
        deadline = time.monotonic() + 10
        while not children.read_text() or "hold" not in command_of(int(children.read_text())):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        pid = int(children.read_text())
        while not ignores_children(pid):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        subprocess.run(["nsenter", "-t", str(pid), "-p", "-m", "sh", "-c", "sleep 0.1 &"], check=True)
        time.sleep(0.5)
        assert Path(f"/proc/{pid}/task/{pid}/children").read_text() == ""
        os.kill(pid, signal.SIGTERM)
        _, log = process.communicate(timeout=5)
    finally:
        process.kill()
        process.wait()
    assert b"ended: signal 15" in log and log.count(b"\n") == 1


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def ignores_children(pid: int) -> bool:
    ignored = Path(f"/proc/{pid}/status").read_text().partition("SigIgn:")[2].split()[0]
    return bool(int(ignored, 16) >> (signal.SIGCHLD - 1) & 1)


@needs_root
def test_without_the_targets_rights_facts_are_null_with_reasons(run: asyncio.Runner) -> None:
    """A stranger's agent: the row is there, and what may not be read says so."""
    child = subprocess.Popen(["sleep", "1000"], user=4242, group=4242)
    script = (
        "import os, json; from kdebug.agent import dispatch; from kdebug.agent.session import Session\n"
        "from kdebug.protocol import requests as ask, codec\n"
        "import kdebug.probe.syscalls, encodings.idna\n"
        "os.setgroups([]); os.setresgid(4243, 4243, 4243); os.setresuid(4243, 4243, 4243)\n"
        f"s = Session(); dispatch.handle(s, ask.OpenTarget(pid={child.pid}))\n"
        f"d = dispatch.handle(s, ask.GetProcess({child.pid})); print(codec.to_json(d.process).decode())\n"
        "print(json.dumps({a.name: a.allowed for a in dispatch.handle(s, ask.GetAccess()).abilities}))"
    )
    try:
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
        row, abilities = (__import__("json").loads(line) for line in done.stdout.splitlines())
    finally:
        child.kill()
        child.wait()
    assert (row["uid"], row["cmdline"]) == (4242, ["sleep", "1000"])
    assert row["fds"] is None and "Permission denied" in row["reasons"]["fds"]
    assert row["exe"] is None and "SYS_PTRACE" in row["reasons"]["exe"]
    assert abilities["process list"] is True
    assert not any(
        abilities[name] for name in ("files read", "files write", "fds", "env", "maps", "signals")
    )


def test_an_answer_that_is_too_long_is_an_error_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the end of the connection: the client refuses longer answers."""
    monkeypatch.setattr("kdebug.agent.server.MAX_ANSWER_BYTES", 100)
    (ours, theirs), (reads, writes) = os.pipe(), os.pipe()
    body = b'{"request":"limits","pid":%d}' % os.getpid()
    os.write(theirs, framing.encode(framing.Frame(framing.REQUEST, 1, body)))
    server = threading.Thread(target=Server(ours, writes, session=Session()).run)
    server.start()
    stream = b""
    while b'"kind"' not in stream:
        stream += os.read(reads, 65536)
    os.close(theirs)
    server.join(10)
    assert b"the answer to limits is longer than 100 bytes" in stream
    for fd in (ours, reads, writes):
        os.close(fd)


def test_hostile_resolver_files_fit_one_answer() -> None:
    dns = net_config.resolver(lambda path: b"options " + b"\xff" * 2**20)
    assert len(codec.to_json(dns)) < MAX_ANSWER_BYTES / 2
    assert "is not shown" in dns.reasons["/etc/hosts"]


@needs_root
@pytest.mark.parametrize("local", [False, True], ids=["process", "thread"])
def test_a_request_that_never_ends_holds_up_nobody(
    run: asyncio.Runner, tmp_path: Path, local: bool
) -> None:
    async def talk() -> None:
        backend: Any
        if local:
            backend = LocalBackend(Session(), request_seconds=1)
        else:
            channel = await SubprocessChannel.start(local_agent_command())
            backend = await Connection.open(channel, request_seconds=4)
        await backend.send(ask.OpenTarget(pid=os.getpid()))
        with pytest.raises(DeadlinePassed):
            await backend.send(ask.StatPath(f"{tmp_path}/x"))
        await backend.send(ask.GetAgentInfo())
        await backend.send(ask.ListDir(path="/"))
        await backend.close()
        assert local or not Path(f"/proc/{backend.hello.pid}").exists()

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(stuck_file_system(tmp_path))
        except OSError as error:
            pytest.skip(f"no FUSE here: {error}")
        run.run(asyncio.wait_for(talk(), 40))


def test_an_agent_that_may_not_start_threads_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod at its pids.max is what people look into: one lane less must not end the session."""
    (ours, theirs), (reads, writes) = os.pipe(), os.pipe()
    start = threads.Thread.start

    def limited(thread: threads.Thread) -> None:
        if thread._arguments == ("heavy",):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threads.Thread, "start", limited)
    requests = (b'{"request":"list-dir"}', b'{"request":"limits","pid":%d}' % os.getpid())
    for number, body in enumerate(requests, 1):
        os.write(theirs, framing.encode(framing.Frame(framing.REQUEST, number, body)))
    server = threading.Thread(target=Server(ours, writes, session=Session()).run)
    server.start()
    stream = b""
    while b"Max open files" not in stream:
        stream += os.read(reads, 65536)
    os.close(theirs)
    server.join(10)
    assert b"pids.max" in stream
    for fd in (ours, reads, writes):
        os.close(fd)


def test_dispatch_answers_every_request() -> None:
    assert all(map(dispatch._handler, ask.registered().values()))
    assert set(dispatch._HANDLERS) == set(ask.registered().values())
    assert all(dataclasses.is_dataclass(request) for request in ask.registered().values())


def test_a_process_list_takes_no_module_that_a_stock_image_must_compile() -> None:
    """python:slim holds no bytecode: `typing` or `dataclasses` alone would cost more than the agent."""
    code = (
        "import sys, os; os.__file__; before = set(sys.modules); sys.path.insert(0, sys.argv[1]);"
        "from kdebug.agent import dispatch, server, startup; from kdebug.agent.session import Session;"
        "from kdebug.protocol import codec, requests as ask; s = Session();"
        "asked = (ask.OpenTarget(pid=os.getpid()), ask.GetAccess(), ask.ListProcesses());"
        "[codec.to_json(dispatch.handle(s, one)) for one in asked];"
        'server.decode_request(b\'{"request":"processes","limit":7}\');'
        "print(*sorted(m for m in set(sys.modules) - before if not m.startswith('kdebug')))"
    )
    source = str(Path(dispatch.__file__).parents[2])
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, source], capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert loaded, done.stderr
    # What is written in C, and struct; ctypes for openat2 (rooted).
    names = {name for name in loaded if not name.startswith("_")} - set(sys.builtin_module_names)
    python = {"ctypes", "ctypes._endian", "struct", "types"}
    assert names <= {*python, "errno", "fcntl", "math", "resource", "select", "zlib"}
