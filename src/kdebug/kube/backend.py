"""`Backend` over a toolbox: reconnects to the same one, and says why when it cannot.

A request that changes nothing and stands alone is sent again after a reconnect; one that depends on what
the lost agent held (a cursor, an open file) or may have taken effect is not.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from kdebug.errors import ConnectionLost, KdebugError, ProtocolViolation, TargetLost
from kdebug.kube.api import ServerRefusal
from kdebug.kube.failures import ended_text
from kdebug.kube.pods import container_id, container_status, pods_path
from kdebug.kube.stream import Toolbox
from kdebug.protocol.requests import OpenTarget, Request
from kdebug.target.connection import Connection

R = TypeVar("R")
KILLED = "exit code 137"
"""Of an agent whose container, or whose target's namespace, has ended."""
LOOK_SECONDS = 3.0
"""For asking the API server why a stream ended."""
LOOKS, LOOK_PAUSE = 5, 0.4
"""The kubelet tells of an end up to a second after it."""


class PodBackend:
    """One target in one pod."""

    def __init__(
        self, toolbox: Toolbox, connection: Connection, opened: OpenTarget, request_seconds: float
    ) -> None:
        self.toolbox = toolbox
        self._connection = connection
        self._opened = opened
        self._seconds = request_seconds
        self._reconnecting = asyncio.Lock()
        self.reconnects = 0
        self._failures = 0
        self._failure: KdebugError | None = None
        self._closed = False

    async def send(self, request: Request[R]) -> R:
        connection = self._connection
        try:
            return await connection.send(request)
        except ProtocolViolation:
            raise
        except ConnectionLost as lost:
            if self._closed:
                raise
            if not repeatable(request):
                raise await self._explained(lost) from lost
            await self._reconnect(connection, lost)
        try:
            return await self._connection.send(request)
        except ProtocolViolation:
            raise
        except ConnectionLost as lost:
            raise await self._explained(lost) from lost

    async def _reconnect(self, broken: Connection, lost: ConnectionLost) -> None:
        """Once for all requests that lost the same stream, whether it works or not.

        Raises `ConnectionLost` with what ended, or `AccessDenied` where the server no longer lets us in.
        """
        failures = self._failures
        async with self._reconnecting:
            if self._connection is not broken:
                return
            if self._failures != failures and self._failure is not None:
                raise self._failure  # while this one waited for its turn
            await broken.close()
            try:
                async with asyncio.timeout(self._seconds):
                    connection = await self._reopened()
            except (ServerRefusal, KdebugError, TimeoutError) as error:
                self._failure = self._shut_out(error) or await self._explained(lost, LOOKS)
                self._failures += 1
                raise self._failure from error
            if self._closed:
                await connection.close()
                raise lost
            self._connection = connection
            self.reconnects += 1

    async def _reopened(self) -> Connection:
        connection = await self.toolbox.connect(request_seconds=self._seconds)
        try:
            await connection.send(self._opened)
        except BaseException:
            await connection.close()
            raise
        return connection

    def _shut_out(self, error: Exception) -> KdebugError | None:
        """A right or a login that ended meanwhile, in the server's words."""
        if isinstance(error, ServerRefusal) and error.code in (401, 403):
            label = self.toolbox.selected.label
            return error.explained(f"the connection to {label} is lost, and a new one is refused")
        return None

    async def _explained(self, lost: ConnectionLost, looks: int = 1) -> ConnectionLost:
        """The loss with what the API server knows of the target, which may take it some looks to learn."""
        if KILLED in lost.why:
            looks = LOOKS
        for look in range(looks):
            if look:
                await asyncio.sleep(LOOK_PAUSE)
            told = await self._told(lost)
            if told is not lost:
                return told
        return lost

    async def _told(self, lost: ConnectionLost) -> ConnectionLost:
        selected = self.toolbox.selected
        try:
            pod = await self.toolbox.api.call(
                "GET", pods_path(selected.namespace, selected.name), seconds=LOOK_SECONDS
            )
        except ServerRefusal as refused:
            if refused.code == 404:
                return TargetLost(f"the pod {selected.label} is gone", why="it was deleted")
            return lost
        except KdebugError as error:
            return ConnectionLost(lost.what, why=str(error), next_step=lost.next_step)
        return _what_ended(pod, self.toolbox, lost)

    async def close(self) -> None:
        """What is still asked gets `ConnectionLost`, and nothing reaches for the toolbox any more."""
        self._closed = True
        await self._connection.close()


def repeatable(request: Request[Any]) -> bool:
    """Whether asking again can neither do a thing twice nor miss what the lost agent held."""
    held = getattr(request, "cursor", "") or getattr(request, "handle", "") or getattr(request, "since", 0)
    return not request.mutates and not held


def _what_ended(pod: dict[str, Any], toolbox: Toolbox, lost: ConnectionLost) -> ConnectionLost:
    selected = toolbox.selected
    before = container_id(selected.pod, selected.container)
    now = container_status(pod, selected.container)
    if pod["metadata"].get("uid") != selected.pod["metadata"].get("uid"):
        return TargetLost(
            f"the pod {selected.label} is gone",
            why="it was deleted, and another pod has its name now",
            next_step="run the command again to attach to that one",
        )
    last = (now.get("lastState") or {}).get("terminated") or (now.get("state") or {}).get("terminated")
    name = f"the container {selected.container} of {selected.label}"
    if before and container_id(pod, selected.container) != before and last:
        return TargetLost(
            f"{name} has ended while it was looked at",
            why=ended_text(last),
            next_step="a new instance runs: run the command again to attach to it",
        )
    if last and "running" not in (now.get("state") or {}):
        return TargetLost(
            f"{name} has ended while it was looked at",
            why=ended_text(last),
            next_step="`--wait` attaches when it starts again",
        )
    ended = (container_status(pod, toolbox.name).get("state") or {}).get("terminated")
    if ended:
        return ConnectionLost(
            f"the toolbox {toolbox.name} has ended", why=ended_text(ended), next_step="run it again"
        )
    return lost
