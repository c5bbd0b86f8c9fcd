"""The client's end of a WebSocket (RFC 6455) that carries binary messages, without extensions.

A server that masks, reserves bits or sends more than was allowed is not read any further.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import struct
from binascii import b2a_base64
from collections import deque

from kdebug.kube.http import READ_BYTES, Client, Headers, NotHttp, Response

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FINAL, MASKED = 0x80, 0x80
MAX_CONTROL_BYTES = 125
WENT_AWAY = struct.pack("!H", 1000)
CLOSE_SECONDS = 2.0
"""How long the other side may take to say goodbye."""


class FrameReader:
    """From bytes to (opcode, payload), messages put together. Raises `NotHttp`."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rest = b""
        self._opcode = 0
        """Of a message whose first frames have come; 0: there is none."""
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """What `data` completes."""
        data = self._rest + data if self._rest else data
        complete, at = [], 0
        while (ends := self._extent(data, at)) is not None:
            start, end = ends
            if end > len(data):
                break
            message = self._take(data[at], data[start:end])
            if message is not None:
                complete.append(message)
            at = end
        self._rest = data[at:]
        return complete

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


class WebSocket:
    """One upgraded connection. `receive` is for one task at a time."""

    def __init__(self, client: Client, response: Response, max_bytes: int) -> None:
        self._client = client
        self._wire = response.wire
        self._frames = FrameReader(max_bytes)
        self._messages: deque[tuple[int, bytes]] = deque()
        self._closing = False
        self._ended = False
        """Whether the other side has said goodbye, or left without."""

    async def receive(self) -> bytes | None:
        """The next binary message; None once the stream has ended. Raises `NotHttp`, `OSError`."""
        while not self._ended:
            while self._messages:
                opcode, payload = self._messages.popleft()
                if opcode == BINARY:
                    return payload
                if opcode == PING:
                    await self._send(PONG, payload)
                elif opcode != PONG:
                    self._ended = True
                    return None
            data = await self._wire.reader.read(READ_BYTES)
            self._ended = not data
            self._messages.extend(self._frames.feed(data))
        return None

    async def send(self, data: bytes) -> None:
        """One binary message; waits while the connection is full. Raises `OSError`."""
        await self._send(BINARY, data)

    async def _send(self, opcode: int, payload: bytes) -> None:
        self._wire.writer.write(frame(opcode, payload, os.urandom(4)))
        await self._wire.writer.drain()

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
        except (NotHttp, OSError, TimeoutError, RuntimeError):
            pass  # it is gone, or another task reads what remains
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
