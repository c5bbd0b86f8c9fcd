r"""The one place through which everything remote passes on its way to a screen.

A pod chooses its file names, command lines, contents and log lines; shown raw they could move the
cursor, set the clipboard, forge lines or reverse text (CVE-2021-25743, "Trojan Source"). What is
dangerous is shown as an escape (`\x1b`, `\u202e`), so the reader sees that it is there.
JSON output does not pass here: it is exact, and `json.dumps` escapes what matters.
"""

from __future__ import annotations

import re

_INVISIBLE = (
    "\u00ad"  # soft hyphen
    "\u034f\u17b4\u17b5"  # grapheme joiner, Khmer inherent vowels
    "\u061c\u180b-\u180f"  # Arabic letter mark, Mongolian variation selectors and vowel separator
    "\u115f\u1160\u3164\uffa0"  # Hangul fillers: look like blanks, are not
    "\u200b-\u200f"  # zero width, direction marks
    "\u2028-\u202e"  # line and paragraph separators, bidi embeddings and overrides
    "\u2060-\u206f"  # word joiner, invisible operators, bidi isolates
    "\ufeff\ufff0-\uffff"  # byte order mark, interlinear annotation, non-characters
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"  # format controls of shorthand and of music
    "\U000e0000-\U000e0fff"  # tags and variation selectors: invisible text
)
_DANGEROUS = re.compile(f"[\x00-\x1f\x7f-\x9f\ud800-\udfff{_INVISIBLE}]")
_DANGEROUS_IN_TEXT = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff{_INVISIBLE}]")

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def one_line(text: str, limit: int = 0) -> str:
    """`text` safe for one line of a terminal; cut to `limit` characters with `…` when that is not 0."""
    if limit and len(text) > limit:
        # Cut first: escaping a megabyte to show eighty characters would be work for the attacker.
        return one_line(text[: limit - 1])[: limit - 1] + "…"
    return text if text.isascii() and text.isprintable() else _DANGEROUS.sub(_escape, text)


def one_line_each(texts: list[str]) -> list[str]:
    """`one_line` of each of many; in one look where none of them needs it."""
    together = "".join(texts)
    return texts if together.isascii() and together.isprintable() else [one_line(text) for text in texts]


def multi_line(text: str) -> str:
    """`text` safe for a terminal with its line feeds and tabs kept; a carriage return is escaped."""
    return _DANGEROUS_IN_TEXT.sub(_escape, text)


def file_bytes(data: bytes) -> str:
    """File contents for a terminal: bytes that are not UTF-8 are shown as \\xNN."""
    return multi_line(data.decode("utf-8", "surrogateescape"))


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if 0xDC80 <= code <= 0xDCFF:  # a byte that surrogateescape kept
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
