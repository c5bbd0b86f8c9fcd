"""The toolbox as an ephemeral container: its spec, the PATCH, and finding one that is there already."""

from __future__ import annotations

import asyncio
import secrets
from typing import Optional

from kdebug.errors import AccessDenied, Failed
from kdebug.kube.api import STRATEGIC_MERGE, Api, ServerRefusal
from kdebug.kube.failures import IMAGE_REASONS, WAITING_IS_NORMAL
from kdebug.kube.ladder import CUSTOM, MATCHING, Rung
from kdebug.kube.pods import Object, Selected, container_status, pods_path
from kdebug.protocol.record import Record, dataclass

PREFIX = "kdebug-"
"""Every toolbox' name begins so; security teams may allow-list it."""
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""As Kubernetes' own random names: no vowels, no look-alikes (apimachinery util/rand)."""
CONFLICT_PAUSES = (0.02, 0.1, 0.4)
"""Two engineers, or an engineer and the kubelet, at the same instant: the second PATCH is sent again.
Seconds at most before each try; drawn at random, so that two clients do not meet again."""
PROFILE, REASON, CLIENT = "KDEBUG_PROFILE", "KDEBUG_REASON", "KDEBUG_VERSION"
ASKED_IMAGE = "KDEBUG_IMAGE"
"""The image as it was asked for: admission may have written a mirror's or a digest in its place."""


@dataclass(frozen=True, eq=False, repr=False)
class Lifetime(Record):
    """Seconds, as `hold` takes them."""

    ttl: float = 3600.0
    max_ttl: float = 8 * 3600.0
    idle: float = 900.0


@dataclass(frozen=True, eq=False, repr=False)
class ToolboxSpec(Record):
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
    environment.append({"name": ASKED_IMAGE, "value": spec.image})
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
    for pause in (*CONFLICT_PAUSES, None):
        try:
            pod: Object = await api.call(
                "PATCH", path, params=params, body=body, content_type=STRATEGIC_MERGE
            )
            break
        except ServerRefusal as refused:
            if refused.code != 409 or pause is None:
                raise
            await asyncio.sleep(pause * secrets.randbelow(100) / 100)
    if find(pod, made["name"]) is None:
        raise Failed(
            f"the API server took the toolbox for {selected.name} but did not keep it",
            why="an admission webhook removed the container from the pod",
            next_step="ask whoever runs the cluster's policies to allow containers named kdebug-*",
        )
    return pod


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
    return _variable(toolbox, PROFILE) or "unknown"


def lifetime_of(toolbox: Object) -> Optional[Lifetime]:
    """What its `hold` was told; None when its command is not ours."""
    words = [str(word) for word in toolbox.get("command") or []]
    told = dict(zip(words[:-1], words[1:]))
    try:
        return Lifetime(*(float(told[f"--{name}"]) for name in ("ttl", "max-ttl", "idle")))
    except (KeyError, ValueError):
        return None


def _variable(toolbox: Object, name: str) -> str:
    return next((str(e.get("value")) for e in toolbox.get("env") or [] if e.get("name") == name), "")


def reusable(
    pod: Object, target: str, image: str, rungs: list[Rung], any_user: bool = False
) -> list[tuple[Object, Rung]]:
    """Toolboxes that may run for this very target, image and rungs: lowest rung first, then newest.

    With `any_user`, those of the match rungs whose user is another than planned, too: that of the
    process, which the one who made it found to be the right one.
    """
    found: list[tuple[Object, Rung]] = []
    for rung in rungs:
        for toolbox in reversed(toolboxes(pod)):
            if not _made_for(toolbox, target, image) or not _alive(pod, target, toolbox):
                continue
            context, profile = toolbox.get("securityContext") or {}, profile_of(toolbox)
            if profile == rung.name and _covers(context, rung):
                found.append((toolbox, rung))
            elif any_user and {profile, rung.name} <= set(MATCHING):
                found.append((toolbox, Rung(profile, context, "an earlier session measured the user")))
    return found


def starting(pod: Object, target: str, image: str, rung: Rung) -> Optional[Object]:
    """The newest toolbox of this very rung that the kubelet still makes; a second would not be faster."""
    for toolbox in reversed(toolboxes(pod)):
        state = container_status(pod, toolbox["name"]).get("state") or {}
        reason = str((state.get("waiting") or {}).get("reason") or "")
        waits = set(state) <= {"waiting"} and reason in (*WAITING_IS_NORMAL, *IMAGE_REASONS)
        same_rung = profile_of(toolbox) == rung.name and _covers(toolbox.get("securityContext") or {}, rung)
        if waits and same_rung and _made_for(toolbox, target, image):
            return toolbox
    return None


def _made_for(toolbox: Object, target: str, image: str) -> bool:
    images = (toolbox.get("image"), _variable(toolbox, ASKED_IMAGE))
    return toolbox.get("targetContainerName") == target and image in images


def _alive(pod: Object, target: str, toolbox: Object) -> bool:
    """Whether it may run, in the PID namespace that the target is in now."""
    state = container_status(pod, toolbox["name"]).get("state") or {}
    if "running" not in state:
        # The kubelet tells of a start up to a second late; asking costs one exec that is refused.
        waiting = str((state.get("waiting") or {}).get("reason") or "")
        return "terminated" not in state and waiting in WAITING_IS_NORMAL
    if pod["spec"].get("shareProcessNamespace") or pod["spec"].get("hostPID"):
        return True  # this namespace outlives the target
    # One that is older than the target's present instance joined a namespace that is gone.
    started = (container_status(pod, target).get("state") or {}).get("running", {}).get("startedAt", "")
    return str(state["running"].get("startedAt", "")) >= str(started)


def running(pod: Object, target: str) -> bool:
    """Whether a toolbox for this target runs, of whatever rung: then its room has been found."""
    mine = [item for item in toolboxes(pod) if item.get("targetContainerName") == target]
    return any(_alive(pod, target, item) for item in mine)


def _covers(context: Object, rung: Rung) -> bool:
    """Whether a toolbox runs as this rung would have it; a guessed user may have been corrected."""
    fields = {"capabilities"} if rung.guess else {"runAsUser", "runAsGroup", "capabilities"}
    if rung.name == CUSTOM:
        fields |= {*rung.context, "privileged", "procMount"}
    return all(context.get(key) == rung.context.get(key) for key in fields)


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
