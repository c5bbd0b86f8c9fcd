"""Pods as a list shows them: from the server's objects to summaries, whatever is missing or odd in them.

A list has thousands of pods and a person looks at one, so only what a line, a search or a preview needs is
kept. Pure; runs in a thread while the UI draws.
"""

from __future__ import annotations

import json
from typing import Any

from kdebug.kube import ephemeral, sessions
from kdebug.kube.failures import MIRROR, ended_text, words
from kdebug.kube.pods import DEFAULT_CONTAINER, Object
from kdebug.target.cluster import ContainerSummary, PodSummary, Session

MAX_TEXT = 512
"""Characters of one field; names are at most 253, image references 255 and a digest."""
TERMINAL = ("Succeeded", "Failed")
OWNER_SCHEMES = {"StatefulSet": "sts", "DaemonSet": "ds", "ReplicaSet": "rs", "Job": "job"}
TEMPLATE_HASH = "pod-template-hash"
"""A Deployment's ReplicaSet has its name, a dash and this label's value (deployment controller)."""
SHARED = ("securityContext", "hostPID", "shareProcessNamespace", "os", "nodeSelector", "nodeName")
OWN_VARIABLES = (ephemeral.PROFILE, ephemeral.REASON, ephemeral.ASKED_IMAGE)
STATES, STATE_TEXTS = ("running", "waiting", "terminated"), ("reason", "message", "startedAt", "finishedAt")
STATUSES = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")


def mapping(value: Any) -> Object:
    return value if isinstance(value, dict) else {}


def mappings(value: Any) -> list[Object]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text(value: Any) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else 0


def named(value: Any) -> list[Object]:
    """Containers and their statuses: those that have a name."""
    return [item for item in mappings(value) if isinstance(item.get("name"), str)]


def summary(pod: Any) -> PodSummary | None:
    """None for what is no pod at all."""
    metadata, spec, status = (mapping(mapping(pod).get(part)) for part in ("metadata", "spec", "status"))
    name, namespace = text(metadata.get("name")), text(metadata.get("namespace"))
    if not name:
        return None
    word, ready, total, restarts, last = counted(metadata, spec, status)
    essence = essential(metadata, spec, status)
    containers = tuple(_containers(spec, status))
    regular = [container.name for container in containers if container.kind == "regular"]
    annotated = text(mapping(metadata.get("annotations")).get(DEFAULT_CONTAINER))
    known = [container.name for container in containers]
    return PodSummary(
        namespace=namespace,
        name=name,
        uid=text(metadata.get("uid")),
        version=text(metadata.get("resourceVersion")),
        status=word,
        phase=text(status.get("phase")),
        message=words(_said(status)),
        ready=ready,
        total=total,
        restarts=restarts,
        last_restart_at=last,
        created_at=text(metadata.get("creationTimestamp")),
        node=text(spec.get("nodeName")),
        address=text(status.get("podIP")),
        owner=_owner(metadata),
        default_container=annotated if annotated in known else next(iter([*regular, *known]), ""),
        containers=containers,
        conditions=tuple(_conditions(status)),
        toolboxes=tuple(_toolboxes(essence)),
        essence=json.dumps(essence, separators=(",", ":")),
    )


def _said(state: Any) -> Object:
    """Reason and message of a state, as text."""
    found = mapping(state)
    return {"reason": text(found.get("reason")), "message": text(found.get("message"))}


# kubectl's columns


