"""What differs, and which one is odd: pure rules on made facts, then captures of real processes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kdebug.cli.main import run as kdebug
from kdebug.compare import facts as f
from kdebug.compare.diff import compare
from kdebug.compare.facts import Facts
from kdebug.compare.odd import MAX_OF_SECTION, odd_ones
from kdebug.protocol.network import Socket
from kdebug.protocol.processes import EnvVar, FdInfo, Process

MIB = 2**20
A, B = "[REDACTED:env:0000000a]", "[REDACTED:env:0000000b]"


def made(label: str, at: float = 0.0, **numbers: float) -> Facts:
    facts = Facts(label, at)
    for name, value in numbers.items():
        facts.count(f.TARGET, name, value, f.BYTES if name == "rss" else f.COUNT)
    return facts


def environ(facts: Facts, **values: str) -> Facts:
    f.add_environ(facts, [EnvVar(name, value) for name, value in values.items()])
    return facts


def differences(a: Facts, b: Facts) -> list[tuple[str, str, str]]:
    return [(one.section, one.change, one.what) for one in compare(a, b).differences]


# diff


def test_growth_is_told_by_the_minute() -> None:
    (one,) = compare(made("a", 100, rss=10 * MIB), made("b", 130, rss=30 * MIB)).differences
    assert one.per_minute == 40 * MIB
    assert one.document()["per_minute_bytes"] == 40 * MIB and one.document()["a_bytes"] == 10 * MIB


@pytest.mark.parametrize(
    ("name", "before", "after", "differs"),
    [
        ("rss", 100 * MIB, 105 * MIB, False), ("rss", 100 * MIB, 120 * MIB, True),
        ("rss", 1000, 500_000, False),
        ("fds", 10, 12, False), ("fds", 10, 13, True), ("fds", 1000, 1090, False),
        ("restarts of app", 0, 1, True), ("oom kills", 3, 3, False),
    ],
)  # fmt: skip
def test_numbers_breathe(name: str, before: float, after: float, differs: bool) -> None:
    assert bool(differences(made("a", **{name: before}), made("b", **{name: after}))) is differs
    assert bool(differences(made("b", **{name: after}), made("a", **{name: before}))) is differs


def test_variables_that_came_went_and_changed() -> None:
    a = environ(Facts("a"), SAME="1", OLD="2", DB_PASSWORD="one", LEVEL="info")
    b = environ(Facts("b"), SAME="1", NEW="3", DB_PASSWORD="two", LEVEL="debug")
    found = compare(a, b)
    told = [(one.change, one.what, one.before, one.after) for one in found.differences]
    assert told == [
        ("removed", "OLD", "2", ""), ("added", "NEW", "", "3"),
        ("changed", "DB_PASSWORD", "***", "***"), ("changed", "LEVEL", "info", "debug"),
    ]  # fmt: skip


def test_tokens_of_one_key_are_compared() -> None:
    a, b = environ(Facts("a"), KEPT=A, TOKEN=A), environ(Facts("b"), KEPT=A, TOKEN=B)
    assert differences(a, b) == [("env", "changed", "TOKEN")] and compare(a, b).not_compared == []


@pytest.mark.parametrize("now", [B, "plain"])
def test_tokens_of_two_keys_or_of_none_are_not(now: str) -> None:
    a, b = environ(Facts("a"), TOKEN=A, LEVEL="info"), environ(Facts("b"), TOKEN=now, LEVEL="debug")
    found = compare(a, b)
    assert [one.what for one in found.differences] == ["LEVEL"]
    assert [what for what, _ in found.not_compared] == ["env TOKEN"]


def test_what_is_missing_is_no_difference() -> None:
    a, b = (
        environ(Facts("a"), X="1"),
        Facts("b", missing={f.ENV: "the bundle does not hold it", f.FILES: "no"}),
    )
    a.put(f.MODIFIED, "/etc/a", "then")
    found = compare(a, b)
    assert found.differences == [] and [what for what, _ in found.not_compared] == ["env", "files"]


def process(pid: int, command: str, **fields: Any) -> Process:
    given = {"rss_bytes": MIB, "threads": 1, "fds": 5} | fields
    return Process(
        pid, 1, 0, "app", "S", vsize_bytes=0, cpu_seconds=0, started_at=0, cmdline=(command,), **given
    )


def test_processes_are_known_by_what_they_run() -> None:
    a, b = Facts("a"), Facts("b")
    f.add_processes(
        a, [process(1, "server"), process(2, "worker"), process(3, "worker"), process(4, "old")]
    )
    f.add_processes(b, [process(11, "server", fds=90), process(12, "worker"), process(13, "new")])
    assert differences(a, b) == [
        ("processes", "removed", "old"), ("processes", "added", "new"),
        ("processes", "changed", "server: fds"), ("processes", "changed", "worker: processes"),
        ("processes", "changed", "worker: fds"),
    ]  # fmt: skip


def test_sockets_and_descriptors_by_what_they_are() -> None:
    a, b = Facts("a"), Facts("b")
    listener = Socket("inet", "tcp", "0.0.0.0:80", "0.0.0.0:0", "LISTEN", 1)
    incoming = Socket("inet", "tcp", "10.0.0.1:80", "10.0.0.9:41000", "ESTAB", 2)
    outgoing = [
        Socket("inet", "tcp", f"10.0.0.1:{40000 + n}", "10.0.0.5:5432", "ESTAB", n) for n in range(9)
    ]
    f.add_sockets(a, [listener, incoming])
    f.add_sockets(b, [incoming, *outgoing])
    f.add_fds(a, [FdInfo(3, "file", "/data/log")])
    f.add_fds(b, [FdInfo(n, "file", "/tmp/x (deleted)", deleted=True) for n in range(5)])
    assert differences(a, b) == [
        ("fds", "removed", "/data/log"), ("fds", "changed", "file, deleted"),
        ("sockets", "removed", "tcp LISTEN 0.0.0.0:80"),
        ("sockets", "changed", "tcp to 10.0.0.5:5432"), ("sockets", "changed", "tcp ESTAB"),
    ]  # fmt: skip


# The odd one


def odd(*replicas: Facts) -> list[tuple[str, str]]:
    return [(one.label, one.what) for one in odd_ones(replicas)[0]]


def test_the_one_that_leaks(seed: int) -> None:
    chance = random.Random(seed)
    replicas = [
        made(f"web-{n}", rss=chance.uniform(95, 105) * MIB, fds=chance.randint(18, 22)) for n in range(9)
    ]
    assert odd(*replicas) == []
    leaking = made("leak", rss=400 * MIB, fds=20)
    place = chance.randrange(9)
    assert odd(*replicas[:place], leaking, *replicas[place:]) == [("leak", "rss")]
    (finding,) = odd_ones([*replicas, leaking])[0]
    assert finding.score is not None and finding.score > 3.5 and finding.value == "400.0M"


def test_two_that_are_odd_hide_neither() -> None:
    replicas = [made(f"w{n}", rss=100 * MIB) for n in range(5)]
    assert odd(*replicas, made("x", rss=400 * MIB), made("y", rss=500 * MIB)) == [
        ("x", "rss"),
        ("y", "rss"),
    ]


def test_wide_spread_makes_nothing_odd() -> None:
    assert odd(*[made(f"w{n}", rss=n * 50 * MIB) for n in range(1, 9)]) == []


def test_one_restart_among_none() -> None:
    replicas = [made(f"w{n}", **{"restarts of app": 1.0 if n == 2 else 0.0}) for n in range(4)]
    assert odd(*replicas) == [("w2", "restarts of app")]


def test_of_two_the_larger_is_told() -> None:
    assert odd(made("a", rss=10 * MIB), made("b", rss=90 * MIB)) == [("b", "rss")]


def test_texts_by_majority() -> None:
    replicas = [environ(Facts(f"w{n}"), LEVEL="info", ID=f"{n}") for n in range(3)]
    replicas[1].texts[f.ENV]["LEVEL"] = f.Text("debug")
    replicas[2].put(f.ENV, "EXTRA", "1")
    (level, extra), lacking = odd_ones(replicas)
    assert (level.label, level.what, level.value, level.others) == (
        "w1",
        "LEVEL",
        "debug",
        "info in 2 of 3",
    )
    assert (extra.label, extra.what, extra.others) == ("w2", "EXTRA", "none in 2 of 3") and lacking == []


def test_its_own_name_is_no_difference() -> None:
    replicas = []
    for number in range(3):
        name = f"web-7d9f-{number}"
        facts = Facts(name, names=((name, "<pod>"), (f"10.0.0.{number}", "<ip>")))
        environ(facts, HOSTNAME=name if number else "other", URL=f"http://10.0.0.{number}/{name}")
        f.add_sockets(facts, [Socket("inet", "tcp", f"10.0.0.{number}:80", "", "LISTEN", 1)])
        replicas.append(facts)
    assert odd(*replicas) == [("web-7d9f-0", "HOSTNAME")]


def test_no_majority_is_told_once() -> None:
    replicas = [environ(Facts(f"w{n}"), LEVEL="info" if n % 2 else "debug") for n in range(4)]
    (one,) = odd_ones(replicas)[0]
    assert one.label == "" and one.others == "no majority" and "2 with info" in one.value


def test_tokens_of_keys_of_their_own_say_nothing() -> None:
    tokens = [f"[REDACTED:env:0000000{n}]" for n in range(3)]
    assert odd(*[environ(Facts(f"w{n}"), TOKEN=tokens[n], EQUAL=tokens[n]) for n in range(3)]) == []
    shared = [environ(Facts(f"w{n}"), TOKEN=tokens[0 if n else 1]) for n in range(3)]
    assert odd(*shared) == [("w0", "TOKEN")]


def test_many_findings_are_bounded() -> None:
    replicas = [Facts(f"w{n}") for n in range(3)]
    for number in range(100):
        replicas[0].put(f.FILES, f"/etc/{number}", "file")
    found, _ = odd_ones(replicas)
    assert len(found) == MAX_OF_SECTION + 1 and found[-1].what == f"{100 - MAX_OF_SECTION} more findings"


def test_one_that_could_not_be_read_is_left_out() -> None:
    replicas = [environ(Facts(f"w{n}"), LEVEL="info") for n in range(3)]
    replicas[0] = Facts("w0", missing={f.ENV: "refused"})
    assert odd_ones(replicas) == ([], [("env of w0", "refused")])


# Captures of real processes

HOG = """
import os, sys
kept = b"x" * int(sys.argv[1]) * 2**20
files = [open("/dev/null") for _ in range(int(sys.argv[2]))]
print("ready", flush=True)
sys.stdin.read()
"""
Start = Callable[..., str]


@pytest.fixture
def start() -> Iterator[Start]:
    """Runs a process that holds so many MiB and descriptors; its target expression."""
    running: list[subprocess.Popen[str]] = []

    def run(mebibytes: int, files: int, **variables: str) -> str:
        command = [sys.executable, "-c", HOG, str(mebibytes), str(files)]
        pipe = subprocess.PIPE
        made = subprocess.Popen(command, stdin=pipe, stdout=pipe, env={"A": "1", **variables}, text=True)
        running.append(made)
        assert made.stdout is not None and made.stdout.readline()
        return f"local:{made.pid}"

    yield run
    for process in running:
        process.kill()
        process.wait()


def taken(expression: str, path: Path) -> str:
    assert kdebug(["capture", expression, "-r", "quick", "--output", str(path)]) == 0
    return str(path)


def test_diff_of_captures_and_of_now(
    start: Start, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    small = start(1, 1, DB_PASSWORD="hunter2-planted", FLAG="off")
    large = start(50, 40, DB_PASSWORD="hunter2-planted", FLAG="on")
    one, other = taken(small, tmp_path / "a"), taken(large, tmp_path / "b")
    capfd.readouterr()
    assert kdebug(["diff", one, one]) == 0 and capfd.readouterr().out == ""
    for after in (other, large):
        assert kdebug(["diff", one, after, "-o", "json"]) == 1
        said = capfd.readouterr()
        found = {(row["section"], row["what"]): row for row in json.loads(said.out)["differences"]}
        assert found["env", "FLAG"]["a"] == "off" and found["env", "FLAG"]["b"] == "on"
        assert found["target", "fds"]["b"] - found["target", "fds"]["a"] >= 39
        assert found["target", "rss"]["b_bytes"] - found["target", "rss"]["a_bytes"] > 40 * MIB
        assert ("env", "DB_PASSWORD") not in found and "env DB_PASSWORD" in said.err
        assert "hunter2" not in said.out + said.err


def test_diff_tells_trouble_apart(start: Start, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"no bundle at all" * 100)
    target = start(1, 1)
    assert kdebug(["diff", str(broken), target]) == 2 and "no bundle" in capfd.readouterr().err
    assert kdebug(["diff", target, "local:999999999"]) == 4
    assert kdebug(["diff", target]) == 2
    assert kdebug(["compare", str(tmp_path)]) == 2 and "no bundle" in capfd.readouterr().err
    assert kdebug(["compare", target]) == 2 and "no replicas" in capfd.readouterr().err
    assert kdebug(["compare", taken(target, tmp_path / "a")]) == 2


def test_compare_finds_the_odd_capture(
    start: Start, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shapes = [(1, 1, "off"), (60, 1, "off"), (1, 1, "off")]
    for number, (memory, files, flag) in enumerate(shapes):
        expression = start(memory, files, FLAG=flag, DB_PASSWORD="hunter2-planted")
        taken(expression, tmp_path / f"w{number}.kdebug.tar.gz")
    capfd.readouterr()
    began = time.process_time()
    assert kdebug(["compare", str(tmp_path), "-o", "json"]) == 1
    assert time.process_time() - began < 10
    told = json.loads(capfd.readouterr().out)
    odd = [row for row in told["findings"] if row["section"] in (f.TARGET, f.ENV, f.LIMITS, f.FDS)]
    assert {row["replica"] for row in odd} == {"w1"} and "rss" in {row["what"] for row in odd}, odd
    assert [row["name"] for row in told["replicas"]] == ["w0", "w1", "w2"]
