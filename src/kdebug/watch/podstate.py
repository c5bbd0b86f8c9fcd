"""What the kubelet says of one container, as far as a watch needs it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from kdebug.target.cluster import PodRef


@dataclass(frozen=True)
class ContainerState:
    pod: str
    pod_uid: str
    instance: str
    """The runtime's id of the container; "" while it has none."""
    restarts: int
    running: bool
    ready: Optional[bool]
    ended: str
    """How the instance before this one ended; "" where nothing is said."""

    def restarted_since(self, before: Optional[ContainerState]) -> str:
        """Why it is another one than before, in words; "" when it is not."""
        if before is None:
            return ""
        if before.pod_uid != self.pod_uid:
            return f"the pod {before.pod} was replaced by {self.pod}"
        if self.restarts > before.restarts:
            ended = f": {self.ended}" if self.ended else ""
            return f"restart {self.restarts} of the container{ended}"
        return ""


def container_state(pod: PodRef) -> ContainerState:
    status = _status(pod.pod, pod.container)
    state = status.get("state") or {}
    restarts, ready = status.get("restartCount"), status.get("ready")
    return ContainerState(
        pod.name,
        str((pod.pod.get("metadata") or {}).get("uid") or ""),
        str(status.get("containerID") or ""),
        restarts if isinstance(restarts, int) else 0,
        "running" in state,
        ready if isinstance(ready, bool) else None,
        _ended((status.get("lastState") or {}).get("terminated") or state.get("terminated") or {}),
    )


def _status(pod: dict[str, Any], container: str) -> dict[str, Any]:
    status = pod.get("status") or {}
    every = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
    return next((dict(one) for one in every if one.get("name") == container), {})


def _ended(terminated: dict[str, Any]) -> str:
    if not terminated:
        return ""
    reason = str(terminated.get("reason") or "")
    return f"exit code {terminated.get('exitCode')}" + (f" ({reason})" if reason else "")
