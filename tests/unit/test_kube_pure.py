"""The parts of `kube` that need no server: quantities, failures, stories, merged logs, times, `hold`."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdebug import settings
from kdebug.channel.delivery import HOLD_VARIABLE, hold_command, hold_program
from kdebug.errors import AccessDenied, Failed, UsageError
from kdebug.kube import backend, ephemeral, failures, headroom, logs, sessions, story
from kdebug.kube.api import ServerRefusal, refusal
from kdebug.kube.images import holds_agent
from kdebug.kube.ladder import Rung
from kdebug.kube.pods import Selected, choose_container
from kdebug.protocol.requests import FollowFile, ListProcesses, ReadFile, SendSignal
from kdebug.target.cluster import LogLine, LogQuery

Object = dict[str, Any]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0), ("128", 128), ("1k", 1000), ("1Ki", 1024), ("1.5Gi", 1.5 * 2**30), ("2M", 2e6),
        ("100m", 0.1),
        ("1e3", 1000), ("5E", 5e18), ("1Ei", 2**60), (" 7 ", 7), ("", None), ("x", None), ("Mi", None),
        ("1 Mi", 2**20), ("--1", None),
    ],
)  # fmt: skip
def test_quantities(text: str, expected: float | None) -> None:
    assert headroom.quantity(text) == expected


@given(st.integers(0, 10**6), st.sampled_from(["", "k", "M", "G", "Ki", "Mi", "Gi", "Ti"]))
def test_quantities_grow_with_their_numbers(number: int, unit: str) -> None:
    small, large = headroom.quantity(f"{number}{unit}"), headroom.quantity(f"{number + 1}{unit}")
    assert small is not None and large is not None and small < large


def status(state: Object, last: Object | None = None, name: str = "app") -> Object:
    return {"name": name, "state": state, "lastState": last or {}, "containerID": "containerd://abc"}


def pod(*statuses: Object, phase: str = "Running", **metadata: Any) -> Object:
    return {
        "metadata": {"name": "web", "namespace": "shop", "uid": "1", **metadata},
        "spec": {"containers": [{"name": "app"}, {"name": "side"}]},
        "status": {"phase": phase, "containerStatuses": list(statuses)},
    }


RUNNING = {"running": {"startedAt": "2024-01-01T00:00:05Z"}}
ENDED = {"terminated": {"exitCode": 3, "reason": "Error", "finishedAt": "2024-01-01T00:00:09Z"}}
BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off\n 10s"}}


def test_nothing_is_against_a_pod_that_runs() -> None:
    assert failures.reason_against(pod(status(RUNNING)), "app") is None


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (pod(phase="Pending"), "does not run; `--wait` attaches when it starts"),
        (pod(status({"waiting": {"reason": "ContainerCreating"}}), phase="Pending"), "ContainerCreating"),
        (
            pod(status(ENDED), phase="Succeeded"),
            "has ended (phase Succeeded): app: exit code 3 at 2024-01-01",
        ),
        (pod(phase="Failed"), "has ended (phase Failed)"),
        (pod(status(BACK_OFF, ENDED)), "CrashLoopBackOff: back-off 10s; it ended last with exit code 3 at"),
        (pod(status(ENDED)), "terminated; it ended last with exit code 3"),
        (
            pod(status(RUNNING), deletionTimestamp="2024-01-01T00:01:00Z"),
            "must be gone by 2024-01-01T00:01:00Z",
        ),
        (pod(status(RUNNING), annotations={failures.MIRROR: "x"}), "is a static pod"),
    ],
)
def test_what_is_against_it(found: Object, words: str) -> None:
    error = failures.reason_against(found, "app")
    assert error is not None and words in str(error) and "\n" not in str(error)


def test_a_pod_that_is_not_scheduled_says_why() -> None:
    found = pod(phase="Pending")
    message = "0/3 nodes are available: 3 Insufficient cpu."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    found["status"]["conditions"] = [condition]
    assert f"Unschedulable: {message}" in str(failures.reason_against(found, "app"))


def test_a_windows_node() -> None:
    assert "Windows" in str(failures.reason_against(pod(status(RUNNING)), "app", windows_node=True))
    windows = pod(status(RUNNING))
    windows["spec"]["os"] = {"name": "windows"}
    assert "Windows" in str(failures.reason_against(windows, "app"))


@pytest.mark.parametrize(
    ("state", "kind", "words", "climbs"),
    [
        ({"waiting": {"reason": "ErrImagePull", "message": "no"}}, Failed, "pulled: ErrImagePull", False),
        ({"waiting": {"reason": "InvalidImageName"}}, Failed, "cannot be pulled", False),
        (
            {"waiting": {"reason": "RunContainerError", "message": 'exec: "python3": file not found'}},
            Failed, "has no python3", False,
        ),
        (
            {"terminated": {"exitCode": 128, "message": 'exec: "python3": no such file or directory'}},
            Failed, "has no python3", False,
        ),
        (
            {"terminated": {"exitCode": 128, "reason": "StartError", "message": "runc: permission denied"}},
            AccessDenied, "does not start the toolbox kdebug-1: StartError: runc: permission denied", True,
        ),
        (
            {"terminated": {"exitCode": 128, "reason": "StartError", "message": "no space left on device"}},
            AccessDenied, "StartError: no space left on device", False,
        ),
        ({"terminated": {"exitCode": 137}}, Failed, "was killed: exit code 137", False),
        ({"terminated": {"exitCode": 1, "message": "hold: bad"}}, Failed, "has ended: exit code 1", False),
        (
            {"waiting": {"reason": "CreateContainerError", "message": "invalid target container: x"}},
            Failed, "cannot join app", False,
        ),
        (
            {"waiting": {"reason": "CreateContainerConfigError", "message": "has runAsNonRoot and"}},
            AccessDenied, "does not start the toolbox", True,
        ),
    ],
)  # fmt: skip
def test_toolboxes_that_do_not_start(state: Object, kind: type, words: str, climbs: bool) -> None:
    found = pod(status(RUNNING))
    found["status"]["ephemeralContainerStatuses"] = [status(state, name="kdebug-1")]
    with pytest.raises(failures.ToolboxFailed) as caught:
        failures.toolbox_state(found, "kdebug-1", "tools:1", "app")
    assert isinstance(caught.value.error, kind) and words in str(caught.value)
    assert caught.value.climb is climbs


@pytest.mark.parametrize("state", [{}, {"waiting": {"reason": "ContainerCreating"}}])
def test_toolboxes_that_may_still_start(state: Object) -> None:
    found = pod(status(RUNNING))
    found["status"]["ephemeralContainerStatuses"] = [status(state, name="kdebug-1")]
    assert failures.toolbox_state(found, "kdebug-1", "tools:1", "app") is False


def test_words_are_one_line_and_bounded() -> None:
    assert failures.words({"reason": "R", "message": "a\n  b"}) == "R: a b"
    assert len(failures.words({"message": "x" * 10_000})) == failures.MAX_WORDS


def selected() -> Selected:
    return Selected(pod(status(RUNNING)), "app")


def test_refusals_that_are_the_same_are_quoted_once() -> None:
    rungs = [Rung(name, {}, "") for name in ("match", "ptrace")]
    same = [(rung, ServerRefusal(403, "Forbidden", "no", {})) for rung in rungs]
    error = ephemeral.refused_error(same, selected())
    assert isinstance(error, AccessDenied)
    assert "shop/web: match, ptrace: no; " in str(error)
    different = [(rung, ServerRefusal(422, "Invalid", rung.name, {})) for rung in rungs]
    failed = ephemeral.refused_error(different, selected())
    assert failed.exit_code == 1 and failed.why == "match: match; ptrace: ptrace"


@pytest.mark.parametrize(
    ("code", "message", "exit_code", "step"),
    [
        (401, "Unauthorized", 3, "log in again"),
        (403, 'User "x" cannot get resource "pods"', 3, "`kdebug rbac`"),
        (403, 'admission webhook "x" denied the request', 3, ""),
        (403, "exceeded quota: small", 3, ""),
        (403, 'violates PodSecurity "restricted:latest"', 3, ""),
        (404, "not found", 4, ""),
        (504, "late", 5, ""),
        (500, "boom", 1, ""),
    ],
)
def test_refusals_have_exit_codes(code: int, message: str, exit_code: int, step: str) -> None:
    error = ServerRefusal(code, "", message, {}).explained("it failed")
    assert error.exit_code == exit_code and message in error.why
    assert error.next_step.startswith(step) and bool(error.next_step) is bool(step)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"kind":"Status","message":"no","reason":"Forbidden"}', "no"),
        (b"<html>\n Bad   Gateway</html>", "<html> Bad Gateway</html>"),
        (b"", "HTTP status 502"),
        (b"[1]", "[1]"),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_refusals_of_whatever_answers(body: bytes, message: str) -> None:
    assert refusal(502, body).message == message


def test_what_may_be_asked_again() -> None:
    assert backend.repeatable(ListProcesses()) and backend.repeatable(ReadFile("/x"))
    assert not backend.repeatable(ReadFile("/x", handle="h"))
    assert not backend.repeatable(ListProcesses(cursor="c"))
    assert not backend.repeatable(FollowFile("/x", handle="h"))
    assert not backend.repeatable(SendSignal(1, 2, 15))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("kdebug-toolbox", True),
        ("registry:5000/a/kdebug-toolbox:core", True),
        ("mirror/kdebug-toolbox-full@sha256:0", True),
        ("python:3.13-slim", False),
        ("kdebug-toolbox/python", False),
    ],
)
def test_images_that_hold_our_agent(image: str, expected: bool) -> None:
    assert holds_agent(image) is expected


def test_container_choice() -> None:
    notes: list[str] = []
    assert choose_container(pod(), "", notes) == "app"
    assert notes == ["the container is app; choose another with -c (side)"]
    annotated = pod(annotations={"kubectl.kubernetes.io/default-container": "side"})
    assert choose_container(annotated, "", notes) == "side" and len(notes) == 1
    vanished = pod(annotations={"kubectl.kubernetes.io/default-container": "gone"})
    assert choose_container(vanished, "", []) == "app"


async def lines(container: str, *stamps: str) -> AsyncIterator[LogLine]:
    for stamp in stamps:
        yield LogLine(container, stamp, stamp.encode())


@given(st.lists(st.lists(st.integers(0, 99).map("{:02}".format)).map(sorted), min_size=1, max_size=4))
def test_logs_are_merged_by_time(streams: list[list[str]]) -> None:
    async def merged() -> list[LogLine]:
        several = [lines(str(number), *stamps) for number, stamps in enumerate(streams)]
        return [line async for line in logs._by_time(several)]

    found = asyncio.run(merged())
    assert [line.at for line in found] == sorted(stamp for stamps in streams for stamp in stamps)
    for number, stamps in enumerate(streams):
        assert [line.at for line in found if line.container == str(number)] == stamps


def test_the_query_defaults_to_everything() -> None:
    assert LogQuery() == LogQuery(previous=False, follow=False, since_seconds=None, tail=None)


class Hold:
    """As much of a `Process` as `expiry` reads."""

    def __init__(self, *cmdline: str, started_at: float = 1000.0) -> None:
        self.cmdline, self.started_at = cmdline, started_at


def ends(now: float, ttl: float, longest: float, idle: float) -> str | None:
    options = ("--ttl", f"{ttl:g}", "--max-ttl", f"{longest:g}", "--idle", f"{idle:g}")
    hold: Any = Hold(*hold_command(*options))
    return sessions.expiry(hold, now)


@pytest.mark.parametrize(
    ("now", "ttl", "longest", "idle", "expected"),
    [
        (1000, 3600, 28800, 900, "1970-01-01T00:31:40Z"),  # idle from now
        (4500, 3600, 28800, 900, "1970-01-01T01:16:40Z"),  # the TTL before the idle time
        (9000, 3600, 28800, 900, "1970-01-01T02:30:00Z"),  # over its TTL: once this client has left
        (29500, 3600, 28800, 900, "1970-01-01T08:11:40Z"),
        (29500, 90000, 28800, 900, "1970-01-01T08:16:40Z"),  # the maximum in any case
    ],
)
def test_when_a_toolbox_ends(now: float, ttl: float, longest: float, idle: float, expected: str) -> None:
    assert ends(now, ttl, longest, idle) == expected


@pytest.mark.parametrize(
    "cmdline", [(), ("sleep", "9"), ("hold", "--ttl", "x", "--max-ttl", "1", "--idle", "1")]
)
def test_what_is_not_ours_has_no_end_that_we_know(cmdline: tuple[str, ...]) -> None:
    hold: Any = Hold(*cmdline)
    assert sessions.expiry(hold, 1000.0) is None


def test_sessions_promise_nothing() -> None:
    found = pod(status(RUNNING))
    made = {
        "name": "kdebug-1",
        "targetContainerName": "app",
        "image": "i",
        "env": [{"name": "KDEBUG_PROFILE"}],
    }
    row = sessions.session(found, made)
    assert (row.state, row.started_at, row.expires_at) == ("waiting", None, None)
    found["status"]["ephemeralContainerStatuses"] = [status(ENDED, name="kdebug-1")]
    assert sessions.session(found, made).state == "terminated (Error)"


def test_changes_come_newest_first() -> None:
    found = pod(status(RUNNING, ENDED), creationTimestamp="2024-01-01T00:00:00Z")
    facts = story.pod_facts(found, None, None)
    event = {
        "type": "Warning", "reason": "Unhealthy", "message": "probe\nfailed", "count": 4,
        "lastTimestamp": "2024-01-01T00:00:07Z", "involvedObject": {"fieldPath": "spec.containers{app}"},
    }  # fmt: skip
    told = [(one.at[17:19], one.what) for one in story.changes(facts, [story.event_info(event)])]
    assert told == [
        ("09", "app ended"),
        ("07", "app: Unhealthy (4 times)"),
        ("05", "app started"),
        ("00", "the pod was created"),
    ]


@pytest.mark.parametrize(
    ("event", "at", "count"),
    [
        ({"eventTime": "2024-01-01T00:00:01Z"}, "2024-01-01T00:00:01Z", 1),
        ({"series": {"count": 9, "lastObservedTime": "2024-01-01T00:00:02Z"}}, "2024-01-01T00:00:02Z", 9),
        ({"metadata": {"creationTimestamp": "2024-01-01T00:00:03Z"}}, "2024-01-01T00:00:03Z", 1),
        ({}, "", 1),
    ],
)
def test_events_of_every_recorder(event: Object, at: str, count: int) -> None:
    found = story.event_info(event)
    assert (found.at, found.count, found.kind) == (at, count, "Normal")


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        (
            {"httpGet": {"port": 80}, "periodSeconds": 5},
            "GET / on port 80 every 5 s, failed after 3, timeout 1 s",
        ),
        ({"tcpSocket": {"port": "db"}}, "TCP port db every 10 s, failed after 3, timeout 1 s"),
        ({"exec": {"command": ["a", "b"]}}, "exec a b every 10 s, failed after 3, timeout 1 s"),
        ({"grpc": {"port": 7}}, "gRPC port 7 every 10 s, failed after 3, timeout 1 s"),
    ],
)
def test_probes_in_a_few_words(probe: Object, words: str) -> None:
    assert story.probe_text(probe) == words


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for key in settings.KEYS:
        monkeypatch.delenv(f"KDEBUG_{key.upper()}", raising=False)
    file = tmp_path / "kdebug/config.yaml"
    file.parent.mkdir()
    return file


def test_settings(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment before the file before what is built in, in the type of that."""
    assert settings.load().get("ttl", 5.0) == 5.0
    config.write_text("ttl: 60\nread_only: true\nimage: mirror/python:3\n")
    loaded = settings.load()
    assert (loaded.get("ttl", 5.0), loaded.get("read_only", False)) == (60.0, True)
    monkeypatch.setenv("KDEBUG_TTL", "7")
    monkeypatch.setenv("KDEBUG_IMAGE", "")
    assert (loaded.get("ttl", 5.0), loaded.get("image", "built-in")) == (7.0, "built-in")
    monkeypatch.setenv("KDEBUG_READ_ONLY", "no")
    assert loaded.get("read_only", False) is False


