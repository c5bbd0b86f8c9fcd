"""One target over its whole life in the UI: opened, asked, lost, found again, opened anew.

Widgets ask through `Session.ask`, so that one place knows what is loading and for how long, whether the
connection stands, and since when what is on the screen is old. What was read stays on the screen; only
its age changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from enum import Enum
from typing import Optional, TypeVar

from kdebug.errors import ConnectionLost, Failed, KdebugError, ProtocolViolation, TargetEnded, TargetLost
from kdebug.expression import TargetExpression
from kdebug.target import Target
from kdebug.target.options import OpenOptions
from kdebug.tui.tasks import Tasks

T = TypeVar("T")
Opener = Callable[[TargetExpression, OpenOptions], contextlib.AbstractAsyncContextManager[Target]]

BACKOFF_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Between tries to reach the toolbox again; the last one repeats."""


class State(Enum):
    """How the session stands, in the word that the header shows."""

    OPENING = "attaching"
    LIVE = "connected"
    LOST = "connection lost"
    ENDED = "target ended"
    CLOSED = "not attached"


class Session:
    """The only holder of a `Target` in the UI."""

    def __init__(self, expression: TargetExpression, options: OpenOptions, opener: Opener) -> None:
        self.expression = expression
        self.options = options
        self._opener = opener
        self._stack = contextlib.AsyncExitStack()
        self._reconnecting: Optional[asyncio.Task[None]] = None
        self.target: Optional[Target] = None
        self.state = State.CLOSED
        self.since = time.monotonic()
        """When `state` began."""
        self.problem: Optional[KdebugError] = None
        """Why it is not LIVE."""
        self.heard = 0.0
        """When the agent last answered (monotonic): the age of everything on the screen."""
        self.steps: list[tuple[float, str]] = []
        """(seconds since the opening began, what was done): the account of the attach."""
        self.notes: list[str] = []
        """What the user must know: what was created, what is missing."""
        self.actions: list[str] = []
        """What was changed in the target, for the note at leaving."""
        self.tasks = Tasks()
        self.pending: dict[int, tuple[str, float]] = {}
        """What is being waited for, and since when (monotonic)."""
        self._serial = 0
        self.generation = 0
        """How often a target was opened: what an older one answered belongs to the old instance."""
        self.changed: Callable[[], None] = lambda: None
        """Called whenever something above is different."""

    @property
    def read_only(self) -> bool:
        return self.options.read_only or bool(self.target and self.target.info.read_only)

    async def open(self) -> Target:
        """Attach. Raises what `open_target` raises; then the state is CLOSED and `problem` says why."""
        await self._release()
        began = time.monotonic()
        self.steps, self.notes = [], []

        def step(line: str) -> None:
            self.steps.append((time.monotonic() - began, line))
            self.changed()

        def note(line: str) -> None:
            self.notes.append(line)
            step(line)

        self._become(State.OPENING)
        try:
            target = await self._stack.enter_async_context(
                self._opener(self.expression, replace(self.options, note=note, step=step))
            )
        except KdebugError as error:
            self._become(State.CLOSED, error)
            raise
        except BaseException:
            self._become(State.CLOSED)
            raise
        self.target = target
        self.generation += 1
        self._alive()
        return target

    async def ask(self, what: str, question: Callable[[Target], Awaitable[T]]) -> T:
        """The answer; raises `KdebugError`. `what` is shown while it is waited for: "the processes"."""
        target = self.target
        if target is None:
            raise self.problem or Failed("not attached")
        self._serial += 1
        serial = self._serial
        self.pending[serial] = (what, time.monotonic())
        try:
            answer = await question(target)
        except (ConnectionLost, TargetEnded) as error:
            if target is self.target:
                self._lost(error)
            raise
        finally:
            del self.pending[serial]
        if target is self.target:
            self._alive()
        return answer

    def did(self, what: str) -> None:
        """Something was changed in the target: it belongs into the account."""
        self.actions.append(what)

    def waiting_for(self) -> tuple[str, float]:
        """What has been waited for longest, and for how many seconds; ("", 0) for nothing."""
        if not self.pending:
            return "", 0.0
        what, since = min(self.pending.values(), key=lambda entry: entry[1])
        return what, time.monotonic() - since

    def _alive(self) -> None:
        self.heard = time.monotonic()
        if self.state is not State.LIVE:
            self._become(State.LIVE)

    def _lost(self, error: KdebugError) -> None:
        ended = isinstance(error, (TargetEnded, TargetLost))
        if self.state in (State.ENDED, State.CLOSED):
            return
        self._become(State.ENDED if ended else State.LOST, error)
        if ended or isinstance(error, ProtocolViolation):
            return  # nobody to find again, or somebody who is not asked again
        if self._reconnecting is None or self._reconnecting.done():
            self._reconnecting = asyncio.create_task(self._reconnect(), name="kdebug-ui-reconnect")

    async def _reconnect(self) -> None:
        """Ask a small question until it is answered; the backend reaches for the same toolbox each time."""
        attempt = 0
        while self.state is State.LOST and self.target is not None:
            await asyncio.sleep(BACKOFF_SECONDS[min(attempt, len(BACKOFF_SECONDS) - 1)])
            attempt += 1
            target = self.target
            if target is None:
                return
            try:
                await target.agent()
            except KdebugError as error:
                if target is self.target and self.state is State.LOST:
                    ended = isinstance(error, (TargetEnded, TargetLost))
                    self._become(State.ENDED if ended else State.LOST, error, keep_since=not ended)
            else:
                if target is self.target:
                    self._alive()

    def _become(
        self, state: State, problem: Optional[KdebugError] = None, keep_since: bool = False
    ) -> None:
        self.state, self.problem = state, problem
        if not keep_since:
            self.since = time.monotonic()
        self.changed()

    async def close(self) -> None:
        """Let go of the target; copies that still run are cancelled. Idempotent."""
        await self.tasks.cancel_all()
        await self._release()
        self._become(State.CLOSED)

    async def _release(self) -> None:
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.gather(self._reconnecting, return_exceptions=True)
            self._reconnecting = None
        self.target = None
        stack, self._stack = self._stack, contextlib.AsyncExitStack()
        with contextlib.suppress(KdebugError):
            await stack.aclose()
