"""Events as the kubelet records them: one object per distinct message, counted when it comes again."""

from __future__ import annotations

import uuid
from typing import Any

from ..facade.store import Store, timestamp

Object = dict[str, Any]


class Recorder:
    def __init__(self, store: Store, host: str) -> None:
        self._store, self._host = store, host
        self._known: dict[tuple[str, str, str, str], str] = {}

    def record(
        self, pod: Object, reason: str, message: str, field: str = "", warning: bool = False
    ) -> None:
        """`field` is such as `spec.containers{app}`."""
        metadata = pod["metadata"]
        key = metadata["uid"], field, reason, message
        name, namespace = self._known.get(key, ""), metadata["namespace"]
        if name and self._store.find("events", namespace, name):
            self._store.modify("events", namespace, name, _again)
            return
        name = self._known[key] = f"{metadata['name']}.{uuid.uuid4().hex[:16]}"
        involved = {
            "kind": "Pod",
            "apiVersion": "v1",
            "namespace": namespace,
            "name": metadata["name"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            **({"fieldPath": field} if field else {}),
        }
        now = timestamp()
        self._store.create(
            "events",
            {
                "kind": "Event",
                "apiVersion": "v1",
                "metadata": {"name": name, "namespace": namespace},
                "involvedObject": involved,
                "reason": reason,
                "message": message,
                "source": {"component": "kubelet", "host": self._host},
                "firstTimestamp": now,
                "lastTimestamp": now,
                "count": 1,
                "type": "Warning" if warning else "Normal",
                "eventTime": None,
                "reportingComponent": "kubelet",
                "reportingInstance": self._host,
            },
        )


def _again(event: Object) -> None:
    event["count"] += 1
    event["lastTimestamp"] = timestamp()
