"""The one method that everything else stands on."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from kdebug.errors import DeadlinePassed
from kdebug.protocol.requests import Request

R = TypeVar("R")


class Backend(Protocol):
    """Answers requests: over a stream, in a thread, from a bundle."""

    async def send(self, request: Request[R]) -> R:
        """The answer, or a `KdebugError`. Cancelling the task cancels the request."""

    async def close(self) -> None:
        """Let go of whatever answers; idempotent."""


def late(request: Request[Any], seconds: float) -> DeadlinePassed:
    """What every backend raises when no answer came in time."""
    return DeadlinePassed(
        f"the agent did not answer {request.name} within {seconds:g} s",
        next_step="a throttled pod answers slowly: give it more time with --timeout",
    )
