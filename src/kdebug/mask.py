"""Which environment values are hidden from shoulders and screen shares unless asked for."""

from __future__ import annotations

import re

_NAME = re.compile(
    r"pass(wd|word|phrase)|(?<![a-z])(pass|pwd|salt|dsn)(?![a-z])|secret|token|private|credential|"
    r"authorization|auth(?!or)|cookie|session|signature|(api|access|encryption|signing)[_-]?key|"
    r"_keys?(?![a-z])",
    re.IGNORECASE,
)
"""Rather one value too many than one too few: `--reveal` shows them all."""
_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:@]*:[^/\s@]+@|(^|[Bb]earer )eyJ[\w-]+\.[\w-]+\.|"
    r"^[Bb](earer|asic) \S{8}|^gh[pousr]_\w{20}|^github_pat_\w{20}|^glpat-[\w-]{16}|^xox[abeprs]-[\w-]{10}|"
    r"^sk-[\w-]{20}|^AKIA[A-Z0-9]{16}$"
)
"""A private key, a URL with a password, a JWT, and the tokens of well-known services."""
_HARMLESS = re.compile(r"(?i)^(true|false|yes|no|on|off|)$")


def looks_secret(name: str, value: str) -> bool:
    """By name (DB_PASSWORD, API_TOKEN) or by shape (a URL with a password, a JWT, a private key)."""
    if _VALUE.search(value):
        return True
    return bool(_NAME.search(name)) and not _HARMLESS.match(value)
