"""All detectors over one block of bytes: spans in, nothing decided about where the block came from.

Fails closed: where a detector raises, the line it looked at is a span.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

from kdebug.capture.redact import optional
from kdebug.capture.redact.fast import none_of
from kdebug.capture.redact.known import KnownSecrets
from kdebug.capture.redact.prefilter import Prefilter
from kdebug.capture.redact.rules import Rule
from kdebug.capture.redact.span import Span, line_span, merged

FAILED = "failed"
"""The class of what was masked because a detector raised."""
_KINDS_OF_PAIRS = ("value", "header", "bound")


class Engine:
    def __init__(self, known: KnownSecrets, rules: tuple[Rule, ...], extra: tuple[str, ...]) -> None:
        self.known = known
        self._rules = rules
        self._without_rules = none_of({rule.required for rule in rules if rule.required})
        self._extra = [optional.DETECTORS[name] for name in extra]
        self._prefilter = Prefilter()
        self.failures: Counter[str] = Counter()

    def spans(self, data: bytes) -> list[Span]:
        """Of the whole of `data`, in order, without overlaps."""
        found = list(self._guarded("known", data, self.known.spans))
        found += self._built_in(data)
        found += self._of_rules(data)
        for detector in self._extra:
            found += self._guarded("optional", data, detector)
        return merged(found)

    def _of_rules(self, data: bytes) -> list[Span]:
        found: list[Span] = []
        if not self._rules:
            return found
        lower, none = data.lower(), self._without_rules(data)
        for rule in self._rules:
            if not (none and rule.required):
                found += self._guarded(rule.name, data, partial(rule.spans, lower=lower))
        return found

    def _guarded(self, name: str, data: bytes, find: Callable[[bytes], Iterator[Span]]) -> list[Span]:
        try:
            return list(find(data))
        except Exception:  # noqa: BLE001 - whatever it was, nothing passes unseen
            self.failures[name] += 1
            return [Span(0, len(data), FAILED)] if data else []

    def _built_in(self, data: bytes) -> Iterator[Span]:
        """What lies inside a value that was found is not looked at for names again: hostile text would cost
        the square of its length."""
        covered = 0
        for at, kind, look in sorted(self._prefilter.hits(data), key=_place):
            if kind == "value" and at < covered:
                continue
            span = self._look(data, at, kind, look)
            if span is not None:
                if span.kind in _KINDS_OF_PAIRS:
                    covered = max(covered, span.end)
                yield span

    def _look(
        self, data: bytes, at: int, kind: str, look: Callable[[bytes, int], Span | None]
    ) -> Span | None:
        try:
            return look(data, at)
        except Exception:  # noqa: BLE001 - the same
            self.failures[kind] += 1
            start = max(data.rfind(b"\n", 0, at) + 1, 0)
            return Span(start, line_span(data, at, FAILED).end, FAILED)


def _place(hit: tuple[int, str, object]) -> int:
    return hit[0]
