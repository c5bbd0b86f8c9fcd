"""What was seen before a capture began: the answers of a watch's last minutes and its own account."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kdebug.capture.answers import Answer
from kdebug.capture.sink import NOT_TRIED, SUCCESS
from kdebug.capture.work import Work
from kdebug.protocol.requests import OpenTarget

STEP = "black box"
ACCOUNT = "watch.json"
"""The member that says what was waited for, what was seen, and what was missed."""


@dataclass(frozen=True)
class Earlier:
    answers: Iterable[Answer]
    """Oldest first; kept as samples are, so that the offline reader finds them by their times."""
    account: dict[str, Any]
    known: Sequence[tuple[Any, str]] = ()
    """(document, place) of environments that redaction learns from: whoever had them may be gone."""

    async def keep(self, work: Work) -> None:
        """Into the bundle. Raises `CannotWrite`."""
        sink, now = work.sink, time.time()
        artifact = sink.artifact(STEP, "what was watched")
        sink.json(artifact, ACCOUNT, self.account)
        artifact.outcome = SUCCESS
        for answer in self.answers:
            if answer.request.get("request") == OpenTarget.name and work.target is not None:
                continue  # the capture has asked that itself
            self._keep(work, answer, now)
            await asyncio.sleep(0)

    def _keep(self, work: Work, answer: Answer, now: float) -> None:
        sink = work.sink
        artifact = sink.artifact(STEP, f"{answer.request.get('request')}, {now - answer.at:.1f} s before")
        if sink.taken_bytes >= work.recipe.max_bytes:
            artifact.outcome = NOT_TRIED
            artifact.reason = f"the capture's {work.recipe.max_bytes} bytes are used"
            return
        sink.answer(artifact, answer)
        artifact.outcome = SUCCESS
