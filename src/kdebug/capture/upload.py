"""Bundles into a store that a URL names: file://, s3://, gs://, az:// and whatever else fsspec speaks.

A bundle appears under its name when it is whole and not before, and is read back and compared by SHA-256.
Nothing is overwritten, and nothing here removes a local file: whoever calls decides that, and only after
`put` came back.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import hashlib
import importlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Optional

from kdebug.errors import AccessDenied, Failed, KdebugError, NotFound, UsageError, from_os_error

EXTRAS = {
    "s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure",
}  # fmt: skip
"""Protocol -> the extra of this package that brings its store."""
WHOLE_AT_ONCE = frozenset(EXTRAS)
"""Object stores: an object is there when all of it is. To rename one there is to copy it."""
PARTIAL_SUFFIX = ".part"
PIECE = 1024 * 1024
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://")
_LOGIN = re.compile(r"(://[^/@:]*):[^/@]*@")
Tell = Callable[[int], None]
"""Called with the bytes that are done, from another thread; a verification counts them again."""


class Stopped(Exception):
    """The user wants the upload to end."""


@dataclass(frozen=True)
class Placed:
    """Where a bundle is."""

    url: str
    unverified: str = ""
    """Why it could not be read back; "" when it was, and is the same."""


def is_url(text: str) -> bool:
    return _SCHEME.match(text) is not None


def shown(url: str) -> str:
    """A URL for people and for the index: without a password that somebody wrote into it."""
    return _LOGIN.sub(r"\1:***@", url)


class Store:
    """The folder that a URL names. Raises `UsageError` at once where there is nothing that speaks it."""

    def __init__(self, url: str) -> None:
        scheme = _SCHEME.match(url)
        if scheme is None or "::" in url:
            raise UsageError(
                f"{shown(url)} is no URL of a store",
                next_step="write file:///folder, s3://bucket/folder, gs://... or az://...; "
                "--output names a local file",
            )
        self.url = url.rstrip("/")
        protocol = scheme[1].lower()
        self._protocol = protocol
        self._fs, self._root = _opened(protocol, url)

    def folder(self, name: str) -> Store:
        """A folder inside of it, made at the first `put`."""
        inner = copy.copy(self)
        inner.url, inner._root = f"{self.url}/{name}", f"{self._root.rstrip('/')}/{name}"
        return inner

    async def put(self, path: str, tell: Tell = lambda done: None) -> Placed:
        """A local file under its own name. Raises `KdebugError`; an interrupt waits until the store was
        told, so that no half of a bundle stays there."""
        stop = threading.Event()
        work = asyncio.ensure_future(asyncio.to_thread(self._put, path, stop, tell))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            stop.set()
            with contextlib.suppress(KdebugError, Stopped):
                await work
            raise

    def _put(self, path: str, stop: threading.Event, tell: Tell) -> Placed:
        name = os.path.basename(path)
        remote, url = f"{self._root.rstrip('/')}/{name}", shown(f"{self.url}/{name}")
        with _explained(url):
            self._must_be_free(remote, url)
            size, digest = _digest(path, stop)
            if self._protocol in WHOLE_AT_ONCE:
                beside = remote
            else:
                beside = remote + PARTIAL_SUFFIX
                self._begin(beside)
            try:
                if beside == remote:
                    self._fs.put_file(path, beside, callback=_progress(stop, tell))
                else:
                    self._copy(path, beside, stop, tell)
                unverified = self._differs(beside, size, digest, stop, tell)
                if beside != remote:
                    self._fs.mv(beside, remote)
            except BaseException:
                self._forget(beside)
                raise
        return Placed(url, unverified)

    def _begin(self, remote: str) -> None:
        """Its folder; in a folder of this machine also the file, which nobody else may read."""
        folder = os.path.dirname(remote)
        if self._protocol != "file":
            self._fs.makedirs(folder, exist_ok=True)
            return
        os.makedirs(folder, 0o700, exist_ok=True)
        try:
            os.close(os.open(remote, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError as error:
            raise Failed(
                "another upload is at work, or was killed", next_step=f"if none is, remove {remote}"
            ) from error

    def _copy(self, path: str, remote: str, stop: threading.Event, tell: Tell) -> None:
        with open(path, "rb") as source, self._fs.open(remote, "wb") as file:
            while piece := source.read(PIECE):
                if stop.is_set():
                    raise Stopped
                file.write(piece)
                tell(source.tell())

    def _must_be_free(self, remote: str, url: str) -> None:
        """Whoever may only write cannot be told; then the store's own rules hold."""
        with contextlib.suppress(PermissionError):
            if self._fs.exists(remote):
                raise Failed(f"{url} exists", why="nothing is overwritten")

    def _differs(self, remote: str, size: int, digest: str, stop: threading.Event, tell: Tell) -> str:
        """Raises `Failed` where the store holds something else; else why that is not known, or ""."""
        try:
            self._fs.invalidate_cache(remote)
            stored = self._fs.info(remote).get("size")
            if stored is not None and int(stored) != size:
                raise Failed("the store holds something else", why=f"{stored} bytes instead of {size}")
            with self._fs.open(remote, "rb") as file:
                found = _digest_of(file, stop, tell)
        except PermissionError as error:
            return f"the store does not let it be read back ({_words(error)})"
        if found != digest:
            raise Failed("the store holds something else", why="its SHA-256 is another")
        return ""

    def _forget(self, remote: str) -> None:
        """Half a bundle, or a wrong one. Where even that fails the first error is the one to tell."""
        with contextlib.suppress(Exception):
            self._fs.rm_file(remote)


