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

from kdebug.errors import AccessDenied, ConnectionLost, DeadlinePassed, Failed, UsageError
from kdebug.expression import TargetExpression
from kdebug.kube import account
from kdebug.kube.api import Api, ServerRefusal
from kdebug.kube.attach import Attachment, AttachOptions, Report
from kdebug.kube.backend import PodBackend
from kdebug.kube.config import Choice, load_config
from kdebug.kube.ephemeral import Lifetime, ToolboxSpec, container, lifetime_of, reusable
from kdebug.kube.exec import ExecChannel
from kdebug.kube.failures import ToolboxFailed, toolbox_state
from kdebug.kube.headroom import memory_limit
from kdebug.kube.ladder import Rung, plan
from kdebug.kube.logs import merged, parse_line
from kdebug.kube.pods import Selected, select
from kdebug.kube.stream import NOT_YET, Toolbox, connect_when_running, watch_pod
from kdebug.protocol.requests import ListProcesses, OpenTarget
from kdebug.settings import Settings
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
        api._connections()
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
    tmp_path: Path, run: asyncio.Runner
) -> None:
    async def call() -> None:
        async with contextlib.AsyncExitStack() as stack:
            silent = socket.create_server(("127.0.0.1", 0))
            stack.callback(silent.close)
            path = kubeconfig(tmp_path, f"https://127.0.0.1:{silent.getsockname()[1]}", None)
            api = Api(await load_config(Choice(str(path))), seconds=30.0, connect=0.2)
            stack.push_async_callback(api.close)
            with pytest.raises(DeadlinePassed, match="no connection within 0.2 s"):
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


def test_nothing_reaches_for_the_toolbox_once_it_is_closed(run: asyncio.Runner) -> None:
    """What is still asked is lost by the close, which is no reason to open another stream."""

    class Closed(Gone):
        def __init__(self) -> None:
            super().__init__()
            self.ended = asyncio.Event()

        async def send(self, request: Any) -> Any:
            await self.ended.wait()
            raise ConnectionLost("the connection was closed")

        async def close(self) -> None:
            self.ended.set()

    async def close_while_asked() -> None:
        connection: Any = Closed()
        backend = PodBackend(connection, connection, OpenTarget(pid=1), 5.0)
        asked = asyncio.create_task(backend.send(ListProcesses()))
        await asyncio.sleep(0)
        await backend.close()
        with pytest.raises(ConnectionLost, match="was closed"):
            await asked
        assert connection.tries == 0

    run.run(close_while_asked())


def test_a_stream_that_comes_after_the_close_is_closed(run: asyncio.Runner) -> None:
    class Late(Gone):
        closed = False

        async def close(self) -> None:
            self.closed = True

        async def send(self, request: Any) -> Any:
            return None

    late: Any = Late()

    class Slow(Gone):
        def __init__(self) -> None:
            super().__init__()
            self.reached, self.let = asyncio.Event(), asyncio.Event()

        async def connect(self, *, request_seconds: float) -> Any:
            self.reached.set()
            await self.let.wait()
            return late

    async def close_while_it_reconnects() -> None:
        slow: Any = Slow()
        backend = PodBackend(slow, slow, OpenTarget(pid=1), 5.0)
        asked = asyncio.create_task(backend.send(ListProcesses()))
        await slow.reached.wait()
        await backend.close()
        slow.let.set()
        with pytest.raises(ConnectionLost):
            await asked
        assert late.closed

    run.run(close_while_it_reconnects())


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


@pytest.mark.parametrize("code", [401, 403])
def test_a_right_that_was_taken_away_is_told_and_not_a_lost_connection(
    run: asyncio.Runner, code: int
) -> None:
    class ShutOut(Gone):
        async def connect(self, *, request_seconds: float) -> Any:
            raise ServerRefusal(code, "Forbidden", 'pods "web" is forbidden: cannot create pods/exec', {})

    gone: Any = ShutOut()
    backend = PodBackend(gone, gone, OpenTarget(pid=1), 5.0)
    with pytest.raises(AccessDenied, match="a new one is refused") as told:
        run.run(backend.send(ListProcesses()))
    assert "cannot create pods/exec" in told.value.why


