"""The one method that everything else stands on."""

from __future__ import annotations

from typing import Protocol, TypeVar

from kdebug.protocol.requests import Request

R = TypeVar("R")


class Backend(Protocol):
    """Answers requests: over a stream, in a thread, from a bundle."""

    async def send(self, request: Request[R]) -> R:
        """The answer, or a `KdebugError`. Cancelling the task cancels the request."""

    async def close(self) -> None:
        """Let go of whatever answers; idempotent."""
