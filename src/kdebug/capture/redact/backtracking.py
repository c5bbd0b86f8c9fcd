"""How often a regular expression may go back and try again on one line: an upper bound, before it is run.

A pod's log is hostile and a rule is written in a hurry: `(\\w+\\s*)+;` takes the age of the universe on
forty letters. The bound counts in how many ways the parts of a pattern can share out the same text. A
repeat that must stop where it stops, because what follows cannot begin with what it repeats, counts once.
"""

from __future__ import annotations

import re._constants as op  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
from typing import Any

LINE_BYTES = 4096
"""Rules are run on pieces of at most so many bytes."""
MAX_WAYS = 5000
"""One ambiguous repeat over a whole line, and no second one."""
_ALL = frozenset(range(256))
_Set = frozenset[int]
_REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT)
_CAP = 10.0**12


class TooHard(Exception):
    """The pattern has a part whose cost cannot be bounded; the message says which."""


def ways(pattern: bytes, flags: int = 0) -> float:
    """Raises `TooHard` for references and for what the interpreter's own parser does not explain."""
    tree = parser.parse(pattern, flags)
    return _sequence(list(tree), frozenset(), tree.state.flags)


def _sequence(items: list[Any], follow: _Set, flags: int) -> float:
    total, behind = 1.0, 0
    for item in reversed(items):
        ways_of_item = _item(item, follow, flags)
        # Each way but the first walks once more through the repeats behind it.
        total = min(_CAP, total * ways_of_item * (1 + behind if ways_of_item > 1 else 1))
        behind += _repeated([item])
        first, empty = _first([item], flags)
        follow = first | follow if empty else first
    return total


def _item(item: Any, follow: _Set, flags: int) -> float:
    kind, value = item
    if kind in (op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN, op.AT, op.FAILURE):
        return 1
    if kind is op.SUBPATTERN:
        return _sequence(list(value[-1]), follow, flags | value[1])
    if kind is op.BRANCH:
        return _branch([list(branch) for branch in value[1]], follow, flags)
    if kind in _REPEATS:
        least, most, body = value
        return _repeat(least, most, body, follow, flags)
    if kind in (op.ASSERT, op.ASSERT_NOT):
        return _sequence(list(value[1]), _ALL, flags)
    if kind in (op.ATOMIC_GROUP, op.POSSESSIVE_REPEAT):
        return _sequence(list(value[-1] if kind is op.POSSESSIVE_REPEAT else value), _ALL, flags)
    raise TooHard("it refers back to a group")


def _repeated(items: list[Any]) -> int:
    """At most so many bytes are matched by repeats of no fixed length."""
    total = 0
    for kind, value in items:
        if kind in (*_REPEATS, op.POSSESSIVE_REPEAT):
            total += min(int(value[1]), LINE_BYTES) if value[0] != value[1] else _repeated(list(value[2]))
        elif kind is op.SUBPATTERN:
            total += _repeated(list(value[-1]))
        elif kind is op.BRANCH:
            total += max(_repeated(list(branch)) for branch in value[1])
    return total


def _branch(branches: list[list[Any]], follow: _Set, flags: int) -> float:
    each = [_sequence(branch, follow, flags) for branch in branches]
    seen: set[int] = set()
    for branch in branches:
        first, empty = _first(branch, flags)
        if empty or not first.isdisjoint(seen):
            return min(_CAP, sum(each))
        seen |= first
    return max(each)


def _repeat(least: int, most: int, body: Any, follow: _Set, flags: int) -> float:
    most = min(int(most), LINE_BYTES)
    first, empty = _first(list(body), flags)
    inner = _sequence(list(body), first | follow if most > 1 else follow, flags)
    if empty and most > 1:
        return _CAP
    if inner > 1:
        return _CAP if most > 40 else min(_CAP, inner**most * (most - least + 1))
    return 1 if first.isdisjoint(follow) else most - least + 1


def _first(items: list[Any], flags: int) -> tuple[_Set, bool]:
    """The bytes that a match may begin with, and whether it may be empty. Where a position is tested (^,
    \\b, look-around) nothing is known of what follows: any byte."""
    found: _Set = frozenset()
    for kind, value in items:
        first, empty = _first_of(kind, value, flags)
        found |= first
        if not empty:
            return found, False
    return found, True


def _first_of(kind: Any, value: Any, flags: int) -> tuple[_Set, bool]:
    if kind in (op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN):
        return _bytes_of(kind, value, flags), False
    if kind is op.SUBPATTERN:
        return _first(list(value[-1]), flags | value[1])
    if kind is op.BRANCH:
        parts = [_first(list(branch), flags) for branch in value[1]]
        return frozenset().union(*(first for first, _ in parts)), any(empty for _, empty in parts)
    if kind in (*_REPEATS, op.POSSESSIVE_REPEAT):
        first, empty = _first(list(value[2]), flags)
        return first, empty or value[0] == 0
    if kind is op.ATOMIC_GROUP:
        return _first(list(value), flags)
    return _ALL, True


def _bytes_of(kind: Any, value: Any, flags: int) -> _Set:
    """By asking the engine itself, so that no class is misread."""
    tree = parser.SubPattern(parser.State(), [(kind, value)])
    tree.state.str = b""
    tree.state.flags = flags
    return _matching(tree, flags)


def _matching(tree: Any, flags: int) -> _Set:
    import re._compiler as compiler  # type: ignore[import-not-found]

    pattern = compiler.compile(tree, flags)
    return frozenset(byte for byte in range(256) if pattern.match(bytes((byte,))))
