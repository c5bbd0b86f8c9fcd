"""Bundles encrypted for those who hold a key: age (age-encryption.org/v1), by pyrage, an optional extra.

Only the one file that was asked for is written, 0600 and under its name when it is whole: no plaintext
stands anywhere else, and a decryption that fails leaves nothing.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

from kdebug.errors import AccessDenied, Failed, KdebugError, UsageError, from_os_error

SUFFIX = ".age"
PARTIAL_SUFFIX = ".part"
MAX_KEYS_BYTES = 1024 * 1024
"""Of a file of recipients or identities."""
BEGINNINGS = (b"age-encryption.org/", b"-----BEGIN AGE ENCRYPTED FILE-----")
"""Of an encrypted file, in binary and as text."""
BEGINNING_BYTES = max(map(len, BEGINNINGS))


Tell = Callable[[int], None]


def is_sealed(head: bytes) -> bool:
    return head.startswith(BEGINNINGS)


def recipients(words: Sequence[str]) -> list[Any]:
    """From age1..., from a line of ssh (ed25519, RSA), or from files of such lines. Raises `UsageError`."""
    library, found = _library(), []
    for word in words:
        if word.upper().startswith(("AGE", "SSH-")) and not os.path.lexists(word):
            found.append(_recipient(library, word, "--recipient"))
        else:
            lines = _lines(word, "a recipient is age1..., ssh-ed25519 ..., or a file of them")
            found += [_recipient(library, line, word) for line in lines]
    if not found:
        raise UsageError("nobody could decrypt it", next_step="name a recipient: --recipient age1...")
    return found


def _recipient(library: Any, text: str, where: str) -> Any:
    if text.upper().startswith("AGE-SECRET-KEY-"):
        raise UsageError(
            f"{where} holds a secret key", why="it decrypts; to encrypt, the public one is enough (age1...)"
        )
    kind = library.ssh if text.startswith("ssh-") else library.x25519
    try:
        return kind.Recipient.from_str(text)
    except Exception as error:
        raise UsageError(f"{where}: {text[:80]!r} is no recipient", why=str(error)) from error


def identities(paths: Sequence[str]) -> list[Any]:
    """From files of AGE-SECRET-KEY-... lines, or private keys of ssh. Raises `UsageError`."""
    library, found = _library(), []
    for path in paths:
        text = _contents(path, "an identity is a file, as age-keygen or ssh-keygen make it")
        if b"-----BEGIN" in text:
            found.append(_made(path, library.ssh.Identity.from_buffer, text))
        else:
            found += [_made(path, library.x25519.Identity.from_str, line) for line in _meant(text)]
    if not found:
        raise UsageError("there is no key to decrypt it with", next_step="name its file: --identity FILE")
    return found


def _made(path: str, make: Any, value: Any) -> Any:
    """Never with the value in the words: it is the key itself."""
    try:
        return make(value)
    except Exception as error:
        raise UsageError(
            f"{path} holds no key that can be used",
            why=str(error) or type(error).__name__,
            next_step="of a key with a passphrase, give a copy without it",
        ) from error


def _lines(path: str, wanted: str) -> list[str]:
    return _meant(_contents(path, wanted))


def _meant(text: bytes) -> list[str]:
    """Without comments and empty lines."""
    lines = [line.strip() for line in text.decode("utf-8", "replace").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _contents(path: str, wanted: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_KEYS_BYTES + 1)
    except OSError as error:
        told = from_os_error(error, f"{path} cannot be read")
        raise UsageError(told.what, why=told.why, next_step=wanted) from error
    if len(data) > MAX_KEYS_BYTES:
        raise UsageError(f"{path} is no file of keys", why=f"it has more than {MAX_KEYS_BYTES} bytes")
    return data


def encrypt(path: str, to: str, keys: Sequence[Any], tell: Tell = lambda done: None) -> None:
    """`path`, encrypted, as the new file `to`. Raises `KdebugError`, and then there is no `to`."""
    with _opened(path) as source, _new(to) as target:
        if is_sealed(source.read(BEGINNING_BYTES)):
            raise UsageError(f"{path} is encrypted already")
        source.seek(0)
        try:
            _piped(_library().encrypt_io, _Told(source, tell), target, keys)
        except OSError as error:
            raise from_os_error(error, f"{to} cannot be written") from error


def decrypt(path: str, to: str, keys: Sequence[Any], tell: Tell = lambda done: None) -> None:
    """What `encrypt` made, as the new file `to`. Raises `KdebugError`, and then there is no `to`."""
    library = _library()
    with _opened(path) as source, _new(to) as target:
        if not is_sealed(source.read(BEGINNING_BYTES)):
            raise UsageError(f"{path} is not encrypted with age")
        source.seek(0)
        try:
            _piped(library.decrypt_io, _Told(source, tell), target, keys)
        except library.DecryptError as error:
            raise _refused(path, str(error)) from error
        except OSError as error:
            if not error.errno:  # of the library, about what it reads
                raise _refused(path, str(error)) from error
            raise from_os_error(error, f"{to} cannot be written") from error


class _Told:
    """A file that tells how far it was read, and that can be stopped."""

    def __init__(self, file: BinaryIO, tell: Tell) -> None:
        self._file, self._tell = file, tell
        self._done = 0
        self.stopped = False

    def read(self, count: int = -1) -> bytes:
        if self.stopped:
            raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))  # EINTR would be tried again
        data = self._file.read(count)
        self._done += len(data)
        self._tell(self._done)
        return data


def _piped(work: Callable[..., None], source: _Told, target: BinaryIO, keys: Sequence[Any]) -> None:
    """In a thread of its own: an interrupt inside of it would become an error of the library."""
    with ThreadPoolExecutor(1) as thread:
        try:
            thread.submit(work, source, target, list(keys)).result()
        except KeyboardInterrupt:
            source.stopped = True
            raise


def _refused(path: str, words: str) -> KdebugError:
    if "No matching keys" in words:
        return AccessDenied(
            f"{path} is not for any of these keys", next_step="ask for whom it was encrypted"
        )
    return Failed(f"{path} is damaged or cut short", why=words)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    try:
        file = open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    except OSError as error:
        raise from_os_error(error, f"{path} cannot be read") from error
    with file:
        yield file


@contextlib.contextmanager
def _new(path: str) -> Iterator[BinaryIO]:
    """A private file that has its name at the end, or never was."""
    partial = path + PARTIAL_SUFFIX
    if os.path.lexists(path):
        raise Failed(f"{path} exists", why="nothing is overwritten", next_step="name another with --output")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(partial, flags, 0o600)
    except OSError as error:
        raise from_os_error(error, f"{partial} cannot be made", "remove it, or use --output") from error
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        os.rename(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise


def _library() -> Any:
    try:
        return importlib.import_module("pyrage")
    except ImportError as error:
        raise UsageError(
            "encryption needs pyrage, which is not installed",
            next_step="pip install 'kdebug-toolkit[age]', or use age itself",
        ) from error
