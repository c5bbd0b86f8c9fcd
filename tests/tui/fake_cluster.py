"""A cluster of one pod behind the `Cluster` seam: its logs are what a test writes, also after a break."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from kdebug.errors import ConnectionLost, Failed, KdebugError
from kdebug.expression import TargetExpression
from kdebug.kube import story
from kdebug.open import OpenOptions, open_target
from kdebug.target import Target
from kdebug.target.cluster import EventInfo, LogLine, LogQuery, PodRef, Story
from kdebug.target.log_tail import nanoseconds

NOW = datetime.now(timezone.utc)


def stamp(seconds: float) -> str:
    """RFC 3339 with nine digits, `seconds` after the tests began."""
    return (NOW + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def pod_object(state: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    """web, with the containers app and side, as a server would write it."""
    running = {"running": {"startedAt": stamp(-3600)}}
    app = {"name": "app", "image": "registry.example/shop:1.2", "resources": {"limits": {"memory": "64Mi"}}}
    statuses = [
        {"name": "app", "ready": state is None, "restartCount": 0, "state": state or running, **status},
        {"name": "side", "ready": True, "restartCount": 0, "state": running},
    ]
    return {
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "creationTimestamp": stamp(-3600)},
        "spec": {"containers": [app, {"name": "side", "image": "side:1"}], "nodeName": "node-1"},
        "status": {"phase": "Running", "qosClass": "Burstable", "containerStatuses": statuses},
    }


CRASHED = {
    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting"}},
    "lastState": {
        "terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": stamp(-120)},
    },
    "restartCount": 7,
}


@dataclass
class FakeCluster:
    """`lines` of each container, oldest first; `write` adds one while they are followed."""

    pod: dict[str, Any] = field(default_factory=pod_object)
    lines: dict[str, list[LogLine]] = field(default_factory=dict)
    previous: dict[str, list[LogLine]] = field(default_factory=dict)
    refused: dict[str, KdebugError] = field(default_factory=dict)
    listed: list[EventInfo] = field(default_factory=list)
    asked: list[tuple[str, LogQuery]] = field(default_factory=list)
    open: int = 0
    """Streams that are open."""
    closed: bool = False
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _cut: int = 0

    async def choose(self, expression: TargetExpression) -> PodRef:
        return self._ref()

    async def refresh(self, pod: PodRef) -> PodRef:
        return self._ref()

    def _ref(self) -> PodRef:
        names = tuple(one["name"] for one in self.pod["spec"]["containers"])
        return PodRef("shop", "web", "app", names, (), self.pod)

    async def story(self, pod: PodRef) -> Story:
        facts = story.pod_facts(self.pod, None, None)
        return Story(facts, tuple(story.changes(facts, self.listed)), tuple(self.listed), {})

    async def events(self, pod: PodRef) -> list[EventInfo]:
        return self.listed

    async def write(self, container: str, text: bytes, at: str = "") -> None:
        async with self._changed:
            line = LogLine(container, at or stamp(len(self.lines.get(container, ()))), text)
            self.lines.setdefault(container, []).append(line)
            self._changed.notify_all()

    async def cut(self) -> None:
        """Every stream breaks now."""
        async with self._changed:
            self._cut += 1
            self._changed.notify_all()

    async def logs(
        self, pod: PodRef, containers: tuple[str, ...], query: LogQuery
    ) -> AsyncIterator[LogLine]:
        (name,) = containers
        self.asked.append((name, query))
        if name in self.refused:
            raise self.refused[name]
        source = (self.previous if query.previous else self.lines).setdefault(name, [])
        since = nanoseconds(query.since_time) or 0
        # As servers do: the bound is rounded down to the second.
        old = [line for line in source if (nanoseconds(line.at) or 0) >= since - since % 1_000_000_000]
        self.open += 1
        try:
            for line in old if query.tail is None else old[len(old) - min(query.tail, len(old)) :]:
                yield line
            at, cut = len(source), self._cut
            while query.follow:
                async with self._changed:
                    await self._changed.wait_for(lambda: self._cut != cut or len(source) > at)
                if self._cut != cut:
                    raise ConnectionLost("the stream is cut")
                for line in source[at:]:
                    yield line
                at = len(source)
        finally:
            self.open -= 1

    def opener(self) -> Callable[[OpenOptions], contextlib.AbstractAsyncContextManager[Any]]:
        @contextlib.asynccontextmanager
        async def opened(options: OpenOptions) -> AsyncIterator[FakeCluster]:
            yield self
            self.closed = True

        return opened


@contextlib.asynccontextmanager
async def own_process(expression: TargetExpression, options: OpenOptions) -> AsyncIterator[Target]:
    """What a pod's target is in these tests: this very process."""
    async with open_target(TargetExpression("local", str(os.getpid())), options) as target:
        yield target


def refusing(error: KdebugError) -> Any:
    """An opener of targets that cannot be entered."""

    @contextlib.asynccontextmanager
    async def refused(expression: TargetExpression, options: OpenOptions) -> AsyncIterator[Target]:
        raise error
        yield  # pragma: no cover

    return refused


NOT_RUNNING = Failed("the container app of the pod web does not run", why="CrashLoopBackOff: back-off 40s")
