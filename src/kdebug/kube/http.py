"""HTTP/1.1 as an API server speaks it: requests, streamed answers, upgrades, through a proxy or not.

A library for all of HTTP takes longer to load than kubectl takes for a whole exec, and every incident
command would pay it. What an API server has no use for is not here: redirects, cookies, forms, HTTP/2.
Whatever comes is bounded before it is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from kdebug.kube.proxy import Proxy

READ_BYTES = 256 * 1024
"""What is taken from a connection at a time; twice as much may wait there. No head may be longer."""
MAX_INTERIM = 8
"""Answers before the answer (100 Continue)."""
CONNECT_DELAY = 0.25
"""Seconds until the next address of a name is tried beside the one before (RFC 8305)."""
_TARGET = re.compile(r"[!-~]+")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK = re.compile(rb"[0-9A-Fa-f]{1,15}")
Headers = list[tuple[str, str]]


class NotHttp(Exception):
    """What came is not HTTP, or ends in the middle."""


class Silent(NotHttp):
    """The connection ended before a byte of the answer: often one that was idle for too long."""


class ConnectTimeout(TimeoutError):
    """No connection, TLS included, in time."""


class Reader(asyncio.StreamReader):
    """Knows whether the other side has ended, which who takes over the connection has to be told."""

    ended = False

    def feed_eof(self) -> None:
        self.ended = True
        super().feed_eof()


@dataclass(eq=False)
class Wire:
    """One connection."""

    reader: Reader
    writer: asyncio.StreamWriter
    used: bool = False
    """Whether it has carried a request before."""
    outer: Wire | None = None
    """What it goes through; a stream that is forgotten would close it."""

    def usable(self) -> bool:
        return not self.reader.at_eof() and self.reader.exception() is None and not self.writer.is_closing()

    def close(self) -> None:
        self.writer.transport.abort()


@dataclass
class Response:
    """An answer whose body is still to be read."""

    status: int
    reason: str
    headers: dict[str, str]
    """By their names in lower case."""
    wire: Wire
    complete: bool = False
    """Whether the whole body was read."""
    idle_seconds: float | None = None
    """How long the next bytes may take."""

    @property
    def lasting(self) -> bool:
        """Whether another request may follow on the connection."""
        return self.complete and "close" not in self.headers.get("connection", "").lower()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, unpacked. Raises `NotHttp`, `OSError`, `TimeoutError`."""
        if self.headers.get("content-encoding", "").lower() != "gzip":
            async for piece in self._raw():
                yield piece
            return
        unpacker = zlib.decompressobj(wbits=31)
        try:
            async for piece in self._raw():
                while piece and not unpacker.eof:
                    yield unpacker.decompress(piece, READ_BYTES)
                    piece = unpacker.unconsumed_tail
            yield unpacker.flush()
        except zlib.error as error:
            raise NotHttp(f"the answer cannot be unpacked: {error}") from error
        if not unpacker.eof:
            raise NotHttp("the answer ends in the middle")

    async def _raw(self) -> AsyncIterator[bytes]:
        length = self.headers.get("content-length")
        if self.status in (204, 304):
            pass
        elif "transfer-encoding" in self.headers:
            async for piece in self._chunks():
                yield piece
        elif length is not None:
            async for piece in self._exactly(_length(length)):
                yield piece
        else:
            self.headers["connection"] = "close"
            while piece := await self._some(READ_BYTES):
                yield piece
        self.complete = True

    async def _some(self, size: int) -> bytes:
        async with asyncio.timeout(self.idle_seconds):
            return await self.wire.reader.read(min(size, READ_BYTES))

    async def _exactly(self, size: int) -> AsyncIterator[bytes]:
        while size:
            piece = await self._some(size)
            if not piece:
                raise NotHttp("the answer ends in the middle")
            size -= len(piece)
            yield piece

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            size = (await self._line()).split(b";")[0].strip()
            if not _CHUNK.fullmatch(size):
                raise NotHttp("a piece of the answer has no length")
            if not int(size, 16):
                break
            async for piece in self._exactly(int(size, 16)):
                yield piece
            if await self._line():
                raise NotHttp("a piece of the answer is longer than it says")
        while await self._line():
            pass  # trailers

    async def _line(self) -> bytes:
        async with asyncio.timeout(self.idle_seconds):
            return (await _until(self.wire.reader, b"\n")).rstrip(b"\r\n")


