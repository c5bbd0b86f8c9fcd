"""What only the cluster knows: pods, logs, events, sessions. A second seam beside `Backend`.

Records are plain and hostile: names, messages and log lines are shown through the sanitiser only.
Times are RFC 3339 in UTC, as the API server writes them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Optional, Protocol

from kdebug.errors import KdebugError
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
    since_time: str = ""
    """RFC 3339: only what was written then or later; "" for no such bound. A server may round it down
    to the second."""


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
class Secrets(Record):
    """What must never get into a bundle: for redaction to learn, and for nothing else."""

    objects: tuple[dict[str, Any], ...]
    """The Secrets that the pod names, as the server writes them."""
    credentials: tuple[str, ...]
    """What the client itself logs in with."""
    missing: dict[str, str]
    """Those that may not be read, and why."""


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


@dataclass(frozen=True, eq=False, repr=False)
class ContextInfo(Record):
    """One context of the kubeconfig."""

    name: str
    cluster: str
    user: str
    namespace: str
    """"" where it names none: then it is `default`."""
    current: bool


@dataclass(frozen=True, eq=False, repr=False)
class ContainerSummary(Record):
    """One container of a pod, with the kubelet's word on it."""

    name: str
    image: str
    kind: str
    """regular, init, or sidecar (an init container that keeps running)."""
    state: str
    """running, waiting, terminated, or "" while the kubelet says nothing."""
    reason: str
    """Of the state: CrashLoopBackOff, Completed, ..."""
    message: str
    ready: bool
    restarts: int
    since: str
    """When the state began, where the kubelet says it."""
    last_reason: str
    """Why the instance before this one ended: OOMKilled, Error, ...; "" where there was none."""
    last_end: str
    """The same in words, with its exit code."""
    last_end_at: str


@dataclass(frozen=True, eq=False, repr=False)
class PodSummary(Record):
    """What a list of pods shows of one, read leniently: a field that is missing or odd is "" or 0."""

    namespace: str
    name: str
    uid: str
    version: str
    status: str
    """The word of kubectl's STATUS column."""
    phase: str
    message: str
    ready: int
    total: int
    """Containers that can be ready."""
    restarts: int
    last_restart_at: str
    created_at: str
    node: str
    address: str
    owner: str
    """As a target expression (deploy/web, sts/db, ...), or kind and name; "" where there is none."""
    default_container: str
    """The one that kubectl's annotation names, else the first."""
    containers: tuple[ContainerSummary, ...]
    conditions: tuple[tuple[str, str], ...]
    """(type, why) of those that are not True."""
    toolboxes: tuple[Session, ...]
    """Of kdebug's own that are listed in it, oldest first."""
    essence: str = ""
    """What `Cluster.intent` needs of the object, as JSON; nothing for people."""

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.name


@dataclass(frozen=True, eq=False, repr=False)
class PodDelta(Record):
    """Some news about the pods that are watched."""

    pods: tuple[PodSummary, ...] = ()
    """New, or changed."""
    gone: tuple[tuple[str, str], ...] = ()
    """Keys of those that were deleted."""
    first: bool = False
    """A list begins: whoever is not in it once it is `complete` is gone."""
    complete: bool = False
    remaining: int = 0
    """How many of the list are still to come, where the server tells."""
    polled: str = ""
    """Why it is listed again and again instead of watched; "" when it is watched."""


@dataclass(frozen=True, eq=False, repr=False)
class Intent(Record):
    """What attaching to a container would do, as far as the pod alone tells."""

    container: str
    toolbox: str = ""
    """The one that would be used again; "" where one would be added."""
    rung: str = ""
    rights: str = ""
    climbs: tuple[str, ...] = ()
    """Rungs that would be tried when this one is refused or reads too little."""
    against: Optional[KdebugError] = None
    """Why it cannot be attached to now."""


class Cluster(Protocol):
    """One API server as one user. Errors are `KdebugError`s with the server's own words."""

    @property
    def context(self) -> str:
        """Its name in the kubeconfig."""

    @property
    def namespace(self) -> str:
        """The one that the user or the context names."""

    async def namespaces(self) -> list[str]:
        """By name. Raises `AccessDenied` where they may not be listed."""

    def pods(self, namespace: str) -> AsyncIterator[PodDelta]:
        """The pods of a namespace ("": of all), first listed, then as they change; endless.

        Raises `KdebugError` when listing fails, or when the connection is lost: then whoever wants more
        asks again.
        """

    def intent(self, pod: PodSummary, container: str) -> Intent:
        """What attaching to this container would do; asks nobody."""

    async def choose(self, expression: TargetExpression) -> PodRef:
        """The pod and container that are meant."""

    async def refresh(self, pod: PodRef) -> PodRef:
        """The same pod and container as they are now. Raises `NotFound` when the pod is gone."""

    def logs(self, pod: PodRef, containers: tuple[str, ...], query: LogQuery) -> AsyncIterator[LogLine]:
        """Lines of several containers, merged by time; endless when followed."""

    async def events(self, pod: PodRef) -> list[EventInfo]:
        """The pod's events, oldest first."""

    async def related(self, pod: PodRef) -> dict[str, Any]:
        """`node` and `owner` as the server writes them; None where there is none, and where one cannot be
        read its `KdebugError`."""

    async def secrets(self, pod: PodRef) -> Secrets:
        """Of its variables, volumes and image pulls, as far as the user may read them. Raises nothing for
        those that may not be read."""

    async def choose_all(self, expression: Optional[TargetExpression]) -> list[PodRef]:
        """Every pod of an owner, of the selector in the options, or of the namespace (None); by name. Those
        without the container that the options name are left out. Raises `NotFound` for none."""

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
