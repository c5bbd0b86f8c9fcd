"""Follows the logs that conditions are about, over breaks and restarts, and keeps what matched."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence

from kdebug.errors import KdebugError, UsageError
from kdebug.target.cluster import Cluster, LogLine, LogQuery, PodRef
from kdebug.target.log_tail import Tail
from kdebug.units import rfc3339
from kdebug.watch.condition import LogMatch

PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before a stream is asked for again; the last one repeats."""
MAX_SHOWN = 500
"""Bytes of a line that matched."""


class LogLines:
    """`run` reads until it is cancelled; `take` gives what matched since the last time."""

    def __init__(
        self, tests: Sequence[LogMatch], wake: Callable[[], None], note: Callable[[str], None]
    ) -> None:
        self._tests = tests
        self._wake, self._note = wake, note
        self._found: dict[str, str] = {}
        self._tails: dict[tuple[str, str], Tail] = {}
        self._told: dict[str, str] = {}

    def take(self) -> dict[str, str]:
        found, self._found = self._found, {}
        return found

    def wanted(self, pod: PodRef) -> dict[str, list[LogMatch]]:
        """Container -> its tests. Raises `UsageError` for one that the pod has not."""
        own = {str(one.get("name")) for one in pod.pod.get("spec", {}).get("ephemeralContainers") or []}
        every = [name for name in pod.containers if name not in own]
        found: dict[str, list[LogMatch]] = {}
        for test in self._tests:
            names = every if test.container == "all" else [test.container or pod.container]
            for name in names:
                if name not in pod.containers:
                    raise UsageError(
                        f"the pod {pod.name} has no container {name}",
                        next_step=f"it has {', '.join(every)}",
                    )
                found.setdefault(name, []).append(test)
        return found

    async def run(self, cluster: Cluster, pod: PodRef) -> None:
        async with asyncio.TaskGroup() as readers:
            for container, tests in self.wanted(pod).items():
                reading = self._follow(cluster, pod, container, tests)
                readers.create_task(reading, name=f"kdebug-watch-log-{container}")

    async def _follow(self, cluster: Cluster, pod: PodRef, container: str, tests: list[LogMatch]) -> None:
        """From now on, not from the beginning: what was written before the watch is no news."""
        failures, ended = 0, ""
        tail = self._tails.setdefault((pod.name, container), Tail())
        while True:
            since = tail.resume() or ended
            query = LogQuery(follow=True, since_time=since, tail=None if since else 0)
            try:
                stream = cluster.logs(pod, (container,), query)
                async with contextlib.aclosing(stream) as lines:  # type: ignore[type-var]
                    async for line in lines:
                        failures = 0
                        if tail.new(line):
                            self._see(line, tests)
                failures, ended = failures + 1, rfc3339(time.time()) or ""
            except KdebugError as error:
                failures += 1
                if self._told.get(container) != error.what:
                    self._told[container] = error.what
                    self._note(f"the log of {container} cannot be followed now: {error.why or error.what}")
            await asyncio.sleep(PAUSES[min(failures, len(PAUSES)) - 1])

    def _see(self, line: LogLine, tests: list[LogMatch]) -> None:
        for test in tests:
            if test.matches(line.text):
                self._found[test.pattern] = line.text[:MAX_SHOWN].decode("utf-8", "replace")
                self._wake()
