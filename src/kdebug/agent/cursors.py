"""Long answers in pages, computed as they are asked for.

A cursor holds the *generator* that makes the rows, not the rows: the memory of a listing of 100,000
entries is that of one page. A token works once, so a page can neither be lost nor doubled unnoticed.
"""

from __future__ import annotations

import itertools

from kdebug import threads
from kdebug.annotations import Any, Iterator
from kdebug.errors import Failed, UsageError

MAX_CURSORS = 32
"""Each may hold a descriptor. The one unused for longest goes first, and its reader is told."""
PAGE_BYTES = 1024 * 1024
"""Estimated JSON of a page: far below the cap of an answer even when every byte needs escaping."""
_ROW_OVERHEAD = 300


class Cursor:
    """One running listing: its rows, and the row that was read ahead to know whether more follow."""

    def __init__(self, request_name: str, rows: Iterator[Any]) -> None:
        self.request_name = request_name
        self._rows = rows
        self._ahead: list[Any] = []
        self.state: Any = None
        """What the caller wants to keep between pages (a pass, counters)."""

    def page(self, limit: int) -> tuple[list[Any], bool]:
        """Up to `limit` rows that fit a page, and whether more follow."""
        rows: list[Any] = []
        weight = 0
        for row in itertools.chain(self._take_ahead(), self._rows):
            weight += estimated_bytes(row)
            if rows and (len(rows) == limit or weight > PAGE_BYTES):
                self._ahead = [row]
                return rows, True
            rows.append(row)
        return rows, False

    def next_row(self) -> Any:
        """For rows that are pages of their own."""
        return next(self._rows)

    def _take_ahead(self) -> list[Any]:
        ahead, self._ahead = self._ahead, []
        return ahead

    def close(self) -> None:
        close = getattr(self._rows, "close", None)
        if close is not None:
            close()


def estimated_bytes(row: Any) -> int:
    """An upper bound for the strings of a row as JSON, where one byte may become six characters."""
    size = _ROW_OVERHEAD
    for value in vars(row).values():
        if isinstance(value, str):
            size += 6 * len(value)
        elif isinstance(value, (tuple, dict)):
            size += sum(6 * len(item) if isinstance(item, str) else 12 for item in value)
    return size


class Cursors:
    """The cursors of one session, by token. Thread-safe: a cursor is out of the table while in use."""

    def __init__(self) -> None:
        self._lock = threads.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[str, Cursor] = {}

    def take(self, token: str, request_name: str) -> Cursor:
        """The cursor that `token` names; it is the caller's until `put` gives it a new token."""
        with self._lock:
            cursor = self._waiting.get(token)
            if cursor is None or cursor.request_name != request_name:
                raise self._unknown(token)
            return self._waiting.pop(token)

    @staticmethod
    def _unknown(token: str) -> Exception:
        if not token.isdigit():
            return UsageError(f"{token!r} is not a cursor of this session")
        return Failed(
            "the listing cannot be continued",
            why="its cursor was used before, or dropped because too many listings were open",
            next_step="start the listing again",
        )

    def put(self, cursor: Cursor) -> str:
        """Keep `cursor` for its next page; returns the token."""
        with self._lock:
            token = str(next(self._numbers))
            self._waiting[token] = cursor
            dropped = [
                self._waiting.pop(next(iter(self._waiting)))
                for _ in range(len(self._waiting) - MAX_CURSORS)
            ]
        for old in dropped:
            old.close()
        return token

    def close(self) -> None:
        """Drop every listing, with the descriptors it holds."""
        with self._lock:
            cursors = list(self._waiting.values())
            self._waiting.clear()
        for cursor in cursors:
            cursor.close()
