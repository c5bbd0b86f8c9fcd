"""The seam to redaction: everything that a capture writes passes one of these, names and reasons too."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Protocol


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

    def text(self, value: str, place: str = "text") -> str:
        return value

    def document(self, document: Any, place: str = "document") -> Any:
        return document

    def stream(self, name: str = "stream") -> RedactingStream:
        return _AsItIs()

    def report(self) -> dict[str, Any]:
        return {"redacted": {}, "notes": ["nothing was redacted: this bundle may hold secrets"]}


def redactions(redact: bool = True, key: bytes = b"") -> Callable[[], Redaction]:
    """Makes the redaction of each bundle of one set, with one key, so that its tokens stay comparable."""
    if not redact:
        return NoRedaction
    from kdebug.capture.redact import Redactor

    shared = key or secrets.token_bytes(32)
    return lambda: Redactor(key=shared)
