"""What remains in pods: every toolbox that is listed, and how to ask or end one."""

from __future__ import annotations

import dataclasses
import re
import signal
from datetime import datetime, timezone
from typing import Optional

from kdebug.channel.delivery import HOLD_VARIABLE
from kdebug.errors import ConnectionLost, Failed
from kdebug.kube import ephemeral
from kdebug.kube.api import Api, Parameters, ServerRefusal
from kdebug.kube.failures import words
from kdebug.kube.pods import Object, Selected, container_status, pods_path
from kdebug.kube.stream import Toolbox
from kdebug.protocol.processes import Process
from kdebug.protocol.requests import OpenTarget, SendSignal
from kdebug.target import Target
from kdebug.target.cluster import Session
from kdebug.target.connection import Connection

PAGE = "500"


async def list_sessions(api: Api, namespace: str) -> list[Session]:
    """Of one namespace, or of all when it is "". Raises `KdebugError` with the server's words."""
    path = pods_path(namespace) if namespace else "/api/v1/pods"
    found: list[Session] = []
    parameters: Parameters = [("limit", PAGE)]
    while True:
        page = await api.get("the pods cannot be listed", path, parameters)
        for pod in page.get("items", []):
            found += [session(pod, toolbox) for toolbox in ephemeral.toolboxes(pod)]
        token = (page.get("metadata") or {}).get("continue")
        if not token:
            return found
        parameters = [("limit", PAGE), ("continue", str(token))]


def session(pod: Object, toolbox: Object) -> Session:
    """What the pod says of one toolbox; nothing of it is a promise of when it ends."""
    status = container_status(pod, toolbox["name"]).get("state") or {}
    kind = next(iter(status), "waiting")
    told = words(status.get(kind) or {})
    return Session(
        namespace=pod["metadata"]["namespace"],
        pod=pod["metadata"]["name"],
        container=str(toolbox.get("targetContainerName") or ""),
        toolbox=toolbox["name"],
        state=f"{kind} ({told})" if told and kind != "running" else kind,
        profile=ephemeral.profile_of(toolbox),
        image=str(toolbox.get("image") or ""),
        started_at=(status.get(kind) or {}).get("startedAt"),
        reason=next(
            (str(e.get("value")) for e in toolbox.get("env") or [] if e["name"] == ephemeral.REASON), ""
        ),
    )


async def ask(api: Api, asked: Session) -> Session:
    """With `expires_at` from the toolbox' own first process. Raises `Failed` when it does not run."""
    connection, hold, now = await _hold(api, asked)
    await connection.close()
    return dataclasses.replace(asked, expires_at=expiry(hold, now))


def expiry(hold: Process, now: float) -> Optional[str]:
    """When it ends if nobody attaches from now on; None when its arguments are not ours."""
    options = dict(re.findall(r"--(ttl|max-ttl|idle)\0([0-9.e+]+)", "\0".join(hold.cmdline or ())))
    try:
        ttl, longest, idle = (float(options[name]) for name in ("ttl", "max-ttl", "idle"))
    except (KeyError, ValueError):
        return None
    ends = min(now + idle, max(hold.started_at + ttl, now), hold.started_at + longest)
    return datetime.fromtimestamp(ends, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


async def end(api: Api, selected: Selected, toolbox: str, image: str) -> None:
    """`stop` by name, for a toolbox that is known to run."""
    running = Session(selected.namespace, selected.name, selected.container, toolbox, "running", "", image)
    await stop(api, running)


async def stop(api: Api, stopped: Session) -> None:
    """SIGTERM to the toolbox' first process. Raises `Failed`, `AccessDenied`."""
    connection, hold, _ = await _hold(api, stopped)
    try:
        await connection.send(SendSignal(hold.pid, hold.start_ticks, signal.SIGTERM))
    except ConnectionLost:
        pass  # the container ended before its answer came
    finally:
        await connection.close()


async def _hold(api: Api, wanted: Session) -> tuple[Connection, Process, float]:
    """A connection into the toolbox, its first process, and the agent's clock."""
    if wanted.state.startswith("terminated"):
        raise Failed(f"{wanted.toolbox} in {wanted.pod} does not run", why=wanted.state)
    pod = {"metadata": {"name": wanted.pod, "namespace": wanted.namespace}, "spec": {}}
    toolbox = Toolbox(api, Selected(pod, wanted.container), wanted.toolbox, wanted.image)
    try:
        connection = await toolbox.connect(request_seconds=api.seconds)
    except ServerRefusal as refused:
        raise refused.explained(f"exec into {wanted.toolbox} is refused") from refused
    try:
        target = await Target.open(connection, OpenTarget(pid=connection.hello.pid), wanted.toolbox)
        own = target.info.agent_container
        # To its last page, however many processes the pod has: hold started after the target's.
        page = await target.processes(fds=False)
        for process in page.items:
            if own is not None and process.container == own and _is_hold(process):
                return connection, process, page.taken_at
    except BaseException:
        await connection.close()
        raise
    await connection.close()
    raise Failed(f"{wanted.toolbox} in {wanted.pod} is not a toolbox of kdebug", why="no `hold` runs in it")


def _is_hold(process: Process) -> bool:
    arguments = process.cmdline or ()
    return any(HOLD_VARIABLE in word or word.endswith("kdebug-agent") for word in arguments[:5]) and (
        "serve" not in arguments
    )
