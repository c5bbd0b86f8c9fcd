"""One target over its whole life in the UI: opened, asked, lost, found again, opened anew.

Widgets ask through `Session.ask`, so that one place knows what is loading and for how long, whether the
connection stands, and since when what is on the screen is old. What was read stays on the screen; only
its age changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from enum import Enum
from typing import Optional, TypeVar

from kdebug.errors import ConnectionLost, Failed, KdebugError, ProtocolViolation, TargetEnded, TargetLost
from kdebug.expression import OWNERS, TargetExpression
from kdebug.open import knows_pod, open_cluster
from kdebug.process_model import ProcessModel
from kdebug.protocol.requests import GetCgroup, ListProcesses
from kdebug.target import Target
from kdebug.target.cluster import Cluster, ContextInfo, PodRef, Story
from kdebug.target.options import OpenOptions
from kdebug.target.timeline import Timeline
from kdebug.tui.tasks import Tasks
from kdebug.usage import MAX_SAMPLES, Sample, Usage

T = TypeVar("T")
Opener = Callable[[TargetExpression, OpenOptions], contextlib.AbstractAsyncContextManager[Target]]
ClusterOpener = Callable[[OpenOptions], contextlib.AbstractAsyncContextManager[Cluster]]
ContextReader = Callable[[OpenOptions], list[ContextInfo]]

TREND_SAMPLES = 16
"""Of a recording's process table that are looked at for one of them."""
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

    def __init__(
        self,
        expression: TargetExpression,
        options: OpenOptions,
        opener: Opener,
        cluster_opener: ClusterOpener = open_cluster,
    ) -> None:
        self.expression = expression
        self.options = options
        self._opener = opener
        self._cluster_opener = cluster_opener
        self._has_pod: Optional[bool] = None
        self._stack = contextlib.AsyncExitStack()
        self._whole = contextlib.AsyncExitStack()
        """What stays open from one target to the next: the cluster."""
        self.cluster: Optional[Cluster] = None
        """The API server behind a pod; None for what is no pod, and until it was reached."""
        self.pod: Optional[PodRef] = None
        """The pod and container that are looked at; known also where they cannot be entered."""
        self.processes = ProcessModel()
        """The process table, shared by all who show it: nobody asks for what another has just read."""
        self.usage = Usage()
        """What the cgroup said over the last minutes."""
        self._reconnecting: Optional[asyncio.Task[None]] = None
        self._choosing: Optional[asyncio.Task[PodRef]] = None
        self._began = time.monotonic()
        self.target: Optional[Target] = None
        self.state = State.CLOSED
        self.since = time.monotonic()
        """When `state` began."""
        self.problem: Optional[KdebugError] = None
        """Why it is not LIVE."""
        self.heard = 0.0
        """When the agent last answered (monotonic): the age of everything on the screen."""
        self.shell = ""
        """The shell that the toolbox' image has; "" where it has none, or none may be opened."""
        self.steps: list[tuple[float, str]] = []
        """(seconds since the opening began, what was done): the account of the attach."""
        self.notes: list[str] = []
        """What the user must know: what was created, what is missing."""
        self.actions: list[str] = []
        """What was changed in the target, for the note at leaving."""
        self.bundles: list[str] = []
        """What was captured into, for the same note."""
        self.tasks = Tasks()
        self.pending: dict[int, tuple[str, float]] = {}
        """What is being waited for, and since when (monotonic)."""
        self._serial = 0
        self._looked_back = 0
        """The generation that the process table was last made for, of a recording."""
        self.generation = 0
        """How often a target was opened: what an older one answered belongs to the old instance."""
        self.changed: Callable[[], None] = lambda: None
        """Called whenever something above is different."""

    @property
    def read_only(self) -> bool:
        return self.options.read_only or bool(self.target and self.target.info.read_only)

    @property
    def is_pod(self) -> bool:
        return self.expression.scheme in OWNERS

    @property
    def has_pod(self) -> bool:
        """Whether there is a pod with a story and logs, living or in a bundle."""
        if self._has_pod is None:
            self._has_pod = knows_pod(self.expression)
        return self._has_pod

    @property
    def recorded(self) -> bool:
        """Whether it is a bundle, which answers the same however often it is asked."""
        return self.expression.scheme == "bundle"

    @property
    def timeline(self) -> Optional[Timeline]:
        return self.target.timeline if self.target is not None else None

    @property
    def now(self) -> float:
        """Unix time, of a recording that of the sample that is looked at."""
        return self.timeline.now if self.timeline is not None else time.time()

    def go_in_time(self, step: int) -> None:
        """To an earlier or later sample: whatever is shown is asked anew."""
        timeline = self.timeline
        if timeline is not None and 0 <= timeline.index + step < len(timeline.stops):
            timeline.go(timeline.index + step)
            self.generation += 1
            self.changed()

    async def open(self, wait: bool = False) -> Target:
        """Attach; `wait`: once the container starts. Raises what `open_target` raises; then the state is
        CLOSED and `problem` says why."""
        await self._release()
        self._began = time.monotonic()
        self.steps, self.notes = [], []
        self._become(State.OPENING)
        pod = replace(self.options.pod, wait=wait or self.options.pod.wait)
        options = replace(self.options, note=self._note, step=self._step, pod=pod)
        try:
            if self.has_pod and not self.is_pod:
                await self._choose(options)
            target = await (self._attach_pod(options) if self.is_pod else self._attach(options))
        except KdebugError as error:
            self._become(State.CLOSED, error)
            raise
        except BaseException:
            # Cancelled. What was added until then remains, and the notes say so.
            self._become(State.CLOSED, Failed("the attach was cancelled"))
            raise
        self.target = target
        self.generation += 1
        self.processes.forget()
        self.usage.forget()
        self._alive()
        return target

    def _step(self, line: str) -> None:
        self.steps.append((time.monotonic() - self._began, line))
        self.changed()

    def _note(self, line: str) -> None:
        # The pod is chosen twice, for its description and for the attach, with the same remarks.
        if line not in self.notes:
            self.notes.append(line)
            self._step(line)

    async def _attach(self, options: OpenOptions, expression: Optional[TargetExpression] = None) -> Target:
        return await self._stack.enter_async_context(self._opener(expression or self.expression, options))

    async def _attach_pod(self, options: OpenOptions) -> Target:
        """Its description is read beside the attach, and is there also when the attach fails. Of several
        pods one is chosen first, so that the one that is attached is the one that is described."""
        choosing = asyncio.create_task(self._choose(options), name="kdebug-ui-choose")
        try:
            if self.expression.scheme == "pod" and not options.pod.selector:
                return await self._attach(options)
            chosen = await choosing
            one = replace(options.pod, container=chosen.container, selector="")
            return await self._attach(replace(options, pod=one), TargetExpression("pod", chosen.name))
        except KdebugError:
            await asyncio.wait({choosing})
            raise
        finally:
            if self._choosing is not None:
                self._choosing.cancel()
            self._choosing = choosing
            choosing.add_done_callback(_looked_at)

    async def _choose(self, options: OpenOptions) -> PodRef:
        if self.cluster is None:
            opening = (
                self._cluster_opener(options) if self.is_pod else open_cluster(options, self.expression)
            )
            self.cluster = await self._whole.enter_async_context(opening)
        self.pod = await self.cluster.choose(self.expression)
        self.changed()
        return self.pod

    async def story(self) -> Story:
        """The pod as Kubernetes tells it now, whether it can be entered or not."""
        if self.cluster is None or self.pod is None:
            raise Failed(f"{self.expression} is not known to a cluster")
        with self.waiting("the pod's story"):
            self.pod = await self.cluster.refresh(self.pod)
            return await self.cluster.story(self.pod)

    async def look(self) -> ProcessModel:
        """The process table as it is now, by what changed since the last look."""
        if self.timeline is not None:
            return await self._look_back(self.timeline)
        generation, since = self.generation, self.processes.since
        page = await self.ask("the processes", lambda target: target.processes(since=since))
        if generation == self.generation and since == self.processes.since and self.target is not None:
            self.processes.apply(page, self.target.info.agent_container)
        return self.processes

    async def _look_back(self, timeline: Timeline) -> ProcessModel:
        """As of a sample: from the samples until then, for CPU% and for who grows."""
        if self._looked_back != self.generation:
            self.processes.forget()
            self.processes.rows = {}
            await self.ask("the processes", lambda target: target.processes())  # raises what was met then
            self._looked_back = self.generation
            for _, page in timeline.series(ListProcesses(), TREND_SAMPLES):
                self.processes.apply(page, self.target.info.agent_container if self.target else None)
        return self.processes

    async def look_at_usage(self) -> None:
        """One more sample of the cgroup, or all until the one that is looked at."""
        group = await self.ask("usage", lambda target: target.cgroup())
        if self.timeline is None:
            self.usage.add(Sample(time.monotonic(), group))
            return
        self.usage.forget()
        for at, told in self.timeline.series(GetCgroup(), MAX_SAMPLES):
            self.usage.add(Sample(at, told))

    async def ask(self, what: str, question: Callable[[Target], Awaitable[T]]) -> T:
        """The answer; raises `KdebugError`. `what` is shown while it is waited for: "the processes"."""
        target = self.target
        if target is None:
            raise self.problem or Failed("not attached")
        try:
            with self.waiting(what):
                answer = await question(target)
        except (ConnectionLost, TargetEnded) as error:
            if target is self.target:
                self._lost(error)
            raise
        if target is self.target:
            self._alive()
        return answer

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Something is asked: the status line tells what, and for how long."""
        self._serial += 1
        serial = self._serial
        self.pending[serial] = (what, time.monotonic())
        try:
            yield
        finally:
            del self.pending[serial]

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
        """Let go of the target and of the cluster; copies that still run are cancelled. Idempotent."""
        await self.tasks.cancel_all()
        await self._release()
        if self._choosing is not None:
            self._choosing.cancel()
            await asyncio.wait({self._choosing})
        self.cluster = None
        whole, self._whole = self._whole, contextlib.AsyncExitStack()
        with contextlib.suppress(KdebugError):
            await whole.aclose()
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


def _looked_at(task: asyncio.Task[PodRef]) -> None:
    """Whoever waits for the attach is told its failure; that of the choice has the same cause."""
    if not task.cancelled():
        task.exception()
