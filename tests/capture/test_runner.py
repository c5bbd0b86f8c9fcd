"""Captures of real targets on this machine, and of those that break on the way."""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TypeVar

import pytest

from kdebug.capture import learning
from kdebug.capture.answers import Answer, RecordingBackend, opening
from kdebug.capture.earlier import Earlier
from kdebug.capture.offline import OfflineBackend
from kdebug.capture.reader import BundleReader
from kdebug.capture.recipe import Recipe, load_recipe, parse_recipe
from kdebug.capture.redact import Redactor
from kdebug.capture.redaction import NoRedaction
from kdebug.capture.runner import Capture, CaptureOptions, Result
from kdebug.errors import (
    AccessDenied,
    ConnectionLost,
    KdebugError,
    NotCaptured,
    NotFound,
    TargetEnded,
)
from kdebug.expression import parse
from kdebug.open import OpenOptions, open_target
from kdebug.protocol import codec
from kdebug.protocol import requests as ask
from kdebug.protocol.processes import ProcessPage
from kdebug.protocol.requests import Request
from kdebug.protocol.system import CgroupInfo, TargetInfo
from kdebug.target import Backend, Target

R = TypeVar("R")
PROGRAM = str(Path(sys.executable).with_name("kdebug"))


class Around:
    """A backend that does something before each request: fails, waits, or remembers the answer."""

    def __init__(self, inner: Backend, before: Callable[[Request[Any]], None]) -> None:
        self.inner, self.before = inner, before
        self.answers: list[tuple[Request[Any], Any]] = []

    async def send(self, request: Request[R]) -> R:
        self.before(request)
        try:
            answer = await self.inner.send(request)
        except KdebugError as error:
            self.answers.append((request, error))
            raise
        self.answers.append((request, answer))
        return answer

    async def close(self) -> None:
        await self.inner.close()


def recipe(text: str) -> Recipe:
    return parse_recipe(text, "r.yaml", {})


async def captured(
    path: Path,
    what: Recipe,
    before: Callable[[Request[Any]], None] = lambda request: None,
    expression: str = "demo:",
    **options: Any,
) -> tuple[Result, Around]:
    async with open_target(parse(expression), OpenOptions()) as live:
        backend = Around(live.backend, before)
        target = Target(backend, live.info, live.label)
        redaction = options.pop("redaction", NoRedaction())
        made = CaptureOptions(str(path), redaction, expression, **options)
        return await Capture(what, made, target).run(), backend


def opened(path: Path) -> tuple[BundleReader, Any]:
    bundle = BundleReader(str(path))
    assert bundle.verify() == []
    return bundle, bundle.json("manifest.json")


def lacking(told: Any) -> dict[str, str]:
    return {
        row["what"]: f"{row['outcome']}: {row['reason']}" for row in told["artifacts"] if not row["members"]
    }


# Whole captures


def test_offline_every_answer_of_standard_is_the_live_one(tmp_path: Path, run: asyncio.Runner) -> None:
    """Also the refusals. Of what was asked several times, the last answer counts."""
    path, standard = tmp_path / "b", load_recipe("standard")
    built_in = [load_recipe(name) for name in ("quick", "standard", "memory", "network", "full")]
    disk = [step for step in built_in[-1].steps if step.name == "disk"]
    result, live = run.run(captured(path, replace(standard, steps=(*standard.steps, *disk))))
    assert result.status == "complete", result.problems
    whole: dict[str, tuple[Request[Any], Any]] = {}
    rows: dict[str, list[Any]] = {}
    for request, answer in live.answers:
        if isinstance(request, (ask.ReadFile, ask.StatPath)) or request.name in ("find", "open"):
            continue
        plain = codec.to_plain(request) | {"cursor": ""}
        key = json.dumps([request.name, plain])
        field = next((n for n in ("items", "entries") if hasattr(answer, n)), None)
        if field and not isinstance(answer, KdebugError):
            rows.setdefault(key, [])
            if not getattr(request, "cursor", ""):
                rows[key] = []
            rows[key] += getattr(answer, field)
            end = {"cursor": ""} if hasattr(answer, "cursor") else {}
            answer = replace(answer, **{field: tuple(rows[key])}, **end)
        if key in whole and isinstance(request, ask.GetProcess):
            continue  # a look whether the target is still there
        whole[key] = (replace(request, cursor="") if hasattr(request, "cursor") else request, answer)

    async def compare() -> set[str]:
        seen = set()
        with BundleReader(str(path)) as bundle:
            backend = OfflineBackend(bundle)
            for request, answer in whole.values():
                if getattr(request, "limit", 1000) < 1000:
                    continue  # asked for the look before the capture
                if isinstance(request, ask.GetAgentInfo):
                    assert (await backend.send(request)).pid == answer.pid  # asked again for the cost
                    continue
                assert await backend.send(request) == answer, request
                seen.add(request.name)
        return seen

    asked = {request.name for one in built_in for step in one.steps for request in step.requests}
    names = {
        "access",
        "usage",
        "processes",
        "sockets",
        "network",
        "mounts",
        "cgroup",
        "deleted",
        "list-dir",
    }
    assert asked <= names | {"agent"}  # which is compared above by its pid
    assert run.run(compare()) == names | {"process", "fds", "environ", "limits", "maps"}


