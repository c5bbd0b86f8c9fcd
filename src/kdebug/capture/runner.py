"""Runs a recipe: what the environment teaches redaction first, then cheap facts, logs, files, and beside
all of them samples.

One failing step never ends the bundle, and whatever ends the capture (its deadline, Ctrl-C, the death of
the target, a cut stream, a full disk) leaves a bundle that opens and says what is missing and why.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Optional

from kdebug import __version__
from kdebug.capture import steps_cluster, steps_files, steps_target
from kdebug.capture.answers import opening
from kdebug.capture.conditions import unmet
from kdebug.capture.earlier import Earlier
from kdebug.capture.learning import learn
from kdebug.capture.recipe import Recipe, Step
from kdebug.capture.redaction import Redaction
from kdebug.capture.sink import FAILED, SUCCESS, CannotWrite, Sink, is_end
from kdebug.capture.work import INTERRUPTED, Progress, StepWork, Turns, Work, together
from kdebug.capture.writer import BundleWriter
from kdebug.errors import KdebugError
from kdebug.protocol import codec
from kdebug.protocol.system import AgentInfo, CgroupInfo
from kdebug.target import Target
from kdebug.target.cluster import Cluster, PodRef
from kdebug.units import rfc3339

COMPLETE, PARTIAL, INTERRUPTED_STATUS = "complete", "partial", "interrupted"
LITTLE_MEMORY = 48 * 2**20
"""Of the target's limit, unused: below it one question is asked at a time, so that the agent, which shares
the limit, holds one answer and not four."""
MOST_DROPPED = 1000
"""Members that may make room for the manifest on a full disk."""
LEARNING_SECONDS = 10.0

STEPS: dict[str, Callable[[StepWork], Awaitable[None]]] = {
    "facts": steps_target.facts,
    "each_process": steps_target.each_process,
    "listings": steps_target.listings,
    "files": steps_files.files,
    "kubernetes": steps_cluster.kubernetes,
    "logs": steps_cluster.logs,
}
OF_CLUSTER = ("kubernetes", "logs")


@dataclass(frozen=True)
class CaptureOptions:
    path: str
    """Of the bundle; nothing may be there."""
    redaction: Redaction
    expression: str = ""
    """How the user named the target."""
    tell: Callable[[Progress], None] = lambda progress: None
    problem: Optional[KdebugError] = None
    """Why there is no target, where the pod could not be entered."""
    earlier: Optional[Earlier] = None
    """What was seen before the capture began."""


@dataclass
class Result:
    """What came of it."""

    path: str
    status: str
    """complete, partial or interrupted."""
    outcomes: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    """Why it is not complete, the most important first."""
    size_bytes: int = 0
    """Of the file."""
    taken_bytes: int = 0
    seconds: float = 0.0

    def document(self) -> dict[str, Any]:
        return dict(vars(self)) | {"seconds": round(self.seconds, 3)}


def phase(step: Step) -> int:
    """Cheap facts of the target before what takes time."""
    if step.kind == "files":
        return 2
    return 1 if step.kind in OF_CLUSTER else 0


class Capture:
    """One recipe on one target; `run` once. Raises only when the bundle cannot be begun."""

    def __init__(
        self,
        recipe: Recipe,
        options: CaptureOptions,
        target: Optional[Target],
        cluster: Optional[Cluster] = None,
        pod: Optional[PodRef] = None,
    ) -> None:
        self.recipe, self.options = recipe, options
        self.writer = BundleWriter(options.path)
        self.sink = Sink(self.writer, options.redaction)
        self.work = Work(recipe, self.sink, target, cluster, pod, options.tell)
        self.work.gone = options.problem
        self._began = time.time()
        self._problems: list[str] = []
        self._notes: list[str] = []
        self._agent: list[AgentInfo] = []
        self._steps: list[dict[str, Any]] = []

    async def run(self) -> Result:
        """The bundle is closed and named when this returns, whatever happened."""
        started, status = time.monotonic(), COMPLETE
        try:
            await self._within_deadline()
        except asyncio.CancelledError:
            status = INTERRUPTED_STATUS
            self._problems.insert(0, INTERRUPTED)
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
        except CannotWrite as full:
            self._problems.insert(0, str(full))
        return self._closed(status, time.monotonic() - started)

    async def _within_deadline(self) -> None:
        try:
            async with asyncio.timeout(self.recipe.deadline):
                await self._all()
        except TimeoutError:
            self._problems.append(f"the capture's deadline of {self.recipe.deadline:g} s passed")

    async def _all(self) -> None:
        await self._begin()
        if self.options.earlier is not None:
            await self.options.earlier.keep(self.work)
        samples = [step for step in self.recipe.steps if step.samples is not None]
        await together([self._in_order(), *map(self._step, samples)])
        await self._cost()

    async def _in_order(self) -> None:
        """All but the samples: those mostly wait, and what they look at should not have passed by then."""
        steps = [step for step in self.recipe.steps if step.samples is None]
        for number in range(3):
            await together(self._step(step) for step in steps if phase(step) == number)

    async def _begin(self) -> None:
        """What is asked before anything is written."""
        target, earlier = self.work.target, self.options.earlier
        for document, place in earlier.known if earlier is not None else ():
            self.options.redaction.learn_document(document, place)
        if target is not None:
            try:
                page = await target.processes()
                self.work.processes = steps_target.of_target(target.info, page.items)
                self.work.access = await target.access()
                await self._cost()
                self._spare(await target.cgroup())
            except KdebugError as error:
                self._met(error, "the first look")
        try:
            async with asyncio.timeout(LEARNING_SECONDS):
                self._notes += await learn(self.work, self.options.redaction)
        except TimeoutError:
            self._notes.append(f"learning secrets took longer than {LEARNING_SECONDS:g} s")
        if target is not None:
            artifact = self.sink.artifact("open", "target")
            self.sink.answer(artifact, opening(target.info))
            artifact.outcome = SUCCESS

    def _met(self, error: KdebugError, what: str) -> None:
        if is_end(error) and self.work.gone is None:
            self.work.gone = error
        self._notes.append(f"{what}: {error}")

    def _spare(self, group: CgroupInfo) -> None:
        used = group.memory_working_set_bytes or group.memory_usage_bytes
        if group.memory_limit_bytes is None or used is None:
            return
        free = group.memory_limit_bytes - used
        if free < LITTLE_MEMORY:
            self.work.turns = Turns(1)
            self._notes.append(
                f"the target has {free} bytes of its memory limit left: one question was asked at a time"
            )

    async def _cost(self) -> None:
        """What the agent has used until now; at most twice."""
        if self.work.target is not None and self.work.gone is None:
            with contextlib.suppress(KdebugError):
                self._agent.append(await self.work.target.agent())

    async def _step(self, step: Step) -> None:
        run = self.work.step(step)
        began = time.monotonic()
        told: dict[str, Any] = {"name": step.name, "kind": step.kind, "line": step.line}
        self._steps.append(told)
        try:
            told["skipped"] = await self._skipped(step)
            if told["skipped"]:
                artifact = run.artifact(step.name)
                artifact.reason, artifact.counts = told["skipped"], False
                return
            async with asyncio.timeout_at(run.ends_at):
                await STEPS[step.kind](run)
        except TimeoutError:
            told["problem"] = f"the deadline of {step.deadline:g} s passed"
            run.artifact("the rest of the step").reason = told["problem"]
        except (CannotWrite, asyncio.CancelledError):
            raise
        except Exception as defect:  # noqa: BLE001  a defect in one step must not take the others' evidence
            artifact = run.artifact(step.name)
            artifact.outcome, artifact.reason = (
                FAILED,
                f"a defect of kdebug: {type(defect).__name__}: {defect}",
            )
        finally:
            told["seconds"] = round(time.monotonic() - began, 4)

    async def _skipped(self, step: Step) -> str:
        if step.kind in OF_CLUSTER and self.work.pod is None:
            return "the target is no pod"
        return await unmet(self.work, step.when)

    # The end

    def _closed(self, status: str, seconds: float) -> Result:
        lacking = [artifact for artifact in self.sink.artifacts if artifact.lacks]
        if status == COMPLETE and (lacking or self._problems or self.work.gone is not None):
            status = PARTIAL
        if self.work.gone is not None:
            self._problems.insert(0, str(self.work.gone))
        reasons = Counter(f"{artifact.outcome}: {artifact.reason}" for artifact in lacking)
        self._problems += [
            f"{count} times {reason}" if count > 1 else reason for reason, count in reasons.most_common(5)
        ]
        self._problems = list(dict.fromkeys(self._problems))
        path, status = self._write_end(status, seconds)
        outcomes = Counter(artifact.outcome for artifact in self.sink.artifacts)
        return Result(
            path,
            status,
            dict(outcomes),
            self._problems,
            self.writer.size_bytes,
            self.sink.taken_bytes,
            seconds,
        )

    def _write_end(self, status: str, seconds: float) -> tuple[str, str]:
        """(the file's name, status): the part's name where the disk did not take the end."""
        for _ in range(MOST_DROPPED):
            try:
                self.sink.manifest(self.manifest(status, seconds))
                break
            except CannotWrite as error:
                status = PARTIAL if status == COMPLETE else status
                self._problems = list(dict.fromkeys([*self._problems, str(error)]))
                if not self.sink.make_room():
                    return self.writer.partial_path, status
        try:
            return self.writer.close(), status
        except KdebugError as error:
            self._problems.insert(0, str(error))
        return self.writer.partial_path, PARTIAL

    def manifest(self, status: str, seconds: float) -> dict[str, Any]:
        """Without artifacts, answers and files, which the sink adds."""
        recipe = self.recipe
        return {
            "format": 1,
            "tool": {"name": "kdebug", "version": __version__, "python": platform.python_version()},
            "target": self._target(),
            "started_at": rfc3339(self._began),
            "ended_at": rfc3339(self._began + seconds),
            "seconds": round(seconds, 3),
            "status": status,
            "problems": self._problems,
            "notes": self._notes,
            "recipe": {
                "name": recipe.name, "source": recipe.source, "sha256": recipe.sha256,
                "parameters": recipe.parameters, "max_bytes": recipe.max_bytes,
                "deadline_seconds": recipe.deadline,
            },
            "steps": self._steps,
            "cost": self._used(),
            "taken_bytes": self.sink.taken_bytes,
            "redactions": self.options.redaction.report(),
        }  # fmt: skip

    def _target(self) -> dict[str, Any]:
        target, pod = self.work.target, self.work.pod
        told: dict[str, Any] = {"expression": self.options.expression, "place": "", "rung": ""}
        if target is not None:
            told |= {"place": target.place, "rung": target.rung, "info": codec.to_plain(target.info)}
        if pod is not None:
            told |= {"namespace": pod.namespace, "pod": pod.name, "container": pod.container}
            told |= {"context": self.work.cluster.context if self.work.cluster is not None else ""}
        return told

    def _used(self) -> dict[str, Any]:
        """Of the agent, over the whole capture; empty where the target did not live to tell."""
        if len(self._agent) < 2:
            return {}
        first, last = self._agent[0], self._agent[-1]
        return {
            "agent_cpu_seconds": round(last.cpu_seconds - first.cpu_seconds, 3),
            "agent_rss_bytes": last.rss_bytes,
        }
