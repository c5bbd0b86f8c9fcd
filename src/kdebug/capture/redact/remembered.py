"""What came of texts that were looked at before: the rows of an answer, and samples, repeat their words."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

MAX_CHARACTERS = 2_000_000
"""Of all that is remembered; then all is forgotten."""
MAX_EACH = 4000
"""A longer text hardly comes twice."""
ENTRY = 50
"""Characters that an entry counts beside its own."""


class Remembered(dict[Hashable, Any]):
    """A dict to look into; what goes in through `keep` is bounded, for the texts are anybody's."""

    def __init__(self) -> None:
        super().__init__()
        self._room = MAX_CHARACTERS

    def keep(self, key: Hashable, value: Any, size: int) -> None:
        """`size`: characters of the key."""
        if size > MAX_EACH:
            return
        self._room -= size + ENTRY
        if self._room < 0:
            self.clear()
        self[key] = value

    def clear(self) -> None:
        super().clear()
        self._room = MAX_CHARACTERS
