"""From a toolbox to a `Connection`: exec the image's own agent, or deliver ours; tried early, told late.

The API server takes an exec for a container that is in the spec, and the kubelet asks the runtime, not
the status. So exec is tried right after the PATCH, beside a watch that reports failures (facts: first
success after 0.2 s where the status takes 0.6 to 1.1 s).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from kdebug.agent.source import agent_sources
from kdebug.channel.delivery import archive, delivered_agent_command
from kdebug.errors import ConnectionLost, DeadlinePassed, KdebugError, NotFound, ProtocolViolation
from kdebug.kube.api import Api, Parameters, ServerRefusal
from kdebug.kube.exec import ExecChannel
from kdebug.kube.failures import ToolboxFailed, toolbox_state, words
from kdebug.kube.images import OWN_AGENT, holds_agent
from kdebug.kube.pods import Object, Selected, container_status, pods_path
from kdebug.protocol.hello import hash_sources
from kdebug.target.connection import Connection

EARLY_TRIES = (0.1, 0.05, 0.04, 0.04, 0.05, 0.1, 0.3, 0.6)
"""Seconds before each of at most 8 tries, within 1.5 s of the PATCH; most where most containers start."""
LATE_TRIES, LATE_PAUSE = 6, 0.25
"""Once the kubelet says that it runs, an exec that fails is tried again this often."""
WATCH_SECONDS = 240
"""A watch lasts as long and is asked for again; one that is silent for longer is dead (NAT, proxies)."""
WATCH_PAUSE = 1.0
"""Between the starts of two watches, where a server ends or refuses them at once."""
NOT_YET = (404, 500, 502, 503)
"""HTTP statuses of an exec whose container does not run yet."""


class Toolbox:
    """One toolbox container, as the client talks to it."""

    def __init__(
        self, api: Api, selected: Selected, name: str, image: str, agent_flags: tuple[str, ...] = ()
    ) -> None:
        self.api = api
        self.selected = selected
        self.name = name
        self.image = image
        self._flags = agent_flags
        self._own_agent = holds_agent(image)
        self.delivered = not self._own_agent
        """Whether the running agent came from the client."""
        self.heard = ""
        """What an exec that did not come about was answered last."""

    async def connect(self, *, request_seconds: float) -> Connection:
        """A new agent in the running toolbox. Raises `ServerRefusal` while it does not run."""
        if self._own_agent:
            connection = await self._connect_own(request_seconds)
            if connection is not None:
                return connection
            self._own_agent, self.delivered = False, True
        payload = archive()
        command = delivered_agent_command(payload, *self._flags)
        channel = await self._exec(command)
        try:
            await channel.write(payload)
        except BaseException:
            await channel.close()
            raise
        return await Connection.open(
            channel, request_seconds=request_seconds, hello_seconds=request_seconds
        )

    async def _connect_own(self, request_seconds: float) -> Connection | None:
        """None where the image has no agent, or one of another version: then ours is delivered."""
        channel = await self._exec([OWN_AGENT, "serve", *self._flags])
        try:
            connection = await Connection.open(
                channel, request_seconds=request_seconds, hello_seconds=request_seconds
            )
        except ConnectionLost as lost:
            end = channel.end
            if end is None or end.exit_code == 137:
                raise
            if end.not_started:
                raise ServerRefusal(end.code, "", end.message, {}) from lost
            return None
        if connection.hello.source_hash == hash_sources(agent_sources()):
            return connection
        await connection.close()
        return None

    async def _exec(self, command: list[str]) -> ExecChannel:
        selected = self.selected
        return await ExecChannel.start(self.api, selected.namespace, selected.name, self.name, command)


async def connect_when_running(toolbox: Toolbox, pod: Object, target: str, seconds: float) -> Connection:
    """Raises `ToolboxFailed`, `DeadlinePassed` with the kubelet's last word, `ConnectionLost`."""
    watcher = asyncio.create_task(_wait_running(toolbox, pod, target), name="kdebug-watch")
    # The watch takes the connection that there is; the first exec comes a tenth of a second later.
    warmer = asyncio.create_task(toolbox.api.warm(), name="kdebug-warm")
    try:
        async with asyncio.timeout(seconds):
            connection = await _early(toolbox, watcher, seconds)
            return connection or await _late(toolbox, watcher, seconds)
    except TimeoutError:
        raise await _late_error(toolbox, seconds) from None
    finally:
        watcher.cancel()
        warmer.cancel()
        await asyncio.gather(watcher, warmer, return_exceptions=True)


async def _early(toolbox: Toolbox, watcher: asyncio.Task[None], seconds: float) -> Connection | None:
    for pause in EARLY_TRIES:
        done, _ = await asyncio.wait({watcher}, timeout=pause)
        if done:
            return None
        try:
            return await _connect_beside(watcher, toolbox, seconds)
        except ServerRefusal as refused:
            if refused.code not in NOT_YET:
                raise refused.explained(f"exec into {toolbox.selected.label} is refused") from refused
            toolbox.heard = refused.message
        except ProtocolViolation:
            raise
        except ConnectionLost as lost:
            toolbox.heard = lost.why
            # The stream was opened and ended: a container in the act of starting or of ending. The watch
            # will tell which.
            if not _ended_early(lost):
                raise
    return None


