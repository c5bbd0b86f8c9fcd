"""key=value, "key": "value", key: value, --key value, <key>value</key>, and name/value pairs of YAML and
JSON, for names that look secret; header lines; passwords in URLs.

Every look costs time that is linear in what it then masks, or bounded by a small constant: text is hostile.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Optional

from kdebug.capture.redact import names
from kdebug.capture.redact.span import Span, line_span
from kdebug.capture.redact.tokens import TOKEN

NAME_BYTES = 64
"""Of a name around the word that makes it secret."""
VALUE_BYTES = 32 * 1024
"""A longer value is masked with the rest of its line."""

_QUOTE = rb"(?:\\{0,7}[\"'`]|&quot;)"
_ATTRIBUTES = rb"(?:[ \t]{1,8}[\w:.\-]{1,40}=\"[^\"<>\n]{0,60}\"){0,3}>"
_PAIR = _QUOTE + rb"?[\s,]{1,80}" + _QUOTE + rb"?[vV]alue"
_MARK = _QUOTE + rb"?\]?[ \t]{0,8}(?:=>|:=|[:=]|%3[aAdD])"
_SEPARATOR = re.compile(
    rb"(?:(?P<pair>" + _PAIR + _QUOTE + rb"?[ \t]{0,8}[:=])|(?P<mark>" + _MARK + rb")|(?P<xml>"
    + _ATTRIBUTES
    + rb"))[ \t]{0,16}"
)  # fmt: skip
_QUICK = rb"[\w.\-]{0,64}(?:" + _MARK + rb"|" + _PAIR + rb"|" + _ATTRIBUTES + rb")"
_WORD_OR_NUMBER = rb"[ \t]{0,16}(?!(?:[^\s\d\"'\\]{0,64}|\d{1,20})[\s,;)}\]])"
QUICK = {
    anchor: re.compile(anchor + rb"(?!s[\"']?[ \t]?[:=][ \t]?\d{1,7}[\s,;}\]])" + _QUICK)
    for anchor in names.ANCHORS
} | {anchor: re.compile(anchor + _QUICK + _WORD_OR_NUMBER) for anchor in names.WEAK_ANCHORS}
"""For each word in lower-case text: whether a look is worth it. Most words in logs are just words."""
_OPEN = re.compile(rb"[bru]?(" + _QUOTE + rb")")
_WORD = re.compile(rb"[^\s\0\"'`<>]{1,%d}" % (VALUE_BYTES + 1))
_NEXT = re.compile(rb"[,;&][ \t]*[\w.\-\"'\\]{1,40}[=:]")
"""Where an unquoted value ends although no space follows: before the next name."""
_LINE = re.compile(rb"[^\r\n\0]*+")
_IDENTIFIER = re.compile(rb"[A-Za-z0-9_.\-]{0,%d}" % NAME_BYTES)
_NAME_CHARACTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
_HEADER = re.compile(
    rb"(?i)(?:proxy-)?authorization|(?:set-)?cookie|x-(?:api-key|auth-token|amz-security-token|vault-token)"
)


def pair_at(data: bytes, at: int) -> Optional[Span]:
    """The secret whose name holds the word at `at`; None where there is none."""
    begin, end = _name(data, at)
    name = data[begin:end]
    if data[begin - 1 : begin] == b":" and TOKEN.match(data, max(0, begin - 10)):
        return None  # the class in a token of ours
    strong = names.STRONG.search(name) is not None
    if not strong and names.WEAK.search(name) is None:
        return None
    separator = None if names.about(name) else _SEPARATOR.match(data, end)
    if separator is None:
        return None
    if separator["xml"] is not None:
        found = _element(data, separator.end()) if data[max(0, begin - 1) : begin] == b"<" else None
        return found if found is not None and _masked(data, found, strong, name) else None
    if _HEADER.fullmatch(name.lstrip(b"-")) and b":" in separator.group():
        if TOKEN.match(data, separator.end() + (data[separator.end() : separator.end() + 2] == b"[[")):
            return None
        header = _header(data, begin, separator.end())
        if header is not None:
            return header
    found = _value(data, begin, separator)
    return found if found is not None and _masked(data, found, strong, name) else None


_FLAG = re.compile(rb"--(?P<name>[A-Za-z][\w.\-]{0,60})[ \t]{1,16}(?=[^\s\-|<>])")


def flag_at(data: bytes, at: int) -> Optional[Span]:
    """The word behind `--password` and the like, in the command line that a text holds."""
    flag = _FLAG.match(data, at)
    if flag is None:
        return None
    name = flag["name"]
    strong = names.STRONG.search(name) is not None
    if names.about(name) or not (strong or names.WEAK.search(name)):
        return None
    opened = _OPEN.match(data, flag.end())
    word = _WORD.match(data, flag.end())
    if opened is not None:
        found = _quoted(data, opened.end(), opened[1])
    else:
        found = None if word is None else _word(data, at, word)
    return found if found is not None and _masked(data, found, strong, name) else None


def _name(data: bytes, at: int) -> tuple[int, int]:
    """The identifier around `at`."""
    low = max(0, at - NAME_BYTES)
    before = data[low:at]
    begin = low + len(before.rstrip(_NAME_CHARACTERS))
    return begin, _IDENTIFIER.match(data, at).end()  # type: ignore[union-attr]


def _masked(data: bytes, found: Span, strong: bool, name: bytes) -> bool:
    value = data[found.start : found.end]
    token = TOKEN.match(data, found.start)
    if token is not None and token.end() >= found.end:
        return False
    if names.harmless(value) or value.lower() == name.lower():
        return False
    if not strong:
        return names.machine_made(value)
    return not (value.isdigit() and len(value) < 8 and name[-1:] in b"sS")  # total_tokens: 512


def _value(data: bytes, begin: int, separator: re.Match[bytes]) -> Optional[Span]:
    start = separator.end()
    opened = _OPEN.match(data, start)
    if opened is not None:
        return _quoted(data, opened.end(), opened[1])
    if _whole_line(data, begin, separator):
        return _span(start, _stripped_end(data, start, _LINE.match(data, start).end()))  # type: ignore[union-attr]
    word = _WORD.match(data, start)
    return None if word is None else _word(data, begin, word)


def _whole_line(data: bytes, begin: int, separator: re.Match[bytes]) -> bool:
    """NAME=value on a line of its own (or between NULs), name: value of YAML: the value may hold spaces."""
    line = (
        max(data.rfind(b"\n", max(0, begin - 80), begin), data.rfind(b"\0", max(0, begin - 80), begin)) + 1
    )
    if begin - line > 80 or data[begin : begin + 2] == b"--":
        return False
    before = data[line:begin].strip(b" \t-")
    return before in (b"", b"export", b"ENV", b"set")


def _stripped_end(data: bytes, start: int, end: int) -> int:
    comment = data.find(b" #", start, min(end, start + 4096))
    end = comment if comment >= 0 else end
    return start + len(data[start:end].rstrip(b" \t,;"))


def _word(data: bytes, begin: int, word: re.Match[bytes]) -> Optional[Span]:
    start, end = word.span()
    if end - start > VALUE_BYTES:
        return line_span(data, start, "bound")
    after = _NEXT.search(data, start, min(len(data), end + 60))
    if after is not None and after.start() < end:
        end = after.start()
    if data[max(0, begin - 1) : begin] in (b"?", b"&"):
        cut = re.compile(rb"[&#]").search(data, start, end)
        end = cut.start() if cut is not None else end
    return _span(start, start + len(data[start:end].rstrip(b",;)]}\\.")))


def _span(start: int, end: int, kind: str = "value") -> Optional[Span]:
    return Span(start, end, kind) if end > start else None


def _quoted(data: bytes, start: int, quote: bytes) -> Optional[Span]:
    """Up to the quote that closes it, the end of its line where none does, or the bound."""
    limit = min(len(data), start + VALUE_BYTES)
    line = data.find(b"\n", start, limit)
    end = line if line >= 0 else limit
    at = data.find(quote, start, end)
    while at >= 0 and _escaped(data, start, at, quote):
        at = data.find(quote, at + 1, end)
    if at >= 0:
        return _span(start, at)
    if line < 0 and limit < len(data):
        return line_span(data, start, "bound")
    return _span(start, start + len(data[start:end].rstrip(b"\r")))


def _escaped(data: bytes, start: int, at: int, quote: bytes) -> bool:
    """Whether the quote at `at` belongs to the value: inside L levels of escapes (L backslashes before the
    opening quote) a closing one has L backslashes before it, and each backslash of the value adds
    2(L+1)."""
    if quote[:1] == b"&":
        return False
    level = len(quote) - 1
    before = data[max(start, at - 64) : at + level]
    return (len(before) - len(before.rstrip(b"\\"))) % (2 * level + 2) != level


def _element(data: bytes, start: int) -> Optional[Span]:
    end = data.find(b"<", start, start + VALUE_BYTES)
    return _span(start, end) if end > start and data[start:end].strip() else None


def _header(data: bytes, begin: int, start: int) -> Optional[Span]:
    """A header's whole value: up to the quote or bracket that holds it, else to the end of the line."""
    before = data[max(0, begin - 1) : begin]
    closing = before if before in (b'"', b"'") and data[start - 1 : start] != before else b""
    if _OPEN.match(data, start):
        return None
    end = _LINE.match(data, start).end()  # type: ignore[union-attr]
    if data[start : start + 1] == b"[":
        start, closing = start + 1, b"]"
    at = data.find(closing, start, end) if closing else -1
    end = at if at >= 0 else start + len(data[start:end].rstrip(b" \t"))
    return None if names.harmless(data[start:end]) else _span(start, end, "header")


