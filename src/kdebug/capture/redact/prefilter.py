"""Where in a block it is worth looking: literals and rare characters, found at the speed of memchr.

`re` with many alternatives runs at some 30 MB/s, `bytes.find` at more than 1,000. So each literal is looked
for by itself, in lower case; and only those that stand at all in a copy of which digits and punctuation are
left out, which is half as long. What ends in a character that is rare is found by that character.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Optional, Protocol

from kdebug.capture.redact import blocks, names, pairs, shapes
from kdebug.capture.redact.fast import fast_hits
from kdebug.capture.redact.span import Span

Look = Callable[[bytes, int], Optional[Span]]

_KEPT = b"abcdefghijklmnopqrstuvwxyz"
_LOWER = bytes(byte + 32 if 65 <= byte <= 90 else byte for byte in range(256))
_ALWAYS = re.compile(b"")
_DROPPED = bytes(byte for byte in range(128) if byte not in _KEPT and byte not in _KEPT.upper())


class _Part(Protocol):
    def hits(self, data: bytes) -> Iterator[tuple[int, str, Look]]: ...


class Literals:
    """Lower-case literal -> what looks at each place where it stands."""

    def __init__(self) -> None:
        self._looks: dict[bytes, list[tuple[str, Look, re.Pattern[bytes]]]] = {}
        for anchor in names.ANCHORS:
            self._add(anchor, "value", pairs.pair_at, pairs.QUICK[anchor])
        self._add(blocks.ANCHOR, blocks.KIND, blocks.block_at)
        for shape in shapes.SHAPES:
            for anchor in shape.anchors:
                self._add(anchor, shape.kind, shapes.finder(shape))
        self._squeezed = {anchor: anchor.translate(None, _DROPPED) for anchor in self._looks}

    def _add(self, anchor: bytes, kind: str, look: Look, quick: re.Pattern[bytes] = _ALWAYS) -> None:
        self._looks.setdefault(anchor, []).append((kind, look, quick))

    def hits(self, data: bytes) -> Iterator[tuple[int, str, Look]]:
        squeezed = data.translate(_LOWER, _DROPPED)
        present = [anchor for anchor, short in self._squeezed.items() if short in squeezed]
        lower = data.lower() if present else b""
        for anchor in present:
            at = lower.find(anchor)
            while at >= 0:
                for kind, look, quick in self._looks[anchor]:
                    if quick.match(lower, at):
                        yield at, kind, look
                at = lower.find(anchor, at + 1)


class Marks:
    """Shapes whose beginning ends in one rare character."""

    def __init__(self, mark: bytes) -> None:
        found = [shape for shape in shapes.SHAPES if shape.mark == mark]
        self._looks = [(shape.kind, shape.width - 1, shapes.finder(shape)) for shape in found]
        behind = rb"|".join(rb"(?<=" + shape.begin + rb")" for shape in found)
        self._pattern = re.compile(re.escape(mark) + rb"(?:" + behind + rb")")

    def hits(self, data: bytes) -> Iterator[tuple[int, str, Look]]:
        for match in self._pattern.finditer(data):
            for kind, back, look in self._looks:
                if match.start() >= back:
                    yield match.start() - back, kind, look


class Single:
    """One literal in its own case."""

    def __init__(self, literal: bytes, kind: str, look: Look) -> None:
        self._literal, self._kind, self._look = literal, kind, look

    def hits(self, data: bytes) -> Iterator[tuple[int, str, Look]]:
        at = data.find(self._literal)
        while at >= 0:
            yield at, self._kind, self._look
            at = data.find(self._literal, at + 1)


class Prefilter:
    """Every place that a built-in detector should look at; by RE2 where it is installed."""

    def __init__(self) -> None:
        self._parts: list[_Part] = [
            Literals(), Marks(b"_"), Marks(b"-"),
            Single(b"--", "value", pairs.flag_at),
            Single(b"@", "url-password", pairs.url_password_at),
            Single(b"Q~", "azure-client-secret", shapes.azure_at),
            Single(b"$", "password-hash", shapes.hash_at),
        ]  # fmt: skip

        self._fast = fast_hits(self._by_parts)

    def hits(self, data: bytes) -> Iterator[tuple[int, str, Look]]:
        return self._by_parts(data) if self._fast is None else self._fast.hits(data)

    def _by_parts(self, data: bytes) -> Iterator[tuple[int, str, Look]]:
        for part in self._parts:
            yield from part.hits(data)
