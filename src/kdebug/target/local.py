"""The agent's dispatch in threads of this process: `local:PID` needs no stream and no second process."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kdebug.agent import dispatch
from kdebug.agent.session import Session
from kdebug.protocol.requests import HEAVY, QUICK, WAIT, Request

R = TypeVar("R")

THREADS = {QUICK: 1, HEAVY: 2, WAIT: 8}
"""As in the agent's server, so that order and concurrency are the same."""


class LocalBackend:
    """`Backend` over `dispatch.handle` with the caller's own rights."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lanes = {
            lane: ThreadPoolExecutor(count, thread_name_prefix=f"kdebug-{lane}")
            for lane, count in THREADS.items()
        }

    async def send(self, request: Request[R]) -> R:
        cancelled = threading.Event()
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(
            self._lanes[request.lane], dispatch.handle, self._session, request, cancelled
        )
        try:
            answer: R = await future
        finally:
            cancelled.set()
        request.check(answer)
        return answer

    async def close(self) -> None:
        for lane in self._lanes.values():
            lane.shutdown(wait=False, cancel_futures=True)
        self._session.close()
