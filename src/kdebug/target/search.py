"""Searches as the user interfaces want them: rows as they come, with progress, ended for certain."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from kdebug.errors import ProtocolViolation
from kdebug.protocol.requests import Paged
from kdebug.protocol.search import Progress
from kdebug.target.target import Target

P = TypeVar("P")

MAX_STANDSTILL = 240
"""Empty pages without any progress, in a row: two minutes of an honest agent, which then reads a device
that gives nothing."""


async def search_pages(
    target: Target, request: Paged[P], tell: Callable[[Progress], None] = lambda progress: None
) -> AsyncIterator[P]:
    """Every page, the next one asked for while the caller is busy with this one.

    Raises `ProtocolViolation` when an agent goes on for ever without getting anywhere.
    """
    flying = asyncio.ensure_future(target.backend.send(request))
    seen, standstill = Progress(), 0
    try:
        while True:
            page: Any = await flying
            moved = page.items or page.progress != seen
            seen, standstill = page.progress, 0 if moved else standstill + 1
            if standstill > MAX_STANDSTILL:
                raise ProtocolViolation(f"the agent's answer to {request.name} does not end")
            if page.cursor:
                request = dataclasses.replace(request, cursor=page.cursor)
                flying = asyncio.ensure_future(target.backend.send(request))
            tell(seen)
            yield page
            if not page.cursor:
                return
    finally:
        if not flying.done():
            flying.cancel()
        await asyncio.gather(flying, return_exceptions=True)
