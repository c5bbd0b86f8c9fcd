"""Requests to the API server as plain JSON, and its refusals in its own words.

No model classes of the library are built, since they cost more than the request. Every request has a
deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Optional
from urllib.parse import quote, urlencode

from kdebug import __version__
from kdebug.errors import (
    AccessDenied,
    ConnectionLost,
    DeadlinePassed,
    Failed,
    KdebugError,
    NotFound,
    UsageError,
)
from kdebug.kube.config import ClusterConfig, Connection, forget_copies, load_config
from kdebug.kube.http import Client, ConnectTimeout, Headers, NotHttp, Response
from kdebug.kube.plugin import Refused
from kdebug.kube.proxy import proxy_for
from kdebug.kube.websocket import WebSocket, check_upgrade, upgrade_headers

USER_AGENT = f"kdebug/{__version__}"
"""What audit logs show; security teams may allow-list it."""
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Real servers send 32 KiB at a time."""
MAX_BODY_BYTES = 256 * 1024 * 1024
"""5,000 pods with long specs are below 100 MB; more than this is not an answer to us."""
BUSY_PAUSES = (0.5, 1.0, 2.0)
"""Seconds before a request is sent again that the server had no time for."""
MAX_BUSY_SECONDS = 5.0
"""However long it asks us to stay away: an engineer waits."""
STRATEGIC_MERGE = "application/strategic-merge-patch+json"
Parameters = list[tuple[str, str]]


class ServerRefusal(Exception):
    """The API server answered with a Status of failure (api-concepts: Status)."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any]) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    @property
    def retry_seconds(self) -> float:
        """How long the server asks to wait (StatusDetails.retryAfterSeconds); 0 where it says nothing."""
        asked = self.details.get("retryAfterSeconds")
        return float(asked) if isinstance(asked, int) else 0.0

    @property
    def passes(self) -> bool:
        """Whether it is only for now: too much to do, being shut down (client-go rest/with_retry.go)."""
        return self.code == 429 or (self.code >= 500 and self.retry_seconds > 0)

    @property
    def undecided(self) -> bool:
        """Whether what was asked may be done all the same: the server's time was over before its storage
        had answered, or something in between speaks for it."""
        words = self.message.lower()
        return self.code in (502, 504) or (
            self.code >= 500
            and (not self.reason or "timed out" in words or "deadline exceeded" in words)
            and "failed calling webhook" not in words
        )

    def explained(self, what: str) -> KdebugError:
        """As an error for people; `what` says what was tried."""
        if self.code == 401:
            return AccessDenied(
                what, why=f"the API server does not accept the credentials: {self.message}",
                next_step="log in again; `kubectl auth whoami` must work",
            )  # fmt: skip
        if self.code == 403:
            step = (
                ""
                if "admission webhook" in self.message
                else "`kdebug rbac` prints the rights that it takes"
            )
            if "violates PodSecurity" in self.message or "exceeded quota" in self.message:
                step = ""
            return AccessDenied(what, why=self.message, next_step=step)
        if self.code == 404:
            return NotFound(what, why=self.message)
        if self.code in (408, 504):
            return DeadlinePassed(what, why=self.message)
        return Failed(what, why=self.message or f"HTTP status {self.code}")


class _Patience:
    """Of one request with its refusals: whether it is sent again."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._used = api.config.credentials
        self._renewed = False
        self._pauses = iter(BUSY_PAUSES)

    async def covers(self, refused: ServerRefusal) -> bool:
        """After what has to come before: other credentials, once, or the pause that the server asks for."""
        if refused.code == 401 and not self._renewed:
            self._renewed = True
            return await self._api.renewed(self._used)
        pause = next(self._pauses, None) if refused.passes else None
        if pause is None:
            return False
        await asyncio.sleep(max(pause, min(refused.retry_seconds, MAX_BUSY_SECONDS)))
        return True


