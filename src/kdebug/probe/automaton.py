"""A pattern as an automaton that is built while it runs: time is linear in the text, whatever both are.

Slower than Python's engine by far (some 20 MB/s), it takes over where that has no bound, and being
plain Python it never holds the interpreter's lock for long.
"""

from __future__ import annotations

from kdebug.annotations import Any, Optional, Protocol
from kdebug.probe.pattern import (
    BEGIN,
    END,
    NO_WORD_EDGE,
    WORD,
    WORD_EDGE,
    WORD_START,
    Tree,
)

END_OF_LINE = 256
MAX_CACHED = 500
"""States kept; then the cache starts anew."""
LOOK_BYTES = 4096
"""How often a long line looks whether it was cancelled."""
_BEFORE_LINE, _BEFORE_WORD, _BEFORE_OTHER = 0, 1, 2
"""What stands before the place: nothing, a byte of a word, another one."""


class Cancelled(Protocol):
    def is_set(self) -> bool: ...


class Automaton:
    """`search(line)`: whether the pattern matches anywhere in it."""

    def __init__(self, tree: Tree) -> None:
        self._edges: list[list[tuple[Any, int]]] = []
        """Of each state: (mask of bytes, anchor or None, next state)."""
        self._accept = self._new()
        self._start = self._build(tree, self._accept)
        self._cache: dict[tuple[frozenset[int], int], dict[int, Any]] = {}

    def _new(self) -> int:
        self._edges.append([])
        return len(self._edges) - 1

    def _build(self, tree: Tree, end: int) -> int:
        """The state where `tree` begins, when `end` comes after it. From the end backwards."""
        kind = tree[0]
        if kind == "seq":
            for part in reversed(tree[1]):
                end = self._build(part, end)
            return end
        start = self._new()
        if kind == "alt":
            self._edges[start] += [(None, self._build(part, end)) for part in tree[1]]
        elif kind == "rep":
            self._edges[start].append((None, self._build_repeat(tree, end)))
        else:
            self._edges[start].append((tree[1], end))
        return start

    def _build_repeat(self, tree: Tree, end: int) -> int:
        _, body, least, most = tree
        if most is None:
            loop = self._new()
            self._edges[loop] += [(None, self._build(body, loop)), (None, end)]
            end = loop
        else:
            after = end
            for _ in range(most - least):
                skip = self._new()
                self._edges[skip] += [(None, self._build(body, end)), (None, after)]
                end = skip
        for _ in range(least):
            end = self._build(body, end)
        return end

    def search(self, line: bytes, cancelled: Optional[Cancelled] = None) -> bool:
        """In a line without its line feed; False as soon as it is cancelled."""
        state: Any = self._state(frozenset((self._start,)), _BEFORE_LINE)
        for start in range(0, len(line), LOOK_BYTES):
            if cancelled is not None and cancelled.is_set():
                return False
            for byte in line[start : start + LOOK_BYTES]:
                following = state.get(byte)
                if following is None:
                    following = self._step(state, byte)
                if following is True:
                    return True
                state = following
        return self._step(state, END_OF_LINE) is True

    def _state(self, states: frozenset[int], before: int) -> dict[int, Any]:
        key = (states, before)
        found = self._cache.get(key)
        if found is None:
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            found = self._cache[key] = {-1: key}
        return found

    def _step(self, state: dict[int, Any], byte: int) -> Any:
        """The state after `byte`, True once the pattern has matched."""
        states, before = state[-1]
        reached = self._closure(states, before, byte)
        if self._accept in reached:
            following: Any = True
        elif byte == END_OF_LINE:
            following = False
        else:
            moved = {
                end
                for one in reached
                for mask, end in self._edges[one]
                if isinstance(mask, int) and mask >> byte & 1
            }
            word = WORD >> byte & 1
            # A match may begin behind every byte.
            moved.add(self._start)
            following = self._state(frozenset(moved), _BEFORE_WORD if word else _BEFORE_OTHER)
        state[byte] = following
        return following

    def _closure(self, states: frozenset[int], before: int, byte: int) -> set[int]:
        """What is reached without a byte, anchors decided by the bytes on both sides."""
        reached, todo = set(states), list(states)
        while todo:
            for mask, end in self._edges[todo.pop()]:
                if isinstance(mask, int) or end in reached:
                    continue
                if mask is None or _holds(mask, before, byte):
                    reached.add(end)
                    todo.append(end)
        return reached


def _holds(anchor: str, before: int, byte: int) -> bool:
    if anchor == BEGIN:
        return before == _BEFORE_LINE
    if anchor == END:
        return byte == END_OF_LINE
    word_before, word_after = before == _BEFORE_WORD, byte != END_OF_LINE and bool(WORD >> byte & 1)
    if anchor == WORD_EDGE:
        return word_before != word_after
    if anchor == NO_WORD_EDGE:
        return word_before == word_after
    return word_after and not word_before if anchor == WORD_START else word_before and not word_after
