"""Label and field selectors, in the grammar that clients send."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from . import errors

Object = dict[str, Any]
Predicate = Callable[[Object], bool]

SET = re.compile(r"^(?P<key>[^\s!=,()]+)\s+(?P<how>in|notin)\s+\((?P<values>[^)]*)\)$")
EQUAL = re.compile(r"^(?P<key>[^\s!=,()]+)\s*(?P<how>==|=|!=)\s*(?P<value>[^=,()]*)$")
EXISTS = re.compile(r"^(?P<not>!?)\s*(?P<key>[^\s!=,()]+)$")


def _parts(selector: str) -> list[str]:
    """Split at commas outside parentheses."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", selector) if part.strip()]


def _label_part(part: str) -> Predicate:
    if found := SET.match(part):
        key, values = found["key"], {value.strip() for value in found["values"].split(",")}
        wanted = found["how"] == "in"
        return lambda labels: (labels.get(key) in values) is wanted if key in labels else not wanted
    if found := EQUAL.match(part):
        key, value, wanted = found["key"], found["value"].strip(), found["how"] != "!="
        return lambda labels: (labels.get(key) == value) is wanted
    if found := EXISTS.match(part):
        key, wanted = found["key"], not found["not"]
        return lambda labels: (key in labels) is wanted
    raise errors.bad_request(f'unable to parse requirement: found "{part}", expected: identifier')


def labels(selector: str) -> Predicate:
    predicates = [_label_part(part) for part in _parts(selector)]

    def matches(item: Object) -> bool:
        own = item["metadata"].get("labels") or {}
        return all(predicate(own) for predicate in predicates)

    return matches


def _field(item: Object, path: str) -> str:
    value: Any = item
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return "" if value is None else str(value)


def fields(selector: str) -> Predicate:
    wanted = []
    for part in _parts(selector):
        found = EQUAL.match(part)
        if not found:
            raise errors.bad_request(f'invalid selector: "{selector}"; can\'t understand "{part}"')
        wanted.append((found["key"], found["value"].strip(), found["how"] != "!="))
    return lambda item: all((_field(item, key) == value) is equal for key, value, equal in wanted)
