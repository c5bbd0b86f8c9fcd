"""The pods of one namespace, or of all, kept up to date for the picker: listed, watched, tried again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Optional

from kdebug.errors import AccessDenied, KdebugError, NotFound, UsageError
from kdebug.target.cluster import Cluster, PodDelta
from kdebug.tui.picker_rows import PodRow
from kdebug.tui.session import BACKOFF_SECONDS

Key = tuple[str, str]
FINAL = (AccessDenied, NotFound, UsageError)
"""What trying again does not mend: somebody has to change something first."""


class PodFeed:
    """What is known, and how old it is. `run` it in a worker; cancel it to stop, run it again to go on."""

    def __init__(
        self,
        opened: Callable[[], Awaitable[Cluster]],
        namespace: Optional[str],
        changed: Callable[[], None],
    ) -> None:
        self._opened = opened
        self._changed = changed
        self._wake = asyncio.Event()
        self._old: set[Key] = set()
        self.namespace = namespace
        """"" for all; None until the cluster says which one is meant."""
        self.cluster: Optional[Cluster] = None
        self.rows: dict[Key, PodRow] = {}
        self.listing = True
        """A list is under way."""
        self.complete = False
        """A whole list was seen once."""
        self.remaining = 0
        self.polled = ""
        """Why there is no watch."""
        self.note = ""
        """What was not possible, and what is shown instead."""
        self.problem: Optional[KdebugError] = None
        self.heard = 0.0
        """When the server last said something (monotonic)."""
        self.retry_at: Optional[float] = None
        """When it is tried again by itself (monotonic); None: only when somebody asks."""

    async def run(self) -> None:
        attempt = 0
        while True:
            heard = self.heard
            try:
                await self._follow()
                self.retry_at = time.monotonic() + 1.0  # nothing that is watched ends by itself
            except KdebugError as error:
                if self._fell_back(error):
                    continue
                attempt = 0 if self.heard != heard else attempt
                self._fail(error, attempt)
            attempt += 1
            await self._pause()

    async def _follow(self) -> None:
        self.listing = True
        self.cluster = await self._opened()
        if self.namespace is None:
            self.namespace = self.cluster.namespace
        async for delta in self.cluster.pods(self.namespace):
            self._take(delta)

    def _take(self, delta: PodDelta) -> None:
        self.problem, self.heard, self.polled = None, time.monotonic(), delta.polled
        if delta.first:
            self.listing, self._old = True, set(self.rows)
        for pod in delta.pods:
            row = self.rows.get(pod.key)
            if row is None or row.pod.version != pod.version or not pod.version:
                self.rows[pod.key] = PodRow(pod)
            self._old.discard(pod.key)
        for key in delta.gone:
            self.rows.pop(key, None)
        self.remaining = delta.remaining
        if delta.complete:
            for key in self._old:
                self.rows.pop(key, None)
            self._old, self.listing, self.complete = set(), False, True
        self._changed()

    def _fell_back(self, error: KdebugError) -> bool:
        """Who may not list every namespace is shown the one that the context names."""
        if self.namespace != "" or self.cluster is None or not isinstance(error, AccessDenied):
            return False
        if not self.cluster.namespace:
            return False
        self.namespace = self.cluster.namespace
        self.note = f"all namespaces may not be listed, this is {self.namespace}: {error.why}"
        self.rows.clear()
        return True

    def _fail(self, error: KdebugError, attempt: int) -> None:
        self.problem, self.listing = error, False
        again = BACKOFF_SECONDS[min(attempt, len(BACKOFF_SECONDS) - 1)]
        self.retry_at = None if isinstance(error, FINAL) else time.monotonic() + again
        self._changed()

    async def _pause(self) -> None:
        seconds = None if self.retry_at is None else max(0.0, self.retry_at - time.monotonic())
        self._wake.clear()
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except asyncio.TimeoutError:
            pass

    def retry(self) -> None:
        """Do not wait any longer."""
        self._wake.set()
