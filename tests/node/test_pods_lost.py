"""What ends while somebody looks: the target, the stream, the server, the user's patience."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kdebug.errors import ConnectionLost
from kdebug.target import Target
from kdebug.target.reader import pieces

from .support import images, targets, toolboxes
from .support.cli import Kdebug
from .support.cluster import container_status, state
from .support.node import Node

Object = dict[str, Any]


@pytest.fixture(scope="module")
def place(started_node: Node) -> str:
    namespace = started_node.namespace()
    started_node.run(targets.root("web"), namespace)
    return namespace


def first_lines(client: subprocess.Popen[bytes], count: int) -> None:
    """Wait until it has printed so much."""
    assert client.stdout is not None
    for _ in range(count):
        assert client.stdout.readline()


def test_target_ends_while_attached(node: Node, kdebug: Kdebug, place: str) -> None:
    """137 in the toolbox: its first process was the namespace's. The new instance is offered."""
    node.run(targets.root("mortal"), place)
    client = kdebug.start("top", "mortal", "--iterations", "90", "-n", place)
    first_lines(client, 2)
    before = container_status(node.pod(place, "mortal"), "app")["containerID"]
    # It learns of the end when the next instance runs already, and the status has the end as the last one.
    client.send_signal(signal.SIGSTOP)
    os.kill(node.container_pids(place, "mortal", "app")[0], signal.SIGKILL)
    node.wait(
        place,
        "mortal",
        lambda pod: (
            "running" in state(pod, "app") and container_status(pod, "app")["containerID"] != before
        ),
    )
    client.send_signal(signal.SIGCONT)
    _, stderr = client.communicate(timeout=30)
    assert client.returncode == 6, stderr
    last = stderr.decode().splitlines()[-1]
    assert last.startswith(f"kdebug: the container app of {place}/mortal has ended"), last
    assert "exit code 137" in last
    assert last.endswith("a new instance runs: run the command again to attach to it"), last
    done = kdebug("ps", "mortal", "-n", place)
    assert "added the ephemeral container" in done.stderr


def test_target_ends_and_stays_down(node: Node, kdebug: Kdebug, place: str) -> None:
    node.set_backoff(restart=60)
    app = targets.container("app", "root", "--exit-after", "12", "--code", "9")
    node.apply(targets.pod("down", app), place)
    node.wait(place, "down", lambda pod: container_status(pod, "app").get("restartCount") == 1, 60)
    client = kdebug.start("top", "down", "--wait", "--iterations", "90", "-n", place)
    _, stderr = client.communicate(timeout=60)
    last = stderr.decode().splitlines()[-1]
    assert client.returncode == 6 and "has ended while it was looked at: exit code 9" in last, last
    assert last.endswith("`--wait` attaches when it starts again")


def test_pod_is_deleted_while_attached(node: Node, kdebug: Kdebug, place: str) -> None:
    node.run(targets.root("deleted"), place)
    client = kdebug.start("top", "deleted", "--iterations", "90", "-n", place)
    first_lines(client, 2)
    node.delete_pod(place, "deleted", 0)
    _, stderr = client.communicate(timeout=30)
    assert client.returncode == 6
    last = stderr.decode().splitlines()[-1]
    assert last == f"kdebug: the pod {place}/deleted is gone: it was deleted", stderr


def test_stream_is_cut_between_requests(node: Node, place: str) -> None:
    """The same toolbox is entered again, without a word from the user."""
    asyncio.run(_cut_between(node, place))
    assert len(toolboxes.toolboxes(node.pod(place, "web"))) == 1


async def _cut_between(node: Node, place: str) -> None:
    async with toolboxes.opened(node, place, "web") as target:
        for _ in range(3):
            assert await asyncio.to_thread(node.cut_streams) == 1
            assert "data" in [entry.name for entry in (await target.list_dir("/")).entries]


def test_file_that_is_cut_goes_on_at_its_byte(node: Node, kdebug: Kdebug, place: str) -> None:
    """Each stream ends early, and the next one reads the same file on: nothing is missing or doubled."""
    kdebug("ps", "web", "-n", place)
    node.faults.cut_after_bytes = 20_000_000
    done = kdebug("cat", "web:/data/blob.bin", "-n", place)
    assert done.stdout == images.blob() and done.stderr == ""


def test_file_that_is_cut_at_once_says_how_much_came(node: Node, kdebug: Kdebug, place: str) -> None:
    """Where no piece comes through, it is not tried for ever, and the exit code tells."""
    kdebug("ps", "web", "-n", place)
    node.faults.cut_after_bytes = 500_000
    client = kdebug.start("cat", "web:/data/blob.bin", "-n", place)
    stdout, stderr = client.communicate(timeout=60)
    assert client.returncode == 6
    assert images.blob().startswith(stdout) and len(stdout) < 20_000_000
    assert stderr.decode().splitlines()[-1].startswith("kdebug: the connection to the agent is lost")


@contextmanager
def server_down(node: Node) -> Iterator[None]:
    node.stop_api()
    try:
        yield
    finally:
        node.start_api()


def test_server_is_restarted_between_requests(node: Node, place: str) -> None:
    asyncio.run(_restarted(node, place))


async def _restarted(node: Node, place: str) -> None:
    async with toolboxes.opened(node, place, "web") as target:
        await target.list_dir("/")
        await asyncio.to_thread(_restart, node)
        assert "data" in [entry.name for entry in (await target.list_dir("/")).entries]


def _restart(node: Node) -> None:
    with server_down(node):
        pass


