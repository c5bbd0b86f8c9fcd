"""Why a container does not run, in the kubelet's words, and what to do about it."""

from __future__ import annotations

from typing import Optional

from kdebug.errors import AccessDenied, Failed, KdebugError
from kdebug.kube.pods import Object, container_status

MIRROR = "kubernetes.io/config.mirror"
IMAGE_REASONS = (
    "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError",
    "RegistryUnavailable", "SignatureValidationFailed",
)  # fmt: skip
"""kubelet/images/types.go and container/sync_result.go."""
RUNG_REASONS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError")
NEVER_STARTED = ("StartError", "ContainerCannotRun")
"""containerd's and Docker's words for a process that the runtime could not make. Where the pod restarts its
containers, the kubelet says `waiting: RunContainerError` instead (kubelet_pods.go)."""
WAITING_IS_NORMAL = ("", "ContainerCreating", "PodInitializing")
MAX_WORDS = 600


def words(state: Object) -> str:
    """reason: message, without line feeds."""
    parts = [str(state.get("reason") or ""), " ".join(str(state.get("message") or "").split())]
    return ": ".join(part for part in parts if part)[:MAX_WORDS]


def ended_text(terminated: Object) -> str:
    """How a container ended: exit code or signal, the kubelet's reason, and when."""
    code = terminated.get("exitCode")
    text = f"exit code {code}"
    reason = words(terminated)
    if reason and reason not in ("Error", "Completed"):
        text += f" ({reason})"
    if terminated.get("finishedAt"):
        text += f" at {terminated['finishedAt']}"
    return text


def reason_against(pod: Object, container: str, windows_node: bool = False) -> Optional[KdebugError]:
    """Why nothing can be attached now, before anything is created; None when it may work."""
    name = pod["metadata"]["name"]
    if MIRROR in (pod["metadata"].get("annotations") or {}):
        return Failed(
            f"{name} is a static pod",
            why="the API server only mirrors it, and its kubelet ignores what is added here",
            next_step="log in to the node, or attach to a pod that is not static",
        )
    if windows_node or (pod["spec"].get("os") or {}).get("name") == "windows":
        return Failed(f"{name} runs on a Windows node", why="kdebug's agent reads Linux' /proc")
    phase = str(pod.get("status", {}).get("phase") or "Pending")
    if phase in ("Succeeded", "Failed"):
        return Failed(
            f"the pod {name} has ended (phase {phase})",
            why=_last_end(pod, container),
            next_step=f"`kdebug logs {name}` and `kdebug describe {name}` still work",
        )
    return _terminating(pod) or _not_running(pod, container, name)


def _terminating(pod: Object) -> Optional[KdebugError]:
    """Toolboxes have ended as well: the kubelet asks every container of a deleted pod to end."""
    if "deletionTimestamp" not in pod["metadata"]:
        return None
    return Failed(
        f"the pod {pod['metadata']['name']} is terminating",
        why=f"it was deleted, and must be gone by {pod['metadata']['deletionTimestamp']}; "
        "the kubelet starts no more containers in it",
    )


def operating_system(pod: Object, container: str) -> str:
    """linux or windows, as far as the pod itself says; else ""."""
    if (container_status(pod, container).get("user") or {}).get("linux"):
        return "linux"
    spec = pod["spec"]
    named = (spec.get("os") or {}).get("name") or (spec.get("nodeSelector") or {}).get("kubernetes.io/os")
    return str(named or "")


def may_start(pod: Object) -> bool:
    """Whether waiting for a container of this pod makes sense: it is not over, and ours to enter."""
    phase = pod.get("status", {}).get("phase")
    static = MIRROR in (pod["metadata"].get("annotations") or {})
    return (
        phase not in ("Succeeded", "Failed") and "deletionTimestamp" not in pod["metadata"] and not static
    )


def _last_end(pod: Object, container: str) -> str:
    terminated = (container_status(pod, container).get("state") or {}).get("terminated")
    return (
        f"{container}: {ended_text(terminated)}" if terminated else str(pod["status"].get("message") or "")
    )


