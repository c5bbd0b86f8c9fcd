"""Looks at a target until its conditions are met, and then captures what led to it and what is there.

It lives as long as it is let: a stream that breaks is opened again, a container that restarts is attached
to again, and what could not be seen meanwhile is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Optional, Protocol

from kdebug.capture.answers import Answer
from kdebug.capture.earlier import Earlier
from kdebug.capture.recipe import Recipe
from kdebug.capture.redaction import Redaction
from kdebug.capture.runner import INTERRUPTED_STATUS, Capture, CaptureOptions, Result
from kdebug.capture.sink import is_end
from kdebug.capture.work import Progress
from kdebug.capturing import SUFFIX, default_name
from kdebug.errors import AccessDenied, Failed, KdebugError, NotFound, TargetEnded
from kdebug.expression import OWNERS, TargetExpression
from kdebug.open import OpenOptions
from kdebug.units import age, rfc3339
from kdebug.watch.attachment import Attachment, is_final, quieter
from kdebug.watch.blackbox import BlackBox
from kdebug.watch.condition import Condition, LogMatch
from kdebug.watch.judge import Judge, Verdict
from kdebug.watch.loglines import LogLines
from kdebug.watch.podstate import ContainerState, container_state
from kdebug.watch.reading import Reading

PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds until attaching is tried again; the last one repeats."""
MAX_ATTACHED = 10
"""Times: each may leave another toolbox in the pod, and those cannot be removed."""
MAX_KNOWN = 256
"""Environments of instances that are gone, which redaction still learns from."""


@dataclass(frozen=True)
class Plan:
    conditions: tuple[Condition, ...]
    recipes: tuple[Recipe, ...]
    folder: str
    """Where the bundles go; it is there."""
    redaction: Callable[[], Redaction]
    every: float = 2.0
    most: int = 3
    """The watch ends after so many."""
    cooldown: float = 600.0
    ring_seconds: float = 300.0


@dataclass(frozen=True)
class Event:
    """Something that happened, for a line."""

    kind: str
    """watching, fired, captured, lost, attached, restarted, missed, note."""
    clock: float
    text: str
    fields: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return {"event": self.kind, "at": rfc3339(self.clock), "text": self.text, **self.fields}


class Listener(Protocol):
    """Who shows what a watch does."""

    def sample(self, reading: Reading, verdicts: Sequence[Verdict], fired: int) -> None: ...

    def event(self, event: Event) -> None: ...

    def progress(self, progress: Progress) -> None: ...


