"""One conversation with an agent: ids, futures, deadlines, heartbeats, and refusal of what was not asked.

The agent may be anybody's program, so nothing it sends is kept beyond what one request asked for: an
answer is gathered only for an id that waits, up to that request's cap, and all of them together stay
below `MAX_HELD_BYTES`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kdebug.channel import Channel
from kdebug.errors import (
    ConnectionLost,
    DeadlinePassed,
    KdebugError,
    ProtocolViolation,
    from_kind,
)
from kdebug.protocol import codec, framing
from kdebug.protocol.hello import (
    HEARTBEAT_SECONDS,
    MAX_ANSWER_BYTES,
    MAX_OUTSTANDING,
    PROTOCOL_VERSION,
    SILENCE_SECONDS,
    BannerReader,
    Hello,
    other_protocol,
)
from kdebug.protocol.requests import FollowFile, ReadFile, Request
from kdebug.target.backend import late

R = TypeVar("R")

MAX_HELD_BYTES = 32 * 1024 * 1024
"""Over all answers that are still arriving."""
HELLO_SECONDS = 10.0
TIMER_SLACK = 0.01
"""How late, as a share of it, the silence may be counted from."""
DATA_SLOTS = 4
"""Requests with data on their way: 4 MiB, half of what the agent takes."""
MAX_ERROR_TEXT = 4096
"""Characters of one part of an error; more would only bury the message."""
MAX_ABANDONED = 4 * MAX_OUTSTANDING
"""Cancelled ids whose last frame has not come; an agent that never ends them is broken."""


@dataclass
class Pending:
    """A request that waits for its answer."""

    id: int
    request: Request[Any]
    future: asyncio.Future[Any]
    data_cap: int
    json: bytearray = field(default_factory=bytearray)
    data_bytes: int = 0
    data: framing.Pieces = field(default_factory=framing.Pieces)


class Connection:
    """`Backend` over a channel. `open` is the constructor; `send` may be called from many tasks."""

    def __init__(self, channel: Channel, *, request_seconds: float, silence_seconds: float) -> None:
        self._channel = channel
        self._request_seconds = request_seconds
        self._silence = silence_seconds
        self._ids = itertools.count(1)
        self._pending: dict[int, Pending] = {}
        self._abandoned: set[int] = set()
        self._held = 0
        self._slots = asyncio.Semaphore(MAX_OUTSTANDING - 1)
        self._data_slots = asyncio.Semaphore(DATA_SLOTS)
        self._write_lock = asyncio.Lock()
        self._lost: KdebugError | None = None
        self._decoder = framing.FrameDecoder()
        self._tasks: list[asyncio.Task[None]] = []
        self._writes: set[asyncio.Task[None]] = set()
        self._closing: asyncio.Task[None] | None = None
        self._hello: asyncio.Future[Hello] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(
        cls,
        channel: Channel,
        *,
        hello_seconds: float = HELLO_SECONDS,
        request_seconds: float = 30.0,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> Connection:
        """Read banner and hello. Raises `ConnectionLost`, `DeadlinePassed` or `ProtocolViolation`."""
        self = cls(channel, request_seconds=request_seconds, silence_seconds=silence_seconds)
        try:
            await asyncio.wait_for(self._greet(), hello_seconds)
        except asyncio.TimeoutError:
            await self.close()
            why = f"no greeting within {hello_seconds:g} s"
            raise DeadlinePassed("the agent does not answer", why=self._with_log(why)) from None
        except BaseException:
            await self.close()
            raise
        return self

    @property
    def hello(self) -> Hello:
        """What the agent said about itself."""
        return self._hello.result()

    async def _greet(self) -> None:
        banner = BannerReader()
        rest = None
        while rest is None:
            data = await self._channel.read()
            if not data:
                why = self._with_log(banner.seen.decode("utf-8", "replace").strip())
                raise ConnectionLost("the agent ended before it greeted", why=why)
            rest = banner.feed(data)
        await self._channel.write(
            b"".join(
                framing.encode(frame)
                for frame in framing.split(framing.HELLO, 0, codec.to_json(Hello(PROTOCOL_VERSION, "", "")))
            )
        )
        self._start("reader", self._read_frames(rest))
        await self._hello
        self._start("heartbeat", self._heartbeat())

    def _start(self, name: str, coroutine: Any) -> None:
        self._tasks.append(asyncio.create_task(self._guard(name, coroutine), name=f"kdebug-{name}"))

    async def _guard(self, name: str, coroutine: Any) -> None:
        """A background task that ends takes the connection with it, and says why."""
        try:
            await coroutine
        except KdebugError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001  whatever it is, nobody may be left waiting
            self._fail(ConnectionLost(f"the {name} of the connection failed", why=str(error)))

    async def send(self, request: Request[R]) -> R:
        """The checked answer. Raises what the agent answered, `DeadlinePassed`, or `ConnectionLost`."""
        request.validate()
        if request.carries_data:
            async with self._data_slots:
                return await self._send(request)
        return await self._send(request)

    async def _send(self, request: Request[R]) -> R:
        seconds = self._request_seconds + getattr(request, "wait_seconds", 0.0)
        async with self._slots:
            if self._lost is not None:
                raise self._lost
            pending = self._expect(request)
            try:
                async with asyncio.timeout(seconds):
                    data = request.data if request.carries_data else b""  # type: ignore[attr-defined]
                    await self._write(framing.REQUEST, pending.id, encode_request(request), data)
                    # Not wait_for: it would cancel the future a turn before we know of it, and an answer
                    # that comes in that turn would look like one that nobody asked for.
                    await asyncio.wait({pending.future})
            except TimeoutError:
                if not pending.future.done():
                    raise late(request, seconds) from None
            finally:
                self._settle(pending)
        answer: R = pending.future.result()
        return answer

    def _expect(self, request: Request[Any]) -> Pending:
        # 0 stands for the stream itself.
        request_id = next(self._ids) % 0xFFFFFFFF + 1
        data_cap = request.size if isinstance(request, (ReadFile, FollowFile)) else 0
        future = asyncio.get_running_loop().create_future()
        pending = self._pending[request_id] = Pending(request_id, request, future, data_cap)
        return pending

    def _settle(self, pending: Pending) -> None:
        """Nobody waits for it any more. Without a wait of its own, so nothing comes in between."""
        del self._pending[pending.id]
        self._held -= len(pending.json) + pending.data_bytes
        if not pending.future.done():
            self._abandon(pending.id)
        elif not pending.future.cancelled():
            pending.future.exception()

    def _abandon(self, request_id: int) -> None:
        """Tell the agent to stop; whatever it still sends for this id is dropped."""
        self._abandoned.add(request_id)
        if len(self._abandoned) > MAX_ABANDONED:
            self._fail(ProtocolViolation("the agent does not end requests that were cancelled"))
            return
        self._start_write(framing.CANCEL, request_id, b"")

    async def _write(self, kind: int, request_id: int, payload: bytes, data: bytes = b"") -> None:
        """Cancelling the caller does not cancel the write: half a frame would end the connection, and an
        id that was never sent would never be ended."""
        await asyncio.shield(self._start_write(kind, request_id, payload, data))

    def _start_write(
        self, kind: int, request_id: int, payload: bytes, data: bytes = b""
    ) -> asyncio.Task[None]:
        task = asyncio.create_task(self._write_frames(kind, request_id, payload, data), name="kdebug-write")
        self._writes.add(task)
        task.add_done_callback(self._written)
        return task

    def _written(self, task: asyncio.Task[None]) -> None:
        self._writes.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, KdebugError):
            self._fail(error)
        elif error is not None:
            self._fail(ConnectionLost("the connection to the agent is lost", why=str(error)))

    async def _write_frames(self, kind: int, request_id: int, payload: bytes, data: bytes) -> None:
        """The request and its data in one go: nothing of the same id comes in between."""
        async with self._write_lock:
            for frame in framing.split(kind, request_id, payload):
                await self._channel.write(framing.encode(frame))
            for start in range(0, len(data), framing.MAX_PAYLOAD):
                piece = data[start : start + framing.MAX_PAYLOAD]
                await self._channel.write(framing.encode(framing.Frame(framing.DATA, request_id, piece)))

    async def _read_frames(self, first: bytes) -> None:
        try:
            # One timer for all pieces, moved now and then: a download is thousands of them.
            async with asyncio.timeout(self._silence) as silence:
                await self._read_pieces(first, silence)
        except TimeoutError:
            raise ConnectionLost(
                "the connection to the agent is lost", why=f"it was silent for {self._silence:g} s"
            ) from None

    async def _read_pieces(self, first: bytes, silence: asyncio.Timeout) -> None:
        data: bytes | memoryview = first
        clock = asyncio.get_running_loop().time
        moved = clock()
        while True:
            for frame in self._decoder.feed(data):
                self._receive(frame)
            if clock() - moved > self._silence * TIMER_SLACK:
                moved = clock()
                silence.reschedule(moved + self._silence)
            data = await self._channel.read()
            if not data:
                raise ConnectionLost(
                    "the connection to the agent is lost", why=self._with_log("the agent ended the stream")
                )

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(min(HEARTBEAT_SECONDS, self._silence / 4))
            await self._write(framing.PING, 0, b"")

    def _receive(self, frame: framing.Frame) -> None:
        if frame.kind == framing.HELLO and not self._hello.done():
            self._hello.set_result(_hello(frame.payload))
        elif frame.kind in (framing.ANSWER, framing.DATA, framing.ERROR):
            self._receive_part(frame)
        elif frame.kind == framing.PING:
            raise ProtocolViolation("an agent does not send ping frames")
        elif frame.kind != framing.PONG:
            raise ProtocolViolation(f"the agent sent a {framing.KIND_NAMES[frame.kind]} frame unasked")

    def _receive_part(self, frame: framing.Frame) -> None:
        request_id = frame.request_id
        last = not frame.flags & framing.MORE and frame.kind != framing.DATA
        if frame.kind == framing.ERROR and request_id == 0:
            raise _remote_error(frame.payload)
        if request_id in self._abandoned:
            if last:
                self._abandoned.discard(request_id)
            return
        pending = self._pending.get(request_id)
        if pending is None or pending.future.done():
            raise ProtocolViolation(f"the agent answered the request {request_id}, which nobody asked")
        self._gather(pending, frame)
        if last:
            self._resolve(pending, frame.kind)

    def _gather(self, pending: Pending, frame: framing.Frame) -> None:
        is_data = frame.kind == framing.DATA
        size = len(frame.payload)
        had, cap = (
            (pending.data_bytes, pending.data_cap) if is_data else (len(pending.json), MAX_ANSWER_BYTES)
        )
        if had + size > cap or self._held + size > MAX_HELD_BYTES:
            raise ProtocolViolation(
                f"the agent answers {pending.request.name} with more than the {cap} bytes asked for"
            )
        if is_data:
            pending.data.add(frame.payload)
            pending.data_bytes += size
        else:
            pending.json += frame.payload
        self._held += size

    def _resolve(self, pending: Pending, kind: int) -> None:
        payload = bytes(pending.json)
        if kind == framing.ERROR:
            pending.future.set_exception(_remote_error(payload))
            return
        # A wrong answer ends the connection: an agent that lies once is not asked again.
        answer = decode_answer(pending.request, payload, pending.data.take())
        pending.future.set_result(answer)

    def _fail(self, error: KdebugError) -> None:
        if self._lost is None:
            self._lost = error
        if not self._hello.done():
            self._hello.set_exception(self._lost)
        for pending in self._pending.values():
            if not pending.future.done():
                pending.future.set_exception(self._lost)

    def _with_log(self, why: str) -> str:
        log = self._channel.log_tail()
        return f"{why}; its log ends with: {log.splitlines()[-1]}" if log else why

    async def close(self) -> None:
        """Say goodbye and end the channel; whoever still waits gets `ConnectionLost`.

        Idempotent, also while another task closes it: whoever waited for an answer may well close it next.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="kdebug-close")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        says_goodbye = self._lost is None
        self._fail(ConnectionLost("the connection was closed"))
        if self._hello.done() and not self._hello.cancelled():
            self._hello.exception()
        await _end(self._tasks)
        if says_goodbye:
            try:
                await asyncio.wait_for(self._write(framing.BYE, 0, b""), 1.0)
            except (KdebugError, asyncio.TimeoutError, OSError):
                pass  # it is gone already, which is what we want
        await _end(self._writes)
        await self._channel.close()


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