def test_files_are_the_very_bytes(tmp_path: Path, run: asyncio.Runner, seed: int) -> None:
    chance, data = random.Random(seed), {}
    place = tmp_path / "files"
    (place / "deep" / "er").mkdir(parents=True)
    for name, size in (("a.log", 0), ("b.log", 5), ("deep/c.log", 2_500_000), ("deep/er/d.log", 9_000_000)):
        data[name] = chance.randbytes(size)
        (place / name).write_bytes(data[name])
    with (place / "sparse.log").open("wb") as file:
        file.truncate(400_000)
        file.seek(400_000)
        file.write(b"end")
    (place / "link.log").symlink_to("b.log")
    (
        place / "odd\n\x1b\udcff.log".encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    ).write_text("odd")
    os.mkfifo(place / "pipe.log")
    what = recipe(
        f"steps:\n- files: ['{place}/**/*.log']\n  tail: 20MiB\n"
        f"- files: [{place}/deep/c.log]\n  name: again\n"
        f"- files: [{place}/pipe.log, {place}/nothing]\n  name: odd\n"
    )
    path = tmp_path / "b"
    result, _ = run.run(captured(path, what, expression=f"local:{os.getpid()}"))
    bundle, told = opened(path)
    assert result.status == "partial"  # the FIFO was named
    assert lacking(told)[f"file {place}/pipe.log"].startswith("failed: ")
    assert lacking(told)[f"file {place}/nothing"].startswith("missing: ")

    async def compare() -> None:
        backend = OfflineBackend(bundle)
        target = Target(backend, backend.info, "b")
        expected = {
            **data,
            "link.log": data["b.log"],
            "sparse.log": bytes(400_000) + b"end",
            "odd\n\x1b\udcff.log": b"odd",
        }
        for name, content in expected.items():
            got, at = b"", 0
            while True:
                chunk = await target.read(f"{place}/{name}", at)
                got, at = got + chunk.data, at + len(chunk.data)
                if chunk.eof:
                    break
            assert got == content, name
            live = os.stat(place / name)
            assert (await target.stat(f"{place}/{name}", follow=True)).entry.inode == live.st_ino

    run.run(compare())
    for name in bundle.members:
        assert name.isprintable() and ".." not in name.split("/")


