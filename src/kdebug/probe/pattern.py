r"""Extended regular expressions on bytes: parsed here, so that what they may cost is known before they run.

The dialect: literals, `.`, [classes] with [:names:], ( ) (?: ), |, * + ? {m,n} (a `?` behind them is
accepted: it changes no line), ^ $ \b \B \< \>, \d \w \s \D \W \S, \t \r \f \v \xHH, and a backslash before
punctuation. No backreferences and no lookaround: with them no bound on the time would hold.

A tree is made of tuples: ("set", mask of bytes), ("seq", trees), ("alt", trees), ("rep", tree, least, most
or None), ("at", what).
"""

from __future__ import annotations

import re

from kdebug.annotations import Any, Optional
from kdebug.errors import UsageError

Tree = tuple[Any, ...]
ALL = (1 << 256) - 1
LINE_FEED = 1 << 10
MAX_REPEAT = 1000
MAX_STATES = 4000
"""Of the automaton, repeats written out: a pattern that needs more is refused."""
MAX_NESTING = 50
BEGIN, END, WORD_EDGE, NO_WORD_EDGE, WORD_START, WORD_END = "^", "$", "\\b", "\\B", "\\<", "\\>"


def mask_of(members: bytes) -> int:
    mask = 0
    for byte in members:
        mask |= 1 << byte
    return mask


def _span(first: str, last: str) -> bytes:
    return bytes(range(ord(first), ord(last) + 1))


UPPER, LOWER, DIGIT = _span("A", "Z"), _span("a", "z"), _span("0", "9")
PUNCTUATION = bytes(byte for byte in range(33, 127) if not chr(byte).isalnum())
NAMED = {
    "alpha": mask_of(UPPER + LOWER),
    "digit": mask_of(DIGIT),
    "alnum": mask_of(UPPER + LOWER + DIGIT),
    "upper": mask_of(UPPER),
    "lower": mask_of(LOWER),
    "space": mask_of(b" \t\n\r\f\v"),
    "blank": mask_of(b" \t"),
    "punct": mask_of(PUNCTUATION),
    "print": mask_of(bytes(range(32, 127))),
    "graph": mask_of(bytes(range(33, 127))),
    "cntrl": mask_of(bytes(range(32)) + b"\x7f"),
    "xdigit": mask_of(DIGIT + b"abcdefABCDEF"),
}
WORD = NAMED["alnum"] | mask_of(b"_")
_CLASSES = {"d": NAMED["digit"], "w": WORD, "s": NAMED["space"]}
_CONTROLS = {"t": 9, "r": 13, "f": 12, "v": 11, "a": 7, "e": 27}
_ANCHORS = {"b": WORD_EDGE, "B": NO_WORD_EDGE, "<": WORD_START, ">": WORD_END}


def parse(pattern: str, ignore_case: bool = False) -> Tree:
    """The tree of a pattern. Raises `UsageError` with the place."""
    parser = _Parser(pattern, ignore_case)
    tree = parser.alternatives(0)
    if parser.at < len(pattern):
        raise parser.wrong("a ) without its (")
    if states(tree) > MAX_STATES:
        raise UsageError("the pattern is too large", why=f"it needs more than {MAX_STATES} states")
    return tree


