"""The one thing that a capture talks to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from kdebug.capture import glob
from kdebug.capture.redact import learning
from kdebug.capture.redact.document import Places, Walk
from kdebug.capture.redact.engine import FAILED, Engine
from kdebug.capture.redact.known import KnownSecrets, ordinary
from kdebug.capture.redact.optional import DETECTORS
from kdebug.capture.redact.remembered import Remembered
from kdebug.capture.redact.report import Account, Coverage
from kdebug.capture.redact.rules import Rule
from kdebug.capture.redact.span import Span
from kdebug.capture.redact.stream import REASONS, RedactingStream
from kdebug.capture.redact.tokens import TOKEN, Tokens, check_class
from kdebug.errors import UsageError

T = TypeVar("T")


class Redactor:
    """Redacts for one set of bundles: equal secrets get equal tokens in all of them. Not for several
    threads.

    `key`: at least 16 bytes, to compare with bundles made elsewhere or later; drawn anew where empty.
    `rules`: from `read_rules`. `extra`: of "card" and "email". `include`: of "compressed", "dump",
    "packets"
    and "utf-16", kinds of files to keep although nothing can be found in them. Raises `UsageError`.
    """

    def __init__(
        self,
        key: bytes = b"",
        rules: Iterable[Rule] = (),
        extra: Iterable[str] = (),
        include: Iterable[str] = (),
    ) -> None:
        rules, extra = tuple(rules), tuple(extra)
        self._include = frozenset(include)
        _check_choices("detector", extra, DETECTORS)
        _check_choices("kind of file", self._include, REASONS)
        self._tokens = Tokens(key)
        self._known = KnownSecrets()
        self._engine = Engine(self._known, tuple(rule for rule in rules if rule.pattern is not None), extra)
        self._coverage = Coverage()
        self._written = False
        self._clean = Remembered()
        """Texts in which nothing was found by what is known now."""
        self._learned = Remembered()
        """Values whose parts are known: variables are the same in each process."""
        self._places = Places(self._named)
        self._keys = [rule for rule in rules if rule.key is not None]
        self._paths = [rule for rule in rules if rule.path]
        for rule in rules:
            if rule.literal:
                self._known.add(rule.literal, rule.kind)

    # Learning

    def learn(self, value: str | bytes, kind: str = "secret", place: str = "") -> None:
        """`value` is a secret: find it, and the secrets inside it, everywhere from now on. Ordinary
        words and values of fewer than 6 bytes are left alone outside their place, and counted."""
        check_class(kind)
        data = _all_bytes(value) if isinstance(value, str) else value
        if data in self._learned:
            return
        self._learned.keep(data, True, len(data))
        if len(data) > learning.MAX_BYTES:
            self._coverage.note(f"{place or kind}: only the first {learning.MAX_BYTES} bytes were learned")
        for part in learning.parts(data):
            self._learn_part(part, kind, place)

    def _learn_part(self, part: bytes, kind: str, place: str) -> None:
        if TOKEN.fullmatch(part):
            return
        if ordinary(part):
            self._coverage.in_place_only += 1
            return
        try:
            new = self._known.add(part, kind)
        except OverflowError as error:
            self._coverage.note(f"{error}: the rest is masked in its place only")
            self._coverage.in_place_only += 1
            return
        if new:
            self._clean.clear()
        if new and self._written:
            self._coverage.learned_late(place or kind)

    def learn_file(self, path: str, data: bytes) -> None:
        """A file of a Secret mount (/var/run/secrets and the like); certificates and namespaces are
        none."""
        if not learning.public_file(path, data):
            self.learn(data, "secret-file", path)

    def learn_document(self, document: Any, place: str = "") -> None:
        """The secrets that an answer or a Kubernetes object gives away by place: environments, Secrets,
        pull secrets, arguments. `document` does it too; call this first for all whose order is not
        known."""

        def take(value: str, kind: str) -> str:
            self.learn(value, kind, place)
            return value

        Walk(take, _same, _same, self._places).document(document)

    def _named(self, name: str) -> str:
        """The class of a rule of the user that names what is called so; "" where none does."""
        for rule in self._keys:
            if rule.key and rule.key.fullmatch(name):
                return rule.kind
        return ""

    def left_out(self, *paths: str) -> str:
        """Why a file, by any of its names, is not taken at all; "" where it may be."""
        for rule in self._paths:
            for path in paths:
                if glob.matches(rule.path, path):
                    self._coverage.left_out(self.text(paths[0]), f"the rule {rule.name} leaves it out")
                    return f"the redaction rule {rule.name!r} leaves it out"
        return ""

    # Redacting

    def text(self, value: str, place: str = "text") -> str:
        """One string; surrogates that stand for bytes pass through."""
        found: list[str] = []
        redacted = self._text(value, found)
        self._given_out(found, place)
        return redacted

    def _text(self, value: str, found: list[str]) -> str:
        """Puts the classes of what it replaces into `found`."""
        if value in self._clean:
            self._coverage.scanned_bytes += len(value)  # ASCII, as below
            return value
        try:
            data = _bytes(value)
        except UnicodeEncodeError:
            return self._masked(value, FAILED, found)
        redacted = self._redacted(data, found)
        if redacted is not data:
            return redacted.decode("utf-8", "surrogateescape")
        if len(data) == len(value):
            self._clean.keep(value, True, len(value))
        return value

    def document(self, document: Any, place: str = "document") -> Any:
        """Plain JSON with every secret replaced; the structure stays. A new document, never the same.

        Most teach nothing new: one walk learns and replaces at once. Where something was learned on the
        way, what came before it was replaced without knowing it, and all is done again."""
        while True:
            known, scanned = len(self._known.values), self._coverage.scanned_bytes
            found: list[str] = []
            redacted = self._walk(found, place).document(document)
            if len(self._known.values) == known:
                break
            self._coverage.scanned_bytes = scanned
        self._given_out(found, place)
        return redacted

    def _walk(self, found: list[str], place: str) -> Walk:
        def mask(value: str, kind: str) -> str:
            self.learn(value, kind, place)
            return self._masked(value, kind, found)

        def text(value: str) -> str:
            if value in clean:
                coverage.scanned_bytes += len(value)  # ASCII, as below
                return value
            return self._text(value, found)

        def names(of: tuple[str, ...]) -> Iterable[str]:
            size = clean.get(of)
            if size is None:
                return self._names(of, found)
            coverage.scanned_bytes += size
            return of

        clean, coverage = self._clean, self._coverage
        return Walk(mask, text, names, self._places, lambda plain: self.learn_document(plain, place))

    def _names(self, names: tuple[str, ...], found: list[str]) -> Iterable[str]:
        """Rows of an answer have the same: they are remembered together where each of them is clean."""
        changed = tuple([self._text(str(name), found) for name in names])
        if changed == names and all(name in self._clean for name in names):
            size = len("".join(names))
            self._clean.keep(names, size, size)
        return changed

    def _given_out(self, found: list[str], place: str) -> None:
        self._written = True
        for kind in found:
            self._coverage.count(kind, place)

    def stream(self, name: str = "stream") -> RedactingStream:
        """For a file or a log: `feed`, `finish`. Its `left_out` says why nothing of it came out."""

        def replace(data: bytes, start: int, span: Span) -> bytes:
            self._coverage.count(span.kind, name)
            return self._token(data, start, span)

        def spans(data: bytes) -> list[Span]:
            self._written = True
            return self._engine.spans(data)

        return RedactingStream(spans, replace, self._include, Account(self._coverage, name))

    def report(self) -> dict[str, Any]:
        """Counts per class and place, what was not looked at, what was learned late, notes; plain JSON."""
        return self._coverage.document(len(self._known.values), dict(self._engine.failures))

    def _redacted(self, data: bytes, found: list[str]) -> bytes:
        self._coverage.scanned_bytes += len(data)
        spans = self._engine.spans(data)
        if not spans:
            return data
        out, at = [], 0
        for span in spans:
            found.append(span.kind)
            out += [data[at : span.start], self._token(data, span.start, span)]
            at = span.end
        return b"".join([*out, data[at:]])

    def _token(self, data: bytes, start: int, span: Span) -> bytes:
        return self._tokens.token(span.kind, span.identity or data[start : span.end])

    def _masked(self, value: str, kind: str, found: list[str]) -> str:
        found.append(kind)
        return self._tokens.token(kind, _all_bytes(value)).decode("ascii")


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def _all_bytes(value: str) -> bytes:
    """Also of surrogates that stand for no byte: JSON inside of a string may name them."""
    try:
        return _bytes(value)
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")


def _same(value: T) -> T:
    return value


def _check_choices(what: str, chosen: Iterable[str], known: Iterable[str]) -> None:
    for name in chosen:
        if name not in known:
            raise UsageError(f"there is no {what} {name!r}", why=f"there are {', '.join(sorted(known))}")
