"""Searches as the user interfaces want them: rows as they come, with progress, ended for certain."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import os
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar

from kdebug.errors import ProtocolViolation
from kdebug.protocol.files import Entry
from kdebug.protocol.requests import Paged
from kdebug.protocol.search import COLUMNS, MAX_NAMES, EntryTable, ListTable, Progress
from kdebug.target.target import MAX_ROWS, Target
from kdebug.units import KIND_BITS

P = TypeVar("P")

ENTRY_KINDS = {bits: kind for kind, bits in KIND_BITS.items()}


async def _read_ahead(target: Target, request: Paged[P]) -> AsyncGenerator[P, None]:
    """Every page, the next one on its way while the caller has this one. Closing it ends the request."""
    flying = asyncio.ensure_future(target.backend.send(request))
    try:
        while True:
            page: Any = await flying
            if page.cursor:
                request = dataclasses.replace(request, cursor=page.cursor)
                flying = asyncio.ensure_future(target.backend.send(request))
            yield page
            if not page.cursor:
                return
    finally:
        if not flying.done():
            flying.cancel()
        await asyncio.gather(flying, return_exceptions=True)


async def tables(target: Target, path: str) -> AsyncGenerator[EntryTable, None]:
    """A directory page by page, by columns. Raises `ProtocolViolation` past `MAX_ROWS`."""
    request, rows = ListTable(path=path, limit=MAX_NAMES), 0
    async with contextlib.aclosing(_read_ahead(target, request)) as pages:
        async for page in pages:
            rows += len(page.names)
            if rows > MAX_ROWS:
                raise ProtocolViolation(f"the agent's answer to {request.name} does not end")
            yield page


async def directory(target: Target, path: str) -> AsyncGenerator[list[Entry], None]:
    """The same as entries."""
    async with contextlib.aclosing(tables(target, path)) as pages:
        async for page in pages:
            yield entries_of(page)


def entries_of(page: EntryTable) -> list[Entry]:
    """The columns as entries. They are filled in as a whole: field by field takes three times as long."""
    count = len(page.names)
    columns = [
        values if len(values) == count else itertools.repeat(values[0], count)
        for values in (getattr(page, column) for column in COLUMNS)
        if count
    ]
    targets, errors = dict(page.targets), dict(page.errors)
    entries = []
    for place, (name, *facts) in enumerate(zip(page.names, *columns)):
        mode, size, uid, gid, mtime, inode, device, links, blocks, number = facts
        if not mode:
            entries.append(Entry(name, "unknown", error=errors.get(place)))
            continue
        kind = ENTRY_KINDS.get(mode & 0o170000, "unknown")
        entry = object.__new__(Entry)
        entry.__dict__.update(
            name=name, kind=kind, size_bytes=size, mode=mode & 0o7777, uid=uid, gid=gid, mtime_ns=mtime,
            inode=inode, device=device, links=links, allocated_bytes=blocks * 512, link_target=None,
            device_number=None, error=None,
        )  # fmt: skip
        if kind in ("char", "block"):
            entry.__dict__["device_number"] = f"{os.major(number)}:{os.minor(number)}"
        entries.append(entry)
    for place, target in targets.items():
        entries[place].__dict__["link_target"] = target
    for place, error in errors.items():
        entries[place].__dict__["error"] = error
    return entries


MAX_STANDSTILL = 240
"""Empty pages without any progress, in a row: two minutes of an honest agent, which then reads a device
that gives nothing."""


async def search_pages(
    target: Target, request: Paged[P], tell: Callable[[Progress], None] = lambda progress: None
) -> AsyncGenerator[P, None]:
    """Every page, the next one asked for while the caller is busy with this one.

    Raises `ProtocolViolation` when an agent goes on for ever without getting anywhere.
    """
    seen, standstill = Progress(), 0
    async with contextlib.aclosing(_read_ahead(target, request)) as pages:
        page: Any
        async for page in pages:
            moved = page.items or page.progress != seen
            seen, standstill = page.progress, 0 if moved else standstill + 1
            if standstill > MAX_STANDSTILL:
                raise ProtocolViolation(f"the agent's answer to {request.name} does not end")
            tell(seen)
            yield page
