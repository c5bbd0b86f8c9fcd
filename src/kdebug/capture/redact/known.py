"""Secrets that are known by their place: found everywhere, in all their forms."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from typing import Optional

from kdebug.capture.redact.fast import any_of
from kdebug.capture.redact.forms import Form, forms
from kdebug.capture.redact.span import Span, line_span

MIN_BYTES = 6
"""Shorter values stand in ordinary text by chance."""
CHUNK_BYTES = 256
OVERLAP_BYTES = 8
"""A long value is looked for in chunks that overlap, so that no byte between two goes unseen in base64."""
MAX_SECRETS = 3000
"""Of chunks. A pod with more of them is hostile, or holds data and no secrets."""
MAX_VAIN_LOOKS = 8_000
"""In one block: each may take 70 microseconds, and whoever writes the block may know the windows."""
_BASE64_BYTE = re.compile(rb"[A-Za-z0-9+/_\-]")
_PADDING = re.compile(rb"(?:=|%3[dD]|\\{1,8}u003[dD]){0,2}")
_ORDINARY = re.compile(
    rb"(?i)[a-z]{1,7}|\d{1,7}|(?:true|false|default|password|passw0rd|changeme|change-me|change_me|secret|token|"
    rb"localhost|postgres(?:ql)?|production|development|staging|example|username|database|password1|admin123|"
    rb"anonymous|kubernetes|container|application|service|undefined|disabled|enabled|required|optional|"
    rb"in-cluster|us-east-1|eu-west-1|https?|bearer|basic|system|administrator|guest|mongodb|rabbitmq)"
)
_PLACE = re.compile(
    rb"/[\w./\-]*|[a-z][a-z0-9+.\-]*://[^\s@]*|[\w\-]+(?:\.[\w\-]+)+(?::\d+)?|[\d.:/]{1,21}"
)
"""A path, a URL without a password, a host name, an address: what names with "token" often hold."""
_ROOT = re.compile(
    rb"/(?:app|bin|certs?|config|data|dev|etc|home|lib|mnt|opt|proc|root|run|secrets?|srv|sys|tmp|usr|var)/"
)


def ordinary(value: bytes) -> bool:
    """Too short or too usual to be looked for outside its place. What might be a path, a host or a URL is
    a secret all the same when part of it looks made by a machine: base64 may begin with a slash, and some
    URLs are keys."""
    if len(value) < MIN_BYTES or _ORDINARY.fullmatch(value):
        return True
    if not _PLACE.fullmatch(value):
        return False
    if _ROOT.match(value):
        return True
    if b"://" in value:
        return not any(len(part) >= 20 and _mixed(part) for part in re.split(rb"[/.?&=]", value))
    if value[:1] == b"/":
        return value == value.lower()
    return not _mixed(value) and len(max(value.split(b"."), key=len)) < 24


def _mixed(value: bytes) -> bool:
    """Both cases and digits."""
    return value != value.lower() and value != value.upper() and any(48 <= byte <= 57 for byte in value)


class _Known:
    """One form of one secret; its pattern is made when a window of it was seen."""

    def __init__(self, kind: str, identity: bytes, form: Form, size: int) -> None:
        self.kind = kind
        self.identity = identity
        self.form = form
        # The widest a character gets: eight backslashes and uXXXX, twice for those above 0xFFFF.
        self.back = 26 * size + 80

    @functools.cached_property
    def pattern(self) -> re.Pattern[bytes]:
        return re.compile(self.form.pattern())


class KnownSecrets:
    """Values and the windows they are found by."""

    def __init__(self) -> None:
        self.values: dict[bytes, str] = {}
        """Chunk -> class."""
        self._by_window: dict[bytes, list[_Known]] = {}
        self._scanner: Optional[re.Pattern[bytes]] = None
        self._sizes: set[int] = set()

    def add(self, value: bytes, kind: str) -> bool:
        """Whether it is new. Raises `OverflowError` when there are too many."""
        added = False
        for chunk in _chunks(value):
            if chunk in self.values:
                continue
            if len(self.values) >= MAX_SECRETS:
                raise OverflowError(f"more than {MAX_SECRETS} known secrets")
            self.values[chunk] = kind
            for form in forms(chunk):
                self._add_form(_Known(kind, value, form, len(chunk)))
            added, self._scanner = True, None
        return added

    def _add_form(self, known: _Known) -> None:
        for window in set(known.form.windows):
            self._by_window.setdefault(window, []).append(known)
            self._sizes.add(len(window))

    def scanner(self) -> Optional[re.Pattern[bytes]]:
        """Finds the windows; None while nothing is known."""
        if self._scanner is None and self._by_window:
            self._scanner = any_of(self._by_window) or re.compile(trie(self._by_window))
        return self._scanner

    def spans(self, data: bytes) -> Iterator[Span]:
        """Fails closed: where windows are met too often without a secret, their lines are spans."""
        scanner = self.scanner()
        hit = scanner.search(data) if scanner else None
        done: dict[int, int] = {}
        left = MAX_VAIN_LOOKS
        while hit is not None and scanner is not None:
            at = hit.start()
            for known in self._starting_at(data, at):
                found = list(_around(known, data, at, done)) if left > 0 else []
                left -= not found
                yield from found
            if left <= 0:
                line = line_span(data, data.rfind(b"\n", 0, at) + 1, "bound")
                yield line
                at = line.end
            hit = scanner.search(data, at + 1)

    def _starting_at(self, data: bytes, hit: int) -> Iterator[_Known]:
        for size in self._sizes:
            yield from self._by_window.get(data[hit : hit + size], ())


def _chunks(value: bytes) -> list[bytes]:
    step = CHUNK_BYTES - OVERLAP_BYTES
    last = max(1, len(value) - OVERLAP_BYTES)
    return [value[at : at + CHUNK_BYTES] for at in range(0, last, step)]


def _around(known: _Known, data: bytes, hit: int, done: dict[int, int]) -> Iterator[Span]:
    """The forms of `known` that hold the window at `hit`; what was found before is not looked at again."""
    low = max(hit - known.back, done.get(id(known), 0))
    if low > hit:
        return
    match = known.pattern.search(data, low, hit + known.back)
    while match is not None and match.start() <= hit:
        done[id(known)] = match.end()
        yield _widened(data, match, known)
        if match.end() > hit:
            return
        match = known.pattern.search(data, match.end(), hit + known.back)
    done[id(known)] = hit + 1  # nothing begins before: the next look need not try again


def _widened(data: bytes, match: re.Match[bytes], known: _Known) -> Span:
    """With the characters at its edges that hold bits of it, and padding."""
    (start, end), edges = match.span(), known.form.edges
    if edges is None:
        return Span(start, end, known.kind, known.identity)
    if edges[0] and start and _BASE64_BYTE.match(data, start - 1):
        start -= 1
    if edges[1] and _BASE64_BYTE.match(data, end):
        end += 1
    return Span(start, _PADDING.match(data, end).end(), known.kind, known.identity)  # type: ignore[union-attr]


def trie(words: Iterable[bytes]) -> bytes:
    """An alternation of `words` that tries each beginning once; a word that begins with another is left
    out."""
    branches: dict[bytes, set[bytes]] = {}
    for word in words:
        if not word:
            return b""
        branches.setdefault(word[:1], set()).add(word[1:])
    parts = [re.escape(first) + trie(rest) for first, rest in sorted(branches.items())]
    return parts[0] if len(parts) == 1 else b"(?:" + b"|".join(parts) + b")"
