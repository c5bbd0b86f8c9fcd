"""Which of many replicas is not like the others, by robust statistics: an odd one moves no median. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Optional

from kdebug.compare.diff import plain
from kdebug.compare.facts import BYTES, FDS, MODIFIED, PROCESSES, SECTIONS, TOKEN, Facts, Text
from kdebug.units import size

ODD = 3.5
"""Scaled deviations from the median of the others beyond which a number is odd (Iglewicz and Hoaglin)."""
SCALE = 1.4826
"""Median absolute deviation to standard deviation, of a normal distribution."""
NEARLY = 0.1
"""Of the median: replicas that are equal to a byte would make anything odd."""
FLOORS = {BYTES: 4 * 1024 * 1024.0, "count": 1.0}
RARE = ("restarts", "oom kills")
"""Numbers of which one more is odd where the others have none."""
RARE_FLOOR = 0.2
UNLIKE = (MODIFIED, FDS)
"""Sections of which the texts are each replica's own: times, and names of open files."""
MAX_OF_SECTION = 15
"""Findings of one replica in one section; the rest is counted."""


@dataclass(frozen=True)
class Finding:
    label: str
    """The replica; "" where there is no majority that one could differ from."""
    section: str
    what: str
    value: str
    others: str
    amount: Optional[float] = None
    median: Optional[float] = None
    score: Optional[float] = None
    """Scaled deviations from the median of the others."""

    def document(self) -> dict[str, Any]:
        row: dict[str, Any] = {"replica": self.label or None, "section": self.section, "what": self.what}
        row |= {"value": self.value, "others": self.others}
        if self.score is not None:
            row |= {
                "amount": plain(self.amount),
                "median": plain(self.median),
                "score": round(self.score, 2),
            }
        return row


def odd_ones(replicas: Sequence[Facts]) -> tuple[list[Finding], list[tuple[str, str]]]:
    """(findings, the oddest replica first; (section, why) of what could not be compared)."""
    found: list[Finding] = []
    lacking: list[tuple[str, str]] = []
    for section in SECTIONS:
        able = [one for one in replicas if not one.lacks(section)]
        if section != MODIFIED:
            lacking += _lacking(section, replicas)
        if len(able) < 2:
            continue
        found += _numbers(section, able)
        if section not in UNLIKE:
            found += _texts(section, able, _one_key(section, able))
    count = Counter(one.label for one in found)
    ordered = sorted(found, key=lambda one: (one.label == "", -count[one.label], one.label))
    return _bounded(ordered), lacking


def _lacking(section: str, replicas: Sequence[Facts]) -> list[tuple[str, str]]:
    """Each with its reason; once, where nobody has it."""
    found = [(f"{section} of {one.label}", why) for one in replicas if (why := one.lacks(section))]
    return [(section, found[0][1])] if len(found) == len(replicas) else found


def _bounded(found: list[Finding]) -> list[Finding]:
    kept: list[Finding] = []
    seen: Counter[tuple[str, str]] = Counter()
    for one in found:
        seen[one.label, one.section] += 1
        if seen[one.label, one.section] <= MAX_OF_SECTION:
            kept.append(one)
    for (label, section), count in seen.items():
        if count > MAX_OF_SECTION:
            more = f"{count - MAX_OF_SECTION} more findings"
            place = max(i for i, one in enumerate(kept) if (one.label, one.section) == (label, section))
            kept.insert(place + 1, Finding(label, section, more, "", ""))
    return kept


def _own(facts: Facts, text: str) -> str:
    """Without what is each replica's own: its name, its address."""
    for name, word in facts.names:
        text = text.replace(name, word)
    return text


# Numbers


def _numbers(section: str, replicas: Sequence[Facts]) -> list[Finding]:
    found: list[Finding] = []
    tables = [{_own(one, k): v for k, v in one.numbers[section].items()} for one in replicas]
    for name in dict.fromkeys(key for table in tables for key in table):
        able = [(one, table[name]) for one, table in zip(replicas, tables) if name in table]
        if section != PROCESSES:  # a count of nothing is none
            kind = able[0][1].kind
            values = [table[name].value if name in table else 0.0 for table in tables]
            found += _odd_numbers(section, name, kind, list(zip(replicas, values)))
        elif len(able) > 1:
            found += _odd_numbers(section, name, able[0][1].kind, [(one, a.value) for one, a in able])
    return sorted(found, key=lambda one: -(one.score or 0.0))


def _odd_numbers(section: str, name: str, kind: str, values: list[tuple[Facts, float]]) -> list[Finding]:
    """Each against all others. Of two that differ the larger is told: nobody knows which one is odd."""
    found = []
    for index, (facts, value) in enumerate(values):
        others = [v for i, (_, v) in enumerate(values) if i != index]
        middle = median(others)
        score = abs(value - middle) / _scale(name, kind, others, middle)
        if score > ODD and not (len(values) == 2 and value < middle):
            told = f"median {_told(kind, middle)} of {len(others)}"
            found.append(
                Finding(facts.label, section, name, _told(kind, value), told, value, middle, score)
            )
    return found


def _scale(name: str, kind: str, others: Sequence[float], middle: float) -> float:
    deviation = SCALE * median(abs(value - middle) for value in others)
    floor = RARE_FLOOR if name.startswith(RARE) else FLOORS[kind]
    return max(deviation, NEARLY * abs(middle), floor)


def _told(kind: str, value: float) -> str:
    return size(value) if kind == BYTES else f"{value:g}"


# Texts


def _one_key(section: str, replicas: Sequence[Facts]) -> bool:
    """Whether tokens of redaction can be compared: some stand in more than one replica."""
    counts = Counter(token for one in replicas for token in one.tokens(section))
    return any(count > 1 for count in counts.values())


def _texts(section: str, replicas: Sequence[Facts], one_key: bool) -> list[Finding]:
    tables = [{_own(one, k): v for k, v in one.texts[section].items()} for one in replicas]
    found: list[Finding] = []
    for name in dict.fromkeys(key for table in tables for key in table):
        values = [table.get(name) for table in tables]
        compared = [None if v is None else _own(one, v.value) for one, v in zip(replicas, values)]
        if not one_key:  # whatever stands there, it says only what kind of secret it is
            compared = [None if text is None else TOKEN.sub(r"\1", text) for text in compared]
        found += _odd_texts(section, name, replicas, values, compared)
    return found


def _odd_texts(
    section: str, name: str, replicas: Sequence[Facts], values: Sequence[Optional[Text]],
    compared: Sequence[Optional[str]],
) -> list[Finding]:  # fmt: skip
    counts = Counter(compared)
    (common, many), total = counts.most_common(1)[0], len(replicas)
    if many == total or (len(counts) == total and total > 2):
        return []  # all alike, or to each his own
    if many * 2 <= total:
        groups = ", ".join(f"{n} with {_shown(_of(compared, values, v))}" for v, n in counts.most_common(4))
        return [Finding("", section, name, groups, "no majority")]
    usual = _shown(_of(compared, values, common))
    return [
        Finding(one.label, section, name, _shown(value), f"{usual} in {many} of {total}")
        for one, value, key in zip(replicas, values, compared) if key != common
    ]  # fmt: skip


def _of(
    compared: Sequence[Optional[str]], values: Sequence[Optional[Text]], key: Optional[str]
) -> Optional[Text]:
    return values[compared.index(key)]


def _shown(value: Optional[Text]) -> str:
    if value is None:
        return "none"
    return str(value) or "there"