def test_a_server_that_has_no_time_is_asked_again(tmp_path: Path, run: asyncio.Runner) -> None:
    answers = [429, 429, 200]
    asked: list[float] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(asyncio.get_running_loop().time())
        status = answers.pop(0)
        busy = {"kind": "Status", "code": 429, "details": {"retryAfterSeconds": 1}}
        return web.json_response({"kind": "Pod"} if status == 200 else busy, status=status)

    async def ask() -> None:
        async with contextlib.AsyncExitStack() as stack:
            url = await serve(stack, web.get("/{rest:.*}", answer))
            assert await (await api_at(stack, tmp_path, url)).call("GET", "/") == {"kind": "Pod"}

    run.run(ask())
    assert len(asked) == 3 and all(later - sooner >= 1.0 for sooner, later in zip(asked, asked[1:]))


SHUTS_DOWN = "The apiserver is shutting down, please try again later."


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("way", ["call", "lines", "exec"])
def test_a_filter_of_the_server_that_asks_to_come_again(
    tmp_path: Path, run: asyncio.Runner, way: str, status: int
) -> None:
    """It answers in plain text, and the time is in a header (apiserver filters/with_retry_after.go)."""
    asked: list[float] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(asyncio.get_running_loop().time())
        if len(asked) == 1:
            return web.Response(status=status, text=SHUTS_DOWN, headers={"Retry-After": "1"})
        if way == "exec":
            upgraded = web.WebSocketResponse(protocols=("v5.channel.k8s.io",))
            await upgraded.prepare(request)
            await upgraded.close()
            return upgraded
        return web.json_response({"kind": "Pod"})

    async def ask() -> None:
        async with contextlib.AsyncExitStack() as stack:
            api = await api_at(stack, tmp_path, await serve(stack, web.get("/{rest:.*}", answer)))
            if way == "call":
                await api.call("GET", "/")
            elif way == "lines":
                assert [line async for line in api.lines("/pods", [])] == [b'{"kind": "Pod"}']
            else:
                await (await ExecChannel.start(api, "default", "web", "app", ["true"])).close()

    run.run(ask())
    assert len(asked) == 2 and asked[1] - asked[0] >= 1.0


def test_a_server_that_only_fails_is_not_asked_again(tmp_path: Path, run: asyncio.Runner) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=503, text="service unavailable")

    async def ask() -> None:
        async with contextlib.AsyncExitStack() as stack:
            api = await api_at(stack, tmp_path, await serve(stack, web.get("/{rest:.*}", answer)))
            with pytest.raises(ServerRefusal, match="service unavailable"):
                await api.call("GET", "/")

    run.run(ask())
    assert asked == ["/"]


def attachment(api: Api) -> Attachment:
    spec = ToolboxSpec("python:3", ("hold",), {}, "0")
    return Attachment(api, Selected(RUNNING_POD, "app"), AttachOptions(spec=spec, seconds=1.0))


RUNNING_POD = {
    **POD,
    "spec": {"containers": [{"name": "app", "securityContext": {"runAsUser": 7, "runAsGroup": 8}}]},
    "status": {
        "phase": "Running",
        "containerStatuses": [
            {"name": "app", "containerID": "containerd://" + "a" * 64, "state": {"running": {}}}
        ],
    },
}


def test_a_container_that_was_asked_for_and_never_confirmed_is_named(
    tmp_path: Path, run: asyncio.Runner
) -> None:
    """The answer to the PATCH is lost: nobody knows whether the container is there."""
    names: list[str] = []

    async def patch(request: web.Request) -> web.Response:
        names.append((await request.json())["spec"]["ephemeralContainers"][0]["name"])
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async def nothing(request: web.Request) -> web.Response:
        return web.json_response(
            {"kind": "Status", "code": 404, "message": "no such container"}, status=404
        )

    async def attach() -> list[str]:
        async with contextlib.AsyncExitStack() as stack:
            url = await serve(stack, web.patch("/{rest:.*}", patch), web.get("/{rest:.*}", nothing))
            attempt = attachment(await api_at(stack, tmp_path, url))
            with pytest.raises(ConnectionLost) as error:
                await attempt.run()
            return account.failed_lines(attempt.report, "default/web", error.value)

    lines = run.run(attach())
    assert len(names) == 1
    assert [line for line in lines if names[0] in line and "may have been added" in line]


