"""Handlers of the searches: loaded at the first of them, since most sessions search nothing."""

from __future__ import annotations

import itertools
import time

from kdebug import threads
from kdebug.agent.cursors import PAGE_BYTES, Cursor, estimated_bytes
from kdebug.agent.dispatch import handles
from kdebug.agent.session import Session
from kdebug.annotations import Any, Callable, Iterator, Protocol
from kdebug.errors import Failed
from kdebug.protocol import grep, search
from kdebug.protocol import requests as ask
from kdebug.protocol.record import Record, replace


class Search(Protocol):
    """What works its way through a tree."""

    def rows(self) -> Iterator[Any]:
        """Rows, and None wherever it may be stopped."""

    def progress(self, done: bool) -> search.Progress:
        """How far it has come."""


class SearchCursor(Cursor):
    """Pages that end by time, too."""

    def timed_page(self, limit: int, cancelled: threads.Event) -> tuple[list[Any], bool]:
        """Up to `limit` rows, fewer or none when `PAGE_SECONDS` have passed; and whether more follow."""
        deadline = time.monotonic() + search.PAGE_SECONDS
        rows: list[Any] = []
        weight = 0
        for row in itertools.chain(self._take_ahead(), self._rows):
            if row is None:
                if cancelled.is_set():
                    raise Failed("the request was cancelled")
                if time.monotonic() > deadline:
                    return rows, True
                continue
            weight += row_bytes(row)
            if rows and (len(rows) == limit or weight > PAGE_BYTES):
                self._ahead = [row]
                return rows, True
            rows.append(row)
        return rows, False


def row_bytes(row: Any) -> int:
    """An upper bound for a row as JSON, with the records in it."""
    inner = [value for value in vars(row).values() if isinstance(value, Record)]
    return estimated_bytes(row) + sum(map(estimated_bytes, inner))


def _answer(
    session: Session, request: ask.Paged[Any], start: Callable[[], Search], cancelled: threads.Event
) -> Any:
    """The next page of a search; its cursor is dropped when it fails or is cancelled."""
    if request.cursor:
        cursor = session.cursors.take(request.cursor, request.name)
    else:
        begun = start()
        cursor = SearchCursor(request.name, begun.rows())
        cursor.state = begun
    assert isinstance(cursor, SearchCursor)
    stop = getattr(cursor.state, "stop", None)
    if stop is not None:
        stop.current = cancelled
    try:
        rows, more = cursor.timed_page(request.limit, cancelled)
    except BaseException:
        cursor.close()
        raise
    progress = cursor.state.progress(not more)
    return request.result(tuple(rows), session.cursors.put(cursor) if more else "", progress)


@handles(search.ListTable)
def _list_table(session: Session, request: search.ListTable, cancelled: threads.Event) -> search.EntryTable:
    from kdebug.probe import table

    if request.cursor:
        cursor = session.cursors.take(request.cursor, request.name)
    else:
        cursor = Cursor(request.name, table.pages(session.root(), request.path, request.limit))
    row, more = cursor.next_row()
    page: search.EntryTable = row
    return replace(page, cursor=session.cursors.put(cursor)) if more else page


@handles(search.Find)
def _find(session: Session, request: search.Find, cancelled: threads.Event) -> search.FoundPage:
    from kdebug.probe.find import FindSearch

    page: search.FoundPage = _answer(
        session, request, lambda: FindSearch(session.root(), request), cancelled
    )
    return page


@handles(grep.Grep)
def _grep(session: Session, request: grep.Grep, cancelled: threads.Event) -> grep.GrepPage:
    from kdebug.probe.grep import GrepSearch

    page: grep.GrepPage = _answer(
        session, request, lambda: GrepSearch(session.root(), request, session.proc), cancelled
    )
    return page


@handles(search.ListDeleted)
def _deleted(session: Session, request: search.ListDeleted, cancelled: threads.Event) -> search.HeldPage:
    from kdebug.probe.held import HeldSearch

    pid = session.require_target()
    page: search.HeldPage = _answer(session, request, lambda: HeldSearch(session.proc, pid), cancelled)
    return page


@handles(search.DiskUsage)
def _usage(session: Session, request: search.DiskUsage, cancelled: threads.Event) -> search.UsagePage:
    from kdebug.probe.usage import UsageSearch

    page: search.UsagePage = _answer(
        session, request, lambda: UsageSearch(session.root(), request), cancelled
    )
    return page


@handles(search.Checksum)
def _checksum(session: Session, request: search.Checksum, cancelled: threads.Event) -> search.DigestPage:
    from kdebug.probe.checksum import ChecksumSearch

    page: search.DigestPage = _answer(
        session, request, lambda: ChecksumSearch(session.root(), request, session.proc), cancelled
    )
    return page