def test_ends_of_files_and_bounds(tmp_path: Path, run: asyncio.Runner) -> None:
    place = tmp_path / "files"
    place.mkdir()
    for number in range(6):
        (place / f"{number}.log").write_bytes(bytes([65 + number]) * 100_000)
    what = recipe(
        f"steps:\n- files: [{place}/0.log]\n  head: 1000\n  name: a\n"
        f"- files: [{place}/1.log]\n  tail: 1000\n  name: b\n"
        f"- files: ['{place}/[2-5].log']\n  max_bytes: 250000\n  count: 3\n"
    )
    path = tmp_path / "b"
    run.run(captured(path, what, expression=f"local:{os.getpid()}"))
    bundle, told = opened(path)
    sizes = {row["path"].rpartition("/")[2]: row["taken_bytes"] for row in told["files"]}
    assert sizes == {"0.log": 1000, "1.log": 1000, "2.log": 100_000, "3.log": 100_000, "4.log": 50_000}
    assert any("more files" in what and "at most 3" in why for what, why in lacking(told).items())

    async def ends() -> None:
        backend = OfflineBackend(bundle)
        target = Target(backend, backend.info, "b")
        assert (await target.read(f"{place}/0.log")).data == b"A" * 1000
        with pytest.raises(NotCaptured, match="only bytes 0 to 1000 of 100000"):
            await target.read(f"{place}/0.log", 1000)
        with pytest.raises(NotCaptured, match="only bytes 99000 to 100000"):
            await target.read(f"{place}/1.log", 0)
        last = await target.read(f"{place}/1.log", 99_500)
        assert last.data == b"B" * 500 and last.eof and last.size_bytes == 100_000

    run.run(ends())


def test_conditions_and_the_order_of_what_is_asked(tmp_path: Path, run: asyncio.Runner) -> None:
    what = recipe(
        "steps:\n- files: [/etc/hosts]\n- facts: cgroup\n  name: s\n  samples: {every: 10ms, count: 2}\n"
        "- facts: mounts\n  when: {runtime: server}\n  name: those\n"
        "- facts: sockets\n  when: {runtime: java}\n"
        "- facts: network\n  when: {exists: /nonsense}\n- facts: deleted\n  when: {pod: true}\n"
        "- facts: access\n  when: {rung: ptrace}\n"
        "- facts: agent\n  when: {can: [maps, fds], exists: /etc}\n"
    )
    path = tmp_path / "b"
    result, live = run.run(captured(path, what))
    assert result.status == "complete"
    names = [request.name for request, _ in live.answers]
    assert names.index("environ") < names.index("mounts") < names.index("read")
    assert "sockets" not in names and "network" not in names and "deleted" not in names
    _, told = opened(path)
    reasons = [row["reason"] for row in told["artifacts"] if row["outcome"] == "not-tried"]
    assert len(reasons) == 4 and "no process of the target is called java" in reasons
    taken = {row["what"] for row in told["artifacts"] if row["members"]}
    assert {"mounts", "agent", "cgroup, sample 1", "cgroup, sample 2", "file /etc/hosts"} <= taken


def test_everything_passes_redaction(tmp_path: Path, run: asyncio.Runner) -> None:
    """Answers, names, reasons, files; what the places teach is known before a byte is written."""
    secret, order = "hunter2-hunter2", []

    class Mask(NoRedaction):
        def learn_document(self, document: Any, place: str = "") -> None:
            order.append("learn")

        def text(self, value: str, place: str = "text") -> str:
            return value.replace(secret, "MASKED")

        def document(self, document: Any, place: str = "document") -> Any:
            order.append("write")
            return json.loads(json.dumps(document).replace(secret, "MASKED"))

        def stream(self, name: str = "stream") -> Any:
            return Late()

        def report(self) -> dict[str, Any]:
            return {"masked": True}

    class Late:
        """Gives everything at the end, as one that looks ahead may."""

        held = b""

        def feed(self, data: bytes) -> bytes:
            self.held += data
            return b""

        def finish(self) -> bytes:
            return self.held.replace(secret.encode(), b"MASKED")

    place = tmp_path / f"dir-{secret}"
    place.mkdir()
    (place / f"{secret}.txt").write_text(f"a {secret} b")
    what = recipe(
        f"steps:\n- listings: [{place}, {place}/none]\n- files: ['{place}/*']\n"
        f"- files: [{place}/gone]\n  name: '{secret}'\n"
    )
    path = tmp_path / "b"
    run.run(captured(path, what, expression=f"local:{os.getpid()}", redaction=Mask()))
    bundle, told = opened(path)
    assert order[0] == "learn" and told["redactions"] == {"masked": True}
    for name in bundle.members:
        assert secret not in name and secret.encode() not in bundle.read(name), name
    assert b"a MASKED b" in b"".join(bundle.read(name) for name in bundle.members)


