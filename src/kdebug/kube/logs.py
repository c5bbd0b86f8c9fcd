"""Container logs as lines with their times; several containers merged by time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Optional

from kdebug.errors import ConnectionLost, KdebugError
from kdebug.kube.api import Api, Parameters, ServerRefusal
from kdebug.kube.pods import pods_path
from kdebug.target.cluster import LogLine, LogQuery, PodRef

QUEUE_LINES = 1000
"""Read ahead of the reader while several containers are followed."""


_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


def parse_line(container: str, line: bytes) -> LogLine:
    """`TIMESTAMP TEXT`, as the log endpoint writes it with timestamps=true.

    The kubelet's own messages and the rest of a line that was cut have none: they are text, whole.
    """
    stamp, _, text = line.partition(b" ")
    if _STAMP.fullmatch(stamp) is None:
        return LogLine(container, "", line)
    return LogLine(container, stamp.decode("ascii"), text)


async def one(api: Api, pod: PodRef, container: str, query: LogQuery) -> AsyncIterator[LogLine]:
    """One container's lines, oldest first. Raises `KdebugError` with the server's words."""
    parameters: Parameters = [("container", container), ("timestamps", "true")]
    if query.previous:
        parameters.append(("previous", "true"))
    if query.follow:
        parameters.append(("follow", "true"))
    if query.since_seconds is not None:
        parameters.append(("sinceSeconds", str(query.since_seconds)))
    if query.since_time:
        parameters.append(("sinceTime", query.since_time))
    if query.tail is not None:
        parameters.append(("tailLines", str(query.tail)))
    idle = 0.0 if query.follow else api.seconds
    try:
        async for line in api.lines(
            pods_path(pod.namespace, pod.name, "log"), parameters, idle_seconds=idle
        ):
            if line:
                yield parse_line(container, line)
    except ServerRefusal as refused:
        raise refused.explained(f"the logs of {container} in {pod.name} cannot be read") from refused


async def merged(
    api: Api, pod: PodRef, containers: tuple[str, ...], query: LogQuery
) -> AsyncIterator[LogLine]:
    """By time while there is an end; as they come when followed."""
    streams = [one(api, pod, container, query) for container in containers]
    if len(streams) == 1:
        async for line in streams[0]:
            yield line
    elif query.follow:
        async for line in _as_they_come(streams):
            yield line
    else:
        async for line in _by_time(streams):
            yield line


async def _by_time(streams: list[AsyncIterator[LogLine]]) -> AsyncIterator[LogLine]:
    """One that cannot be read (its container has not started) takes nothing from the others: its error
    comes last."""
    heads: dict[int, LogLine] = {}
    problems: list[KdebugError] = []

    async def advance(index: int) -> None:
        heads.pop(index, None)
        try:
            line = await _next(streams[index])
        except KdebugError as error:
            problems.append(error)
        else:
            if line is not None:
                heads[index] = line

    for index in range(len(streams)):
        await advance(index)
    while heads:
        # A line without a time belongs to what came before it.
        index = min(heads, key=lambda i: (heads[i].at, i))
        yield heads[index]
        await advance(index)
    if problems:
        raise _together(problems)


def _together(problems: list[KdebugError]) -> KdebugError:
    """The first, with a word about the others; the whole is partial, whatever the reason of each."""
    first, *others = problems
    more = f" (nor those of {len(others)} more)" if others else ""
    return type(first)(first.what + more, why=first.why, next_step=first.next_step)


async def _as_they_come(streams: list[AsyncIterator[LogLine]]) -> AsyncIterator[LogLine]:
    lines: asyncio.Queue[Optional[LogLine] | KdebugError] = asyncio.Queue(QUEUE_LINES)

    async def pump(stream: AsyncIterator[LogLine]) -> None:
        ended: Optional[KdebugError] = None
        try:
            async for line in stream:
                await lines.put(line)
        except KdebugError as error:
            ended = error
        except Exception as error:  # noqa: BLE001  whatever it is, the reader may not wait for ever
            ended = ConnectionLost("a log cannot be read on", why=str(error) or type(error).__name__)
        await lines.put(ended)

    tasks = [asyncio.create_task(pump(stream), name="kdebug-log") for stream in streams]
    left, problems = len(tasks), []
    try:
        while left:
            item = await lines.get()
            if isinstance(item, LogLine):
                yield item
                continue
            left -= 1
            if item is not None:
                problems.append(item)
        if problems:
            raise _together(problems)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _next(stream: AsyncIterator[LogLine]) -> Optional[LogLine]:
    async for line in stream:
        return line
    return None
