"""Which environment values are hidden from shoulders and screen shares unless asked for."""

from __future__ import annotations

import re

_NAME = re.compile(
    r"(pass(wd|word|phrase)?|secret|token|api[_-]?key|private|credential|auth|cookie|session|signature|dsn|"
    r"access[_-]?key|encryption|salt|_key|pwd)s?(?![a-z])",
    re.IGNORECASE,
)
_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:@]*:[^/\s@]+@|^eyJ[\w-]+\.[\w-]+\.|^gh[pousr]_\w{20}|^AKIA[A-Z0-9]{16}$"
)
_HARMLESS = re.compile(r"(?i)^(true|false|yes|no|on|off|)$")


def looks_secret(name: str, value: str) -> bool:
    """By name (DB_PASSWORD, API_TOKEN) or by shape (a URL with a password, a JWT, a private key)."""
    if _VALUE.search(value):
        return True
    return bool(_NAME.search(name)) and not _HARMLESS.match(value)
