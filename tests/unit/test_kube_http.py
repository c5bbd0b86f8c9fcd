"""Our connections to an API server against servers that say exactly what each test tells them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdebug.errors import ConnectionLost, UsageError
from kdebug.kube import websocket
from kdebug.kube.api import Api, ServerRefusal
from kdebug.kube.config import Choice, ClusterConfig, Connection, load_config
from kdebug.kube.exec import ExecChannel
from kdebug.kube.http import Client, NotHttp
from kdebug.kube.proxy import Proxy, proxy_for
from kdebug.kube.websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, FrameReader
from node.support.certificates import Authority

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async def handled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(handled, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


class Script:
    """Answers the first request of each connection with the next of `answers`, later ones with its rest."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.connections = 0
        self.heads: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while self.answers:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            answer = self.answers.pop(0)
            writer.write(answer)
            await writer.drain()
            if b"\r\nX-End" in answer or not answer:
                return
        await reader.read()  # until the client leaves


async def body_of(client: Client, method: str = "GET") -> bytes:
    async with client.request(method, "/api", [("Accept", "*/*")]) as response:
        return b"".join([piece async for piece in response.pieces()])


def client_of(port: int, **options: object) -> Client:
    return Client(f"http://127.0.0.1:{port}", None, **options)  # type: ignore[arg-type]


def gzipped(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush()


OK = b"HTTP/1.1 200 OK\r\n"
SIZED = OK + b"Content-Length: 5\r\n\r\nhello"
BIG = bytes(range(256)) * 4096
PACKED = gzipped(BIG)


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (SIZED, b"hello"),
        (OK + b"content-length:5\r\n\r\nhello and more", b"hello"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nT: r\r\n\r\n", b"hello"),
        (OK + b"X-End: 1\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + SIZED, b"hello"),
        (b"HTTP/1.0 200 OK\r\nX-End: 1\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s" % (len(PACKED), PACKED), BIG),
    ],
)
def test_bodies_of_every_form(run: asyncio.Runner, answer: bytes, body: bytes) -> None:
    async def ask() -> bytes:
        async with listening(Script(answer)) as port:
            return await asyncio.wait_for(body_of(client_of(port)), 20)

    assert run.run(ask()) == body


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        b"HTTP/1.1 20x OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-End: 1\r\nna me: 1\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20,
        b"HTTP/1.1 200 OK\r\n" + b"X-Long: %s\r\n" % (b"x" * 4096) * 300 + b"\r\n",
        OK + b"X-End: 1\r\nContent-Length: 9\r\n\r\nhello",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        OK + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n",
        OK + b"X-End: 1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        OK + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
        OK + b"Content-Encoding: gzip\r\nContent-Length: 99\r\n\r\n" + PACKED[:99],
        b"",
    ],
)
def test_what_is_not_http_is_refused(run: asyncio.Runner, answer: bytes) -> None:
    async def ask() -> None:
        async with listening(Script(answer)) as port:
            client = client_of(port)
            with pytest.raises((NotHttp, ConnectionError)):
                await asyncio.wait_for(body_of(client), 20)
            assert not client._wires

    run.run(ask())


def test_a_packed_answer_is_unpacked_in_pieces(run: asyncio.Runner) -> None:
    """64 MiB of zeros in 64 KiB: whoever reads decides when it is too much."""
    packed = gzipped(bytes(1 << 26))
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)

    async def ask() -> None:
        async with listening(Script(head + packed)) as port:
            async with client_of(port).request("GET", "/", []) as response:
                async for piece in response.pieces():
                    assert 0 < len(piece) <= 1 << 18
                    return

    run.run(ask())


def test_a_silent_connection_is_kept_alive_by_the_system(run: asyncio.Runner) -> None:
    async def ask() -> list[int]:
        async with listening(Script(SIZED)) as port:
            client = client_of(port)
            await body_of(client)
            (wire,) = client._wires
            connected = wire.writer.get_extra_info("socket")
            options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE), (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)]
            return [connected.getsockopt(*option) for option in options]

    alive, idle = run.run(ask())
    assert alive and idle <= 60