TIMED_OUT = "Timeout: request did not complete within the allotted timeout"


@pytest.mark.parametrize(
    ("code", "reason", "message", "undecided"),
    [
        (504, "Timeout", TIMED_OUT, True),
        (502, "", "<html>Bad Gateway", True),
        (503, "", "upstream connect error", True),
        (500, "InternalError", "etcdserver: request timed out", True),
        (500, "InternalError", "failed calling webhook: context deadline exceeded", False),
        (503, "ServiceUnavailable", "not yet", False),
        (422, "Invalid", "Pod is invalid", False),
    ],
)  # fmt: skip
def test_a_refusal_that_leaves_open_whether_the_container_is_there(
    tmp_path: Path, run: asyncio.Runner, code: int, reason: str, message: str, undecided: bool
) -> None:
    """The server goes on with a request whose time is over (apiserver filters/timeout.go)."""
    words = {"kind": "Status", "code": code, "reason": reason, "message": message}

    async def patch(request: web.Request) -> web.Response:
        return web.json_response(words, status=code) if reason else web.Response(status=code, text=message)

    async def nothing(request: web.Request) -> web.Response:
        return web.json_response({"kind": "Status", "code": 404}, status=404)

    async def attach() -> list[str]:
        async with contextlib.AsyncExitStack() as stack:
            url = await serve(stack, web.patch("/{rest:.*}", patch), web.get("/{rest:.*}", nothing))
            attempt = attachment(await api_at(stack, tmp_path, url))
            with pytest.raises((Failed, DeadlinePassed)) as error:
                await attempt.run()
            return account.failed_lines(attempt.report, "default/web", error.value)

    lines = run.run(attach())
    assert bool([line for line in lines if "may have been added" in line]) is undecided


def test_every_rung_that_was_refused_is_told_when_nothing_worked() -> None:
    report = Report(refused=[("match", "it reads too little"), ("ptrace", "violates PodSecurity")])
    lines = account.failed_lines(report, "default/web", Failed("no", why="violates PodSecurity"))
    assert lines == ["the rung match did not do: it reads too little"]


def test_a_name_and_a_selector_contradict_each_other(run: asyncio.Runner) -> None:
    nobody: Any = None
    with pytest.raises(UsageError, match="both pod/web and a selector"):
        run.run(select(nobody, TargetExpression("pod", "web"), "", "app=web"))


def test_as_another_user_is_honoured(tmp_path: Path, run: asyncio.Runner) -> None:
    seen: list[tuple[str | None, list[str]]] = []

    async def answer(request: web.Request) -> web.Response:
        headers = request.headers
        seen.append((headers.get("Impersonate-User"), headers.getall("Impersonate-Group", [])))
        return web.json_response({"kind": "Pod"})

    async def ask() -> None:
        async with contextlib.AsyncExitStack() as stack:
            url = await serve(stack, web.get("/{rest:.*}", answer))
            user: dict[str, object] = {"token": "t", "as": "viewer", "as-groups": ["a", "b"]}
            await (await api_at(stack, tmp_path, url, **user)).call("GET", "/")

    run.run(ask())
    assert seen == [("viewer", ["a", "b"])]


def test_a_users_files_are_beside_the_kubeconfig_of_the_user(tmp_path: Path, run: asyncio.Runner) -> None:
    """With several files in KUBECONFIG, the cluster may be in another one."""
    public, private = certificate()
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "crt").write_bytes(public)
    (tmp_path / "user" / "key").write_bytes(private)
    whole = yaml.safe_load(kubeconfig(tmp_path, "https://192.0.2.9", None).read_text())
    user = {"client-certificate": "crt", "client-key": "key"}
    (tmp_path / "user" / "config").write_text(yaml.safe_dump({"users": [{"name": "me", "user": user}]}))
    (tmp_path / "config").write_text(yaml.safe_dump({**whole, "users": []}))
    paths = f"{tmp_path}/config:{tmp_path}/user/config:{tmp_path}/missing"
    found = run.run(load_config(Choice(paths)))
    assert found.certificate == public


