"""Conditions as people write them, right and wrong; and whether they hold over time."""

from __future__ import annotations

import pytest

from kdebug.errors import UsageError
from kdebug.watch.condition import LogMatch, NotReady, Number, Restart, parse
from kdebug.watch.judge import LONGEST_GAP, Judge
from kdebug.watch.reading import Reading

MIB = 2**20


@pytest.mark.parametrize(
    ("text", "tests", "seconds"),
    [
        ("rss > 80% of limit for 30s", [Number("rss", ">", 0.8, of_limit=True)], 30),
        ("memory >= 1.5GiB", [Number("memory", ">=", 1.5 * 2**30)], 0),
        ("rss>500M", [Number("rss", ">", 500 * MIB)], 0),
        ("cpu > 500m for 1m", [Number("cpu", ">", 0.5)], 60),
        ("cpu > 90% of limit", [Number("cpu", ">", 0.9, of_limit=True)], 0),
        ("threads < 3 and fds > 1000 for 2m", [Number("threads", "<", 3), Number("fds", ">", 1000)], 120),
        (
            "file /var/log/a.log grows > 1MiB per minute",
            [Number("file /var/log/a.log", ">", MIB, grows=True, per_seconds=60)],
            0,
        ),
        ("file '/a b' > 1G", [Number("file /a b", ">", 2**30)], 0),
        ("rss grows > 10MiB/s", [Number("rss", ">", 10 * MIB, grows=True, per_seconds=1)], 0),
        ("rss grows > 10MiB for 5m", [Number("rss", ">", 10 * MIB, grows=True)], 300),
        ("restart", [Restart()], 0),
        ("not ready for 1m", [NotReady()], 60),
    ],
)
def test_what_is_understood(text: str, tests: list[object], seconds: float) -> None:
    found = parse(text)
    assert list(found.tests) == tests and found.seconds == seconds and found.text == text


@pytest.mark.parametrize(
    ("text", "line", "matches"),
    [
        ("log matches /time.?out/i", b"TimeOut!", True),
        ("log matches /time.?out/", b"TimeOut!", False),
        ("log of sidecar matches 'a/b'", b"a/b", True),
        (r"log matches /a\/b/", b"xa/bx", True),
        ("log of all matches refused", b"connection refused", True),
    ],
)
def test_lines_of_logs(text: str, line: bytes, matches: bool) -> None:
    (test,) = parse(text).tests
    assert isinstance(test, LogMatch) and test.matches(line) is matches
    assert test.container == {"log of s": "sidecar", "log of a": "all"}.get(text[:8], "")


def test_a_pattern_that_would_take_for_ever_does_not() -> None:
    (test,) = parse("log matches /(a|a)*(a|a)*(a|a)*b/").tests
    assert isinstance(test, LogMatch) and not test.matches(b"a" * 2000)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("", "at its end", "nothing to watch"),
        ("foo > 3", "(character 1)", "there are rss"),
        ("rss", "at its end", "> >= < <="),
        ("rss > many", "(character 7)", "a number"),
        ("rss > 80%", "at its end", "`of limit`"),
        ("rss > 80% of limmit", "(character 14)", "`of limit`"),
        ("rss > 5parsecs", "(character 7)", "no value for rss"),
        ("rss > 5 for ever", "(character 13)", "no duration"),
        ("rss > 5 or cpu > 1", "(character 9)", "--when twice"),
        ("rss > 5 for 3s or", "(character 16)", "the end"),
        ("fds > 1.5", "(character 7)", "whole number"),
        ("file etc > 1", "(character 6)", "not absolute"),
        ("file /a > 5% of limit", "(character 11)", "no limit"),
        ("rss grows > 1MiB", "at its end", "per minute"),
        ("rss grows > 1MiB per fortnight", "(character 22)", "minute"),
        ("log matches /a(/", "(character 13)", "without its )"),
        ("log matches /a", "(character 13)", "closing /"),
        ("log matches /a/ for 3s", "(character 21)", "last for no time"),
        ("restart and rss > 3 for 2s", "(character 25)", "last for no time"),
        ("not steady", "(character 1)", "not ready"),
        ("rss > 1" + " " * 3000, "2000", "characters"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, place: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert place in str(caught.value) and words in str(caught.value), caught.value


def judged(
    text: str, looks: list[tuple[float, float]], limit: float = 0, instance: list[int] | None = None
) -> list[bool]:
    """Whether it was met, at each (time, rss)."""
    judge, found = Judge(parse(text), 1), []
    for number, (at, rss) in enumerate(looks):
        reading = Reading(at, at, instance[number] if instance else 1, {"rss": rss})
        reading.limits |= {"rss": limit} if limit else {}
        found.append(judge.see(reading).met)
    return found


def test_it_must_hold_for_so_long() -> None:
    steady = [(float(at), 90.0) for at in range(6)]
    assert judged("rss > 80% of limit for 3s", steady, limit=100) == [False] * 3 + [True] * 3
    assert judged("rss > 80", steady) == [True] * 6


def test_a_spike_begins_anew() -> None:
    looks = [(0.0, 90.0), (1.0, 90.0), (2.0, 10.0), (3.0, 90.0), (4.0, 90.0), (6.0, 90.0)]
    assert judged("rss > 80 for 3s", looks) == [False] * 5 + [True]


def test_what_was_not_seen_did_not_hold() -> None:
    looks = [(0.0, 90.0), (LONGEST_GAP + 1, 90.0), (LONGEST_GAP + 2, 90.0)]
    assert judged("rss > 80 for 3s", looks) == [False] * 3


def test_another_instance_begins_anew() -> None:
    looks = [(0.0, 90.0), (2.0, 90.0), (4.0, 90.0), (6.0, 90.0)]
    assert judged("rss > 80 for 3s", looks, instance=[1, 1, 2, 2]) == [False] * 4


def test_growth_is_measured_over_its_time() -> None:
    rising = [(float(at), at * 10.0) for at in range(0, 70, 5)]
    met = judged("rss grows > 500 per minute for 30s", rising)
    assert met == [False] * 6 + [True] * 8
    flat = [(float(at), 1000.0 if at else 0.0) for at in range(0, 70, 5)]
    assert judged("rss grows > 500 per minute for 30s", flat) == [False] * 6 + [True] + [False] * 7


def test_without_a_limit_it_is_not_known() -> None:
    judge = Judge(parse("rss > 80% of limit"), 1)
    verdict = judge.see(
        Reading(0, 0, 1, {"rss": 5.0}, reasons={"rss of limit": "its cgroup sets no limit"})
    )
    assert not verdict.holds and verdict.unknown == "the limit of rss: its cgroup sets no limit"
