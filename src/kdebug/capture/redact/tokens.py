"""What stands where a secret stood: keyed, of one length, comparable within one set of bundles only."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

from kdebug.errors import UsageError

MIN_KEY_BYTES = 16
TOKEN = re.compile(rb"\[REDACTED:[a-z0-9][a-z0-9-]{0,31}:[0-9a-f]{8}\]")
_CLASS = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


class Tokens:
    """Makes `[REDACTED:class:abcd1234]`: equal values have equal digests. Without the key nobody can try
    short values against a digest; the key is never stored in a bundle."""

    def __init__(self, key: bytes = b"") -> None:
        if key and len(key) < MIN_KEY_BYTES:
            raise UsageError(
                f"the redaction key has {len(key)} bytes",
                why=f"values could be guessed with fewer than {MIN_KEY_BYTES}",
                next_step="make one with `openssl rand -hex 32`",
            )
        self._key = key or secrets.token_bytes(32)

    def digest(self, value: bytes) -> str:
        return hmac.new(self._key, value, hashlib.sha256).hexdigest()[:8]

    def token(self, kind: str, value: bytes) -> bytes:
        return f"[REDACTED:{kind}:{self.digest(value)}]".encode("ascii")


def is_token(value: str) -> bool:
    """Whether `value` was masked already: a document may be walked twice."""
    return value.isascii() and TOKEN.fullmatch(value.encode("ascii")) is not None


def check_class(name: str) -> str:
    """Raise `UsageError` for a replacement class that would not stand out in a token."""
    if not _CLASS.fullmatch(name):
        raise UsageError(f"{name[:80]!r} is no class of secrets", why="it takes a-z, 0-9 and -, at most 32")
    return name
