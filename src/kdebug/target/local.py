"""The agent's dispatch in threads of this process: `local:PID` needs no stream and no second process."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kdebug import threads
from kdebug.agent import dispatch
from kdebug.agent.session import Session
from kdebug.protocol.requests import HEAVY, QUICK, WAIT, Request
from kdebug.target.backend import late

R = TypeVar("R")

THREADS = {QUICK: 1, HEAVY: 2, WAIT: 8}
"""As in the agent's server, so that order and concurrency are the same."""


MAX_STUCK = 8
"""Pools that may be left behind like that."""


def _pool(lane: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS[lane], thread_name_prefix=f"kdebug-{lane}")


class LocalBackend:
    """`Backend` over `dispatch.handle` with the caller's own rights."""

    def __init__(self, session: Session, *, request_seconds: float = 30.0) -> None:
        self._session = session
        self._request_seconds = request_seconds
        self._lanes = {lane: _pool(lane) for lane in THREADS}
        self._stuck = 0

    async def send(self, request: Request[R]) -> R:
        cancelled = threads.Event()
        loop = asyncio.get_running_loop()
        seconds = self._request_seconds + getattr(request, "wait_seconds", 0.0)
        future: asyncio.Future[R] = loop.run_in_executor(
            self._lanes[request.lane], dispatch.handle, self._session, request, cancelled
        )
        try:
            # A dead network file system may hold the thread for ever; it must not hold us.
            await asyncio.wait({future}, timeout=seconds)
            if not future.done():
                self._replace(request.lane)
                raise late(request, seconds)
        finally:
            cancelled.set()
            future.cancel()
        answer = future.result()
        request.check(answer)
        return answer

    def _replace(self, lane: str) -> None:
        """What comes next must not wait behind a thread that may never come back."""
        if self._stuck < MAX_STUCK:
            self._stuck += 1
            self._lanes[lane].shutdown(wait=False)
            self._lanes[lane] = _pool(lane)

    async def close(self) -> None:
        for lane in self._lanes.values():
            lane.shutdown(wait=False, cancel_futures=True)
        self._session.close()
