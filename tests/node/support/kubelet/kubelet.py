"""The kubelet: one worker for each pod of its node, a relist of the runtime once a second."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from ..facade.store import Change, Store
from ..runtime import Runtime
from .cri import Cri
from .events import Recorder
from .pulling import Puller
from .worker import Worker

Object = dict[str, Any]

RELIST_SECONDS = 1.0
"""A real kubelet shows a change of state when it next relists; clients must not count on less."""


class Kubelet:
    address = "192.0.2.1"
    """The node's end of the bridge."""

    def __init__(self, runtime: Runtime, store: Store, node: str) -> None:
        self.runtime, self.store, self.node = runtime, store, node
        self.cri = Cri(runtime.socket)
        self.events = Recorder(store, node)
        self.puller = Puller(self.cri)
        self.backoff = 10.0
        """Seconds before the second restart of a container that ends; doubled at each further one."""
        self.publishing = True
        self.tells_user = True
        """Whether a container's status says whom it runs as; older kubelets do not (KEP-3619)."""
        self._workers: dict[str, tuple[Worker, asyncio.Task[None]]] = {}
        self._epoch = time.monotonic()
        self._stop_listening = store.listen(self._on_change)

    def until_relist(self) -> float:
        return RELIST_SECONDS - (time.monotonic() - self._epoch) % RELIST_SECONDS

    def worker(self, uid: str) -> Worker | None:
        entry = self._workers.get(uid)
        return entry[0] if entry else None

    def _on_change(self, change: Change) -> None:
        if change.resource != "pods" or change.new["spec"].get("nodeName") != self.node:
            return
        uid = change.new["metadata"]["uid"]
        if change.kind == "ADDED":
            self._adopt(uid, change.new)
        elif uid in self._workers and _concerns_the_worker(change):
            self._workers[uid][0].wake.set()

    def _adopt(self, uid: str, pod: Object) -> None:
        worker = Worker(self, pod)
        task = asyncio.get_running_loop().create_task(
            worker.run(), name=f"pod {worker.namespace}/{worker.name}"
        )
        self._workers[uid] = worker, task
        task.add_done_callback(lambda done: self._ended(uid, done))

    def _ended(self, uid: str, task: asyncio.Task[None]) -> None:
        self._workers.pop(uid, None)
        if not task.cancelled() and (problem := task.exception()):
            asyncio.get_running_loop().call_exception_handler(
                {"message": task.get_name(), "exception": problem}
            )

    async def close(self) -> None:
        """The pods are left to the end of the runtime, which takes them all at once."""
        self._stop_listening()
        tasks = [task for _, task in self._workers.values()]
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
        await self.cri.close()


def _concerns_the_worker(change: Change) -> bool:
    old = change.old
    if change.kind == "DELETED" or old is None:
        return True
    ending = "deletionTimestamp" in change.new["metadata"] and "deletionTimestamp" not in old["metadata"]
    return ending or change.new["spec"] != old["spec"]
