"""All that a report tells, taken out of a bundle: bounded, and each part as far as it can be read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, TypeVar

from kdebug.capture import told
from kdebug.capture.container import MANIFEST_NAME, BadBundle
from kdebug.capture.offline import OfflineBackend
from kdebug.capture.offline_cluster import POD, OfflineCluster
from kdebug.capture.reader import BundleReader
from kdebug.capture.report.log_windows import Logs, windows
from kdebug.errors import KdebugError, NotCaptured, ProtocolViolation
from kdebug.expression import TargetExpression
from kdebug.findings import OPEN_FILES, Facts, Finding, find, is_deleted_file
from kdebug.growth import Growth
from kdebug.protocol import requests as ask
from kdebug.protocol.files import Entry
from kdebug.protocol.network import NetworkConfig, SocketPage
from kdebug.protocol.processes import FdInfo, LimitInfo, Process, ProcessPage
from kdebug.protocol.requests import Request
from kdebug.protocol.search import DiskUsage, HeldFile, ListDeleted, Usage
from kdebug.protocol.system import Access, AgentInfo, CgroupInfo, Mount, TargetInfo
from kdebug.target import Target
from kdebug.target.cluster import LogQuery, PodRef, Story
from kdebug.units import unix_time
from kdebug.usage import Sample
from kdebug.usage import Usage as UsageOverTime

A = TypeVar("A")

MAX_SAMPLES = 240
"""Of each kind, spread evenly: a line in a page has no more."""
LARGEST = 20
"""Files."""
MAX_LOG_FILES, END_LINES, END_BYTES = 6, 12, 16 * 1024
TOLD_LINES = 5000
SEARCHED = 500
"""Processes whose descriptors and limits are looked through."""

Tell = Callable[[str], None]


@dataclass(repr=False)  # asyncio writes results out where it takes its signal handler back
class Evidence:
    """What was found; what the bundle does not hold is empty."""

    name: str
    """Of the file."""
    sha256: str
    size_bytes: int
    manifest: dict[str, Any]
    rebuilt: str = ""
    """Why the index had to be made anew."""
    info: Optional[TargetInfo] = None
    now: float = 0.0
    """Unix time of the capture's end."""
    pages: list[tuple[float, ProcessPage]] = field(default_factory=list)
    groups: list[tuple[float, CgroupInfo]] = field(default_factory=list)
    sockets: list[tuple[float, SocketPage]] = field(default_factory=list)
    network: Optional[NetworkConfig] = None
    access: Optional[Access] = None
    agent: Optional[AgentInfo] = None
    agent_at: float = 0.0
    """When it told of itself, by the client's clock."""
    mounts: Sequence[Mount] = ()
    usage: dict[str, tuple[Usage, ...]] = field(default_factory=dict)
    """Directory -> what takes most below it."""
    largest: list[tuple[str, Entry]] = field(default_factory=list)
    """(path, entry) of files in the directories that were listed, by what they take."""
    logs: Optional[Logs] = None
    ends: list[tuple[str, list[bytes]]] = field(default_factory=list)
    """(path, last lines) of log files that were taken."""
    held: list[HeldFile] = field(default_factory=list)
    """Deleted and still open."""
    limits: list[tuple[Process, LimitInfo]] = field(default_factory=list)
    pod: Optional[PodRef] = None
    story: Optional[Story] = None
    growth: Growth = field(default_factory=Growth)
    problems: list[str] = field(default_factory=list)
    """What the bundle holds and could not be read."""

    @property
    def processes(self) -> list[Process]:
        """As they were seen last, without kdebug's own."""
        ours = self.info.agent_container if self.info else None
        items = self.pages[-1][1].items if self.pages else ()
        return [process for process in items if ours is None or process.container != ours]

    def findings(self) -> list[Finding]:
        over_time = UsageOverTime()
        for at, group in self.groups:
            over_time.add(Sample(at, group))
        by_pid = {process.pid: process for process in self.processes}
        facts = Facts(
            now=self.now,
            container=self.pod.container if self.pod else "",
            usage=over_time,
            processes=self.processes,
            rising=self.growth.rising(),
            rose=self.growth.rose(),
            sockets=self.sockets[-1][1].items if self.sockets else (),
            deleted=[(by_pid[row.pid], _descriptor(row)) for row in self.held if row.pid in by_pid],
            files=self.limits,
            story=self.story,
            skew_seconds=self._skew(),
        )
        return find(facts)

    def _skew(self) -> Optional[float]:
        """Whatever lies within the time of the question itself is no skew."""
        if self.agent is None:
            return None
        rows = told.mappings(self.manifest.get("artifacts"))
        took = next((told.number(row.get("seconds")) for row in rows if row.get("what") == "agent"), None)
        if took is None or not self.agent_at:
            return None
        began, ended = self.agent_at - took, self.agent_at
        return self.agent.clock_at - min(max(self.agent.clock_at, began), ended)


