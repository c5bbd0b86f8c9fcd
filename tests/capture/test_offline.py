"""Live answer == offline answer, for everything that a capture can ask."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import pytest

from kdebug.capture.answers import Answer, RecordingBackend, member_name
from kdebug.capture.offline import OfflineBackend
from kdebug.capture.reader import BundleReader
from kdebug.capture.writer import BundleWriter
from kdebug.errors import AccessDenied, KdebugError, NotCaptured
from kdebug.expression import parse
from kdebug.open import OpenOptions, open_target
from kdebug.protocol import codec
from kdebug.protocol import requests as ask
from kdebug.target import Target


class Sink:
    """Answers into a bundle, as a capture keeps them."""

    def __init__(self, path: Path) -> None:
        self.writer = BundleWriter(str(path))
        self.listed: list[dict[str, Any]] = []

    def keep(self, answer: Answer) -> None:
        taken = {member.name for member in self.writer.members}
        name = member_name(answer, taken.__contains__)
        self.writer.add_json(name, answer.document())
        self.listed.append({"question": answer.question, "at": answer.at, "member": name})

    def close(self, manifest: bool = True) -> None:
        if manifest:
            self.writer.add_json("manifest.json", {"answers": self.listed})
        self.writer.close()


async def recorded(path: Path, look: Any, manifest: bool = True) -> Any:
    """Run `look` on a recorded practice target; its result."""
    sink = Sink(path)
    async with open_target(parse("demo:"), OpenOptions()) as live:
        backend = RecordingBackend(live.backend, sink.keep)
        target = await Target.open(backend, ask.OpenTarget(pid=live.info.pid), "recorded")
        found = await look(target)
    sink.close(manifest)
    return found


async def everything(target: Target) -> list[Any]:
    pids = [process.pid for process in (await target.processes()).items]
    found: list[Any] = [await target.processes(), await target.sockets(), await target.network()]
    found += [await target.cgroup(), await target.access(), await target.mounts()]
    for pid in pids:
        found += [await target.process(pid), await target.fds(pid), await target.maps(pid)]
        found += [await target.environ(pid), await target.limits(pid)]
    for path in ("/", "/etc", "/etc/app", "/var/log"):
        found += [await target.list_dir(path), await target.stat(path)]
    for path in ("/nonsense", "/etc/app/config.yaml"):
        for follow in (False, True):
            try:
                found.append(await target.stat(path, follow=follow))
            except KdebugError as error:
                found.append((error.kind, str(error)))
    return found


@pytest.mark.parametrize("manifest", [True, False])
def test_every_answer_is_the_same_offline(tmp_path: Path, run: asyncio.Runner, manifest: bool) -> None:
    """Also of a capture that never got to its manifest."""
    path = tmp_path / "b"
    live = run.run(recorded(path, everything, manifest))

    async def again() -> list[Any]:
        async with open_target(parse(f"bundle:{path}"), OpenOptions()) as target:
            # The live script asked for the processes twice; the second is the later one.
            return await everything(target)

    offline = run.run(again())
    assert [codec.to_plain(x) if not isinstance(x, tuple) else x for x in offline] == [
        codec.to_plain(x) if not isinstance(x, tuple) else x for x in live
    ]


def test_any_pages_of_it_add_up(tmp_path: Path, run: asyncio.Runner, seed: int) -> None:
    chance = random.Random(seed)
    whole = run.run(recorded(tmp_path / "b", lambda target: target.maps()))

    async def paged() -> list[Any]:
        rows: list[Any] = []
        with BundleReader(str(tmp_path / "b")) as bundle:
            backend = OfflineBackend(bundle)
            cursor = ""
            while True:
                page = await backend.send(ask.ListMaps(cursor=cursor, limit=chance.randrange(1, 30)))
                rows += page.items
                cursor = page.cursor
                if not cursor:
                    return rows

    assert run.run(paged()) == list(whole.items) and len(whole.items) > 30


def test_fewer_families_are_answered_from_all_of_them(tmp_path: Path, run: asyncio.Runner) -> None:
    whole = run.run(recorded(tmp_path / "b", lambda target: target.sockets()))

    async def look() -> Any:
        async with open_target(parse(f"bundle:{tmp_path / 'b'}"), OpenOptions()) as target:
            return await target.sockets(("inet",))

    assert run.run(look()).items == tuple(s for s in whole.items if s.family == "inet")


def test_what_was_not_captured_says_so_and_nothing_can_be_changed(
    tmp_path: Path, run: asyncio.Runner
) -> None:
    run.run(recorded(tmp_path / "b", lambda target: target.list_dir("/etc")))

    async def look() -> None:
        async with open_target(parse(f"bundle:{tmp_path / 'b'}"), OpenOptions()) as target:
            with pytest.raises(NotCaptured, match="does not hold sockets"):
                await target.sockets()
            with pytest.raises(NotCaptured, match="/etc/hosts"):
                await target.read("/etc/hosts")
            assert (await target.stat("/etc/hosts")).entry.kind == "file"
            with pytest.raises(NotCaptured):
                await target.list_dir("/var")
            with pytest.raises(AccessDenied, match="evidence"):
                await target.signal(target.info.pid, target.info.start_ticks, 15)

    run.run(look())


def test_samples_are_answered_as_of_their_time(tmp_path: Path, run: asyncio.Runner) -> None:
    async def samples(target: Target) -> list[Any]:
        return [await target.cgroup() for _ in range(3)] + [
            await target.processes(),
            await target.processes(),
        ]

    live = run.run(recorded(tmp_path / "b", samples))

    async def look() -> None:
        with BundleReader(str(tmp_path / "b")) as bundle:
            backend = OfflineBackend(bundle)
            times = backend.times
            assert len(times) == 6  # the opening, too
            backend.moment = times[4]
            target = Target(backend, backend.info, "offline")
            assert await target.processes() == live[3]
            backend.moment = None
            assert await target.processes() == live[4]

    run.run(look())


def test_files_are_read_from_their_parts(tmp_path: Path, run: asyncio.Runner, seed: int) -> None:
    chance = random.Random(seed)
    data = chance.randbytes(3_000_000)
    path = tmp_path / "b"

    async def record(target: Target) -> None:
        await target.agent()

    sink = Sink(path)

    async def whole() -> None:
        async with open_target(parse(f"local:{os.getpid()}"), OpenOptions()) as live:
            backend = RecordingBackend(live.backend, sink.keep)
            await record(await Target.open(backend, ask.OpenTarget(pid=os.getpid()), "recorded"))
        stream = sink.writer.open_stream("files/var/log/app.log")
        for at in range(0, len(data), 100_000):
            stream.write(data[at : at + 100_000])
        stream.close()
        files = [{"path": "/var/log/app.log", "member": "files/var/log/app.log"}]
        sink.writer.add_json("manifest.json", {"answers": sink.listed, "files": files})
        sink.writer.close()
        async with open_target(parse(f"bundle:{path}"), OpenOptions()) as target:
            for _ in range(30):
                offset, size = chance.randrange(len(data) + 10), chance.randrange(1, 500_000)
                chunk = await target.read("/var/log/app.log", offset, size)
                assert chunk.data == data[offset : offset + size]
                assert chunk.eof is (offset + size >= len(data))
            assert (await target.stat("/var/log/app.log")).entry.size_bytes == len(data)

    run.run(whole())