class Watch:
    """`run` once. `fired` and `results` say what came of it, also after it was cancelled."""

    def __init__(
        self, expression: TargetExpression, options: OpenOptions, plan: Plan, listener: Listener
    ) -> None:
        self.expression, self.plan, self.listener = expression, plan, listener
        self.fired = 0
        self.results: list[Result] = []
        self.problems: list[str] = []
        self._options = quieter(options, options.note)
        self._box = BlackBox(plan.ring_seconds)
        self._judges = [Judge(condition, plan.every) for condition in plan.conditions]
        self._numbers = [number for condition in plan.conditions for number in condition.numbers]
        self._wake = asyncio.Event()
        tests = [t for condition in plan.conditions for t in condition.tests if isinstance(t, LogMatch)]
        self._lines = LogLines(tests, self._wake.set, self._note) if tests else None
        self._attachment: Optional[Attachment] = None
        self._attached = 0
        self._known: list[tuple[Any, str]] = []
        self._opening: Optional[Answer] = None
        self._instance: tuple[Any, ...] = ()
        self._instances = 0
        self._state: Optional[ContainerState] = None
        self._failures = 0
        self._again_at = 0.0
        self._lost_at: Optional[float] = None
        self._silent_at: Optional[float] = None
        self._quiet_until = 0.0
        self._checked = False

    async def run(self) -> None:
        """Until it has fired as often as it may. Raises `KdebugError` when it cannot go on."""
        try:
            await self._attach()
            wanted = " or ".join(condition.text for condition in self.plan.conditions)
            self._event("watching", f"{str(self.expression).rstrip(':')}: {wanted}")
            while self.fired < self.plan.most:
                await self._turn()
        finally:
            await self._detach()

    async def _turn(self) -> None:
        began = time.monotonic()
        self._wake.clear()
        reading = Reading(began, time.time())
        await self._see_pod(reading)
        if self._attachment is None or self._attachment.looker is None:
            await self._attach_again()
        await self._see_target(reading)
        reading.lines = self._lines.take() if self._lines is not None else {}
        reading.instance = self._instances
        self._box.row(reading)
        verdicts = [judge.see(reading) for judge in self._judges]
        self.listener.sample(reading, verdicts, self.fired)
        await self._act(reading, verdicts)
        if self.fired < self.plan.most:
            await self._pause(began)

    async def _pause(self, began: float) -> None:
        """Until the next look is due, or a line of a log matched."""
        looker = self._attachment.looker if self._attachment is not None else None
        every = max(self.plan.every, looker.pause if looker is not None else 0.0)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), max(0.0, began + every - time.monotonic()))

    # Looking

    async def _see_pod(self, reading: Reading) -> None:
        attachment = self._attachment
        if attachment is None or attachment.found.pod is None or attachment.found.cluster is None:
            return
        if (broken := attachment.broken()) is not None:
            raise Failed("the logs cannot be followed", why=str(broken)) from broken
        try:
            pod = await attachment.found.cluster.refresh(attachment.found.pod)
        except NotFound as error:
            await self._lost(reading, error)
            return
        except KdebugError as error:
            reading.reasons["pod"] = str(error)
            return
        attachment.found.pod = pod
        self._take_state(reading, container_state(pod))

    def _take_state(self, reading: Reading, state: ContainerState) -> None:
        restarted = state.restarted_since(self._state)
        self._state, reading.ready = state, state.ready
        if restarted:
            reading.restarted = restarted
            self._event("restarted", restarted)

    async def _see_target(self, reading: Reading) -> None:
        looker = self._attachment.looker if self._attachment is not None else None
        if looker is None:
            return
        try:
            await looker.look(reading)
        except KdebugError as error:
            await self._unseen(reading, error)
            return
        if not self._checked:
            self._check(reading)
        if self._silent_at is not None:
            self._event("missed", f"nothing was seen for {age(reading.at - self._silent_at)}")
            self._silent_at = None

    async def _unseen(self, reading: Reading, error: KdebugError) -> None:
        """A look that failed: the target is lost, or it could not answer this time."""
        reading.values.clear()
        if isinstance(error, AccessDenied) and not self._checked:
            raise error
        if is_end(error) or isinstance(error, NotFound):
            await self._lost(reading, error)
        elif self._silent_at is None:
            self._silent_at = reading.at
            self._event("note", f"it could not be looked at: {error}")

    def _check(self, reading: Reading) -> None:
        """At the first look: whether every condition can be met at all. Raises `Failed`."""
        self._checked = True
        for condition in self.plan.conditions:
            for number in condition.numbers:
                what = f"{number.quantity} of limit" if number.of_limit else number.quantity
                known = reading.limits if number.of_limit else reading.values
                if number.path or number.quantity in known or (what == "cpu" and not number.of_limit):
                    continue
                raise Failed(
                    f"{condition.text!r} can never be met here",
                    why=reading.reasons.get(what, "it is not known"),
                    next_step="compare with a number, such as rss > 500MiB" if number.of_limit else "",
                )

    # The target comes and goes

    async def _lost(self, reading: Reading, error: KdebugError) -> None:
        self._event("lost", str(error))
        await self._detach()
        self._lost_at = reading.at
        self._again_at, self._failures = reading.at, 0
        if self.expression.scheme not in OWNERS:
            raise TargetEnded(error.what, why=error.why, next_step="there is nothing left to watch")

    async def _detach(self) -> None:
        attachment, self._attachment = self._attachment, None
        if attachment is not None:
            await attachment.close()

    async def _attach(self) -> None:
        self._attachment = made = await Attachment.make(
            self.expression, self._options, self._numbers, self._box, self._lines
        )
        self._known = [*made.known, *self._known][:MAX_KNOWN]
        self._opening = made.opening or self._opening
        target = made.found.target
        if made.found.pod is not None and self._state is None:
            self._state = container_state(made.found.pod)
        if target is None:
            return
        self._attached += 1
        instance = (target.place, target.info.pid, target.info.start_ticks, target.info.container)
        if instance != self._instance:
            self._instance, self._instances = instance, self._instances + 1

    async def _attach_again(self) -> None:
        now = time.monotonic()
        if now < self._again_at or not self._may_run():
            return
        if self._attached >= MAX_ATTACHED:
            raise Failed(
                f"{self.expression} was attached to {self._attached} times",
                why="it restarts again and again, and each time another toolbox would remain in the pod",
                next_step="`kdebug capture` takes what Kubernetes tells of it",
            )
        await self._detach()
        try:
            await self._attach()
        except KdebugError as error:
            if is_final(error, self.expression):
                raise
            self._later(now)
            return
        if self._attachment is not None and self._attachment.found.target is not None:
            self._attached_again(now)
        else:
            self._later(now)

    def _may_run(self) -> bool:
        """Whether there may be something to attach to: a container that does not run is only looked at."""
        return self._attachment is None or self._state is None or self._state.running

    def _later(self, now: float) -> None:
        self._again_at = now + PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1

    def _attached_again(self, now: float) -> None:
        self._failures = 0
        if self._lost_at is not None:
            away, self._lost_at = time.monotonic() - self._lost_at, None
            missed = int(away / self.plan.every)
            self._event("attached", f"attached again; {age(away)} were not seen", {"looks_missed": missed})

    # Conditions that are met

    async def _act(self, reading: Reading, verdicts: Sequence[Verdict]) -> None:
        if reading.at < self._quiet_until:
            return
        for judge, verdict in zip(self._judges, verdicts):
            if verdict.met:
                await self._fire(judge.condition, verdict)
                return

    async def _fire(self, condition: Condition, verdict: Verdict) -> None:
        self.fired += 1
        held = f" for {age(verdict.seconds)}" if verdict.seconds >= 1 else ""
        fields = {"condition": condition.text, "values": verdict.words, "number": self.fired}
        self._event("fired", f"{condition.text}: {verdict.words}{held}", fields)
        account = self._account(condition, verdict)
        for recipe in self.plan.recipes:
            await self._capture(recipe, account)
        self._quiet_until = time.monotonic() + self.plan.cooldown
        for judge in self._judges:
            judge.forget()

    def _account(self, condition: Condition, verdict: Verdict) -> dict[str, Any]:
        return {
            "format": 1, "target": str(self.expression),
            "conditions": [one.text for one in self.plan.conditions],
            "met": condition.text, "values": verdict.words, "held_seconds": round(verdict.seconds, 3),
            "fired_at": rfc3339(time.time()), "number": self.fired, "every_seconds": self.plan.every,
            **self._box.document(),
        }  # fmt: skip

    async def _capture(self, recipe: Recipe, account: dict[str, Any]) -> None:
        """One bundle. A disk that refuses ends no watch: it is told, and counts at the end."""
        found = self._attachment.found if self._attachment is not None else None
        name = default_name(f"{self.expression}-{recipe.name}-{self.fired}") + SUFFIX
        opening = [self._opening] if self._opening is not None else []
        earlier = Earlier(chain(opening, self._box.answers()), account, tuple(self._known))
        options = CaptureOptions(
            os.path.join(self.plan.folder, name), self.plan.redaction(), str(self.expression),
            self.listener.progress, found.problem if found is not None else None, earlier,
        )  # fmt: skip
        seen = (found.target, found.cluster, found.pod) if found is not None else (None, None, None)
        try:
            result = await Capture(recipe, options, *seen).run()
        except KdebugError as error:
            self.problems.append(str(error))
            self._event("note", f"nothing was captured: {error}")
            return
        self.results.append(result)
        told = {"bundle": result.path, "status": result.status, "problems": result.problems}
        self._event("captured", f"{result.path} ({recipe.name}, {result.status})", told)
        if result.status == INTERRUPTED_STATUS:
            raise asyncio.CancelledError

    # Telling

    def _note(self, text: str) -> None:
        self._event("note", text)

    def _event(self, kind: str, text: str, fields: Optional[dict[str, Any]] = None) -> None:
        clock = time.time()
        self._box.note(clock, f"{kind}: {text}")
        self.listener.event(Event(kind, clock, text, fields or {}))