@pytest.mark.parametrize("text", ["[1]", "colour: red", "{", "ttl: [\n"])
def test_settings_that_are_none(config: Path, text: str) -> None:
    config.write_text(text)
    with pytest.raises(UsageError, match="config.yaml"):
        settings.load()


@pytest.mark.parametrize("raw", ["soon", "0", "-1", "inf", "nan"])
def test_a_time_in_the_settings_that_is_none(
    config: Path, monkeypatch: pytest.MonkeyPatch, raw: str
) -> None:
    monkeypatch.setenv("KDEBUG_TTL", raw)
    with pytest.raises(UsageError, match="ttl in "):
        settings.load().get("ttl", 5.0)


def pythons() -> list[str]:
    """Every python3 >= 3.9 at hand."""
    found = {sys.executable, *(shutil.which(f"python3.{minor}") or "" for minor in range(9, 16))}
    found |= {str(path) for path in Path.home().glob(".pyenv/versions/3.*/bin/python3")}
    question = "import sys; sys.exit(sys.version_info < (3, 9))"
    real = {os.path.realpath(path) for path in found if path and "shims" not in path}
    return sorted(path for path in real if subprocess.run([path, "-c", question]).returncode == 0)


@pytest.fixture(params=pythons())
def python(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def held(python: str, *arguments: str) -> subprocess.Popen[bytes]:
    """`hold` as a toolbox starts it, with nothing else in its environment."""
    environment = {HOLD_VARIABLE: hold_program()}
    argv = hold_command(*arguments, python=python)
    return subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE)


def test_hold_ends_in_time(python: str) -> None:
    """At its maximum in any case. Other processes of this machine may be in our cgroup: they count as
    attached, so TTL and idle time are for the test node."""
    started = time.monotonic()
    process = held(python, "--ttl", "0.2", "--max-ttl", "0.5", "--idle", "0.2")
    _, log = process.communicate(timeout=20)
    assert process.returncode == 0 and b"kdebug-hold: ended: " in log
    assert time.monotonic() - started >= 0.2


def test_hold_ends_when_asked(python: str) -> None:
    process = held(python, "--ttl", "60", "--max-ttl", "60", "--idle", "60")
    while not _catches(process.pid, signal.SIGTERM):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=20)
    assert process.returncode == 0 and b"kdebug-hold: ended: signal 15" in log


def _catches(pid: int, number: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(line.split()[1] for line in lines if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("arguments", [["--ttl"], ["--ttl", "x"], ["--ttl", "0"], ["--colour", "1"]])
def test_hold_refuses_nonsense(arguments: list[str]) -> None:
    process = held(sys.executable, *arguments)
    _, log = process.communicate(timeout=20)
    assert process.returncode == 2 and len(log.splitlines()) == 1
