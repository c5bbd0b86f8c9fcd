"""What was redacted, where, and what was not looked at: the account that goes into the manifest."""

from __future__ import annotations

from collections import Counter
from typing import Any

MAX_PLACES = 500
"""Places are named after files of the pod: there may be any number of them."""
MAX_LISTED = 500
OTHER = "(other places)"


class Coverage:
    """Counts only; no value, no length, no position."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self.scanned_bytes = 0
        self.not_scanned: list[dict[str, Any]] = []
        self.late: list[str] = []
        self.in_place_only = 0
        self.notes: list[str] = []
        self._places: set[str] = set()
        self._unlisted = 0

    def place(self, name: str) -> str:
        if name not in self._places and len(self._places) >= MAX_PLACES:
            return OTHER
        self._places.add(name)
        return name

    def count(self, kind: str, place: str) -> None:
        self.counts.setdefault(kind, Counter())[self.place(place)] += 1

    def left_out(self, name: str, reason: str) -> None:
        if len(self.not_scanned) < MAX_LISTED:
            self.not_scanned.append({"name": name, "reason": reason})
        else:
            self._unlisted += 1

    def learned_late(self, place: str) -> None:
        if place not in self.late and len(self.late) < MAX_LISTED:
            self.late.append(place)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def document(self, known: int, failures: dict[str, int]) -> dict[str, Any]:
        return {
            "redacted": {kind: dict(places) for kind, places in sorted(self.counts.items())},
            "redacted_total": sum(sum(places.values()) for places in self.counts.values()),
            "scanned_bytes": self.scanned_bytes,
            "known_secrets": known,
            "masked_in_place_only": self.in_place_only,
            "learned_late": self.late,
            "not_scanned": self.not_scanned,
            "not_scanned_unlisted": self._unlisted,
            "detector_failures": failures,
            "notes": self.notes,
        }


class Account:
    """What one stream tells of itself."""

    def __init__(self, coverage: Coverage, name: str) -> None:
        self._coverage = coverage
        self._name = name

    def scanned(self, count: int) -> None:
        self._coverage.scanned_bytes += count

    def unread(self, reason: str, kept: bool) -> None:
        self._coverage.left_out(self._name, reason + (", kept as it is" if kept else ", left out"))
