"""Credential plugins of the kubeconfig, run as kubectl runs them (client-go plugin/pkg/client/auth/exec).

The library's own runner keeps what a plugin says on stderr to itself, such as the code to log in with,
gives it our standard input even where that is a pipe of data, and cannot tell it about the cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from typing import Any, Optional
from weakref import WeakKeyDictionary

from kdebug.errors import AccessDenied, DeadlinePassed
from kdebug.protocol.record import Record, dataclass
from kdebug.units import unix_time

PLUGIN_SECONDS = 60.0
"""For one that can ask nobody."""
LOGIN_SECONDS = 300.0
"""It may open a browser for a login; after this long nobody is there."""
MAX_ANSWER_BYTES = 1024 * 1024
MAX_WORDS_BYTES = 4096
LAST_WORDS_SECONDS = 0.5
"""For stderr after the plugin's end: a browser that it has opened may hold that for ever."""
READ_BYTES = 64 * 1024
EXTENSION = "client.authentication.k8s.io/exec"
"""Of a cluster in the kubeconfig: what the plugin has to know of this one."""
Refused = tuple[object, bytes]
"""The Authorization header and the certificate that a server does not take any more."""


@dataclass(frozen=True, eq=False, repr=False)
class Credentials(Record):
    """What a plugin has given."""

    token: str
    certificate: str
    key: str
    expires_at: float
    """Unix time; 0: it does not say."""

    @property
    def header(self) -> Optional[str]:
        return f"Bearer {self.token}" if self.token else None

    def serves(self, refused: Optional[Refused]) -> bool:
        """Whether they are worth a try."""
        expired = 0 < self.expires_at <= time.time()
        return not expired and (self.header, self.certificate.encode()) != refused


_known: dict[str, Credentials] = {}
"""For as long as we run: a list of pods and one of them opened are two connections and one login."""
_one_at_a_time: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
"""It may talk to the one who sits there."""


async def credentials(
    entry: dict[str, Any], cluster: dict[str, Any], refused: Optional[Refused] = None
) -> Credentials:
    """Those that are known, or the plugin's. `entry` is `exec` of the user, `cluster` what it is told about
    the cluster. Raises `AccessDenied`, `DeadlinePassed`."""
    name = json.dumps([entry, cluster], sort_keys=True, default=str)
    lock = _one_at_a_time.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    async with lock:
        known = _known.get(name)
        if known is None or not known.serves(refused):
            known = _known[name] = await _asked(entry, cluster)
        return known


async def _asked(entry: dict[str, Any], cluster: dict[str, Any]) -> Credentials:
    if not entry.get("command"):
        raise failed("the kubeconfig names no command")
    interactive = _interactive(entry)
    seconds = LOGIN_SECONDS if interactive else PLUGIN_SECONDS
    heard = bytearray()
    try:
        async with asyncio.timeout(seconds):
            code, answer = await _run(entry, _environment(entry, cluster, interactive), interactive, heard)
    except TimeoutError:
        raise DeadlinePassed(
            f"the credential plugin did not answer within {seconds:.0f} s",
            why=_text(heard),
            next_step="run a kubectl command to log in, then try again",
        ) from None
    except (OSError, ValueError) as error:
        hint = str(entry.get("installHint") or "")
        raise failed(
            f"{entry.get('command')}: {getattr(error, 'strerror', '') or error}. {hint}"
        ) from error
    if code:
        raise failed(f"it ended with exit code {code}: {_text(heard) or 'without a word'}")
    return _read(entry, answer)


def cluster_info(cluster: dict[str, Any], authority: Optional[str]) -> dict[str, Any]:
    """What a plugin is told about a cluster of the kubeconfig where it asks for that (provideClusterInfo);
    `authority`: its certificates in base64, never as a file."""
    names = ("server", "tls-server-name", "insecure-skip-tls-verify", "proxy-url", "disable-compression")
    told = {name: cluster[name] for name in names if cluster.get(name)}
    if authority:
        told["certificate-authority-data"] = authority
    for item in cluster.get("extensions") or []:
        if isinstance(item, dict) and item.get("name") == EXTENSION:
            told["config"] = item.get("extension")
    return told


def failed(why: str) -> AccessDenied:
    """For whatever keeps a plugin from giving credentials."""
    return AccessDenied(
        "the credential plugin of the kubeconfig failed",
        why=" ".join(why.split())[:500].rstrip(". "),
        next_step="log in with the tool of your cloud provider; `kubectl get pods` must work first",
    )


