"""What there is to know in a value that a place gives away: the password inside a URL, the fields of a pull
secret, the lines of a key file."""

from __future__ import annotations

import base64
import binascii
import json
import re
import urllib.parse
from collections.abc import Iterator
from typing import Any

from kdebug.capture.redact import names, pairs
from kdebug.capture.redact.known import MIN_BYTES

MAX_BYTES = 64 * 1024
"""Of one value: Secrets hold at most 1 MiB, and what is longer than this is data, not a password."""
MIN_LINE = 12
_ARMOUR = re.compile(rb"-----(?:BEGIN|END) [A-Z0-9 ]{1,60}-----")
_PRIVATE = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY")
_URL = re.compile(rb"[a-z][a-z0-9+.\-]*://[^\s:/@]*:(?P<password>\S+)@[^\s@]*")
_SCHEME = re.compile(rb"(?i)(bearer|basic|token|digest) +(?P<rest>\S+)")
_USER = re.compile(rb"[^\s:@/]{1,64}:(?P<password>[^\s:]{4,256})")
_PUBLIC_FILES = ("namespace", "ca.crt", "service-ca.crt", "ca-bundle.crt", "ca.pem", "known_hosts", "type")


def public_file(path: str, data: bytes) -> bool:
    """Files that lie among secrets and are none: certificates, a namespace."""
    name = path.rsplit("/", 1)[-1]
    if name in _PUBLIC_FILES:
        return True
    return b"-----BEGIN CERTIFICATE" in data[:200] and not _PRIVATE.search(data)


def parts(value: bytes, depth: int = 0) -> Iterator[bytes]:
    """`value` itself, and the secrets inside it."""
    value = value[:MAX_BYTES].strip(b" \t\r\n\0")
    if not value or depth > 3:
        return
    if value[:1] in (b"{", b"["):
        yield value
        yield from _of_json(value, depth)
        return
    yield value
    if b"\n" in value:
        yield from _of_lines(value, depth)
        return
    for pattern, group in ((_URL, "password"), (_SCHEME, "rest")):
        match = pattern.fullmatch(value)
        if match is not None:
            yield from parts(match[group], depth + 1)
            yield from parts(urllib.parse.unquote_to_bytes(match[group]), depth + 1)
    yield from _of_pairs(value)
    yield from _decoded(value, depth)


def _of_json(value: bytes, depth: int) -> Iterator[bytes]:
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        return
    stack: list[tuple[str, Any]] = [("", document)]
    while stack:
        name, item = stack.pop()
        if isinstance(item, dict):
            stack += [(str(key), field) for key, field in item.items()]
        elif isinstance(item, list):
            stack += [(name, field) for field in item]
        elif isinstance(item, str) and (pairs.names_secret(name, item) or name == "auth"):
            yield from parts(item.encode("utf-8", "surrogatepass"), depth + 1)


def _of_lines(value: bytes, depth: int) -> Iterator[bytes]:
    for line in value.split(b"\n"):
        line = line.strip()
        if _ARMOUR.fullmatch(line):
            continue
        name, mark, rest = line.partition(b"=" if b"=" in line.rstrip(b"=") else b": ")
        if mark and re.fullmatch(rb"[\w.\- ]{1,64}", name):
            if pairs.names_secret(name.decode("ascii", "replace"), rest.decode("utf-8", "surrogateescape")):
                yield from parts(rest.strip(b" \"'"), depth + 1)
        elif len(line) >= MIN_LINE and b" " not in line:
            yield line


def _of_pairs(value: bytes) -> Iterator[bytes]:
    """A connection string: Server=db;Password=..."""
    if b"=" in value:
        for match in re.finditer(
            rb"(?i)(?:password|pwd|secret|key|token|signature)=([^;&\s]{4,512})", value
        ):
            yield match[1]


def _decoded(value: bytes, depth: int) -> Iterator[bytes]:
    """What base64 of text holds: the Secret's own form, basic auth; user:password in the plain."""
    user = _USER.fullmatch(value)
    if user is not None and depth:
        yield user["password"]
    if len(value) < 12 or len(value) % 4 or not names.machine_made(value):
        return
    try:
        plain = base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        return
    if len(plain) >= MIN_BYTES and all(32 <= byte < 127 for byte in plain):
        yield from parts(plain, depth + 1)
