"""As much SPDY/3.1 as remote commands need, because it is how an API server talks to a kubelet.

containerd 1.6 speaks the WebSocket protocol too, but only v4, in which stdin cannot be closed. Over
SPDY it can: a data frame with FIN. So this is what makes `cat > file` end, exactly as on a cluster.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

NAMES = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language "
    "accept-ranges age allow authorization cache-control connection content-base content-encoding "
    "content-language content-length content-location content-md5 content-range content-type date "
    "etag expect expires from host if-match if-modified-since if-none-match if-range "
    "if-unmodified-since last-modified location max-forwards pragma proxy-authenticate "
    "proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status"
)
TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 "
    "Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 "
    "Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service "
    "UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, "
    "Sat, Sun, "
    "GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/pl"
    "ain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*"
    ",enq=0."
)


def _prefixed(text: str) -> bytes:
    return struct.pack(">I", len(text)) + text.encode()


DICTIONARY = (
    b"".join(map(_prefixed, NAMES.split()))
    + b"".join(
        map(_prefixed, ("200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive"))
    )
    + _prefixed("origin")
    + TAIL.encode()
)
"""Both sides start header compression from this text; it is part of the protocol."""

SYN_STREAM, RST_STREAM, PING, GOAWAY = 1, 3, 6, 7
FIN = 1
LARGEST = 1 << 20


class Refused(Exception):
    """The other side answered with something else than an upgrade."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


@dataclass(frozen=True)
class Data:
    stream: str
    payload: bytes
    last: bool


class Connection:
    """One upgraded connection with named streams (`stdin`, `stdout`, `stderr`, `error`, `resize`)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._compressor = zlib.compressobj(zdict=DICTIONARY)
        self._ids: dict[str, int] = {}
        self._names: dict[int, str] = {}

    @classmethod
    async def open(cls, connected: socket.socket, url: str, streams: list[str]) -> Connection:
        reader, writer = await asyncio.open_connection(sock=connected, limit=LARGEST)
        split = urlsplit(url)
        head = (
            f"POST {split.path} HTTP/1.1\r\nHost: {split.netloc}\r\n"
            "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
            "X-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n\r\n"
        )
        writer.write(head.encode())
        answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        code = int(answer.split()[1])
        if code != 101:
            text = (await reader.read(4096)).decode(errors="replace")
            writer.close()
            raise Refused(code, text)
        connection = cls(reader, writer)
        for name in streams:
            connection._open_stream(name)
        await writer.drain()
        return connection

    def _open_stream(self, name: str) -> None:
        number = 2 * len(self._ids) + 1
        self._ids[name], self._names[number] = number, name
        block = struct.pack(">I", 1) + _prefixed("streamtype") + _prefixed(name)
        packed = self._compressor.compress(block) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        self._control(SYN_STREAM, struct.pack(">IIH", number, 0, 0) + packed)

    def _control(self, kind: int, payload: bytes) -> None:
        self._writer.write(struct.pack(">HHI", 0x8003, kind, len(payload)) + payload)

    async def send(self, stream: str, payload: bytes, last: bool = False) -> None:
        head = struct.pack(">II", self._ids[stream], (FIN if last else 0) << 24 | len(payload))
        self._writer.write(head + payload)
        await self._writer.drain()

    async def received(self) -> AsyncIterator[Data]:
        """Data frames until the other side ends the connection."""
        while True:
            try:
                first, second = struct.unpack(">II", await self._reader.readexactly(8))
                payload = await self._reader.readexactly(second & 0xFFFFFF)
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            if not first >> 31:
                name = self._names.get(first)
                if name is not None:
                    yield Data(name, payload, bool(second >> 24 & FIN))
                continue
            kind = first & 0xFFFF
            if kind == PING:
                self._control(PING, payload)
            elif kind == GOAWAY:
                return

    def close(self) -> None:
        self._writer.close()
