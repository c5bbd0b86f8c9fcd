"""Watches of real pods: a leak, a spike, a restart, lines of a log; and replicas of which one is odd."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kdebug.capture.reader import BundleReader

from .support import images, targets
from .support.cli import Kdebug
from .support.node import Node

LIMIT = 128
"""MiB, of which the program takes about 10."""
PROGRAM = """
import os, time
kept = []
while True:
    if not os.path.exists("/take"):
        kept.clear()
    elif len(kept) < 80:
        kept.append(b"x" * 2**20)
    time.sleep(0.02)
"""
"""Takes 80 MiB in two seconds while there is a file /take, and gives them back when it is gone."""


def leaking(name: str) -> targets.Object:
    limits = {"memory": f"{LIMIT}Mi", "cpu": "1"}
    container = {
        "name": "app", "image": images.PYTHON, "command": ["python3", "-c", PROGRAM],
        "resources": {"limits": limits, "requests": limits},
    }  # fmt: skip
    return targets.pod(name, container)


@pytest.fixture(scope="module")
def place(started_node: Node) -> str:
    return started_node.namespace()


class Watching:
    """A watch that runs, by its JSON lines."""

    def __init__(self, client: subprocess.Popen[bytes]) -> None:
        self.client = client
        self.seen: list[dict[str, Any]] = []

    def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next line that is wanted; the test's own deadline ends a watch that never tells it."""
        assert self.client.stdout is not None
        for line in self.client.stdout:
            self.seen.append(json.loads(line))
            if wanted(self.seen[-1]):
                return self.seen[-1]
        assert self.client.stderr is not None
        raise AssertionError(f"{self.seen[-5:]} {self.client.stderr.read().decode()}")

    def event(self, kind: str) -> dict[str, Any]:
        return self.until(lambda row: row["event"] == kind)

    def kinds(self) -> list[str]:
        return [row["event"] for row in self.seen if row["event"] != "sample"]


@contextmanager
def watching(kdebug: Kdebug, *words: str) -> Iterator[Watching]:
    client = kdebug.start("watch", *words, "-o", "json", "--every", "500ms", "--do", "capture:quick")
    try:
        yield Watching(client)
    finally:
        client.kill()
        client.wait()


def holds(row: dict[str, Any]) -> bool:
    return row["event"] == "sample" and row["conditions"][0]["holds"]


def test_a_leak_fires_once_with_what_was_before(
    node: Node, kdebug: Kdebug, place: str, tmp_path: Path
) -> None:
    node.run(leaking("leak"), place)
    rootfs = node.rootfs(place, "leak", "app")
    words = ["leak", "-n", place, "--when", "rss > 50% of limit for 2s", "--output", str(tmp_path / "w")]
    with watching(kdebug, *words) as watch:
        watch.until(lambda row: row.get("rss", 0) > 0)
        (rootfs / "take").touch()
        fired = watch.event("fired")
        captured = watch.event("captured")
        for _ in range(4):
            assert holds(watch.event("sample"))  # it still leaks, and is quiet for its cooldown
        watch.client.send_signal(signal.SIGINT)
        assert watch.client.wait(30) == 130
    assert fired["condition"] == "rss > 50% of limit for 2s" and f"of {LIMIT}.0M" in fired["values"]
    assert watch.kinds() == ["watching", "fired", "captured"]
    assert os.listdir(tmp_path / "w") == [os.path.basename(captured["bundle"])]
    with BundleReader(captured["bundle"]) as bundle:
        assert bundle.verify() == []
        account = bundle.json("watch.json")
        processes = [name for name in bundle.members if name.startswith("target/processes")]
        assert bundle.json("manifest.json")["status"] == "complete"
    rss = [row["rss"] / 2**20 for row in account["samples"] if "rss" in row]
    assert rss[0] < LIMIT / 2 < rss[-1], rss
    assert 2 <= account["held_seconds"] < 15
    assert len(processes) > len(rss), "the answers of the black box are there, beside the capture's own"
    offline = kdebug("watch", f"bundle:{captured['bundle']}")
    assert offline.stdout.decode().startswith("rss > 50% of limit for 2s: rss ")


def test_a_spike_does_not_fire(node: Node, kdebug: Kdebug, place: str, tmp_path: Path) -> None:
    node.run(leaking("spike"), place)
    rootfs = node.rootfs(place, "spike", "app")
    words = ["spike", "-n", place, "--when", "rss > 50% of limit for 60s", "--output", str(tmp_path / "w")]
    with watching(kdebug, *words) as watch:
        watch.until(lambda row: row.get("rss", 0) > 0)
        (rootfs / "take").touch()
        watch.until(holds)
        (rootfs / "take").unlink()
        watch.until(lambda row: row["event"] == "sample" and not holds(row))
        watch.event("sample")
        watch.client.send_signal(signal.SIGINT)
        assert watch.client.wait(30) == 130
    assert watch.kinds() == ["watching"] and not (tmp_path / "w").exists()