def test_a_password_behind_a_thousand_variables_is_known(tmp_path: Path, run: asyncio.Runner) -> None:
    """Variables of services come first; where the secret is written elsewhere, only its value tells."""
    secret = "qvltzkmwa-rbnhs"
    (tmp_path / "log").write_text(f"signed in, {secret}, ok\n")
    services = {f"SERVICE_{number}": "tcp" for number in range(ask.MAX_PAGE + 100)}
    process = subprocess.Popen(["sleep", "600"], env={**services, "DB_PASSWORD": secret})
    try:
        made = captured(
            tmp_path / "b",
            recipe(f"steps:\n- files: [{tmp_path}/log]\n"),
            expression=f"local:{process.pid}",
            redaction=Redactor(),
        )
        run.run(made)
    finally:
        process.kill()
        process.wait()
    bundle, _ = opened(tmp_path / "b")
    (line,) = [bundle.read(name) for name in bundle.members if name.endswith("/log")]
    assert line.startswith(b"signed in, ") and secret.encode() not in line


class Slow:
    """A backend that takes its time, counts the questions at once, and may say that memory is short."""

    def __init__(self, inner: Backend, free_bytes: int) -> None:
        self.inner, self.free_bytes = inner, free_bytes
        self.names: list[str] = []
        self.flying = self.most = 0

    async def send(self, request: Request[R]) -> R:
        self.names.append(request.name)
        self.flying += 1
        self.most = max(self.most, self.flying)
        try:
            await asyncio.sleep(0.01)
            answer = await self.inner.send(request)
        finally:
            self.flying -= 1
        if isinstance(answer, CgroupInfo):
            used = answer.memory_working_set_bytes or 0
            return replace(answer, memory_limit_bytes=used + self.free_bytes)
        return answer

    async def close(self) -> None:
        await self.inner.close()


@pytest.mark.parametrize("free_bytes, at_a_time", [(2**30, 4), (2**20, 1)])
def test_samples_are_taken_beside_everything_else(
    tmp_path: Path, run: asyncio.Runner, free_bytes: int, at_a_time: int
) -> None:
    """None waits for the hundred questions before it, and where memory is short none is a second one."""
    place = tmp_path / "many"
    for number in range(100):
        (place / str(number)).mkdir(parents=True)
    what = recipe(
        f"steps:\n- listings: [{place}]\n  depth: 1\n- files: ['{place}/**/*.log']\n"
        "- facts: cgroup\n  name: s\n  samples: {every: 1ms, count: 8}\n"
        "- facts: mounts\n  when: {exists: /etc}\n"
    )

    async def taken() -> Slow:
        async with open_target(parse(f"local:{os.getpid()}"), OpenOptions()) as live:
            slow = Slow(live.backend, free_bytes)
            made = CaptureOptions(str(tmp_path / "b"), NoRedaction(), "x")
            result = await Capture(what, made, Target(slow, live.info, live.label)).run()
            assert result.status == "complete", result.problems
            return slow

    slow = run.run(taken())
    samples = [at for at, name in enumerate(slow.names) if name == "cgroup"][
        1:
    ]  # the first: is there room?
    assert len(samples) == 8 and slow.most <= at_a_time, (samples, slow.most)
    assert samples[0] - slow.names.index("cgroup") < 20, slow.names
    assert all(later - sooner <= 9 for sooner, later in zip(samples, samples[1:])), slow.names
    listed = [at for at, name in enumerate(slow.names) if name == "list-dir"]
    assert samples[-1] < listed[-1] and len(listed) == 101


@pytest.fixture
def family() -> Iterator[list[int]]:
    """Children of this process."""
    children = [subprocess.Popen(["sleep", "600"]) for _ in range(4)]
    yield [child.pid for child in children]
    for child in children:
        child.kill()
        child.wait()


