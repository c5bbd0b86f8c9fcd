"""The seam to redaction: everything that a capture writes passes one of these, names and reasons too."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional, Protocol

from kdebug import settings
from kdebug.errors import UsageError


class RedactingStream(Protocol):
    """Contents in pieces: what was fed comes out, later and redacted."""

    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


class Redaction(Protocol):
    """What a capture asks of redaction; one for each bundle."""

    def learn_document(self, document: Any, place: str = "") -> None:
        """Remember the secrets of an answer or a Kubernetes object, known by their place."""

    def learn_file(self, path: str, data: bytes) -> None:
        """Remember one secret, such as a file below /var/run/secrets."""

    def learn(self, value: str | bytes, kind: str = "secret", place: str = "") -> None:
        """Remember one secret as such."""

    def left_out(self, *paths: str) -> str:
        """Why a file, by any of its names, is not to be taken at all; "" where it may be."""

    def text(self, value: str, place: str = "text") -> str: ...

    def document(self, document: Any, place: str = "document") -> Any: ...

    def stream(self, name: str = "stream") -> RedactingStream: ...

    def report(self) -> dict[str, Any]:
        """What was found, where, how often, and what was not looked through."""


class _AsItIs:
    def feed(self, data: bytes) -> bytes:
        return data

    def finish(self) -> bytes:
        return b""


class NoRedaction:
    """Changes nothing, and says so in the manifest."""

    def learn_document(self, document: Any, place: str = "") -> None:
        return None

    def learn_file(self, path: str, data: bytes) -> None:
        return None

    def learn(self, value: str | bytes, kind: str = "secret", place: str = "") -> None:
        return None

    def left_out(self, *paths: str) -> str:
        return ""

    def text(self, value: str, place: str = "text") -> str:
        return value

    def document(self, document: Any, place: str = "document") -> Any:
        return document

    def stream(self, name: str = "stream") -> RedactingStream:
        return _AsItIs()

    def report(self) -> dict[str, Any]:
        return {"redacted": {}, "notes": ["nothing was redacted: this bundle may hold secrets"]}


@dataclass(frozen=True)
class Choices:
    """What the user may say about it."""

    rules: tuple[str, ...] = ()
    """Files of rules."""
    key: str = ""
    """The file of a key for tokens that stay comparable between sets."""
    detectors: tuple[str, ...] = ()
    """Of `DETECTORS`: those that are off otherwise."""
    include: tuple[str, ...] = ()
    """Of `UNREDACTABLE`: kinds of files to keep although nothing can be found in them."""


DETECTORS = ("card", "email")
UNREDACTABLE = ("compressed", "dump", "packets", "utf-16")
MAX_FILE_BYTES = 1024 * 1024
"""Of rules, or of a key."""


def configured() -> Choices:
    """What the user's configuration says, for every capture."""
    held = settings.load()
    rules = held.get("redact_rules", "")
    return Choices((rules,) if rules else (), held.get("redact_key", ""))


def redactions(redact: bool = True, choices: Optional[Choices] = None) -> Callable[[], Redaction]:
    """Makes the redaction of each bundle of one set, with one key, so that its tokens stay comparable.
    Without choices, the configured ones. Raises `UsageError`."""
    if not redact:
        return NoRedaction
    choices = choices or configured()
    from kdebug.capture.redact import Redactor, read_rules

    shared = _contents(choices.key).strip() if choices.key else secrets.token_bytes(32)
    if not shared:
        raise UsageError(
            f"the redaction key {choices.key} is empty", next_step="`openssl rand -hex 32` makes one"
        )
    rules = [rule for path in choices.rules for rule in _rules(path, read_rules)]

    def make() -> Redaction:
        return Redactor(shared, rules, choices.detectors, choices.include)

    make()  # what is wrong with the choices is told before anything is captured
    return make


def _rules(path: str, read: Callable[[str], Any]) -> Any:
    try:
        return read(_contents(path).decode())
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text", why=str(error)) from error
    except UsageError as error:
        raise UsageError(f"{path}: {error.what}", why=error.why, next_step=error.next_step) from error


def _contents(path: str) -> bytes:
    try:
        with open(os.path.expanduser(path), "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read", why=error.strerror or str(error)) from error
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"{path} is too long", why=f"at most {MAX_FILE_BYTES} bytes are read")
    return data
