"""Names that say "what follows is a secret", in running text.

Stricter than `kdebug.mask`, which hides values of the environment: text is full of words such as session
and key, and a bundle in which every second line is masked is no evidence.
"""

from __future__ import annotations

import re

STRONG = re.compile(
    rb"(?i)pass(?:w(?:or)?d|phrase|code)|(?<![a-z])pass(?![a-z])|(?<![a-z])pwd(?![a-z])|secret|"
    rb"token(?!iz|is)|credentials?(?![a-z])|private[_.-]?key|(?<![a-z])dsn(?![a-z])|jwt(?![a-z])|authorization|"
    rb"session[_.-]?(?:id|key)(?![a-z])|(?:api|access|account|encrypt|encryption|sign|signing|master|shared|storage|app|license|deploy|auth|"
    rb"rsa|aes|hmac|webhook|service|consumer|client)[_.-]?key(?!board|word|stone|[_.-]?id|space)"
)
"""What follows is masked whatever it looks like."""
WEAK = re.compile(
    rb"(?i)auth(?!or)|session(?![a-z])|sign?ature(?![a-z])|cookie|salt(?![a-z])|"
    rb"(?<!public)(?<!primary)(?<!foreign)[_.-]keys?(?![a-z])|cred(?![a-z])|(?<![a-z])sig(?![a-z])"
)
"""What follows is masked when it looks made by a machine."""
ANCHORS = (
    b"pass", b"pwd", b"secret", b"token", b"cred", b"dsn", b"jwt", b"auth", b"key", b"session", b"sig",
    b"cookie", b"salt",
)  # fmt: skip
"""Lower-case pieces, one of which stands in every name."""
WEAK_ANCHORS = (b"session", b"sig", b"salt")
"""Those that stand in no strong name."""

_ABOUT_WORDS = (
    "count", "counts", "length", "limit", "limits", "ttl", "expiry", "expires", "expiration",
    "timeout", "type", "types", "size", "sizes", "age", "enabled", "required", "policy", "policies",
    "name", "names", "file", "files", "path", "paths", "url", "uri", "dir", "endpoint", "header",
    "headers", "field", "fields", "min", "max", "version", "format", "budget", "used", "usage",
    "provider", "class", "method", "mode", "service", "server", "attempts", "prompt", "algorithm",
    "rotation", "at", "ref", "refs", "manager", "store", "bits", "number", "lifetime", "duration",
    "status", "state", "id", "ids",
)  # fmt: skip
_ABOUT = re.compile(
    rb"(?:[_.\-](?i:%s)|(?<=[a-z])(?:%s))$"
    % ("|".join(_ABOUT_WORDS).encode(), "|".join(word.title() for word in _ABOUT_WORDS).encode())
)
"""Names that end so speak about a secret: password_min_length, token_url, secretName."""
_SESSION = re.compile(rb"(?i)session[_.-]?id$")
_HARMLESS = re.compile(
    rb"(?is)^(?:|true|false|yes|no|on|off|none|null|nil|undefined|required|optional|str|string|int|bool|"
    rb"bytes|any|empty|unset|set|redacted|hidden|masked|[*.\-_#?]+|x{3,}|<[^<>]*>|\$\{[\w.:-]*\}|\{\{.*\}\}|"
    rb"\$\([\w .-]*\)|\[redacted:[a-z0-9-]{1,32}:[0-9a-f]{8}\]|%[sdrv])$"
)
_ENV_REFERENCE = re.compile(rb"^\$(?=[A-Z_])(?:[A-Z]*[0-9]*_)*[A-Z]*[0-9]*$")
"""Words with a number at their end, as variables are called; letters and digits by turns are made."""
MADE_BYTES = 8
LONG_BYTES = 64
"""A longer value is masked without a look at it: looks cost time, and what is refused is looked at
again."""


def about(name: bytes) -> bool:
    return bool(_ABOUT.search(name)) and not _SESSION.search(name)


def harmless(value: bytes) -> bool:
    """No value, a placeholder, a reference to a variable, or what was masked already."""
    if len(value) > LONG_BYTES:
        return False
    return bool(_HARMLESS.match(value) or _ENV_REFERENCE.match(value))


def machine_made(value: bytes) -> bool:
    """Digits among letters: no word, no number, no path, no address."""
    if len(value) > LONG_BYTES:
        return True
    if len(value) < MADE_BYTES or value[:1] in (b"/", b"(", b"{", b"[", b"<") or b"://" in value:
        return False
    letters = sum(65 <= byte <= 90 or 97 <= byte <= 122 for byte in value)
    digits = sum(48 <= byte <= 57 for byte in value)
    mixed = value != value.lower() and value != value.upper()
    return letters >= 2 and (digits >= 2 or (digits == 1 and mixed))