@pytest.mark.parametrize(
    "bound, size, notes",
    [
        (1000, 1000, []),
        (2, 1000, ["environments of * more processes * at most 2", "secret files * more than 2"]),
        (3, 5, ["environments of * more processes * at most 3", "3 secret files of more than 5 bytes"]),
    ],
)
def test_what_was_not_learned_is_told(
    tmp_path: Path,
    run: asyncio.Runner,
    monkeypatch: pytest.MonkeyPatch,
    family: list[int],
    bound: int,
    size: int,
    notes: list[str],
) -> None:
    place = tmp_path / "secrets"
    place.mkdir()
    for number in range(3):
        (place / f"key{number}").write_text(f"s3cretNumber{number}")
    monkeypatch.setattr(learning, "PLACES", (str(place),))
    monkeypatch.setattr(learning, "MAX_PROCESSES", bound)
    monkeypatch.setattr(learning, "MAX_SECRET_FILES", bound)
    monkeypatch.setattr(learning, "MAX_SECRET_BYTES", size)
    made = captured(
        tmp_path / "b",
        recipe("steps:\n- facts: [mounts]\n"),
        expression=f"local:{os.getpid()}",
        redaction=Redactor(),
    )
    run.run(made)
    _, told = opened(tmp_path / "b")
    found = [note for note in told["notes"] if "learned" in note]
    assert len(found) == len(notes), found
    assert all(fnmatch(note, f"*{words}*") for note, words in zip(found, notes)), found


