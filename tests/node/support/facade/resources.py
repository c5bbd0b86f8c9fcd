"""Which resources there are, how a path names them, and what discovery tells clients of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import errors

Object = dict[str, Any]


@dataclass(frozen=True)
class Resource:
    plural: str
    kind: str
    group: str = ""
    namespaced: bool = True
    short: tuple[str, ...] = ()
    subresources: tuple[tuple[str, str], ...] = ()
    """(name, verbs) each."""
    only_create: bool = False

    @property
    def api_version(self) -> str:
        return f"{self.group}/v1" if self.group else "v1"


RESOURCES = {
    one.plural: one
    for one in (
        Resource(
            "pods",
            "Pod",
            short=("po",),
            subresources=(
                ("attach", "create get"),
                ("ephemeralcontainers", "get patch update"),
                ("exec", "create get"),
                ("log", "get"),
                ("portforward", "create get"),
                ("status", "get"),
            ),
        ),
        Resource("namespaces", "Namespace", namespaced=False, short=("ns",)),
        Resource("nodes", "Node", namespaced=False, short=("no",)),
        Resource("events", "Event", short=("ev",)),
        Resource("services", "Service", short=("svc",)),
        Resource("endpoints", "Endpoints", short=("ep",)),
        Resource("configmaps", "ConfigMap", short=("cm",)),
        Resource("secrets", "Secret"),
        Resource("serviceaccounts", "ServiceAccount", short=("sa",)),
        Resource("replicationcontrollers", "ReplicationController", short=("rc",)),
        Resource("limitranges", "LimitRange", short=("limits",)),
        Resource("resourcequotas", "ResourceQuota", short=("quota",)),
        Resource("deployments", "Deployment", "apps", short=("deploy",)),
        Resource("replicasets", "ReplicaSet", "apps", short=("rs",)),
        Resource("statefulsets", "StatefulSet", "apps", short=("sts",)),
        Resource("daemonsets", "DaemonSet", "apps", short=("ds",)),
        Resource("controllerrevisions", "ControllerRevision", "apps"),
        Resource("jobs", "Job", "batch"),
        Resource("cronjobs", "CronJob", "batch", short=("cj",)),
        Resource(
            "selfsubjectaccessreviews",
            "SelfSubjectAccessReview",
            "authorization.k8s.io",
            False,
            only_create=True,
        ),
        Resource(
            "selfsubjectreviews", "SelfSubjectReview", "authentication.k8s.io", False, only_create=True
        ),
    )
}
GROUPS = sorted({one.group for one in RESOURCES.values()} - {""})


@dataclass(frozen=True)
class Path:
    resource: Resource
    namespace: str
    name: str
    subresource: str


def parse(path: str) -> Path:
    """`/api/v1/namespaces/NS/pods/NAME/log`, `/apis/GROUP/v1/RESOURCE`, ..."""
    parts = [part for part in path.split("/") if part]
    if parts[:2] == ["api", "v1"]:
        group, rest = "", parts[2:]
    elif parts[:1] == ["apis"] and parts[2:3] == ["v1"]:
        group, rest = parts[1], parts[3:]
    else:
        raise errors.no_such_path()
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2 and rest[2] in RESOURCES:
        namespace, rest = rest[1], rest[2:]
    resource = RESOURCES.get(rest[0]) if rest else None
    if (
        resource is None
        or resource.group != group
        or len(rest) > 3
        or (namespace and not resource.namespaced)
    ):
        raise errors.no_such_path()
    name, subresource = (rest[1:] + ["", ""])[:2]
    if subresource and subresource not in dict(resource.subresources):
        raise errors.no_such_path()
    return Path(resource, namespace, name, subresource)


def _entries(resource: Resource) -> list[Object]:
    verbs = (
        "create delete deletecollection get list patch update watch"
        if not resource.only_create
        else "create"
    )
    entry = {
        "name": resource.plural,
        "singularName": resource.kind.lower(),
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": verbs.split(),
    }
    if resource.short:
        entry["shortNames"] = list(resource.short)
    below = [
        {
            "name": f"{resource.plural}/{name}",
            "singularName": "",
            "namespaced": True,
            "kind": resource.kind,
            "verbs": allowed.split(),
        }
        for name, allowed in resource.subresources
    ]
    return [entry, *below]


def _group(name: str) -> Object:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _openapi(root: str) -> Object:
    """Just enough for kubectl to learn that the server validates fields, so that it need not."""
    roots = {"api/v1": "", **{f"apis/{group}/v1": group for group in GROUPS}}
    if root not in roots:
        return {"paths": {one: {"serverRelativeURL": f"/openapi/v3/{one}"} for one in roots}}
    paths = {}
    for resource in RESOURCES.values():
        if resource.group == roots[root]:
            paths[f"/{root}/{resource.plural}/{{name}}"] = {
                "patch": {
                    "parameters": [{"name": "fieldValidation", "in": "query"}],
                    "responses": {},
                    "x-kubernetes-group-version-kind": {
                        "group": resource.group,
                        "version": "v1",
                        "kind": resource.kind,
                    },
                }
            }
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1"}, "paths": paths}


def discovery(path: str, version: str) -> Object | None:
    """The document at a discovery path; `None` if it is not one."""
    parts = [part for part in path.split("/") if part]
    if parts == ["version"]:
        major, minor = version.lstrip("v").split(".")[:2]
        return {"major": major, "minor": minor, "gitVersion": version, "platform": "linux/amd64"}
    if parts[:2] == ["openapi", "v3"]:
        return _openapi("/".join(parts[2:]))
    if parts == ["api"]:
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if parts == ["apis"]:
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(name) for name in GROUPS]}
    if parts[:1] == ["apis"] and len(parts) == 2 and parts[1] in GROUPS:
        return {"kind": "APIGroup", "apiVersion": "v1", **_group(parts[1])}
    group = "" if parts == ["api", "v1"] else parts[1] if len(parts) == 3 and parts[0] == "apis" else None
    if group is None or (group and (group not in GROUPS or parts[2] != "v1")):
        return None
    entries = [entry for one in RESOURCES.values() if one.group == group for entry in _entries(one)]
    group_version = f"{group}/v1" if group else "v1"
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": entries,
    }