def test_a_restart_is_survived_and_captured(node: Node, kdebug: Kdebug, place: str, tmp_path: Path) -> None:
    node.run(targets.root("mortal-watch"), place)
    words = ["mortal-watch", "-n", place, "--when", "restart", "--max", "2", "--cooldown", "0"]
    with watching(kdebug, *words, "--output", str(tmp_path / "w")) as watch:
        watch.until(lambda row: row.get("rss", 0) > 0)
        os.kill(node.container_pids(place, "mortal-watch", "app")[0], signal.SIGKILL)
        captured = watch.event("captured")
        watch.until(lambda row: row.get("rss", 0) > 0)
        kinds = watch.kinds()
    assert {"lost", "restarted", "attached", "fired"} <= set(kinds), kinds
    fired = next(row for row in watch.seen if row["event"] == "fired")
    assert "exit code 137" in fired["values"], fired
    with BundleReader(captured["bundle"]) as bundle:
        account = bundle.json("watch.json")
        assert bundle.verify() == []
    assert any("rss" in row for row in account["samples"]), "what was seen before it ended"
    assert any(note["text"].startswith("lost: ") for note in account["notes"])


def test_a_line_of_a_log(node: Node, kdebug: Kdebug, place: str, tmp_path: Path) -> None:
    saying = targets.container("app", "root", "--every", "300")
    node.run(targets.pod("talker", saying), place)
    words = ["talker", "-n", place, "--when", "log matches /tick [0-9]+/", "--max", "1"]
    with watching(kdebug, *words, "--output", str(tmp_path / "w")) as watch:
        fired = watch.event("fired")
        captured = watch.event("captured")
        assert captured["status"] == "complete", captured
        assert watch.client.wait(30) == 0
    assert fired["values"].startswith("log: tick ")


def test_logs_of_a_container_that_is_not_there(node: Node, kdebug: Kdebug, place: str) -> None:
    node.run(targets.root("quiet"), place)
    done = kdebug("watch", "quiet", "-n", place, "--when", "log of nobody matches x", code=2)
    assert "has no container nobody" in done.stderr


def test_the_odd_one_of_three(node: Node, kdebug: Kdebug, place: str, tmp_path: Path) -> None:
    for number in range(3):
        pod = targets.pod(f"same-{number}", targets.container("app", "root", env=[_variable("1")]))
        if number == 1:
            arguments = ("--memory", "40", "--deleted", "/tmp/gone")
            pod = targets.pod(
                f"same-{number}", targets.container("app", "root", *arguments, env=[_variable("2")])
            )
        pod["metadata"]["labels"] = {"app": "same"}
        node.run(pod, place)
    done = kdebug(
        "compare", "-l", "app=same", "-n", place, "-o", "json", "--output", str(tmp_path / "f"), code=1
    )
    findings = done.json["findings"]
    assert {row["replica"] for row in findings} == {"same-1"}, findings
    told = {(row["section"], row["what"]) for row in findings}
    assert {("target", "rss"), ("env", "FEATURE")} <= told, told
    again = kdebug("compare", str(tmp_path / "f"), "-o", "json", code=1).json
    assert again["findings"] == findings
    bundle = next(path for path in (tmp_path / "f").iterdir() if "same-1" in path.name)
    diff = kdebug("diff", str(bundle), f"bundle:{bundle}", "-o", "json")
    assert diff.json["differences"] == []
    live = kdebug.start("diff", str(bundle), "same-1", "-n", place, "-o", "json")
    stdout, _ = live.communicate(timeout=60)
    assert live.returncode in (0, 1)  # its numbers may have moved
    diff = json.loads(stdout)
    assert [row for row in diff["differences"] if row["section"] in ("env", "limits", "images")] == []


def _variable(value: str) -> dict[str, str]:
    return {"name": "FEATURE", "value": value}


def test_the_pod_is_deleted(node: Node, kdebug: Kdebug, place: str, tmp_path: Path) -> None:
    node.run(targets.root("leaving"), place)
    words = ["leaving", "-n", place, "--when", "rss > 10GiB", "--output", str(tmp_path / "w")]
    with watching(kdebug, *words) as watch:
        watch.until(lambda row: row.get("rss", 0) > 0)
        node.delete_pod(place, "leaving")
        assert watch.client.wait(60) == 4