def test_a_secret_file_is_read_once_whatever_leads_to_it(
    tmp_path: Path, run: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "secrets"
    place.mkdir()
    for number in range(3):
        (place / f"key{number}").write_text(f"s3cretNumber{number}")
    (tmp_path / "same").symlink_to(place)
    monkeypatch.setattr(learning, "PLACES", (str(place), str(tmp_path / "same")))
    monkeypatch.setattr(learning, "MAX_SECRET_FILES", 3)
    what, redactor = recipe("steps:\n- facts: [mounts]\n"), Redactor()
    made = captured(tmp_path / "b", what, expression=f"local:{os.getpid()}", redaction=redactor)
    _, live = run.run(made)
    _, told = opened(tmp_path / "b")
    assert sum(isinstance(request, ask.ReadFile) for request, _ in live.answers) == 3
    assert not [note for note in told["notes"] if "secret files" in note]
    assert all(f"s3cretNumber{n}" not in redactor.text(f"x s3cretNumber{n}") for n in range(3))


@pytest.mark.parametrize("kept, times", [(2**20, 1), (0, 2)])
def test_an_environment_is_asked_for_once(
    tmp_path: Path,
    run: asyncio.Runner,
    monkeypatch: pytest.MonkeyPatch,
    family: list[int],
    kept: int,
    times: int,
) -> None:
    """What redaction has learned from is what the step takes, unless it is too large to be kept so long."""
    monkeypatch.setattr(learning, "MAX_KEPT", kept * learning.MAX_PROCESSES)
    what = recipe("steps:\n- each_process: [environ]\n")
    _, live = run.run(captured(tmp_path / "b", what, expression=f"local:{os.getpid()}"))
    asked = Counter(request.pid for request, _ in live.answers if isinstance(request, ask.ListEnviron))
    assert set(asked) >= {*family, os.getpid()} and set(asked.values()) == {times}
    bundle, _ = opened(tmp_path / "b")
    backend = OfflineBackend(bundle)
    for request, answer in live.answers:
        if isinstance(request, ask.ListEnviron):
            assert run.run(backend.send(request)) == answer


# What goes wrong


def test_one_failing_step_takes_nothing_from_the_others(tmp_path: Path, run: asyncio.Runner) -> None:
    def before(request: Request[Any]) -> None:
        if request.name == "sockets":
            raise AccessDenied("no sockets", why="refused")
        if request.name == "network":
            raise RuntimeError("a defect")

    path = tmp_path / "b"
    result, _ = run.run(captured(path, load_recipe("quick"), before))
    _, told = opened(path)
    assert result.status == "partial" and told["status"] == "partial"
    rows = {row["what"]: row for row in told["artifacts"]}
    assert rows["sockets"]["outcome"] == "denied" and "refused" in rows["sockets"]["reason"]
    assert any(row["reason"] == "a defect of kdebug: RuntimeError: a defect" for row in told["artifacts"])
    assert any(name.startswith("environ of") and row["outcome"] == "success" for name, row in rows.items())


def test_a_cut_stream_is_asked_again_once(tmp_path: Path, run: asyncio.Runner, seed: int) -> None:
    """One cut, of a stream that comes back; then one that does not."""
    chance = random.Random(seed)
    for lasting in (False, True):
        left = [chance.randrange(12, 40)]

        def before(request: Request[Any], left: list[int] = left, lasting: bool = lasting) -> None:
            left[0] -= 1
            if left[0] == 0 or (lasting and left[0] < 0):
                raise ConnectionLost("the stream is cut")

        path = tmp_path / f"b{lasting}"
        result, _ = run.run(captured(path, load_recipe("standard"), before))
        bundle, told = opened(path)
        if lasting:
            assert result.status == "partial" and "the stream is cut" in result.problems[0]
            assert any("could not be asked any more" in why for why in lacking(told).values())
        else:
            assert result.status == "complete", result.problems
        assert "target/processes.json" in bundle.members or lasting


def test_the_target_ends_in_the_middle(tmp_path: Path, run: asyncio.Runner) -> None:
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    seen = [0]

    def before(request: Request[Any]) -> None:
        seen[0] += request.name == "cgroup"
        if request.name == "stat":
            victim.kill()
            victim.wait()

    text = (
        "steps:\n- facts: [mounts, cgroup]\n- facts: cgroup\n  name: s\n"
        "  samples: {every: 100ms, count: 50}\n- files: [/etc/passwd, /etc/hosts]\n"
    )
    try:
        path = tmp_path / "b"
        result, _ = run.run(captured(path, recipe(text), before, f"local:{victim.pid}"))
    finally:
        victim.kill()
        victim.wait()
    bundle, told = opened(path)
    assert result.status == "partial" and seen[0] < 10, seen
    assert {"target/mounts.json", "target/cgroup.json"} <= set(bundle.members)
    left = lacking(told)
    assert (
        left["file /etc/passwd"].startswith("failed: the target")
        and "has ended" in left["file /etc/passwd"]
    )
    assert left["file /etc/hosts"].startswith("not-tried: the target could not be asked any more")
    assert any(what.startswith("samples from number ") for what in left)


def test_what_a_target_that_ended_lacks_is_not_missing(tmp_path: Path, run: asyncio.Runner) -> None:
    """Two questions under way when it ends: one is told of the end, the other finds nothing any more."""

    class Ending(Around):
        async def send(self, request: Request[R]) -> R:
            if request.name == "mounts":
                raise TargetEnded("the target has ended")
            if request.name == "sockets":
                await asyncio.sleep(0.05)
                raise NotFound("there is no such process")
            return await self.inner.send(request)

    async def taken() -> None:
        async with open_target(parse("demo:"), OpenOptions()) as live:
            target = Target(Ending(live.backend, lambda request: None), live.info, live.label)
            made = CaptureOptions(str(tmp_path / "b"), NoRedaction(), "demo:")
            await Capture(recipe("steps:\n- facts: [sockets, mounts]\n"), made, target).run()

    run.run(taken())
    _, told = opened(tmp_path / "b")
    assert lacking(told) == dict.fromkeys(("sockets", "mounts"), "failed: the target has ended")


def test_budgets_and_deadlines_end_it(tmp_path: Path, run: asyncio.Runner) -> None:
    what = replace(load_recipe("standard"), max_bytes=20_000)
    result, _ = run.run(captured(tmp_path / "a", what))
    assert result.status == "partial" and result.taken_bytes < 80_000
    assert any("the capture's 20000 bytes are used" in line for line in result.problems)
    started = time.monotonic()
    result, _ = run.run(captured(tmp_path / "b", replace(load_recipe("memory"), deadline=1.0)))
    assert time.monotonic() - started < 10 and result.status == "partial"
    assert any("deadline of 1 s" in line for line in result.problems)
    opened(tmp_path / "a")
    opened(tmp_path / "b")


# As people run it


def cli(*arguments: str, code: int, **options: Any) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [PROGRAM, *arguments], capture_output=True, timeout=60, stdin=subprocess.DEVNULL, **options
    )
    assert done.returncode == code and b"Traceback" not in done.stderr, done.stderr
    return done