class Api:
    """One API server. `close` it; it holds connections."""

    def __init__(self, config: ClusterConfig, *, seconds: float = 30.0, connect: float = 0.0) -> None:
        self.config = config
        self.seconds = seconds
        """For an answer."""
        self.connect_seconds = connect or seconds
        """For a connection, TLS included."""
        self._client: Client | None = None
        self._retired: list[Client] = []
        """Clients with old certificates, which requests under way may still use."""
        self._renewing = asyncio.Lock()
        self._closed = False

    def _connections(self) -> Client:
        if self._closed:
            raise closed_under_way()
        if self._client is None:
            try:
                configuration, host = self.config.configuration, self.config.host
                self._client = Client(
                    host,
                    _tls(configuration) if host.startswith("https:") else None,
                    configuration.tls_server_name or "",
                    proxy_for(host, configuration.proxy or ""),
                    self.connect_seconds,
                )
            except OSError as error:
                raise Failed(
                    f"the certificates for {self.config.host} cannot be used", why=str(error)
                ) from error
            except ValueError as error:
                raise UsageError(
                    f"the server of {self.config.cluster} cannot be used", why=str(error)
                ) from error
            finally:
                forget_copies()
        return self._client

    def _headers(self) -> Headers:
        configuration = self.config.configuration
        if configuration.refresh_api_key_hook is not None:
            configuration.refresh_api_key_hook(configuration)
        headers = [("User-Agent", USER_AGENT), ("Accept", "application/json"), *self.config.impersonation]
        token = configuration.api_key.get("BearerToken")
        if token:
            headers.append(("Authorization", str(token).strip()))  # a token file may end with a line feed
        return headers

    async def call(
        self, method: str, path: str, *, params: Parameters | None = None, body: Any = None,
        content_type: str = "application/json", seconds: float = 0.0,
        read: Callable[[bytes], Any] | None = None,
    ) -> Any:  # fmt: skip
        """Parsed JSON. Raises `ServerRefusal`, `ConnectionLost` or `DeadlinePassed`.

        A large answer is given to `read` in a thread, whose result is returned as it is; a `ValueError`
        of it means that this is no API server.

        Credentials that expired (a plugin's token lives minutes) are renewed once. A server that has too
        much to do (429, api-concepts: priority and fairness) is asked again when it says.
        """
        patience = _Patience(self)
        while True:
            try:
                return await self._once(method, path, params, body, content_type, seconds, read)
            except ServerRefusal as refused:
                if not await patience.covers(refused):
                    raise

    async def renewed(self, used: Refused) -> bool:
        """Whether there are other credentials than those that were refused; once for all who ask."""
        async with self._renewing:
            if self.config.credentials == used:
                config = await load_config(self.config.choice, used)
                if config.credentials != used:
                    self.config = config
                    self._retired += [self._client] if self._client is not None else []
                    self._client = None
            return self.config.credentials != used

    async def _once(
        self,
        method: str,
        path: str,
        params: Parameters | None,
        body: Any,
        content_type: str,
        seconds: float,
        read: Callable[[bytes], Any] | None = None,
    ) -> Any:
        headers, data = [*self._headers(), ("Accept-Encoding", "gzip")], b""
        if body is not None:
            data = json.dumps(body).encode()
            headers.append(("Content-Type", content_type))
        with self._told(seconds or self.seconds):
            async with asyncio.timeout(seconds or self.seconds):
                client = self._connections()
                async with client.request(method, _target(path, params), headers, data) as response:
                    data = await _limited(response)
        if response.status >= 400:
            raise refusal(response.status, data, response.headers)
        try:
            document = json.loads(data) if read is None else await asyncio.to_thread(read, data)
        except (ValueError, RecursionError):
            document = None
        if (read is None and not isinstance(document, dict)) or document is None or response.status >= 300:
            raise ConnectionLost(
                f"{self.config.host} is not a Kubernetes API server",
                why="it did not answer with JSON",
            )
        return document

    @contextlib.contextmanager
    def _told(self, seconds: float) -> Iterator[None]:
        """Failures below HTTP as errors for people."""
        try:
            yield
        except (NotHttp, OSError, TimeoutError) as error:
            raise self._unreachable(error, seconds) from error
        except ValueError as error:
            # A token with a line feed inside, a name that no path can hold.
            raise Failed("the request cannot be sent", why=str(error)) from error

    async def request(self, what: str, method: str, path: str, **options: Any) -> Any:
        """`call`, with refusals as errors for people."""
        try:
            return await self.call(method, path, **options)
        except ServerRefusal as refused:
            raise refused.explained(what) from refused

    async def get(self, what: str, path: str, params: Parameters | None = None) -> Any:
        return await self.request(what, "GET", path, params=params)

    async def lines(
        self, path: str, params: Parameters, *, idle_seconds: float = 0.0
    ) -> AsyncIterator[bytes]:
        """The lines of an endless answer (watch, followed logs), without their line feeds.

        Raises `ServerRefusal` before the first line, `ConnectionLost` when the stream breaks,
        `DeadlinePassed` after `idle_seconds` without a byte (0: never).
        """
        patience = _Patience(self)
        while True:
            try:
                async for line in self._lines(path, params, idle_seconds):
                    yield line
                return
            except ServerRefusal as refused:
                if not await patience.covers(refused):
                    raise

    async def _lines(self, path: str, params: Parameters, idle_seconds: float) -> AsyncIterator[bytes]:
        with self._told(idle_seconds or self.seconds):
            client, target = self._connections(), _target(path, params)
            async with client.request(
                "GET", target, self._headers(), idle_seconds=idle_seconds or None
            ) as response:
                if response.status >= 300:
                    raise refusal(response.status, await _limited(response), response.headers)
                async for line in _split_lines(response):
                    yield line

    async def websocket(
        self, path: str, params: Parameters, protocols: tuple[str, ...], heartbeat: Optional[float] = None
    ) -> WebSocket:
        """An upgraded connection; with `heartbeat` it is pinged so often, and ends when no answer comes.

        Raises `ServerRefusal` with the server's words where it gives any.
        """
        patience = _Patience(self)
        while True:
            try:
                return await self._upgraded(path, params, protocols, heartbeat)
            except ServerRefusal as refused:
                if not await patience.covers(refused):
                    raise

    async def _upgraded(
        self, path: str, params: Parameters, protocols: tuple[str, ...], heartbeat: Optional[float]
    ) -> WebSocket:
        asked, accept = upgrade_headers(protocols)
        with self._told(self.seconds):
            async with asyncio.timeout(self.seconds):
                client = self._connections()
                response = await client.send("GET", _target(path, params), [*self._headers(), *asked])
                try:
                    if response.status == 101:
                        check_upgrade(response, accept, protocols)
                        return await WebSocket.over(client, response, MAX_MESSAGE_BYTES, heartbeat)
                    words = await _limited(response)
                except BaseException:
                    client.drop(response.wire)
                    raise
                client.keep(response)  # for the next try, which a container that starts soon gets
                raise refusal(response.status, words, response.headers)

    async def warm(self) -> None:
        """Connect for an exec that comes in a moment; what fails then fails when it comes."""
        try:
            await self._connections().warm()
        except (KdebugError, NotHttp, OSError, TimeoutError):
            pass

    def _unreachable(self, error: Exception, seconds: float) -> KdebugError:
        host = self.config.host
        if self._closed:
            return closed_under_way()
        if isinstance(error, ssl.SSLCertVerificationError):
            return ConnectionLost(
                f"the certificate of {host} is not trusted",
                why=" ".join(str(error).split()),
                next_step=f"check certificate-authority of {self.config.cluster} in the kubeconfig",
            )
        if isinstance(error, ConnectTimeout):
            return DeadlinePassed(
                f"the API server {host} cannot be reached",
                why=f"no connection within {self.connect_seconds:g} s",
                next_step="check the network or VPN, or give it more time with --timeout",
            )
        if isinstance(error, TimeoutError):
            return DeadlinePassed(
                f"{host} did not answer within {seconds:g} s",
                next_step="check the network or VPN, or give it more time with --timeout",
            )
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return ConnectionLost(
            f"the API server {host} cannot be reached",
            why=why or type(error).__name__,
            next_step=f"check the network or VPN, and the context ({self.config.context})",
        )

    async def close(self) -> None:
        """Whoever still asks is told so: `ConnectionLost`."""
        self._closed = True
        forget_copies()
        clients = [*self._retired, *([self._client] if self._client is not None else [])]
        self._client, self._retired = None, []
        for client in clients:
            await client.close()