def counted(metadata: Object, spec: Object, status: Object) -> tuple[str, int, int, int, str]:
    """STATUS, ready containers, containers, RESTARTS and the time of the last one, as kubectl computes them
    (kubernetes pkg/printers/internalversion printPod)."""
    word = text(status.get("reason")) or text(status.get("phase")) or "Unknown"
    for condition in mappings(status.get("conditions")):
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "SchedulingGated":
            word = "SchedulingGated"
    inits = named(spec.get("initContainers"))
    sidecars = {item["name"] for item in inits if item.get("restartPolicy") == "Always"}
    total = len(named(spec.get("containers"))) + len(sidecars)
    init_word, ready, init_statuses = _initialising(
        named(status.get("initContainerStatuses")), inits, sidecars
    )
    word = init_word or word
    counted_statuses = init_statuses
    if not init_word or _condition_true(status, "Initialized"):
        statuses = named(status.get("containerStatuses"))
        counted_statuses = [item for item in init_statuses if item["name"] in sidecars] + statuses
        word, running = _of_containers(statuses, word)
        ready += running
        if word == "Completed" and running:
            word = "Running" if _condition_true(status, "Ready") else "NotReady"
    if "deletionTimestamp" in metadata:
        if status.get("reason") == "NodeLost":
            word = "Unknown"
        elif status.get("phase") not in TERMINAL:
            word = "Terminating"
    restarts = sum(number(item.get("restartCount")) for item in counted_statuses)
    return word, ready, total, restarts, max(map(_last_end_at, counted_statuses), default="")


def _last_end_at(status: Object) -> str:
    last = mapping(mapping(status.get("lastState")).get("terminated"))
    return text(last.get("finishedAt"))


def _initialising(
    statuses: list[Object], inits: list[Object], sidecars: set[str]
) -> tuple[str, int, list[Object]]:
    """The word while init containers run ("" when they are done), ready sidecars, whose restarts count."""
    ready, seen = 0, []
    for index, status in enumerate(statuses):
        seen.append(status)
        state = mapping(status.get("state"))
        waiting, ended = mapping(state.get("waiting")), state.get("terminated")
        if isinstance(ended, dict) and ended.get("exitCode") == 0:
            continue
        if status["name"] in sidecars and status.get("started") is True:
            ready += status.get("ready") is True
            continue
        if isinstance(ended, dict):
            return f"Init:{_ended_word(ended)}", ready, seen
        reason = text(waiting.get("reason"))
        if reason and reason != "PodInitializing":
            return f"Init:{reason}", ready, seen
        return f"Init:{index}/{len(inits)}", ready, seen
    return "", ready, seen


def _of_containers(statuses: list[Object], word: str) -> tuple[str, int]:
    """The most telling reason (the first container's wins), and how many run and are ready."""
    running = 0
    for status in reversed(statuses):
        state = mapping(status.get("state"))
        reason, ended = text(mapping(state.get("waiting")).get("reason")), state.get("terminated")
        if reason:
            word = reason
        elif isinstance(ended, dict):
            word = _ended_word(ended)
        elif status.get("ready") is True and isinstance(state.get("running"), dict):
            running += 1
    return word, running


def _ended_word(ended: Object) -> str:
    signal = number(ended.get("signal"))
    exit_code = f"Signal:{signal}" if signal else f"ExitCode:{number(ended.get('exitCode'))}"
    return text(ended.get("reason")) or exit_code


def _condition_true(status: Object, kind: str) -> bool:
    return any(
        condition.get("type") == kind and condition.get("status") == "True"
        for condition in mappings(status.get("conditions"))
    )


# Its parts


def _containers(spec: Object, status: Object) -> list[ContainerSummary]:
    found = []
    for part, words_of in (
        ("containers", "containerStatuses"),
        ("initContainers", "initContainerStatuses"),
    ):
        statuses = {item["name"]: item for item in named(status.get(words_of))}
        for container in named(spec.get(part)):
            kind = "regular"
            if part == "initContainers":
                kind = "sidecar" if container.get("restartPolicy") == "Always" else "init"
            found.append(_container(container, statuses.get(container["name"], {}), kind))
    return found


