"""LIST and WATCH: selectors, pages, bookmarks, and the 410 that makes a client list again."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from . import errors, selectors, tables
from .resources import Resource
from .store import Change, Feed, Store

Object = dict[str, Any]
Query = dict[str, str]


class Selection:
    """What a LIST or WATCH asks for."""

    def __init__(self, resource: Resource, namespace: str, name: str, query: Query) -> None:
        by_label = selectors.labels(query.get("labelSelector", ""))
        by_field = selectors.fields(query.get("fieldSelector", ""))
        self.resource, self.namespace = resource, namespace
        self._predicates: list[Callable[[Object], bool]] = [by_label, by_field]
        if name:
            self._predicates.append(lambda item: item["metadata"]["name"] == name)

    def matches(self, item: Object) -> bool:
        if self.namespace and item["metadata"].get("namespace") != self.namespace:
            return False
        return all(predicate(item) for predicate in self._predicates)

    def seen(self, change: Change) -> tuple[str, Object] | None:
        """A change as this selection sees it: an object that stops matching is DELETED to it."""
        if change.resource != self.resource.plural:
            return None
        now = change.kind != "DELETED" and self.matches(change.new)
        before = change.old is not None and self.matches(change.old)
        if now:
            return ("MODIFIED" if before else "ADDED"), change.new
        return ("DELETED", change.new) if before else None


def page(store: Store, selection: Selection, query: Query, accept: str) -> Object:
    resource = selection.resource
    items = [item for item in store.list(resource.plural, selection.namespace) if selection.matches(item)]
    version, limit = store.version, int(query.get("limit") or 0)
    if token := query.get("continue"):
        version, items = _continued(store, items, token)
    metadata: Object = {"resourceVersion": str(version)}
    if limit and len(items) > limit:
        metadata["continue"] = _token(version, items[limit - 1])
        metadata["remainingItemCount"] = len(items) - limit
        items = items[:limit]
    if resource.plural == "pods" and tables.wanted(accept):
        return tables.of_pods(items, metadata)
    return {
        "kind": f"{resource.kind}List",
        "apiVersion": resource.api_version,
        "metadata": metadata,
        "items": items,
    }


def _key(item: Object) -> list[str]:
    return [item["metadata"].get("namespace", ""), item["metadata"]["name"]]


def _token(version: int, last: Object) -> str:
    return base64.urlsafe_b64encode(json.dumps([version, *_key(last)]).encode()).decode()


def _continued(store: Store, items: list[Object], token: str) -> tuple[int, list[Object]]:
    try:
        version, *after = json.loads(base64.urlsafe_b64decode(token))
    except ValueError:
        raise errors.bad_request("continue key is not valid") from None
    if version < store.oldest:
        raise errors.expired_continue()
    return version, [item for item in items if _key(item) > after]


class Watch:
    """The events of one watch request, as lines of JSON."""

    bookmark_seconds = 5.0
    """A real server sends one about once a minute; tests cannot wait for that."""

    def __init__(self, store: Store, selection: Selection, query: Query, accept: str) -> None:
        self._store, self._selection = store, selection
        self._as_table = selection.resource.plural == "pods" and tables.wanted(accept)
        self._bookmarks = query.get("allowWatchBookmarks") in ("true", "1")
        self._asked = query.get("resourceVersion", "")
        self._initial = query.get("sendInitialEvents") == "true"
        self._ends = time.monotonic() + float(query.get("timeoutSeconds") or 1800)

    def _line(self, kind: str, item: Object) -> bytes:
        if self._as_table and kind in ("ADDED", "MODIFIED", "DELETED"):
            version = {"resourceVersion": item["metadata"]["resourceVersion"]}
            item = tables.of_pods([item], version)
        return json.dumps({"type": kind, "object": item}).encode() + b"\n"

    def _bookmark(self, version: int, initial: bool = False) -> bytes:
        resource = self._selection.resource
        metadata: Object = {"resourceVersion": str(version), "creationTimestamp": None}
        if initial:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        if self._as_table:
            return self._line("BOOKMARK", tables.of_pods([], metadata))
        return self._line(
            "BOOKMARK", {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
        )

    async def lines(self) -> AsyncIterator[bytes]:
        fresh = self._asked in ("", "0") or self._initial
        version = self._store.version if fresh else int(self._asked)
        try:
            feed = Feed(self._store, version)
        except errors.ApiError as problem:
            yield self._line("ERROR", problem.status())
            return
        try:
            if fresh:
                for item in self._store.list(self._selection.resource.plural, self._selection.namespace):
                    if self._selection.matches(item):
                        yield self._line("ADDED", item)
                if self._initial:
                    yield self._bookmark(version, initial=True)
            async for line in self._following(feed, version):
                yield line
        finally:
            feed.close()

    async def _following(self, feed: Feed, version: int) -> AsyncIterator[bytes]:
        told = version
        bookmark_at = time.monotonic() + self.bookmark_seconds
        while (now := time.monotonic()) < self._ends:
            change = await feed.next(max(0.0, min(self._ends, bookmark_at) - now))
            if change is not None:
                version = change.version
                if seen := self._selection.seen(change):
                    told = version
                    yield self._line(*seen)
            elif self._bookmarks and version >= told and time.monotonic() >= bookmark_at:
                yield self._bookmark(version)
            if time.monotonic() >= bookmark_at:
                bookmark_at += self.bookmark_seconds
            await asyncio.sleep(0)