def test_server_goes_away(node: Node, kdebug: Kdebug, place: str) -> None:
    kdebug("ps", "web", "-n", place)
    client = kdebug.start("top", "web", "--iterations", "90", "-n", place)
    first_lines(client, 2)
    with server_down(node):
        started = time.monotonic()
        _, stderr = client.communicate(timeout=30)
    assert client.returncode == 6 and time.monotonic() - started < 15
    last = stderr.decode().splitlines()[-1]
    assert "the connection to the agent is lost" in last and "cannot be reached" in last, last


def ready_to_be_interrupted(client: subprocess.Popen[bytes]) -> None:
    """Python has started, and kdebug's own first lines have run."""
    deadline = time.monotonic() + 20
    while "_asyncio" not in Path(f"/proc/{client.pid}/maps").read_text():
        assert time.monotonic() < deadline and client.poll() is None
        time.sleep(0.001)


def check_interrupted(client: subprocess.Popen[bytes]) -> None:
    stdout, stderr = client.communicate(timeout=20)
    text = stderr.decode()
    assert "Traceback" not in text and "Exception" not in text and "never retrieved" not in text, text
    assert all(line.startswith("kdebug: ") for line in text.splitlines()), text
    if client.returncode != 0:
        assert client.returncode == 130 and text.splitlines()[-1] == "kdebug: interrupted", text


INTERRUPTS = 12


def test_interrupt_at_any_moment(node: Node, kdebug: Kdebug, place: str, seed: int) -> None:
    """From the first import to the answer: one line, 130, and no toolbox that was not told."""
    chance = random.Random(seed)
    node.run(targets.root("stopped"), place)
    for number in range(INTERRUPTS):
        reason = ("--profile", "ptrace") if number % 2 else ()
        client = kdebug.start("ps", "stopped", *reason, "--idle", "1", "-n", place)
        ready_to_be_interrupted(client)
        time.sleep(chance.uniform(0, 0.8))
        client.send_signal(signal.SIGINT)
        check_interrupted(client)


def test_interrupted_attach_tells_what_it_added(node: Node, kdebug: Kdebug, place: str) -> None:
    node.run(targets.root("half-way"), place)
    client = kdebug.start("ps", "half-way", "-v", "--image", "registry.invalid/none:1", "-n", place)
    assert client.stderr is not None and b"adding kdebug-" in client.stderr.readline()
    node.wait(place, "half-way", toolboxes.toolboxes)
    (made,) = toolboxes.toolboxes(node.pod(place, "half-way"))
    client.send_signal(signal.SIGINT)
    _, stderr = client.communicate(timeout=20)
    if client.returncode == 130:
        assert stderr.decode().splitlines()[-1] == "kdebug: interrupted"
    assert f"the ephemeral container {made['name']} was added to {place}/half-way" in stderr.decode()


def test_interrupt_of_a_following_verb(node: Node, kdebug: Kdebug, place: str) -> None:
    for words in (("top", "web", "--iterations", "90"), ("logs", "-f", "web")):
        client = kdebug.start(*words, "-n", place)
        first_lines(client, 1)
        client.send_signal(signal.SIGINT)
        check_interrupted(client)
        assert client.returncode == 130


CUTS = 50


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_streams_cut_at_random(node: Node, place: str, seed: int) -> None:
    """Every request of a mixed load is right, or is lost in so many words."""
    chance, stop = random.Random(seed), threading.Event()
    thread = threading.Thread(target=_cut_at_random, args=(node, chance, stop))
    thread.start()
    try:
        counts = asyncio.run(_mixed_load(node, place, stop))
    finally:
        stop.set()
        thread.join()
    print(counts)
    assert counts["right"] > CUTS and thread.is_alive() is False


def _cut_at_random(node: Node, chance: random.Random, stop: threading.Event) -> None:
    cut = 0
    while cut < CUTS and not stop.wait(chance.uniform(0.02, 0.8)):
        cut += bool(node.cut_streams())
    stop.set()


async def _mixed_load(node: Node, place: str, stop: threading.Event) -> dict[str, int]:
    counts = {"right": 0, "lost": 0}
    digest = hashlib.sha256(images.blob()[: 8 << 20]).digest()
    async with toolboxes.opened(node, place, "web") as target:
        questions = (_right_listing, _right_processes, _right_file(digest), _right_sockets)
        workers = [_worker(target, question, counts, stop) for question in questions]
        await asyncio.gather(*workers)
    assert len(toolboxes.toolboxes(node.pod(place, "web"))) == 1
    return counts


Question = Callable[[Target], Any]


async def _worker(target: Target, ask: Question, counts: dict[str, int], stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            await ask(target)
            counts["right"] += 1
        except ConnectionLost as error:
            assert error.exit_code == 6 and "\n" not in str(error)
            counts["lost"] += 1


async def _right_listing(target: Target) -> None:
    assert {"app", "data", "etc"} <= {entry.name for entry in (await target.list_dir("/")).entries}


async def _right_processes(target: Target) -> None:
    assert any(one.name == "app" and one.pid == 1 for one in (await target.processes()).items)


async def _right_sockets(target: Target) -> None:
    assert any(one.local == "0.0.0.0:8080" for one in (await target.sockets()).items)


def _right_file(expected: bytes) -> Question:
    async def ask(target: Target) -> None:
        digest, size = hashlib.sha256(), 0
        async for chunk in pieces(target, "/data/blob.bin"):
            data = chunk.data[: (8 << 20) - size]
            digest.update(data)
            size += len(data)
            if size == 8 << 20:
                break
        assert digest.digest() == expected

    return ask
