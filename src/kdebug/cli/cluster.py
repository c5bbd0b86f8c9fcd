"""logs, events, describe, sessions, access, rbac, toolbox: what Kubernetes alone can tell or grant."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
from collections.abc import Awaitable, Callable
from typing import Any, Optional

import click

from kdebug.cli.console import Document, emit, note, write_bytes
from kdebug.cli.running import run
from kdebug.cli.system import access_checks
from kdebug.cli.table import exact, table
from kdebug.cli.verb import Common, common_options, one_target, with_target
from kdebug.errors import Failed, KdebugError, NotFound, UsageError
from kdebug.expression import EXAMPLES, OWNERS, TargetExpression
from kdebug.open import open_cluster, role_objects
from kdebug.sanitise import file_bytes, one_line
from kdebug.target import Target
from kdebug.target.cluster import Cluster, EventInfo, LogLine, LogQuery, PodRef, Session, Story

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")


def with_cluster(
    common: Common,
    work: Callable[[Cluster], Awaitable[int]],
    expression: Optional[TargetExpression] = None,
) -> int:
    async def opened() -> int:
        async with open_cluster(common.open_options(), expression) as cluster:
            return await work(cluster)

    return run(opened())


def _pod_expression(words: tuple[str, ...], common: Common, verb: str) -> TargetExpression:
    expression = one_target(words, common)
    if expression.scheme not in (*OWNERS, "bundle") or expression.path:
        raise UsageError(f"{verb} works on pods, not on {expression}", next_step=EXAMPLES)
    return expression


def duration_seconds(text: str) -> int:
    """90, 90s, 5m, 1h30m. Raises `UsageError`."""
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise UsageError(f"{text!r} is not a duration", next_step="write 90s, 5m or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return max(1, hours * 3600 + minutes * 60 + seconds)


@click.command("logs", help="Show the logs of every container of a pod, merged by time.")
@click.argument("target", nargs=-1, metavar="TARGET")
@click.option("-p", "--previous", is_flag=True, help="of the instance before the last restart")
@click.option("-f", "--follow", is_flag=True, help="go on as they are written")
@click.option("--since", default="", metavar="5m", help="only what is newer")
@click.option("--tail", type=click.IntRange(min=0), help="only the last lines of each container")
@click.option("--timestamps", is_flag=True, help="show when each line was written")
@common_options(("table", "json"))
def logs(
    target: tuple[str, ...], previous: bool, follow: bool, since: str, tail: int | None, timestamps: bool,
    common: Common,
) -> int:  # fmt: skip
    expression = _pod_expression(target, common, "logs")
    query = LogQuery(previous, follow, duration_seconds(since) if since else None, tail)

    async def work(cluster: Cluster) -> int:
        pod = await cluster.choose(expression)
        chosen = (common.pod.container,) if common.pod.container else pod.containers
        if previous and not common.pod.container:
            chosen = _restarted(pod) or chosen
        writer = _LogWriter(common.output, len(chosen) > 1, timestamps)
        async for line in cluster.logs(pod, chosen, query):
            writer.write(line)
        return writer.close()

    return with_cluster(common, work, expression)


def _restarted(pod: PodRef) -> tuple[str, ...]:
    """Those that have a previous instance; the others would be refused."""
    statuses = pod.pod.get("status", {}).get("containerStatuses") or []
    return tuple(s["name"] for s in statuses if (s.get("lastState") or {}).get("terminated"))


class _LogWriter:
    """Lines as they come: exact bytes into a pipe, sanitised on a terminal, or JSON lines."""

    def __init__(self, output: str, several: bool, timestamps: bool) -> None:
        self._json = output == "json"
        self._several = several
        self._timestamps = timestamps
        self._terminal = os.isatty(1)
        self._width = 0

    def write(self, line: LogLine) -> None:
        if self._json:
            row: dict[str, Any] = {"container": line.container, "at": line.at or None}
            exact(row, "line", line.text.decode("utf-8", "surrogateescape"))
            write_bytes(json.dumps(row).encode() + b"\n")
            return
        self._width = max(self._width, len(line.container))
        head = f"{line.at} ".encode() if self._timestamps and line.at else b""
        head += f"{line.container:<{self._width}} | ".encode() if self._several else b""
        text = file_bytes(line.text).encode() if self._terminal else line.text
        write_bytes(head + text + b"\n")

    def close(self) -> int:
        return 0


def event_document(event: EventInfo) -> dict[str, Any]:
    return dataclasses.asdict(event)


def event_lines(events: list[EventInfo] | tuple[EventInfo, ...]) -> list[str]:
    rows = [[e.at, e.kind, e.count, e.about, e.reason, e.message] for e in events]
    return table(["LAST SEEN", "TYPE", "COUNT", "ABOUT", "REASON", "MESSAGE"], rows, right="COUNT")


@click.command("events", help="List the pod's events, oldest first.")
@click.argument("target", nargs=-1, metavar="TARGET")
@common_options()
def events(target: tuple[str, ...], common: Common) -> int:
    expression = _pod_expression(target, common, "events")

    async def work(cluster: Cluster) -> int:
        found = await cluster.events(await cluster.choose(expression))
        data = {"events": [event_document(event) for event in found]}
        notes = [] if found else ["the API server has no events of this pod; it keeps them for an hour"]
        return emit(Document(data, lambda wide: event_lines(found), notes=notes), common.output)

    return with_cluster(common, work, expression)


@click.command("describe", help="What Kubernetes knows of a pod; what changed lately comes first.")
@click.argument("target", nargs=-1, metavar="TARGET")
@common_options()
def describe(target: tuple[str, ...], common: Common) -> int:
    expression = _pod_expression(target, common, "describe")

    async def work(cluster: Cluster) -> int:
        return emit(story_document(await cluster.story(await cluster.choose(expression))), common.output)

    return with_cluster(common, work, expression)


def story_document(story: Story) -> Document:
    data = {
        "changes": [dataclasses.asdict(change) for change in story.changes],
        **story.facts,
        "events": [event_document(event) for event in story.events],
        "reasons": story.missing,
    }
    return Document(data, lambda wide: _story_lines(story))


def _story_lines(story: Story) -> list[str]:
    lines = ["what changed lately:"]
    lines += [
        one_line(f"  {change.at}  {change.what}  {change.detail}".rstrip()) for change in story.changes
    ]
    facts = {
        k: v for k, v in story.facts.items() if k not in ("containers", "conditions", "node_conditions")
    }
    lines += ["", *_fields(facts, "")]
    for container in story.facts["containers"]:
        lines += ["", one_line(f"container {container['name']}:")]
        lines += _fields({k: v for k, v in container.items() if k != "name"}, "  ")
    for title, conditions in (("conditions", "conditions"), ("node", "node_conditions")):
        for condition in story.facts[conditions] or []:
            text = f"{title}: {condition['type']}={condition['status']} since {condition['since']}"
            lines.append(one_line(f"{text} {condition['why'] or ''}".rstrip()))
    lines += [one_line(f"{what}: not readable: {reason}") for what, reason in story.missing.items()]
    return [*lines, "", *event_lines(story.events)] if story.events else lines


def _fields(facts: dict[str, Any], indent: str) -> list[str]:
    lines = []
    for key, value in facts.items():
        if value in (None, "", [], {}, False):
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{name} {item}" for name, item in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        lines.append(one_line(f"{indent}{key}: {value}"))
    return lines


@click.group("sessions", invoke_without_command=True, help="List the toolboxes that remain in pods.")
@click.option("-A", "--all-namespaces", is_flag=True, help="of every namespace")
@click.option("--ask", is_flag=True, help="ask each running toolbox when it will end")
@common_options(("table", "wide", "json", "yaml", "name"))
@click.pass_context
def sessions(context: click.Context, all_namespaces: bool, ask: bool, common: Common) -> int:
    if context.invoked_subcommand is not None:
        context.obj = common
        return 0

    async def work(cluster: Cluster) -> int:
        found = await cluster.sessions(all_namespaces)
        problems: list[str] = []
        if ask:
            found, problems = await _asked(cluster, found)
        return emit(_session_document(found, problems), common.output)

    return with_cluster(common, work)


async def _asked(cluster: Cluster, found: list[Session]) -> tuple[list[Session], list[str]]:
    answers: list[Session] = []
    problems: list[str] = []
    for session in found:
        if session.state == "running":
            try:
                session = await cluster.ask(session)
            except KdebugError as error:
                problems.append(str(error))
        answers.append(session)
    return answers, problems


def _session_document(found: list[Session], problems: list[str]) -> Document:
    rows = [
        [s.namespace, s.pod, s.container, s.toolbox, s.profile, s.started_at, s.expires_at, s.state]
        for s in found
    ]
    headers = ["NAMESPACE", "POD", "CONTAINER", "TOOLBOX", "PROFILE", "STARTED", "EXPIRES", "STATE"]
    data = {"sessions": [dataclasses.asdict(session) for session in found]}
    names = lambda: (session.toolbox for session in found)  # noqa: E731
    notes = problems or ([] if found else ["no toolbox of kdebug is listed in any pod here"])
    return Document(
        data, lambda wide: table(headers, rows), names=names, notes=notes, partial=bool(problems)
    )


@sessions.command("stop", help="End the running toolboxes of a pod, or one toolbox by its name.")
@click.argument("name")
@common_options(("table",))
def stop(name: str, common: Common) -> int:
    name = name.removeprefix("pod/")

    async def work(cluster: Cluster) -> int:
        found = [s for s in await cluster.sessions(False) if name in (s.pod, s.toolbox)]
        if not found:
            raise NotFound(
                f"no toolbox is or is in {name}", next_step="`kdebug sessions` lists what there is"
            )
        problems: list[KdebugError] = []
        ended = 0
        for session in found:
            try:
                ended += await _stopped(cluster, session)
            except KdebugError as error:
                problems.append(error)  # the others are to end all the same
        for problem in problems[1:]:
            note(str(problem))
        if problems:
            raise problems[0]
        if not ended:
            note(f"nothing of kdebug runs in {name}")
        return 0

    return with_cluster(common, work)


async def _stopped(cluster: Cluster, session: Session) -> bool:
    """End one toolbox. One that waits may run already: the kubelet tells of a start up to a second late."""
    if session.state.startswith("terminated"):
        return False
    try:
        await cluster.stop(session)
    except Failed:
        if session.state == "running":
            raise
        return False
    note(f"ended {session.toolbox} in {session.namespace}/{session.pod}; it stays listed in the pod")
    return True


@click.command("access", help="Show the access ladder for a target, attach, and prove what can be read.")
@click.argument("target", nargs=-1, metavar="TARGET")
@click.option("--plan", "plan_only", is_flag=True, help="only ask; create nothing")
@common_options()
def access(target: tuple[str, ...], plan_only: bool, common: Common) -> int:
    expression = one_target(target, common)
    data: dict[str, Any] = {"target": str(expression), "plan": [], "permissions": [], "proof": []}
    lines: list[str] = []
    if expression.scheme in OWNERS:
        with_cluster(common, lambda cluster: _plan(cluster, expression, data, lines))
    if plan_only:
        return emit(Document(data, lambda wide: lines), common.output)

    async def prove(opened: Target) -> int:
        found = await opened.access()
        data["uid"], data["gid"], data["capabilities"] = found.uid, found.gid, list(found.capabilities)
        data["proof"] = access_checks(found)
        rows = [[c["status"], c["name"], c["detail"], c["fix"]] for c in data["proof"]]
        held = " ".join(found.capabilities) or "no capabilities"
        lines.append(one_line(f"proof: as uid {found.uid} gid {found.gid}, {held}"))
        lines.extend(table(["STATUS", "ABILITY", "DETAIL", "UNLOCKED BY"], rows))
        return emit(Document(data, lambda wide: lines), common.output)

    return with_target(expression, common, prove)


async def _plan(
    cluster: Cluster, expression: TargetExpression, data: dict[str, Any], lines: list[str]
) -> int:
    pod = await cluster.choose(expression)
    steps, permissions = await asyncio.gather(cluster.plan(pod), cluster.permissions(pod.namespace))
    data["plan"] = [dataclasses.asdict(step) for step in steps]
    data["permissions"] = [dataclasses.asdict(permission) for permission in permissions]
    lines.append(
        one_line(f"plan for {pod.namespace}/{pod.name}, container {pod.container}, lowest rung first")
    )
    lines += table(
        ["RUNG", "RIGHTS", "API SERVER", "WHY"],
        [[s.rung, s.rights, s.verdict, s.words or s.why] for s in steps],
    )
    lines.append("")
    allowed = {True: "yes", False: "no", None: "not known"}
    rows = [
        [p.verb, p.resource, allowed[p.allowed], "needed" if p.needed else "useful", p.words]
        for p in permissions
    ]
    lines += [*table(["VERB", "RESOURCE", "ALLOWED", "", "WORDS"], rows), ""]
    return 0


@click.command("rbac", help="Print the minimal Role and RoleBinding, as YAML for `kubectl apply -f -`.")
@click.option("-n", "--namespace", default="default", show_default=True)
@click.option("--name", default="kdebug", show_default=True)
@click.option("--user", default="", help="bind to a user")
@click.option("--group", default="", help="bind to a group")
@click.option("--serviceaccount", default="", metavar="NS:NAME", help="bind to a service account")
@click.option("--minimal", is_flag=True, help="without logs, events and watching, which kdebug can miss")
def rbac(namespace: str, name: str, user: str, group: str, serviceaccount: str, minimal: bool) -> int:
    import yaml

    subject = _subject(user, group, serviceaccount)
    objects = role_objects(namespace, name, subject, useful=not minimal)
    write_bytes(yaml.safe_dump_all(objects, sort_keys=False).encode())
    return 0


def _subject(user: str, group: str, account: str) -> dict[str, str]:
    if sum(map(bool, (user, group, account))) > 1:
        raise UsageError("one subject is wanted", next_step="give --user, --group or --serviceaccount")
    if account:
        namespace, colon, name = account.partition(":")
        if not colon or not namespace or not name:
            raise UsageError(f"{account!r} is no service account", next_step="write NAMESPACE:NAME")
        return {"kind": "ServiceAccount", "namespace": namespace, "name": name}
    kind = "Group" if group else "User"
    return {"kind": kind, "apiGroup": "rbac.authorization.k8s.io", "name": group or user or "REPLACE-ME"}


TOOLBOX = """\
The toolbox image (docs/toolbox.md has more):
  build      make toolbox                          # core and full, amd64 and arm64, into dist/
             docker build -f toolbox/Dockerfile --build-arg FLAVOUR=core -t kdebug-toolbox:core .
  kind       kind load image-archive dist/kdebug-toolbox-core-all.oci.tar
  minikube   minikube image load dist/kdebug-toolbox-core-all.oci.tar
  containerd ctr -n k8s.io images import dist/kdebug-toolbox-core-all.oci.tar
  registry   skopeo copy --all oci-archive:dist/kdebug-toolbox-core-all.oci.tar docker://REGISTRY/kdebug-toolbox:core
use it with --image, KDEBUG_IMAGE, or `image:` in ~/.config/kdebug/config.yaml
"""


@click.command("toolbox", help="Show how to build, load and push the toolbox image.")
def toolbox() -> int:
    write_bytes(TOOLBOX.encode())
    return 0


COMMANDS: dict[str, click.Command] = {
    "logs": logs,
    "events": events,
    "describe": describe,
    "sessions": sessions,
    "access": access,
    "rbac": rbac,
    "toolbox": toolbox,
}
