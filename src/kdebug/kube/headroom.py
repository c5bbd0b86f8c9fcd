"""Whether the toolbox fits: the pod's memory, before anything is added to it.

An ephemeral container has no limit of its own; its memory counts in the pod's cgroup, which has a limit
where every container has one. What is used already only the metrics API tells, where there is one.
"""

from __future__ import annotations

from typing import Any, Optional
from urllib.parse import quote

from kdebug.errors import KdebugError
from kdebug.kube.api import Api, ServerRefusal
from kdebug.kube.images import TOOLBOX_MIB
from kdebug.kube.pods import Object, Selected

_UNITS = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
_UNITS |= {f"{letter}i": 2 ** (10 * power) for power, letter in enumerate("KMGTPE", 1)}
SMALL_MIB = 4 * TOOLBOX_MIB
"""A limit below this is worth a word where the usage is not known."""
METRICS_SECONDS = 1.0


def quantity(text: str) -> Optional[float]:
    """A Kubernetes quantity in its base unit (bytes, cores); None when it is none (resource.Quantity)."""
    text = str(text).strip()
    unit = next((u for u in sorted(_UNITS, key=len, reverse=True) if text.endswith(u)), "")
    factor: float = _UNITS[unit] if unit else 1
    number = text[: len(text) - len(unit)]
    if not unit and number.endswith("m"):
        factor, number = 0.001, number[:-1]
    try:
        return float(number) * factor
    except ValueError:
        return None


def memory_limit(pod: Object) -> Optional[float]:
    """Bytes that the whole pod may use: what is said for the pod itself, else the sum over what runs in
    it; None when one of its containers has no limit (kubelet cm/helpers_linux.go)."""
    spec = pod["spec"]
    whole = _limit(spec)
    if whole is not None:
        return whole
    sidecars = [c for c in spec.get("initContainers") or [] if c.get("restartPolicy") == "Always"]
    limits = [_limit(container) for container in [*spec.get("containers", []), *sidecars]]
    return None if None in limits else sum(limit for limit in limits if limit is not None)


def _limit(owner: Object) -> Optional[float]:
    """Of a container, or of a pod (KEP-2837)."""
    return quantity(((owner.get("resources") or {}).get("limits") or {}).get("memory", ""))


async def warnings(api: Api, selected: Selected) -> list[str]:
    """A line when the toolbox may not fit, else nothing. Never raises for missing metrics."""
    limit = memory_limit(selected.pod)
    if limit is None:
        return []
    used = await _usage(api, selected)
    mib = 2**20
    if used is not None and limit - used < TOOLBOX_MIB * mib:
        return [
            f"{selected.name} uses {used / mib:.0f} of {limit / mib:.0f} MiB; the toolbox takes up to "
            f"{TOOLBOX_MIB} MiB of that. The kernel would end the toolbox first"
        ]
    if used is None and limit < SMALL_MIB * mib:
        return [
            f"{selected.name} may use {limit / mib:.0f} MiB and no metrics API tells how much it uses; "
            f"the toolbox takes up to {TOOLBOX_MIB} MiB of that. The kernel would end the toolbox first"
        ]
    return []


async def _usage(api: Api, selected: Selected) -> Optional[float]:
    path = (
        f"/apis/metrics.k8s.io/v1beta1/namespaces/{quote(selected.namespace)}/pods/{quote(selected.name)}"
    )
    try:
        found: Any = await api.call("GET", path, seconds=METRICS_SECONDS)
        values = [quantity(container["usage"]["memory"]) for container in found["containers"]]
    except (ServerRefusal, KdebugError, KeyError, TypeError):
        return None
    return sum(value for value in values if value is not None) if values else None