def _length(text: str) -> int:
    if not _LENGTH.fullmatch(text):
        raise NotHttp(f"the answer has no length: {text[:20]!r}")
    return int(text)


async def _until(reader: asyncio.StreamReader, end: bytes) -> bytes:
    try:
        return await reader.readuntil(end)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise NotHttp("the answer ends in the middle") from error
        raise Silent("the connection was closed") from error
    except asyncio.LimitOverrunError as error:
        raise NotHttp("the answer does not begin as HTTP does") from error


@dataclass
class Client:
    """Requests to one server over connections that are kept. `close` ends whatever is under way."""

    server: str
    """Its URL; requests name what comes after."""
    tls: ssl.SSLContext | None
    tls_name: str = ""
    """The name in the server's certificate, where it is another than that of the URL."""
    proxy: Proxy | None = None
    connect_seconds: float = 30.0
    closed: bool = False
    _idle: list[Wire] = field(default_factory=list)
    _wires: set[Wire] = field(default_factory=set)
    """All that are open."""

    def __post_init__(self) -> None:
        url = urlsplit(self.server)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"{self.server} is no URL of a server")
        self._secure = url.scheme == "https"
        self._host = url.hostname
        self._port = url.port or (443 if self._secure else 80)
        self._prefix = url.path.rstrip("/")
        self._authority = url.netloc.rpartition("@")[2]

    @contextlib.asynccontextmanager
    async def request(
        self, method: str, target: str, headers: Headers, body: bytes = b"",
        idle_seconds: float | None = None,
    ) -> AsyncIterator[Response]:  # fmt: skip
        """The answer to one request. Raises `NotHttp`, `OSError`, `TimeoutError`."""
        response = await self.send(method, target, headers, body)
        response.idle_seconds = idle_seconds
        try:
            yield response
        except BaseException:
            self.drop(response.wire)
            raise
        self.keep(response)

    async def send(self, method: str, target: str, headers: Headers, body: bytes = b"") -> Response:
        """Up to the head of the answer; whoever asks `keep`s the connection for others, or `drop`s it."""
        head = self._head(method, target, headers, body)
        while True:
            wire = self._kept() or await self._connect()
            try:
                wire.writer.write(head + body)
                await wire.writer.drain()
                status, reason, fields = await _answer_head(wire.reader)
            except (Silent, ConnectionError):
                self.drop(wire)
                if method == "GET" and wire.used and not self.closed:
                    continue  # the server had closed it before it knew of the request
                raise
            except BaseException:
                self.drop(wire)
                raise
            wire.used = True
            return Response(status, reason, fields, wire)

    def _head(self, method: str, target: str, headers: Headers, body: bytes) -> bytes:
        target = self._prefix + target
        if not _TARGET.fullmatch(target):
            raise ValueError(f"{target!r} cannot be asked for")
        plain_proxy = self.proxy is not None and not self._secure
        if plain_proxy:
            target = f"http://{self._authority}{target}"
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._authority}"]
        if plain_proxy and self.proxy is not None and self.proxy.authorization:
            lines.append(f"Proxy-Authorization: {self.proxy.authorization}")
        lines += [_field(name, value) for name, value in headers]
        if body or method not in ("GET", "HEAD"):
            lines.append(f"Content-Length: {len(body)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def _kept(self) -> Wire | None:
        while self._idle:
            wire = self._idle.pop()
            if wire.usable():
                return wire
            self.drop(wire)
        return None

    async def _connect(self) -> Wire:
        try:
            async with asyncio.timeout(self.connect_seconds):
                wire = await self._opened()
        except TimeoutError as error:
            raise ConnectTimeout(*error.args) from error
        if self.closed:
            wire.close()
            raise Silent("the connection was closed")
        self._wires.add(wire)
        return wire

    async def _opened(self) -> Wire:
        context = self.tls if self._secure else None
        if self.proxy is None:
            return await _dial(self._host, self._port, context, self.tls_name or self._host)
        proxy = self.proxy
        wire = await _dial(proxy.host, proxy.port, self.tls if proxy.secure else None, proxy.host)
        try:
            if self._secure:
                await _tunnel(wire, proxy, f"{_bracketed(self._host)}:{self._port}")
                wire = await _secured(wire, context, self.tls_name or self._host)
        except BaseException:
            wire.close()
            raise
        return wire

    async def warm(self) -> None:
        """Connect, for a request that will come."""
        self._idle.append(await self._connect())

    def keep(self, response: Response) -> None:
        """The connection is for others now, where the answer was read and the server lets it last."""
        if response.lasting and not self.closed:
            self._idle.append(response.wire)
        else:
            self.drop(response.wire)

    def drop(self, wire: Wire) -> None:
        self._wires.discard(wire)
        wire.close()

    async def close(self) -> None:
        """End every connection; whoever waits on one gets `NotHttp` or `OSError`."""
        self.closed = True
        wires = [*self._wires]
        for wire in wires:
            self.drop(wire)
        self._idle.clear()
        await asyncio.gather(*(wire.writer.wait_closed() for wire in wires), return_exceptions=True)


def _field(name: str, value: str) -> str:
    """One line of a head, or `ValueError`: a line feed in a token would begin another."""
    if not _NAME.fullmatch(name) or any(c in value for c in "\r\n\0"):
        raise ValueError(f"the header {name} holds what no header can")
    return f"{name}: {value}"


async def _answer_head(reader: asyncio.StreamReader) -> tuple[int, str, dict[str, str]]:
    for _ in range(MAX_INTERIM):
        first, *lines = (await _until(reader, b"\r\n\r\n")).decode("latin-1")[:-4].split("\r\n")
        version, _, rest = first.partition(" ")
        code, _, reason = rest.partition(" ")
        if version not in ("HTTP/1.1", "HTTP/1.0") or not (code.isascii() and code.isdigit()):
            raise NotHttp("the answer does not begin as HTTP does")
        if code == "101" or not code.startswith("1"):
            fields = _fields(lines)
            if version == "HTTP/1.0":
                fields["connection"] = "close"
            return int(code), reason, fields
    raise NotHttp("the answer does not come to its end")


def _fields(lines: list[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _NAME.fullmatch(name):
            raise NotHttp("the answer has a header without a name")
        name, value = name.lower(), value.strip(" \t")
        before = fields.get(name)
        if name == "content-length" and before not in (None, value):
            raise NotHttp("the answer has two lengths")
        fields[name] = value if before is None or name == "content-length" else f"{before}, {value}"
    return fields


def _protocol() -> tuple[Reader, asyncio.StreamReaderProtocol]:
    loop = asyncio.get_running_loop()
    reader = Reader(limit=READ_BYTES, loop=loop)
    return reader, asyncio.StreamReaderProtocol(reader, loop=loop)


async def _dial(host: str, port: int, context: ssl.SSLContext | None, name: str) -> Wire:
    loop = asyncio.get_running_loop()
    reader, protocol = _protocol()
    transport, _ = await loop.create_connection(
        lambda: protocol, host, port, ssl=context, server_hostname=name if context else None,
        happy_eyeballs_delay=CONNECT_DELAY,
    )  # fmt: skip
    return Wire(reader, asyncio.StreamWriter(transport, protocol, reader, loop))


async def _tunnel(wire: Wire, proxy: Proxy, authority: str) -> None:
    head = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    head += [f"Proxy-Authorization: {proxy.authorization}"] if proxy.authorization else []
    wire.writer.write(("\r\n".join(head) + "\r\n\r\n").encode())
    status, reason, _ = await _answer_head(wire.reader)
    if not 200 <= status < 300:
        raise ConnectionRefusedError(0, f"the proxy {proxy} answers {status} {reason}"[:200])


async def _secured(wire: Wire, context: ssl.SSLContext | None, name: str) -> Wire:
    """TLS inside what is there."""
    loop = asyncio.get_running_loop()
    reader, protocol = _protocol()
    assert context is not None
    try:
        transport = await loop.start_tls(wire.writer.transport, protocol, context, server_hostname=name)
    except TypeError as error:
        # Python 3.11 cannot end TLS within TLS, which it tells instead of why it should.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
    assert transport is not None
    protocol.connection_made(transport)
    return Wire(reader, asyncio.StreamWriter(transport, protocol, reader, loop), outer=wire)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
