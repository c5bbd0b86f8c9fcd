"""Attach: reuse or create a toolbox on the lowest rung that works, and prove what it may read.

Never climbs silently: every rung that was tried, and who refused it in which words, is in the report.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Optional
from urllib.parse import quote

from kdebug.errors import ConnectionLost, DeadlinePassed, Failed, KdebugError, NotFound
from kdebug.kube import ephemeral, ladder
from kdebug.kube.api import Api, ServerRefusal
from kdebug.kube.backend import PodBackend
from kdebug.kube.ephemeral import ToolboxSpec
from kdebug.kube.exec import ExecChannel
from kdebug.kube.failures import (
    ToolboxFailed,
    may_start,
    operating_system,
    reason_against,
    toolbox_state,
)
from kdebug.kube.ladder import Identity, Rung
from kdebug.kube.pods import Object, Selected, container_id
from kdebug.kube.stream import Toolbox, connect_when_running, watch_pod
from kdebug.protocol.requests import GetAccess, GetProcess, OpenTarget
from kdebug.protocol.system import Access, TargetInfo

CORE = ("files read", "fds", "env")
"""What a rung must give in `auto`; the process list and sockets work on every rung."""
NODE_SECONDS = 2.0
"""For the node's label, which only helps to explain."""


@dataclass(frozen=True)
class AttachOptions:
    """What the user may say about the toolbox."""

    spec: ToolboxSpec
    profile: str = "auto"
    custom: Optional[Object] = None
    read_only: bool = False
    root_pid: int = 0
    seconds: float = 30.0
    wait: bool = False
    """Wait for the target's next start."""
    wait_seconds: float = 0.0
    """At most so long; 0: until it starts, or cannot any more."""
    step: Callable[[str], None] = lambda line: None
    """Called with each step, for progress and -v."""


@dataclass
class Report:
    """The true account: what was tried, refused, created, and what it can read."""

    toolbox: str = ""
    rung: Optional[Rung] = None
    created: list[str] = field(default_factory=list)
    asked_for: str = ""
    """A container whose PATCH was sent and not decided: it may be there, or not."""
    ended: list[str] = field(default_factory=list)
    """Of those created, what was ended again because it read too little."""
    reused: bool = False
    delivered: bool = False
    refused: list[tuple[str, str]] = field(default_factory=list)
    """(rung, in whose words)."""
    notes: list[str] = field(default_factory=list)
    access: Optional[Access] = None
    seconds: float = 0.0


@dataclass
class Attached:
    """An open target in a pod."""

    backend: PodBackend
    info: TargetInfo
    selected: Selected
    report: Report


class Blind(Failed):
    """The toolbox runs and does not see the target's processes."""


