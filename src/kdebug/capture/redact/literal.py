"""What must stand in every match of a pattern, so that lines without it need no look.

A rule is run line by line, which in Python costs more than the search itself; one literal that is looked
for in a whole block makes it as fast as the rest.
"""

from __future__ import annotations

import re
import re._constants as op  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
from typing import Any

MIN_BYTES = 2
"""One letter stands in every line."""


def required(pattern: bytes, flags: int = 0) -> bytes:
    """The longest run of bytes that is part of every match, in lower case where case does not matter; b""
    where there is none worth a search."""
    try:
        tree = parser.parse(pattern, flags)
    except (re.error, OverflowError, RecursionError):
        return b""
    ignore_case = bool(tree.state.flags & re.IGNORECASE)
    longest = max(_runs(list(tree)), key=len, default=b"")
    if len(longest) < MIN_BYTES or b"\n" in longest:
        return b""
    return longest.lower() if ignore_case else longest


def _runs(items: list[Any]) -> list[bytes]:
    """Literals that follow each other; a group of its own is a run of its own."""
    found: list[bytes] = []
    run = bytearray()
    for kind, value in items:
        if kind is op.LITERAL:
            run.append(value)
            continue
        found, run = [*found, bytes(run)], bytearray()
        if kind is op.SUBPATTERN and not value[1] and not value[2]:
            found += _runs(list(value[-1]))
        elif kind in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT) and value[0] >= 1:
            found += _runs(list(value[2]))
    return [*found, bytes(run)]
