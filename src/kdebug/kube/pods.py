"""From what the user typed to one pod and one of its containers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Optional
from urllib.parse import quote

from kdebug.errors import KdebugError, NotFound, UsageError
from kdebug.expression import TargetExpression
from kdebug.kube.api import Api, Parameters, ServerRefusal
from kdebug.protocol.record import Record, dataclass

Object = dict[str, Any]

OWNERS = {
    "deploy": ("apis/apps/v1", "deployments"),
    "sts": ("apis/apps/v1", "statefulsets"),
    "ds": ("apis/apps/v1", "daemonsets"),
    "rs": ("apis/apps/v1", "replicasets"),
    "job": ("apis/batch/v1", "jobs"),
    "svc": ("api/v1", "services"),
}
DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
NAMES_SHOWN = 5


@dataclass(frozen=True, eq=False, repr=False)
class Selected(Record):
    """One container of one pod."""

    pod: Object
    """As the API server wrote it."""
    container: str
    notes: tuple[str, ...] = ()
    """What was chosen for the user, and how to choose otherwise."""

    @property
    def name(self) -> str:
        return str(self.pod["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.pod["metadata"]["namespace"])

    @property
    def label(self) -> str:
        return f"{self.namespace}/{self.name}"


def pods_path(namespace: str, name: str = "", subresource: str = "") -> str:
    """/api/v1/namespaces/NS/pods[/NAME[/SUB]], quoted."""
    parts = [part for part in (name, subresource) if part]
    return "/".join([f"/api/v1/namespaces/{quote(namespace)}/pods", *map(quote, parts)])


async def select(api: Api, expression: TargetExpression, container: str, selector: str) -> Selected:
    """Raises `NotFound` with near names, `AccessDenied`, `UsageError`."""
    notes: list[str] = []
    if selector and expression.value:
        raise UsageError(
            f"both {expression} and a selector are given",
            next_step="name the target, or leave the name out and let the selector choose one",
        )
    if selector:
        pods = await _pods_by_selector(api, selector)
        pod = _best(pods, f"the selector {selector}", notes)
    elif expression.scheme == "pod":
        pod = await get_pod(api, expression.value)
    else:
        pod = await _pod_of_owner(api, expression, notes)
    return Selected(pod, choose_container(pod, container, notes), tuple(notes))


async def select_all(
    api: Api, expression: Optional[TargetExpression], container: str, selector: str
) -> list[Selected]:
    """Every pod that is meant, ended ones left out; by name. Raises `NotFound` where there is none."""
    what = f"the selector {selector}" if selector else "the namespace"
    if expression is not None and expression.scheme == "pod":
        pods = [await get_pod(api, expression.value)]
    elif expression is not None:
        what, selector = str(expression), await _owner_selector(api, expression)
        pods = await _pods_by_selector(api, selector)
    else:
        pods = await _pods_by_selector(api, selector)
    alive = [pod for pod in pods if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")]
    fitting = [pod for pod in alive if not container or container in [c["name"] for c in containers(pod)]]
    if not fitting:
        raise NotFound(f"{what} has no pods", next_step="check -n; `kubectl get pods` shows what is there")
    made = [Selected(pod, choose_container(pod, container, [])) for pod in fitting]
    return sorted(made, key=lambda one: one.name)


async def get_pod(api: Api, name: str) -> Object:
    """One pod. Raises `NotFound` with near names."""
    namespace = api.config.namespace
    try:
        found: Object = await api.call("GET", pods_path(namespace, name))
        return found
    except ServerRefusal as refused:
        if refused.code != 404:
            raise refused.explained(f"the pod {name} cannot be read") from refused
    raise NotFound(
        f"there is no pod {name} in the namespace {namespace} (context {api.config.context})",
        next_step=await _near(api, name, pods_path(namespace)) or "check -n and --context",
    )


async def _near(api: Api, name: str, path: str) -> str:
    """A suggestion from the names that do exist; "" when they may not be listed."""
    try:
        listed = await api.call("GET", path, params=[("limit", "500")])
    except (ServerRefusal, KdebugError):
        return ""
    names = [str(item["metadata"]["name"]) for item in listed.get("items", [])]
    import difflib

    near = [other for other in names if name in other] + difflib.get_close_matches(name, names, 3, 0.5)
    unique = list(dict.fromkeys(near))[:NAMES_SHOWN]
    return f"did you mean {' or '.join(unique)}?" if unique else ""


async def _pod_of_owner(api: Api, expression: TargetExpression, notes: list[str]) -> Object:
    selector = await _owner_selector(api, expression)
    return _best(await _pods_by_selector(api, selector), str(expression), notes)


async def _owner_selector(api: Api, expression: TargetExpression) -> str:
    group, resource = OWNERS[expression.scheme]
    path = f"/{group}/namespaces/{quote(api.config.namespace)}/{resource}"
    try:
        owner = await api.call("GET", f"{path}/{quote(expression.value)}")
    except ServerRefusal as refused:
        step = await _near(api, expression.value, path) if refused.code == 404 else ""
        error = refused.explained(f"{expression} cannot be read")
        error.next_step = step or error.next_step
        raise error from refused
    return _selector_text(owner["spec"].get("selector") or {}, expression)


def _selector_text(selector: Object, expression: TargetExpression) -> str:
    """A LabelSelector as the API's text form; a Service's selector is the labels themselves."""
    labels = selector.get("matchLabels", {} if "matchExpressions" in selector else selector)
    parts = [f"{key}={value}" for key, value in labels.items()]
    forms: dict[str, Callable[[str, str], str]] = {
        "In": lambda key, values: f"{key} in ({values})",
        "NotIn": lambda key, values: f"{key} notin ({values})",
        "Exists": lambda key, values: key,
        "DoesNotExist": lambda key, values: f"!{key}",
    }
    for rule in selector.get("matchExpressions") or []:
        parts.append(forms[rule["operator"]](rule["key"], ",".join(rule.get("values") or [])))
    if not parts:
        raise NotFound(f"{expression} selects no pods", why="it has no selector")
    return ",".join(parts)


async def _pods_by_selector(api: Api, selector: str) -> list[Object]:
    parameters: Parameters = [("labelSelector", selector)] if selector else []
    listed = await api.get("the pods cannot be listed", pods_path(api.config.namespace), parameters)
    return list(listed.get("items", []))


def _best(pods: list[Object], what: str, notes: list[str]) -> Object:
    """A pod that can be entered, if there is one: running and ready before running before the rest."""
    if not pods:
        raise NotFound(f"{what} has no pods", next_step="check -n; `kubectl get pods` shows what is there")

    def order(pod: Object) -> tuple[bool, bool, bool, str]:
        status = pod.get("status", {})
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or [])
        leaving = "deletionTimestamp" in pod["metadata"]
        return leaving, status.get("phase") != "Running", not ready, str(pod["metadata"]["name"])

    chosen, *others = sorted(pods, key=order)
    if others:
        names = _some([str(pod["metadata"]["name"]) for pod in others])
        notes.append(f"{what} has {len(pods)} pods; this is {chosen['metadata']['name']} (others: {names})")
    return chosen


def containers(pod: Object) -> list[Object]:
    """Every container of the spec that a target may be: regular ones first, then init containers."""
    spec = pod["spec"]
    return [*spec.get("containers", []), *(spec.get("initContainers") or [])]


def choose_container(pod: Object, wanted: str, notes: list[str]) -> str:
    """-c, else the default-container annotation, else the first. Raises `NotFound` with the names."""
    names = [str(container["name"]) for container in containers(pod)]
    if wanted:
        if wanted not in names:
            name = pod["metadata"]["name"]
            raise NotFound(f"the pod {name} has no container {wanted}", next_step=f"it has {_some(names)}")
        return wanted
    annotated = (pod["metadata"].get("annotations") or {}).get(DEFAULT_CONTAINER)
    if annotated in names:
        return str(annotated)
    regular = [str(container["name"]) for container in pod["spec"]["containers"]]
    if len(regular) > 1:
        notes.append(f"the container is {regular[0]}; choose another with -c ({_some(regular[1:])})")
    return regular[0]


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - NAMES_SHOWN} more" if len(listed) > NAMES_SHOWN else ""
    return ", ".join(listed[:NAMES_SHOWN]) + more


def container_status(pod: Object, name: str) -> Object:
    """The kubelet's word on one container, of any kind; {} while there is none."""
    status = pod.get("status", {})
    for kind in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for found in status.get(kind) or []:
            if found.get("name") == name:
                return dict(found)
    return {}


def container_id(pod: Object, name: str) -> str:
    """The runtime's id without its scheme (containerd://ID); "" while it has none."""
    return str(container_status(pod, name).get("containerID") or "").rpartition("://")[2]