def _not_running(pod: Object, container: str, name: str) -> Optional[KdebugError]:
    status = container_status(pod, container)
    state = status.get("state") or {}
    if "running" in state:
        return None
    last = (status.get("lastState") or {}).get("terminated") or state.get("terminated")
    why = words(state.get("waiting") or {}) or str(pod["status"].get("message") or "") or _condition(pod)
    if last:
        why = f"{why or 'terminated'}; it ended last with {ended_text(last)}"
        step = f"`--wait` attaches at its next start; `kdebug logs {name} --previous` shows its last words"
    else:
        step = f"`--wait` attaches when it starts; `kdebug describe {name}` shows what it waits for"
    return Failed(f"the container {container} of the pod {name} does not run", why=why, next_step=step)


def _condition(pod: Object) -> str:
    """Why a pod is not even scheduled."""
    for condition in pod.get("status", {}).get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") != "True":
            return words(condition)
    return ""


class ToolboxFailed(Exception):
    """The toolbox container did not start, or has ended; `climb` says whether another rung may help."""

    def __init__(self, error: KdebugError, climb: bool = False, ended: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.climb = climb
        self.ended = ended
        """It ran, and another one may."""


def toolbox_state(pod: Object, toolbox: str, image: str, target: str) -> bool:
    """Whether it runs. Raises `ToolboxFailed` when it will not."""
    state = container_status(pod, toolbox).get("state") or {}
    if "running" in state:
        return True
    if "terminated" in state:
        terminated = state["terminated"]
        if lacks := _without_python(words(terminated), image):
            raise ToolboxFailed(lacks)
        if terminated.get("reason") in NEVER_STARTED:
            climb = _about_rights(words(terminated))
            raise ToolboxFailed(_refused_by_node(terminated, toolbox, target), climb=climb)
        raise ToolboxFailed(_ended(terminated, toolbox, target), ended=True)
    if leaving := _terminating(pod):
        raise ToolboxFailed(leaving)
    waiting = state.get("waiting") or {}
    reason = str(waiting.get("reason") or "")
    if reason in IMAGE_REASONS:
        raise ToolboxFailed(
            Failed(
                f"the toolbox image {image} cannot be pulled",
                why=words(waiting),
                next_step="name another with --image; `kdebug toolbox` shows how to load ours",
            )
        )
    if lacks := _without_python(words(waiting), image):
        raise ToolboxFailed(lacks)
    if reason in RUNG_REASONS:
        raise ToolboxFailed(_refused_by_node(waiting, toolbox, target), climb=_about_rights(words(waiting)))
    return False


RIGHTS_WORDS = (
    "non-root", "nonroot", "permission denied", "operation not permitted", "apparmor", "selinux",
    "seccomp", "capabilit", "privilege",
)  # fmt: skip
"""kuberuntime/security_context.go, runc: what another user or other rights may change."""


def _about_rights(text: str) -> bool:
    """Whether a higher rung may help; a full disk or a missing program is no reason to climb."""
    return any(word in text.lower() for word in RIGHTS_WORDS)


def _refused_by_node(waiting: Object, toolbox: str, target: str) -> KdebugError:
    text = words(waiting)
    if "invalid target container" in text:
        return Failed(
            f"the toolbox {toolbox} cannot join {target}",
            why=text,
            next_step="the target is not running; try --wait",
        )
    return AccessDenied(f"the node does not start the toolbox {toolbox}", why=text)


def _without_python(text: str, image: str) -> Optional[KdebugError]:
    """The runtime's words for a program that the image does not have; no other rung helps."""
    if "python3" not in text or not ("not found" in text or "no such file" in text):
        return None
    return Failed(
        f"the image {image} has no python3, which the agent needs",
        why=text,
        next_step="name an image with python3 >= 3.9 with --image, or ours (`kdebug toolbox`)",
    )


def _ended(terminated: Object, toolbox: str, target: str) -> KdebugError:
    if terminated.get("exitCode") == 137:
        return Failed(
            f"the toolbox {toolbox} was killed",
            why=f"{ended_text(terminated)}: the target's first process ended, or memory ran out",
            next_step=f"`kdebug describe` shows whether {target} restarted",
        )
    return Failed(f"the toolbox {toolbox} has ended", why=ended_text(terminated))
