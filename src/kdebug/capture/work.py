"""What the steps of one capture share: the target, the cluster, the sink, and the reasons to stop."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Optional, TypeVar

from kdebug.capture.answers import Answer, RecordingBackend
from kdebug.capture.questions import rows_name
from kdebug.capture.recipe import Recipe, Step
from kdebug.capture.sink import FAILED, NOT_TRIED, PARTIAL, SUCCESS, Artifact, Sink, is_end, outcome_of
from kdebug.errors import (
    ConnectionLost,
    DeadlinePassed,
    Failed,
    KdebugError,
    NotFound,
    ProtocolViolation,
    TargetEnded,
    TargetLost,
)
from kdebug.protocol import codec
from kdebug.protocol.processes import Process
from kdebug.protocol.requests import ListEnviron, Request
from kdebug.protocol.system import Access
from kdebug.target import Backend, Target
from kdebug.target.cluster import Cluster, PodRef

T = TypeVar("T")

PARALLEL = 4
"""Questions at a time: the agent has two threads for heavy ones and one for quick ones."""
MAX_ROWS = 200_000
"""Of one answer, held here until its last page: 100 MiB of an agent that does not end."""
LOOK_SECONDS = 5.0
"""For a second look at the target itself."""
INTERRUPTED = "the capture was interrupted"


class Turns:
    """So many questions at a time. A sample has a time to keep: it comes next, whatever waits."""

    def __init__(self, at_a_time: int) -> None:
        self._queue, self._room = asyncio.Semaphore(at_a_time), asyncio.Semaphore(at_a_time)

    @contextlib.asynccontextmanager
    async def turn(self, timed: bool = False) -> AsyncIterator[None]:
        """The queue lets no more out than the room holds: at its door a sample finds nobody before it."""
        async with contextlib.nullcontext() if timed else self._queue, self._room:
            yield


@dataclass
class Progress:
    """For a line on a terminal."""

    step: str
    artifacts: int
    taken_bytes: int


class Work:
    """The state of a capture while it runs."""

    def __init__(
        self,
        recipe: Recipe,
        sink: Sink,
        target: Optional[Target],
        cluster: Optional[Cluster] = None,
        pod: Optional[PodRef] = None,
        tell: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self.recipe, self.sink = recipe, sink
        self.target, self.cluster, self.pod = target, cluster, pod
        self.gone: Optional[KdebugError] = None
        """Why the target cannot be asked any more."""
        self.stopped = ""
        """Why nothing at all is taken any more: the deadline, Ctrl-C, a full disk."""
        self.processes: list[Process] = []
        """Of the target's container, the target first."""
        self.environments: dict[int, Answer] = {}
        """By PID: those that redaction has learned from and no step has taken yet."""
        self.access: Optional[Access] = None
        self.turns = Turns(PARALLEL)
        self._tell = tell

    def step(self, step: Step) -> StepWork:
        return StepWork(self, step)

    def told(self, step: Step) -> None:
        self._tell(Progress(step.name, len(self.sink.artifacts), self.sink.taken_bytes))

    @property
    def backend(self) -> Backend:
        assert self.target is not None
        return self.target.backend