def test_connections_are_kept_and_replaced(run: asyncio.Runner) -> None:
    async def ask() -> None:
        script = Script(SIZED, SIZED, b"", SIZED, OK + b"Connection: close\r\n\r\n", SIZED)
        async with listening(script) as port:
            client = client_of(port)
            assert [await body_of(client) for _ in range(2)] == [b"hello"] * 2
            assert script.connections == 1
            assert await body_of(client) == b"hello"  # the server ended the first without an answer
            assert script.connections == 2
            async with client.request("GET", "/api", []):
                pass  # the body is not read: what comes next would be taken for another answer's
            assert await body_of(client) == b"hello"
            assert script.connections == 3 and len(client._wires) == 1

    run.run(ask())


def test_what_changes_something_is_not_sent_twice(run: asyncio.Runner) -> None:
    async def ask() -> None:
        script = Script(SIZED, b"", SIZED)
        async with listening(script) as port:
            client = client_of(port)
            await body_of(client)
            with pytest.raises((NotHttp, ConnectionError)):
                await body_of(client, "PATCH")
            assert len(script.heads) == 2

    run.run(ask())


@pytest.mark.parametrize(
    ("target", "header"),
    [("/a b", "x"), ("/a\r\nX: 1", "x"), ("/ä", "x"), ("/a", "x\r\nX: 1"), ("/a", "x\0")],
)
def test_nothing_can_be_smuggled_into_a_request(run: asyncio.Runner, target: str, header: str) -> None:
    async def ask() -> None:
        script = Script(SIZED)
        async with listening(script) as port:
            with pytest.raises(ValueError):
                await client_of(port).send("GET", target, [("Authorization", header)])
        assert not script.heads

    run.run(ask())


class Tunnel:
    """A proxy that connects to anything, on this machine."""

    def __init__(self, refuse: bytes = b"") -> None:
        self.refuse = refuse
        self.heads: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        if self.refuse:
            writer.write(self.refuse)
            return
        authority = head.split()[1].removeprefix("http://").split("/")[0]
        host, _, port = authority.rpartition(":")
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", int(port))
        if head.startswith("CONNECT"):
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            there_writer.write(head.encode())
        await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.mark.parametrize("secure", ["http", "https"])
def test_through_a_proxy(tmp_path: Path, run: asyncio.Runner, secure: str) -> None:
    """TLS to the server inside the tunnel, which may be TLS itself; its name is resolved by the proxy."""
    authority = Authority(tmp_path)
    trusting = ssl.create_default_context(cafile=str(authority.certificate))

    async def ask() -> None:
        tunnel, script = Tunnel(), Script(SIZED, SIZED)
        proxy_tls = authority.server_context() if secure == "https" else None
        async with listening(tunnel, proxy_tls) as between:
            async with listening(script, authority.server_context()) as port:
                proxy = proxy_for("https://x", f"{secure}://us%40er:pass@127.0.0.1:{between}")
                server = f"https://cluster.invalid:{port}"
                client = Client(server, trusting, "localhost", proxy, 10.0)
                assert [await body_of(client) for _ in range(2)] == [b"hello"] * 2
                await client.close()
                assert tunnel.heads == [
                    f"CONNECT cluster.invalid:{port} HTTP/1.1\r\nHost: cluster.invalid:{port}\r\n"
                    "Proxy-Authorization: Basic dXNAZXI6cGFzcw==\r\n\r\n"
                ]
                assert b"Proxy-Authorization" not in script.heads[0]
                with pytest.raises(ssl.SSLCertVerificationError):
                    await body_of(Client(server, trusting, "", proxy, 10.0))

    run.run(ask())


