"""Which lines of a block match: by bytes.find, by Python's engine, or by the automaton, whichever is the
fastest that is sure to end."""

from __future__ import annotations

import re

from kdebug import threads
from kdebug.annotations import Callable, Iterator, Optional, Union
from kdebug.probe.pattern import Tree, expression, literal, needed, parse
from kdebug.probe.pattern_cost import STEPS, Cost, cost

Buffer = Union[bytes, bytearray]
Span = tuple[int, int]
"""Of a line without its line feed."""
Spans = Iterator[Optional[Span]]
"""With None where the search may be stopped."""
SHORTEST_NEEDLE = 3
PIECE = 16 * 1024
"""Searched at once by an expression: a millisecond, for which other threads wait for the interpreter."""
DENSE = 1000
"""Candidates a MiB above which looking for the needle first does not pay."""
DENSE_BLOCKS = 32


class Stop:
    """Whether the request that is being answered was cancelled: each page of a search has its own."""

    def __init__(self) -> None:
        self.current: Optional[threads.Event] = None

    def is_set(self) -> bool:
        return self.current is not None and self.current.is_set()


def matcher(
    pattern: str, fixed: bool, ignore_case: bool, cancelled: Stop
) -> Union[FixedMatcher, PatternMatcher]:
    """Raises `UsageError` for a pattern outside of the dialect."""
    if fixed:
        return FixedMatcher(literal(pattern), ignore_case)
    return PatternMatcher(parse(pattern, ignore_case), cancelled)


class FixedMatcher:
    """Lines that hold a string."""

    def __init__(self, needle: bytes, ignore_case: bool = False) -> None:
        self._needle = needle.lower() if ignore_case else needle
        self._ignore_case = ignore_case

    def spans(self, block: Buffer, start: int, end: int) -> Spans:
        """Every line of block[start:end] that matches, in order. `start` is the start of a line."""
        if self._ignore_case:
            block = block.lower()
        find = block.find
        while start < end:
            hit = find(self._needle, start, end)
            if hit < 0:
                return
            first, last = line_around(block, start, hit, end)
            if first >= end:
                return
            yield first, last
            start = last + 1

    def matches(self, block: Buffer, start: int, end: int) -> bool:
        """Whether one line, or a piece of one, matches."""
        return next(self.spans(block, start, end), None) is not None or not self._needle


def line_around(block: Buffer, low: int, hit: int, end: int) -> Span:
    """The line that `hit` is in; it does not begin before `low`."""
    first = block.rfind(b"\n", low, hit) + 1 or low
    last = block.find(b"\n", hit, end)
    return first, end if last < 0 else last


class PatternMatcher:
    """Lines that an expression matches."""

    def __init__(self, tree: Tree, cancelled: Stop) -> None:
        self._tree = tree
        self._cancelled = cancelled
        self._needle = needed(tree)
        self._cost: Optional[Cost] = cost(tree)
        self._longest = self._cost.longest_line() if self._cost else -1
        self._search = re.compile(expression(tree), re.MULTILINE).search
        self._automaton: Optional[Callable[[bytes, Stop], bool]] = None
        self._dense = 0

    @property
    def slow(self) -> bool:
        """Whether every line is for the automaton."""
        return self._cost is None

    def matches(self, block: Buffer, start: int, end: int) -> bool:
        """Whether one line, or a piece of one, matches."""
        if end - start <= self._longest:
            return self._search(block, start, end) is not None
        if self._automaton is None:
            from kdebug.probe.automaton import Automaton

            self._automaton = Automaton(self._tree).search
        return self._automaton(bytes(block[start:end]), self._cancelled)

    def spans(self, block: Buffer, start: int, end: int) -> Spans:
        """As `FixedMatcher.spans`."""
        if len(self._needle) >= SHORTEST_NEEDLE and not self._dense:
            return self._by_needle(block, start, end)
        self._dense = max(0, self._dense - 1)
        if self._cost is None:
            return self._line_by_line(block, start, end)
        return self._in_pieces(block, start, end, self._cost)

    def _by_needle(self, block: Buffer, start: int, end: int) -> Spans:
        looked = 0
        low = start
        while low < end and not self._cancelled.is_set():
            hit = block.find(self._needle, low, end)
            if hit < 0:
                break
            first, last = line_around(block, low, hit, end)
            looked += 1
            yield (first, last) if self.matches(block, first, last) else None
            low = last + 1
        if looked * 2**20 > DENSE * (end - start):
            self._dense = DENSE_BLOCKS

    def _line_by_line(self, block: Buffer, start: int, end: int) -> Spans:
        while start < end and not self._cancelled.is_set():
            last = block.find(b"\n", start, end)
            last = end if last < 0 else last
            yield (start, last) if self.matches(block, start, last) else None
            start = last + 1

    def _in_pieces(self, block: Buffer, start: int, end: int, bound: Cost) -> Spans:
        """Whole lines at once, as many as stay within `STEPS` together."""
        longest = max(map(len, bytes(block[start:end]).split(b"\n")))
        if longest > self._longest:
            yield from self._line_by_line(block, start, end)
            return
        affordable = STEPS // (bound.factor * max(1, longest) ** (bound.degree - 1))
        size = max(longest, min(PIECE, affordable))
        while start < end and not self._cancelled.is_set():
            last = end if start + size >= end else block.rfind(b"\n", start, start + size + 1) + 1
            yield from self._searched(block, start, last)
            yield None
            start = last

    def _searched(self, block: Buffer, start: int, end: int) -> Spans:
        search = self._search
        while start < end:
            match = search(block, start, end)
            if match is None:
                return
            first, last = line_around(block, start, match.start(), end)
            if first >= end:
                return  # the nothing behind the last line feed
            yield first, last
            start = last + 1
