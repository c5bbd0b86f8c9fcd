"""`Cluster` over a bundle: the pod, its events and its logs as they were, so that logs, events, describe
and the UI's tabs work on `bundle:FILE`. What only a living API server can tell is `NotCaptured`.
"""

from __future__ import annotations

import heapq
import re
from collections import deque
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from typing import Any, Optional

from kdebug.capture import told
from kdebug.capture.container import MANIFEST_NAME, BadBundle
from kdebug.capture.reader import BundleReader
from kdebug.errors import KdebugError, NotCaptured, NotFound, ProtocolViolation
from kdebug.expression import TargetExpression
from kdebug.protocol import codec
from kdebug.target.cluster import (
    Change,
    EventInfo,
    Intent,
    LogLine,
    LogQuery,
    Permission,
    PlanStep,
    PodDelta,
    PodRef,
    PodSummary,
    Secrets,
    Session,
    Story,
)

POD = "kubernetes/pod.json"
MAX_LINE = 1024 * 1024
"""The runtime cuts lines at 16 KiB; a longer one is passed on in pieces."""
_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)) ")


class OfflineCluster:
    """What `open.open_cluster` hands out for a bundle; the reader is the caller's to close."""

    def __init__(self, bundle: BundleReader, container: str = "") -> None:
        self._bundle = bundle
        self._container = container
        """The one that the user names; "" for the one that was captured."""
        manifest = bundle.json(MANIFEST_NAME) if MANIFEST_NAME in bundle.members else {}
        self._manifest: dict[str, Any] = manifest if isinstance(manifest, dict) else {}
        told = self._manifest.get("target")
        self._told: dict[str, Any] = told if isinstance(told, dict) else {}

    @property
    def context(self) -> str:
        return str(self._told.get("context") or "")

    @property
    def namespace(self) -> str:
        return str(self._told.get("namespace") or "")

    async def choose(self, expression: TargetExpression) -> PodRef:
        """The pod of the bundle. Raises `NotCaptured` where it was taken of none."""
        pod = self._document(POD)
        try:
            metadata, spec = pod["metadata"], pod["spec"]
            kinds = ("containers", "initContainers", "ephemeralContainers")
            names = tuple(str(one["name"]) for kind in kinds for one in spec.get(kind) or [])
            name, namespace = str(metadata["name"]), str(metadata.get("namespace") or self.namespace)
        except (KeyError, TypeError, AttributeError):
            raise BadBundle(f"{POD} is no pod") from None
        chosen = self._container or str(self._told.get("container") or next(iter(names), ""))
        if chosen not in names:
            raise NotFound(
                f"the pod {name} has no container {chosen}", next_step=f"it has {', '.join(names)}"
            )
        return PodRef(namespace, name, chosen, names, (), pod)

    def _document(self, name: str) -> Any:
        if name not in self._bundle.members:
            what = name.partition("/")[2].removesuffix(".json")
            raise NotCaptured(
                f"the bundle does not hold the pod's {what}" if name != POD else "the bundle holds no pod",
                why=self._why(name),
                next_step="`kdebug bundle ls` lists what it holds",
            )
        return self._bundle.json(name)

    def _why(self, name: str) -> str:
        """As the manifest tells it."""
        what = f"kubernetes {name.partition('/')[2].removesuffix('.json')}"
        listed = self._manifest.get("artifacts")
        for row in listed if isinstance(listed, list) else []:
            if isinstance(row, dict) and row.get("what") == what:
                return str(row.get("reason") or "")
        return ""

    async def refresh(self, pod: PodRef) -> PodRef:
        return pod

    async def events(self, pod: PodRef) -> list[EventInfo]:
        return _records(EventInfo, self._document("kubernetes/events.json"))

    async def story(self, pod: PodRef) -> Story:
        found = self._document("kubernetes/story.json")
        try:
            changes, events = _records(Change, found["changes"]), _records(EventInfo, found["events"])
            missing = {str(key): str(value) for key, value in found["missing"].items()}
            facts = told.story_facts(dict(found["facts"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise BadBundle("kubernetes/story.json is no story") from None
        return Story(facts, tuple(changes), tuple(events), missing)

    async def related(self, pod: PodRef) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in ("node", "owner"):
            try:
                found[name] = self._document(f"kubernetes/{name}.json")
            except KdebugError as error:
                found[name] = error
        return found

    async def secrets(self, pod: PodRef) -> Secrets:
        return Secrets((), (), {})  # what a bundle holds was redacted

    # Logs

    async def logs(
        self, pod: PodRef, containers: tuple[str, ...], query: LogQuery
    ) -> AsyncIterator[LogLine]:
        """Following ends at once: nothing is written any more."""
        since = self._since(query)
        held = [name for name in containers if self._members(name, query.previous)]
        streams = [self._lines(name, query, since) for name in held]
        for line in heapq.merge(*map(_keyed, streams), key=lambda pair: pair[0]):
            yield line[1]
        missing = [name for name in containers if name not in held]
        if missing and (not held or len(containers) == 1):
            of = " of the previous instance" if query.previous else ""
            raise NotCaptured(f"the bundle does not hold the log of {', '.join(missing)}{of}")

    def _since(self, query: LogQuery) -> str:
        """The bound as a time; `--since` counts back from the capture's end."""
        if query.since_time or query.since_seconds is None:
            return query.since_time
        try:
            end = datetime.fromisoformat(str(self._manifest.get("ended_at")).replace("Z", "+00:00"))
        except ValueError:
            return ""
        return (end - timedelta(seconds=query.since_seconds)).strftime("%Y-%m-%dT%H:%M:%S")

    def _members(self, container: str, previous: bool) -> list[str]:
        name = f"logs/{container}{'.previous' if previous else ''}.log"
        return [member.name for member in self._bundle.parts(name)]

    def _lines(self, container: str, query: LogQuery, since: str) -> Iterator[LogLine]:
        lines = (parsed(container, raw) for raw in self._raw(container, query.previous))
        if since:
            bound = since.rstrip("Z")
            lines = (line for line in lines if not line.at or line.at >= bound)
        return iter(deque(lines, query.tail)) if query.tail is not None else lines

    def _raw(self, container: str, previous: bool) -> Iterator[bytes]:
        rest = b""
        for name in self._members(container, previous):
            for piece in self._bundle.pieces(name):
                *whole, rest = (rest + piece).split(b"\n")
                yield from whole
                if len(rest) > MAX_LINE:
                    yield rest
                    rest = b""
        if rest:
            yield rest

    # What only a living API server can tell

    async def namespaces(self) -> list[str]:
        return [self.namespace]

    async def pods(self, namespace: str) -> AsyncIterator[PodDelta]:
        raise self._nothing("a list of pods")
        yield PodDelta()

    def intent(self, pod: PodSummary, container: str) -> Intent:
        return Intent(container, against=self._nothing("a living pod"))

    async def choose_all(self, expression: Optional[TargetExpression]) -> list[PodRef]:
        raise self._nothing("a list of pods")

    async def sessions(self, every_namespace: bool) -> list[Session]:
        raise self._nothing("toolboxes")

    async def ask(self, session: Session) -> Session:
        raise self._nothing("toolboxes")

    async def stop(self, session: Session) -> None:
        raise self._nothing("toolboxes")

    async def plan(self, pod: PodRef) -> list[PlanStep]:
        raise self._nothing("a plan of rungs")

    async def permissions(self, namespace: str) -> list[Permission]:
        raise self._nothing("permissions")

    def _nothing(self, what: str) -> NotCaptured:
        return NotCaptured(f"a bundle has no {what.removeprefix('a ')}", why="only a cluster can tell")


def _records(kind: Any, rows: Any) -> list[Any]:
    if not isinstance(rows, list):
        raise BadBundle("a list of the bundle is none")
    try:
        return [codec.from_plain(kind, dict(row)) for row in rows]
    except (ProtocolViolation, TypeError, ValueError) as error:
        raise BadBundle(f"the bundle's {kind.__name__} is damaged", why=str(error)) from error


def parsed(container: str, raw: bytes) -> LogLine:
    """`TIMESTAMP TEXT`; what has no time is text, whole."""
    match = _STAMP.match(raw)
    if match is None:
        return LogLine(container, "", raw)
    return LogLine(container, match[1].decode("ascii"), raw[match.end() :])


def _keyed(lines: Iterator[LogLine]) -> Iterator[tuple[str, LogLine]]:
    """A line without a time belongs to what came before it."""
    at = ""
    for line in lines:
        at = line.at.rstrip("Z") or at
        yield at, line
