"""What Overview asks for while it is seen: each part as seldom as it does, longer apart where it is slow.

The process table says itself when it may be asked again. A part that fails tells why in its place and
takes nothing from the others; only a lost connection ends the round.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Optional

from kdebug.errors import ConnectionLost, KdebugError, TargetEnded
from kdebug.findings import OPEN_FILES, Facts, Finding, find, is_deleted_file
from kdebug.process_model import INTERVAL_SECONDS, ProcessKey
from kdebug.protocol.processes import FdInfo, LimitInfo, Process
from kdebug.protocol.system import Access
from kdebug.tui.session import Session, State

STRETCH = 20.0
"""A part that took so long to answer is asked again after so many times that: 5 % of the time at most."""
MAX_STRETCH_SECONDS = 120.0
STORY_SECONDS, STORY_APART_SECONDS = 10.0, 3.0
"""While the target is attached; while Kubernetes is all that can be asked."""
SEARCHED = 48
"""Processes whose descriptors are looked through for deleted files."""
MAX_FDS = 2000
"""Of one process: with more, its descriptors are not listed only to find a deleted file."""
LIMITED = 5
"""Processes whose limit of open files is asked for: those that have most open."""


@dataclass
class Part:
    """One question that comes again."""

    name: str
    ask: Callable[[], Awaitable[None]]
    seconds: float
    """0: once for each attach."""
    needs_target: bool = True
    due: float = 0.0
    problem: str = ""


class OverviewFacts:
    """Gathers `facts` for one session; `step` is called again and again."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.facts = Facts(now=time.time())
        self.access: Optional[Access] = None
        self._files: dict[ProcessKey, Optional[LimitInfo]] = {}
        self._generation = -1
        self._story = Part("the pod", self._ask_story, STORY_SECONDS, needs_target=False)
        self._processes = Part("the processes", self._ask_processes, INTERVAL_SECONDS)
        self.parts = [
            Part("usage", self._ask_usage, INTERVAL_SECONDS),
            self._processes,
            *([self._story] if session.has_pod else []),
            Part("access", self._ask_access, 0.0),
            Part("the sockets", self._ask_sockets, 15.0),
            Part("descriptors", self._ask_deleted, 60.0),
            Part("limits", self._ask_files, 30.0),
            *([] if session.recorded else [Part("the clock", self._ask_clock, 60.0)]),
        ]

    def find(self) -> list[Finding]:
        facts, session = self.facts, self.session
        facts.now, facts.usage = session.now, session.usage
        facts.container = session.pod.container if session.pod else ""
        facts.processes = [row.process for row in session.processes.rows.values() if not row.ours]
        facts.rising = session.processes.growth.rising()
        return find(facts)

    @property
    def problems(self) -> list[str]:
        return [f"{part.name}: {part.problem}" for part in self.parts if part.problem]

    def hurry(self) -> None:
        """Everything is due now."""
        for part in self.parts:
            part.due = 0.0

    async def step(self, shown: Callable[[], None]) -> Optional[float]:
        """Ask what is due, with a call of `shown` after each; the seconds until something is due again."""
        if self._generation != self.session.generation:
            self._generation = self.session.generation
            self._files.clear()
            self.hurry()
        live = self.session.state is State.LIVE
        self._story.seconds = STORY_SECONDS if live else STORY_APART_SECONDS
        asked = [part for part in self.parts if not part.needs_target or live]
        for part in asked:
            if part.due <= time.monotonic():
                await self._ask(part)
                shown()
        if self.session.recorded:
            return None  # until somebody goes to another sample
        return max(0.1, min((part.due for part in asked), default=0.0) - time.monotonic())

    async def _ask(self, part: Part) -> None:
        began = time.monotonic()
        try:
            await part.ask()
            part.problem = ""
        except KdebugError as error:
            part.problem = error.why or error.what
            if part.needs_target and isinstance(error, (ConnectionLost, TargetEnded)):
                raise
        took = time.monotonic() - began
        again = part.seconds if part.seconds or part.problem else float("inf")
        part.due = time.monotonic() + max(again, INTERVAL_SECONDS, min(STRETCH * took, MAX_STRETCH_SECONDS))

    async def _ask_usage(self) -> None:
        await self.session.look_at_usage()

    async def _ask_processes(self) -> None:
        self._processes.seconds = (await self.session.look()).pause

    async def _ask_story(self) -> None:
        if self.session.pod is not None:
            self.facts.story = await self.session.story()

    async def _ask_access(self) -> None:
        self.access = await self.session.ask("access", lambda target: target.access())

    async def _ask_sockets(self) -> None:
        families = ("inet", "inet6")
        page = await self.session.ask("the sockets", lambda target: target.sockets(families))
        self.facts.sockets = [entry for entry in page.items if entry.state == "CLOSE-WAIT"]

    async def _ask_deleted(self) -> None:
        found: list[tuple[Process, FdInfo]] = []
        for process in self._own()[:SEARCHED]:
            if process.fds is not None and process.fds <= MAX_FDS:
                found += [(process, item) for item in await self._fds(process) if is_deleted_file(item)]
        self.facts.deleted = found

    async def _fds(self, process: Process) -> tuple[FdInfo, ...]:
        try:
            page = await self.session.ask("descriptors", lambda target: target.fds(process.pid))
        except (ConnectionLost, TargetEnded):
            raise
        except KdebugError:
            return ()  # it has ended meanwhile, or is closed to us: the Access tab says which
        return page.items

    async def _ask_files(self) -> None:
        most = sorted(self._own(), key=lambda process: -(process.fds or 0))[:LIMITED]
        found = []
        for process in most:
            limit = await self._open_files(process)
            if limit is not None:
                found.append((process, limit))
        self.facts.files = found

    async def _open_files(self, process: Process) -> Optional[LimitInfo]:
        """Limits hardly ever change: asked once for each process."""
        key = (process.pid, process.start_ticks)
        if key not in self._files:
            try:
                limits = await self.session.ask("limits", lambda target: target.limits(process.pid))
            except (ConnectionLost, TargetEnded):
                raise
            except KdebugError:
                return None
            self._files[key] = next((item for item in limits.items if item.name == OPEN_FILES), None)
        return self._files[key]

    def _own(self) -> list[Process]:
        """The target container's processes, from the first."""
        target = self.session.target
        container = target.info.container if target else None
        rows = self.session.processes.rows.values()
        return sorted(
            (row.process for row in rows if row.process.container == container and not row.ours),
            key=lambda process: process.pid,
        )

    async def _ask_clock(self) -> None:
        began = time.time()
        agent = await self.session.ask("the clock", lambda target: target.agent())
        ended = time.time()
        # Whatever lies within the time of the question itself is no skew.
        self.facts.skew_seconds = agent.clock_at - min(max(agent.clock_at, began), ended)
