"""The pods of a namespace, or of all, listed by pages and then watched; and what attaching would do.

As the API's own clients do it (api-concepts: efficient detection of changes): a list with a version, a
watch from there, bookmarks that keep the version young, and a new list when the server has forgotten it
(410).
Pages are decoded in a thread, object by object, so that a UI can draw in between.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Optional

from kdebug.errors import ConnectionLost, DeadlinePassed, Failed, KdebugError
from kdebug.kube import ephemeral, ladder
from kdebug.kube.api import Api, Parameters, ServerRefusal
from kdebug.kube.failures import operating_system, reason_against
from kdebug.kube.pods import Object, pods_path
from kdebug.kube.summary import mapping, named, number, summary, text
from kdebug.target.cluster import Intent, PodDelta, PodSummary

PAGE = "500"
WATCH_SECONDS = 300
"""A watch lasts as long; the next one starts where it ended."""
SILENT_SECONDS = 90.0
"""A watch without a byte for longer is asked for again: bookmarks come once a minute, and a connection that
a sleeping laptop or a NAT has lost says nothing."""
POLL_SECONDS = 5.0
"""Between two lists where watching is refused; more where a list takes long."""
POLL_SHARE = 5
"""A list that took a second is not asked for again for five."""
RESTART_SECONDS = 1.0
"""Between the starts of two watches, or lists, that the server ends at once."""
NO_WATCH = (403, 404, 405, 501)
GONE = 410


class _Forgotten(Exception):
    """The server does not know the version any more (410 Gone)."""


@dataclass(frozen=True)
class _Page:
    pods: tuple[PodSummary, ...]
    version: str
    token: str
    remaining: int


def _path(namespace: str) -> str:
    return pods_path(namespace) if namespace else "/api/v1/pods"


def _what(namespace: str) -> str:
    where = f"the namespace {namespace}" if namespace else "all namespaces"
    return f"the pods of {where} cannot be listed"


async def namespaces(api: Api) -> list[str]:
    """By name. Raises `AccessDenied` where they may not be listed."""
    found: list[str] = []
    parameters: Parameters = [("limit", PAGE)]
    while True:
        page = await api.get("the namespaces cannot be listed", "/api/v1/namespaces", parameters)
        items = page.get("items")
        metadata = [mapping(mapping(item).get("metadata")) for item in items or []]
        found += [text(item["name"]) for item in named(metadata)]
        token = text(mapping(page.get("metadata")).get("continue"))
        if not token:
            return sorted(found)
        parameters = [("limit", PAGE), ("continue", token)]


# The list


async def watched(api: Api, namespace: str) -> AsyncIterator[PodDelta]:
    """See `Cluster.pods`."""
    refusal = ""
    while True:
        started = time.monotonic()
        version = ""
        try:
            async for page, first in _listed(api, namespace):
                version = page.version
                complete = not page.token
                yield PodDelta(page.pods, (), first, complete, page.remaining, refusal)
            took = time.monotonic() - started
            if refusal:
                await asyncio.sleep(max(POLL_SECONDS, took * POLL_SHARE))
                continue
            async for delta in _changes(api, namespace, version):
                yield delta
        except _Forgotten:
            await asyncio.sleep(max(0.0, RESTART_SECONDS - (time.monotonic() - started)))
        except ServerRefusal as refused:
            if refused.code not in NO_WATCH:
                raise refused.explained(
                    f"the pods of {namespace or 'all namespaces'} cannot be watched"
                ) from refused
            refusal = refused.message


async def _listed(api: Api, namespace: str) -> AsyncIterator[tuple[_Page, bool]]:
    """Every page, and whether it is the first. Raises `KdebugError`, or `_Forgotten` for a late page."""
    parameters: Parameters = [("limit", PAGE)]
    first = True
    while True:
        try:
            page: _Page = await api.call("GET", _path(namespace), params=parameters, read=read_page)
        except ServerRefusal as refused:
            if refused.code == GONE and not first:
                raise _Forgotten from refused
            raise refused.explained(_what(namespace)) from refused
        yield page, first
        if not page.token:
            return
        first = False
        parameters = [("limit", PAGE), ("continue", page.token)]


_ITEMS = re.compile(r'"items"\s*:\s*\[')
_BETWEEN = re.compile(r"[\s,]*")


def read_page(data: bytes) -> _Page:
    """One page of a PodList. Raises `ValueError` for what is none."""
    body = data.decode("utf-8", "replace")
    found = _ITEMS.search(body)
    pods, rest = _page_pieces(body, found.end()) if found else ([], body)
    document = json.loads(rest)
    if not isinstance(document, dict) or "metadata" not in document:
        raise ValueError("not a list")
    if found and document.get("items") != []:
        # Somebody else's "items" came first.
        document = json.loads(body)
        pods = [pod for pod in map(summary, document.get("items") or []) if pod is not None]
    metadata = mapping(document["metadata"])
    token = metadata.get("continue")
    return _Page(
        tuple(pods),
        text(metadata.get("resourceVersion")),
        token if isinstance(token, str) else "",
        number(metadata.get("remainingItemCount")),
    )


def _page_pieces(body: str, start: int) -> tuple[list[PodSummary], str]:
    """The items one by one (each holds the interpreter for a moment only), and the page without them."""
    pods, end = [], start
    for item, position in _items(body, start):
        end = position
        pod = summary(item)
        if pod is not None:
            pods.append(pod)
    return pods, body[:start] + body[end:]


def _items(body: str, position: int) -> Iterator[tuple[Any, int]]:
    decoder = json.JSONDecoder()
    while True:
        match = _BETWEEN.match(body, position)
        position = match.end() if match else position
        if body[position : position + 1] in ("]", ""):
            yield None, position
            return
        item, position = decoder.raw_decode(body, position)
        yield item, position


# The watch


async def _changes(api: Api, namespace: str, version: str) -> AsyncIterator[PodDelta]:
    """What changes from `version` on, over any number of watches.

    Raises `_Forgotten`, `ServerRefusal` when watching is refused, or `KdebugError`: a broken connection is
    tried again at once, and told when that fails as well.
    """
    failures = 0
    while True:
        started = time.monotonic()
        try:
            async for kind, item in _events(api, namespace, version):
                failures = 0
                version = text(mapping(item.get("metadata")).get("resourceVersion")) or version
                delta = _delta(kind, item)
                if delta is not None:
                    yield delta
        except (ConnectionLost, DeadlinePassed) as error:
            silent = isinstance(error, DeadlinePassed) and time.monotonic() - started >= SILENT_SECONDS
            failures += not silent
            if failures > 1:
                raise
        except ServerRefusal as refused:
            if refused.code == GONE:
                raise _Forgotten from refused
            raise
        await asyncio.sleep(max(0.0, RESTART_SECONDS - (time.monotonic() - started)))


def _delta(kind: str, item: Object) -> Optional[PodDelta]:
    if kind == "ERROR":
        if item.get("code") == GONE:
            raise _Forgotten
        raise Failed("the watch of the pods failed", why=text(item.get("message")) or "the server ended it")
    pod = summary(item) if kind in ("ADDED", "MODIFIED", "DELETED") else None
    if pod is None:
        return None  # a bookmark, or what a newer server may send
    return PodDelta(gone=(pod.key,)) if kind == "DELETED" else PodDelta((pod,))


async def _events(api: Api, namespace: str, version: str) -> AsyncIterator[tuple[str, Object]]:
    parameters: Parameters = [
        ("watch", "1"),
        ("resourceVersion", version),
        ("allowWatchBookmarks", "true"),
        ("timeoutSeconds", str(WATCH_SECONDS)),
    ]
    async for line in api.lines(_path(namespace), parameters, idle_seconds=SILENT_SECONDS):
        try:
            event = mapping(json.loads(line))
        except (ValueError, RecursionError):
            return  # cut in the middle of a line, or not the API server's
        if isinstance(event.get("object"), dict):
            yield text(event.get("type")), event["object"]


# What attaching would do


def intent(
    pod: PodSummary, container: str, image: str, profile: str, custom: Optional[Object] = None
) -> Intent:
    """From what was kept of the pod. Raises `UsageError` for a profile that does not exist."""
    try:
        return _intent(json.loads(pod.essence), container, image, profile, custom)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        against = Failed(f"what the server says of {pod.name} cannot be understood", why=f"{error!r}"[:200])
        return Intent(container, against=against)


def _intent(pod: Object, container: str, image: str, profile: str, custom: Optional[Object]) -> Intent:
    against: Optional[KdebugError] = reason_against(
        pod, container, operating_system(pod, container) == "windows"
    )
    if against is not None:
        return Intent(container, against=against)
    rungs = ladder.plan(pod, container, profile, custom)
    any_user = profile == "auto" and custom is None
    reused = ephemeral.reusable(pod, container, image, rungs, any_user)
    if reused:
        toolbox, rung = reused[0]
        return Intent(container, str(toolbox["name"]), rung.name, rung.rights)
    first, *others = rungs
    return Intent(container, "", first.name, first.rights, tuple(rung.name for rung in others))
