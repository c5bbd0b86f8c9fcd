"""An agent made of a handler: greets rightly, then answers each request as the test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from kdebug.channel.memory import MemoryChannel, channel_pair
from kdebug.protocol import codec, framing
from kdebug.protocol.framing import Frame, FrameDecoder
from kdebug.protocol.hello import BANNER, PROTOCOL_VERSION, Hello
from kdebug.target.connection import Connection

Handler = Callable[["Liar", int, dict[str, Any]], Awaitable[None]]


class Liar:
    """The agent's end of a pair of channels."""

    def __init__(self, channel: MemoryChannel, handler: Handler) -> None:
        self.channel = channel
        self.handler = handler
        self.cancelled: list[int] = []
        self.heard: list[int] = []
        """The kinds of all frames, in order."""

    async def raw(self, data: bytes) -> None:
        await self.channel.write(data)

    async def frame(self, kind: int, request_id: int, payload: bytes = b"", flags: int = 0) -> None:
        await self.raw(framing.encode(Frame(kind, request_id, payload, flags)))

    async def answer(self, request_id: int, record: object) -> None:
        payload = json.dumps(record).encode() if isinstance(record, dict) else codec.to_json(record)
        for frame in framing.split(framing.ANSWER, request_id, payload):
            await self.raw(framing.encode(frame))

    async def greet(self, protocol: int = PROTOCOL_VERSION) -> None:
        await self.raw(BANNER)
        await self.frame(framing.HELLO, 0, codec.to_json(Hello(protocol, "test", "0" * 16, 1)))

    async def serve(self) -> None:
        decoder = FrameDecoder()
        while data := await self.channel.read():
            for frame in decoder.feed(data):
                self.heard.append(frame.kind)
                if frame.kind == framing.REQUEST:
                    await self.handler(self, frame.request_id, json.loads(frame.payload))
                elif frame.kind == framing.CANCEL:
                    self.cancelled.append(frame.request_id)


async def connect(handler: Handler, **options: float) -> tuple[Connection, Liar]:
    """A client connection to an agent that answers by `handler`."""
    ours, theirs = channel_pair()
    liar = Liar(theirs, handler)
    await liar.greet()
    liar.task = asyncio.create_task(liar.serve())  # type: ignore[attr-defined]
    options = {"request_seconds": 5.0} | options
    return await Connection.open(ours, **options), liar