def closed_under_way() -> ConnectionLost:
    """For requests that were under way when `Api.close` was called."""
    return ConnectionLost("the connection to the API server was closed")


def _tls(configuration: Connection) -> ssl.SSLContext:
    """As the kubeconfig says: its authority (the system's without one), its certificate, its exceptions."""
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    context.set_alpn_protocols(["http/1.1"])
    # As kubectl: many a cluster's own authority lacks extensions that Python 3.13 began to demand.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    # As kubectl, and Python from 3.13 on: whatever certificate-authority names is trusted, also where it is
    # an intermediate authority whose own is not there.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _target(path: str, params: Parameters | None) -> str:
    return f"{path}?{urlencode(params, quote_via=quote)}" if params else path


async def _limited(response: Response) -> bytes:
    pieces, size = [], 0
    async for piece in response.pieces():
        size += len(piece)
        if size > MAX_BODY_BYTES:
            raise ConnectionLost("the API server sends more than any answer to kdebug is long")
        pieces.append(piece)
    return b"".join(pieces)


MAX_LINE_BYTES = 8 * 1024 * 1024
"""An object is below 1.5 MiB (etcd's request limit); a log line that is longer is cut."""


async def _split_lines(response: Response) -> AsyncIterator[bytes]:
    rest = bytearray()
    async for piece in response.pieces():
        rest += piece
        *lines, tail = rest.split(b"\n") if b"\n" in piece else (rest,)
        for line in lines:
            yield bytes(line)
        rest = bytearray(tail)
        if len(rest) > MAX_LINE_BYTES:
            yield bytes(rest)
            rest.clear()
    if rest:
        yield bytes(rest)


def refusal(code: int, body: bytes, headers: Mapping[str, str] = MappingProxyType({})) -> ServerRefusal:
    """From a Status object, or what a proxy in between wrote, or one of the server's outermost filters."""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    waiting = headers.get("retry-after", "")
    details: dict[str, Any] = {"retryAfterSeconds": int(waiting)} if waiting.isdecimal() else {}
    if not isinstance(document, dict) or document.get("kind") != "Status":
        text = " ".join(body.decode("utf-8", "replace").split())[:300]
        return ServerRefusal(code, "", text or f"HTTP status {code}", details)
    told = document.get("details")
    return ServerRefusal(
        code,
        str(document.get("reason") or ""),
        str(document.get("message") or f"HTTP status {code}"),
        details | (told if isinstance(told, dict) else {}),
    )
