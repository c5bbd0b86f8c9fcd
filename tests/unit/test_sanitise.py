"""Nothing that could move a cursor, reverse text or hide passes the sanitiser."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdebug.mask import looks_secret
from kdebug.sanitise import file_bytes, multi_line, one_line, one_line_each

every_text = st.text(st.characters(codec=None), max_size=60)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain", "plain"),
        ("größe 日本", "größe 日本"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\rb", "a\\rb"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x9b1m", "\\x9b1m"),
        ("\x7f\x00", "\\x7f\\x00"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("a\u200bb", "a\\u200bb"),
        ("\u2028", "\\u2028"),
        ("\udcff", "\\xff"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("\ufeff", "\\ufeff"),
        ("pass\u3164\u115f", "pass\\u3164\\u115f"),
        ("x\U000e0100", "x\\U000e0100"),
        ("\u061c", "\\u061c"),
        ("\u00ad", "\\xad"),
        ("[/bold]", "[/bold]"),
    ],
)
def test_one_line(raw: str, shown: str) -> None:
    assert one_line(raw) == shown


@given(st.lists(every_text | st.text("plain ascii")))
def test_many_lines_are_made_safe_as_one_is(texts: list[str]) -> None:
    assert one_line_each(texts) == [one_line(text) for text in texts]


@given(every_text)
def test_nothing_dangerous_is_left(raw: str) -> None:
    for character in one_line(raw):
        assert unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")
        assert unicodedata.bidirectional(character) not in (
            "LRE",
            "RLE",
            "LRO",
            "RLO",
            "PDF",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        )
    one_line(raw).encode("utf-8")


DEFAULT_IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u180f\u200b\u200f\u202a\u202e\u2060\u2065"
    "\u206f\u3164\ufeff\uffa0\ufff0\ufff8\U0001bca0\U0001bca3\U0001d173\U0001d17a\U000e0000\U000e01f0\U000e0fff"
)
"""First and last of each range of the property (DerivedCoreProperties.txt of Unicode), except the variation
selectors U+FE00 to U+FE0F, which emoji are written with."""


@pytest.mark.parametrize("show", [one_line, multi_line])
@pytest.mark.parametrize("invisible", DEFAULT_IGNORABLE, ids=ascii)
def test_what_is_not_drawn_is_shown(show: Callable[[str], str], invisible: str) -> None:
    """Or two names that differ would look the same."""
    shown = show(f"web{invisible}")
    assert shown.isascii() and f"{ord(invisible):x}" in shown


@given(every_text)
def test_many_lines_keep_only_line_feeds_and_tabs(raw: str) -> None:
    left = {c for c in multi_line(raw) if unicodedata.category(c) == "Cc"}
    assert left <= {"\n", "\t"}


@given(every_text, st.integers(2, 20))
def test_the_limit_holds(raw: str, limit: int) -> None:
    if len(raw) > limit:
        assert len(one_line(raw, limit)) <= limit


def test_file_bytes_show_what_is_not_utf8() -> None:
    assert file_bytes(b"a\xffb\n\x1b]0;x\x07") == "a\\xffb\n\\x1b]0;x\\x07"


def test_file_bytes_show_control_characters_written_as_utf8() -> None:
    """U+009B begins an escape sequence, too, on terminals that take C1 (ECMA-48)."""
    assert file_bytes("\u009b31m\u0085\x7f".encode()) == "\\x9b31m\\x85\\x7f"


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("DATABASE_URL", "postgres://app:pa55@db:5432/app", True),
        ("CELERY_BROKER", "x;redis://:pa55@cache:6379/0", True),
        ("PUBLIC_URL", "https://example.org:8443/a@b", False),
        ("SETTINGS", '{"key": "-----BEGIN RSA PRIVATE KEY-----"}', True),
        ("DB_PASSWORD", "x", True),
        ("GITHUB_TOKENS", "x", True),
        ("AUTHOR", "me", False),
        ("AUTH_ENABLED", "true", False),
        ("TOKEN", "", False),
        ("PATH", "/usr/bin", False),
        ("HTTP_AUTHORIZATION", "x", True),
        ("SECRETKEY", "x", True),
        ("PRIVATEKEY", "x", True),
        ("AccessKeyId", "x", True),
        ("clientSecretValue", "x", True),
        ("authHeader", "x", True),
        ("OAUTH_CLIENT", "x", True),
        ("COMPASS", "north", False),
        ("KEYBOARD", "qwerty", False),
        ("A", "github_pat_11ABCDEFG0123456789xyz", True),
        ("A", "xoxb-0123456789-abcdef", True),
        ("A", "sk-proj-0123456789abcdefghij", True),
        ("A", "Bearer eyJhbGciOi.eyJzdWIi.x", True),
        ("A", "Basic dXNlcjpwYXNz", True),
    ],
)
def test_which_values_are_masked(name: str, value: str, secret: bool) -> None:
    assert looks_secret(name, value) is secret