def _container(container: Object, status: Object, kind: str) -> ContainerSummary:
    states = mapping(status.get("state"))
    state = next((name for name in ("running", "terminated", "waiting") if name in states), "")
    now = mapping(states.get(state))
    last = mapping(mapping(status.get("lastState")).get("terminated"))
    said = _said(now)
    return ContainerSummary(
        name=text(container["name"]),
        image=text(container.get("image")),
        kind=kind,
        state=state,
        reason=said["reason"],
        message=" ".join(said["message"].split()),
        ready=status.get("ready") is True,
        restarts=number(status.get("restartCount")),
        since=text(now.get("startedAt")) if state == "running" else text(now.get("finishedAt")),
        last_reason=text(last.get("reason")),
        last_end=ended_text({**_said(last), "exitCode": number(last.get("exitCode"))}) if last else "",
        last_end_at=text(last.get("finishedAt")),
    )


def _conditions(status: Object) -> list[tuple[str, str]]:
    return [
        (text(condition.get("type")), " ".join(words(_said(condition)).split()))
        for condition in mappings(status.get("conditions"))
        if condition.get("status") != "True"
    ]


def _owner(metadata: Object) -> str:
    """What a restarted pod can be found by: the name of what makes it anew."""
    references = named(metadata.get("ownerReferences"))
    owner = next((item for item in references if item.get("controller") is True), None)
    if owner is None:
        return ""
    kind, name = text(owner.get("kind")), text(owner["name"])
    suffix = text(mapping(metadata.get("labels")).get(TEMPLATE_HASH))
    if kind == "ReplicaSet" and suffix and name.endswith(f"-{suffix}"):
        return f"deploy/{name[: -len(suffix) - 1]}"
    return f"{OWNER_SCHEMES.get(kind, kind)}/{name}"


def _toolboxes(essence: Object) -> list[Session]:
    return [sessions.session(essence, toolbox) for toolbox in ephemeral.toolboxes(essence)]


# What the ladder needs


def essential(metadata: Object, spec: Object, status: Object) -> Object:
    """The pod with what planning an attach looks at, in the form that it expects; values are the pod's."""
    annotations = mapping(metadata.get("annotations"))
    kept_metadata = {"name": text(metadata.get("name")), "namespace": text(metadata.get("namespace"))}
    if "deletionTimestamp" in metadata:
        kept_metadata["deletionTimestamp"] = text(metadata["deletionTimestamp"])
    made: Object = {
        "metadata": {
            **kept_metadata,
            "annotations": {
                key: annotations[key] for key in (MIRROR, DEFAULT_CONTAINER) if key in annotations
            },
        },
        "spec": {key: spec[key] for key in SHARED if spec.get(key)},
        "status": {"phase": text(status.get("phase")), "message": text(status.get("message"))},
    }
    for part in ("containers", "initContainers"):
        made["spec"][part] = [
            {key: item[key] for key in ("name", "securityContext", "restartPolicy") if key in item}
            for item in named(spec.get(part))
        ]
    made["spec"]["ephemeralContainers"] = [
        _toolbox(item) for item in named(spec.get("ephemeralContainers"))
    ]
    for part in STATUSES:
        made["status"][part] = [_status(item) for item in named(status.get(part))]
    made["status"]["conditions"] = [
        {"type": "PodScheduled", "status": item.get("status"), **_said(item)}
        for item in mappings(status.get("conditions"))
        if item.get("type") == "PodScheduled" and item.get("status") != "True"
    ]
    return made


def _status(item: Object) -> Object:
    kept: Object = {"name": item["name"], "user": mapping(item.get("user"))}
    for part in ("state", "lastState"):
        states = mapping(item.get(part))
        kept[part] = {kind: _state(mapping(states[kind])) for kind in STATES if kind in states}
    return kept


def _state(state: Object) -> Object:
    kept = {key: text(state[key]) for key in STATE_TEXTS if key in state}
    return {**kept, **{key: number(state[key]) for key in ("exitCode", "signal") if key in state}}


def _toolbox(item: Object) -> Object:
    """An ephemeral container without the program that is in its environment."""
    kept = {
        key: item[key] for key in ("name", "image", "targetContainerName", "securityContext") if key in item
    }
    kept["env"] = [entry for entry in named(item.get("env")) if entry["name"] in OWN_VARIABLES]
    return kept