INTERRUPTED = """
steps:
- facts: [processes, mounts, cgroup, sockets]
- each_process: [environ, limits, fds, maps]
- facts: cgroup
  name: s
  samples: {every: 10ms, count: 10}
- listings: [/etc]
- files: [/etc/passwd, /etc/hosts, "/etc/**"]
"""


def test_an_interrupt_at_any_moment_leaves_a_bundle_that_opens(
    tmp_path: Path, run: asyncio.Runner, seed: int
) -> None:
    """At ten questions out of all that are asked, before or while they are answered, as Ctrl-C cancels."""
    chance, what = random.Random(seed), recipe(INTERRUPTED)

    async def taken(live: Target, path: Path, moment: int = 0) -> tuple[Result, int]:
        asked = [0]

        def before(request: Request[Any]) -> None:
            asked[0] += 1
            if asked[0] == moment:
                asyncio.get_running_loop().call_soon(task.cancel)

        target = Target(Around(live.backend, before), live.info, live.label)
        options = CaptureOptions(str(path), NoRedaction(), "demo:")
        task = asyncio.create_task(Capture(what, options, target).run())
        return await task, asked[0]

    async def all_moments() -> None:
        async with open_target(parse("demo:"), OpenOptions()) as live:
            whole, count = await taken(live, tmp_path / "whole")
            assert whole.status == "complete" and count > 30, (whole.problems, count)
            for moment in [1, 2, count - 1, *chance.sample(range(3, count - 1), 7)]:
                path = tmp_path / str(moment)
                result, _ = await taken(live, path, moment)
                assert result.status == "interrupted", moment
                assert result.problems[0] == "the capture was interrupted"
                bundle, told = opened(path)
                assert told["status"] == "interrupted" and not Path(f"{path}.part").exists()
                assert moment < count // 2 or "target/processes.json" in bundle.members
                bundle.close()

    run.run(all_moments())


@pytest.mark.parametrize("number, when", [(signal.SIGINT, 1), (signal.SIGTERM, 3000)])
def test_signals_close_the_bundle(tmp_path: Path, number: int, when: int) -> None:
    """When it has so many bytes."""
    path, part = tmp_path / "b.tar.gz", tmp_path / "b.tar.gz.part"
    argv = [PROGRAM, "capture", "demo:", "--output", str(path)]
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while process.poll() is None and not (part.exists() and part.stat().st_size >= when):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert b"Traceback" not in stderr and not part.exists(), stderr
    assert process.returncode == 130 and stdout.decode().strip() == str(path), stderr
    bundle, told = opened(path)
    assert told["status"] == "interrupted"
    bundle.close()


def test_a_full_disk_leaves_what_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "b.tar.gz"
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, 16_000))  # noqa: E731
    target = ("capture", f"local:{os.getpid()}", "--output", str(path))
    done = cli(*target, code=1, preexec_fn=limit)
    found = Path(done.stdout.decode().strip())
    assert b"File too large" in done.stderr and found.stat().st_size <= 16_000
    with BundleReader(str(found)) as bundle:
        # The index may be what did not fit.
        assert [line for line in bundle.verify() if "the index was made anew" not in line] == []
        told = bundle.json("manifest.json")
        assert told["status"] == "partial" and "File too large" in told["problems"][0]
        assert sum(name.startswith("target/") for name in bundle.members) > 3
    listed = json.loads(cli("bundle", "ls", str(found), "-o", "json", code=0).stdout)
    assert "File too large" in listed["problems"][0]
    cli("access", f"bundle:{found}", code=0)