def _opened(protocol: str, url: str) -> tuple[Any, str]:
    """(the file system, the folder in it)."""
    extra = EXTRAS.get(protocol, "upload")
    step = f"pip install 'kdebug-toolkit[{extra}]'"
    try:
        fsspec = importlib.import_module("fsspec.core")
    except ImportError as error:
        raise UsageError("--to needs fsspec, which is not installed", next_step=step) from error
    try:
        found: tuple[Any, str] = fsspec.url_to_fs(url)
    except ImportError as error:
        raise UsageError(f"{protocol}:// cannot be used", why=_words(error), next_step=step) from error
    except ValueError as error:
        raise UsageError(f"{shown(url)} cannot be used", why=_words(error)) from error
    except Exception as error:
        raise Failed(f"{shown(url)} cannot be opened", why=_words(error)) from error
    return found


@contextlib.contextmanager
def _explained(url: str) -> Iterator[None]:
    """Each store raises what it likes; fsspec's own are OSErrors."""
    try:
        yield
    except (KdebugError, Stopped) as error:
        if isinstance(error, Failed) and not error.what.startswith(url):
            raise Failed(f"{url}: {error.what}", why=error.why, next_step=error.next_step) from error
        raise
    except PermissionError as error:
        raise AccessDenied(f"{url} cannot be written", why=_words(error)) from error
    except FileNotFoundError as error:
        raise NotFound(f"{url} cannot be written", why=_words(error)) from error
    except Exception as error:
        raise Failed(f"{url} cannot be written", why=_words(error)) from error


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno and error.strerror:
        return str(error.strerror)
    return " ".join(str(error).split())[:300] or type(error).__name__


def _progress(stop: threading.Event, tell: Tell) -> Any:
    """fsspec calls it as bytes go; what it raises ends the upload."""
    callbacks = importlib.import_module("fsspec.callbacks")

    class Watching(callbacks.Callback):  # type: ignore[name-defined,misc]
        def call(self, hook_name: Optional[str] = None, **named: Any) -> None:
            if stop.is_set():
                raise Stopped
            tell(int(self.value))

    return Watching()


def _digest(path: str, stop: threading.Event) -> tuple[int, str]:
    try:
        with open(path, "rb") as file:
            return os.fstat(file.fileno()).st_size, _digest_of(file, stop)
    except OSError as error:
        raise from_os_error(error, f"{path} cannot be read") from error


def _digest_of(file: Any, stop: threading.Event, tell: Tell = lambda done: None) -> str:
    digest, done = hashlib.sha256(), 0
    while piece := file.read(PIECE):
        if stop.is_set():
            raise Stopped
        digest.update(piece)
        done += len(piece)
        tell(done)
    return digest.hexdigest()
