"""The ways in which one known secret may be written: a pattern for each, and short windows to find it by.

Written plainly, each character may stand for itself or be escaped for JSON, URLs, HTML or a shell, in any
mix. As base64 it may begin at any of three places in a group and use either alphabet; as hex it may have
either case. A window is a few bytes that stand in every text of that form: the prefilter looks for those.
"""

from __future__ import annotations

import base64
import html
import json
import re
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Optional

WINDOW_BYTES = 4
HEX_WINDOW_BYTES = 6
_STABLE = re.compile(rb"[A-Za-z0-9._\-]+")
"""Characters that no encoding of text has to escape."""
_MIN_STABLE = 4
# Repeats of backslashes are possessive: in a run of thousands, trying again with one less would never end.
_RARITY = {
    byte: rank for rank, byte in enumerate(b"etaoinsrl0hdc1u2mp-3.4f/g5:68b7w9y_vk=ETASIxCRNDOLPMjqz")
}
"""Bytes of ordinary logs, the most frequent first; what is not here is rarer."""
WRAPPED_BYTES = 54
WRAP = rb"(?:\r?\n[ \t]{0,64}|\\{1,2}n)?"
"""base64 is often cut into lines."""


@dataclass(frozen=True)
class Form:
    pattern: Callable[[], bytes]
    """Made late: most known secrets are never met."""
    windows: tuple[bytes, ...]
    edges: Optional[tuple[bool, bool]] = None
    """For base64: whether the characters before and behind a match hold bits of the secret too."""


def forms(value: bytes) -> Iterator[Form]:
    yield Form(partial(_text_pattern, value), tuple(_text_windows(value)))
    for offset in range(3):
        yield _base64_form(value, offset)
    yield _hex_form(value)


def window(text: bytes, size: int = WINDOW_BYTES) -> bytes:
    """The part of `text` that begins with the rarest byte."""
    last = max(0, len(text) - size)
    begin = max(range(last + 1), key=lambda at: _RARITY.get(text[at], 1000))
    return text[begin : begin + size]


# As text


def _text_pattern(value: bytes) -> bytes:
    return b"".join(_unit(unit) for unit in _units(value))


def _units(value: bytes) -> list[bytes]:
    """Characters, as the bytes of each; runs of backslashes and bytes that are not UTF-8 as they are."""
    text = value.decode("utf-8", "surrogateescape")
    units = re.findall(r"\\+|.", text, re.DOTALL)
    return [unit.encode("utf-8", "surrogateescape") for unit in units]


def _unit(unit: bytes) -> bytes:
    if unit.startswith(b"\\"):
        count = len(unit)
        wide = rb"%(?:25){0,3}5[cC]", rb"\\{0,8}+u005[cC]", rb"\\{0,8}+x5[cC]"
        ways = [rb"\\{%d,%d}+" % (count, count * 8)] + [rb"(?:%s){%d}" % (way, count) for way in wide]
        return b"(?:" + b"|".join(ways) + b")"
    ways = [re.escape(unit), rb"\\{0,8}+(?:%s)" % _json_units(unit), _percent(unit), _hex_escaped(unit)]
    ways += _SPECIAL.get(unit, [])
    if len(unit) == 1 and not unit.isalnum() and unit > b" ":
        ways.append(rb"\\{1,8}+" + re.escape(unit))
    return b"(?:" + b"|".join(ways) + b")"


def _json_units(unit: bytes) -> bytes:
    text = unit.decode("utf-8", "surrogateescape")
    try:
        codes = text.encode("utf-16-be")
    except UnicodeEncodeError:
        codes = text.encode("utf-16-be", "surrogatepass")
    hexes = [codes[at : at + 2].hex().encode() for at in range(0, len(codes), 2)]
    return rb"\\{1,8}+".join(rb"(?i:u%s)" % code for code in hexes)


def _hex_escaped(unit: bytes) -> bytes:
    return b"".join(rb"\\{0,8}+x(?i:%02x)" % byte for byte in unit)


def _percent(unit: bytes) -> bytes:
    return b"".join(rb"%%(?:25){0,3}(?i:%02x)" % byte for byte in unit)


_SPECIAL = {
    b"\n": [rb"\\{0,8}+n", rb"\r\n"], b"\r": [rb"\\{0,8}+r"], b"\t": [rb"\\{0,8}+t"],
    b" ": [rb"\+", b"&nbsp;"],
    b"\b": [rb"\\{0,8}+b"], b"\f": [rb"\\{0,8}+f"],
    b"&": [b"&amp;"], b"<": [b"&lt;"], b">": [b"&gt;"], b'"': [b"&quot;", b"&#34;"],
    b"'": [b"&#39;", b"&#x27;", b"&apos;", rb"'\\''", b"''"],
}  # fmt: skip


