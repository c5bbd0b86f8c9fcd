"""The toolbox as an ephemeral container: its spec, the PATCH, and finding one that is there already."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Optional

from kdebug.errors import AccessDenied, Failed
from kdebug.kube.api import STRATEGIC_MERGE, Api, ServerRefusal
from kdebug.kube.failures import WAITING_IS_NORMAL
from kdebug.kube.ladder import Rung
from kdebug.kube.pods import Object, Selected, container_status, pods_path

PREFIX = "kdebug-"
"""Every toolbox' name begins so; security teams may allow-list it."""
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""As Kubernetes' own random names: no vowels, no look-alikes (apimachinery util/rand)."""
CONFLICTS = 4
"""Two engineers at the same instant: the second PATCH is sent again, as often as this."""
PROFILE, REASON, CLIENT = "KDEBUG_PROFILE", "KDEBUG_REASON", "KDEBUG_VERSION"


@dataclass(frozen=True)
class Lifetime:
    """Seconds, as `hold` takes them."""

    ttl: float = 3600.0
    max_ttl: float = 8 * 3600.0
    idle: float = 900.0


@dataclass(frozen=True)
class ToolboxSpec:
    """What is the same on every rung."""

    image: str
    command: tuple[str, ...]
    environment: dict[str, str]
    version: str
    reason: str = ""
    pull_policy: str = "IfNotPresent"


def new_name() -> str:
    return PREFIX + "".join(secrets.choice(_LETTERS) for _ in range(5))


def container(name: str, spec: ToolboxSpec, rung: Rung, target: str) -> Object:
    """No envFrom, no volumes, no ports, no terminal: nothing that a policy could be walked around with."""
    environment = [{"name": name, "value": value} for name, value in spec.environment.items()]
    environment += [{"name": CLIENT, "value": spec.version}, {"name": PROFILE, "value": rung.name}]
    if spec.reason:
        environment.append({"name": REASON, "value": spec.reason})
    return {
        "name": name,
        "image": spec.image,
        "imagePullPolicy": spec.pull_policy,
        "command": list(spec.command),
        "env": environment,
        "targetContainerName": target,
        "securityContext": rung.context,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


async def add(api: Api, selected: Selected, made: Object, *, dry_run: bool = False) -> Object:
    """PATCH one container in; the pod as the server then has it. Raises `ServerRefusal`, or `Failed` when
    an admission webhook took the container out again."""
    body = {"spec": {"ephemeralContainers": [made]}}
    params = [("fieldManager", "kdebug")] + ([("dryRun", "All")] if dry_run else [])
    path = pods_path(selected.namespace, selected.name, "ephemeralcontainers")
    for attempt in range(CONFLICTS):
        try:
            pod: Object = await api.call(
                "PATCH", path, params=params, body=body, content_type=STRATEGIC_MERGE
            )
        except ServerRefusal as refused:
            if refused.code == 409 and attempt + 1 < CONFLICTS:
                continue
            raise
        if find(pod, made["name"]) is None:
            raise Failed(
                f"the API server took the toolbox for {selected.name} but did not keep it",
                why="an admission webhook removed the container from the pod",
                next_step="ask whoever runs the cluster's policies to allow containers named kdebug-*",
            )
        return pod
    raise AssertionError("unreachable")


def toolboxes(pod: Object) -> list[Object]:
    """Every ephemeral container of the spec that is ours, oldest first."""
    found = pod["spec"].get("ephemeralContainers") or []
    return [item for item in found if str(item.get("name", "")).startswith(PREFIX)]


def find(pod: Object, name: str) -> Optional[Object]:
    return next(
        (item for item in pod["spec"].get("ephemeralContainers") or [] if item["name"] == name), None
    )


def changed(made: Object, kept: Object) -> list[str]:
    """Fields of the security context and the image that admission changed."""
    given, now = made["securityContext"], kept.get("securityContext") or {}
    fields = [f"securityContext.{key}" for key in sorted({*given, *now}) if given.get(key) != now.get(key)]
    return fields + (["image"] if made["image"] != kept.get("image") else [])


def profile_of(toolbox: Object) -> str:
    return next(
        (str(e.get("value")) for e in toolbox.get("env") or [] if e.get("name") == PROFILE), "unknown"
    )


def reusable(pod: Object, target: str, image: str, rungs: list[Rung]) -> list[tuple[Object, Rung]]:
    """Toolboxes that may run for this very target, image and rungs: lowest rung first, then newest."""
    started = (container_status(pod, target).get("state") or {}).get("running", {}).get("startedAt", "")
    found = []
    for rung in rungs:
        for toolbox in reversed(toolboxes(pod)):
            state = container_status(pod, toolbox["name"]).get("state") or {}
            fits = (toolbox.get("targetContainerName"), toolbox.get("image")) == (target, image)
            same_rung = profile_of(toolbox) == rung.name and _covers(
                toolbox.get("securityContext") or {}, rung
            )
            if fits and same_rung and _may_run(state, str(started)):
                found.append((toolbox, rung))
    return found


def _may_run(state: Object, target_started: str) -> bool:
    if "running" in state:
        # One that is older than the target's present instance joined a namespace that is gone.
        return str(state["running"].get("startedAt", "")) >= target_started
    # The kubelet tells of a start up to a second late; asking costs one exec that is refused.
    waiting = str((state.get("waiting") or {}).get("reason") or "")
    return "terminated" not in state and waiting in WAITING_IS_NORMAL


def _covers(context: Object, rung: Rung) -> bool:
    """Whether a toolbox runs as this rung would have it; a guessed user may have been corrected."""
    fields = ("capabilities",) if rung.guess else ("runAsUser", "runAsGroup", "capabilities")
    wanted: dict[str, Any] = {key: rung.context.get(key) for key in fields}
    return all(context.get(key) == value for key, value in wanted.items())


def refused_error(refused: list[tuple[Rung, ServerRefusal]], selected: Selected) -> AccessDenied | Failed:
    """No rung was taken: each with the server's words."""
    rungs: dict[str, list[str]] = {}
    for rung, refusal in refused:
        rungs.setdefault(refusal.message, []).append(rung.name)
    told = "; ".join(f"{', '.join(names)}: {message}" for message, names in rungs.items())
    what = f"no toolbox may be added to {selected.label}"
    if any(refusal.code in (401, 403) for _, refusal in refused):
        forbidden = all("cannot patch resource" in refusal.message for _, refusal in refused)
        step = "`kdebug rbac` prints the rights that it takes" if forbidden else (
            "ask whoever runs the namespace's policy, or use a profile that it allows (--profile)"
        )  # fmt: skip
        return AccessDenied(what, why=told, next_step=step)
    return Failed(what, why=told)
