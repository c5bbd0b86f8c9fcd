"""What the kubelet publishes of a pod, computed from what the runtime says: pure, to be read as a table."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Any

from . import translate
from .cri import EXITED, RUNNING, Observed

Object = dict[str, Any]


@dataclass
class Known:
    """Everything known of one container name: its newest instance, the one before, and why it waits."""

    latest: Observed | None = None
    previous: Observed | None = None
    waiting: tuple[str, str] | None = None
    """(reason, message) while the kubelet cannot or may not start it."""
    user: Object | None = None
    image_id: str = ""


@dataclass
class Facts:
    """Of the whole pod."""

    address: str = ""
    host_address: str = ""
    started: str = ""
    containers: dict[str, Known] = field(default_factory=dict)


def moment(nanoseconds: int) -> str | None:
    if nanoseconds <= 0:
        return None
    when = datetime.datetime.fromtimestamp(nanoseconds // 10**9, datetime.timezone.utc)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def _terminated(one: Observed) -> Object:
    state = {
        "exitCode": one.exit_code,
        "reason": one.reason or ("Completed" if one.exit_code == 0 else "Error"),
        "startedAt": moment(one.started_at),
        "finishedAt": moment(one.finished_at),
        "containerID": f"containerd://{one.id}",
    }
    if one.message:
        state["message"] = one.message
    return {"terminated": state}


def _state(known: Known) -> Object:
    latest = known.latest
    if latest is not None and latest.state == RUNNING:
        return {"running": {"startedAt": moment(latest.started_at)}}
    if known.waiting is not None:
        reason, message = known.waiting
        return {"waiting": {"reason": reason, "message": message} if message else {"reason": reason}}
    if latest is not None and latest.state == EXITED:
        return _terminated(latest)
    return {"waiting": {"reason": "ContainerCreating"}}


def _last_state(known: Known, state: Object) -> Object:
    latest = known.latest
    if latest is not None and latest.state == EXITED and "terminated" not in state:
        return _terminated(latest)
    return _terminated(known.previous) if known.previous is not None else {}


def of_container(container: Object, known: Known, ephemeral: bool) -> Object:
    state = _state(known)
    running = "running" in state
    status: Object = {
        "name": container["name"],
        "state": state,
        "lastState": _last_state(known, state),
        "ready": running and not ephemeral,
        "restartCount": known.latest.attempt if known.latest else 0,
        "image": container["image"] if known.latest is None else _full_name(container["image"]),
        "imageID": known.image_id,
    }
    if known.latest is not None:
        status["containerID"] = f"containerd://{known.latest.id}"
    if not ephemeral:
        status["started"] = running
    if known.user is not None:
        status["user"] = {"linux": known.user}
    if mounts := container.get("volumeMounts"):
        status["volumeMounts"] = [{"name": one["name"], "mountPath": one["mountPath"]} for one in mounts]
    if resources := container.get("resources"):
        status["resources"] = resources
        if "requests" in resources:
            status["allocatedResources"] = resources["requests"]
    return status


def _full_name(image: str) -> str:
    first = image.split("/")[0]
    if "/" not in image:
        return f"docker.io/library/{image}"
    return image if "." in first or ":" in first or first == "localhost" else f"docker.io/{image}"


def phase(spec: Object, statuses: list[Object]) -> str:
    states = [status["state"] for status in statuses]
    restarts = spec.get("restartPolicy", "Always")
    ended = [state["terminated"]["exitCode"] for state in states if "terminated" in state]
    never_ran = [one for one in statuses if "waiting" in one["state"] and not one["lastState"]]
    if never_ran:
        return "Pending"
    if states and len(ended) == len(states) and restarts != "Always":
        if all(code == 0 for code in ended):
            return "Succeeded"
        if restarts == "Never":
            return "Failed"
    return "Running"


def _condition(kind: str, holds: bool, old: Object, now: str, why: Object | None = None) -> Object:
    value = "True" if holds else "False"
    before = next((one for one in old.get("conditions", []) if one["type"] == kind), None)
    since = before["lastTransitionTime"] if before and before["status"] == value else now
    return {
        "type": kind,
        "status": value,
        "lastProbeTime": None,
        "lastTransitionTime": since,
        **(why or {}),
    }


def _conditions(old: Object, statuses: list[Object], facts: Facts, final: str, now: str) -> list[Object]:
    unready = [one["name"] for one in statuses if not one["ready"]]
    why: Object = {}
    if final in ("Succeeded", "Failed"):
        why = {"reason": "PodCompleted" if final == "Succeeded" else "PodFailed"}
    elif unready:
        message = f"containers with unready status: [{' '.join(unready)}]"
        why = {"reason": "ContainersNotReady", "message": message}
    return [
        _condition("PodReadyToStartContainers", bool(facts.address), old, now),
        _condition("Initialized", True, old, now),
        _condition("Ready", not unready, old, now, why),
        _condition("ContainersReady", not unready, old, now, why),
        _condition("PodScheduled", True, old, now),
    ]


def of_pod(pod: Object, facts: Facts, now: str) -> Object:
    spec, old = pod["spec"], pod.get("status") or {}
    none = Known()
    regular = [
        of_container(one, facts.containers.get(one["name"], none), False) for one in spec["containers"]
    ]
    ephemeral = [
        of_container(one, facts.containers.get(one["name"], none), True)
        for one in spec.get("ephemeralContainers") or []
    ]
    final = phase(spec, regular)
    status: Object = {
        "phase": final,
        "conditions": _conditions(old, regular, facts, final, now),
        "hostIP": facts.host_address,
        "hostIPs": [{"ip": facts.host_address}],
        "startTime": facts.started,
        "containerStatuses": regular,
        "qosClass": translate.qos_class(spec),
    }
    if facts.address:
        status |= {"podIP": facts.address, "podIPs": [{"ip": facts.address}]}
    if ephemeral:
        status["ephemeralContainerStatuses"] = ephemeral
    return status
