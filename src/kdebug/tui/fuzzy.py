"""A filter as hands know it from fzf: words that must all match, letters in order, the best match first.

Text to be searched is made once per row (`Haystack`), so that a key pressed over 5,000 rows costs some ten
milliseconds. Every step is linear in the text, whatever the row is called.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_TEXT = 1024
_WORDS = re.compile(r"[^\W_]+")

START, WORD_START, INSIDE, ELSEWHERE, INITIALS, SCATTERED = range(6)
"""How well a word matches, best first: at the name's start, at the start of a word in it, within it, whole
in another field, as the first letters of the name's words, or as letters in order."""


@dataclass(frozen=True)
class Haystack:
    """What a row can be found by; casefolded."""

    name: str
    loose: str
    """The name and what else letters may be scattered in, a line each."""
    strict: str
    """Fields in which only whole words are looked for (states, images, nodes), a line each."""

    @classmethod
    def of(cls, name: str, loose: tuple[str, ...] = (), strict: tuple[str, ...] = ()) -> Haystack:
        own, *others = (_line(text) for text in (name, *loose))
        return cls(own, "\n".join((own, *others)), "\n".join(map(_line, strict)))


def _line(text: str) -> str:
    return " ".join(text[:MAX_TEXT].casefold().split())


class Fuzzy:
    """What somebody typed."""

    def __init__(self, needle: str) -> None:
        self._words = [(word, _scattered(word)) for word in needle.casefold().split()]

    def __bool__(self) -> bool:
        return bool(self._words)

    def rank(self, row: Haystack) -> int | None:
        """Smaller is better; None where a word does not match."""
        total = 0
        for word, scattered in self._words:
            found = _rank(word, scattered, row)
            if found is None:
                return None
            total += found
        return total


def _scattered(word: str) -> re.Pattern[str]:
    """The letters in order within one line. Possessive: a letter is taken where it is met first, so that no
    text makes the search go back."""
    parts = (f"[^{re.escape(letter)}\n]*+{re.escape(letter)}" for letter in word)
    return re.compile("^" + "".join(parts), re.MULTILINE)


def _rank(word: str, scattered: re.Pattern[str], row: Haystack) -> int | None:
    at = row.name.find(word)
    if at == 0:
        return START
    if at > 0:
        return WORD_START if _begins_a_word(word, row.name, at) else INSIDE
    if word in row.loose or word in row.strict:
        return ELSEWHERE
    if scattered.search(row.loose) is None:
        return None
    return INITIALS if word in initials(row.name) else SCATTERED


def _begins_a_word(word: str, name: str, at: int) -> bool:
    while at > 0:
        if not name[at - 1].isalnum():
            return True
        at = name.find(word, at + 1)
    return False


def initials(name: str) -> str:
    return "".join(match.group()[0] for match in _WORDS.finditer(name))
