"""What a bundle tells in JSON that no record describes: anybody's. A value of another type than is wanted
counts as not there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Optional

TEXTS = ("image", "image_id", "why", "started_at", "ended", "last_termination", "last_termination_at")
POD_TEXTS = ("phase", "why", "created_at", "deleted_at", "node", "pod_ip", "qos", "rollout_at")
CONDITION_TEXTS = ("type", "status", "since", "why")


def text(value: Any) -> Optional[str]:
    return value if isinstance(value, str) else None


def number(value: Any) -> Optional[float]:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**63
    return value if good and math.isfinite(value) else None


def whole(value: Any) -> Optional[int]:
    found = number(value)
    return found if isinstance(found, int) else None


def mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def mappings(value: Any) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def story_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a pod's story, each of the type that those who show it count on."""
    nodes = facts.get("node_conditions")
    return {
        **facts,
        **_texts(facts, POD_TEXTS),
        "namespace": text(facts.get("namespace")) or "",
        "pod": text(facts.get("pod")) or "",
        "owner": texts(facts.get("owner")),
        "containers": [_container(row) for row in mappings(facts.get("containers"))],
        "conditions": [_texts(row, CONDITION_TEXTS) for row in mappings(facts.get("conditions"))],
        "node_conditions": None if nodes is None else [_texts(r, CONDITION_TEXTS) for r in mappings(nodes)],
    }


def _texts(row: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Optional[str]]:
    return {name: text(row.get(name)) for name in names}


def _container(row: dict[str, Any]) -> dict[str, Any]:
    ready = row.get("ready")
    return {
        **row,
        **_texts(row, TEXTS),
        "name": text(row.get("name")) or "",
        "state": text(row.get("state")) or "unknown",
        "ready": ready if isinstance(ready, bool) else None,
        "restarts": whole(row.get("restarts")),
        **{name: _words(row.get(name)) for name in ("limits", "requests", "probes")},
    }


def _words(value: Any) -> dict[str, str]:
    """Quantities may be numbers: `cpu: 1`."""
    found = mapping(value).items()
    return {key: str(item) for key, item in found if isinstance(item, (str, int, float))}
