"""The JSON Schema of recipes (draft 2020-12), from the tables that the parser itself reads by."""

from __future__ import annotations

import json
from typing import Any

from kdebug.capture import recipe as r
from kdebug.capture.recipe_fields import Field


def _object(fields: dict[str, Field], **more: Any) -> dict[str, Any]:
    properties = {name: field.schema | {"description": field.about} for name, field in fields.items()}
    return {"type": "object", "additionalProperties": False, "properties": properties, **more}


def _fact() -> dict[str, Any]:
    known = list(r.facts())
    name = {"enum": known}
    with_fields = {
        "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": False,
        "properties": {fact: {"type": ["object", "null"]} for fact in known},
    }  # fmt: skip
    return {"anyOf": [name, with_fields]}


def _step(kind: str) -> dict[str, Any]:
    made = _object(r.COMMON | r.OPTIONS[kind], required=[kind], title=kind)
    made["properties"]["when"] = _object(r.WHEN, description="all of these must hold")
    if kind == "facts":
        fact = _fact()
        made["properties"][kind] = {"anyOf": [fact, {"type": "array", "items": fact, "minItems": 1}]}
        made["properties"]["samples"] = _object(r.SAMPLES, required=list(r.SAMPLES))
    else:
        made["properties"][kind] = r.ITEMS[kind].schema | {"description": r.ITEMS[kind].about}
    return made


def schema() -> dict[str, Any]:
    """One document."""
    parameter = {
        "type": "object", "additionalProperties": False,
        "properties": {"default": {}, "description": {"type": "string"}},
    }  # fmt: skip
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A recipe of kdebug capture",
        "type": "object",
        "additionalProperties": False,
        "required": ["steps"],
        "properties": {
            "name": {"type": "string"},
            "description": {"type": "string"},
            "parameters": {"type": "object", "additionalProperties": parameter},
            "budget": _object(r.BUDGET),
            "steps": {"type": "array", "minItems": 1, "items": {"oneOf": [_step(k) for k in r.OPTIONS]}},
        },
    }


def text() -> str:
    """As it stands in docs/recipe.schema.json."""
    return json.dumps(schema(), indent=2) + "\n"
