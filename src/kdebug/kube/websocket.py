"""The client's end of a WebSocket (RFC 6455) that carries binary messages, without extensions.

Ours, since every byte of a copy passes here: for 256 MiB wsproto takes 0.4 s of processor time, this 0.12.

A server that masks, reserves bits or sends more than was allowed is not read any further.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import struct
from binascii import b2a_base64
from collections import deque
from typing import cast

from kdebug.kube.http import Client, Headers, NotHttp, Response

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FINAL, MASKED = 0x80, 0x80
MAX_CONTROL_BYTES = 125
WENT_AWAY = struct.pack("!H", 1000)
MAX_HELD_BYTES = 1024 * 1024
"""Of messages that nobody has asked for yet; then the server has to wait."""
CLOSE_SECONDS = 2.0
"""How long the other side may take to say goodbye."""


class FrameReader:
    """From bytes to (opcode, payload), messages put together. Raises `NotHttp`."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rest = bytearray()
        """The beginning of a frame."""
        self._missing = 0
        """Bytes to its end; 0 while its head is incomplete."""
        self._opcode = 0
        """Of a message whose first frames have come; 0: there is none."""
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """What `data` completes. Only a frame that is cut is copied together."""
        complete: list[tuple[int, bytes]] = []
        if len(data) < self._missing:
            self._rest += data
            self._missing -= len(data)
            return complete
        at = 0
        if self._missing:
            at = self._missing
            self._walk(bytes(self._rest + data[:at]), 0, complete)
        elif self._rest:
            data = bytes(self._rest + data)
        self._walk(data, at, complete)
        return complete

    def _walk(self, data: bytes, at: int, complete: list[tuple[int, bytes]]) -> None:
        self._missing = 0
        while (ends := self._extent(data, at)) is not None:
            start, end = ends
            if end > len(data):
                self._missing = end - len(data)
                break
            message = self._take(data[at], data[start:end])
            if message is not None:
                complete.append(message)
            at = end
        self._rest = bytearray(data[at:])

    def _extent(self, data: bytes, at: int) -> tuple[int, int] | None:
        """Where the payload of the frame at `at` begins and ends; None while its head is incomplete."""
        if len(data) < at + 2:
            return None
        length, start = data[at + 1], at + 2
        if data[at] & 0x70 or length & MASKED:
            raise NotHttp("the server sends WebSocket frames that it may not send")
        if length >= 126:
            form, size = ("!H", 2) if length == 126 else ("!Q", 8)
            if len(data) < start + size:
                return None
            (length,) = struct.unpack_from(form, data, start)
            start += size
        control = data[at] & 0x08
        if length > (MAX_CONTROL_BYTES if control else self._max_bytes - self._size):
            raise NotHttp("the server sends a WebSocket message that is too long")
        return start, start + length

    def _take(self, first: int, payload: bytes) -> tuple[int, bytes] | None:
        opcode, final = first & 0x0F, bool(first & FINAL)
        if opcode in (CLOSE, PING, PONG) and final:
            return opcode, payload
        if opcode not in ((CONTINUATION,) if self._opcode else (TEXT, BINARY)):
            raise NotHttp("the server sends WebSocket frames that it may not send")
        if final and not self._opcode:
            return opcode, payload
        self._opcode = self._opcode or opcode
        self._parts.append(payload)
        self._size += len(payload)
        if not final:
            return None
        whole = self._opcode, b"".join(self._parts)
        self._opcode, self._parts, self._size = 0, [], 0
        return whole


