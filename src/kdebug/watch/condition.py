"""The language of `--when`: `rss > 80% of limit for 30s`, `log matches /refused/`, `restart`. Pure.

A condition is one test or several joined by `and`, with a time for which they must hold together. What
stands for "or" is another condition. What cannot be understood is told with its position.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional, Union

from kdebug.capture.recipe_fields import duration
from kdebug.errors import UsageError
from kdebug.probe.matcher import PatternMatcher, Stop
from kdebug.probe.pattern import parse as parse_pattern
from kdebug.protocol.requests import check_path

BYTES, COUNT, CORES = "bytes", "count", "cores"
QUANTITIES = {
    "rss": BYTES, "memory": BYTES, "cpu": CORES, "threads": COUNT, "fds": COUNT, "processes": COUNT,
}  # fmt: skip
"""What has a number at any time, with its kind; `file PATH` is one, too."""
UNLIMITED = ("file",)
KNOWN = f"{', '.join(QUANTITIES)}, file PATH, log matches /REGEX/, restart, not ready"
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">": lambda a, b: a > b, ">=": lambda a, b: a >= b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b,
}  # fmt: skip
SECONDS = {"second": 1.0, "s": 1.0, "minute": 60.0, "m": 60.0, "min": 60.0, "hour": 3600.0, "h": 3600.0}
GROWTH_SECONDS = 30.0
"""Over which growth is measured, where the condition does not say."""
MAX_TEXT = 2000
_BYTES = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_NUMBER = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)(%|[A-Za-z]*)")
_WORD = re.compile(r"[A-Za-z]+")
_COMPARISON = re.compile(r"[<>]=?")
_BARE = re.compile(r"[^\s'\"]+")


@dataclass(frozen=True)
class Number:
    """A quantity compared with a value, a share of its limit, or how much it grew."""

    quantity: str
    """A key of `QUANTITIES`, or `file PATH`."""
    comparison: str
    value: float
    """Bytes, cores or a count; a share (0.8) when `of_limit`."""
    of_limit: bool = False
    grows: bool = False
    per_seconds: float = 0.0
    """Of growth: in this time; 0: in all of the time over which it is measured."""

    @property
    def path(self) -> str:
        return self.quantity.removeprefix("file ") if self.quantity.startswith("file ") else ""

    @property
    def kind(self) -> str:
        return QUANTITIES.get(self.quantity, BYTES)


@dataclass(frozen=True)
class LogMatch:
    """A line of a log that came since the last look."""

    pattern: str
    container: str
    """"": the target's; `all`: those of every container."""
    matcher: PatternMatcher

    def matches(self, line: bytes) -> bool:
        return self.matcher.matches(line, 0, len(line))


@dataclass(frozen=True)
class Restart:
    """The container was started anew since the last look."""


@dataclass(frozen=True)
class NotReady:
    """The kubelet says that the container is not ready."""


Test = Union[Number, LogMatch, Restart, NotReady]


@dataclass(frozen=True)
class Condition:
    text: str
    tests: tuple[Test, ...]
    seconds: float = 0.0
    """They must hold together for so long; over so long growth is measured."""

    @property
    def numbers(self) -> tuple[Number, ...]:
        return tuple(test for test in self.tests if isinstance(test, Number))

    @property
    def of_pod(self) -> bool:
        """Whether only a pod can meet it."""
        return len(self.numbers) < len(self.tests)

    @property
    def growth_seconds(self) -> float:
        return self.seconds or GROWTH_SECONDS


