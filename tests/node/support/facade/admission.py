"""What a pod must be to get in: defaults, validation, Pod Security, the rules of ephemeral containers."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

from .. import pod_security
from ..kubelet import translate
from . import errors
from .store import Store, timestamp

Object = dict[str, Any]

LABEL_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL_HELP = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
    "and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
MIRROR = "kubernetes.io/config.mirror"
EPHEMERAL_FIELDS = {
    "name",
    "image",
    "command",
    "args",
    "workingDir",
    "envFrom",
    "env",
    "volumeMounts",
    "volumeDevices",
    "imagePullPolicy",
    "securityContext",
    "stdin",
    "stdinOnce",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tty",
    "targetContainerName",
}
"""The server keeps such a list too: a field that is not on it is refused."""

Cause = tuple[str, str, str]


def _default_container(container: Object) -> None:
    name = container.get("image", "").rpartition("/")[2]
    latest = "@" not in name and (":" not in name or name.endswith(":latest"))
    container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
    container.setdefault("resources", {})
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")


def new_pod(pod: Object, node_of: Any) -> Object:
    """The object as the server would store it; `node_of(spec)` stands for the scheduler."""
    spec = pod.setdefault("spec", {})
    for key, value in (
        ("restartPolicy", "Always"),
        ("terminationGracePeriodSeconds", 30),
        ("dnsPolicy", "ClusterFirst"),
        ("schedulerName", "default-scheduler"),
        ("securityContext", {}),
        ("enableServiceLinks", True),
        ("serviceAccountName", "default"),
        ("serviceAccount", "default"),
    ):
        spec.setdefault(key, value)
    for container in spec.get("containers") or []:
        _default_container(container)
    pod["apiVersion"], pod["kind"] = "v1", "Pod"
    pod["metadata"]["generation"] = 1
    spec["nodeName"] = spec.get("nodeName") or node_of(spec)
    now = timestamp()
    scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
    pod["status"] = {"phase": "Pending", "conditions": [scheduled], "qosClass": translate.qos_class(spec)}
    return pod


def _required(field: str) -> Cause:
    return field, "FieldValueRequired", "Required value"


def _name_causes(field: str, name: Any) -> list[Cause]:
    if not name:
        return [_required(field)]
    if not LABEL_NAME.fullmatch(name) or len(name) > 63:
        return [(field, "FieldValueInvalid", f"Invalid value: {json.dumps(name)}: {LABEL_HELP}")]
    return []


def _escalation_causes(field: str, container: Object) -> list[Cause]:
    context = container.get("securityContext") or {}
    if context.get("allowPrivilegeEscalation") is not False:
        return []
    value = json.dumps(context, separators=(",", ":"))
    shown = f"Invalid value: {value}: cannot set `allowPrivilegeEscalation` to "
    added = (context.get("capabilities") or {}).get("add") or []
    causes = []
    if context.get("privileged"):
        causes.append(
            (f"{field}.securityContext", "FieldValueInvalid", f"{shown}false and `privileged` to true")
        )
    if "CAP_SYS_ADMIN" in added:
        text = f"{shown}false and `capabilities.Add` CAP_SYS_ADMIN"
        causes.append((f"{field}.securityContext", "FieldValueInvalid", text))
    return causes


def _container_causes(field: str, container: Object, spec: Object) -> list[Cause]:
    causes = _name_causes(f"{field}.name", container.get("name"))
    if not container.get("image"):
        causes.append(_required(f"{field}.image"))
    volumes = {volume["name"] for volume in spec.get("volumes") or []}
    for place, mount in enumerate(container.get("volumeMounts") or []):
        if mount.get("name") not in volumes:
            where = f"{field}.volumeMounts[{place}].name"
            causes.append((where, "FieldValueNotFound", f"Not found: {json.dumps(mount.get('name'))}"))
    return causes + _escalation_causes(field, container)


def check_new_pod(pod: Object) -> None:
    spec, name = pod["spec"], pod["metadata"]["name"]
    causes: list[Cause] = []
    if not spec.get("containers"):
        causes.append(_required("spec.containers"))
    if spec.get("ephemeralContainers"):
        text = "Forbidden: cannot be set on create"
        causes.append(("spec.ephemeralContainers", "FieldValueForbidden", text))
    for place, container in enumerate(spec.get("containers") or []):
        causes += _container_causes(f"spec.containers[{place}]", container, spec)
    if spec.get("initContainers"):
        raise errors.ApiError(501, "NotImplemented", "the test node runs no init containers")
    if causes:
        raise errors.invalid("pods", name, causes)


def check_pod_security(store: Store, pod: Object) -> None:
    namespace = store.get("namespaces", "", pod["metadata"]["namespace"])
    labels = namespace["metadata"].get("labels") or {}
    if why := pod_security.refusal(labels, pod["spec"]):
        raise errors.forbidden("pods", pod["metadata"]["name"], why)


def with_ephemeral(old: Object, asked: Object) -> Object:
    """`old` with the ephemeral containers of `asked`: the subresource drops every other change."""
    new = copy.deepcopy(old)
    containers = copy.deepcopy((asked.get("spec") or {}).get("ephemeralContainers") or [])
    for container in containers:
        _default_container(container)
    if containers != (old["spec"].get("ephemeralContainers") or []):
        new["metadata"]["generation"] = new["metadata"].get("generation", 1) + 1
        new["spec"]["ephemeralContainers"] = containers
    new["metadata"]["resourceVersion"] = asked["metadata"].get("resourceVersion", "")
    return new


def check_ephemeral(old: Object, new: Object) -> None:
    name = old["metadata"]["name"]
    if MIRROR in (old["metadata"].get("annotations") or {}):
        text = "Forbidden: static pods do not support ephemeral containers"
        raise errors.invalid("pods", name, [("[]", "FieldValueForbidden", text)])
    causes = _new_causes(new["spec"]) + _change_causes(old["spec"], new["spec"])
    if causes:
        raise errors.invalid("pods", name, causes)


def _new_causes(spec: Object) -> list[Cause]:
    targets = {container["name"] for container in spec["containers"]}
    names, causes = set(targets), list[Cause]()
    for place, container in enumerate(spec.get("ephemeralContainers") or []):
        field = f"spec.ephemeralContainers[{place}]"
        causes += _container_causes(field, container, spec)
        if container.get("name") in names:
            text = f"Duplicate value: {json.dumps(container['name'])}"
            causes.append((f"{field}.name", "FieldValueDuplicate", text))
        names.add(container.get("name"))
        target = container.get("targetContainerName")
        if target and target not in targets:
            where = f"{field}.targetContainerName"
            causes.append((where, "FieldValueNotFound", f"Not found: {json.dumps(target)}"))
        causes += _field_causes(field, container)
    return causes


def _field_causes(field: str, container: Object) -> list[Cause]:
    text = "Forbidden: cannot be set for an Ephemeral Container"
    refused = [
        f"{field}.{key}" for key, value in container.items() if key not in EPHEMERAL_FIELDS and value
    ]
    for place, mount in enumerate(container.get("volumeMounts") or []):
        refused += [
            f"{field}.volumeMounts[{place}].{key}" for key in ("subPath", "subPathExpr") if mount.get(key)
        ]
    return [(where, "FieldValueForbidden", text) for where in refused]


def _change_causes(old: Object, new: Object) -> list[Cause]:
    kept = {container.get("name"): container for container in new.get("ephemeralContainers") or []}
    causes = []
    for container in old.get("ephemeralContainers") or []:
        name, now = container["name"], kept.get(container["name"])
        if now == container:
            continue
        what = "removed\n" if now is None else f"changed\n{_difference(container, now)}"
        text = f'Forbidden: existing ephemeral containers "{name}" may not be {what}'
        causes.append(("spec.ephemeralContainers", "FieldValueForbidden", text))
    return causes


def _difference(old: Object, new: Object) -> str:
    keys = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    lines = [
        f"- \t{key}: {json.dumps(old.get(key))},\n+ \t{key}: {json.dumps(new.get(key))},\n" for key in keys
    ]
    return f"  core.EphemeralContainer{{\n{''.join(lines)}  }}\n"