class StepWork:
    """One step at work: its deadline, its bytes, its artifacts."""

    def __init__(self, work: Work, step: Step) -> None:
        self.work, self.step = work, step
        self.taken_bytes = 0
        self.ends_at = asyncio.get_running_loop().time() + step.deadline
        self.artifacts: list[Artifact] = []

    def artifact(self, what: str) -> Artifact:
        made = self.work.sink.artifact(self.step.name, what)
        self.artifacts.append(made)
        return made

    def refusal(self, of_target: bool = True) -> str:
        """Why nothing more may be taken; "" while it may."""
        work = self.work
        if work.stopped:
            return work.stopped
        if of_target and work.gone is not None:
            return f"the target could not be asked any more: {work.gone.what}"
        if work.sink.taken_bytes >= work.recipe.max_bytes:
            return f"the capture's {work.recipe.max_bytes} bytes are used"
        if self.taken_bytes >= self.step.max_bytes:
            return f"the step's {self.step.max_bytes} bytes are used"
        return ""

    def why_cancelled(self) -> str:
        if self.work.stopped:
            return self.work.stopped
        if asyncio.get_running_loop().time() >= self.ends_at:
            return f"the step's deadline of {self.step.deadline:g} s passed"
        return INTERRUPTED

    def turn(self, of_target: bool = True) -> contextlib.AbstractAsyncContextManager[None]:
        """Of the agent; the API server waits for nobody's memory."""
        if not of_target:
            return contextlib.nullcontext()
        return self.work.turns.turn(timed=self.step.samples is not None)

    @contextlib.asynccontextmanager
    async def taking(self, artifact: Artifact, of_target: bool = True) -> AsyncIterator[None]:
        """Room for one artifact, and its outcome. Raises `CannotWrite`."""
        began = time.monotonic()
        try:
            async with self.turn(of_target):
                began = time.monotonic()
                reason = self.refusal(of_target)
                if reason:
                    raise Refused(reason)
                yield
                if artifact.outcome == NOT_TRIED:
                    artifact.outcome = SUCCESS
        except Refused as refused:
            artifact.reason = str(refused)
        except KdebugError as error:
            await self._failed(artifact, error, of_target)
        except asyncio.CancelledError:
            artifact.outcome = PARTIAL if artifact.members else FAILED
            artifact.reason = self.why_cancelled()
            raise
        finally:
            artifact.seconds = time.monotonic() - began
            self.taken_bytes += artifact.size_bytes
            self.work.told(self.step)

    async def _failed(self, artifact: Artifact, error: KdebugError, of_target: bool) -> None:
        if of_target:
            if self.work.gone is None:
                self.work.gone = error if is_end(error) else await self._ended(error)
            if is_end(error) or isinstance(error, NotFound):
                error = self.work.gone or error  # of a target that has ended, nothing is found any more
        artifact.outcome = outcome_of(error)
        if artifact.outcome == FAILED and artifact.size_bytes:
            artifact.outcome = PARTIAL
        artifact.reason = str(error)

    async def _ended(self, error: KdebugError) -> Optional[KdebugError]:
        """Whether something is missing because the target itself is: the agent of one outlives it."""
        target = self.work.target
        if target is None or not isinstance(error, NotFound):
            return None
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await target.process(target.info.pid, target.info.start_ticks)
        except NotFound as gone:
            return TargetEnded("the target has ended", why=gone.why or gone.what)
        except (KdebugError, TimeoutError):
            return None
        return None

    async def ask(
        self, what: str, request: Request[Any], counts: bool = True, decoded: bool = False
    ) -> Any:
        """Keep the whole answer; None where there is none, and then its artifact says why. It is given back
        as a record only where that is wanted: that takes as long as keeping it."""
        artifact = self.artifact(what)
        artifact.counts = counts
        kept: list[Answer] = []
        async with self.taking(artifact):
            try:
                await answered(self.work, request, kept)
            except KdebugError as error:
                over = self.work.gone or await self._ended(error)
                if kept and not over and not is_end(error) and not isinstance(error, DeadlinePassed):
                    self.work.sink.answer(artifact, kept[-1])  # that it is refused is a fact of the target
                raise
            self.work.sink.answer(artifact, kept[-1])
            return codec.from_plain(request.result, kept[-1].answer) if decoded else None
        return None


async def together(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All of their results, in order; the first failure ends the others, too."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Refused(Exception):
    """Not to be taken any more; the text says why."""


async def answered(work: Work, request: Request[Any], kept: list[Answer]) -> None:
    """Every page of it into `kept`, as one. A stream that was cut between two pages is asked anew, once."""
    target = work.target
    assert target is not None
    if isinstance(request, ListEnviron) and request.pid in work.environments:
        kept.append(work.environments.pop(request.pid))
        return
    recording = RecordingBackend(target.backend, kept.append, target.info.pid)
    try:
        await _pages(recording, request)
    except (TargetLost, ProtocolViolation):
        raise
    except ConnectionLost:
        kept.clear()
        await _pages(recording, request)


async def _pages(backend: Backend, request: Any) -> None:
    rows = 0
    while True:
        page: Any = await backend.send(request)
        cursor = getattr(page, "cursor", "")
        if not cursor:
            return
        rows += len(getattr(page, rows_name(page) or "items", ()))
        if rows > MAX_ROWS:
            raise Failed(f"{request.name} has more than {MAX_ROWS} rows", why="they are not taken")
        request = dataclasses.replace(request, cursor=cursor)
