"""What was seen before a capture began: the answers of a watch's last minutes and its own account."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kdebug.capture.answers import Answer
from kdebug.capture.sink import SUCCESS
from kdebug.capture.work import Work
from kdebug.protocol.requests import OpenTarget

STEP = "black box"
SHARE = 0.25
"""Of the capture's time and bytes: the target may be dying meanwhile."""
ACCOUNT = "watch.json"
"""The member that says what was waited for, what was seen, and what was missed."""


@dataclass(frozen=True)
class Earlier:
    answers: Iterable[Answer]
    """Newest first; kept as samples are, so that the offline reader finds them by their times."""
    account: dict[str, Any]
    known: Sequence[tuple[Any, str]] = ()
    """(document, place) of environments that redaction learns from: whoever had them may be gone."""

    async def keep(self, work: Work) -> None:
        """Into the bundle. Raises `CannotWrite`."""
        sink, now = work.sink, time.time()
        artifact = sink.artifact(STEP, "what was watched")
        sink.json(artifact, ACCOUNT, self.account)
        artifact.outcome = SUCCESS
        ends = time.monotonic() + work.recipe.deadline * SHARE
        for answer in self.answers:
            if answer.request.get("request") == OpenTarget.name and work.target is not None:
                continue  # the capture has asked that itself
            if why := _refusal(work, ends):
                left = sink.artifact(STEP, f"what was seen more than {now - answer.at:.1f} s before")
                left.reason, left.counts = why, False
                return
            artifact = sink.artifact(
                STEP, f"{answer.request.get('request')}, {now - answer.at:.1f} s before"
            )
            sink.answer(artifact, answer)
            artifact.outcome = SUCCESS
            await asyncio.sleep(0)


def _refusal(work: Work, ends: float) -> str:
    """Why nothing older is kept; "" while it may be."""
    if work.sink.taken_bytes >= work.recipe.max_bytes * SHARE:
        return f"{SHARE:.0%} of the capture's {work.recipe.max_bytes} bytes are used"
    if time.monotonic() >= ends:
        return f"{SHARE:.0%} of the capture's {work.recipe.deadline:g} s are used"
    return ""