def toolbox_pod(*made: tuple[str, str, dict[str, Any]], **spec: Any) -> dict[str, Any]:
    """Its target started at ten, its toolboxes (profile, image, security context) at eleven."""
    started = {"state": {"running": {"startedAt": "2026-05-01T10:00:00Z"}}}
    added, states = [], []
    for number, (profile, image, context) in enumerate(made):
        rung = Rung(profile, context, "")
        one = container(f"kdebug-{number}", ToolboxSpec("asked:1", (), {}, "0"), rung, "app")
        added.append({**one, "image": image})
        states.append(
            {"name": f"kdebug-{number}", "state": {"running": {"startedAt": "2026-05-01T11:00:00Z"}}}
        )
    status = {"containerStatuses": [{"name": "app", **started}], "ephemeralContainerStatuses": states}
    return {**POD, "spec": {**POD["spec"], "ephemeralContainers": added, **spec}, "status": status}


MATCH_CONTEXT = {"runAsUser": 7, "runAsGroup": 8, "capabilities": {"drop": ["ALL"]}}
MATCH_RUNG = Rung("match", MATCH_CONTEXT, "")


def reused(pod: dict[str, Any], rung: Rung, image: str = "asked:1", any_user: bool = False) -> list[str]:
    return [toolbox["name"] for toolbox, _ in reusable(pod, "app", image, [rung], any_user)]


def test_an_image_that_admission_rewrote_is_still_ours() -> None:
    """A mirror or a digest in its place: every command would otherwise add one more container."""
    pod = toolbox_pod(("match", "mirror.example/asked@sha256:00", MATCH_CONTEXT))
    assert reused(pod, MATCH_RUNG) == ["kdebug-0"]
    assert reused(pod, MATCH_RUNG, "other:1") == []


def test_in_a_shared_namespace_a_toolbox_outlives_its_target() -> None:
    pod = toolbox_pod(("match", "asked:1", MATCH_CONTEXT))
    pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = "2026-05-01T12:00:00Z"
    assert reused(pod, MATCH_RUNG) == []
    pod["spec"]["shareProcessNamespace"] = True
    assert reused(pod, MATCH_RUNG) == ["kdebug-0"]


def test_a_profile_of_ones_own_is_only_reused_when_it_is_the_same() -> None:
    pod = toolbox_pod(("custom", "asked:1", {**MATCH_CONTEXT, "privileged": True}))
    assert reused(pod, Rung("custom", MATCH_CONTEXT, "")) == []
    assert reused(pod, Rung("custom", {**MATCH_CONTEXT, "privileged": True}, "")) == ["kdebug-0"]


def test_a_profile_of_ones_own_does_not_contradict_itself() -> None:
    """The kubelet refuses uid 0 with runAsNonRoot, the API server privileged without escalation."""
    pod = {**POD, "spec": {"containers": [{"name": "app", "securityContext": {"runAsUser": 7}}]}}
    (rung,) = plan(pod, "app", "custom", {"runAsUser": 0, "privileged": True})
    assert rung.context["runAsNonRoot"] is False
    assert "allowPrivilegeEscalation" not in rung.context


@pytest.mark.parametrize(
    ("message", "climbs"),
    [
        ("container has runAsNonRoot and image will run as root", True),
        ('exec: "python3": permission denied', True),
        ("context deadline exceeded", False),
        ("no space left on device", False),
        ('invalid target container: container "app" is not running', False),
    ],
)
def test_only_what_rights_can_change_is_a_reason_to_climb(message: str, climbs: bool) -> None:
    state = {"waiting": {"reason": "CreateContainerError", "message": message}}
    pod = {**POD, "status": {"ephemeralContainerStatuses": [{"name": "kdebug-0", "state": state}]}}
    with pytest.raises(ToolboxFailed) as failed:
        toolbox_state(pod, "kdebug-0", "asked:1", "app")
    assert failed.value.climb is climbs


