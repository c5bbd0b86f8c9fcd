"""Container logs as lines with their times; several containers merged by time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Optional

from kdebug.errors import KdebugError
from kdebug.kube.api import Api, Parameters, ServerRefusal
from kdebug.kube.pods import pods_path
from kdebug.target.cluster import LogLine, LogQuery, PodRef

QUEUE_LINES = 1000
"""Read ahead of the reader while several containers are followed."""


def parse_line(container: str, line: bytes) -> LogLine:
    """`TIMESTAMP TEXT`, as the log endpoint writes it with timestamps=true."""
    stamp, blank, text = line.partition(b" ")
    if not blank and stamp[:2] != b"20":
        return LogLine(container, "", line)
    return LogLine(container, stamp.decode("ascii", "replace"), text)


async def one(api: Api, pod: PodRef, container: str, query: LogQuery) -> AsyncIterator[LogLine]:
    """One container's lines, oldest first. Raises `KdebugError` with the server's words."""
    parameters: Parameters = [("container", container), ("timestamps", "true")]
    if query.previous:
        parameters.append(("previous", "true"))
    if query.follow:
        parameters.append(("follow", "true"))
    if query.since_seconds is not None:
        parameters.append(("sinceSeconds", str(query.since_seconds)))
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
    heads: dict[int, LogLine] = {}
    for index, stream in enumerate(streams):
        line = await _next(stream)
        if line is not None:
            heads[index] = line
    while heads:
        index = min(heads, key=lambda i: heads[i].at)
        yield heads[index]
        following = await _next(streams[index])
        if following is None:
            del heads[index]
        else:
            heads[index] = following


async def _as_they_come(streams: list[AsyncIterator[LogLine]]) -> AsyncIterator[LogLine]:
    lines: asyncio.Queue[Optional[LogLine] | KdebugError] = asyncio.Queue(QUEUE_LINES)

    async def pump(stream: AsyncIterator[LogLine]) -> None:
        try:
            async for line in stream:
                await lines.put(line)
        except KdebugError as error:
            await lines.put(error)
        else:
            await lines.put(None)

    tasks = [asyncio.create_task(pump(stream), name="kdebug-log") for stream in streams]
    left, problem = len(tasks), None
    try:
        while left:
            item = await lines.get()
            if isinstance(item, LogLine):
                yield item
                continue
            left, problem = left - 1, item or problem
        if problem is not None:
            raise problem
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _next(stream: AsyncIterator[LogLine]) -> Optional[LogLine]:
    async for line in stream:
        return line
    return None