def test_plain_http_through_a_proxy(run: asyncio.Runner) -> None:
    async def ask() -> None:
        tunnel, script = Tunnel(), Script(SIZED)
        async with listening(tunnel) as between, listening(script) as port:
            client = client_of(port, proxy=Proxy("127.0.0.1", between, False, "Basic eA=="))
            assert await body_of(client) == b"hello"
            assert tunnel.heads[0].startswith(f"GET http://127.0.0.1:{port}/api HTTP/1.1\r\n")
            assert "Proxy-Authorization: Basic eA==" in tunnel.heads[0]
            await client.close()

    run.run(ask())


def api_of(port: int, **options: object) -> Api:
    connection = Connection(host=f"http://127.0.0.1:{port}", **options)  # type: ignore[arg-type]
    return Api(ClusterConfig(connection, "here", "here", "me", "default"), seconds=10.0)


def test_a_proxy_that_refuses_is_told(run: asyncio.Runner) -> None:
    async def ask() -> None:
        refusing = Tunnel(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        async with listening(refusing) as between:
            api = api_of(1, proxy=f"http://user:secret@127.0.0.1:{between}")
            api.config.configuration.host = "https://cluster.invalid"
            with pytest.raises(ConnectionLost) as lost:
                await api.call("GET", "/version")
            assert f"the proxy 127.0.0.1:{between} answers 407 Proxy Authentication" in str(lost.value)
            assert "secret" not in str(lost.value)

    run.run(ask())


def test_an_intermediate_authority_of_the_kubeconfig_is_trusted(
    tmp_path: Path, run: asyncio.Runner
) -> None:
    """Its own is not in the kubeconfig, nor among the system's."""
    authority = Authority(tmp_path, below=Authority(tmp_path, "root"))

    async def ask() -> object:
        async with listening(Script(VERSION), authority.server_context()) as port:
            way = Connection(f"https://127.0.0.1:{port}", ssl_ca_cert=str(authority.certificate))
            api = Api(ClusterConfig(way, "here", "here", "me", "default"), seconds=10.0)
            try:
                return await api.call("GET", "/version")
            finally:
                await api.close()

    assert run.run(ask()) == {"major": "1x"}


VERSION = OK + b'Content-Length: 15\r\n\r\n{"major": "1x"}'


@pytest.mark.parametrize(
    ("cluster", "problem"),
    [
        ({"certificate-authority": "CA"}, ""),
        ({"certificate-authority": "CA", "tls-server-name": "localhost"}, ""),
        ({"certificate-authority": "CA", "tls-server-name": "other.example"}, "is not trusted"),
        ({"insecure-skip-tls-verify": True}, ""),
        ({}, "is not trusted"),
        ({"certificate-authority": "CA", "proxy-url": "PROXY"}, ""),
        ({"certificate-authority": "CA", "proxy-url": "socks5://127.0.0.1:1"}, "cannot be used"),
    ],
)
def test_what_a_kubeconfig_says_of_the_way(
    tmp_path: Path, run: asyncio.Runner, cluster: dict[str, object], problem: str
) -> None:
    authority, tunnel = Authority(tmp_path), Tunnel()

    async def ask(port: int, between: int) -> object:
        places = {"CA": str(authority.certificate), "PROXY": f"http://127.0.0.1:{between}"}
        entry = {key: places.get(str(value), value) for key, value in cluster.items()}
        document = {
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": f"https://127.0.0.1:{port}/k8s", **entry}}],
            "users": [{"name": "me", "user": {"token": "t0ken"}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        }
        (tmp_path / "config").write_text(json.dumps(document))
        api = Api(await load_config(Choice(str(tmp_path / "config"))), seconds=10.0)
        try:
            return await api.call("GET", "/version")
        finally:
            await api.close()

    async def asked() -> None:
        script = Script(VERSION)
        async with listening(tunnel) as between:
            async with listening(script, authority.server_context()) as port:
                if problem:
                    with pytest.raises((ConnectionLost, UsageError), match=problem):
                        await ask(port, between)
                    assert not script.heads
                    return
                assert await ask(port, between) == {"major": "1x"}
        assert script.heads[0].startswith(b"GET /k8s/version HTTP/1.1\r\n")
        assert b"\r\nAuthorization: Bearer t0ken\r\n" in script.heads[0]
        assert len(tunnel.heads) == ("proxy-url" in cluster)

    run.run(asked())


@pytest.mark.parametrize(
    ("server", "environment", "proxy"),
    [
        ("https://c.example:6443", {}, ""),
        ("https://c.example:6443", {"HTTPS_PROXY": "http://p:3128"}, "p:3128"),
        ("https://c.example:6443", {"https_proxy": "p:3128"}, "p:3128"),
        ("https://c.example:6443", {"HTTP_PROXY": "http://p:3128"}, ""),
        ("http://c.example", {"HTTP_PROXY": "http://p"}, "p:80"),
        ("https://c.example", {"HTTPS_PROXY": "https://p"}, "p:443"),
        ("https://127.0.0.1:6443", {"HTTPS_PROXY": "p"}, ""),
        ("https://localhost:6443", {"HTTPS_PROXY": "p"}, ""),
        ("https://[::1]:6443", {"HTTPS_PROXY": "p"}, ""),
        ("https://c.example", {"HTTPS_PROXY": "p", "NO_PROXY": "a, C.example"}, ""),
        ("https://c.example", {"HTTPS_PROXY": "p", "NO_PROXY": "example"}, ""),
        ("https://c.example", {"HTTPS_PROXY": "p", "NO_PROXY": ".example"}, ""),
        ("https://c.example", {"HTTPS_PROXY": "p", "NO_PROXY": "*.example"}, ""),
        ("https://c.example", {"HTTPS_PROXY": "p", "NO_PROXY": ".c.example"}, "p:80"),
        ("https://c.example", {"HTTPS_PROXY": "p", "NO_PROXY": "xample"}, "p:80"),
        ("https://c.example:6443", {"HTTPS_PROXY": "p", "NO_PROXY": "c.example:6443"}, ""),
        ("https://c.example:6443", {"HTTPS_PROXY": "p", "NO_PROXY": "c.example:443"}, "p:80"),
        ("https://10.1.2.3:6443", {"HTTPS_PROXY": "p", "NO_PROXY": "10.0.0.0/8"}, ""),
        ("https://11.1.2.3:6443", {"HTTPS_PROXY": "p", "NO_PROXY": "10.0.0.0/8"}, "p:80"),
        ("https://[2001:db8::1]:6443", {"HTTPS_PROXY": "p", "NO_PROXY": "2001:db8::/32"}, ""),
        ("https://[2001:db8::1]:6443", {"HTTPS_PROXY": "p", "NO_PROXY": "[2001:db8::1]:6443"}, ""),
        ("https://c.example", {"HTTPS_PROXY": "p", "NO_PROXY": "*"}, ""),
    ],
)
def test_proxies_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, server: str, environment: dict[str, str], proxy: str
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert str(proxy_for(server, "") or "") == proxy
    assert str(proxy_for(server, "http://own:1")) == "own:1"


@pytest.mark.parametrize("url", ["socks5://user:secret@p:1080", "ftp://p", "http://", "http://p:port"])
def test_a_proxy_that_we_cannot_speak_to(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        proxy_for("https://c.example", url)
    assert "secret" not in str(refused.value)


def unmasked(opcode: int, payload: bytes, final: bool = True) -> bytes:
    """A frame as a server sends it."""
    size = len(payload)
    first = (0x80 if final else 0) | opcode
    if size < 126:
        return bytes([first, size]) + payload
    if size < 1 << 16:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


PAYLOADS = st.binary(max_size=300) | st.sampled_from([b"x" * 125, b"x" * 126, b"x" * 65535, b"y" * 65536])


@given(st.lists(st.lists(PAYLOADS, min_size=1, max_size=3), max_size=4), st.integers(60, 70000))
@settings(deadline=None)
def test_messages_survive_any_cut(messages: list[list[bytes]], step: int) -> None:
    stream = b""
    for parts in messages:
        for index, part in enumerate(parts):
            opcode = CONTINUATION if index else BINARY
            stream += unmasked(opcode, part, final=index == len(parts) - 1) + unmasked(PING, b"p")
    reader, got = FrameReader(1 << 20), []
    for at in range(0, len(stream), step):
        got += reader.feed(stream[at : at + step])
    assert [data for opcode, data in got if opcode == BINARY] == [b"".join(parts) for parts in messages]
    assert sum(opcode == PING for opcode, _ in got) == sum(map(len, messages))


@pytest.mark.parametrize(
    "stream",
    [
        bytes([0x82, 0x80 | 1]) + b"keyyx",
        bytes([0xC2, 1]) + b"x",
        unmasked(3, b""),
        unmasked(CONTINUATION, b"x"),
        unmasked(BINARY, b"x", final=False) + unmasked(BINARY, b"y"),
        unmasked(PING, b"x", final=False),
        unmasked(PING, b"x" * 126),
        bytes([0x82, 127]) + struct.pack("!Q", 1 << 40),
        unmasked(BINARY, b"x" * 999, final=False) + unmasked(CONTINUATION, b"x" * 2),
    ],
)
def test_frames_that_no_server_may_send(stream: bytes) -> None:
    with pytest.raises(NotHttp):
        FrameReader(1000).feed(stream)


@settings(deadline=None)
@given(PAYLOADS, st.binary(min_size=4, max_size=4))
def test_our_frames_are_masked(payload: bytes, key: bytes) -> None:
    sent = websocket.frame(BINARY, payload, key)
    head = sent[: len(sent) - len(payload)]
    assert head[0] == 0x80 | BINARY and head[1] & 0x80 and head[-4:] == key
    clear = bytes([head[0], head[1] & 0x7F]) + head[2:-4]
    clear += bytes(byte ^ key[index % 4] for index, byte in enumerate(sent[len(head) :]))
    assert FrameReader(1 << 20).feed(clear) == [(BINARY, payload)]


class Upgrading:
    """Takes one exec: says `frames`, and keeps what the client sends."""

    def __init__(
        self, frames: bytes, protocol: str = "v5.channel.k8s.io", accept: str = "", leaves: bool = False
    ) -> None:
        self.frames, self.protocol, self.accept, self.leaves = frames, protocol, accept, leaves
        self.received = b""
        self.left = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line for line in head.split("\r\n") if line.startswith("Sec-WebSocket-Key")).split()[1]
        accept = self.accept or _accept(key)
        writer.write(
            f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {self.protocol}\r\n\r\n".encode()
            + self.frames
        )
        if self.leaves:
            return
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(4096):
                self.received += data
        self.left.set()


def _accept(key: str) -> str:
    import base64
    import hashlib

    return base64.b64encode(hashlib.sha1(key.encode() + websocket.GUID).digest()).decode()  # noqa: S324


def test_an_exec_stream(run: asyncio.Runner) -> None:
    async def talk() -> None:
        end = unmasked(CLOSE, struct.pack("!H", 1000))
        server = Upgrading(unmasked(BINARY, b"\x01out") + unmasked(PING, b"are you there") + end)
        async with listening(server) as port:
            api = api_of(port)
            channel = await ExecChannel.start(api, "default", "web", "app", ["true"])
            assert [await channel.read(), await channel.read()] == [b"out", b""]
            await channel.write(b"in")
            await channel.close()
            await asyncio.wait_for(server.left.wait(), 20)
            await api.close()
        assert b"\x8a\x8d" in server.received  # a pong of 13 masked bytes
        assert b"\x82\x83" in server.received  # stdin: one byte of channel and two of data

    run.run(talk())


def test_a_stream_that_is_cut_right_after_the_upgrade(run: asyncio.Runner) -> None:
    """All of it may be there before anybody looks: the head, a message, half of one, and the end."""

    async def talk() -> None:
        cut = unmasked(BINARY, b"\x01out") + unmasked(BINARY, b"\x01more")[:4]
        async with listening(Upgrading(cut, leaves=True)) as port:
            channel = await ExecChannel.start(api_of(port), "default", "web", "app", ["true"])
            assert [await channel.read(), await channel.read()] == [b"out", b""]
            with pytest.raises(ConnectionLost):
                await channel.write(b"in")
            await channel.close()

    run.run(asyncio.wait_for(talk(), 20))


def test_a_server_that_pours_has_to_wait(run: asyncio.Runner) -> None:
    message = b"\x01" + bytes(1 << 15)

    async def talk() -> None:
        async with listening(Upgrading(unmasked(BINARY, message) * 256)) as port:
            api = api_of(port)
            socket = await api.websocket("/exec", [], ("v5.channel.k8s.io",))
            while socket._held <= websocket.MAX_HELD_BYTES:
                await asyncio.sleep(0.01)
            for _ in range(50):
                await asyncio.sleep(0.001)
                assert socket._held < 2 * websocket.MAX_HELD_BYTES
            for _ in range(256):
                assert await socket.receive() == message
            assert socket._held == 0
            await api.close()

    run.run(asyncio.wait_for(talk(), 20))


@pytest.mark.parametrize(
    "server",
    [Upgrading(b"", protocol="chat"), Upgrading(b"", accept="bm9wZQ==")],
    ids=["protocol", "accept"],
)
def test_an_upgrade_to_something_else(run: asyncio.Runner, server: Upgrading) -> None:
    async def ask() -> None:
        async with listening(server) as port:
            with pytest.raises(ConnectionLost, match="something else"):
                await ExecChannel.start(api_of(port), "default", "web", "app", ["true"])

    run.run(ask())


def test_a_server_that_does_not_answer_pings_is_given_up(run: asyncio.Runner) -> None:
    async def talk() -> None:
        server = Upgrading(b"")
        async with listening(server) as port:
            api = api_of(port)
            channel = await api.websocket("/", [], ("v5.channel.k8s.io",), heartbeat=0.05)
            with pytest.raises(NotHttp, match="does not answer"):
                await asyncio.wait_for(channel.receive(), 20)
            await api.close()
        assert server.received.startswith(b"\x89\x80")  # a ping without contents, masked

    run.run(talk())


def test_text_ends_an_exec_stream(run: asyncio.Runner) -> None:
    async def talk() -> None:
        async with listening(Upgrading(unmasked(TEXT, b"x") + unmasked(PONG, b""))) as port:
            channel = await ExecChannel.start(api_of(port), "default", "web", "app", ["true"])
            assert await channel.read() == b""

    run.run(talk())


def test_a_refused_upgrade_is_told_in_the_servers_words(run: asyncio.Runner) -> None:
    body = b'{"kind":"Status","code":403,"message":"cannot create resource pods/exec"}'
    answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    async def ask() -> None:
        script = Script(answer, answer)
        async with listening(script) as port:
            api = api_of(port)
            await api.warm()
            for _ in range(2):  # on one connection, which was there before
                with pytest.raises(ServerRefusal, match="cannot create resource") as refused:
                    await ExecChannel.start(api, "default", "web", "app", ["true"])
                assert refused.value.code == 403
            assert script.connections == 1
            await api.close()

    run.run(ask())


def test_warming_up_for_a_server_that_is_not_there_says_nothing(run: asyncio.Runner) -> None:
    async def ask() -> None:
        async with listening(Script()) as port:
            pass
        await api_of(port).warm()

    run.run(ask())
