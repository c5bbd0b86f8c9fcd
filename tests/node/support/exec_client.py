"""A plain client of exec and attach: it shows what is on the wire, and it is not the client under test."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import yaml

V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"


@dataclass
class Outcome:
    protocol: str | None = None
    stdout: bytes = b""
    """Complete when the stream has ended."""
    stderr: bytes = b""
    status: dict[str, Any] = field(default_factory=dict)
    """From channel 3; empty if the stream ended without one."""
    close_code: int | None = None
    """1006 means that the connection broke."""

    @property
    def exit_code(self) -> int | None:
        if self.status.get("status") == "Success":
            return 0
        causes = (self.status.get("details") or {}).get("causes") or []
        return next((int(one["message"]) for one in causes if one.get("reason") == "ExitCode"), None)


class Handshake(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"HTTP {code}: {text}")
        self.code = code


def stream(
    kubeconfig: Path,
    namespace: str,
    pod: str,
    container: str,
    *command: str,
    stdin: bytes | None = None,
    close_stdin: bool = True,
    protocols: tuple[str, ...] = (V5, V4),
    verb: str = "exec",
    tty: bool = False,
) -> Outcome:
    """Run a command, or attach, to the end of the stream."""
    query = [
        ("container", container),
        ("stdout", "1"),
        ("stderr", "0" if tty else "1"),
        ("tty", str(int(tty))),
    ]
    query += [("command", one) for one in command] + ([("stdin", "1")] if stdin is not None else [])
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/{verb}?{urlencode(query)}"
    return asyncio.run(_stream(kubeconfig, path, stdin, close_stdin, protocols))


def _connection(kubeconfig: Path) -> tuple[str, ssl.SSLContext, dict[str, str]]:
    document = yaml.safe_load(kubeconfig.read_text())
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    data = cluster.get("certificate-authority-data")
    context = ssl.create_default_context(
        cafile=cluster.get("certificate-authority"),
        cadata=base64.b64decode(data).decode() if data else None,
    )
    if "client-certificate" in user:
        context.load_cert_chain(user["client-certificate"], user["client-key"])
    headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
    return cluster["server"], context, headers


async def _stream(
    kubeconfig: Path, path: str, stdin: bytes | None, close_stdin: bool, protocols: tuple[str, ...]
) -> Outcome:
    server, context, headers = _connection(kubeconfig)
    outcome = Outcome()
    async with aiohttp.ClientSession(headers=headers) as session:
        try:
            connected = await session.ws_connect(
                server + path, ssl=context, protocols=protocols, max_msg_size=0
            )
        except aiohttp.WSServerHandshakeError as problem:
            raise Handshake(problem.status, problem.message) from None
        async with connected as socket:
            outcome.protocol = socket.protocol
            sending = asyncio.create_task(_send(socket, stdin, close_stdin and socket.protocol == V5))
            received: dict[int, list[bytes]] = {1: [], 2: [], 3: []}
            async for message in socket:
                received[message.data[0]].append(message.data[1:])
            sending.cancel()
            outcome.stdout, outcome.stderr = b"".join(received[1]), b"".join(received[2])
            outcome.status = json.loads(b"".join(received[3]) or b"{}")
            outcome.close_code = socket.close_code
    return outcome


async def _send(socket: aiohttp.ClientWebSocketResponse, stdin: bytes | None, close: bool) -> None:
    for start in range(0, len(stdin or b""), 32768):
        await socket.send_bytes(b"\x00" + (stdin or b"")[start : start + 32768])
    if stdin is not None and close:
        await socket.send_bytes(b"\xff\x00")
