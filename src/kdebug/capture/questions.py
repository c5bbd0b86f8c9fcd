"""What a request asks, apart from how its answer is cut into pages: the key under which answers are kept.

`kdebug ps` asks for pages of 400 and `ls` for 1,000; a capture holds the whole answer once, and every
way to ask for it is answered from there.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Optional, TypeVar

from kdebug.errors import ProtocolViolation
from kdebug.protocol import codec
from kdebug.protocol import requests as ask
from kdebug.protocol.requests import Paged, Request

R = TypeVar("R")
_line = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode

_NOT_THE_QUESTION = ("cursor", "limit", "since", "handle", "fds", "sizes")
"""Fields that say how the answer comes, or ask for less of it."""


def question(request: Request[Any], pid: int = 0) -> str:
    """One line of JSON: the request's name and what it is about. `pid` is what 0 stands for."""
    fields = {key: value for key, value in codec.to_plain(request).items() if key not in _NOT_THE_QUESTION}
    if "pid" in fields:
        fields["pid"] = fields["pid"] or pid
        fields.pop("start_ticks", None)
    if isinstance(request, ask.ListSockets):
        fields.pop("families")
    return _line([request.name, fields])


def rows_name(answer: Any) -> Optional[str]:
    """The field that holds the rows of a paged answer; None where there are none."""
    return next((name for name in ("items", "entries") if hasattr(answer, name)), None)


def page_of(request: Request[R], whole: R) -> R:
    """The page of a whole answer that is asked for. Raises `ProtocolViolation` for a strange cursor."""
    name = rows_name(whole)
    if not isinstance(request, Paged) or name is None:
        return whole
    rows = getattr(whole, name)
    if isinstance(request, ask.ListSockets):
        rows = tuple(row for row in rows if row.family in request.families)
    if request.cursor and not request.cursor.isdigit():
        raise ProtocolViolation("a listing of a bundle cannot be continued with this cursor")
    begin = int(request.cursor or 0)
    end = begin + request.limit
    changes = {name: rows[begin:end], "cursor": str(end) if end < len(rows) else ""}
    page: R = dataclasses.replace(whole, **changes)  # type: ignore[type-var]
    return page
