"""Connections to an API server: requests, streamed answers, upgrades, through a proxy or not.

h11 speaks HTTP; here is what it leaves to its user: connecting, TLS, keeping connections, deadlines. A
library for all of it takes longer to load than kubectl takes for a whole exec, and every incident command
would pay that. Whatever comes is bounded before it is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import h11

from kdebug.kube.proxy import Proxy

READ_BYTES = 256 * 1024
"""What is taken from a connection at a time; twice as much may wait there."""
MAX_HEAD_BYTES = 256 * 1024
MAX_INTERIM = 8
"""Answers before the answer (100 Continue)."""
CONNECT_DELAY = 0.25
"""Seconds until the next address of a name is tried beside the one before (RFC 8305)."""
KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""What each system calls it. A log that nobody writes to is silent for hours: load balancers and NAT forget
such a connection within minutes and tell neither side, and a node that is gone never says so (client-go
transport/cache.go: 30 s)."""
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
    http: h11.Connection = field(
        default_factory=lambda: h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    )
    silent: bool = True
    """Whether nothing has come since the last request."""

    async def send(self, request: h11.Request, body: bytes) -> None:
        self.silent = True
        parts = [self.http.send(request)]
        parts += [self.http.send(h11.Data(data=body))] if body else []
        parts += [self.http.send(h11.EndOfMessage())]
        self.writer.write(b"".join(part for part in parts if part))
        await self.writer.drain()

    async def event(self, idle_seconds: float | None = None) -> Any:
        """What comes next of the answer. Raises `NotHttp`, `OSError`, `TimeoutError`."""
        while True:
            try:
                event = self.http.next_event()
            except h11.RemoteProtocolError as error:
                raise NotHttp(f"the answer is not HTTP: {error}") from error
            if event is not h11.NEED_DATA:
                return event
            async with asyncio.timeout(idle_seconds):
                data = await self.reader.read(READ_BYTES)
            if not data and self.silent:
                raise Silent("the connection was closed")
            self.silent = False
            self.http.receive_data(data)

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
        return self.complete and self.wire.http.our_state is h11.DONE is self.wire.http.their_state

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
        while isinstance(event := await self.wire.event(self.idle_seconds), h11.Data):
            yield bytes(event.data)
        if not isinstance(event, h11.EndOfMessage):
            raise NotHttp("the answer ends in the middle")
        self.complete = True


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
        request = self._request(method, target, headers, body)
        while True:
            wire = self._kept() or await self._connect()
            try:
                await wire.send(request, body)
                response = await _answer(wire)
            except (Silent, ConnectionError):
                self.drop(wire)
                if method == "GET" and wire.used and not self.closed:
                    continue  # the server had closed it before it knew of the request
                raise
            except BaseException:
                self.drop(wire)
                raise
            wire.used = True
            return response

    def _request(self, method: str, target: str, headers: Headers, body: bytes) -> h11.Request:
        target = self._prefix + target
        headers = [("Host", self._authority), *headers]
        if self.proxy is not None and not self._secure:
            target = f"http://{self._authority}{target}"
            headers += self.proxy.headers()
        if body or method not in ("GET", "HEAD"):
            headers.append(("Content-Length", str(len(body))))
        return _request(method, target, headers)

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
            response.wire.http.start_next_cycle()
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


def _request(method: str, target: str, headers: Headers) -> h11.Request:
    """Raises `ValueError` for what no request may hold: a line feed in a token would begin another line."""
    try:
        return h11.Request(method=method, target=target, headers=headers)
    except h11.LocalProtocolError as error:
        raise ValueError(f"{method} cannot be sent: {error}") from error


async def _answer(wire: Wire) -> Response:
    """Its head; h11 has seen to it that it is one."""
    for _ in range(MAX_INTERIM):
        event = await wire.event()
        if isinstance(event, h11.Response) or event.status_code == 101:
            return Response(event.status_code, _text(event.reason), _fields(event.headers), wire)
    raise NotHttp("the answer does not come to its end")


def _fields(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for raw_name, value in headers:
        name = _text(raw_name)
        fields[name] = f"{fields[name]}, {_text(value)}" if name in fields else _text(value)
    return fields


def _text(raw: bytes) -> str:
    return bytes(raw).decode("latin-1")


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
    _keep_alive(transport.get_extra_info("socket"))
    return Wire(reader, asyncio.StreamWriter(transport, protocol, reader, loop))


def _keep_alive(connected: Any) -> None:
    with contextlib.suppress(OSError):  # one that has ended by now says so soon enough
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEP_ALIVE.items():
            if hasattr(socket, name):
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def _tunnel(wire: Wire, proxy: Proxy, authority: str) -> None:
    await wire.send(_request("CONNECT", authority, [("Host", authority), *proxy.headers()]), b"")
    answer = await _answer(wire)
    if not 200 <= answer.status < 300:
        raise ConnectionRefusedError(0, f"the proxy {proxy} answers {answer.status} {answer.reason}"[:200])


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