async def _connect_beside(watcher: asyncio.Task[None], toolbox: Toolbox, seconds: float) -> Connection:
    """An exec that hangs does not hide what the watch learns meanwhile."""
    connecting = asyncio.create_task(toolbox.connect(request_seconds=seconds), name="kdebug-connect")
    try:
        await asyncio.wait({connecting, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not connecting.done():
            watcher.result()
        return await connecting
    except BaseException:
        connecting.cancel()
        (ended,) = await asyncio.gather(connecting, return_exceptions=True)
        if isinstance(ended, Connection):
            await ended.close()
        raise


def _ended_early(lost: ConnectionLost) -> bool:
    return "ended before it greeted" in lost.what or "connection to the agent" in lost.what


async def _late(toolbox: Toolbox, watcher: asyncio.Task[None], seconds: float) -> Connection:
    await watcher
    problem: Exception | None = None
    for _ in range(LATE_TRIES):
        try:
            return await toolbox.connect(request_seconds=seconds)
        except ServerRefusal as refused:
            problem = refused.explained(f"exec into {toolbox.selected.label} is refused")
            if refused.code not in NOT_YET:
                raise problem from refused
        except ConnectionLost as lost:
            problem = lost
        await asyncio.sleep(LATE_PAUSE)
        await _check(toolbox)
    assert problem is not None
    raise problem


async def _check(toolbox: Toolbox) -> None:
    """Raises `ToolboxFailed` when the kubelet says that it has ended."""
    pod = await toolbox.api.call("GET", pods_path(toolbox.selected.namespace, toolbox.selected.name))
    toolbox_state(pod, toolbox.name, toolbox.image, toolbox.selected.container)


async def _wait_running(toolbox: Toolbox, pod: Object, target: str) -> None:
    # A pod that was deleted just before the toolbox was added: the watch may never have news of it.
    if toolbox_state(pod, toolbox.name, toolbox.image, target):
        return
    uid = pod["metadata"].get("uid")
    async for seen in watch_pod(
        toolbox.api, toolbox.selected, str(pod["metadata"].get("resourceVersion", ""))
    ):
        if seen["metadata"].get("uid") != uid:
            label = toolbox.selected.label
            raise ToolboxFailed(
                NotFound(
                    f"the pod {label} was deleted",
                    why="another pod has its name now",
                    next_step="run it again to attach to that one",
                )
            )
        if toolbox_state(seen, toolbox.name, toolbox.image, target):
            return


async def watch_pod(api: Api, selected: Selected, version: str) -> AsyncIterator[Object]:
    """The pod at every change, for ever: a watch that ends or is too old starts again from a fresh read.

    Raises `NotFound` when the pod is deleted. Where watching is not allowed, the pod is read once a second.
    """
    path, what = pods_path(selected.namespace, selected.name), f"the pod {selected.label} cannot be watched"
    may_watch = True
    while True:
        started = time.monotonic()
        if may_watch and version:
            try:
                async for kind, item in _events(api, selected, version):
                    if kind in ("ADDED", "MODIFIED"):
                        version = str(item["metadata"]["resourceVersion"])
                        yield item
                    elif kind == "DELETED":
                        yield await api.get(what, path)
                    elif kind == "ERROR":
                        break
            except ServerRefusal as refused:
                may_watch = refused.code not in (401, 403)
            except (ConnectionLost, DeadlinePassed):
                pass  # read again; if the server is gone, that says so
        item = await api.get(what, path)
        version = str(item["metadata"]["resourceVersion"])
        yield item
        await asyncio.sleep(max(0.0, WATCH_PAUSE - (time.monotonic() - started)))


async def _events(api: Api, selected: Selected, version: str) -> AsyncIterator[tuple[str, Any]]:
    parameters: Parameters = [
        ("fieldSelector", f"metadata.name={selected.name}"),
        ("watch", "1"),
        ("resourceVersion", version),
        ("timeoutSeconds", str(WATCH_SECONDS)),
    ]
    path = pods_path(selected.namespace)
    async for line in api.lines(path, parameters, idle_seconds=WATCH_SECONDS + 30.0):
        try:
            event = json.loads(line)
            yield event["type"], event["object"]
        except (ValueError, KeyError, TypeError):
            return  # cut in the middle of a line, or not the API server's


async def _late_error(toolbox: Toolbox, seconds: float) -> KdebugError:
    """What the kubelet said last, when nothing came of it in time."""
    why = "the kubelet has not said anything about it"
    step = "pulling an image takes time: give it more with --timeout, or look at `kdebug events`"
    try:
        selected = toolbox.selected
        pod = await toolbox.api.call("GET", pods_path(selected.namespace, selected.name), seconds=2.0)
        toolbox_state(pod, toolbox.name, toolbox.image, selected.container)
        state = container_status(pod, toolbox.name).get("state") or {}
        why = words(state.get("waiting") or {}) or why
        if not state:
            why = "; exec is answered: ".join(part for part in (why, toolbox.heard) if part)
            if sick := await _sick_node(toolbox.api, pod):
                why, step = (
                    f"{sick}; {why}",
                    "a node that is lost starts nothing: look at `kubectl get nodes`",
                )
        if "running" in state:
            why = "it runs, but its agent does not answer"
    except ToolboxFailed as failed:
        return failed.error
    except (ServerRefusal, KdebugError):
        pass
    return DeadlinePassed(
        f"the toolbox {toolbox.name} in {toolbox.selected.label} was not ready within {seconds:g} s",
        why=why,
        next_step=step,
    )


async def _sick_node(api: Api, pod: Object) -> str:
    """What is wrong with the pod's node; "" where nothing is, or nobody may know."""
    name = str(pod["spec"].get("nodeName") or "")
    node = await api.call("GET", f"/api/v1/nodes/{quote(name)}", seconds=2.0)
    for condition in (node.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "Ready" and condition.get("status") != "True":
            return f"the node {name} is not ready ({words(condition)})"
    return ""