def frame(opcode: int, payload: bytes, key: bytes) -> bytes:
    """One masked frame, as a client's must be."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", FINAL | opcode, MASKED | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", FINAL | opcode, MASKED | 126, size)
    else:
        head = struct.pack("!BBQ", FINAL | opcode, MASKED | 127, size)
    stream = (key * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")
    return head + key + masked.to_bytes(size, "big")


class WebSocket(asyncio.Protocol):
    """One upgraded connection, without a stream's copies in between."""

    def __init__(self, client: Client, response: Response, max_bytes: int) -> None:
        self._client = client
        self._wire = response.wire
        self._transport = cast("asyncio.Transport", response.wire.writer.transport)
        self._streams = self._transport.get_protocol()
        self._frames = FrameReader(max_bytes)
        self._messages: deque[tuple[int, bytes]] = deque()
        self._held = 0
        """Bytes of them."""
        self._news, self._flowing = asyncio.Event(), asyncio.Event()
        self._flowing.set()
        self._error: Exception | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._quiet = False
        """Whether nothing has come since the last ping."""
        self._ended = self._closing = False
        """Whether the other side has said goodbye or left, and whether we have."""

    @classmethod
    async def over(
        cls, client: Client, response: Response, max_bytes: int, heartbeat: float | None = None
    ) -> WebSocket:
        """Take over from the streams; what came with the answer's head comes first.

        With `heartbeat` the server is pinged so often (seconds), and given up where nothing comes for it.
        """
        self = cls(client, response, max_bytes)
        self._transport.set_protocol(self)
        reader = self._wire.reader
        ended = reader.ended
        reader.feed_eof()  # so that what it holds is read without waiting
        early, _ = self._wire.http.trailing_data
        self.data_received(early + await reader.read())
        self._ended = self._ended or ended
        if heartbeat is not None:
            self._timer = asyncio.get_running_loop().call_later(heartbeat, self._beat, heartbeat)
        return self

    def _beat(self, seconds: float) -> None:
        if self._quiet and self._held <= MAX_HELD_BYTES:
            self._error = NotHttp("the server does not answer any more")
            self._transport.abort()
            return
        self._quiet = True
        if not self._transport.is_closing():
            self._transport.write(frame(PING, b"", os.urandom(4)))
        self._timer = asyncio.get_running_loop().call_later(seconds, self._beat, seconds)

    def data_received(self, data: bytes) -> None:
        self._quiet = False
        try:
            messages = self._frames.feed(data)
        except NotHttp as error:
            self._error = error
            self._transport.abort()
            return
        self._messages.extend(messages)
        self._held += sum(len(payload) for _, payload in messages)
        if self._held > MAX_HELD_BYTES:
            self._transport.pause_reading()
        self._news.set()

    def pause_writing(self) -> None:
        self._flowing.clear()

    def resume_writing(self) -> None:
        self._flowing.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._error = self._error or error
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        self._news.set()
        self._flowing.set()
        self._streams.connection_lost(error)  # whoever closes the client waits for it

    async def receive(self) -> bytes | None:
        """The next binary message; None once the stream has ended. Raises `NotHttp`, `OSError`."""
        while True:
            while self._messages:
                opcode, payload = self._messages.popleft()
                self._held -= len(payload)
                if self._held <= MAX_HELD_BYTES:
                    self._transport.resume_reading()
                if opcode == BINARY:
                    return payload
                if opcode == PING:
                    await self._send(PONG, payload)
                elif opcode != PONG:
                    self._messages.clear()
                    self._ended = True
                    return None
            if self._error is not None:
                raise self._error
            if self._ended:
                return None
            self._news.clear()
            await self._news.wait()

    async def send(self, data: bytes) -> None:
        """One binary message; waits while the connection is full. Raises `OSError`."""
        await self._send(BINARY, data)

    async def _send(self, opcode: int, payload: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(frame(opcode, payload, os.urandom(4)))
            await self._flowing.wait()
        if self._transport.is_closing():
            raise ConnectionResetError("the connection was closed")

    async def close(self) -> None:
        """Say goodbye, wait for the answer, and end the connection."""
        if self._closing:
            return
        self._closing = True
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._send(CLOSE, WENT_AWAY)
                while await self.receive() is not None:
                    pass
        except (NotHttp, OSError, TimeoutError):
            pass  # it is gone
        finally:
            self._client.drop(self._wire)


def upgrade_headers(protocols: tuple[str, ...]) -> tuple[Headers, bytes]:
    """What asks for a WebSocket, and what the answer must hold."""
    key = b2a_base64(os.urandom(16), newline=False)
    accept = b2a_base64(hashlib.sha1(key + GUID, usedforsecurity=False).digest(), newline=False)
    headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", key.decode()),
        ("Sec-WebSocket-Protocol", ", ".join(protocols)),
    ]
    return headers, accept


def check_upgrade(response: Response, accept: bytes, protocols: tuple[str, ...]) -> None:
    """Raises `NotHttp` where the answer (101) is not to what was asked."""
    fields = response.headers
    if (
        fields.get("upgrade", "").lower() != "websocket"
        or fields.get("sec-websocket-accept") != accept.decode()
        or fields.get("sec-websocket-protocol") not in protocols
        or "sec-websocket-extensions" in fields
    ):
        raise NotHttp("the server upgrades to something else than was asked for")
