"""Detectors that are off unless asked for: what they find is often no secret, or the point of the
capture."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from kdebug.capture.redact.span import Span

_CARD = re.compile(rb"(?<![\d.\-])[3-6]\d{3}(?:[ \-]?\d){9,15}(?![\d.\-]*\d)")
_LOCAL = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-"
_MAIL = re.compile(rb"[\w.+\-]{1,64}@[A-Za-z0-9\-]{1,63}(?:\.[A-Za-z0-9\-]{1,63}){1,8}")


def cards(data: bytes) -> Iterator[Span]:
    """Numbers of 13 to 19 digits whose check digit is right (ISO/IEC 7812-1, Luhn)."""
    for match in _CARD.finditer(data):
        digits = [byte - 48 for byte in match.group() if 48 <= byte <= 57]
        if 13 <= len(digits) <= 19 and luhn(digits):
            yield Span(match.start(), match.end(), "card")


def luhn(digits: list[int]) -> bool:
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def emails(data: bytes) -> Iterator[Span]:
    for match in _around(data):
        yield Span(match.start(), match.end(), "email")


def _around(data: bytes) -> Iterator[re.Match[bytes]]:
    """At each "@": the pattern by itself would try every word."""
    at = data.find(b"@")
    while at >= 0:
        begin = max(0, at - 64)
        local = len(data[begin:at]) - len(data[begin:at].rstrip(_LOCAL))
        match = _MAIL.match(data, at - local, at + 600) if local else None
        if match is not None:
            yield match
        at = data.find(b"@", at + 1)


DETECTORS: dict[str, Callable[[bytes], Iterator[Span]]] = {"card": cards, "email": emails}
