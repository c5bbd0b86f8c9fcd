"""What a pattern may cost on Python's backtracking engine, whatever the text: before it ever runs.

`re` holds the interpreter's lock while it searches: with the wrong pattern and a text made for it,
no heartbeat would be answered for hours. So the steps are bounded from the shape of the pattern, as
factor * length ** degree for a line of that length; lines beyond the budget run on the automaton. The
bound errs to the high side only.
"""

from __future__ import annotations

from kdebug.annotations import Optional
from kdebug.probe.pattern import BEGIN, Tree
from kdebug.protocol.record import Record, dataclass

STEPS = 30_000_000
"""Of one search: some 0.3 s on a slow core."""
FEW = 16
"""A repeat with no more choices than this is a factor; with more it counts as endless."""
MAX_FACTOR = 1000


@dataclass(frozen=True, eq=False, repr=False)
class Cost(Record):
    degree: int
    factor: int

    def longest_line(self) -> int:
        """Bytes of the longest line that stays within `STEPS`."""
        return int((STEPS / self.factor) ** (1.0 / self.degree))


class Endless(Exception):
    """Exponential, or not worth telling apart from it."""


def cost(tree: Tree) -> Optional[Cost]:
    """The bound; None when there is no polynomial one."""
    try:
        choices, factor, runs = _cost(tree, 0)
    except Endless:
        return None
    if factor > MAX_FACTOR:
        return None
    # One for the places where a match may begin, which an anchor makes one.
    starts = 0 if _anchored(tree) else 1
    return Cost(max(1, starts + max(choices, runs)), factor)


def _anchored(tree: Tree) -> bool:
    first = tree[1][0] if tree[0] == "seq" and tree[1] else tree
    return bool(first == ("at", BEGIN))


def first_and_empty(tree: Tree) -> tuple[int, bool]:
    """The bytes that a match may begin with, and whether it may be empty."""
    kind = tree[0]
    if kind == "set":
        return tree[1], False
    if kind == "at":
        return 0, True
    if kind == "rep":
        first, empty = first_and_empty(tree[1])
        return first, empty or tree[2] == 0
    parts = [first_and_empty(part) for part in tree[1]]
    if kind == "alt":
        return _union([first for first, _ in parts]), any(empty for _, empty in parts)
    reached = 0
    for first, empty in parts:
        reached |= first
        if not empty:
            return reached, False
    return reached, True


def _union(masks: list[int]) -> int:
    whole = 0
    for mask in masks:
        whole |= mask
    return whole


def _cost(tree: Tree, follow: int) -> tuple[int, int, int]:
    """(choices that multiply, factor, 1 when something runs along the line), before bytes in `follow`.

    `follow` is 0 at the end of the pattern: whoever gets there has found a match, and looks no further.
    """
    kind = tree[0]
    if kind in ("set", "at"):
        return 0, 1, 0
    if kind == "seq":
        return _sequence(tree[1], follow)
    if kind == "alt":
        return _alternatives(tree[1], follow)
    return _repeat(tree, follow)


def _sequence(parts: list[Tree], follow: int) -> tuple[int, int, int]:
    choices, factor, runs = 0, 1, 0
    for part in reversed(parts):
        more, times, run = _cost(part, follow)
        choices, factor, runs = choices + more, factor * times, max(runs, run)
        first, empty = first_and_empty(part)
        follow = first | (follow if empty else 0)
    return choices, factor, runs


def _alternatives(parts: list[Tree], follow: int) -> tuple[int, int, int]:
    costs = [_cost(part, follow) for part in parts]
    # Branches that begin alike are tried one after the other.
    factor = max(times for _, times, _ in costs)
    if _overlap(parts):
        factor *= len(parts)
    return max(more for more, _, _ in costs), factor, max(run for _, _, run in costs)


def _overlap(parts: list[Tree]) -> bool:
    seen = 0
    for part in parts:
        first, empty = first_and_empty(part)
        if empty or first & seen:
            return True
        seen |= first
    return False


def _repeat(tree: Tree, follow: int) -> tuple[int, int, int]:
    _, body, least, most = tree
    first, empty = first_and_empty(body)
    many = most is None or most - least > FEW
    if body[0] == "set":
        if least == most:
            return 0, 1, 0
        movable = bool(first & follow)
        if many:
            return int(movable), 1, 1
        return 0, (most - least + 1) if movable else 1, 0
    if most == 1:
        choices, factor, runs = _cost(body, follow)
        return choices, factor * 2, runs
    choices, factor, runs = _cost(body, first | follow)
    if empty or choices or factor > 1:
        raise Endless
    movable = bool(first & follow) and least != most
    return (1 + runs if movable else 0), 1, 1 if many or runs else 0
