"""The Secrets that a pod names, read so that redaction knows their values. Never required: most users may
not read them, and then what the pod itself shows is all that is known."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from kdebug.errors import KdebugError
from kdebug.kube.api import Api
from kdebug.target.cluster import PodRef, Secrets

MAX_SECRETS = 32
"""Read at once, each at most 1 MiB. A pod with more is learned as far."""


async def of_pod(api: Api, pod: PodRef) -> Secrets:
    names = list(dict.fromkeys(named(pod.pod.get("spec") or {})))
    missing = dict.fromkeys(names[MAX_SECRETS:], f"at most {MAX_SECRETS} are read")
    found = await asyncio.gather(*(_read(api, pod.namespace, name) for name in names[:MAX_SECRETS]))
    for name, answer in zip(names, found):
        if isinstance(answer, KdebugError):
            missing[name] = answer.why or answer.what
    objects = tuple(answer for answer in found if not isinstance(answer, KdebugError))
    return Secrets(objects, _credentials(api), missing)


async def _read(api: Api, namespace: str, name: str) -> Any:
    path = f"/api/v1/namespaces/{quote(namespace, safe='')}/secrets/{quote(name, safe='')}"
    try:
        answer = await api.get(f"the Secret {name} cannot be read", path)
    except KdebugError as error:
        return error
    return {**answer, "kind": "Secret", "metadata": {"name": name}}


def named(spec: dict[str, Any]) -> Iterator[str]:
    """Of image pulls, variables and volumes, in this order. The spec is the server's, which checked it."""
    for reference in spec.get("imagePullSecrets") or []:
        yield from _name(reference, "name")
    for kind in ("containers", "initContainers"):
        for container in spec.get(kind) or []:
            for variable in container.get("env") or []:
                yield from _name((variable.get("valueFrom") or {}).get("secretKeyRef"), "name")
            for source in container.get("envFrom") or []:
                yield from _name(source.get("secretRef"), "name")
    for volume in spec.get("volumes") or []:
        yield from _name(volume.get("secret"), "secretName")
        for source in (volume.get("projected") or {}).get("sources") or []:
            yield from _name(source.get("secret"), "name")


def _name(reference: Any, field: str) -> Iterator[str]:
    if reference and reference.get(field):
        yield str(reference[field])


def _credentials(api: Api) -> tuple[str, ...]:
    """The Authorization header of the requests, as redaction takes it apart."""
    header = api.config.configuration.api_key.get("BearerToken")
    return (str(header).strip(),) if header else ()