def _descriptor(row: HeldFile) -> FdInfo:
    return FdInfo(row.fd, "file", row.path, True, row.inode, row.size_bytes)


class Gatherer:
    """Fills an `Evidence`; `tell` hears what is being read."""

    def __init__(self, bundle: BundleReader, evidence: Evidence, tell: Tell) -> None:
        self.bundle, self.found, self._tell = bundle, evidence, tell
        self.cluster = OfflineCluster(bundle)
        self.backend: Optional[OfflineBackend] = None
        self.target: Optional[Target] = None

    async def gather(self) -> None:
        """Raises `BadBundle` where there is no target and no pod in it."""
        try:
            self.backend = OfflineBackend(self.bundle)
        except NotCaptured:
            pass  # only what Kubernetes told was taken
        if self.backend is not None:
            self.found.info = self.backend.info
            self.target = Target(self.backend, self.backend.info, self.bundle.path)
        self.found.now = self._now()
        if self.backend is not None and self.target is not None:
            await self._target(self.backend, self.target)
        if POD in self.bundle.members:
            await self._part("the pod", self._pod())

    def _now(self) -> float:
        stamp = unix_time(told.text(self.found.manifest.get("ended_at")))
        times = self.backend.times if self.backend is not None else []
        return stamp if stamp is not None else (times[-1] if times else 0.0)

    async def _part(self, what: str, work: Awaitable[Any]) -> None:
        """One part that fails takes nothing from the others."""
        self._tell(what)
        try:
            await work
        except NotCaptured:
            pass  # as the manifest says
        except KdebugError as error:
            self.found.problems.append(f"{what}: {error}")
        await asyncio.sleep(0)  # nothing here waits by itself: an interrupt must get its turn

    async def _target(self, backend: OfflineBackend, target: Target) -> None:
        found = self.found
        found.pages = await self._series("processes", ask.ListProcesses(), target.processes)
        found.groups = await self._series("usage", ask.GetCgroup(), target.cgroup)
        found.sockets = await self._series("sockets", ask.ListSockets(), target.sockets)
        for _, page in found.pages:
            found.growth.apply(page, backend.info.agent_container)
        await self._part("the agent", self._agent(backend, target))
        await self._part("access", self._access(target))
        await self._part("mounts", self._mounts(target))
        await self._part("the network", self._network(target))
        await self._part("disk usage", self._usage(backend))
        await self._part("listings", self._listings(backend, target))
        await self._part("log files", self._ends(target))
        await self._part("deleted files", self._deleted(target))
        await self._part("limits", self._limits(target))

    async def _series(
        self, what: str, request: Request[Any], look: Callable[[], Awaitable[A]]
    ) -> list[tuple[float, A]]:
        """Every answer with its time; a moment that was refused, or cannot be read, is left out."""
        assert self.backend is not None
        times, series = self.backend.times_of(request), []
        for number, at in enumerate(spread(times, MAX_SAMPLES)):
            self.backend.moment = at

            async def one(at: float = at) -> None:
                looked = await _or_none(look())
                if looked is not None:
                    series.append((at, looked))

            await self._part(f"{what}, sample {number + 1} of {len(times)}", one())
        self.backend.moment = None
        return series

    async def _agent(self, backend: OfflineBackend, target: Target) -> None:
        """Its first answer: the manifest's cost holds the last."""
        times = backend.times_of(ask.GetAgentInfo())
        backend.moment = times[0] if times else None
        try:
            self.found.agent = await _or_none(target.agent())
            self.found.agent_at = times[0] if times else 0.0
        finally:
            backend.moment = None

    async def _access(self, target: Target) -> None:
        self.found.access = await _or_none(target.access())

    async def _mounts(self, target: Target) -> None:
        page = await _or_none(target.mounts())
        self.found.mounts = page.items if page is not None else ()

    async def _network(self, target: Target) -> None:
        self.found.network = await _or_none(target.network())

    async def _usage(self, backend: OfflineBackend) -> None:
        for request in backend.asked(DiskUsage):
            page = await _or_none(backend.send(request))
            if page is not None:
                self.found.usage[request.path] = page.items

    async def _listings(self, backend: OfflineBackend, target: Target) -> None:
        found: list[tuple[str, Entry]] = []
        for request in backend.asked(ask.ListDir):
            listing = await _or_none(target.list_dir(request.path))
            folder = request.path.rstrip("/")
            entries = listing.entries if listing is not None else ()
            found += [(f"{folder}/{e.name}", e) for e in entries if e.kind == "file" and e.size_bytes]
            found.sort(key=lambda one: (-(one[1].allocated_bytes or 0), one[0]))
            del found[LARGEST:]
        self.found.largest = found

    async def _ends(self, target: Target) -> None:
        """Of the files that look like logs, where there is no pod whose logs were taken."""
        rows = [] if POD in self.bundle.members else told.mappings(self.found.manifest.get("files"))
        paths = [path for row in rows if (path := told.text(row.get("path")) or "").endswith(".log")]
        for path in paths[:MAX_LOG_FILES]:
            stat = await _or_none(target.stat(path, follow=True))
            size = stat.entry.size_bytes or 0 if stat is not None else 0
            chunk = await _or_none(target.read(path, max(0, size - END_BYTES), END_BYTES))
            lines = chunk.data.split(b"\n")[-END_LINES - 1 :] if chunk is not None else []
            self.found.ends.append((path, [line for line in lines if line]))

    async def _deleted(self, target: Target) -> None:
        assert self.backend is not None
        if self.backend.times_of(ListDeleted()):
            async for page in target.pages(ListDeleted(limit=ask.MAX_PAGE)):
                self.found.held += [row for row in page.items if row.fd >= 0]
            return
        for process in self.found.processes[:SEARCHED]:
            descriptors = await _or_none(target.fds(process.pid))
            self.found.held += [
                HeldFile(process.pid, item.fd, _plain(item), item.size_bytes, inode=item.inode,
                         access=item.access, process=process.name)
                for item in (descriptors.items if descriptors is not None else ()) if is_deleted_file(item)
            ]  # fmt: skip

    async def _limits(self, target: Target) -> None:
        for process in self.found.processes[:SEARCHED]:
            limits = await _or_none(target.limits(process.pid))
            rows = limits.items if limits is not None else ()
            self.found.limits += [(process, row) for row in rows if row.name == OPEN_FILES]

    async def _pod(self) -> None:
        self.found.pod = await self.cluster.choose(TargetExpression("pod", ""))
        self.found.story = await self.cluster.story(self.found.pod)
        self.found.logs = Logs(windows(self.found.story))
        for previous in (True, False):
            await self._part("logs", self._log(self.found.pod, self.found.logs, previous))

    async def _log(self, pod: PodRef, logs: Logs, previous: bool) -> None:
        async for line in self.cluster.logs(pod, pod.containers, LogQuery(previous)):
            logs.see(line)
            if logs.count % TOLD_LINES == 0:
                self._tell(f"logs, {logs.count} lines")
                await asyncio.sleep(0)


async def _or_none(work: Awaitable[A]) -> Optional[A]:
    """None for what was not captured, or was refused then, as the manifest says."""
    try:
        return await work
    except (BadBundle, ProtocolViolation):
        raise
    except KdebugError:
        return None


def _plain(item: FdInfo) -> str:
    return (item.target or "?").removesuffix(" (deleted)")


def spread(times: Sequence[float], most: int) -> list[float]:
    """At most so many of them, evenly, the first and the last among them."""
    if len(times) <= most:
        return list(times)
    step = (len(times) - 1) / (most - 1)
    return [times[round(number * step)] for number in range(most)]


def manifest_of(bundle: BundleReader) -> dict[str, Any]:
    """{} where the capture did not get so far."""
    return told.mapping(bundle.json(MANIFEST_NAME)) if MANIFEST_NAME in bundle.members else {}
