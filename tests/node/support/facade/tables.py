"""Tables of pods, in the columns of `kubectl get`; other resources are printed by kubectl itself."""

from __future__ import annotations

import datetime
from typing import Any

Object = dict[str, Any]

COLUMNS = (
    ("Name", "string", 0),
    ("Ready", "string", 0),
    ("Status", "string", 0),
    ("Restarts", "string", 0),
    ("Age", "string", 0),
    ("IP", "string", 1),
    ("Node", "string", 1),
    ("Nominated Node", "string", 1),
    ("Readiness Gates", "string", 1),
)


def wanted(accept: str) -> bool:
    return "as=Table" in accept


def _age(since: str) -> str:
    start = datetime.datetime.fromisoformat(since.replace("Z", "+00:00"))
    seconds = int((datetime.datetime.now(datetime.timezone.utc) - start).total_seconds())
    if seconds < 120:
        return f"{seconds}s"
    if seconds < 7200:
        return f"{seconds // 60}m"
    return f"{seconds // 3600}h" if seconds < 172800 else f"{seconds // 86400}d"


def status_word(pod: Object) -> str:
    """The STATUS column: the most telling of the reasons, as kubectl users know it."""
    status = pod.get("status") or {}
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    word = str(status.get("reason") or status.get("phase", "Unknown"))
    for one in status.get("containerStatuses") or []:
        state = one["state"]
        waiting, terminated = state.get("waiting"), state.get("terminated")
        if waiting and waiting.get("reason"):
            word = waiting["reason"]
        elif terminated:
            word = terminated.get("reason") or f"ExitCode:{terminated['exitCode']}"
    return word


def _row(pod: Object) -> Object:
    status = pod.get("status") or {}
    statuses = status.get("containerStatuses") or []
    ready = sum(1 for one in statuses if one["ready"])
    restarts = sum(one["restartCount"] for one in statuses)
    cells = [
        pod["metadata"]["name"],
        f"{ready}/{len(pod['spec'].get('containers', []))}",
        status_word(pod),
        str(restarts),
        _age(pod["metadata"]["creationTimestamp"]),
        status.get("podIP", "<none>"),
        pod["spec"].get("nodeName", "<none>"),
        "<none>",
        "<none>",
    ]
    head = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": pod["metadata"]}
    return {"cells": cells, "object": head}


def of_pods(pods: list[Object], metadata: Object) -> Object:
    columns = [
        {
            "name": name,
            "type": kind,
            "format": "name" if name == "Name" else "",
            "description": "",
            "priority": rank,
        }
        for name, kind, rank in COLUMNS
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": [_row(pod) for pod in pods],
    }
