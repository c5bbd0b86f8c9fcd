"""What all records share: equality, hash and text, written once instead of generated for each.

`dataclass` compiles every method that it makes: with these left out, starting an agent or a client takes
half as long for its fifty records, inside a pod's CPU quota as well.
"""

from __future__ import annotations

from typing import Any


class Record:
    """Base of a `@dataclass(frozen=True, eq=False, repr=False)`; behaves as one with both."""

    def _facts(self) -> tuple[Any, ...]:
        return tuple(vars(self).values())

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), self._facts()))

    def __repr__(self) -> str:
        # File contents would bury the rest.
        shown = (f"{k}={v!r}" for k, v in vars(self).items() if not isinstance(v, bytes))
        return f"{type(self).__name__}({', '.join(shown)})"