def test_the_memory_of_a_pod_is_that_of_the_pod() -> None:
    def limited(text: str) -> dict[str, Any]:
        return {"resources": {"limits": {"memory": text}}}

    sidecar = {"name": "proxy", "restartPolicy": "Always", **limited("2Mi")}
    spec = {"containers": [{"name": "app", **limited("1Mi")}], "initContainers": [sidecar]}
    assert memory_limit({"spec": spec}) == 3 * 2**20
    assert memory_limit({"spec": {"containers": [{"name": "app"}], **limited("5Mi")}}) == 5 * 2**20
    assert memory_limit({"spec": {"containers": [{"name": "app"}]}}) is None


def test_who_lives_how_long_is_read_from_the_toolbox_itself() -> None:
    pod = toolbox_pod(("match", "asked:1", MATCH_CONTEXT))
    made = pod["spec"]["ephemeralContainers"][0]
    assert lifetime_of(made) is None
    made["command"] = ["python3", "-c", "...", "--ttl", "60", "--max-ttl", "1e+06", "--idle", "7.5"]
    assert lifetime_of(made) == Lifetime(60.0, 1e6, 7.5)


@pytest.mark.parametrize("raw", ["-1", "0", "nan", "inf", "soon", [1]])
def test_a_time_that_is_none_is_told(raw: object) -> None:
    with pytest.raises(UsageError, match="seconds above 0"):
        Settings({"ttl": raw}, "config.yaml").get("ttl", 3600.0)


def test_an_interrupt_while_the_library_is_loaded_is_not_lost(tmp_path: Path, run: asyncio.Runner) -> None:
    path = kubeconfig(tmp_path, "https://192.0.2.9", {"token": "t"})

    async def interrupted() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()  # as asyncio.run does at SIGINT
        await load_config(Choice(str(path)))
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        run.run(interrupted())


def test_apparmor_does_not_stand_between_the_toolbox_and_a_privileged_target() -> None:
    privileged = {"name": "app", "securityContext": {"privileged": True}}
    (rung,) = plan({**POD, "spec": {"containers": [privileged]}}, "app", "auto")
    assert rung.context["appArmorProfile"] == {"type": "Unconfined"}
    (*_, rung) = plan(POD, "app", "auto")
    assert "appArmorProfile" not in rung.context


def test_root_in_a_pod_of_another_user_is_root() -> None:
    """A container's own user is before the pod's, 0 too; the status of an old kubelet tells neither."""
    app = {"name": "app", "securityContext": {"runAsUser": 0, "runAsGroup": 0}}
    spec = {"containers": [app], "securityContext": {"runAsUser": 1000, "runAsGroup": 2000}}
    lowest, *_ = plan({**POD, "spec": spec}, "app", "auto")
    assert lowest.name == "match+caps"
    assert (lowest.context["runAsUser"], lowest.context["runAsGroup"]) == (0, 0)
    assert lowest.context["runAsNonRoot"] is False


@pytest.mark.parametrize(
    ("metadata", "phase", "words"),
    [
        ({}, "Failed", "the pod web has ended"),
        ({}, "Succeeded", "the pod web has ended"),
        ({"deletionTimestamp": "2026-05-01T10:00:30Z"}, "Pending", "the pod web is terminating"),
    ],
)
def test_nobody_waits_for_a_pod_that_ends_meanwhile(
    tmp_path: Path, run: asyncio.Runner, metadata: dict[str, str], phase: str, words: str
) -> None:
    waiting = {"name": "app", "state": {"waiting": {"reason": "PodInitializing"}}}
    status = {"phase": "Pending", "containerStatuses": [waiting]}
    pending = {**POD, "status": status}
    later = {**pending, "metadata": {**POD["metadata"], **metadata}, "status": {**status, "phase": phase}}

    async def answer(request: web.Request) -> web.Response:
        if "watch" in request.query:
            return web.Response(text=json.dumps({"type": "MODIFIED", "object": later}) + "\n")
        return web.json_response(later)

    async def wait() -> None:
        async with contextlib.AsyncExitStack() as stack:
            url = await serve(stack, web.get("/{rest:.*}", answer))
            api = await api_at(stack, tmp_path, url)
            options = AttachOptions(ToolboxSpec("asked:1", (), {}, "0"), wait=True, wait_seconds=3.0)
            with pytest.raises(Failed, match=words):
                await Attachment(api, Selected(pending, "app"), options).run()

    run.run(wait())


