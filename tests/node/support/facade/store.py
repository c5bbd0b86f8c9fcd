"""Objects with resource versions and a bounded history, which is what makes watches and their 410 real.

Objects in the store are never changed in place: a write replaces them, so readers need no copies and
the history holds what each version was.
"""

from __future__ import annotations

import asyncio
import copy
import datetime
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from . import errors

Object = dict[str, Any]

HISTORY = 2000
"""Changes kept for watches; a watch from before them is told 410, as by a compacted etcd."""


def timestamp(micro: bool = False) -> str:
    now = datetime.datetime.now(datetime.timezone.utc)
    return now.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Change:
    version: int
    resource: str
    kind: str
    """ADDED, MODIFIED or DELETED."""
    new: Object
    old: Object | None


class Store:
    """All of it lives on one event loop; nothing here waits, so no lock is needed."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[tuple[str, str], Object]] = {}
        self._history: deque[Change] = deque(maxlen=HISTORY)
        self._listeners: set[Callable[[Change], None]] = set()
        self.version = 1
        self.oldest = 1
        """Watches from an older version than this are refused."""

    def get(self, resource: str, namespace: str, name: str) -> Object:
        found = self.find(resource, namespace, name)
        if found is None:
            raise errors.not_found(resource, name)
        return found

    def find(self, resource: str, namespace: str, name: str) -> Object | None:
        return self._objects.get(resource, {}).get((namespace, name))

    def list(self, resource: str, namespace: str = "") -> list[Object]:
        objects = self._objects.get(resource, {})
        return [objects[key] for key in sorted(objects) if not namespace or key[0] == namespace]

    def create(self, resource: str, new: Object) -> Object:
        metadata = new.setdefault("metadata", {})
        key = metadata.get("namespace", ""), metadata["name"]
        if key in self._objects.setdefault(resource, {}):
            raise errors.already_exists(resource, metadata["name"])
        metadata.setdefault("uid", str(uuid.uuid4()))
        metadata.setdefault("creationTimestamp", timestamp())
        return self._write(resource, "ADDED", new, None)

    def update(self, resource: str, new: Object) -> Object:
        """Write over what is there; a stale `resourceVersion` is a conflict, an absent one is not."""
        metadata = new["metadata"]
        old = self.get(resource, metadata.get("namespace", ""), metadata["name"])
        asked = metadata.get("resourceVersion")
        if asked and asked != old["metadata"]["resourceVersion"]:
            raise errors.conflict(resource, metadata["name"])
        if {**metadata, "resourceVersion": ""} == {**old["metadata"], "resourceVersion": ""} and all(
            new.get(part) == old.get(part) for part in {*new, *old} - {"metadata"}
        ):
            return old
        return self._write(resource, "MODIFIED", new, old)

    def modify(self, resource: str, namespace: str, name: str, change: Callable[[Object], None]) -> Object:
        """Apply `change` to a copy of the newest version: what a controller does, without conflicts."""
        new = copy.deepcopy(self.get(resource, namespace, name))
        change(new)
        new["metadata"].pop("resourceVersion", None)
        return self.update(resource, new)

    def delete(self, resource: str, namespace: str, name: str) -> Object:
        old = self.get(resource, namespace, name)
        return self._write(resource, "DELETED", copy.deepcopy(old), old)

    def _write(self, resource: str, kind: str, new: Object, old: Object | None) -> Object:
        self.version += 1
        new["metadata"]["resourceVersion"] = str(self.version)
        key = new["metadata"].get("namespace", ""), new["metadata"]["name"]
        objects = self._objects.setdefault(resource, {})
        if kind == "DELETED":
            del objects[key]
        else:
            objects[key] = new
        change = Change(self.version, resource, kind, new, old)
        if len(self._history) == HISTORY:
            self.oldest = self._history[0].version
        self._history.append(change)
        for listener in tuple(self._listeners):
            listener(change)
        return new

    def forget_history(self) -> None:
        """What compaction does: every watch that resumes from before now is told 410."""
        self._history.clear()
        self.version += 1
        self.oldest = self.version

    def since(self, version: int) -> Iterator[Change]:
        if version < self.oldest - 1:
            raise errors.gone(version, self.oldest)
        return (change for change in tuple(self._history) if change.version > version)

    def listen(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Call `listener` with every change from now on; returns how to stop that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)


class Feed:
    """The changes from a version on, as an endless stream."""

    def __init__(self, store: Store, version: int) -> None:
        self._queue: asyncio.Queue[Change] = asyncio.Queue()
        for change in store.since(version):
            self._queue.put_nowait(change)
        self.close = store.listen(self._queue.put_nowait)

    async def next(self, timeout: float) -> Change | None:
        """The next change, or `None` when there was none for `timeout` seconds."""
        try:
            return await asyncio.wait_for(self._queue.get(), timeout)
        except asyncio.TimeoutError:
            return None
