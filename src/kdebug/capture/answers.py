"""Answers in a bundle: the recording backend puts them in, the offline backend takes them out.

A record is one JSON document: the request, when it was answered, and the answer or the error. They stand
in target/, under names that a person can guess (target/processes.json, target/fds-17.json).
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional, TypeVar

from kdebug.capture.questions import question, rows_name
from kdebug.errors import KdebugError, from_kind
from kdebug.protocol import codec
from kdebug.protocol.requests import FollowFile, OpenTarget, Paged, ReadFile, Request
from kdebug.protocol.system import TargetInfo
from kdebug.target.backend import Backend

R = TypeVar("R")

FOLDER = "target/"
_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")
MAX_WORDS = 60
"""Characters of a member's name that come from what was asked."""


@dataclass
class Answer:
    """One question with its answer, at one time."""

    question: str
    request: dict[str, Any]
    at: float
    """Unix time of the client, when the answer was complete."""
    answer: Optional[dict[str, Any]] = None
    error: Optional[dict[str, Any]] = None

    def document(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if value is not None}

    def problem(self) -> KdebugError:
        """The error as it was raised then."""
        fields = self.error or {}
        kind, what, why, step = (str(fields.get(key, "")) for key in ("kind", "what", "why", "next_step"))
        number = fields.get("errno")
        return from_kind(kind, what, why, step, number if isinstance(number, int) else None)


def opening(info: TargetInfo) -> Answer:
    """What the target is, as the answer to the request that every session begins with."""
    request = OpenTarget(pid=info.pid)
    return _answered(question(request, info.pid), request, info)


def member_name(answer: Answer, taken: Callable[[str], bool]) -> str:
    """Where an answer stands: by what was asked, numbered where it was asked before (samples)."""
    about = "-".join(
        str(value).strip("/") for key, value in sorted(answer.request.items())
        if key in ("pid", "path") and value
    )  # fmt: skip
    words = _PLAIN.sub("_", about)[:MAX_WORDS].strip("._")
    if words != about:
        words += "-" + hashlib.sha256(answer.question.encode()).hexdigest()[:8]
    name = str(answer.request["request"]) + (f"-{words}" if words else "")
    candidate, number = f"{FOLDER}{name}.json", 1
    while taken(candidate):
        number += 1
        candidate = f"{FOLDER}{name}.{number:04}.json"
    return candidate


class RecordingBackend:
    """Hands every request on, and every whole answer to `keep`. File contents are not recorded here: they
    are streamed by who reads them."""

    def __init__(self, inner: Backend, keep: Callable[[Answer], None], pid: int = 0) -> None:
        self._inner = inner
        self._keep = keep
        self._listings: dict[str, list[Any]] = {}
        """Rows of listings whose last page has not come."""
        self.pid = pid
        """The target's: for questions that say 0."""

    async def send(self, request: Request[R]) -> R:
        try:
            answer = await self._inner.send(request)
        except KdebugError as error:
            self._listings.pop(question(request, self.pid), None)
            if not isinstance(request, (ReadFile, FollowFile)) and not request.mutates:
                self._keep(self._failed(request, error))
            raise
        if isinstance(request, OpenTarget):
            self.pid = answer.pid  # type: ignore[attr-defined]
        if not isinstance(request, (ReadFile, FollowFile)) and not request.mutates:
            self._gather(request, answer)
        return answer

    def _gather(self, request: Request[R], answer: R) -> None:
        if getattr(request, "since", 0):
            return  # only what changed: no answer by itself
        name, key = rows_name(answer), question(request, self.pid)
        if not isinstance(request, Paged) or name is None:
            self._keep(_answered(key, request, answer))
            return
        if not request.cursor:
            self._listings[key] = []
        rows = self._listings.get(key)
        if rows is None:
            return  # the beginning of this listing was not seen
        rows += getattr(answer, name)
        if not getattr(answer, "cursor", ""):
            del self._listings[key]
            whole = dataclasses.replace(answer, **{name: tuple(rows)})  # type: ignore[type-var]
            self._keep(_answered(key, request, whole))

    def _failed(self, request: Request[Any], error: KdebugError) -> Answer:
        told = {
            "kind": error.kind, "what": error.what, "why": error.why, "next_step": error.next_step,
            "errno": error.errno,
        }  # fmt: skip
        return Answer(question(request, self.pid), _plain(request), time.time(), error=told)

    async def close(self) -> None:
        await self._inner.close()


def _answered(asked: str, request: Request[Any], answer: Any) -> Answer:
    return Answer(asked, _plain(request), time.time(), codec.to_plain(answer))


def _plain(request: Request[Any]) -> dict[str, Any]:
    fields = {key: value for key, value in codec.to_plain(request).items() if key != "cursor"}
    return {"request": request.name, **fields}
