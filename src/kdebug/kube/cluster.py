"""`Cluster` over one API server."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Optional
from urllib.parse import quote

from kdebug.errors import KdebugError
from kdebug.expression import TargetExpression
from kdebug.kube import ephemeral, ladder, logs, podlist, rights, secrets, sessions, story
from kdebug.kube.api import Api, ServerRefusal
from kdebug.kube.entry import choose, open_api, profile, toolbox_spec
from kdebug.kube.pods import Selected, containers, get_pod, select_all
from kdebug.target.cluster import (
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
from kdebug.target.options import OpenOptions, PodOptions


class KubeCluster:
    """What `open.open_cluster` hands out."""

    def __init__(self, api: Api, options: PodOptions, note: Callable[[str], None]) -> None:
        self.api = api
        self._options = options
        self._note = note

    @property
    def context(self) -> str:
        return self.api.config.context

    @property
    def namespace(self) -> str:
        return self.api.config.namespace

    async def namespaces(self) -> list[str]:
        return await podlist.namespaces(self.api)

    def pods(self, namespace: str) -> AsyncIterator[PodDelta]:
        return podlist.watched(self.api, namespace)

    def intent(self, pod: PodSummary, container: str) -> Intent:
        name, custom = profile(self._options.profile)
        image = toolbox_spec(self._options).image
        return podlist.intent(pod, container, image, name, custom)

    async def choose(self, expression: TargetExpression) -> PodRef:
        return pod_ref(await choose(self.api, expression, self._options, self._note))

    async def refresh(self, pod: PodRef) -> PodRef:
        return pod_ref(Selected(await get_pod(self.api, pod.name), pod.container, pod.notes))

    def logs(self, pod: PodRef, containers: tuple[str, ...], query: LogQuery) -> AsyncIterator[LogLine]:
        return logs.merged(self.api, pod, containers, query)

    async def events(self, pod: PodRef) -> list[EventInfo]:
        path = f"/api/v1/namespaces/{quote(pod.namespace)}/events"
        selector = f"involvedObject.name={pod.name},involvedObject.kind=Pod"
        listed = await self.api.get(
            f"the events of {pod.name} cannot be listed", path, [("fieldSelector", selector)]
        )
        return sorted(map(story.event_info, listed.get("items", [])), key=lambda event: event.at)

    async def story(self, pod: PodRef) -> Story:
        missing: dict[str, str] = {}
        events = await self._or_missing("events", missing, self.events(pod)) or []
        node = await self._or_missing("node", missing, self._node(pod))
        owner = await self._or_missing("owner", missing, self._owner(pod))
        facts = story.pod_facts(pod.pod, node, owner)
        return Story(facts, tuple(story.changes(facts, events)), tuple(events), missing)

    async def _or_missing(self, what: str, missing: dict[str, str], reading: Any) -> Any:
        """A fact that may be forbidden, or fail: its absence is told, not fatal."""
        try:
            return await reading
        except KdebugError as error:
            missing[what] = error.why or error.what
            return None

    async def related(self, pod: PodRef) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for what, reading in (("node", self._node(pod)), ("owner", self._owner(pod))):
            try:
                found[what] = await reading
            except KdebugError as error:
                found[what] = error
        return found

    async def secrets(self, pod: PodRef) -> Secrets:
        return await secrets.of_pod(self.api, pod)

    async def choose_all(self, expression: Optional[TargetExpression]) -> list[PodRef]:
        chosen = await select_all(self.api, expression, self._options.container, self._options.selector)
        return [pod_ref(one) for one in chosen]

    async def _node(self, pod: PodRef) -> Optional[Any]:
        name = pod.pod["spec"].get("nodeName")
        if not name:
            return None
        return await self.api.get("the node cannot be read", f"/api/v1/nodes/{quote(name)}")

    async def _owner(self, pod: PodRef) -> Optional[Any]:
        """The ReplicaSet or other owner: when it was made is when this revision was rolled out."""
        for reference in pod.pod["metadata"].get("ownerReferences") or []:
            group = str(reference.get("apiVersion", ""))
            plural = str(reference.get("kind", "")).lower() + "s"
            if group in ("apps/v1", "batch/v1"):
                path = (
                    f"/apis/{group}/namespaces/{quote(pod.namespace)}/{plural}/{quote(reference['name'])}"
                )
                return await self.api.get("the owner cannot be read", path)
        return None

    async def sessions(self, every_namespace: bool) -> list[Session]:
        return await sessions.list_sessions(self.api, "" if every_namespace else self.namespace)

    async def ask(self, session: Session) -> Session:
        return await sessions.ask(self.api, session)

    async def stop(self, session: Session) -> None:
        await sessions.stop(self.api, session)

    async def plan(self, pod: PodRef) -> list[PlanStep]:
        name, custom = profile(self._options.profile)
        selected = Selected(pod.pod, pod.container)
        rungs = ladder.plan(pod.pod, pod.container, name, custom)
        return [await self._dry_run(selected, rung) for rung in rungs]

    async def _dry_run(self, selected: Selected, rung: ladder.Rung) -> PlanStep:
        made = ephemeral.container(
            ephemeral.new_name(), toolbox_spec(self._options), rung, selected.container
        )
        verdict, told = "accepted", ""
        try:
            await ephemeral.add(self.api, selected, made, dry_run=True)
        except ServerRefusal as refused:
            # Some webhooks answer a dry run with 400: that says nothing about the real request.
            verdict, told = "unknown" if refused.code == 400 else "refused", refused.message
        except KdebugError as error:
            verdict, told = "refused", str(error)
        return PlanStep(rung.name, rung.rights, rung.why, verdict, told)

    async def permissions(self, namespace: str) -> list[Permission]:
        return await rights.review(self.api, namespace)


def pod_ref(selected: Selected) -> PodRef:
    """What the other side of the seam knows of a pod."""
    ephemeral_ones = selected.pod["spec"].get("ephemeralContainers") or []
    names = [str(container["name"]) for container in [*containers(selected.pod), *ephemeral_ones]]
    return PodRef(
        selected.namespace,
        selected.name,
        selected.container,
        tuple(names),
        selected.notes,
        selected.pod,
    )


async def open_cluster(options: OpenOptions, stack: contextlib.AsyncExitStack) -> KubeCluster:
    """The API server that the options name; closed with `stack`."""
    return KubeCluster(await open_api(options, stack), options.pod, options.note)
