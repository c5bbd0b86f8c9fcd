"""Watches of a process of this machine, which does what it is told."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kdebug.capture.reader import BundleReader
from kdebug.capture.writer import BundleWriter
from kdebug.cli.main import run as kdebug
from kdebug.errors import KdebugError
from kdebug.protocol import codec
from kdebug.protocol.system import TargetInfo

PROGRAM = str(Path(sys.executable).with_name("kdebug"))
TARGET = """
import sys
kept = []
print("ready", flush=True)
for line in sys.stdin:
    kept = [b"x" * 2**20 for _ in range(int(line))]
    print("done", flush=True)
"""
MIB = 2**20


class Hog:
    """Holds as many MiB as it is told."""

    def __init__(self) -> None:
        environment = {**os.environ, "DB_PASSWORD": "hunter2-planted"}
        command = [sys.executable, "-c", TARGET, "--token=hunter2-planted"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )
        self._answered()

    def _answered(self) -> None:
        assert self.process.stdout is not None and self.process.stdout.readline()

    def take(self, count: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        self._answered()


@pytest.fixture
def hog() -> Iterator[Hog]:
    made = Hog()
    yield made
    made.process.kill()
    made.process.wait()


@pytest.fixture
def small(tmp_path: Path) -> str:
    """An action that is done soon, with patience for machines that are busy."""
    recipe = tmp_path / "small.yaml"
    recipe.write_text("budget: {deadline: 10m}\nsteps:\n- facts: [cgroup, processes]\n  deadline: 5m\n")
    return f"capture:{recipe}"


@contextmanager
def watching(*words: str, **streams: Any) -> Iterator[subprocess.Popen[bytes]]:
    command = [PROGRAM, "watch", *words, "--every", "200ms"]
    client = subprocess.Popen(
        command,
        **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams),
        stdin=subprocess.DEVNULL,
    )
    try:
        yield client
    finally:
        client.kill()
        client.wait()


def until(client: subprocess.Popen[bytes], wanted: Callable[[Any], bool]) -> list[Any]:
    """Its JSON lines up to one that is wanted."""
    assert client.stdout is not None and client.stderr is not None
    seen = []
    for line in client.stdout:
        seen.append(json.loads(line))
        if wanted(seen[-1]):
            return seen
    raise AssertionError(f"{seen[-3:]} {client.stderr.read().decode()}")


def sample(row: Any, holds: bool | None = None) -> bool:
    return row["event"] == "sample" and (holds is None or row["conditions"][0]["holds"] is holds)


def test_it_fires_once_with_what_was_before_redacted(
    hog: Hog, tmp_path: Path, small: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "w"
    target = f"local:{hog.process.pid}"
    words = [target, "--when", "rss > 60MiB for 1s", "--max", "1", "--output", str(folder), "-o", "json"]
    with watching(*words, "--do", small) as client:
        until(client, sample)
        hog.take(60)
        seen = until(client, lambda row: row["event"] == "captured")
        assert client.wait(30) == 0
    fired = [row for row in seen if row["event"] == "fired"]
    assert len(fired) == 1 and fired[0]["condition"] == "rss > 60MiB for 1s"
    (name,) = os.listdir(folder)
    assert (folder / name).stat().st_mode & 0o777 == 0o600
    with BundleReader(str(folder / name)) as bundle:
        assert bundle.verify() == []
        account = bundle.json("watch.json")
        whole = b"".join(bundle.read(member) for member in bundle.members)
        assert len([m for m in bundle.members if m.startswith("target/cgroup")]) >= len(account["samples"])
    assert b"hunter2-planted" not in whole
    rss = [row["rss"] / MIB for row in account["samples"]]
    assert rss[0] < 60 < rss[-1] and account["held_seconds"] >= 1
    assert account["met"] == "rss > 60MiB for 1s" and account["number"] == 1
    assert kdebug(["watch", f"bundle:{folder / name}"]) == 0
    shown = capfd.readouterr().out
    assert "RSS" in shown and "fired: rss > 60MiB" in shown
    assert kdebug(["ps", f"bundle:{folder / name}", "-o", "json"]) == 0
    assert hog.process.pid in [row["pid"] for row in json.loads(capfd.readouterr().out)["processes"]]


def test_a_short_spike_does_not_fire(hog: Hog, tmp_path: Path) -> None:
    words = [f"local:{hog.process.pid}", "--when", "rss > 60MiB for 60s", "--output", str(tmp_path / "w")]
    with watching(*words, "-o", "json") as client:
        until(client, sample)
        hog.take(60)
        until(client, lambda row: sample(row, True))
        hog.take(0)
        seen = until(client, lambda row: sample(row, False))
        client.send_signal(signal.SIGINT)
        assert client.wait(30) == 130
        rest = client.stdout.read() if client.stdout else b""
    assert all(row["event"] == "sample" for row in seen) and b"fired" not in rest
    assert not (tmp_path / "w").exists(), "nothing came of it, and nothing is left"


def test_the_target_ends(hog: Hog, tmp_path: Path) -> None:
    words = [
        f"local:{hog.process.pid}",
        "--when",
        "rss > 10GiB",
        "--output",
        str(tmp_path / "w"),
        "-o",
        "json",
    ]
    with watching(*words) as client:
        until(client, sample)
        hog.process.kill()
        hog.process.wait()
        until(client, lambda row: row["event"] == "lost")
        assert client.wait(30) == 4
        assert client.stderr is not None and b"has ended" in client.stderr.read()


def members(folder: Path) -> set[str]:
    """Of the bundle that is being written."""
    try:
        (part,) = folder.glob("*.part")
        with BundleReader(str(part)) as bundle:
            return set(bundle.members)
    except (ValueError, KdebugError):
        return set()  # not there yet, or nothing in it yet


def test_ctrl_c_in_a_capture_leaves_a_bundle(hog: Hog, tmp_path: Path) -> None:
    recipe = tmp_path / "slow.yaml"
    recipe.write_text("steps:\n- facts: [cgroup]\n  samples: {every: 500ms, count: 100}\n")
    words = [f"local:{hog.process.pid}", "--when", "rss > 1", "--output", str(tmp_path / "w"), "-o", "json"]
    with watching(*words, "--do", f"capture:{recipe}") as client:
        until(client, lambda row: row["event"] == "fired")
        deadline = time.monotonic() + 30
        while "target/cgroup.0003.json" not in members(tmp_path / "w") and time.monotonic() < deadline:
            time.sleep(0.1)
        client.send_signal(signal.SIGINT)
        (captured, *_) = until(client, lambda row: row["event"] == "captured")[-1:]
        assert client.wait(30) == 130 and captured["status"] == "interrupted"
    with BundleReader(captured["bundle"]) as bundle:
        assert bundle.verify() == [] and "watch.json" in bundle.members


def test_nothing_happens_until_its_deadline(hog: Hog, tmp_path: Path) -> None:
    words = [f"local:{hog.process.pid}", "--when", "rss > 10GiB", "--output", str(tmp_path / "w")]
    with watching(*words, "--deadline", "1s") as client:
        assert client.wait(30) == 5
        assert client.stderr is not None and b"no condition was met" in client.stderr.read()


def test_growth_of_a_file(hog: Hog, tmp_path: Path, small: str) -> None:
    log = tmp_path / "a.log"
    when = f"file {log} grows > 1KiB for 1s"
    words = [f"local:{hog.process.pid}", "--when", when, "--max", "1", "--output", str(tmp_path / "w")]
    with watching(*words, "-o", "json", "--do", small) as client:
        until(client, sample)  # the file is not there yet
        log.write_bytes(b"")
        until(client, lambda row: f"file {log}" in row)
        log.write_bytes(b"x" * 5000)
        fired = until(client, lambda row: row["event"] == "fired")[-1]
        assert client.wait(30) == 0
    assert "grew by 4.9K in " in fired["values"], fired


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "there is nothing to wait for"),
        (("--when", "rss > 1", "--do", "reboot"), "'reboot' cannot be done"),
        (("--when", "rss > 1", "--do", "capture:nonsense"), "no recipe 'nonsense'"),
        (("--when", "restart"), "is for pods"),
        (("--when", "rss > 1", "--every", "1ms"), "too often"),
        (("--when", "rss > 1", "--output", "/proc/version"), "no folder"),
    ],
)
def test_wrong_words(words: tuple[str, ...], told: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert kdebug(["watch", "local:1", *words]) == 2
    said = capfd.readouterr()
    assert told in said.err and len(said.err.splitlines()) == 1 and said.out == "", said.err


def test_on_a_terminal_there_is_one_line_that_changes(hog: Hog, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    words = [f"local:{hog.process.pid}", "--when", "rss > 10GiB", "--output", str(tmp_path / "w")]
    with watching(*words, stderr=theirs) as client:
        os.close(theirs)
        drawn = b""
        while drawn.count(b"rss ") < 2:
            drawn += os.read(ours, 1000)
        client.send_signal(signal.SIGINT)
        assert client.wait(30) == 130
    os.close(ours)
    assert drawn.count(b"\r\x1b[K") >= 2 and b"fired 0" in drawn and b"\n" not in drawn


def test_samples_of_any_bundle(tmp_path: Path, hog: Hog, capfd: pytest.CaptureFixture[str]) -> None:
    recipe, path = tmp_path / "r.yaml", str(tmp_path / "b")
    recipe.write_text("steps:\n- facts: [cgroup, processes]\n  samples: {every: 200ms, count: 3}\n")
    assert kdebug(["capture", f"local:{hog.process.pid}", "-r", str(recipe), "--output", path]) == 0
    capfd.readouterr()
    assert kdebug(["watch", f"bundle:{path}", "-o", "json"]) == 0
    samples = json.loads(capfd.readouterr().out)["samples"]
    assert len(samples) == 3 and all(row["rss"] > MIB for row in samples)
    assert "cpu" not in samples[0] and "cpu" in samples[2]
    assert kdebug(["watch", f"bundle:{path}"]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 4


def test_a_hostile_black_box(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    writer = BundleWriter(str(tmp_path / "b"))
    row = {"at\x1b[2J": "\x1b]0;x\x07", "rss": 1e300, "cpu": "many", "fds": [1], "threads": None}
    notes = [{"at": 5, "text": "\r\x1b[31m"}, "no row"]
    writer.add_json(
        "target/open-1.json",
        {
            "question": '["open",{"pid":1}]',
            "request": {"request": "open"},
            "at": 1.0,
            "answer": codec.to_plain(TargetInfo(1, 1, "a", None, None, None, None, 100, 4096, False)),
        },
    )
    writer.add_json("watch.json", {"samples": [row, 7], "notes": notes, "met": "\x1b[H", "values": {}})
    writer.close()
    assert kdebug(["watch", f"bundle:{tmp_path / 'b'}"]) == 0
    said = capfd.readouterr().out
    assert "CPU" in said and "\x1b" not in said and "\r" not in said and "1e+300" not in said