_AUTHORITY = re.compile(rb"://[^\s\"'<>\\]{0,700}")
_PATH = re.compile(rb"[/?#]")
_PORT = re.compile(rb"\d{1,5}(?:[/?#].*)?$", re.DOTALL)


def url_password_at(data: bytes, at: int) -> Optional[Span]:
    """The password of the URL whose first "@" is the one at `at`; it may hold more of them."""
    begin = data.rfind(b"://", max(0, at - 700), at)
    if begin < 0 or data.find(b"@", begin, at) >= 0:
        return None
    run = _AUTHORITY.match(data, begin).end()  # type: ignore[union-attr]
    path = _PATH.search(data, at, run)
    last = data.rfind(b"@", at, path.start() if path else run)
    colon = data.find(b":", begin + 3, last)
    if last < 0 or colon < 0 or _PATH.search(data, begin + 3, colon):
        return None
    password = data[colon + 1 : last]
    if _PORT.match(password) or names.harmless(password):
        return None
    return Span(colon + 1, last, "url-password")


def names_secret(name: str, value: str) -> bool:
    """Whether a field of a document is a secret by its name; its value decides where the name alone does
    not."""
    found = strength(name[-NAME_BYTES:])
    if found is None:
        return False
    data = value.encode("utf-8", "surrogatepass")
    return not names.harmless(data) and (found == "strong" or names.machine_made(data))


@lru_cache(1024)
def strength(name: str) -> Optional[str]:
    """Whether what is called so is a secret ("strong"), may be one ("weak"), or is none. Remembered: fields
    are called the same in each row of an answer."""
    raw = name.encode("utf-8", "replace")[-NAME_BYTES:]
    strong = names.STRONG.search(raw) is not None
    if names.about(raw) or not (strong or names.WEAK.search(raw)):
        return None
    return "strong" if strong else "weak"
