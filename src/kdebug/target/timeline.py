"""The third seam, beside `Backend` and `Cluster`: what was recorded can be looked at as of another time.

A living target has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from kdebug.protocol.requests import Request

R = TypeVar("R")


class Timeline(Protocol):
    """The samples of a bundle. From `go` on, the backend answers as of that sample."""

    @property
    def stops(self) -> Sequence[float]:
        """When each sample was taken (Unix), earliest first; empty where there are no two."""

    @property
    def index(self) -> int:
        """Of the stop that is looked at."""

    @property
    def now(self) -> float:
        """What the clock showed then, or at the end of the recording."""

    def go(self, index: int) -> None:
        """To another stop; the nearest one where there is none of this number."""

    def apart(self) -> Mapping[str, float]:
        """What was asked since `go` but not recorded at that stop: the request's name, and when it was."""

    def series(self, request: Request[R], most: int) -> list[tuple[float, R]]:
        """The last `most` answers up to the stop, each with its time; refusals are left out."""