def encode_request(request: Request[Any]) -> bytes:
    """`{"request": name, ...fields}`."""
    return json.dumps({"request": request.name, **codec.to_plain(request)}, separators=(",", ":")).encode()


def decode_answer(request: Request[R], payload: bytes, data: bytes) -> R:
    """The answer to `request`, checked against what was asked."""
    answer: Any = codec.from_json(request.result, payload)
    if data:
        object.__setattr__(answer, "data", data)
    request.check(answer)
    checked: R = answer
    return checked


def _hello(payload: bytes) -> Hello:
    """The version first: an agent of another one may say more of itself than we know."""
    fields = codec.parse_json(payload)
    if isinstance(fields, dict) and fields.get("protocol") != PROTOCOL_VERSION:
        raise other_protocol(repr(fields.get("protocol"))[:20])
    return codec.from_plain(Hello, fields)


def _remote_error(payload: bytes) -> KdebugError:
    fields = codec.parse_json(payload)
    if not isinstance(fields, dict):
        raise ProtocolViolation("the agent sent an error that is not an object")
    number = fields.get("errno")
    kind, what, why, next_step = (
        str(fields.get(key, ""))[:MAX_ERROR_TEXT] for key in ("kind", "what", "why", "next_step")
    )
    return from_kind(kind, what, why, next_step, number if type(number) is int else None)