def _interactive(entry: dict[str, Any]) -> bool:
    """Whether it may talk to a person: not where a UI has the terminal."""
    mode = entry.get("interactiveMode") or "IfAvailable"
    available = sys.stdin is not None and sys.stdin.isatty() and _shown()
    if mode == "Always" and not available:
        raise failed(f"{entry.get('command')} wants to ask you (interactiveMode: Always), and cannot here")
    return mode != "Never" and available


def _shown() -> bool:
    """Whether what goes to stderr is seen as it is."""
    return sys.stderr is sys.__stderr__ and sys.stderr is not None and sys.stderr.isatty()


def _environment(entry: dict[str, Any], cluster: dict[str, Any], interactive: bool) -> dict[str, str]:
    spec: dict[str, Any] = {"interactive": interactive}
    if entry.get("provideClusterInfo"):
        spec["cluster"] = cluster
    told = {"kind": "ExecCredential", "apiVersion": entry.get("apiVersion"), "spec": spec}
    own = {str(item["name"]): str(item["value"]) for item in entry.get("env") or []}
    return {**os.environ, **own, "KUBERNETES_EXEC_INFO": json.dumps(told, default=str)}


async def _run(
    entry: dict[str, Any], environment: dict[str, str], interactive: bool, heard: bytearray
) -> tuple[int, bytes]:
    """Exit code and standard output. Raises `OSError`, `ValueError`."""
    words = [str(word) for word in (entry["command"], *(entry.get("args") or []))]
    async with _words(heard) as (stderr, listening):
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                env=environment,
                stdin=None if interactive else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
            )
        finally:
            os.close(stderr)
        assert process.stdout is not None
        try:
            answer = await _limited(process.stdout)
            code = await process.wait()
            await asyncio.wait({listening}, timeout=LAST_WORDS_SECONDS)
            return code, answer
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()


@contextlib.asynccontextmanager
async def _words(heard: bytearray) -> AsyncIterator[tuple[int, asyncio.Task[None]]]:
    """A descriptor for a process' stderr, whose end nobody waits for; and who listens at the other side."""
    ours, theirs = os.pipe()
    reader, loop = asyncio.StreamReader(), asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours, "rb", 0)
    )
    listening = asyncio.create_task(_listen(reader, heard), name="kdebug-plugin")
    try:
        yield theirs, listening
    finally:
        listening.cancel()
        transport.close()


async def _limited(stream: asyncio.StreamReader) -> bytes:
    answer = bytearray()
    while data := await stream.read(READ_BYTES):
        answer += data
        if len(answer) > MAX_ANSWER_BYTES:
            raise ValueError("it prints more than any credential is long")
    return bytes(answer)


async def _listen(stream: asyncio.StreamReader, heard: bytearray) -> None:
    """Keep its last words, and show them at once where somebody may have to act on them."""
    while data := await stream.read(READ_BYTES):
        heard += data
        del heard[:-MAX_WORDS_BYTES]
        if _shown():
            sys.stderr.buffer.write(data)
            sys.stderr.buffer.flush()


def _read(entry: dict[str, Any], answer: bytes) -> Credentials:
    """Its answer, as client-go checks it."""
    try:
        document = json.loads(answer)
    except ValueError as error:
        raise failed(f"its answer is no JSON: {error}") from error
    if not isinstance(document, dict) or document.get("kind") != "ExecCredential":
        raise failed("its answer is no ExecCredential")
    if document.get("apiVersion") != entry.get("apiVersion"):
        wanted = entry.get("apiVersion")
        raise failed(f"it answers in {document.get('apiVersion')}, and the kubeconfig says {wanted}")
    status = document.get("status")
    status = status if isinstance(status, dict) else {}
    token, certificate, key = (
        str(status.get(name) or "") for name in ("token", "clientCertificateData", "clientKeyData")
    )
    if bool(certificate) != bool(key):
        raise failed("it gave only one of certificate and key")
    if not token and not certificate:
        raise failed("it gave neither a token nor a certificate")
    return Credentials(token, certificate, key, unix_time(status.get("expirationTimestamp")) or 0.0)


def _text(heard: bytearray) -> str:
    return " ".join(heard.decode("utf-8", "replace").split())[-400:]