def test_a_toolbox_that_ends_as_it_starts_is_told_in_the_kubelets_words(
    tmp_path: Path, run: asyncio.Runner
) -> None:
    """It ran, and no exec came in: why is in the status, not in what the exec was answered."""

    def pod(state: dict[str, Any]) -> dict[str, Any]:
        return {**POD, "status": {"ephemeralContainerStatuses": [{"name": "kdebug-0", "state": state}]}}

    killed = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-05-01T10:00:01Z"}

    async def answer(request: web.Request) -> web.Response:
        if "watch" in request.query:
            started = pod({"running": {"startedAt": "2026-05-01T10:00:00Z"}})
            return web.Response(text=json.dumps({"type": "MODIFIED", "object": started}) + "\n")
        if request.path.endswith("/exec"):
            return web.Response(status=500, text="container not found")
        return web.json_response(pod({"terminated": killed}))

    async def connect() -> None:
        async with contextlib.AsyncExitStack() as stack:
            url = await serve(stack, web.get("/{rest:.*}", answer))
            api = await api_at(stack, tmp_path, url)
            toolbox = Toolbox(api, Selected(POD, "app"), "kdebug-0", "asked:1")
            with pytest.raises(ToolboxFailed) as failed:
                await connect_when_running(toolbox, POD, "app", 5.0)
            assert failed.value.error.what == "the toolbox kdebug-0 was killed"
            assert "exit code 137 (OOMKilled)" in failed.value.error.why

    run.run(connect())


DIAL = "error dialing backend: dial tcp 192.0.2.7:10250: connect: no route to host"


@pytest.mark.parametrize(
    ("may_read", "words"), [(True, "the node n1 is not ready"), (False, "the kubelet has")]
)
def test_a_node_that_is_lost_is_told(
    tmp_path: Path, run: asyncio.Runner, may_read: bool, words: str
) -> None:
    """Its pods are said to run for five minutes more, and nothing is ever said of the toolbox."""
    pod = {**POD, "spec": {**POD["spec"], "nodeName": "n1"}}
    ready = {
        "type": "Ready",
        "status": "Unknown",
        "reason": "NodeStatusUnknown",
        "message": "Kubelet stopped",
    }

    async def answer(request: web.Request) -> web.StreamResponse:
        if "watch" in request.query:
            await asyncio.sleep(5)
        if request.path.endswith("/exec"):
            return web.Response(status=500, text=DIAL)
        if request.path.startswith("/api/v1/nodes/"):
            node = {"kind": "Node", "status": {"conditions": [ready]}}
            return web.json_response(node if may_read else {}, status=200 if may_read else 403)
        return web.json_response(pod)

    async def connect() -> None:
        async with contextlib.AsyncExitStack() as stack:
            api = await api_at(stack, tmp_path, await serve(stack, web.get("/{rest:.*}", answer)))
            toolbox = Toolbox(api, Selected(pod, "app"), "kdebug-0", "asked:1")
            with pytest.raises(DeadlinePassed) as passed:
                await connect_when_running(toolbox, pod, "app", 2.0)
            assert passed.value.why.startswith(words) and DIAL in passed.value.why

    run.run(connect())


@pytest.mark.parametrize("when", [0.0, 0.001, 0.01, 0.1])
def test_closing_ends_requests_under_way_with_an_error_of_ours(tmp_path: Path, when: float) -> None:
    """Whatever they were at: the TLS connection, the answer, a stream, or not yet begun."""

    over = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        await over.wait()
        return web.json_response(POD)

    async def script() -> None:
        async with contextlib.AsyncExitStack() as stack:
            api = await api_at(stack, tmp_path, await serve(stack, web.get("/slow", slow)))

            async def stream() -> None:
                async for _ in api.lines("/slow", []):
                    pass

            asked = [asyncio.create_task(api.call("GET", "/slow")) for _ in range(5)]
            asked += [asyncio.create_task(stream()) for _ in range(5)]
            await asyncio.sleep(when)
            await api.close()
            ended = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 5)
            assert all(isinstance(error, ConnectionLost) for error in ended), ended
            with pytest.raises(ConnectionLost, match="was closed"):
                await api.call("GET", "/slow")
            over.set()

    asyncio.run(script())