def literal(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


class _Parser:
    """Recursive descent, at most `MAX_NESTING` deep."""

    def __init__(self, pattern: str, ignore_case: bool) -> None:
        self.pattern = pattern
        self.at = 0
        self._ignore_case = ignore_case

    def wrong(self, why: str) -> UsageError:
        return UsageError(
            f"the pattern {self.pattern!r} is not understood",
            why=f"{why}, at character {self.at + 1}",
            next_step="-F finds a string as it stands",
        )

    def _peek(self, count: int = 1) -> str:
        return self.pattern[self.at : self.at + count]

    def _take(self) -> str:
        self.at += 1
        return self.pattern[self.at - 1]

    def alternatives(self, depth: int) -> Tree:
        if depth > MAX_NESTING:
            raise self.wrong("too many groups in one another")
        branches = [self._sequence(depth)]
        while self._peek() == "|":
            self._take()
            branches.append(self._sequence(depth))
        return branches[0] if len(branches) == 1 else ("alt", branches)

    def _sequence(self, depth: int) -> Tree:
        items: list[Tree] = []
        while self._peek() and self._peek() not in "|)":
            items.append(self._repeats(self._atom(depth)))
        return items[0] if len(items) == 1 else ("seq", items)

    def _atom(self, depth: int) -> Tree:
        character = self._take()
        if character == "(":
            return self._group(depth)
        if character == "[":
            return self._class()
        if character == "\\":
            return self._escape()
        if character == ".":
            return ("set", ALL & ~LINE_FEED)
        if character in "^$":
            return ("at", character)
        if character in "*+?":
            self.at -= 1
            raise self.wrong(f"nothing before the {character} to repeat")
        return self._literal(character)

    def _group(self, depth: int) -> Tree:
        if self._peek() == "?":
            if self._peek(2) != "?:":
                raise self.wrong("lookaround, flags and named groups are not part of the dialect")
            self.at += 2
        tree = self.alternatives(depth + 1)
        if self._peek() != ")":
            raise self.wrong("a ( without its )")
        self._take()
        return tree

    def _repeats(self, atom: Tree) -> Tree:
        while True:
            bounds = self._bounds()
            if bounds is None:
                return atom
            if atom[0] == "at":
                raise self.wrong("an anchor cannot be repeated")
            if self._peek() == "+":
                raise self.wrong("possessive repeats are not part of the dialect")
            if self._peek() == "?":
                self._take()
            atom = ("rep", atom, *bounds)

    def _bounds(self) -> Optional[tuple[int, Optional[int]]]:
        simple = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(self._peek())
        if simple is not None:
            self._take()
            return simple
        match = re.compile(r"\{(\d{0,4})(,?)(\d{0,4})\}").match(self.pattern, self.at)
        if match is None or match[0] in ("{}", "{,}"):
            return None
        self.at = match.end()
        least = int(match[1] or 0)
        most = (int(match[3]) if match[3] else None) if match[2] else least
        if max(least, most or 0) > MAX_REPEAT or (most is not None and most < least):
            raise self.wrong(f"a repeat is at most {MAX_REPEAT} times, and the greater number last")
        return least, most

    def _literal(self, character: str) -> Tree:
        raw = literal(character)
        return self._byte(raw[0]) if len(raw) == 1 else ("seq", [("set", 1 << byte) for byte in raw])

    def _byte(self, byte: int) -> Tree:
        return ("set", self._folded(1 << byte))

    def _folded(self, mask: int) -> int:
        if not self._ignore_case:
            return mask
        for low in LOWER:
            if mask >> low & 1 or mask >> (low - 32) & 1:
                mask |= 1 << low | 1 << (low - 32)
        return mask

    def _escape(self) -> Tree:
        if not self._peek():
            raise self.wrong("a backslash at the end")
        character = self._peek()
        if character in _ANCHORS:
            self._take()
            return ("at", _ANCHORS[character])
        mask = self._escaped_class()
        if mask is not None:
            return ("set", mask & ~LINE_FEED)
        return self._byte(self._escaped_byte())

    def _escaped_class(self) -> Optional[int]:
        character = self._peek()
        if character.lower() not in _CLASSES:
            return None
        self._take()
        mask = _CLASSES[character.lower()]
        return mask if character.islower() else ALL & ~mask

    def _escaped_byte(self) -> int:
        character = self._take()
        if character in _CONTROLS:
            return _CONTROLS[character]
        if character == "x":
            digits = self._peek(2)
            if not re.fullmatch("[0-9a-fA-F]{2}", digits):
                raise self.wrong("\\x wants two hexadecimal digits")
            self.at += 2
            return int(digits, 16)
        if character.isdigit():
            raise self.wrong("backreferences are not part of the dialect")
        if not character.isascii() or character.isalnum():
            raise self.wrong(f"\\{character} has no meaning")
        return ord(character)

    def _class(self) -> Tree:
        negated = self._peek() == "^"
        if negated:
            self._take()
        mask, longer, first = 0, [], True
        while first or self._peek() != "]":
            if not self._peek():
                raise self.wrong("a [ without its ]")
            first = False
            name = re.compile(r"\[:([a-z]+):\]").match(self.pattern, self.at)
            if name is not None:
                if name[1] not in NAMED:
                    raise self.wrong(f"there is no class [:{name[1]}:]")
                self.at = name.end()
                mask |= NAMED[name[1]]
                continue
            added, character = self._member()
            mask |= added
            if character:
                longer.append(character)
        self._take()
        return self._class_tree(mask, longer, negated)

    def _class_tree(self, mask: int, longer: list[str], negated: bool) -> Tree:
        mask = self._folded(mask)
        if negated:
            if longer:
                raise self.wrong("a negated class holds ASCII only: it stands for one byte")
            return ("set", ALL & ~mask & ~LINE_FEED)
        mask &= ~LINE_FEED
        if not longer:
            return ("set", mask)
        branches = [self._literal(character) for character in longer]
        return ("alt", [("set", mask), *branches] if mask else branches)

    def _member(self) -> tuple[int, str]:
        """Bytes of the next member of a class, or the character that is more than one byte."""
        low = self._member_byte()
        if isinstance(low, str):
            return 0, low
        if low > 255 or self._peek() != "-" or self._peek(2) in ("-]", "-"):
            return (low >> 8 if low > 255 else 1 << low), ""
        self._take()
        high = self._member_byte()
        if isinstance(high, str) or high > 255 or high < low:
            raise self.wrong("a range goes from a lower to a higher ASCII character")
        return mask_of(bytes(range(low, high + 1))), ""

    def _member_byte(self) -> Any:
        """A byte, a mask shifted by 8, or a character of several bytes."""
        character = self._take()
        if character == "\\" and self._peek():
            mask = self._escaped_class()
            return mask << 8 if mask is not None else self._escaped_byte()
        raw = literal(character)
        return raw[0] if len(raw) == 1 else character


def states(tree: Tree) -> int:
    """How many states an automaton of it has, about; repeats written out."""
    kind = tree[0]
    if kind in ("seq", "alt"):
        return 1 + sum(states(part) for part in tree[1])
    if kind == "rep":
        return 2 + states(tree[1]) * int(max(tree[2], tree[3] or tree[2] + 1))
    return 1


def expression(tree: Tree) -> bytes:
    """The same for Python's engine, in which no set holds a line feed: it cannot leave a line."""
    kind = tree[0]
    if kind == "set":
        return _set_expression(tree[1])
    if kind == "at":
        return _AT[tree[1]]
    if kind == "seq":
        return b"".join(b"(?:" + expression(p) + b")" if p[0] == "alt" else expression(p) for p in tree[1])
    if kind == "alt":
        return b"|".join(expression(part) for part in tree[1])
    inner = expression(tree[1])
    if tree[1][0] != "set":
        inner = b"(?:" + inner + b")"
    return inner + b"{%d,%s}" % (tree[2], b"" if tree[3] is None else b"%d" % tree[3])


_AT = {
    BEGIN: b"^",
    END: b"$",
    WORD_EDGE: rb"\b",
    NO_WORD_EDGE: rb"\B",
    WORD_START: rb"\b(?=\w)",
    WORD_END: rb"\b(?<=\w)",
}


def _set_expression(mask: int) -> bytes:
    members = [byte for byte in range(256) if mask >> byte & 1]
    if len(members) == 1:
        return re.escape(bytes(members))
    if not members:
        return rb"[^\x00-\xff]"
    ranges: list[list[int]] = []
    for byte in members:
        if ranges and ranges[-1][1] == byte - 1:
            ranges[-1][1] = byte
        else:
            ranges.append([byte, byte])
    return b"[" + b"".join(b"\\x%02x-\\x%02x" % (low, high) for low, high in ranges) + b"]"


def needed(tree: Tree) -> bytes:
    """The longest run of bytes that every match holds; b"" where there is none."""
    best, run = b"", b""
    for part in [*(tree[1] if tree[0] == "seq" else [tree]), ("end",)]:
        mask = part[1] if part[0] == "set" else 0
        if part[0] == "set" and mask and mask & (mask - 1) == 0:
            run += bytes([mask.bit_length() - 1])
            continue
        inner = _needed_inside(part)
        best = max(best, run, inner, key=len)
        if part[0] != "at":
            run = b""
    return best


def _needed_inside(part: Tree) -> bytes:
    if part[0] == "seq":
        return needed(part)
    return needed(part[1]) if part[0] == "rep" and part[2] > 0 else b""
