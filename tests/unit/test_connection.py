"""The client against agents that lie, flood, stop in the middle, or are something else."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import random
from dataclasses import replace
from typing import Any

import pytest

from kdebug.channel.memory import channel_pair
from kdebug.errors import AccessDenied, ConnectionLost, DeadlinePassed, KdebugError, ProtocolViolation
from kdebug.protocol import framing
from kdebug.protocol.files import Entry, FileChunk, Listing
from kdebug.protocol.hello import BANNER, MAX_ANSWER_BYTES
from kdebug.protocol.processes import Limits
from kdebug.protocol.requests import MAX_CHUNK, GetLimits, ListDir, ReadFile
from kdebug.target import Target
from kdebug.target.connection import MAX_HELD_BYTES, Connection
from support.liar import Liar, connect

NEWER_HELLO = framing.encode(framing.Frame(framing.HELLO, 0, b'{"protocol":2,"features":[]}'))
CHUNK = FileChunk("/f", 0, 3, True, 1, 1, 1)


def ask(run: asyncio.Runner, handler: Any, request: Any = None, **options: float) -> Any:
    async def talk() -> Any:
        connection, liar = await connect(handler, **options)
        try:
            return await connection.send(request or GetLimits(1))
        finally:
            await connection.close()
            liar.task.cancel()  # type: ignore[attr-defined]

    return run.run(asyncio.wait_for(talk(), 20))


def test_an_answer_comes_back(run: asyncio.Runner) -> None:
    async def honest(liar: Liar, request_id: int, request: dict[str, Any]) -> None:
        assert request == {"request": "limits", "pid": 1}
        await liar.answer(request_id, Limits(1, ()))

    assert ask(run, honest) == Limits(1, ())


def test_an_error_comes_back_as_itself(run: asyncio.Runner) -> None:
    async def denied(liar: Liar, request_id: int, request: dict[str, Any]) -> None:
        fields = {"kind": "AccessDenied", "what": "no", "why": "because", "next_step": "ask", "errno": 13}
        await liar.frame(framing.ERROR, request_id, json.dumps(fields).encode())

    with pytest.raises(AccessDenied, match="no: because; ask") as caught:
        ask(run, denied)
    assert (caught.value.errno, caught.value.exit_code) == (13, 3)


async def _other_id(liar: Liar, request_id: int, request: dict[str, Any]) -> None:
    await liar.answer(request_id + 1, Limits(1, ()))


async def _twice(liar: Liar, request_id: int, request: dict[str, Any]) -> None:
    await liar.frame(framing.DATA, request_id, b"x")
    await liar.answer(request_id, Limits(1, ()))


async def _endless_answer(liar: Liar, request_id: int, request: dict[str, Any]) -> None:
    while True:
        await liar.frame(framing.ANSWER, request_id, b" " * framing.MAX_PAYLOAD, framing.MORE)


async def _garbage(liar: Liar, request_id: int, request: dict[str, Any]) -> None:
    await liar.raw(b"Segmentation fault\n")


async def _wrong_record(liar: Liar, request_id: int, request: dict[str, Any]) -> None:
    await liar.answer(request_id, {"pid": "x", "items": []})


async def _unasked_ping(liar: Liar, request_id: int, request: dict[str, Any]) -> None:
    await liar.frame(framing.PING, 0)


async def _unasked_request(liar: Liar, request_id: int, request: dict[str, Any]) -> None:
    await liar.frame(framing.REQUEST, 1)


@pytest.mark.parametrize(
    "handler",
    [_other_id, _twice, _endless_answer, _garbage, _wrong_record, _unasked_ping, _unasked_request],
)
def test_lies_end_the_connection(run: asyncio.Runner, handler: Any) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        ask(run, handler)
    assert caught.value.exit_code == 6


def test_more_bytes_than_asked_for_are_refused(run: asyncio.Runner) -> None:
    async def too_much(liar: Liar, request_id: int, request: dict[str, Any]) -> None:
        await liar.frame(framing.DATA, request_id, b"12345")
        await liar.answer(request_id, CHUNK)

    with pytest.raises(ProtocolViolation, match="more than the 4 bytes"):
        ask(run, too_much, ReadFile("/f", 0, 4))


def test_a_long_download_is_not_held_against_the_agent(run: asyncio.Runner) -> None:
    """What was handed over no longer counts: only answers that are still arriving do."""
    piece = bytes(MAX_CHUNK)

    async def honest(liar: Liar, request_id: int, request: dict[str, Any]) -> None:
        for frame in framing.split(framing.DATA, request_id, piece):
            await liar.raw(framing.encode(frame))
        await liar.answer(request_id, replace(CHUNK, offset=request["offset"]))

    async def talk() -> None:
        connection, liar = await connect(honest)
        for number in range(2 * MAX_HELD_BYTES // MAX_CHUNK):
            chunk = await connection.send(ReadFile("/f", number * MAX_CHUNK))
            assert len(chunk.data) == MAX_CHUNK
        await connection.close()
        liar.task.cancel()  # type: ignore[attr-defined]

    run.run(asyncio.wait_for(talk(), 20))


def test_whoever_lost_its_answer_to_a_close_may_close_it_too(
    run: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(liar: Liar, request_id: int, request: dict[str, Any]) -> None:
        pass

    async def talk() -> None:
        connection, liar = await connect(silent)
        write = connection._channel.write

        async def slowly(data: bytes) -> None:
            for _ in range(20):
                await asyncio.sleep(0)
            await write(data)

        async def ask_and_close() -> None:
            with pytest.raises(ConnectionLost, match="the connection was closed"):
                await connection.send(ReadFile("/f", 0))
            await connection.close()

        asked = asyncio.create_task(ask_and_close())
        while framing.REQUEST not in liar.heard:
            await asyncio.sleep(0)
        monkeypatch.setattr(connection._channel, "write", slowly)
        await connection.close()
        await asked
        assert await liar.task is None  # type: ignore[attr-defined]
        assert liar.heard[-1] == framing.BYE

    run.run(asyncio.wait_for(talk(), 20))


def test_answers_that_never_end_are_bounded_together(run: asyncio.Runner) -> None:
    """Each of them is still below what one answer may be."""

    async def begins(liar: Liar, request_id: int, request: dict[str, Any]) -> None:
        for _ in range(MAX_ANSWER_BYTES // framing.MAX_PAYLOAD):
            await liar.frame(framing.ANSWER, request_id, bytes(framing.MAX_PAYLOAD), framing.MORE)

    async def talk() -> None:
        connection, liar = await connect(begins, request_seconds=3)
        count = MAX_HELD_BYTES // MAX_ANSWER_BYTES + 1
        try:
            await asyncio.gather(*[connection.send(GetLimits(1)) for _ in range(count)])
        finally:
            await connection.close()
            liar.task.cancel()  # type: ignore[attr-defined]

    with pytest.raises(ProtocolViolation, match="more than"):
        run.run(asyncio.wait_for(talk(), 20))


def test_another_piece_than_asked_for_is_refused(run: asyncio.Runner) -> None:
    async def elsewhere(liar: Liar, request_id: int, request: dict[str, Any]) -> None:
        await liar.answer(request_id, CHUNK)

    with pytest.raises(ProtocolViolation, match="another piece"):
        ask(run, elsewhere, ReadFile("/f", 7, 4))


def test_a_piece_without_bytes_is_the_end(run: asyncio.Runner) -> None:
    """Or a reader would ask for it for ever."""

    async def nothing(liar: Liar, request_id: int, request: dict[str, Any]) -> None:
        await liar.answer(request_id, dataclasses.replace(CHUNK, eof=False))

    with pytest.raises(ProtocolViolation, match="nothing of the file"):
        ask(run, nothing, ReadFile("/f", 0, 4))


def test_more_entries_than_asked_for_are_refused(run: asyncio.Runner) -> None:
    async def crowd(liar: Liar, request_id: int, request: dict[str, Any]) -> None:
        await liar.answer(request_id, Listing("/", tuple(Entry(str(n), "file") for n in range(3))))

    with pytest.raises(ProtocolViolation, match="3 items where at most 2"):
        ask(run, crowd, ListDir(path="/", limit=2))


def test_a_listing_that_never_ends_ends(run: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdebug.target.target.MAX_ROWS", 50)

    async def endless(liar: Liar, request_id: int, request: dict[str, Any]) -> None:
        await liar.answer(request_id, Listing("/", (Entry("again", "file"),), cursor="1"))

    async def talk() -> None:
        connection, liar = await connect(endless)
        target = Target(connection, None, "liar")  # type: ignore[arg-type]
        try:
            await target.list_dir("/", limit=10**9)
        finally:
            await target.close()
            liar.task.cancel()  # type: ignore[attr-defined]

    with pytest.raises(ProtocolViolation, match="does not end"):
        run.run(asyncio.wait_for(talk(), 20))


def test_silence_is_a_deadline(run: asyncio.Runner) -> None:
    async def silent(liar: Liar, request_id: int, request: dict[str, Any]) -> None:
        pass

    with pytest.raises(DeadlinePassed, match="limits within 0.1 s"):
        ask(run, silent, request_seconds=0.1)


def test_an_agent_that_hangs_up_is_a_lost_connection(run: asyncio.Runner) -> None:
    async def leaves(liar: Liar, request_id: int, request: dict[str, Any]) -> None:
        await liar.channel.close()

    with pytest.raises(ConnectionLost, match="ended the stream"):
        ask(run, leaves)


def test_a_silent_peer_is_given_up(run: asyncio.Runner) -> None:
    async def silent(liar: Liar, request_id: int, request: dict[str, Any]) -> None:
        pass

    with pytest.raises(ConnectionLost, match=r"silent for 0\.2 s"):
        ask(run, silent, request_seconds=10, silence_seconds=0.2)


@pytest.mark.parametrize("cancelled", [GetLimits(1), ReadFile("/f", 0, 3)])
def test_a_late_answer_to_a_cancelled_request_is_dropped(run: asyncio.Runner, cancelled: Any) -> None:
    async def talk() -> None:
        late: list[int] = []

        async def slow(liar: Liar, request_id: int, request: dict[str, Any]) -> None:
            if request.get("pid") != 2:
                late.append(request_id)
                return
            for old in late:
                if cancelled.name == "read":
                    await liar.frame(framing.DATA, old, b"123")
                await liar.answer(old, CHUNK if cancelled.name == "read" else Limits(1, ()))
            await liar.answer(request_id, Limits(2, ()))

        connection, liar = await connect(slow)
        waiting = asyncio.create_task(connection.send(cancelled))
        while not late:
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await connection.send(GetLimits(2)) == Limits(2, ())
        assert liar.cancelled == late
        await connection.close()
        liar.task.cancel()  # type: ignore[attr-defined]

    run.run(asyncio.wait_for(talk(), 20))


def test_answers_that_cross_a_cancel_harm_nobody(run: asyncio.Runner, seed: int) -> None:
    """The agent cannot know of a cancel yet: its answer may come in the very same turn of the loop."""
    chance = random.Random(seed)

    async def prompt(liar: Liar, request_id: int, request: dict[str, Any]) -> None:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        await liar.answer(request_id, Limits(1, ()))

    async def talk() -> None:
        connection, liar = await connect(prompt)
        for _ in range(1000):
            asking = asyncio.create_task(connection.send(GetLimits(1)))
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking
        assert await connection.send(GetLimits(1)) == Limits(1, ())
        await connection.close()
        liar.task.cancel()  # type: ignore[attr-defined]

    run.run(asyncio.wait_for(talk(), 20))


def test_a_cancel_while_the_stream_is_full_leaves_it_whole(run: asyncio.Runner) -> None:
    """More cancels than an agent may leave unended, of requests that wait to be written."""

    async def honest(liar: Liar, request_id: int, request: dict[str, Any]) -> None:
        await liar.answer(request_id, Limits(1, ()))

    async def talk() -> None:
        ours, theirs = channel_pair()
        liar = Liar(theirs, honest)
        await liar.greet()
        connection = await Connection.open(ours, request_seconds=5)
        for _ in range(6):
            asking = [asyncio.create_task(connection.send(GetLimits(1))) for _ in range(60)]
            await asyncio.sleep(0.01)
            for task in asking:
                task.cancel()
            await asyncio.wait_for(asyncio.wait(asking), 1)
            serving = asyncio.create_task(liar.serve())
            assert await connection.send(GetLimits(1)) == Limits(1, ())
            serving.cancel()
            await asyncio.wait([serving])
        await connection.close()

    run.run(asyncio.wait_for(talk(), 20))


@pytest.mark.parametrize(
    ("greeting", "error", "words"),
    [
        (b"sh: python3: not found\n", ConnectionLost, "python3: not found"),
        (b"x" * 20_000, ProtocolViolation, "not a kdebug agent"),
        (BANNER + b"garbage", ProtocolViolation, "not a frame"),
        (b"kdebug-agent 2\nwhatever", ProtocolViolation, "speaks protocol 2"),
        (b"see kdebug-agent 1\n" + BANNER + b"garbage", ProtocolViolation, "not a frame"),
        (BANNER + NEWER_HELLO, ProtocolViolation, "speaks protocol 2"),
        (BANNER + b"\xf5\x4b\x01\x00" + bytes(4) + b"\0\0\0\x02[]", ProtocolViolation, "belongs"),
        (b"", ConnectionLost, "before it greeted"),
    ],
)
def test_other_programs_than_an_agent(
    run: asyncio.Runner, greeting: bytes, error: type[KdebugError], words: str
) -> None:
    async def talk() -> None:
        ours, theirs = channel_pair()
        await theirs.write(greeting)
        await theirs.close()
        await Connection.open(ours, request_seconds=1, hello_seconds=2)

    with pytest.raises(error, match=words):
        run.run(asyncio.wait_for(talk(), 20))


def test_another_protocol_version_is_named(run: asyncio.Runner) -> None:
    async def talk() -> None:
        ours, theirs = channel_pair()
        await Liar(theirs, None).greet(protocol=99)  # type: ignore[arg-type]
        await Connection.open(ours)

    with pytest.raises(ProtocolViolation, match="speaks protocol 99"):
        run.run(asyncio.wait_for(talk(), 20))


def test_an_agent_that_never_greets_is_a_deadline(run: asyncio.Runner) -> None:
    async def talk() -> None:
        ours, _theirs = channel_pair()
        await Connection.open(ours, hello_seconds=0.1)

    with pytest.raises(DeadlinePassed, match="no greeting"):
        run.run(asyncio.wait_for(talk(), 20))
