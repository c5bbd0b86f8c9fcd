"""The rights that kdebug takes: asked by SelfSubjectAccessReview, printed as a minimal Role."""

from __future__ import annotations

import asyncio
from typing import Any

from kdebug.errors import KdebugError
from kdebug.kube.api import Api, ServerRefusal
from kdebug.target.cluster import Permission

NEEDED = (
    ("get", "pods"),
    ("patch", "pods/ephemeralcontainers"),
    ("create", "pods/exec"),
    ("get", "pods/exec"),
)
"""exec over WebSockets is a GET; newer servers check `create` for it as well (KEP-4006)."""
USEFUL = (
    ("list", "pods"),
    ("watch", "pods"),
    ("get", "pods/log"),
    ("list", "events"),
)


async def review(api: Api, namespace: str) -> list[Permission]:
    """Each right with the server's answer; None where it may not be asked."""
    wanted = [(verb, resource, True) for verb, resource in NEEDED]
    wanted += [(verb, resource, False) for verb, resource in USEFUL]
    return list(await asyncio.gather(*(_ask(api, namespace, *item) for item in wanted)))


async def _ask(api: Api, namespace: str, verb: str, resource: str, needed: bool) -> Permission:
    name, _, subresource = resource.partition("/")
    attributes = {"namespace": namespace, "verb": verb, "group": "", "resource": name}
    if subresource:
        attributes["subresource"] = subresource
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    try:
        answer = await api.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=body)
    except (ServerRefusal, KdebugError) as error:
        return Permission(verb, resource, None, needed, str(error))
    status = answer.get("status") or {}
    return Permission(verb, resource, bool(status.get("allowed")), needed, str(status.get("reason") or ""))


def role(namespace: str, name: str, subject: dict[str, str], useful: bool) -> list[dict[str, Any]]:
    """Role and RoleBinding for one namespace, as plain objects."""
    rights = NEEDED + (USEFUL if useful else ())
    verbs: dict[str, list[str]] = {}
    for verb, resource in rights:
        verbs.setdefault(resource, []).append(verb)
    metadata = {"name": name, "namespace": namespace}
    group = "rbac.authorization.k8s.io"
    return [
        {
            "apiVersion": f"{group}/v1",
            "kind": "Role",
            "metadata": metadata,
            "rules": [
                {"apiGroups": [""], "resources": [resource], "verbs": sorted(words)}
                for resource, words in verbs.items()
            ],
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [subject],
        },
    ]
