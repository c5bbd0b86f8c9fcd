"""From a target expression to a bundle: what the command line and the UI call.

A pod that cannot be entered is captured as far as Kubernetes alone can tell; several pods become a folder
of bundles with an index.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from kdebug.capture.delivery import Delivered, Delivery
from kdebug.capture.plan import PlannedStep, looking, plan
from kdebug.capture.recipe import Recipe
from kdebug.capture.redaction import Redaction
from kdebug.capture.runner import Capture, CaptureOptions, Result
from kdebug.capture.work import Progress
from kdebug.errors import KdebugError, UsageError, from_os_error
from kdebug.expression import OWNERS, TargetExpression
from kdebug.open import OpenOptions, open_cluster, open_target
from kdebug.target import Target
from kdebug.target.cluster import Cluster, PodRef
from kdebug.units import rfc3339

PODS_AT_A_TIME = 10
"""Most of a capture waits for the pod and between samples; the memory is that of the largest answers."""
SUFFIX = ".kdebug.tar.gz"
_PLAIN = re.compile(r"[^A-Za-z0-9.-]+")
Tell = Callable[[Progress], None]


def default_name(label: str) -> str:
    """kdebug-web-0-20260102T030405Z.kdebug.tar.gz"""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    words = _PLAIN.sub("-", label).strip("-.")[:80] or "target"
    return f"kdebug-{words}-{stamp}"


@dataclass
class Opened:
    """What a capture works on; at least one of target and pod is there."""

    target: Optional[Target] = None
    cluster: Optional[Cluster] = None
    pod: Optional[PodRef] = None
    problem: Optional[KdebugError] = None
    """Why the pod could not be entered."""


async def opened(
    expression: TargetExpression, options: OpenOptions, stack: contextlib.AsyncExitStack
) -> Opened:
    """Raises as `open_target` where there is nothing to take at all."""
    if expression.scheme not in OWNERS:
        return Opened(await stack.enter_async_context(open_target(expression, options)))
    notes: list[str] = []

    def once(line: str) -> None:
        # The pod is chosen by its cluster and again at the attach, with the same remarks.
        if line not in notes:
            notes.append(line)
            options.note(line)

    options = replace(options, note=once)
    cluster = await stack.enter_async_context(open_cluster(options))
    found = Opened(cluster=cluster, pod=await cluster.choose(expression))
    assert found.pod is not None
    pod = replace(options.pod, container=found.pod.container, selector="")
    one = TargetExpression("pod", found.pod.name)
    try:
        found.target = await stack.enter_async_context(open_target(one, replace(options, pod=pod)))
    except UsageError:
        raise
    except KdebugError as error:
        found.problem = error
        once(f"only what Kubernetes tells is taken: {error}")
    return found


async def capture(
    expression: TargetExpression,
    options: OpenOptions,
    recipe: Recipe,
    path: str,
    redaction: Redaction,
    tell: Tell = lambda progress: None,
) -> Result:
    """One target into one bundle."""
    async with contextlib.AsyncExitStack() as stack:
        found = await opened(expression, options, stack)
        return await capture_opened(found, str(expression), recipe, path, redaction, tell)


async def capture_opened(
    found: Opened, expression: str, recipe: Recipe, path: str, redaction: Redaction, tell: Tell
) -> Result:
    """The same of what is open already, and stays so."""
    options = CaptureOptions(path, redaction, expression, tell, found.problem)
    return await Capture(recipe, options, found.target, found.cluster, found.pod).run()


async def planned(found: Opened, recipe: Recipe) -> list[PlannedStep]:
    """What it would take and cost; takes nothing."""
    work = looking(recipe, found.target, found.cluster, found.pod)
    work.gone = found.problem
    return await plan(recipe, work)


@dataclass
class PodState:
    """One of several, for the table that shows how far it is."""

    pod: str
    state: str = "waiting"
    """waiting, attaching, capturing, or the status of its bundle, or failed."""
    artifacts: int = 0
    taken_bytes: int = 0
    path: str = ""
    """Of the bundle, where this machine has it."""
    url: str = ""
    """Where a store has it."""
    problem: str = ""
    delivered: bool = True
    """False: it was to go elsewhere, and is here still."""
    result: Optional[Result] = field(default=None, repr=False)

    def document(self) -> dict[str, Any]:
        row = {k: v for k, v in vars(self).items() if k not in ("result", "path")}
        row["bundle"] = os.path.basename(self.path or self.url)
        return row | {"problems": self.result.problems if self.result else [self.problem]}


class Fleet:
    """Several pods at a time, bounded; one that fails takes nothing from the others."""

    def __init__(
        self,
        pods: Sequence[PodRef],
        options: OpenOptions,
        recipe: Recipe,
        folder: str,
        redaction: Callable[[], Redaction],
        tell: Callable[[Sequence[PodState]], None] = lambda states: None,
        delivery: Optional[Delivery] = None,
    ) -> None:
        self.pods, self.options, self.recipe, self.folder = pods, options, recipe, folder
        self.redaction = redaction
        self.states = [PodState(pod.name) for pod in pods]
        self.delivery = (delivery or Delivery()).inside(os.path.basename(folder.rstrip("/")))
        self.remark = ""
        """What went wrong with the index, where it was to go elsewhere."""
        self.interrupted = False
        self._tell = tell
        self._room = asyncio.Semaphore(PODS_AT_A_TIME)
        self._began = time.time()

    @property
    def complete(self) -> bool:
        """Whether all of every pod is where it should be."""
        return not self.remark and all(s.state == "complete" and s.delivered for s in self.states)

    async def run(self) -> Delivered:
        """Where the index is. Raises `Failed` when the folder cannot be made."""
        try:
            os.mkdir(self.folder, 0o700)
        except OSError as error:
            raise from_os_error(error, f"the folder {self.folder} cannot be made") from error
        tasks = [asyncio.create_task(self._one(pod, state)) for pod, state in zip(self.pods, self.states)]
        try:
            await asyncio.gather(*tasks)
        except asyncio.CancelledError:
            self.interrupted = True
            await asyncio.gather(*tasks, return_exceptions=True)
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
        return await self._delivered_index(self._index())

    async def _one(self, pod: PodRef, state: PodState) -> None:
        try:
            async with self._room:
                await self._captured(pod, state)
        except KdebugError as error:
            state.state, state.problem = "failed", str(error)
        except asyncio.CancelledError:
            if state.result is None:
                state.state, state.problem = "failed", "the capture was interrupted before it began"
            raise
        finally:
            self._tell(self.states)

    async def _captured(self, pod: PodRef, state: PodState) -> None:
        state.state = "attaching"
        self._tell(self.states)
        chosen = replace(self.options.pod, container=pod.container, selector="", namespace=pod.namespace)
        options = replace(
            self.options, pod=chosen, note=lambda line: self.options.note(f"{pod.name}: {line}")
        )

        def tell(progress: Progress) -> None:
            state.state = "capturing"
            state.artifacts, state.taken_bytes = progress.artifacts, progress.taken_bytes
            self._tell(self.states)

        path = os.path.join(self.folder, f"{pod.namespace}-{pod.name}{SUFFIX}")
        result = await capture(
            TargetExpression("pod", pod.name), options, self.recipe, path, self.redaction(), tell
        )
        state.result, state.path, state.state = result, result.path, result.status
        state.problem = result.problems[0] if result.problems else ""
        if self.delivery.does_something:
            await self._deliver(state)

    async def _deliver(self, state: PodState) -> None:
        """A bundle that does not get away stays here, and the others go on."""
        status, state.state = state.state, "sending"
        self._tell(self.states)
        state.delivered = False
        try:
            done = await self.delivery.deliver(state.path)
        except KdebugError as error:
            state.problem = str(error)
        else:
            state.path, state.url, state.delivered = done.path, done.url, not done.remark
            state.problem = done.remark or state.problem
        finally:
            state.state = status
            state.path = self.delivery.local(state.path)

    async def _delivered_index(self, path: str) -> Delivered:
        """Last: where it is, everything is that went there. It names pods, and is not encrypted."""
        try:
            done = await replace(self.delivery, recipients=[]).deliver(path)
        except KdebugError as error:
            self.remark = str(error)
            return Delivered(path)
        self.remark = done.remark
        if not done.path:
            with contextlib.suppress(OSError):
                os.rmdir(self.folder)  # refused where a bundle stayed
        return done

    def _index(self) -> str:
        path = os.path.join(self.folder, "index.json")
        document = {
            "format": 1, "recipe": self.recipe.name, "started_at": rfc3339(self._began),
            "ended_at": rfc3339(time.time()), "interrupted": self.interrupted,
            "pods": [state.document() for state in self.states],
        }  # fmt: skip
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "w", encoding="ascii") as file:
                json.dump(document, file, indent=1)
        except OSError as error:
            raise from_os_error(error, f"the index {path} cannot be written") from error
        return path
