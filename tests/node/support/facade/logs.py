"""Container logs, from the files the runtime writes, as `kubectl logs` asks for them."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from . import errors

POLL_SECONDS = 0.05
"""Between looks at a file that is followed."""


@dataclass(frozen=True)
class Wanted:
    follow: bool
    previous: bool
    timestamps: bool
    tail: int | None
    limit: int | None
    since: datetime.datetime | None

    @classmethod
    def of(cls, query: dict[str, str]) -> Wanted:
        def yes(key: str) -> bool:
            return query.get(key) in ("true", "1")

        def number(key: str) -> int | None:
            return int(query[key]) if query.get(key) else None

        since = None
        if seconds := number("sinceSeconds"):
            since = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=seconds)
        elif moment := query.get("sinceTime"):
            since = datetime.datetime.fromisoformat(moment.replace("Z", "+00:00"))
        tail, limit = number("tailLines"), number("limitBytes")
        if limit is not None and limit < 1:
            raise errors.bad_request("limitBytes must be greater than 0")
        return cls(yes("follow"), yes("previous"), yes("timestamps"), tail, limit, since)


@dataclass(frozen=True)
class Line:
    when: str
    text: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Line:
        """`2024-01-01T00:00:00.000000000Z stdout F text`; a partial line (P) has no end of its own."""
        when, _stream, tag, text = raw.split(b" ", 3)
        return cls(when.decode(), text if tag.startswith(b"P") else text + b"\n")

    def shown(self, timestamps: bool) -> bytes:
        return self.when.encode() + b" " + self.text if timestamps else self.text

    def is_since(self, since: datetime.datetime) -> bool:
        moment, _, rest = self.when.partition(".")
        digits = "".join(character for character in rest[:9] if character.isdigit())[:6].ljust(6, "0")
        zone = "+00:00" if rest.endswith("Z") else rest[-6:]
        return datetime.datetime.fromisoformat(f"{moment}.{digits}{zone}") >= since


async def read(path: Path, wanted: Wanted, ended: Callable[[], bool]) -> AsyncIterator[bytes]:
    """The log's text. A followed log ends when `ended` says so of its container, and all was read."""
    left = wanted.limit
    with path.open("rb") as file:
        *whole, partial = file.read().split(b"\n")
        first = _selected([Line.parse(raw) for raw in whole], wanted)
        while True:
            for line in first:
                shown = line.shown(wanted.timestamps)
                yield shown if left is None else shown[:left]
                if left is not None and (left := left - len(shown)) <= 0:
                    return
            if not wanted.follow:
                return
            was_over = ended()
            new = file.read()
            if not new and was_over:
                return
            *whole, partial = (partial + new).split(b"\n")
            first = [Line.parse(raw) for raw in whole]
            if not new:
                await asyncio.sleep(POLL_SECONDS)


def _selected(lines: list[Line], wanted: Wanted) -> list[Line]:
    if wanted.since is not None:
        lines = [line for line in lines if line.is_since(wanted.since)]
    if wanted.tail is not None:
        lines = lines[-wanted.tail :] if wanted.tail else []
    return lines
