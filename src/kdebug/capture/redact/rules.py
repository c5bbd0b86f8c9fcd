"""A user's own rules, from YAML:

    rules:
      - name: ticket
        regex: 'ACME-[0-9A-F]{12}'      # bytes; what a group named "secret" matches, else all of it
        class: ticket                   # in the token; the name where it is missing
        ignore_case: true
      - name: codename
        literal: Project Falcon         # found in all encodings, as a known secret is
      - name: pins
        key: '*_PIN'                    # values of variables, fields and arguments of this name
      - name: customers
        path: /srv/customers/**         # files of the target that are not taken at all

What cannot be run on hostile text in bounded time is refused when it is read, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional

import yaml

from kdebug.capture.redact import backtracking
from kdebug.capture.redact.backtracking import LINE_BYTES
from kdebug.capture.redact.literal import required
from kdebug.capture.redact.span import Span
from kdebug.capture.redact.tokens import check_class
from kdebug.errors import UsageError

MAX_RULES = 200
MAX_REGEX = 1000
MIN_LITERAL = 3
MAX_STARS = 2
"""In a key: each is looked for in 64 characters."""
_FIELDS = {"name", "regex", "literal", "key", "path", "class", "ignore_case"}
_WHAT = ("regex", "literal", "key", "path")
_NOT_MASKED = r"(?!\[REDACTED:[a-z0-9\-]{1,32}:[0-9a-f]{8}\])"
_KEY = re.compile(r"[A-Za-z0-9_.\-*?]+")


@dataclass(frozen=True)
class Rule:
    name: str
    kind: str
    pattern: Optional[re.Pattern[bytes]] = None
    literal: bytes = b""
    key: Optional[re.Pattern[str]] = None
    path: str = ""
    required: bytes = b""
    """Stands in every match of the pattern; b"" where nothing does."""

    def spans(self, data: bytes, lower: bytes = b"") -> Iterator[Span]:
        """Of a pattern, line by line; a match that reaches the bound takes the rest of its line.
        `lower` is `data` in lower case, where somebody has it already."""
        if self.pattern is None:
            return
        where = (lower or data.lower()) if self.pattern.flags & re.IGNORECASE else data
        start = 0
        while start < len(data):
            if self.required:
                hit = where.find(self.required, start)
                if hit < 0:
                    return
                start = max(start, data.rfind(b"\n", start, hit) + 1)
            line = data.find(b"\n", start)
            end = line if line >= 0 else len(data)
            yield from self._in_line(self.pattern, data, start, end)
            start = end + 1

    def _in_line(self, pattern: re.Pattern[bytes], data: bytes, start: int, end: int) -> Iterator[Span]:
        if end - start <= LINE_BYTES:
            yield from self._in_piece(pattern, data[start:end], start)
            return
        for begin in range(start, end - LINE_BYTES // 2, LINE_BYTES // 2):
            stop = min(end, begin + LINE_BYTES)
            for span in self._in_piece(pattern, data[begin:stop], begin):
                yield span if span.end < stop or stop == end else Span(span.start, end, self.kind)

    def _in_piece(self, pattern: re.Pattern[bytes], piece: bytes, offset: int) -> Iterator[Span]:
        groups: list[int | str] = [name for name in _GROUPS if name in pattern.groupindex] or [0]
        for match in pattern.finditer(piece):
            group = next((name for name in groups if match.end(name) >= 0), groups[0])
            if match.end(group) > match.start(group):
                yield Span(offset + match.start(group), offset + match.end(group), self.kind)


_GROUPS = ("secret", "quoted")


def read_rules(text: str) -> tuple[Rule, ...]:
    """Raises `UsageError` that names the rule and says what is wrong with it."""
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError("the redaction rules are not YAML", why=str(error)[:300]) from error
    listed = document.get("rules") if isinstance(document, dict) else None
    if not isinstance(listed, list) or set(document) != {"rules"}:
        raise UsageError(
            "the redaction rules are not a list under `rules:`", next_step="see docs/redaction.md"
        )
    if len(listed) > MAX_RULES:
        raise UsageError(f"there are {len(listed)} redaction rules", why=f"at most {MAX_RULES} are run")
    return tuple(_rule(number, fields) for number, fields in enumerate(listed, 1))


def _rule(number: int, fields: Any) -> Rule:
    if not isinstance(fields, dict) or not all(isinstance(key, str) for key in fields):
        raise UsageError(f"redaction rule {number} has no fields")
    where = f"redaction rule {number} ({str(fields.get('name', 'without a name'))[:40]})"
    unknown = sorted(set(fields) - _FIELDS)
    if unknown:
        raise UsageError(
            f"{where} has a field {unknown[0]!r}", why=f"it takes {', '.join(sorted(_FIELDS))}"
        )
    wrong = [key for key in ("name", "class", *_WHAT) if key in fields and not _text(fields[key])]
    if wrong or "name" not in fields:
        raise UsageError(f"{where}: {(wrong or ['name'])[0]} must be text that is not empty")
    if not isinstance(fields.get("ignore_case", False), bool):
        raise UsageError(f"{where}: ignore_case is true or false")
    if sum(key in fields for key in _WHAT) != 1:
        raise UsageError(f"{where} must have one of {', '.join(_WHAT)}")
    try:
        kind = check_class(str(fields.get("class", fields["name"])))
    except UsageError as error:
        raise UsageError(f"{where}: {error.what}", why=error.why, next_step="give it a `class`") from error
    if "literal" in fields:
        return Rule(fields["name"], kind, literal=_literal(where, fields["literal"]))
    if "path" in fields:
        return Rule(fields["name"], kind, path=_path(where, fields["path"]))
    if "key" in fields:
        return _key_rule(where, fields["name"], kind, fields["key"])
    pattern = _pattern(where, fields["regex"], fields.get("ignore_case", False))
    return Rule(fields["name"], kind, pattern, required=required(pattern.pattern, pattern.flags))


def _path(where: str, text: str) -> str:
    if not text.startswith("/") or "/../" in f"{text}/":
        raise UsageError(f"{where}: {text!r} is no absolute path of the target")
    return text


def _key_rule(where: str, name: str, kind: str, text: str) -> Rule:
    """A name with * and ?, in documents and as key=value or "key": "value" in running text; in any case."""
    plain = len(text) - text.count("*") - text.count("?")
    if not _KEY.fullmatch(text) or plain < MIN_LITERAL or text.count("*") > MAX_STARS:
        raise UsageError(
            f"{where}: the key {text!r} is refused",
            why=f"it takes letters, digits, _, - and . ({MIN_LITERAL} at least), ? for one and * for any, "
            f"of which there may be {MAX_STARS}",
        )
    glob = "".join({"*": r"[\w.\-]{0,64}", "?": r"[\w.\-]"}.get(c) or re.escape(c) for c in text)
    value = r"""(?:(?:\\{0,4}["'`])(?P<quoted>[^"'`\\\n]{1,1024})|(?P<secret>[^\s"'`,;&}\]<>]{1,1024}))"""
    running = rf"(?<![\w.\-]){glob}[\\\"'`\]]{{0,5}}[ \t]{{0,8}}(?:=|:)[ \t]{{0,8}}{_NOT_MASKED}{value}"
    longest = max(re.split(r"[*?]", text), key=len)
    return Rule(
        name, kind, re.compile(running.encode(), re.IGNORECASE), key=re.compile(glob, re.IGNORECASE),
        required=longest.lower().encode(),
    )  # fmt: skip


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _literal(where: str, text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    if len(data) < MIN_LITERAL:
        raise UsageError(f"{where}: {text!r} is too short", why="it stands in ordinary text by chance")
    return data


def _pattern(where: str, text: str, ignore_case: bool) -> re.Pattern[bytes]:
    if len(text) > MAX_REGEX or not text.isascii():
        raise UsageError(
            f"{where}: its regex must be ASCII of at most {MAX_REGEX} characters",
            next_step=r"write other characters as the bytes they are in UTF-8: \xc3\xa4",
        )
    flags = re.IGNORECASE if ignore_case else 0
    try:
        pattern = re.compile(text.encode(), flags)
        ways = backtracking.ways(text.encode(), flags)
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(f"{where}: its regex cannot be read", why=str(error)) from error
    except backtracking.TooHard as error:
        raise UsageError(f"{where}: its regex is refused", why=str(error)) from error
    _check_cost(where, pattern, ways)
    return pattern


def _check_cost(where: str, pattern: re.Pattern[bytes], ways: float) -> None:
    if ways > backtracking.MAX_WAYS:
        raise UsageError(
            f"{where}: its regex is refused",
            why="a hostile line could make it try forever: repeats inside repeats, or next to each other, "
            "that match the same text",
            next_step=r"bound them ({1,20}), or put something between them that they cannot match",
        )
    if pattern.match(b"") and pattern.fullmatch(b""):
        raise UsageError(f"{where}: its regex matches nothing at all, everywhere")
