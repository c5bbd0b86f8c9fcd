"""A pod as Kubernetes alone tells it: what runs, how it ended last, and what changed lately. Pure."""

from __future__ import annotations

from typing import Any, Optional

from kdebug.kube.failures import ended_text, words
from kdebug.kube.pods import Object, container_status, containers
from kdebug.target.cluster import Change, EventInfo

NODE_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")
MAX_CHANGES = 20


def event_info(event: Object) -> EventInfo:
    """core/v1 Event; `series` and `eventTime` where a newer recorder wrote it."""
    series = event.get("series") or {}
    at = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    about = event.get("involvedObject") or {}
    field = str(about.get("fieldPath") or "")
    name = (
        field.partition("{")[2].rstrip("}") if "{" in field else f"{about.get('kind')}/{about.get('name')}"
    )
    return EventInfo(
        at=str(at or event.get("metadata", {}).get("creationTimestamp") or ""),
        kind=str(event.get("type") or "Normal"),
        reason=str(event.get("reason") or ""),
        message=" ".join(str(event.get("message") or "").split()),
        count=int(series.get("count") or event.get("count") or 1),
        source=str((event.get("source") or {}).get("component") or event.get("reportingComponent") or ""),
        about=name,
    )


def container_facts(pod: Object, container: Object) -> dict[str, Any]:
    """One container: spec and status side by side."""
    status = container_status(pod, container["name"])
    state = status.get("state") or {}
    kind = next(iter(state), "unknown")
    last = (status.get("lastState") or {}).get("terminated")
    resources = container.get("resources") or {}
    return {
        "name": container["name"],
        "image": container.get("image"),
        "image_id": status.get("imageID") or None,
        "state": kind,
        "why": words(state.get(kind) or {}) or None,
        "started_at": (state.get("running") or {}).get("startedAt"),
        "ended": ended_text(state["terminated"]) if state.get("terminated") else None,
        "ready": status.get("ready"),
        "restarts": status.get("restartCount"),
        "last_termination": ended_text(last) if last else None,
        "last_termination_at": last.get("finishedAt") if last else None,
        "user": (status.get("user") or {}).get("linux"),
        "limits": resources.get("limits") or {},
        "requests": resources.get("requests") or {},
        "probes": {kind: probe_text(container[kind]) for kind in _PROBES if container.get(kind)},
    }


_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def probe_text(probe: Object) -> str:
    """In a few words: what is asked, how often, and when it counts as failed."""
    if "httpGet" in probe:
        asked = f"GET {probe['httpGet'].get('path', '/')} on port {probe['httpGet'].get('port')}"
    elif "tcpSocket" in probe:
        asked = f"TCP port {probe['tcpSocket'].get('port')}"
    elif "grpc" in probe:
        asked = f"gRPC port {probe['grpc'].get('port')}"
    else:
        asked = f"exec {' '.join((probe.get('exec') or {}).get('command') or [])}"
    period, failures = probe.get("periodSeconds", 10), probe.get("failureThreshold", 3)
    return f"{asked} every {period} s, failed after {failures}, timeout {probe.get('timeoutSeconds', 1)} s"


def pod_facts(pod: Object, node: Optional[Object], owner: Optional[Object]) -> dict[str, Any]:
    status, metadata = pod.get("status", {}), pod["metadata"]
    references = metadata.get("ownerReferences") or []
    return {
        "namespace": metadata["namespace"],
        "pod": metadata["name"],
        "phase": status.get("phase"),
        "why": words(status) or None,
        "created_at": metadata.get("creationTimestamp"),
        "deleted_at": metadata.get("deletionTimestamp"),
        "node": pod["spec"].get("nodeName"),
        "pod_ip": status.get("podIP"),
        "host_network": bool(pod["spec"].get("hostNetwork")),
        "host_pid": bool(pod["spec"].get("hostPID")),
        "share_process_namespace": bool(pod["spec"].get("shareProcessNamespace")),
        "qos": status.get("qosClass"),
        "owner": [f"{r.get('kind')}/{r.get('name')}" for r in references],
        "rollout_at": ((owner or {}).get("metadata") or {}).get("creationTimestamp"),
        "containers": [container_facts(pod, container) for container in containers(pod)],
        "conditions": _conditions(status),
        "node_conditions": _conditions((node or {}).get("status") or {}, NODE_CONDITIONS) if node else None,
    }


def _conditions(status: Object, wanted: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    return [
        {
            "type": condition.get("type"),
            "status": condition.get("status"),
            "since": condition.get("lastTransitionTime"),
            "why": words(condition) or None,
        }
        for condition in status.get("conditions") or []
        if not wanted or condition.get("type") in wanted
    ]


def changes(facts: dict[str, Any], events: list[EventInfo]) -> list[Change]:
    """Newest first: what an engineer asks first, "what changed lately?"."""
    found = [Change(facts["created_at"] or "", "the pod was created")]
    if facts["rollout_at"]:
        found.append(Change(facts["rollout_at"], "its revision was rolled out", ", ".join(facts["owner"])))
    for container in facts["containers"]:
        found += _container_changes(container)
    for condition in facts["node_conditions"] or []:
        if condition["since"]:
            what = f"the node became {condition['type']}={condition['status']}"
            found.append(Change(condition["since"], what, condition["why"] or ""))
    for event in events:
        if event.kind == "Warning":
            times = f" ({event.count} times)" if event.count > 1 else ""
            found.append(Change(event.at, f"{event.about}: {event.reason}{times}", event.message))
    found.sort(key=lambda change: change.at, reverse=True)
    return found[:MAX_CHANGES]


def _container_changes(container: dict[str, Any]) -> list[Change]:
    name, found = container["name"], []
    if container["started_at"]:
        restarts = container["restarts"] or 0
        what = f"{name} started" + (f" (restart {restarts})" if restarts else "")
        found.append(Change(container["started_at"], what, container["image"] or ""))
    if container["last_termination_at"]:
        found.append(
            Change(container["last_termination_at"], f"{name} ended", container["last_termination"])
        )
    return found
