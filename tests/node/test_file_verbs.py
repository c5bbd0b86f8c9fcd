"""The verbs on files over a real pod: what the host sees in the container's root is what they tell."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from pathlib import Path

import pytest

from .support import targets
from .support.cli import Kdebug
from .support.node import Node


@pytest.fixture
def root(node: Node, kdebug: Kdebug) -> tuple[str, Path]:
    """A restricted pod with a tree in it; its namespace and its root on the host."""
    namespace = node.namespace("restricted")
    node.run(targets.restricted("web"), namespace)
    place = node.rootfs(namespace, "web", "app")
    (place / "srv/logs/deep").mkdir(parents=True)
    (place / "srv/logs/app.log").write_text("".join(f"line {n} of the log\n" for n in range(1000)))
    (place / "srv/logs/deep/odd\n\x1b[1m").write_bytes(b"needle\n")
    (place / "srv/closed").mkdir(mode=0o700)
    (place / "srv/secret").write_text("x")
    (place / "srv/secret").chmod(0o640)
    os.chown(place / "srv/secret", 12, 34)
    (place / "srv/out").symlink_to("../../../../../../etc")
    return namespace, place


def test_verbs_on_a_pod(root: tuple[str, Path], kdebug: Kdebug) -> None:
    namespace, place = root
    at = ("-n", namespace)
    found = kdebug("find", "web:/srv", "-type", "f", "-o", "json", *at, code=1)
    entries = {row["path"] for row in found.json["entries"] if not row.get("error")}
    assert entries == {"/srv/logs/app.log", "/srv/logs/deep/odd\n\x1b[1m", "/srv/secret"}
    assert "/srv/closed: not entered: Permission denied (owner uid 0, gid 0, mode 0700)" in found.stderr
    matches = kdebug("grep", "-rn", "needle|line 999 ", "web:/srv/logs", "--namespace", namespace)
    assert set(matches.stdout.splitlines()) == {
        b"/srv/logs/deep/odd\\n\\x1b[1m:1:needle",
        b"/srv/logs/app.log:1000:line 999 of the log",
    }
    assert kdebug("tail", "-n", "1", "web:/srv/logs/app.log", *at).stdout == b"line 999 of the log\n"
    digest = hashlib.sha256((place / "srv/logs/app.log").read_bytes()).hexdigest()
    assert kdebug("checksum", "web:/srv/logs/app.log", *at).stdout.split()[0].decode() == digest
    usage = kdebug("du", "-s", "-b", "web:/srv/logs", *at).stdout.split()[0]
    assert int(usage) == int(
        subprocess.run(["du", "-sb", place / "srv/logs"], capture_output=True).stdout.split()[0]
    )
    assert b"out -> ../../../../../../etc" in kdebug("ls", "-l", "web:/srv", *at).stdout
    refused = kdebug("cat", "web:/srv/secret", *at, code=3)
    assert (
        "it takes uid 12 or gid 34, or DAC_READ_SEARCH" in refused.last_line
        and "ptrace" in refused.last_line
    )
    assert kdebug("tree", "web:/srv/logs", *at).stdout.endswith(b"1 directory, 2 files\n")


def test_tail_follows_a_log_of_a_pod(root: tuple[str, Path], kdebug: Kdebug) -> None:
    namespace, place = root
    log = place / "srv/logs/app.log"
    process = kdebug.start("tail", "-F", "-n", "1", "web:/srv/logs/app.log", "-n", namespace)
    assert process.stdout is not None and process.stderr is not None
    try:
        assert process.stdout.readline() == b"line 999 of the log\n"
        log.rename(place / "srv/logs/app.log.1")
        log.write_text("a new file\n")
        assert process.stdout.readline() == b"a new file\n"
        started = time.monotonic()
        process.send_signal(2)
        assert process.wait(timeout=20) == 130
        assert process.stderr.read().endswith(b"kdebug: interrupted\n")
        assert time.monotonic() - started < 20
    finally:
        process.kill()
        process.wait()