def test_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "b.tar.gz"
    done = cli("capture", "demo:", "-r", "quick", "--output", str(path), "-o", "json", code=0)
    assert json.loads(done.stdout)["path"] == str(path) and path.stat().st_mode & 0o777 == 0o600
    assert done.stderr.splitlines()[-1].startswith(b"kdebug: quick of demo:: complete, ")
    again = cli("capture", "demo:", "-r", "quick", "--output", str(path), code=1)
    assert b"exists" in again.stderr
    assert b"--i-know" in cli("capture", "demo:", "--no-redact", code=2).stderr
    assert b"no parameter" in cli("capture", "demo:", "--set", "x=1", code=2).stderr
    plan = json.loads(cli("capture", "demo:", "--dry-run", "-o", "json", code=0).stdout)
    assert plan["artifacts"] > 20 and plan["bytes_about"] > 100_000 and plan["pause_seconds"] == 0
    members = cli("bundle", "ls", str(path), "-o", "name", code=0).stdout.split()
    assert b"target/processes.json" in members and b"manifest.json" in members
    cli("bundle", "verify", str(path), code=0)
    text = tmp_path / "broken"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    text.write_bytes(bytes(data))
    assert cli("bundle", "verify", str(text), code=1).stderr
    assert b"packet" in cli("open", str(path), code=0).stdout
    assert b"no bundle" in cli("open", __file__, code=1).stderr


def test_extract_makes_only_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "b.tar.gz"
    cli("capture", "demo:", "-r", "quick", "--output", str(path), code=0)
    folder = tmp_path / "out"
    cli("bundle", "extract", str(path), "-C", str(folder), code=0)
    with BundleReader(str(path)) as bundle:
        found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        assert found == {name: bundle.read(name) for name in bundle.members}
        assert all((folder / name).stat().st_mode & 0o777 == 0o600 for name in found)
    assert b"not empty" in cli("bundle", "extract", str(path), "-C", str(folder), code=1).stderr
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    cli("bundle", "extract", str(path), "-C", str(link), code=1)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    one = tmp_path / "one"
    cli("bundle", "extract", str(path), "target/cgroup*", "-C", str(one), code=0)
    assert [p.name for p in one.rglob("*.json")] == ["cgroup.json"]


def test_what_was_seen_before_outlives_the_target(tmp_path: Path, run: asyncio.Runner) -> None:
    """A capture of a target that is gone holds what a watch saw of it, and answers from that."""
    answers: list[Answer] = []

    async def seen() -> TargetInfo:
        async with open_target(parse("demo:"), OpenOptions()) as live:
            backend = RecordingBackend(live.backend, answers.append, live.info.pid)
            await Target(backend, live.info, live.label).processes()
            return live.info

    info = run.run(seen())
    earlier = Earlier([opening(info), *answers], {"met": "restart"}, [({"items": []}, "environ of 1")])
    gone = ConnectionLost("the target has ended")
    options = CaptureOptions(str(tmp_path / "b"), NoRedaction(), "pod/web", problem=gone, earlier=earlier)
    result = run.run(Capture(recipe("steps:\n- facts: [cgroup]\n"), options, None).run())
    assert result.status == "partial" and result.problems[0] == "the target has ended"
    bundle, told = opened(tmp_path / "b")
    assert [row["step"] for row in told["artifacts"]][:3] == ["black box"] * 3
    assert bundle.json("watch.json") == {"met": "restart"}
    backend = OfflineBackend(bundle)
    page = run.run(Target(backend, backend.info, "b").processes())
    assert backend.info == info and page.items == codec.from_plain(ProcessPage, answers[0].answer).items
    assert backend.times_of(ask.ListProcesses()) == [answers[0].at]


def test_what_was_seen_before_takes_its_share_only(tmp_path: Path, run: asyncio.Runner) -> None:
    """The newest of it; the target itself comes first."""
    old = [Answer("q", {"request": "cgroup"}, 1000.0 - at, {"text": "x" * 1000}) for at in range(100)]
    what = recipe("budget: {max_bytes: 40KiB}\nsteps:\n- facts: [cgroup]\n")
    result, _ = run.run(captured(tmp_path / "b", what, earlier=Earlier(old, {})))
    bundle, told = opened(tmp_path / "b")
    kept = [row["at"] for row in told["answers"] if row["question"] == "q"]
    assert kept == [1000.0 - at for at in range(len(kept))] and 5 <= len(kept) < 15
    (left,) = [row for row in told["artifacts"] if row["outcome"] == "not-tried"]
    assert left["reason"] == "25% of the capture's 40960 bytes are used" and result.status == "complete"
    assert "target/cgroup.json" in bundle.members
