"""RE2, where it is installed: the same places as the prefilter finds, in one pass instead of one a literal.

`re` and `bytes.find` are enough to redact; RE2 makes it several times faster. It only says where to look:
what is a secret is decided by the same patterns, so that the output is the same byte for byte.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any, Optional

from kdebug.capture.redact import blocks, names, pairs, shapes
from kdebug.capture.redact.span import Span

Look = Callable[[bytes, int], Optional[Span]]
Hits = Callable[[bytes], Iterator[tuple[int, str, Look]]]
MAX_MEMORY = 64 * 1024 * 1024
"""For RE2's automaton; with less it would start anew too often, with none left it takes its slow way."""
MAX_WORDS = 2000
_QUOTE = r"(?:\\*[\"'`]|&quot;)"
_MARK = _QUOTE + r"?\]?[ \t]*(?:[:=]|%3[ad])"
_SEPARATORS = (
    _MARK,
    _QUOTE + r"?[\s,]+" + _QUOTE + "?value",
    r"(?:[ \t]+[\w:.\-]+=\"[^\"<>\n]*\")*>",
)
"""As in `pairs.QUICK`, without its bounds: rather more than less."""
SINGLE: dict[bytes, tuple[str, Look]] = {
    b"@": ("url-password", pairs.url_password_at),
    b"$": ("password-hash", shapes.hash_at),
    b"-": ("value", pairs.flag_at),
    b"Q": ("azure-client-secret", shapes.azure_at),
}
QUICK_BYTES = 400
"""Longer than what `pairs.QUICK` looks at."""


def engine() -> Optional[Any]:
    try:
        return importlib.import_module("re2")
    except ImportError:
        return None


def compiled(pattern: bytes, ignore_case: bool) -> Optional[Any]:
    """None without RE2, and for what it has no room for."""
    re2 = engine()
    if re2 is None:
        return None
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.case_sensitive = not ignore_case
    options.never_capture = True
    options.max_mem = MAX_MEMORY
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error:
        return None


def any_of(words: Collection[bytes]) -> Optional[Any]:
    """Finds any of some literals; of thousands the automaton would be too large to be fast."""
    if len(words) > MAX_WORDS:
        return None
    return compiled(b"|".join(b"".join(b"\\x%02x" % byte for byte in word) for word in words), False)


def none_of(words: Collection[bytes]) -> Callable[[bytes], bool]:
    """Whether a block holds none of some literals, in any case; without RE2 nobody knows that quickly."""
    escaped = (b"".join(b"\\x%02x" % byte for byte in word) for word in sorted(set(words)))
    pattern = compiled(b"|".join(escaped), True) if words else None
    if pattern is None:
        return lambda data: False
    return lambda data: pattern.search(data) is None


class FastHits:
    """The prefilter's places, by one automaton; `slow` finds them in what would cost it the square."""

    def __init__(self, pattern: Any, slow: Hits) -> None:
        self._pattern = pattern
        self._slow = slow
        self._names = re.compile(b"|".join(map(re.escape, names.ANCHORS)), re.IGNORECASE)
        self._shapes: dict[bytes, list[tuple[str, Look]]] = {b"pr": [(blocks.KIND, blocks.block_at)]}
        for shape in shapes.SHAPES:
            for first_two in _beginnings(shape):
                self._shapes.setdefault(first_two, []).append((shape.kind, shapes.finder(shape)))

    def hits(self, data: bytes) -> Iterator[tuple[int, str, Look]]:
        hit = self._pattern.search(data)
        while hit is not None:
            at, end = hit.start(), hit.end()
            if end - at <= QUICK_BYTES:
                yield from self._looks(data, at)
                end = at + 1  # what begins inside is looked for too
            else:
                found = self._slow(data[at : end + QUICK_BYTES])
                yield from ((at + place, kind, look) for place, kind, look in found)
            hit = self._pattern.search(data, end)

    def _looks(self, data: bytes, at: int) -> Iterator[tuple[int, str, Look]]:
        name = self._names.match(data, at)
        if name is not None:
            quick = pairs.QUICK[name.group().lower()]
            if quick.match(data[at : at + QUICK_BYTES].lower()):
                yield at, "value", pairs.pair_at
        single = SINGLE.get(data[at : at + 1])
        if single is not None:
            yield at, *single
        for kind, look in self._shapes.get(data[at : at + 2].lower(), ()):
            yield at, kind, look


def _beginnings(shape: shapes.Shape) -> set[bytes]:
    """The first two characters, in lower case."""
    if shape.anchors:
        return {anchor[:2] for anchor in shape.anchors}
    first, rest = re.fullmatch(rb"(\[\w+\]|\w)(\w).*", shape.begin).groups()  # type: ignore[union-attr]
    return {bytes((byte,)).lower() + rest.lower() for byte in first.strip(b"[]")}


def fast_hits(slow: Hits) -> Optional[FastHits]:
    parts = [*_names(), blocks.ANCHOR.decode(), "@", "q~", r"\$", "--"]
    for shape in shapes.SHAPES:
        parts += [re.escape(anchor.decode()) for anchor in shape.anchors] or [shape.begin.decode()]
    pattern = compiled("|".join(parts).encode(), True)
    return None if pattern is None else FastHits(pattern, slow)


def _names() -> Iterator[str]:
    """As `pairs.QUICK` has it: a number behind a plural or a weak name is no secret."""
    strong = "|".join(anchor.decode() for anchor in names.ANCHORS if anchor not in names.WEAK_ANCHORS)
    weak = "|".join(anchor.decode() for anchor in names.WEAK_ANCHORS)
    mark, others = _SEPARATORS[0], "|".join(_SEPARATORS[1:])
    anything = r"[>=]?[ \t]*(?:\d*(?:[^\d\s,;)}\]]|\z)|\d{8})"
    tail = r"(?:[0-9a-rt-z_.\-][\w.\-]*|s[\w.\-]+)?"
    yield rf"(?:{strong})(?:{tail}(?:{mark}|{others})|s(?:{mark}{anything}|{others}))"
    yield rf"(?:{weak})[\w.\-]*(?:{mark}{anything}|{others})"