def parse(text: str) -> Condition:
    """Raises `UsageError` with the position, counted from 1."""
    if len(text) > MAX_TEXT:
        raise UsageError(f"a condition has at most {MAX_TEXT} characters, not {len(text)}")
    return _Parser(text).condition()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def condition(self) -> Condition:
        tests = [self._test()]
        while self._take_word("and"):
            tests.append(self._test())
        seconds, place = 0.0, self._place()
        if self._take_word("for"):
            place, seconds = self._place(), self._duration()
        if self._rest():
            joined = " or ".join(["`and`", *([] if seconds else ["`for DURATION`"]), "the end"])
            hint = "give --when twice" if self._word() == "or" else ""
            raise self._error(f"{joined} is wanted here", hint=hint)
        self._check_time(tests, seconds, place)
        return Condition(" ".join(self._text.split()), tuple(tests), seconds)

    def _check_time(self, tests: list[Test], seconds: float, place: int) -> None:
        """What lasts for no time cannot hold for some, and growth wants a time."""
        if seconds and any(isinstance(test, (LogMatch, Restart)) for test in tests):
            raise self._error("a line of a log and a restart last for no time", place, "leave out `for`")
        timeless = [t for t in tests if isinstance(t, Number) and t.grows and not t.per_seconds]
        if timeless and not seconds:
            raise self._error("growth wants a time", place, "add `per minute`, or `for 5m`")

    # Tests

    def _test(self) -> Test:
        place, word = self._place(), self._word()
        if word in QUANTITIES:
            self._at += len(word)
            return self._number(word)
        if self._take_word("file"):
            return self._number(f"file {self._path()}")
        if self._take_word("log"):
            return self._log()
        if self._take_word("restart"):
            return Restart()
        if self._take_word("not") and self._take_word("ready"):
            return NotReady()
        raise self._error("there is nothing to watch here", place, f"there are {KNOWN}")

    def _number(self, quantity: str) -> Number:
        grows = self._take_word("grows")
        comparison = self._match(_COMPARISON, "one of > >= < <=")
        place = self._place()
        number, unit = self._match(_NUMBER, "a number"), ""
        match = _NUMBER.fullmatch(number)
        assert match is not None
        unit = match[2]
        if unit == "%":
            return self._share(quantity, comparison, float(match[1]), grows, place)
        value = self._value(quantity, float(match[1]), unit, place)
        return Number(quantity, comparison, value, grows=grows, per_seconds=self._per() if grows else 0.0)

    def _share(self, quantity: str, comparison: str, percent: float, grows: bool, place: int) -> Number:
        kind = quantity.partition(" ")[0]
        if kind in UNLIMITED or grows:
            what = "growth" if grows else f"a {kind}"
            raise self._error(f"{what} has no limit", place, "write a size, such as 100MiB")
        if not (self._take_word("of") and self._take_word("limit")):
            raise self._error("`of limit` is wanted behind a share")
        return Number(quantity, comparison, percent / 100, of_limit=True)

    def _value(self, quantity: str, number: float, unit: str, place: int) -> float:
        kind = QUANTITIES.get(quantity, BYTES)
        factor: Optional[float] = None
        if kind == BYTES:
            factor = _BYTES.get(unit.removesuffix("iB") if unit != "iB" else "?")
        elif kind == CORES:
            factor = {"": 1.0, "m": 0.001}.get(unit)
        elif not unit and number == int(number):
            factor = 1.0
        if factor is None:
            wanted = {BYTES: "500MiB, 1.5G", CORES: "0.5, 500m (cores)", COUNT: "a whole number"}[kind]
            name = quantity.partition(" ")[0]
            raise self._error(f"that is no value for {name}", place, f"write {wanted}")
        return number * factor

    def _per(self) -> float:
        """`per minute`, `/s`; 0 where there is none."""
        self._blanks()
        if self._text.startswith("/", self._at):
            self._at += 1
        elif not self._take_word("per"):
            return 0.0
        place, word = self._place(), self._word()
        if word not in SECONDS:
            raise self._error("second, minute or hour is wanted here", place)
        self._at += len(word)
        return SECONDS[word]

    def _path(self) -> str:
        place, path = self._place(), self._text_of("a path")
        try:
            check_path(path)
        except UsageError as error:
            raise self._error(str(error), place) from error
        return path

    def _log(self) -> LogMatch:
        container = ""
        if self._take_word("of"):
            container = self._match(_BARE, "the name of a container, or all")
        if not self._take_word("matches"):
            raise self._error("`matches /REGEX/` is wanted here")
        place = self._place()
        pattern, ignore_case = self._pattern()
        try:
            return LogMatch(pattern, container, PatternMatcher(parse_pattern(pattern, ignore_case), Stop()))
        except UsageError as error:
            why = f"{error.what}: {error.why}" if error.why else error.what
            raise self._error(why, place) from error

    def _pattern(self) -> tuple[str, bool]:
        """(expression, ignore case): /EXPRESSION/, /EXPRESSION/i, or a text in quotes."""
        if self._rest()[:1] != "/":
            return self._text_of("/REGEX/"), False
        pattern = self._delimited("/")
        ignore_case = self._text.startswith("i", self._at)
        self._at += ignore_case
        return pattern, ignore_case

    # Letters

    def _text_of(self, what: str) -> str:
        """In quotes, or up to the next blank."""
        quote = self._rest()[:1]
        return self._delimited(quote) if quote in ("'", '"') and quote else self._match(_BARE, what)

    def _delimited(self, mark: str) -> str:
        """What stands between two marks; a mark inside is written with a backslash."""
        place, found = self._place(), re.compile(rf"{mark}((?:\\.|[^\\{mark}])+){mark}")
        match = found.match(self._text, self._at)
        if match is None:
            raise self._error(f"the closing {mark} is missing, or nothing stands before it", place)
        self._at = match.end()
        return match[1].replace(f"\\{mark}", mark)

    def _duration(self) -> float:
        place = self._place()
        word = self._match(re.compile(r"[\w.]+"), "a duration")
        try:
            return duration(word)
        except ValueError as error:
            raise self._error(str(error), place) from error

    def _match(self, pattern: re.Pattern[str], what: str) -> str:
        self._blanks()
        match = pattern.match(self._text, self._at)
        if match is None:
            raise self._error(f"{what} is wanted here")
        self._at = match.end()
        return match[0]

    def _word(self) -> str:
        """The next word, not taken; "" where there is none."""
        self._blanks()
        match = _WORD.match(self._text, self._at)
        return match[0] if match else ""

    def _take_word(self, word: str) -> bool:
        if self._word() != word:
            return False
        self._at += len(word)
        return True

    def _blanks(self) -> None:
        while self._text[self._at : self._at + 1].isspace():
            self._at += 1

    def _place(self) -> int:
        self._blanks()
        return self._at

    def _rest(self) -> str:
        return self._text[self._place() :]

    def _error(self, why: str, place: Optional[int] = None, hint: str = "") -> UsageError:
        at = self._place() if place is None else place
        found = self._text[at : at + 20]
        where = f"at {found!r} (character {at + 1})" if found else "at its end"
        return UsageError(
            f"the condition {self._text!r} cannot be understood {where}", why=why, next_step=hint
        )
