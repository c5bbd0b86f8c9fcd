"""The three patch formats; the strategic one merges lists by key, as ephemeral containers are added."""

from __future__ import annotations

import copy
from typing import Any

from . import errors

Object = dict[str, Any]

KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "ownerReferences": "uid",
    "conditions": "type",
}
"""Lists that merge by a key of their elements; every other list is replaced."""

STRATEGIC, MERGE, JSON = (
    f"application/{kind}+json" for kind in ("strategic-merge-patch", "merge-patch", "json-patch")
)


def apply(old: Object, patch: Any, content_type: str) -> Object:
    """The patched object; `old` is not touched."""
    new = copy.deepcopy(old)
    if content_type == JSON:
        changed: Object = _json(new, patch)
        return changed
    if not isinstance(patch, dict):
        raise errors.bad_request("cannot unmarshal the patch into an object")
    if content_type == STRATEGIC:
        return _strategic(new, patch)
    if content_type == MERGE:
        return _merge(new, patch)
    raise errors.unsupported_media(content_type)


def _merge(old: Object, patch: Object) -> Object:
    for key, value in patch.items():
        if value is None:
            old.pop(key, None)
        elif isinstance(value, dict):
            below = old.get(key)
            old[key] = _merge(below if isinstance(below, dict) else {}, value)
        else:
            old[key] = copy.deepcopy(value)
    return old


def _strategic(old: Object, patch: Object) -> Object:
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        if value is None:
            old.pop(key, None)
        elif isinstance(value, dict):
            below = old.get(key)
            old[key] = _strategic(below if isinstance(below, dict) else {}, value)
        elif isinstance(value, list) and key in KEYS:
            order = patch.get(f"$setElementOrder/{key}")
            old[key] = _by_key(old.get(key) or [], value, KEYS[key], order)
        else:
            old[key] = copy.deepcopy(value)
    return old


def _by_key(old: list[Object], patch: list[Object], key: str, order: list[Object] | None) -> list[Object]:
    merged = {one.get(key): one for one in old}
    for one in patch:
        if key not in one:
            if one.get("$patch") == "replace":
                merged.clear()
                continue
            raise errors.bad_request(f"map: {one} does not contain declared merge key: {key}")
        if one.get("$patch") == "delete":
            merged.pop(one[key], None)
        else:
            merged[one[key]] = _strategic(merged.get(one[key], {}), one)
    result = list(merged.values())
    if order is not None:
        places = {
            one[key]: place for place, one in enumerate(order) if isinstance(one, dict) and key in one
        }
        result.sort(key=lambda one: places.get(one.get(key), -1))
    return result


def _json(document: Any, operations: Any) -> Any:
    """RFC 6902 without `move` and `copy`, which no client sends here."""
    for operation in operations:
        steps = [step.replace("~1", "/").replace("~0", "~") for step in operation["path"].split("/")[1:]]
        parent = document
        try:
            for step in steps[:-1]:
                parent = parent[int(step) if isinstance(parent, list) else step]
            _operate(parent, steps[-1], operation)
        except (KeyError, IndexError, ValueError, TypeError):
            text = f'{operation["op"]} operation does not apply: doc is missing path: "{operation["path"]}"'
            raise errors.ApiError(
                422, "Invalid", f"the server rejected our request due to an error: {text}"
            ) from None
    return document


def _operate(parent: Any, last: str, operation: Object) -> None:
    kind, value = operation["op"], copy.deepcopy(operation.get("value"))
    place: Any = last
    if isinstance(parent, list):
        place = len(parent) if last == "-" else int(last)
    if kind == "add" and isinstance(parent, list):
        parent.insert(place, value)
    elif kind == "add":
        parent[place] = value
    elif kind == "replace":
        _ = parent[place]  # what is not there cannot be replaced
        parent[place] = value
    elif kind == "remove":
        del parent[place]
    elif kind == "test" and parent[place] != value:
        raise ValueError(last)
