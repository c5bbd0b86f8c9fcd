"""Where secrets stand in a block of bytes, and how finds that overlap become one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_LINE = re.compile(rb"[^\r\n\0]*+")


@dataclass(frozen=True)
class Span:
    """Bytes `start` to `end` (exclusive) are a secret."""

    start: int
    end: int
    kind: str
    """The class in the token, and the detector's name in the report."""
    identity: bytes = b""
    """What the token is made of where it is not the bytes: the plain form of an encoded one."""

    @property
    def length(self) -> int:
        return self.end - self.start


def merged(spans: Iterable[Span]) -> list[Span]:
    """In order, without overlaps; of those that overlap or touch, the longest gives the class, and its
    identity only where it covers all: neighbours would tell the length of a long secret in pieces."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start, -s.end, not s.identity)):
        if found and span.start <= found[-1].end:
            found[-1] = _union(found[-1], span)
        else:
            found.append(span)
    return found


def _union(first: Span, second: Span) -> Span:
    start, end = first.start, max(first.end, second.end)
    best = max((first, second), key=lambda s: (s.length, bool(s.identity)))
    whole = best.length == end - start or first.identity == second.identity
    return Span(start, end, best.kind, best.identity if whole else b"")


def line_span(data: bytes, at: int, kind: str) -> Span:
    """From `at` to the end of its line: what is left when a bound was hit."""
    return Span(at, _LINE.match(data, at).end(), kind)  # type: ignore[union-attr]
