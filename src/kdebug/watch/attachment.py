"""The target of a watch for as long as it lasts: attached, looked at, lost, attached again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Optional

from kdebug.capture.answers import Answer, opening
from kdebug.capture.runner import LEARNING_SECONDS
from kdebug.capture.steps_target import of_target
from kdebug.capturing import Opened, opened
from kdebug.errors import AccessDenied, KdebugError, NotFound, UsageError
from kdebug.expression import OWNERS, TargetExpression
from kdebug.open import OpenOptions
from kdebug.protocol import codec
from kdebug.protocol.requests import MAX_PAGE, ListEnviron
from kdebug.target import Target
from kdebug.watch.blackbox import BlackBox
from kdebug.watch.condition import Number
from kdebug.watch.loglines import LogLines
from kdebug.watch.look import Looker

MAX_KNOWN = 64
"""Processes whose environments are remembered, so that redaction knows their secrets when they are gone."""


class Attachment:
    """`opened` with what a watch needs beside it; `close` ends it all."""

    def __init__(self, found: Opened, stack: contextlib.AsyncExitStack) -> None:
        self.found = found
        self._stack = stack
        self.looker: Optional[Looker] = None
        self.opening: Optional[Answer] = None
        """What the target is, for a capture that begins when it is gone."""
        self.known: list[tuple[Any, str]] = []
        self._lines: Optional[asyncio.Task[None]] = None

    @classmethod
    async def make(
        cls, expression: TargetExpression, options: OpenOptions, numbers: list[Number], box: BlackBox,
        lines: Optional[LogLines],
    ) -> Attachment:  # fmt: skip
        """Raises as `open_target`; a pod that cannot be entered has no `looker`."""
        stack = contextlib.AsyncExitStack()
        try:
            made = cls(await opened(expression, options, stack), stack)
            await made._begin(numbers, box, lines)
        except BaseException:
            await stack.aclose()
            raise
        return made

    async def _begin(self, numbers: list[Number], box: BlackBox, lines: Optional[LogLines]) -> None:
        target, pod = self.found.target, self.found.pod
        if target is not None:
            self.opening = opening(target.info)
            self.looker = Looker(target, numbers, box)
            self.known = await _environments(target)
        if lines is not None and pod is not None and self.found.cluster is not None:
            lines.wanted(pod)
            self._lines = asyncio.create_task(lines.run(self.found.cluster, pod), name="kdebug-watch-logs")

    def broken(self) -> Optional[BaseException]:
        """What ended the reading of logs, which has no end of its own."""
        if self._lines is None or not self._lines.done() or self._lines.cancelled():
            return None
        return self._lines.exception()

    async def close(self) -> None:
        if self._lines is not None:
            self._lines.cancel()
            await asyncio.gather(self._lines, return_exceptions=True)
        await self._stack.aclose()


async def _environments(target: Target) -> list[tuple[Any, str]]:
    """Best effort: what may not be read, or not soon, is nothing to learn from."""
    known: list[tuple[Any, str]] = []
    with contextlib.suppress(KdebugError, TimeoutError):
        async with asyncio.timeout(LEARNING_SECONDS):
            page = await target.processes(fds=False)
            for process in of_target(target.info, page.items)[:MAX_KNOWN]:
                with contextlib.suppress(KdebugError):
                    found = await target.backend.send(ListEnviron(pid=process.pid, limit=MAX_PAGE))
                    known.append((codec.to_plain(found), f"environ of {process.pid}"))
    return known


def is_final(error: KdebugError, expression: TargetExpression) -> bool:
    """Whether attaching again makes no sense: it is not there, it is refused, or it was asked wrongly."""
    if isinstance(error, UsageError) or expression.scheme not in OWNERS:
        return True
    named = expression.scheme == "pod" and bool(expression.value)
    return isinstance(error, AccessDenied) or (named and isinstance(error, NotFound))


def quieter(options: OpenOptions, note: Callable[[str], None]) -> OpenOptions:
    """Each remark once: attaching is tried again and again."""
    told: set[str] = set()

    def once(line: str) -> None:
        if line not in told:
            told.add(line)
            note(line)

    return replace(options, note=once)