class Attachment:
    """One attempt; `run` does it."""

    def __init__(self, api: Api, selected: Selected, options: AttachOptions) -> None:
        self.api = api
        self.selected = selected
        self.options = options
        self.report = Report()
        self._tried: set[tuple[str, Any, Any]] = set()
        """Rungs and users of the toolboxes that are there and do not do: another would do no better."""

    async def run(self) -> Attached:
        """Raises `Failed`, `AccessDenied`, `DeadlinePassed`, `ConnectionLost` with what to do next."""
        started = time.monotonic()
        await self._await_target()
        rungs = ladder.plan(
            self.selected.pod, self.selected.container, self.options.profile, self.options.custom
        )
        found = await self._reused(rungs)
        if found is None or not self._good_enough(found):
            tried = {name for name, _, _ in self._tried}
            left = [rung for rung in rungs if rung.name not in tried]
            found = await self._created(left, found)
        self.report.seconds = time.monotonic() - started
        return found

    async def _await_target(self) -> None:
        """The target runs, or `--wait` until it does."""
        pod, container = self.selected.pod, self.selected.container
        windows = await self._on_windows()
        reason = reason_against(pod, container, windows)
        if reason is None:
            return
        if not self.options.wait or windows or not may_start(pod):
            raise reason
        self.options.step(f"waiting for {container} to start: {reason.why or reason.what}")
        try:
            async with asyncio.timeout(self.options.wait_seconds or None):
                await self._await_start(pod, container)
        except TimeoutError:
            seconds = self.options.wait_seconds
            raise DeadlinePassed(
                f"{container} of {self.selected.label} did not start within {seconds:g} s",
                why=reason.why,
                next_step=f"`kdebug describe {self.selected.name}` shows what it waits for",
            ) from None

    async def _await_start(self, pod: Object, container: str) -> None:
        version = str(pod["metadata"].get("resourceVersion", ""))
        async for seen in watch_pod(self.api, self.selected, version):
            reason = reason_against(seen, container)
            if reason is None:
                self.selected = Selected(seen, container, self.selected.notes)
                return
            if not may_start(seen):
                raise reason

    async def _on_windows(self) -> bool:
        """What the pod says; where it says nothing, what its node says, if that may be read."""
        pod, container = self.selected.pod, self.selected.container
        system = operating_system(pod, container)
        node = pod["spec"].get("nodeName")
        if system or not node:
            return system == "windows"
        try:
            found = await self.api.call("GET", f"/api/v1/nodes/{quote(node)}", seconds=NODE_SECONDS)
        except (ServerRefusal, KdebugError):
            return False
        labels = found["metadata"].get("labels") or {}
        return bool(labels.get("kubernetes.io/os") == "windows")

    async def _reused(self, rungs: list[Rung]) -> Optional[Attached]:
        """The toolbox that is there already, still answers and reads most; None when there is none."""
        best: Optional[Attached] = None
        image = self.options.spec.image
        any_user = self.options.profile == "auto" and self.options.custom is None
        pod, target = self.selected.pod, self.selected.container
        for made, rung in ephemeral.reusable(pod, target, image, rungs, any_user):
            toolbox = self._toolbox(made["name"])
            try:
                connection = await toolbox.connect(request_seconds=self.options.seconds)
                attached = await self._open(toolbox, connection, rung)
            except ServerRefusal as refused:
                if refused.code in (401, 403):
                    raise self._exec_refused(refused) from refused
                continue  # it ended meanwhile
            except Blind:
                raise  # another one would be in the same place
            except (ConnectionLost, Failed, DeadlinePassed):
                continue  # a toolbox that hangs must not keep the pod closed
            if best is not None:
                await best.backend.close()
            best = attached
            self.report.reused = True
            self._tried.add(_user_of(rung))
            if self._good_enough(attached):
                break
        return best

    def _toolbox(self, name: str) -> Toolbox:
        flags = ("--read-only",) if self.options.read_only else ()
        return Toolbox(self.api, self.selected, name, self.options.spec.image, flags)

    async def _created(self, rungs: list[Rung], best: Optional[Attached]) -> Attached:
        """Climb: PATCH, connect, prove; the next rung when one is refused or does not give the core."""
        refused: list[tuple[Rung, ServerRefusal]] = []
        queue, corrected = list(rungs), False
        problem: Optional[KdebugError] = None
        if best is None:
            await self._may_exec()
        elif best.report.rung is not None:
            better = await self._corrected(best, best.report.rung)
            queue, corrected = ([better, *queue] if better else queue), better is not None
        while queue:
            rung = queue.pop(0)
            try:
                attached = await self._try(rung)
            except ServerRefusal as refusal:
                refused.append((rung, refusal))
                self._refused(rung.name, refusal.message)
                if refusal.code not in (400, 403, 422):
                    raise refusal.explained(
                        f"no toolbox may be added to {self.selected.label}"
                    ) from refusal
                if "cannot patch resource" in refusal.message:
                    break  # RBAC: it says so to every rung
                continue
            except ToolboxFailed as failed:
                problem = failed.error
                self._refused(rung.name, str(failed.error))
                if not failed.climb:
                    break
                continue
            if best is not None:
                await self._replaced(best)
            best = attached
            self.report.reused = attached.backend.toolbox.name not in self.report.created
            if self._good_enough(attached):
                return attached
            self._tried.add(_user_of(rung))
            self._refused(rung.name, f"it reads too little: {self._missing(attached)}")
            better = None if corrected else await self._corrected(attached, rung)
            corrected = True
            if better is not None:
                queue.insert(0, better)
        if best is not None:
            return self._settled(best, refused)
        if problem is not None:
            raise problem
        raise ephemeral.refused_error(refused, self.selected)

    async def _replaced(self, worse: Attached) -> None:
        """Let go of a toolbox that reads too little; end it when it is of this very run."""
        await worse.backend.close()
        toolbox = worse.backend.toolbox
        if toolbox.name not in self.report.created:
            return
        from kdebug.kube import sessions  # seldom needed

        try:
            await sessions.end(self.api, self.selected, toolbox.name, toolbox.image)
            self.report.ended.append(toolbox.name)
        except (KdebugError, ServerRefusal) as error:
            self.options.step(f"{toolbox.name} could not be ended: {error}")

    def _exec_refused(self, refusal: ServerRefusal) -> KdebugError:
        return refusal.explained(f"exec into {self.selected.label} is refused")

    async def _may_exec(self) -> None:
        """Asked before anything is added: a toolbox that nobody may enter would stay for nothing.

        The server checks the right before it looks for the container, which is not there.
        """
        name, pod = ephemeral.new_name(), self.selected
        try:
            channel = await ExecChannel.start(self.api, pod.namespace, pod.name, name, ["true"])
        except ServerRefusal as refused:
            if refused.code in (401, 403):
                raise self._exec_refused(refused) from refused
        else:
            await channel.close()

    def _refused(self, rung: str, words: str) -> None:
        self.report.refused.append((rung, words))
        self.options.step(f"{rung} is refused: {words}")

    async def _try(self, rung: Rung) -> Attached:
        waiting = ephemeral.starting(
            self.selected.pod, self.selected.container, self.options.spec.image, rung
        )
        if waiting is not None:
            try:
                return await self._awaited(waiting["name"], rung)
            except ToolboxFailed as failed:
                if not failed.ended:
                    raise
                # The kubelet tells of an end up to a second late, too.
                self.options.step(str(failed.error))
        made = ephemeral.container(ephemeral.new_name(), self.options.spec, rung, self.selected.container)
        self.options.step(f"adding {made['name']} on the rung {rung.name} ({rung.rights})")
        pod = await self._add(made)
        kept = ephemeral.find(pod, made["name"])
        if kept is not None and (differences := ephemeral.changed(made, kept)):
            self.report.notes.append(f"admission changed {', '.join(differences)} of the toolbox")
        toolbox = self._toolbox(made["name"])
        connection = await connect_when_running(toolbox, pod, self.selected.container, self.options.seconds)
        self.options.step(f"{made['name']} answers")
        return await self._open(toolbox, connection, rung)

    async def _add(self, made: Object) -> Object:
        report, name = self.report, made["name"]
        report.asked_for = name
        try:
            pod = await ephemeral.add(self.api, self.selected, made)
        except ServerRefusal as refused:
            if not refused.undecided:
                report.asked_for = ""
            raise
        except Failed:
            report.asked_for = ""  # admission took it out again
            raise
        report.asked_for = ""
        report.created.append(name)
        return pod

    async def _awaited(self, name: str, rung: Rung) -> Attached:
        """What an earlier or another client has added and the kubelet still makes: no second one."""
        self.options.step(f"{name} is there already and does not run yet")
        pod, toolbox = self.selected.pod, self._toolbox(name)
        toolbox_state(pod, name, toolbox.image, self.selected.container)
        connection = await connect_when_running(toolbox, pod, self.selected.container, self.options.seconds)
        return await self._open(toolbox, connection, rung)

    async def _open(self, toolbox: Toolbox, connection: Any, rung: Rung) -> Attached:
        """Bind the agent to the target by its container id, and measure."""
        target = container_id(self.selected.pod, self.selected.container)
        request = OpenTarget(
            container=target, read_only=self.options.read_only, root_pid=self.options.root_pid
        )
        try:
            # Asked together: the agent answers in order, and a far cluster takes its time for each.
            info, access = await asyncio.gather(connection.send(request), connection.send(GetAccess()))
        except NotFound as error:
            await connection.close()
            raise Blind(
                f"the toolbox {toolbox.name} does not see {self.selected.container}",
                why="the PID namespace is not shared: a sandboxed runtime, or the target has restarted",
                next_step="run it again; on gVisor or Kata no debugger in the pod can see the target",
            ) from error
        except BaseException:
            await connection.close()
            raise
        backend = PodBackend(toolbox, connection, request, self.options.seconds)
        report = self.report
        report.toolbox, report.rung, report.access = toolbox.name, rung, access
        report.delivered = toolbox.delivered
        return Attached(backend, info, self.selected, report)

    def _good_enough(self, attached: Attached) -> bool:
        return (
            self.options.profile != "auto" or self.options.custom is not None or not self._missing(attached)
        )

    def _missing(self, attached: Attached) -> str:
        assert attached.report.access is not None
        lacking = [a for a in attached.report.access.abilities if a.name in CORE and a.allowed is False]
        return "; ".join(f"{ability.name}: {ability.reason}" for ability in lacking)

    async def _corrected(self, attached: Attached, rung: Rung) -> Optional[Rung]:
        """One more try with what /proc/PID/status says, where that is another user than was planned."""
        if rung.name not in ladder.MATCHING:
            return None
        try:
            process = await attached.backend.send(GetProcess(attached.info.pid, attached.info.start_ticks))
        except KdebugError:
            return None
        uid, gid = process.real_uid, process.real_gid
        if uid is None or (uid, gid) == (rung.context.get("runAsUser"), rung.context.get("runAsGroup")):
            return None
        identity = Identity(uid, gid, "process")
        better = ladder.match_for(self.selected.pod, self.selected.container, identity)
        return None if _user_of(better) in self._tried else better

    def _settled(self, best: Attached, refused: list[tuple[Rung, ServerRefusal]]) -> Attached:
        """Nothing gave everything: what there is, with a word about what is missing."""
        rung = best.report.rung.name if best.report.rung else "?"
        self.report.notes.append(f"the rung {rung} cannot read everything: {self._missing(best)}")
        for other, refusal in refused:
            self.report.notes.append(f"the rung {other.name} was refused: {refusal.message}")
        return best


def _user_of(rung: Rung) -> tuple[str, Any, Any]:
    return rung.name, rung.context.get("runAsUser"), rung.context.get("runAsGroup")
