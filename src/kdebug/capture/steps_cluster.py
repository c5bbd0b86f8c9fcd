"""Steps that ask the API server: objects of the pod, and the logs of its containers."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

from kdebug.capture.sink import PARTIAL, Artifact
from kdebug.capture.work import StepWork
from kdebug.errors import KdebugError
from kdebug.protocol import codec
from kdebug.target.cluster import LogLine, LogQuery, PodRef

TOOLBOXES = "kdebug-"
"""Names of ephemeral containers that are our own: what they log is nothing of the target's."""


async def kubernetes(run: StepWork) -> None:
    for item in run.step.items:
        artifact = run.artifact(f"kubernetes {item}")
        async with run.taking(artifact, of_target=False):
            await _object(run, artifact, item)


async def _object(run: StepWork, artifact: Artifact, item: str) -> None:
    cluster, pod = run.work.cluster, run.work.pod
    assert cluster is not None and pod is not None
    if item == "pod":
        pod = run.work.pod = await _refreshed(run, artifact, pod)
        document: Any = pod.pod
    elif item == "events":
        document = [codec.to_plain(event) for event in await cluster.events(pod)]
    elif item == "story":
        document = dataclasses.asdict(await cluster.story(pod))
    else:
        document = (await cluster.related(pod))[item]
        if isinstance(document, KdebugError):
            raise document
        if document is None:
            artifact.outcome, artifact.reason = "missing", f"the pod has no {item}"
            return
    run.work.sink.json(artifact, f"kubernetes/{item}.json", document)


async def _refreshed(run: StepWork, artifact: Artifact, pod: PodRef) -> PodRef:
    """As it is now, after the attach; a pod that is gone meanwhile as it was seen last."""
    assert run.work.cluster is not None
    try:
        return await run.work.cluster.refresh(pod)
    except KdebugError as error:
        artifact.outcome, artifact.reason = PARTIAL, f"as it was when the capture began: {error}"
        return pod


async def logs(run: StepWork) -> None:
    assert run.work.pod is not None
    pod = run.work.pod
    containers = [name for name in pod.containers if not name.startswith(TOOLBOXES)]
    wanted = containers if "all" in run.step.items else list(run.step.items)
    for container in wanted:
        await _log(run, container, False)
        if run.step.previous and container in restarted(pod):
            await _log(run, container, True)


def restarted(pod: PodRef) -> set[str]:
    """Containers that have a previous instance."""
    status = pod.pod.get("status") or {}
    every = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
    return {str(one.get("name")) for one in every if (one.get("lastState") or {}).get("terminated")}


async def _log(run: StepWork, container: str, previous: bool) -> None:
    word = " of the previous instance" if previous else ""
    artifact = run.artifact(f"log of {container}{word}")
    async with run.taking(artifact, of_target=False):
        await _stream(run, artifact, container, previous)


async def _stream(run: StepWork, artifact: Artifact, container: str, previous: bool) -> None:
    cluster, pod, step = run.work.cluster, run.work.pod, run.step
    assert cluster is not None and pod is not None
    query = LogQuery(previous, False, round(step.since) or None if step.since else None, step.tail or None)
    sink, lines = run.work.sink, 0
    contents = sink.stream(artifact, f"logs/{container}{'.previous' if previous else ''}.log")
    before = sink.taken_bytes
    try:
        async with contextlib.aclosing(cluster.logs(pod, (container,), query)) as stream:  # type: ignore[type-var]
            async for line in stream:
                contents.write(written(line))
                lines += 1
                if run.taken_bytes + sink.taken_bytes - before > step.max_bytes:
                    artifact.outcome, artifact.reason = (
                        PARTIAL,
                        f"the step's {step.max_bytes} bytes are used",
                    )
                    break
    finally:
        contents.close()
        sink.logs.append(
            {"container": container, "previous": previous, "member": contents.name, "lines": lines}
        )


def written(line: LogLine) -> bytes:
    """As `kubectl logs --timestamps` writes it."""
    return (line.at.encode("ascii", "replace") + b" " if line.at else b"") + line.text + b"\n"
