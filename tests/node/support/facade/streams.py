"""exec and attach: the client's WebSocket on one side, the runtime's streaming server (SPDY) on the other.

This is the API server's own arrangement, so it behaves alike: with `v5.channel.k8s.io` the client can
close stdin, with v4 it cannot; the exit code comes as a Status on channel 3; what the runtime refuses
before it streams is HTTP 500, or, on servers that upgrade first (`Faults.exec_error_in_stream`), that
same Status.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web
from cri_api.v1 import api_pb2 as api

from ..kubelet.cri import Cri, CriError
from ..runtime import STREAM_PORT, Runtime
from . import errors, spdy
from .faults import Faults

Object = dict[str, Any]

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
V5 = "v5.channel.k8s.io"
LARGEST_MESSAGE = 32 << 20
CHUNK = 32 << 10
"""A real server's messages are no longer than this, however much the process wrote at once."""


@dataclass(frozen=True)
class Options:
    container: str
    """Its id."""
    command: list[str]
    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool

    @property
    def streams(self) -> list[str]:
        names = ["error"]
        names += ["stdin"] if self.stdin else []
        names += ["stdout"] if self.stdout else []
        names += ["stderr"] if self.stderr and not self.tty else []
        return names + (["resize"] if self.tty else [])


async def runtime_url(cri: Cri, options: Options, attach: bool) -> str:
    common: Object = {"container_id": options.container, "tty": options.tty, "stdin": options.stdin}
    common |= {"stdout": options.stdout, "stderr": options.stderr and not options.tty}
    if attach:
        return await cri.attach_url(api.AttachRequest(**common))
    return await cri.exec_url(api.ExecRequest(cmd=options.command, **common))


class Session:
    """One client on one stream, until either side ends."""

    def __init__(self, request: web.Request, runtime: Runtime, faults: Faults) -> None:
        self._request, self._runtime, self._faults = request, runtime, faults
        # The peer's close must end us at once; a cluster does not wait for it either.
        self._socket = web.WebSocketResponse(
            protocols=faults.subprotocols, max_msg_size=LARGEST_MESSAGE, timeout=1.0, compress=False
        )
        self._sent = 0

    async def serve(self, url: Callable[[], Awaitable[str]], options: Options) -> web.StreamResponse:
        offered = {
            name.strip() for name in self._request.headers.get("Sec-WebSocket-Protocol", "").split(",")
        }
        if not offered & set(self._faults.subprotocols):
            return web.Response(status=403, text="unable to negotiate a subprotocol")
        try:
            connection = await self._connect(await url(), options)
        except (CriError, spdy.Refused) as problem:
            return await self._refused(str(problem))
        await self._socket.prepare(self._request)
        done = self._faults.opened(self._cut)
        try:
            await self._relay(connection, options)
        finally:
            done()
            connection.close()
        return self._socket

    async def _refused(self, why: str) -> web.StreamResponse:
        if not self._faults.exec_error_in_stream:
            return web.Response(status=500, text=why)
        await self._socket.prepare(self._request)
        status = errors.internal(f"error sending request: unable to upgrade connection: {why}").status()
        await self._send(ERROR, json.dumps(status).encode())
        await self._socket.close()
        return self._socket

    async def _connect(self, url: str, options: Options) -> spdy.Connection:
        loop = asyncio.get_running_loop()
        connected = await loop.run_in_executor(None, self._runtime.connect_inside)
        connected.setblocking(False)
        await loop.sock_connect(connected, ("127.0.0.1", STREAM_PORT))
        return await spdy.Connection.open(connected, url, options.streams)

    def _cut(self) -> None:
        transport = self._request.transport
        if transport is not None:
            transport.abort()  # no close frame and no FIN: what a dead proxy looks like

    async def _relay(self, connection: spdy.Connection, options: Options) -> None:
        # The first, empty message tells clients that the connection stands.
        await self._send(STDOUT if options.stdout else STDERR if options.stderr else ERROR, b"")
        upstream = asyncio.create_task(self._to_container(connection, options), name="stdin")
        try:
            await self._from_container(connection)
        except (ConnectionError, aiohttp.ClientConnectionError):
            pass  # the client is gone, or was cut
        finally:
            upstream.cancel()
        await self._socket.close()

    async def _from_container(self, connection: spdy.Connection) -> None:
        channels = {"stdout": STDOUT, "stderr": STDERR}
        status = b""
        async for data in connection.received():
            if data.stream == "error":
                status += data.payload
            elif data.stream in channels:
                for start in range(0, len(data.payload), CHUNK):
                    await self._send(channels[data.stream], data.payload[start : start + CHUNK])
        await self._send(ERROR, status or b'{"metadata":{},"status":"Success"}')

    async def _send(self, channel: int, payload: bytes) -> None:
        limit = self._faults.cut_after_bytes
        if limit is not None and self._sent + len(payload) > limit:
            payload = payload[: max(0, limit - self._sent)]
            await self._socket.send_bytes(bytes([channel]) + payload)
            self._cut()
            raise ConnectionResetError("cut by the test")
        await self._socket.send_bytes(bytes([channel]) + payload)
        self._sent += len(payload)

    async def _to_container(self, connection: spdy.Connection, options: Options) -> None:
        names = {STDIN: "stdin", RESIZE: "resize"}
        closed = not options.stdin
        try:
            async for message in self._socket:
                if (
                    message.type not in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT)
                    or not message.data
                ):
                    continue
                raw = message.data if isinstance(message.data, bytes) else message.data.encode()
                channel, payload = raw[0], raw[1:]
                if channel == CLOSE and payload == bytes([STDIN]) and self._socket.ws_protocol == V5:
                    if not closed:
                        await connection.send("stdin", b"", last=True)
                    closed = True
                elif (
                    names.get(channel) in options.streams and payload and not (closed and channel == STDIN)
                ):
                    await connection.send(names[channel], payload)
        except ConnectionError:
            pass
        # The client has left: so does its connection to the container, whose stdin ends with it.
        connection.close()
