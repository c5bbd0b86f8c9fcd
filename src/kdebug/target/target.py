"""The facade that UI and CLI use. It drains pages, bounded, and gives back whole answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeVar

from kdebug.errors import ProtocolViolation
from kdebug.protocol import requests as ask
from kdebug.protocol.files import Entry, FileChunk, FileStat, Listing
from kdebug.protocol.network import NetworkConfig, SocketPage
from kdebug.protocol.processes import (
    EnvPage,
    FdPage,
    Limits,
    MapPage,
    ProcessDetail,
    ProcessPage,
    SignalSent,
)
from kdebug.protocol.record import replace
from kdebug.protocol.system import Access, AgentInfo, CgroupInfo, MountPage, TargetInfo
from kdebug.target.backend import Backend
from kdebug.target.shell import Shells
from kdebug.target.timeline import Timeline

P = TypeVar("P")

MAX_ROWS = 1_000_000
"""An endless listing of a lying agent ends here; `truncated` or an error says so."""


class Target:
    """One process, container or bundle to look into. `info` says which."""

    def __init__(self, backend: Backend, info: TargetInfo, label: str) -> None:
        self.backend = backend
        self.info = info
        self.label = label
        """How the user named it."""
        self.place = label
        """Where it is, in full: context, namespace, pod and container, or the process."""
        self.rung = ""
        """The rung of the access ladder that the toolbox stands on; "" where there is none."""
        self.shells: Shells | None = None
        """Where programs can be run beside the agent; None where there is no such place."""
        self.ends_by: float | None = None
        """Unix time at which the toolbox ends whatever happens; None where nothing ends by itself."""
        self.account: tuple[str, ...] = ()
        """What was done to be here and what remains, for the note at leaving; empty where nothing does."""
        self.timeline: Timeline | None = None
        """Where it was recorded."""

    @classmethod
    async def open(cls, backend: Backend, request: ask.OpenTarget, label: str) -> Target:
        """Bind the backend's session to a target; closes the backend when that fails."""
        try:
            return cls(backend, await backend.send(request), label)
        except BaseException:
            await backend.close()
            raise

    async def close(self) -> None:
        await self.backend.close()

    async def pages(self, request: ask.Paged[P]) -> AsyncIterator[P]:
        """Every page of a paged answer. Stops with `ProtocolViolation` past `MAX_ROWS`."""
        rows = 0
        while True:
            page: Any = await self.backend.send(request)
            items = page.entries if isinstance(page, Listing) else page.items
            rows += len(items)
            if rows > MAX_ROWS or (page.cursor and not items):
                raise ProtocolViolation(f"the agent's answer to {request.name} does not end")
            yield page
            if not page.cursor:
                return
            request = replace(request, cursor=page.cursor)

    async def _all(self, request: ask.Paged[P]) -> P:
        """All pages as one: the last page's other fields with everybody's items."""
        items: list[Any] = []
        page: Any = None
        async for page in self.pages(request):
            items += page.items
        whole: P = replace(page, items=tuple(items))
        return whole

    async def processes(self, *, since: int = 0, fds: bool = True) -> ProcessPage:
        return await self._all(ask.ListProcesses(since=since, fds=fds))

    async def process(self, pid: int, start_ticks: int = 0) -> ProcessDetail:
        return await self.backend.send(ask.GetProcess(pid, start_ticks))

    async def fds(self, pid: int = 0) -> FdPage:
        return await self._all(ask.ListFds(pid=pid))

    async def maps(self, pid: int = 0) -> MapPage:
        return await self._all(ask.ListMaps(pid=pid))

    async def environ(self, pid: int = 0) -> EnvPage:
        return await self._all(ask.ListEnviron(pid=pid))

    async def limits(self, pid: int = 0) -> Limits:
        return await self.backend.send(ask.GetLimits(pid or self.info.pid))

    async def signal(self, pid: int, start_ticks: int, number: int) -> SignalSent:
        return await self.backend.send(ask.SendSignal(pid, start_ticks, number))

    async def sockets(self, families: tuple[str, ...] = ("inet", "inet6", "unix")) -> SocketPage:
        return await self._all(ask.ListSockets(families=families))

    async def network(self) -> NetworkConfig:
        return await self.backend.send(ask.GetNetwork())

    async def mounts(self, *, sizes: bool = True) -> MountPage:
        return await self._all(ask.ListMounts(sizes=sizes))

    async def cgroup(self) -> CgroupInfo:
        return await self.backend.send(ask.GetCgroup())

    async def access(self) -> Access:
        return await self.backend.send(ask.GetAccess())

    async def agent(self) -> AgentInfo:
        return await self.backend.send(ask.GetAgentInfo())

    async def stat(self, path: str, *, follow: bool = False) -> FileStat:
        return await self.backend.send(ask.StatPath(path, follow))

    async def list_dir(self, path: str, *, limit: int = MAX_ROWS) -> Listing:
        """The whole directory, or its first `limit` entries with `truncated` set."""
        entries: list[Entry] = []
        async for page in self.pages(ask.ListDir(path=path, limit=ask.MAX_PAGE)):
            entries += page.entries
            if len(entries) >= limit and (page.cursor or len(entries) > limit):
                return replace(page, entries=tuple(entries[:limit]), cursor="", truncated=True)
        return replace(page, entries=tuple(entries))

    async def read(
        self, path: str, offset: int = 0, size: int = ask.MAX_CHUNK, handle: str = ""
    ) -> FileChunk:
        return await self.backend.send(ask.ReadFile(path, offset, size, handle))

    async def follow(
        self, path: str, offset: int, handle: str, wait_seconds: float, *, by_name: bool = True
    ) -> FileChunk:
        return await self.backend.send(
            ask.FollowFile(path, offset, handle=handle, wait_seconds=wait_seconds, by_name=by_name)
        )
