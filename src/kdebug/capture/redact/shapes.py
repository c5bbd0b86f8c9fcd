"""Secrets that are known by their shape: the tokens of well-known services, JWT, hashes of passwords.

Each has a fixed beginning. That is what the prefilter looks for; the pattern then decides.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

from kdebug.capture.redact.span import Span

MAX_BYTES = 16 * 1024
"""Of a token; a longer run is masked as far, and the next hit begins there."""
_BOUNDARY = rb"(?:(?<![A-Za-z0-9_\-])|(?<=\\[nrt])|(?<=%[0-9A-Fa-f][0-9A-Fa-f])|(?<=\\u00[0-9a-f][0-9a-f]))"
"""A token begins behind a character of another kind, or behind an escaped one."""


@dataclass(frozen=True)
class Shape:
    """One kind of token: `begin` of fixed width, then `rest`; `back` is where in `begin` the anchor
    stands."""

    kind: str
    begin: bytes
    rest: bytes
    anchors: tuple[bytes, ...]
    """Lower-case literals that stand at the beginning of the match; none for shapes that end in a mark."""
    mark: bytes = b""
    """The last character of `begin`, where it is rarer in text than any literal."""
    width: int = 0
    """Of `begin`, for those with a mark."""
    check: Optional[Callable[[bytes], bool]] = None


def _literal(
    kind: str, begin: bytes, rest: bytes, check: Optional[Callable[[bytes], bool]] = None
) -> Shape:
    return Shape(kind, re.escape(begin), rest, (begin.lower(),), check=check)


def _marked(kind: str, begin: bytes, width: int, rest: bytes) -> Shape:
    return Shape(kind, begin, rest, (), mark=begin[-1:], width=width)


def has_digit(value: bytes) -> bool:
    return any(48 <= byte <= 57 for byte in value)


def _user_and_password(value: bytes) -> bool:
    """Whether "Basic" is followed by base64 of user:password."""
    try:
        plain = base64.b64decode(value.split()[-1], validate=True)
    except (ValueError, binascii.Error):
        return False
    return b":" in plain


def _bearer(value: bytes) -> bool:
    token = value.split()[-1]
    return has_digit(token) or len(token) >= 24


_W = rb"[A-Za-z0-9_\-]"
SHAPES = (
    _literal("jwt", b"eyJ", _W + rb"{10,8192}\." + _W + rb"{10,16384}(?:\." + _W + rb"{0,8192}){0,3}"),
    Shape("aws-key-id", rb"A(?:KIA|SIA|BIA)", rb"[A-Z0-9]{16}(?![A-Za-z0-9])", (b"akia", b"asia", b"abia")),
    _literal("google-api-key", b"AIza", _W + rb"{35}"),
    _literal("google-oauth", b"ya29.", _W + rb"{20,2048}"),
    _marked("google-oauth-secret", rb"GOCSPX-", 7, _W + rb"{20,64}"),
    Shape("bearer", rb"[Bb][Ee][Aa][Rr][Ee][Rr]", rb"[ \t]+(?P<secret>[A-Za-z0-9._~+/\-]{8,16384}={0,2})",
          (b"bearer",), check=_bearer),
    Shape("basic", rb"[Bb][Aa][Ss][Ii][Cc]", rb"[ \t]+(?P<secret>[A-Za-z0-9+/]{6,4096}={0,2})",
          (b"basic",), check=_user_and_password),
    _literal("slack-webhook", b"hooks.slack.com/",
             rb"(?:services|workflows)/(?P<secret>[A-Za-z0-9_/+\-]{20,200})"),
    _literal("vault", b"hvs.", _W + rb"{20,300}"),
    _literal("vault", b"hvb.", _W + rb"{20,300}"),
    _literal("sendgrid", b"SG.", _W + rb"{16,32}\." + _W + rb"{16,64}"),
    _literal("atlassian", b"ATATT3", rb"[A-Za-z0-9_=\-]{20,512}"),
    _literal("databricks", b"dapi", rb"[0-9a-f]{32}(?:-\d)?(?![A-Za-z0-9])"),
    _marked("github", rb"gh[pousr]_", 4, rb"[A-Za-z0-9]{36,255}"),
    _marked("github", rb"github_pat_", 11, rb"[A-Za-z0-9_]{22,255}"),
    _marked("gitlab", rb"gl(?:pat|ptt|cbt|imt)-", 6, _W + rb"{20,255}"),
    _marked("gitlab", rb"gl(?:dt|rt|ft)-", 5, _W + rb"{20,255}"),
    _marked("slack", rb"xox[a-z]-", 5, rb"[A-Za-z0-9\-]{10,255}"),
    _marked("slack", rb"xapp-", 5, rb"\d-[A-Za-z0-9\-]{10,255}"),
    _marked("stripe", rb"[sr]k_live_", 8, rb"[A-Za-z0-9]{16,255}"),
    _marked("stripe", rb"[sr]k_test_", 8, rb"[A-Za-z0-9]{16,255}"),
    _marked("stripe", rb"whsec_", 6, rb"[A-Za-z0-9+/]{24,255}={0,2}"),
    _marked("npm", rb"npm_", 4, rb"[A-Za-z0-9]{36,255}"),
    _marked("pypi", rb"pypi-", 5, rb"AgE[A-Za-z0-9_\-]{40,2048}"),
    _marked("openai", rb"sk-", 3,
            rb"(?:[a-z]{2,12}\d{0,2}-)?(?=[A-Za-z_\-]{0,64}\d)[A-Za-z0-9_\-]{20,512}"),
    _marked("hugging-face", rb"hf_", 3, rb"[A-Za-z]{34,64}(?![A-Za-z0-9])"),
    _marked("digitalocean", rb"do[opr]_v1_", 7, rb"[0-9a-f]{64}"),
    _marked("docker", rb"dckr_pat_", 9, _W + rb"{20,64}"),
    _marked("shopify", rb"shp[a-z]{2}_", 6, rb"[0-9a-fA-F]{32}"),
    _marked("tailscale", rb"tskey-", 6, rb"[a-z]{2,12}-[A-Za-z0-9]{6,32}-[A-Za-z0-9]{10,64}"),
    _marked("linear", rb"lin_api_", 8, rb"[A-Za-z0-9]{32,64}"),
)  # fmt: skip
_AZURE = rb"[A-Za-z0-9_~.\-]"
AZURE = re.compile(
    rb"(?:(?<!"
    + _AZURE
    + rb")|(?<=\\[nrt]))"
    + _AZURE
    + rb"{3}\dQ~"
    + _AZURE
    + rb"{31,34}(?!"
    + _AZURE
    + rb")"
)
"""An Entra client secret: three characters, a digit, "Q~"."""
HASH = re.compile(
    rb"\$(?:[156y7]|2[abxy]|apr1|argon2(?:id|[id])|scrypt|pbkdf2[a-z0-9\-]*)\$[./A-Za-z0-9$=,+\-]{12,512}"
)
"""crypt(5): a hash of a password can be guessed against, so it is one."""


def pattern_of(shape: Shape) -> re.Pattern[bytes]:
    return re.compile(_BOUNDARY + shape.begin + shape.rest)


def finder(shape: Shape) -> Callable[[bytes, int], Optional[Span]]:
    """Looks at one place, where the shape begins."""
    pattern = pattern_of(shape)
    group: int | str = "secret" if "secret" in pattern.groupindex else 0

    def find(data: bytes, at: int) -> Optional[Span]:
        match = pattern.match(data, at)
        if match is None or (shape.check is not None and not shape.check(match.group())):
            return None
        return Span(match.start(group), match.end(group), shape.kind)

    return find


def azure_at(data: bytes, at: int) -> Optional[Span]:
    """`at` is that of "Q~"."""
    match = AZURE.match(data, at - 4) if at >= 4 else None
    return None if match is None else Span(match.start(), match.end(), "azure-client-secret")


def hash_at(data: bytes, at: int) -> Optional[Span]:
    match = HASH.match(data, at)
    return None if match is None else Span(match.start(), match.end(), "password-hash")
