"""What differs between two looks at a target, with how fast it grew between them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from kdebug.compare.facts import BYTES, MODIFIED, PROCESSES, SECTIONS, TOKEN, Amount, Facts, Text

ADDED, REMOVED, CHANGED = "added", "removed", "changed"
NEARLY = 0.1
"""Numbers that differ by less than this share of the larger are the same: a process breathes."""
FLOORS = {BYTES: 1024 * 1024.0, "count": 2.0}
"""Nor do they differ by no more than so much."""
EXACT = ("restarts", "oom kills", ": processes")
"""Numbers of which one more is a difference: named so, or ending so."""
SHORTEST_SECONDS = 1.0
"""Between two looks, for a rate to say anything."""


@dataclass(frozen=True)
class Difference:
    section: str
    change: str
    what: str
    before: str = ""
    after: str = ""
    kind: str = ""
    """bytes or count: then the amounts are there, too."""
    before_amount: Optional[float] = None
    after_amount: Optional[float] = None
    per_minute: Optional[float] = None

    def document(self) -> dict[str, Any]:
        row: dict[str, Any] = {"section": self.section, "change": self.change, "what": self.what}
        if self.kind:
            unit = "_bytes" if self.kind == BYTES else ""
            per_minute = None if self.per_minute is None else round(self.per_minute, 3)
            row |= {f"a{unit}": plain(self.before_amount), f"b{unit}": plain(self.after_amount)}
            return row | {f"per_minute{unit}": per_minute}
        return row | {"a": self.before or None, "b": self.after or None}


def plain(value: Optional[float]) -> float | int | None:
    """Counts without a point."""
    return int(value) if value is not None and value.is_integer() else value


@dataclass(frozen=True)
class Comparison:
    differences: list[Difference]
    not_compared: list[tuple[str, str]]
    """(section or value, why)."""
    seconds: float
    """From a to b."""


def compare(a: Facts, b: Facts) -> Comparison:
    seconds = b.at - a.at if a.at and b.at else 0.0
    found: list[Difference] = []
    lacking: list[tuple[str, str]] = []
    for section in SECTIONS:
        why = a.lacks(section) or b.lacks(section)
        if why:
            lacking += [(section, why)] if section != MODIFIED else []
            continue
        hidden = _hidden(a, b, section)
        lacking += [(f"{section} {name}", "its value is redacted, and not comparably") for name in hidden]
        found += _texts(section, a.texts[section], b.texts[section], set(hidden))
        found += _numbers(section, a.numbers[section], b.numbers[section], seconds)
    return Comparison(found, lacking, seconds)


def _hidden(a: Facts, b: Facts, section: str) -> list[str]:
    """Values that differ only where redaction stands, when the tokens are of two keys or one side has none.

    Bundles of one set share their key. That two others do shows in any token that both hold.
    """
    if a.tokens(section) & b.tokens(section):
        return []
    one, other = a.texts[section], b.texts[section]
    return [
        name for name in one
        if name in other and one[name].value != other[name].value
        and (TOKEN.search(one[name].value) or TOKEN.search(other[name].value))
    ]  # fmt: skip


def _texts(section: str, a: dict[str, Text], b: dict[str, Text], hidden: set[str]) -> list[Difference]:
    found = [Difference(section, REMOVED, name, before=str(a[name])) for name in a if name not in b]
    found += [Difference(section, ADDED, name, after=str(b[name])) for name in b if name not in a]
    changed = [name for name in a if name in b and name not in hidden and a[name].value != b[name].value]
    found += [Difference(section, CHANGED, name, str(a[name]), str(b[name])) for name in changed]
    return found


def _numbers(section: str, a: dict[str, Amount], b: dict[str, Amount], seconds: float) -> list[Difference]:
    """Those of a process that is new or gone say nothing more."""
    found = []
    for name in dict.fromkeys([*a, *b]):
        if section == PROCESSES and not (name in a and name in b):
            continue
        kind = (a.get(name) or b[name]).kind
        before, after = (one[name].value if name in one else 0.0 for one in (a, b))
        if _differs(name, kind, before, after):
            rate = (after - before) / seconds * 60 if seconds >= SHORTEST_SECONDS else None
            found.append(Difference(section, CHANGED, name, "", "", kind, before, after, rate))
    return sorted(found, key=lambda one: -_share(one))


def _differs(name: str, kind: str, before: float, after: float) -> bool:
    if name.startswith(EXACT) or name.endswith(EXACT):
        return before != after
    return abs(after - before) > max(FLOORS[kind], NEARLY * max(before, after))


def _share(one: Difference) -> float:
    before, after = one.before_amount or 0.0, one.after_amount or 0.0
    return abs(after - before) / max(before, after, 1.0)
