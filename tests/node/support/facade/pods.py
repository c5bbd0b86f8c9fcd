"""The verbs that only pods have: ephemeral containers, exec, attach, logs, a deletion that takes time."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from ..kubelet.cri import EXITED, RUNNING, CriError
from . import admission, errors, logs, patches, streams
from .store import timestamp

if TYPE_CHECKING:
    from .server import Call, Facade

Object = dict[str, Any]

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


async def ephemeral_containers(facade: Facade, call: Call) -> Object:
    old = facade.store.get("pods", call.namespace, call.name)
    if call.method == "GET":
        return old
    body = await call.json()
    asked = body if call.method == "PUT" else patches.apply(old, body, call.content_type)
    if call.method == "PATCH" and not _carries_version(body):
        asked["metadata"].pop("resourceVersion", None)
    new = facade.faults.mutated(old, admission.with_ephemeral(old, asked))
    facade.faults.before_update(call.name, call.dry_run)
    if facade.faults.webhook_strips:
        return old
    admission.check_ephemeral(old, new)
    admission.check_pod_security(facade.store, new)
    version = new["metadata"]["resourceVersion"]
    if version and version != old["metadata"]["resourceVersion"]:
        raise errors.conflict("pods", call.name)
    return new if call.dry_run else facade.store.update("pods", new)


def _carries_version(body: Any) -> bool:
    return isinstance(body, dict) and bool((body.get("metadata") or {}).get("resourceVersion"))


def chosen_container(pod: Object, asked: str) -> str:
    """By the server's rule: the named one, the only one, or a refusal that lists them."""
    spec, name = pod["spec"], pod["metadata"]["name"]
    regular = [container["name"] for container in spec["containers"]]
    known = regular + [container["name"] for container in spec.get("ephemeralContainers") or []]
    if asked:
        if asked not in known:
            raise errors.bad_request(f"container {asked} is not valid for pod {name}")
        return asked
    if len(regular) == 1:
        return str(regular[0])
    default = (pod["metadata"].get("annotations") or {}).get(DEFAULT_CONTAINER)
    if default in known:
        return str(default)
    choices = f"choose one of: [{' '.join(regular)}]"
    if len(known) > len(regular):
        choices += f" or one of the ephemeral containers: [{' '.join(known[len(regular) :])}]"
    raise errors.bad_request(f"a container name must be specified for pod {name}, {choices}")


async def stream(facade: Facade, call: Call, attach: bool) -> web.StreamResponse:
    pod = facade.store.get("pods", call.namespace, call.name)
    query = call.request.query
    name = chosen_container(pod, query.get("container", ""))
    if pod["status"].get("phase") in ("Succeeded", "Failed"):
        raise errors.bad_request(
            f"cannot exec into a container in a completed pod; current phase is {pod['status']['phase']}"
        )
    if "websocket" not in call.request.headers.get("Upgrade", "").lower():
        raise errors.bad_request("Upgrade request required")

    def flag(key: str) -> bool:
        return query.get(key) in ("true", "1")

    container = _container_id(facade, pod, name)
    options = streams.Options(
        container, query.getall("command", []), flag("stdin"), flag("stdout"), flag("stderr"), flag("tty")
    )

    async def url() -> str:
        if not container:
            raise CriError(f'container not found ("{name}")')
        return await streams.runtime_url(facade.kubelet.cri, options, attach)

    return await streams.Session(call.request, facade.runtime, facade.faults).serve(url, options)


def _container_id(facade: Facade, pod: Object, name: str) -> str:
    """As the kubelet knows it, which is sooner than what it has published."""
    worker = facade.kubelet.worker(pod["metadata"]["uid"])
    known = worker.facts.containers.get(name) if worker else None
    return known.latest.id if known and known.latest else ""


async def log(facade: Facade, call: Call) -> web.StreamResponse:
    pod = facade.store.get("pods", call.namespace, call.name)
    query = dict(call.request.query)
    name = chosen_container(pod, query.get("container", ""))
    wanted = logs.Wanted.of(query)
    path, attempt = _log_file(facade, pod, name, wanted.previous)
    worker = facade.kubelet.worker(pod["metadata"]["uid"])

    def ended() -> bool:
        latest = (
            worker.facts.containers[name].latest if worker and name in worker.facts.containers else None
        )
        return latest is None or latest.attempt != attempt or latest.state == EXITED

    answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await answer.prepare(call.request)
    try:
        async for chunk in logs.read(path, wanted, ended):
            await answer.write(chunk)
        await answer.write_eof()
    except ConnectionError:
        pass  # the client has seen enough
    return answer


def _log_file(facade: Facade, pod: Object, container: str, previous: bool) -> tuple[Path, int]:
    worker = facade.kubelet.worker(pod["metadata"]["uid"])
    known = worker.facts.containers.get(container) if worker else None
    name = pod["metadata"]["name"]
    one = known.latest if known else None
    if previous and known:
        # In a crash loop the newest instance has ended already, and it is the one that `--previous` means.
        one = known.previous if one is None or one.state == RUNNING else one
    if worker is None or one is None:
        if previous:
            raise errors.bad_request(
                f'previous terminated container "{container}" in pod "{name}" not found'
            )
        reason = (known.waiting or ("ContainerCreating", ""))[0] if known else "ContainerCreating"
        words = {
            "ErrImagePull": "image can't be pulled",
            "ImagePullBackOff": "trying and failing to pull image",
        }
        text = words.get(reason, reason)
        raise errors.bad_request(f'container "{container}" in pod "{name}" is waiting to start: {text}')
    return worker.log_file(container, one.attempt), one.attempt


async def delete(facade: Facade, call: Call) -> Object:
    pod = facade.store.get("pods", call.namespace, call.name)
    body = await call.json(optional=True)
    asked = call.request.query.get("gracePeriodSeconds", body.get("gracePeriodSeconds"))
    grace = int(pod["spec"].get("terminationGracePeriodSeconds", 30) if asked is None else asked)
    if call.dry_run:
        return pod
    if grace == 0 or pod["spec"].get("nodeName") != facade.kubelet.node:
        return facade.store.delete("pods", call.namespace, call.name)

    def mark(new: Object) -> None:
        new["metadata"].setdefault("deletionTimestamp", timestamp())
        new["metadata"]["deletionGracePeriodSeconds"] = grace

    return facade.store.modify("pods", call.namespace, call.name, mark)


def check_update(old: Object, new: Object) -> None:
    """An update of the pod itself changes metadata; of the spec only the image, which is not played."""
    if old["spec"] == new["spec"]:
        return
    text = (
        "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
        "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to "
        "existing tolerations),`spec.terminationGracePeriodSeconds` "
        "(allow it to be set to 1 if it was previously negative)"
    )
    raise errors.invalid("pods", old["metadata"]["name"], [("spec", "FieldValueForbidden", text)])


def windows_status(pod: Object) -> Object:
    """A pod on the node that we do not have: shown as running, with nothing behind it."""
    statuses = [
        {
            "name": container["name"],
            "state": {"running": {"startedAt": timestamp()}},
            "lastState": {},
            "ready": True,
            "started": True,
            "restartCount": 0,
            "image": container["image"],
            "imageID": "",
            "containerID": "containerd://" + "0" * 64,
        }
        for container in pod["spec"]["containers"]
    ]
    new = copy.deepcopy(pod)
    new["status"] |= {"phase": "Running", "containerStatuses": statuses, "startTime": timestamp()}
    return new
