"""grep: the same lines as GNU grep, and an end in time whatever pattern and file are."""

from __future__ import annotations

import os
import random
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdebug.errors import ProtocolViolation, UsageError
from kdebug.probe import grep as probe
from kdebug.probe.automaton import Automaton
from kdebug.probe.grep import GrepSearch
from kdebug.probe.matcher import PatternMatcher, Stop
from kdebug.probe.pattern import expression, needed, parse
from kdebug.probe.pattern_cost import cost
from kdebug.probe.rooted import Root
from kdebug.protocol.grep import MAX_LINE_SHOWN, Grep, GrepPage, GrepRow

PATTERNS = [
    "foo", "foo.*bar", "^$", "(foo|bar)+$", "a{2}", "[ab]+x", "^foo", r"\bfoo\b", r"\<foo\>", "[[:digit:]]",
    "é", "nothing", "", "foo|bar", "(a|ab)*x", r"\s+a", "[^a]b", "a*b*c*$", r"\w+ \w+", "(a?){9}x",
]  # fmt: skip


@pytest.fixture
def host() -> Iterator[Root]:
    with Root.at(os.open("/", os.O_PATH | os.O_DIRECTORY)) as root:
        yield root


def grep(root: Root, path: Path | str, pattern: str, **options: object) -> list[GrepRow]:
    search = GrepSearch(root, Grep(path=str(path), pattern=pattern, **options))  # type: ignore[arg-type]
    return [row for row in search.rows() if row is not None]


def as_printed(rows: list[GrepRow], context: bool) -> list[bytes]:
    lines, last = [], None
    for row in rows:
        if row.kind == "count":
            lines.append(b"%d" % (row.count or 0))
            continue
        if row.kind == "name":
            lines.append(row.path.encode())
            continue
        assert row.kind in ("match", "context") and row.line and row.text is not None
        if context and last is not None and row.line != last + 1:
            lines.append(b"--")
        last = row.line
        mark = b":" if row.kind == "match" else b"-"
        lines.append(b"%d" % row.line + mark + row.text.encode("utf-8", "surrogateescape"))
    return lines


def random_options(dice: random.Random) -> tuple[list[str], dict[str, object]]:
    words, options = [], {}
    for word, name, value in (
        ("-i", "ignore_case", True),
        ("-v", "invert", True),
        ("-m{}", "max_count", dice.randrange(1, 6)),
        ("-B{}", "before", dice.randrange(5)),
        ("-A{}", "after", dice.randrange(5)),
    ):
        if dice.random() < 0.3:
            words.append(word.format(value))
            options[name] = value
    mode = dice.random()
    if mode < 0.2:
        words.append("-c" if mode < 0.1 else "-l")
        options["mode"] = "count" if mode < 0.1 else "names"
    return words, options


def random_text(dice: random.Random) -> bytes:
    pieces = [b"foo", b"bar", b" ", b"a", b"b", b"FOO", b"x1", b"\t", "é".encode(), b"\xff", b"c"]
    lines = [b"".join(dice.choices(pieces, k=dice.randrange(8))) for _ in range(dice.randrange(150))]
    return b"\n".join(lines) + dice.choice([b"", b"\n"])


