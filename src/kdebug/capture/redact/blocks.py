"""Private keys in PEM (RFC 7468) and OpenPGP armour: the whole block, however its lines are written.

The lines may be escaped (\\n in JSON), indented, quoted, or stand behind a log's timestamps; the end may be
missing because a file was cut, and so may the beginning.
"""

from __future__ import annotations

import re
from typing import Optional

from kdebug.capture.redact.span import Span

BLOCK_BYTES = 32 * 1024
"""An RSA key of 16,384 bits takes 13 KiB."""
ANCHOR = b"private key"
_BEGIN = re.compile(rb"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_END = re.compile(rb"-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_BODY = re.compile(
    rb"(?:[A-Za-z0-9+/=\s\"',>|]|\\+[nrtu/\"]|(?:Proc-Type|DEK-Info|Version|Comment|Hash):[^\n\\]*)*+"
)
_MATERIAL = re.compile(rb"[A-Za-z0-9+/]{16,}")
_BODY_LINE = re.compile(rb"[^\n]{0,200}?[A-Za-z0-9+/]{40,}={0,2}[\\nr\"',\s]{0,8}$|[ \t\r]*$")
KIND = "private-key"


def block_at(data: bytes, at: int) -> Optional[Span]:
    """The block of which "PRIVATE KEY" stands at `at`, in its first line or in its last one."""
    low = max(0, at - 60)
    begin = data.rfind(b"-----BEGIN ", low, at)
    match = _BEGIN.match(data, begin) if begin >= 0 else None
    if match is not None and match.end() > at:
        return _from_begin(data, match)
    end = data.rfind(b"-----END ", low, at)
    match = _END.match(data, end) if end >= 0 else None
    return _to_end(data, match) if match is not None and match.end() > at else None


def _from_begin(data: bytes, begin: re.Match[bytes]) -> Optional[Span]:
    limit = begin.end() + BLOCK_BYTES
    end = _END.search(data, begin.end(), limit)
    another = data.find(b"-----BEGIN ", begin.end(), limit)
    if end is not None and not 0 <= another < end.start():
        if end.start() - begin.end() < 16:
            return None  # a sentence about keys
        return Span(begin.start(), end.end(), KIND)
    body = _BODY.match(data, begin.end(), limit)
    stop = _more_lines(data, body.end() if body else begin.end(), limit)
    if not _MATERIAL.search(data, begin.end(), stop):
        return None
    return Span(begin.start(), stop, KIND)


def _more_lines(data: bytes, at: int, limit: int) -> int:
    """Lines that end in base64, behind whatever a log writes before them."""
    while at < limit:
        line = data.find(b"\n", at, limit)
        end = line if line >= 0 else min(len(data), limit)
        if not _BODY_LINE.match(data[at:end]):
            return at
        if line < 0:
            return end
        at = line + 1
    return min(at, len(data))


def _to_end(data: bytes, end: re.Match[bytes]) -> Optional[Span]:
    """The rest of a key whose beginning was cut off: the lines of base64 before its end."""
    start = end.start()
    low = max(0, start - BLOCK_BYTES)
    while start > low:
        line = data.rfind(b"\n", low, start - 1) + 1 or low
        text = data[line:start].strip()
        last = start == end.start() and re.fullmatch(rb"(?:.*\s)?[A-Za-z0-9+/]{1,64}={0,2}", text)
        if text and not (_BODY_LINE.match(text) or last):
            break
        start = line
    return Span(start, end.end(), KIND) if _MATERIAL.search(data, start, end.start()) else None
