"""`asyncio.run` for verbs, whenever Ctrl-C comes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """An interrupt waits until there is a loop that it can end: one that is half made, and work that never
    began, would each tell of themselves in a traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with asyncio.Runner() as runner:
            runner.get_loop()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return runner.run(work)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        work.close()
