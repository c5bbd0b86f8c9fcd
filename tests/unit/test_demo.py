"""The practice target: its faults are real, its root has no shell, and nothing of it stays."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from conftest import needs_root
from kdebug.demo import AS_ROOT, PLAIN, USER_NAMESPACE, DemoTarget, start_demo


def workload(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [pid, *children]


def until(condition: object, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "the condition did not come"
        time.sleep(0.02)


def all_gone(pids: list[int]) -> bool:
    return not any(os.path.exists(f"/proc/{pid}") for pid in pids)


@pytest.mark.parametrize("isolation", [USER_NAMESPACE, pytest.param(AS_ROOT, marks=needs_root)])
def test_faults_are_planted(isolation: str) -> None:
    with start_demo(isolation=isolation) as demo:
        root = Path(f"/proc/{demo.pid}/root")
        names = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in workload(demo.pid)}
        assert names == {"server", "worker-0", "worker-1", "worker-leak", "client"}
        links = [os.readlink(f"/proc/{demo.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{demo.pid}/fd")]
        assert "/tmp/upload-7f3a.tmp (deleted)" in links
        states = {
            line.split()[3] for line in Path(f"/proc/{demo.pid}/net/tcp").read_text().splitlines()[1:]
        }
        assert "08" in states and "0A" in states
        assert os.readlink(root / "etc/app/config.yaml").startswith("/etc/app/current")
        assert b"DB_PASSWORD=" in Path(f"/proc/{demo.pid}/environ").read_bytes()
        assert b"PATH=" not in Path(f"/proc/{demo.pid}/environ").read_bytes()
        programs = [
            str(path)
            for path in root.rglob("*")
            if path.name in ("sh", "bash", "busybox", "python3") and "proc" not in path.parts[3:5]
        ]
        assert programs == []
        status = Path(f"/proc/{demo.pid}/status").read_text()
        assert "CapEff:\t0000000000000000" in status and "NoNewPrivs:\t1" in status
        for kind in ("pid", "mnt", "net"):
            assert os.readlink(f"/proc/{demo.pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
        log = root / "var/log/app/app.log"
        first = log.stat().st_size
        until(lambda: log.stat().st_size > first)
        leak = next(
            pid for pid in workload(demo.pid) if Path(f"/proc/{pid}/comm").read_text() == "worker-leak\n"
        )
        before = int(Path(f"/proc/{leak}/statm").read_text().split()[1])
        until(lambda: int(Path(f"/proc/{leak}/statm").read_text().split()[1]) > before)


def test_it_ends_when_it_is_stopped() -> None:
    demo = start_demo()
    pids = [demo.process.pid, *workload(demo.pid)]
    demo.stop()
    until(lambda: all_gone(pids))


@pytest.mark.parametrize("isolation", [USER_NAMESPACE, PLAIN])
def test_it_ends_when_its_starter_is_killed(isolation: str, tmp_path: Path) -> None:
    script = (
        f"from kdebug.demo import start_demo; d = start_demo(isolation={isolation!r})\n"
        "print(d.process.pid, d.pid, flush=True); input()"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": "src", "TMPDIR": str(tmp_path)},
    )
    assert starter.stdout is not None
    launcher, pid = map(int, starter.stdout.readline().split())
    pids = [launcher, *workload(pid)]
    starter.send_signal(signal.SIGKILL)
    starter.communicate()
    until(lambda: all_gone(pids))
    assert list(tmp_path.iterdir()) == []


@needs_root
def test_an_ordinary_user_can_start_it_and_look_into_it() -> None:
    """With the system's interpreter and a copy of the sources: this checkout may be closed to others."""
    script = (
        "import os; from kdebug.demo import start_demo\n"
        "with start_demo() as d:\n"
        "    proc = f'/proc/{d.pid}'\n"
        "    print(sorted(os.listdir(f'{proc}/root')), len(os.listdir(f'{proc}/fd')) > 3)"
    )
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        shutil.copytree("src/kdebug", f"{folder}/kdebug", ignore=shutil.ignore_patterns("__pycache__"))
        for path in Path(folder).rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        done = subprocess.run(
            ["/usr/bin/python3", "-B", "-c", script],
            capture_output=True,
            text=True,
            user=4242,
            group=4242,
            extra_groups=[],
            cwd="/",
            timeout=60,
            env={"PYTHONPATH": folder},
        )
    assert done.returncode == 0, done.stderr
    assert "app" in done.stdout and "True" in done.stdout


def test_five_at_once() -> None:
    demos: list[DemoTarget] = []
    try:
        demos += [start_demo() for _ in range(5)]
        assert len({demo.pid for demo in demos}) == 5
    finally:
        for demo in demos:
            demo.stop()


def test_the_demo_command_names_the_faults() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kdebug.cli.main", "demo"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    for fact in (
        "CLOSE-WAIT",
        "/tmp/upload-7f3a.tmp",
        "worker-leak",
        "/srv/releases/42/config.yaml",
        "DB_PASSWORD",
    ):
        assert fact in done.stdout
    assert "practice-not-a-secret" not in done.stdout