@pytest.mark.parametrize("read", [64, 256, 4096, probe.READ])
def test_the_lines_of_gnu_grep(
    tmp_path: Path, host: Root, seed: int, read: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of every size, so that lines, context and counts cross their edges."""
    monkeypatch.setattr(probe, "READ", read)
    monkeypatch.setattr(probe, "CAPACITY", 2 * read)
    monkeypatch.setattr(probe, "OVERLAP", 32)
    dice = random.Random(seed)
    file = tmp_path / "f"
    for _ in range(150):
        file.write_bytes(random_text(dice))
        pattern, fixed = dice.choice(PATTERNS), dice.random() < 0.3
        words, options = random_options(dice)
        if pattern == "" and "invert" in options:
            continue  # GNU grep does not even print the count then
        # -a: in the C locale bytes above 127 make a file binary for GNU grep; here only NUL does.
        command = ["grep", "-anF" if fixed else "-anE", *words, "--", pattern, str(file)]
        theirs = subprocess.run(command, capture_output=True, env={"LC_ALL": "C"}).stdout
        rows = grep(host, file, pattern, fixed=fixed, numbers=True, **options)
        context = "before" in options or "after" in options
        assert as_printed(rows, context) == theirs.split(b"\n")[:-1], (command, options)


def random_pattern(dice: random.Random, depth: int) -> str:
    if depth == 0:
        return dice.choice(
            ["a", "b", "c", ".", "[ab]", "[^a]", r"\w", r"\s", "_", r"\d", r"\b", "^", "$", "é"]
        )
    inner = random_pattern(dice, depth - 1)
    kind = dice.random()
    if kind < 0.4:
        return inner + random_pattern(dice, depth - 1)
    if kind < 0.6:
        return f"({inner}|{random_pattern(dice, depth - 1)})"
    return f"({inner})" + dice.choice(["", "*", "+", "?", "{2}", "{0,2}", "{1,}", "*?"])


def test_both_engines_say_what_python_says(seed: int) -> None:
    dice, tried = random.Random(seed), 0
    for _ in range(2000):
        pattern = random_pattern(dice, dice.randrange(1, 4))
        try:
            tree = parse(pattern)
        except UsageError:
            continue
        tried += 1
        reference, ours = re.compile(pattern.encode()), re.compile(expression(tree), re.MULTILINE)
        automaton = Automaton(tree)
        for _ in range(8):
            line = "".join(dice.choices("abc_ 1é", k=dice.randrange(9))).encode()
            wanted = reference.search(line) is not None
            assert (ours.search(line) is not None) == automaton.search(line) == wanted, (pattern, line)
            assert not wanted or needed(tree) in line
    assert tried > 500


CATASTROPHES = [
    ("(a+)+$", b"a" * 5000 + b"b"),
    ("(a|a)*b", b"a" * 5000),
    ("(a|ab)*c", b"ab" * 2500),
    ("(a?){50}a{50}b", b"a" * 200),
    ("(.*)(.*)(.*)(.*)x", b"a" * 5000),
    (".*.*.*=.*x", b"=" * 5000),
    (r"(\w+\s?)*;", b"word " * 1000),
    ("a*a*a*a*a*b", b"a" * 3000),
    ("[^x]*[^y]*z", b"a" * 100_000),
    ("(a{1,100}){1,30}b", b"a" * 2000),
    ("((a*)*)*b", b"a" * 5000),
    ("(a*|b)*c", b"ab" * 2000),
    ("^(([a-z])+.)+[A-Z]([a-z])+$", b"a" * 4000),
]
"""What hangs a backtracking engine for hours, or for longer than anybody waits."""


@pytest.mark.parametrize(("pattern", "line"), CATASTROPHES, ids=lambda value: str(value)[:20])
def test_no_pattern_takes_for_ever(pattern: str, line: bytes) -> None:
    """And none holds the interpreter: another thread goes on meanwhile."""
    longest, stop = [0.0], threading.Event()

    def heartbeat() -> None:
        last = time.monotonic()
        while not stop.wait(0.01):
            now = time.monotonic()
            longest[0], last = max(longest[0], now - last), now

    thread = threading.Thread(target=heartbeat)
    thread.start()
    try:
        matcher = PatternMatcher(parse(pattern), Stop())
        block = (line + b"\n") * max(1, 100_000 // len(line))
        started = time.monotonic()
        spans = [span for span in matcher.spans(block, 0, len(block)) if span is not None]
        took = time.monotonic() - started
    finally:
        stop.set()
        thread.join()
    assert spans == []
    assert longest[0] < 5.0, "a heartbeat was held up"
    assert took < 60


def test_honest_patterns_stay_on_the_fast_engine() -> None:
    for pattern in ("error", "foo.*bar", r"(\d{1,3}\.){3}\d{1,3}", r"^\w+=", "(GET|POST) /api", r"\s+$"):
        bound = cost(parse(pattern))
        assert bound is not None and bound.degree <= 2, pattern
    assert cost(parse("(a+)+b")) is None


def test_a_cancelled_search_on_the_automaton_stops_in_a_line() -> None:
    stop = Stop()
    stop.current = threading.Event()
    stop.current.set()
    line = b"a" * 10_000_000
    started = time.monotonic()
    assert not Automaton(parse("(a|aa)*b")).search(line, stop)
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(a", r"a \( without"),
        ("a)", r"a \) without"),
        ("[a", r"a \[ without"),
        ("*a", "nothing before"),
        ("a{2000}", "at most 1000"),
        (r"(a)\1", "backreferences"),
        ("(?=a)", "lookaround"),
        ("(?i)a", "lookaround, flags"),
        ("a*+b", "possessive"),
        ("[[:nope:]]", "no class"),
        ("a\\", "backslash at the end"),
        ("((((((a{100}){100}){100})))))", r"a \) without|too large"),
        ("(a{100}){100}", "too large"),
        ("(" * 100 + "a" + ")" * 100, "too many groups"),
        ("^*", "anchor"),
        ("[b-a]", "range"),
        ("[^é]", "negated"),
    ],
)
def test_what_is_no_part_of_the_dialect_is_refused_with_a_reason(pattern: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse(pattern)


def test_trees_binary_files_and_special_files(tmp_path: Path, host: Root) -> None:
    (tmp_path / "sub/sub").mkdir(parents=True)
    (tmp_path / "sub/sub/text.log").write_bytes(b"a needle\n")
    (tmp_path / "sub/binary").write_bytes(b"\0\1needle\n")
    (tmp_path / "other.txt").write_bytes(b"needle\n")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "other.txt")
    rows = grep(host, tmp_path, "needle", max_depth=10)
    assert {(row.path.removeprefix(f"{tmp_path}/"), row.kind) for row in rows} == {
        ("sub/sub/text.log", "match"), ("sub/binary", "binary"), ("other.txt", "match"),
    }  # fmt: skip
    (only,) = grep(host, tmp_path, "needle", max_depth=10, include=("*.log",))
    assert only.text == "a needle"
    (shown,) = grep(host, tmp_path / "sub/binary", "needle", text=True)
    assert shown.text == "\0\1needle"
    (error,) = grep(host, tmp_path, "needle")
    assert error.kind == "error" and "directory" in str(error.error)
    assert [row.kind for row in grep(host, tmp_path / "link", "needle", follow=True)] == ["match"]


def test_long_lines_are_searched_and_cut_and_said(tmp_path: Path, host: Root) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"first\n" + b"x" * 1_000_000 + b"needle" + b"y" * 1_000_000 + b"\nlast needle\n")
    search = GrepSearch(host, Grep(path=str(file), pattern="needle", numbers=True))
    rows = [row for row in search.rows() if row is not None]
    assert [(row.line, row.cut) for row in rows] == [(2, True), (3, False)]
    assert len(rows[0].text or "") == MAX_LINE_SHOWN
    assert "longer than" in search.progress(True).skipped[0]


def test_holes_are_not_searched(tmp_path: Path, host: Root) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        file.seek(1 << 40)
        file.write(b"needle\n")
        file.truncate(1 << 41)
    started = time.monotonic()
    assert [row.kind for row in grep(host, tmp_path / "sparse", "needle")] == ["binary"]
    assert time.monotonic() - started < 5


def test_pseudo_files_are_left_out_of_trees_and_bounded_by_name(host: Root) -> None:
    search = GrepSearch(host, Grep(path="/proc/self", pattern="Name", max_depth=1, follow=True))
    assert any(row is not None and row.kind == "match" for row in search.rows())
    walked = GrepSearch(host, Grep(path="/", pattern="x", max_depth=2, include=("none such",)))
    assert [row for row in walked.rows() if row is not None and row.kind != "error"] == []
    assert any(note.startswith("/proc was left out") for note in walked.progress(True).skipped)


@pytest.mark.parametrize(
    "row",
    [
        GrepRow("/elsewhere", "match", text="x"),
        GrepRow("/a/b", "something"),
        GrepRow("/a/b", "match", text="x" * (MAX_LINE_SHOWN + 1)),
    ],
)
def test_rows_that_were_not_asked_for_are_refused(row: GrepRow) -> None:
    with pytest.raises(ProtocolViolation):
        Grep(path="/a", pattern="x").check(GrepPage((row,)))
