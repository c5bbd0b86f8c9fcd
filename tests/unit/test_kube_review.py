"""How `kube` behaves towards servers, clusters and pods that are not as one would wish."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import json
import socket
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kdebug.errors import ConnectionLost, DeadlinePassed, Failed
from kdebug.kube.api import Api, ServerRefusal
from kdebug.kube.backend import PodBackend
from kdebug.kube.config import Choice, load_config
from kdebug.kube.exec import ExecChannel
from kdebug.kube.logs import merged, parse_line
from kdebug.kube.pods import Selected
from kdebug.kube.stream import NOT_YET, Toolbox, watch_pod
from kdebug.protocol.requests import ListProcesses, OpenTarget
from kdebug.target.cluster import LogLine, LogQuery, PodRef


def certificate() -> tuple[bytes, bytes]:
    """One that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "engineer")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def kubeconfig(folder: Path, server: str, user: dict[str, object] | None, **cluster: object) -> Path:
    document = {
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "me", "user": user or {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
    }
    path = folder / "config"
    path.write_text(yaml.safe_dump(document))
    return path


def test_no_copy_of_the_client_key_stays_in_the_temporary_folder(
    tmp_path: Path, run: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    public, private = (base64.b64encode(text).decode() for text in certificate())
    user: dict[str, object] = {"client-certificate-data": public, "client-key-data": private}
    path = kubeconfig(tmp_path, "https://192.0.2.9", user, **{"certificate-authority-data": public})

    async def loaded() -> None:
        api = Api(await load_config(Choice(str(path))))
        api._client()
        assert not list(folder.iterdir())
        await api.close()

    run.run(loaded())


async def serve(stack: contextlib.AsyncExitStack, *routes: web.RouteDef) -> str:
    """A server of our own; its URL."""
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert isinstance(site._server, asyncio.Server)
    return f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"


async def api_at(stack: contextlib.AsyncExitStack, folder: Path, url: str, **user: object) -> Api:
    api = Api(await load_config(Choice(str(kubeconfig(folder, url, user)))), seconds=5.0)
    stack.push_async_callback(api.close)
    return api


POD: dict[str, Any] = {
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "default", "resourceVersion": "1", "uid": "u"},
    "spec": {"containers": [{"name": "app"}]},
    "status": {"phase": "Running"},
}


def test_an_exec_that_is_refused_after_the_upgrade_says_nothing_of_the_image(
    tmp_path: Path, run: asyncio.Runner
) -> None:
    """A v5 server answers 101 and tells in the stream that the container does not run yet."""
    message = 'Internal error occurred: unable to upgrade connection: container not found ("kdebug-x")'

    async def refuse(request: web.Request) -> web.WebSocketResponse:
        answer = web.WebSocketResponse(protocols=("v5.channel.k8s.io",))
        await answer.prepare(request)
        status = {"kind": "Status", "status": "Failure", "code": 500, "message": message}
        await answer.send_bytes(b"\x03" + json.dumps(status).encode())
        await answer.close()
        return answer

    async def connected() -> None:
        async with contextlib.AsyncExitStack() as stack:
            url = await serve(stack, web.get("/{rest:.*}", refuse))
            api = await api_at(stack, tmp_path, url)
            toolbox = Toolbox(api, Selected(POD, "app"), "kdebug-x", "registry/kdebug-toolbox:core")
            with pytest.raises(ServerRefusal) as refused:
                await toolbox.connect(request_seconds=5.0)
            assert refused.value.code in NOT_YET and "container not found" in refused.value.message
            assert not toolbox.delivered

    run.run(connected())


@pytest.mark.parametrize(
    "line",
    [b"unable to retrieve container logs for containerd://4f", b"\x1b]52;c;AAAA\x07 rest of a long line"],
)
def test_a_log_line_without_a_time_is_text_whole(line: bytes) -> None:
    """Its first word would otherwise be lost, or reach the terminal as a time, raw."""
    assert parse_line("app", line) == LogLine("app", "", line)


def test_a_log_line_with_a_time() -> None:
    stamp = "2026-05-01T10:00:00.123456789+02:00"
    assert parse_line("app", f"{stamp} hello you".encode()) == LogLine("app", stamp, b"hello you")


def test_the_log_of_one_container_is_read_though_another_has_none(
    tmp_path: Path, run: asyncio.Runner
) -> None:
    async def log(request: web.Request) -> web.Response:
        if request.query["container"] != "init":
            status = {"kind": "Status", "code": 400, "message": "app is waiting to start: PodInitializing"}
            return web.json_response(status, status=400)
        return web.Response(text="2026-05-01T10:00:00Z migrating\n")

    async def read() -> None:
        async with contextlib.AsyncExitStack() as stack:
            url = await serve(stack, web.get("/{rest:.*}", log))
            api = await api_at(stack, tmp_path, url)
            pod = PodRef("default", "web", "app", ("app", "sidecar", "init"))
            lines = []
            with pytest.raises(Failed, match="1 more"):
                async for line in merged(api, pod, pod.containers, LogQuery()):
                    lines.append(line.text)
            assert lines == [b"migrating"]

    run.run(read())


def test_a_server_that_accepts_and_says_nothing_is_told_in_time(
    tmp_path: Path, run: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdebug.kube.api.CONNECT_SECONDS", 0.2)

    async def call() -> None:
        async with contextlib.AsyncExitStack() as stack:
            silent = socket.create_server(("127.0.0.1", 0))
            stack.callback(silent.close)
            api = await api_at(stack, tmp_path, f"https://127.0.0.1:{silent.getsockname()[1]}")
            with pytest.raises(DeadlinePassed, match="did not accept a connection within 0.2 s"):
                await api.call("GET", "/version")

    run.run(asyncio.wait_for(call(), 3))


def rotating(folder: Path, valid: list[str]) -> tuple[web.RouteDef, dict[str, object]]:
    """A server that takes one token at a time, and the user whose token file follows."""
    token = folder / "token"
    token.write_text("old\n")

    async def answer(request: web.Request) -> web.StreamResponse:
        token.write_text("new\n")
        await asyncio.sleep(0.05)
        if request.headers["Authorization"] != f"Bearer {valid[0]}":
            return web.json_response({"kind": "Status", "code": 401, "message": "Unauthorized"}, status=401)
        if "exec" in request.path and "Upgrade" in request.headers:
            upgraded = web.WebSocketResponse(protocols=("v5.channel.k8s.io",))
            await upgraded.prepare(request)
            await upgraded.close()
            return upgraded
        return web.json_response({"kind": "Pod"})

    return web.get("/{rest:.*}", answer), {"tokenFile": str(token)}


def test_credentials_are_renewed_once_for_all_requests_under_way(
    tmp_path: Path, run: asyncio.Runner
) -> None:
    async def ask() -> None:
        async with contextlib.AsyncExitStack() as stack:
            route, user = rotating(tmp_path, ["new"])
            api = await api_at(stack, tmp_path, await serve(stack, route), **user)
            answers = await asyncio.gather(*(api.call("GET", f"/{n}") for n in range(8)))
            assert answers == [{"kind": "Pod"}] * 8

    run.run(ask())


def test_exec_and_watch_renew_their_credentials_too(tmp_path: Path, run: asyncio.Runner) -> None:
    async def ask() -> None:
        async with contextlib.AsyncExitStack() as stack:
            route, user = rotating(tmp_path, ["new"])
            url = await serve(stack, route)
            api = await api_at(stack, tmp_path, url, **user)
            await (await ExecChannel.start(api, "default", "web", "app", ["true"])).close()
            (tmp_path / "token").write_text("old")
            api = await api_at(stack, tmp_path, url, **user)
            assert [line async for line in api.lines("/pods", [])] == [b'{"kind": "Pod"}']

    run.run(ask())


@pytest.mark.parametrize("body", ["[]", "null", "<html>", "3"])
def test_what_is_no_api_server_is_told(tmp_path: Path, run: asyncio.Runner, body: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=body)

    async def ask() -> None:
        async with contextlib.AsyncExitStack() as stack:
            url = await serve(stack, web.get("/{rest:.*}", answer))
            api = await api_at(stack, tmp_path, url)
            with pytest.raises(ConnectionLost, match="not a Kubernetes API server"):
                await api.call("GET", "/api/v1/namespaces/default/pods/web")

    run.run(ask())


@pytest.mark.parametrize("status", [200, 429, 500])
def test_a_watch_that_ends_at_once_does_not_spin(tmp_path: Path, run: asyncio.Runner, status: int) -> None:
    watches = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal watches
        if "watch" not in request.query:
            return web.json_response(POD)
        watches += 1
        return web.Response(status=status, text='{"type": "MODI')

    async def look() -> None:
        async with contextlib.AsyncExitStack() as stack:
            url = await serve(stack, web.get("/{rest:.*}", answer))
            api = await api_at(stack, tmp_path, url)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.5):
                    async for seen in watch_pod(api, Selected(POD, "app"), "1"):
                        assert seen == POD

    run.run(look())
    assert watches <= 2


class Gone:
    """A connection that is lost; `toolbox` cannot make another, and counts how often that was tried."""

    def __init__(self) -> None:
        self.tries = 0

    async def send(self, request: Any) -> Any:
        raise ConnectionLost("the connection to the agent is lost")

    async def close(self) -> None:
        pass

    async def connect(self, *, request_seconds: float) -> Any:
        self.tries += 1
        await asyncio.sleep(0.05)
        raise ConnectionLost("the API server cannot be reached")

    selected = Selected(POD, "app")

    @property
    def api(self) -> Any:
        return self

    async def call(self, *_: object, **__: object) -> Any:
        raise ConnectionLost("the API server cannot be reached")


def test_requests_that_lost_one_stream_share_one_try_to_reconnect(run: asyncio.Runner) -> None:
    gone: Any = Gone()
    backend = PodBackend(gone, gone, OpenTarget(pid=1), 5.0)

    async def lose() -> None:
        asked = (backend.send(ListProcesses()) for _ in range(10))
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(answer, ConnectionLost) for answer in answers)

    run.run(lose())
    assert gone.tries == 1


def test_a_reconnect_that_fails_half_way_leaves_no_agent_behind(run: asyncio.Runner) -> None:
    class Half(Gone):
        closed = False

        async def connect(self, *, request_seconds: float) -> Any:
            return self

        async def close(self) -> None:
            self.closed = True

    gone: Any = Gone()
    half: Any = Half()
    backend = PodBackend(half, gone, OpenTarget(pid=1), 5.0)
    with pytest.raises(ConnectionLost):
        run.run(backend.send(ListProcesses()))
    assert half.closed
