"""What only the cluster knows: pods, logs, events, sessions. A second seam beside `Backend`.

Records are plain and hostile: names, messages and log lines are shown through the sanitiser only.
Times are RFC 3339 in UTC, as the API server writes them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Optional, Protocol

from kdebug.expression import TargetExpression
from kdebug.protocol.record import Record, dataclass, field


@dataclass(frozen=True, eq=False, repr=False)
class PodRef(Record):
    """One container of one pod, chosen."""

    namespace: str
    name: str
    container: str
    containers: tuple[str, ...]
    """All of the pod's, ephemeral ones last."""
    notes: tuple[str, ...] = ()
    pod: dict[str, Any] = field(default_factory=dict)
    """The object as the server wrote it."""


@dataclass(frozen=True, eq=False, repr=False)
class LogQuery(Record):
    previous: bool = False
    follow: bool = False
    since_seconds: Optional[int] = None
    tail: Optional[int] = None


@dataclass(frozen=True, eq=False, repr=False)
class LogLine(Record):
    container: str
    at: str
    """When the kubelet wrote it; "" where it does not say."""
    text: bytes
    """Without its line feed, exactly as the container wrote it."""


@dataclass(frozen=True, eq=False, repr=False)
class EventInfo(Record):
    at: str
    kind: str
    """Normal or Warning."""
    reason: str
    message: str
    count: int
    source: str
    about: str
    """The container or object that it is about."""


@dataclass(frozen=True, eq=False, repr=False)
class Change(Record):
    """Something that changed, for "what changed lately"."""

    at: str
    what: str
    detail: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class Story(Record):
    """A pod as Kubernetes alone tells it."""

    facts: dict[str, Any]
    """One JSON document: pod, containers, conditions, node, owner."""
    changes: tuple[Change, ...]
    """Newest first."""
    events: tuple[EventInfo, ...]
    missing: dict[str, str]
    """What could not be read, and why."""


@dataclass(frozen=True, eq=False, repr=False)
class Session(Record):
    """One toolbox container."""

    namespace: str
    pod: str
    container: str
    """Its target."""
    toolbox: str
    state: str
    """running, waiting or terminated, with the kubelet's reason."""
    profile: str
    image: str
    started_at: Optional[str] = None
    expires_at: Optional[str] = None
    """Null unless the toolbox was asked: what the pod's spec says is not what happens."""
    reason: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class PlanStep(Record):
    """One rung of the ladder, and what the API server says to it before anything is created."""

    rung: str
    rights: str
    why: str
    verdict: str
    """accepted, refused, or unknown."""
    words: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class Permission(Record):
    verb: str
    resource: str
    allowed: Optional[bool]
    needed: bool
    """False: kdebug works without it, and says what is missing then."""
    words: str = ""


class Cluster(Protocol):
    """One API server as one user. Errors are `KdebugError`s with the server's own words."""

    async def choose(self, expression: TargetExpression) -> PodRef:
        """The pod and container that are meant."""

    def logs(self, pod: PodRef, containers: tuple[str, ...], query: LogQuery) -> AsyncIterator[LogLine]:
        """Lines of several containers, merged by time; endless when followed."""

    async def events(self, pod: PodRef) -> list[EventInfo]:
        """The pod's events, oldest first."""

    async def story(self, pod: PodRef) -> Story:
        """State, last termination, images, probes, limits, owner, node."""

    async def sessions(self, every_namespace: bool) -> list[Session]:
        """Every toolbox that is listed in a pod, ended ones too."""

    async def ask(self, session: Session) -> Session:
        """The same with `expires_at`, from the toolbox itself."""

    async def stop(self, session: Session) -> None:
        """End a toolbox' process; the container stays listed."""

    async def plan(self, pod: PodRef) -> list[PlanStep]:
        """The rungs that would be tried, by dry run."""

    async def permissions(self, namespace: str) -> list[Permission]:
        """What the user may do, by SelfSubjectAccessReview."""