def _text_windows(value: bytes) -> Iterator[bytes]:
    """One from the longest run that is never escaped; where that is short, one of each usual form."""
    run = max(_STABLE.findall(value), key=len, default=b"")
    if len(run) >= _MIN_STABLE:
        yield window(run)
    else:
        yield from (window(text) for text in _usual_forms(value))
    first, second = (_units(value) + [b""])[:2]
    yield from _fully_escaped(first, second)


def _usual_forms(value: bytes) -> set[bytes]:
    """As written by usual encoders: JSON of Python, Go and JavaScript, URL quoting, XML."""
    text = value.decode("utf-8", "surrogateescape")
    found = {value}
    for ascii_only in (True, False):
        quoted = json.dumps(text, ensure_ascii=ascii_only)[1:-1].encode("utf-8", "surrogateescape")
        twice = quoted.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        found |= {quoted, twice, _go_escaped(quoted), _go_escaped(quoted).replace(b"'", b"\\u0027")}
    for safe in ("", "/", "!'()*", "/:?@!$&'()*+,;="):
        percent = urllib.parse.quote_from_bytes(value, safe).encode()
        found |= {percent, percent.replace(b"%20", b"+"), percent.replace(b"%", b"%25")}
    found.add(html.escape(text).encode("utf-8", "surrogateescape"))
    found |= {form.replace(b"/", b"\\/") for form in found}
    found |= {re.sub(rb"\\u[0-9a-f]{4}", _upper_hex, form) for form in found}
    found |= {re.sub(rb"%[0-9A-F]{2}", lambda match: match[0].lower(), form) for form in found}
    return {form for form in found if len(form) >= 3}


def _go_escaped(quoted: bytes) -> bytes:
    for mark in b"<>&":
        quoted = quoted.replace(bytes((mark,)), b"\\u%04x" % mark)
    return quoted


def _upper_hex(match: re.Match[bytes]) -> bytes:
    return b"\\u" + match[0][2:].upper()


def _fully_escaped(first: bytes, second: bytes) -> set[bytes]:
    """The beginning, where every character is escaped."""
    found = set()
    code = first.decode("utf-8", "surrogateescape").encode("utf-16-be", "surrogatepass")[:2]
    for upper in (False, True):
        digits = (first + second).hex()
        digits, number = (digits.upper(), code.hex().upper()) if upper else (digits, code.hex())
        pairs = [digits[at : at + 2] for at in range(0, len(digits), 2)][:2]
        found |= {"%" + "%".join(pairs), "\\u" + number, "\\x" + "\\x".join(pairs)[:5]}
    return {form.encode() for form in found}


# As base64


def _base64_form(value: bytes, offset: int) -> Form:
    """What of base64 depends on the secret alone, when `offset` bytes stand before it in its group."""
    text = base64.b64encode(bytes(offset) + value + bytes(2))
    begin, end = -(-8 * offset // 6), 8 * (offset + len(value)) // 6
    inside = text[begin:end]
    edges = (8 * offset % 6 != 0, 8 * (offset + len(value)) % 6 != 0)
    return Form(partial(_base64_pattern, inside), tuple(_base64_windows(inside)), edges)


def _base64_pattern(text: bytes) -> bytes:
    return WRAP.join(_BASE64.get(byte, re.escape(bytes((byte,)))) for byte in text)


_BASE64 = {
    ord("+"): rb"(?:[+\-]|%(?:25){0,3}2[bB]|\\{1,8}(?:u002[bB]|\+))",
    ord("/"): rb"(?:\\{0,8}[/_]|%(?:25){0,3}2[fF]|\\{1,8}u002[fF])",
}


def _base64_windows(text: bytes) -> Iterator[bytes]:
    """Two, at most 54 characters apart: where lines of 60 and more are cut, one of them is whole."""
    if len(text) < 2 * WINDOW_BYTES:
        yield from _base64_window(text)
    else:
        begin = min(len(text), WRAPPED_BYTES) // 2
        yield from _base64_window(text[begin:WRAPPED_BYTES])
        yield from _base64_window(text[: min(begin, WRAPPED_BYTES)])


def _base64_window(text: bytes) -> Iterator[bytes]:
    run = max(re.findall(rb"[A-Za-z0-9]+", text), key=len, default=b"")
    if len(run) >= _MIN_STABLE:
        yield window(run)
    else:
        yield from _alphabets(text)


def _alphabets(text: bytes) -> Iterator[bytes]:
    """No run is free of + and /: the run up to the first of them is short, so all ways to write it."""
    yield window(text)
    yield window(text.translate(bytes.maketrans(b"+/", b"-_")))
    yield window(text.replace(b"/", b"\\/"))
    for upper in (True, False):
        quoted = text.replace(b"+", b"%2B").replace(b"/", b"%2F")
        yield window(quoted if upper else quoted.replace(b"%2B", b"%2b").replace(b"%2F", b"%2f"))


# As hex


def _hex_form(value: bytes) -> Form:
    text = value.hex().encode()
    piece = window(text, HEX_WINDOW_BYTES)
    return Form(lambda: b"(?i:" + text + b")", (piece, piece.upper()))
