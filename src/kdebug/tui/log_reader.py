"""Reads the logs of several containers and the pod's events into a window, for as long as they are seen.

Each container has a stream of its own: one that is refused takes nothing from the others. A stream that
breaks, or ends because its container did, is asked for again from the last line, and no line comes twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, Optional

from kdebug.errors import KdebugError
from kdebug.target.cluster import Cluster, LogLine, LogQuery, PodRef
from kdebug.target.log_tail import Tail
from kdebug.tui.log_window import MAX_LINES, LogRow, LogWindow, event_row, row_of
from kdebug.tui.session import Session

FIRST_LINES = 2000
"""Of each container, to begin with."""
PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before a stream is asked for again; the last one repeats."""
EVENTS_SECONDS = 10.0
SETTLED_SECONDS = 1.0
"""A stream that stands so long works, even where nothing is written."""
BATCH_SECONDS, BATCH_LINES = 0.1, 2000
"""The screen gets what has come together."""
MAX_OLDER_BYTES = 64 * 1024 * 1024
"""Read at most, over all, when somebody asks for what is older."""
EVENTS = "events"


class LogReader:
    """`run` reads until it is cancelled; `changed` is called when there is something new to show."""

    def __init__(self, session: Session, changed: Callable[[], None]) -> None:
        self.session = session
        self.window = LogWindow()
        self.problems: dict[str, str] = {}
        """Container (or "events") -> why it cannot be read now."""
        self.previous = False
        self.chosen: tuple[str, ...] = ()
        """Containers that were asked for by name; none: all but the toolboxes."""
        self.may_drop = asyncio.Event()
        """Clear while somebody reads: a full window then waits, and nothing goes from under the eyes."""
        self.may_drop.set()
        self._changed = changed
        self._tails: dict[tuple[str, str], Tail] = {}
        self._arrived: list[LogRow] = []
        self._flushing: Optional[asyncio.TimerHandle] = None

    def begin(self, chosen: tuple[str, ...], previous: bool) -> None:
        """Other logs from now on."""
        self.chosen, self.previous = chosen, previous
        self._tails.clear()
        self._arrived.clear()
        self.problems.clear()
        self.window.clear()

    @property
    def containers(self) -> tuple[str, ...]:
        pod = self.session.pod
        if pod is None:
            return ()
        everyone = [name for name in pod.containers if name not in toolboxes(pod)]
        return tuple(self.chosen or (restarted(pod) if self.previous else ()) or everyone)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as readers:
            for container in self.containers:
                readers.create_task(self._follow(container), name=f"kdebug-ui-log-{container}")
            readers.create_task(self._watch_events(), name="kdebug-ui-events")

    # Containers

    async def _follow(self, container: str) -> None:
        failures = 0
        while (seam := self._seam()) is not None:
            cluster, pod = seam
            tail = self._tails.setdefault((pod.name, container), Tail())
            lines = await self._read_once(cluster, pod, container, tail)
            failures = 0 if lines else failures + 1
            if self.previous and container not in self.problems:
                return
            await asyncio.sleep(PAUSES[min(failures, len(PAUSES) - 1)])

    async def _read_once(self, cluster: Cluster, pod: PodRef, container: str, tail: Tail) -> int:
        """One stream to its end; how many new lines it had."""
        since = tail.resume()
        # After hours away: what would go through the window and out of it again is not even asked for.
        most = MAX_LINES if since else FIRST_LINES
        query = LogQuery(self.previous, follow=not self.previous, tail=most, since_time=since)
        settled = asyncio.get_running_loop().call_later(SETTLED_SECONDS, self._works, container)
        count = 0
        try:
            async with closing(cluster.logs(pod, (container,), query)) as lines:
                async for line in lines:
                    if tail.new(line):
                        count += 1
                        await self._take(row_of(line, tail.moment or 0), count)
            self._works(container)
        except KdebugError as error:
            self.problems[container] = error.why or error.what
            self._changed()
        finally:
            settled.cancel()
        return count

    def _seam(self) -> Optional[tuple[Cluster, PodRef]]:
        """None once the session is closed."""
        cluster, pod = self.session.cluster, self.session.pod
        return None if cluster is None or pod is None else (cluster, pod)

    def _works(self, what: str) -> None:
        if self.problems.pop(what, None) is not None:
            self._changed()

    async def _take(self, row: LogRow, count: int) -> None:
        self._works(row.container)
        self._arrived.append(row)
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(BATCH_SECONDS, self._flush)
        if len(self._arrived) >= BATCH_LINES:
            self._flush()
        if self.window.full or len(self.window.rows) + len(self._arrived) >= MAX_LINES:
            await self.may_drop.wait()
        if count % 200 == 0:
            await asyncio.sleep(0)  # what has been received already would keep the screen waiting

    def _flush(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        arrived, self._arrived = self._arrived, []
        self.window.add(arrived)
        self._changed()

    # Events

    async def _watch_events(self) -> None:
        while (seam := self._seam()) is not None:
            cluster, pod = seam
            try:
                found = await cluster.events(pod)
                self.window.replace_events(map(event_row, found))
                self.problems.pop(EVENTS, None)
            except KdebugError as error:
                self.problems[EVENTS] = error.why or error.what
            self._changed()
            await asyncio.sleep(EVENTS_SECONDS)

    # What is older

    async def load_older(self) -> str:
        """More lines before the first; a word where there are none, or no room."""
        room, seam = MAX_LINES - len(self.window.rows), self._seam()
        if seam is None:
            return ""
        if self.window.dropped or self.window.full or room <= 0:
            held = f"the window holds its {len(self.window.rows):,} lines"
            return f"{held}; `kdebug logs` with --since or --tail shows what is older"
        cluster, pod = seam
        containers, older = self.containers, LogWindow(max_lines=room)
        for container in containers:
            older.add(await self._older(cluster, pod, container, room // len(containers)))
        self.window.add(older.rows)
        self._changed()
        return "" if older.rows else "this is the beginning of the log"

    async def _older(self, cluster: Cluster, pod: PodRef, container: str, room: int) -> list[LogRow]:
        """The API bounds by the number of lines from the end, so those that are here come again."""
        own = [row for row in self.window.rows if row.event is None and row.container == container]
        if not own:
            return []
        first = own[0].moment
        known = Counter(row.text for row in own if row.moment == first)
        more = min(room, max(FIRST_LINES, len(own)))
        query = LogQuery(self.previous, tail=len(own) + more)
        found, size, before = LogWindow(max_lines=more), 0, 0
        try:
            async with closing(cluster.logs(pod, (container,), query)) as lines:
                async for line in lines:
                    row = row_of(line, before)
                    before, size = row.moment, size + len(line.text)
                    if row.moment > first or size > MAX_OLDER_BYTES:
                        break
                    if row.moment < first:
                        found.add([row])
                    elif known[row.text] > 0:
                        known[row.text] -= 1
        except KdebugError as error:
            self.problems[container] = error.why or error.what
        return found.rows


@contextlib.asynccontextmanager
async def closing(lines: AsyncIterator[LogLine]) -> AsyncIterator[AsyncIterator[LogLine]]:
    """The stream is let go of at once, not when somebody collects it."""
    try:
        yield lines
    finally:
        close: Any = getattr(lines, "aclose", None)
        if close is not None:
            await close()


def toolboxes(pod: PodRef) -> set[str]:
    """The ephemeral containers: what they write is kdebug's own."""
    return {str(one.get("name")) for one in pod.pod.get("spec", {}).get("ephemeralContainers") or []}


def restarted(pod: PodRef) -> tuple[str, ...]:
    """Those that have a previous instance; the others would be refused."""
    statuses = pod.pod.get("status", {}).get("containerStatuses") or []
    return tuple(str(one.get("name")) for one in statuses if (one.get("lastState") or {}).get("terminated"))
