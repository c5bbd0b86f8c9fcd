"""What may stand in a recipe: each key with its type, its words, and how it reads. The JSON Schema and the
documentation come from the same table, so that none of them can say something else."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_SIZE = re.compile(r"(\d{1,15})\s*(B|KiB|MiB|GiB|K|M|G|)")
_UNITS = {"": 1, "B": 1, "K": 2**10, "KiB": 2**10, "M": 2**20, "MiB": 2**20, "G": 2**30, "GiB": 2**30}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*(ms|s|m|h|)")
_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}
PARAMETER = r"\$\{[A-Za-z_][A-Za-z0-9_]*\}"


@dataclass(frozen=True)
class Field:
    """One key: how its plain value reads (raises `ValueError` with words), and its JSON Schema."""

    read: Callable[[Any], Any]
    schema: dict[str, Any]
    about: str = ""


def size(value: Any) -> int:
    """Bytes: 4096, 64KiB, 1M."""
    match = _SIZE.fullmatch(str(value)) if not isinstance(value, (bool, float)) else None
    if match is None or int(match[1]) == 0:
        raise ValueError(f"{value!r} is no size; write 4096, 64KiB or 1MiB")
    return int(match[1]) * _UNITS[match[2]]


def duration(value: Any) -> float:
    """Seconds: 5, 500ms, 2m."""
    match = _DURATION.fullmatch(str(value)) if not isinstance(value, bool) else None
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not 0 < seconds <= 24 * 3600:
        raise ValueError(f"{value!r} is no duration; write 500ms, 30s or 5m")
    return seconds


def count(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if type(value) is int and low <= value <= high:
            return int(value)
        raise ValueError(f"{value!r} is no number from {low} to {high}")

    return read


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is no text")
    return value


def texts(value: Any) -> tuple[str, ...]:
    """One text or a list of them."""
    items = value if isinstance(value, list) else [value]
    if not items:
        raise ValueError("the list is empty")
    return tuple(text(item) for item in items)


def paths(value: Any) -> tuple[str, ...]:
    found = texts(value)
    for path in found:
        if not path.startswith("/") or "\0" in path or "/../" in f"{path}/":
            raise ValueError(f"{path!r} is no absolute path without ..")
    return found


def one_of(*names: str) -> Callable[[Any], tuple[str, ...]]:
    def read(value: Any) -> tuple[str, ...]:
        found = texts(value)
        for name in found:
            if name not in names:
                raise ValueError(f"there is no {name!r}; there are {', '.join(names)}")
        return tuple(dict.fromkeys(found))

    return read


def _or_parameter(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "string", "pattern": f"^{PARAMETER}$"}]}


def _list_of(item: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]}


def size_field(about: str) -> Field:
    plain = {
        "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": f"^{_SIZE.pattern}$"}]
    }
    return Field(size, _or_parameter(plain), about)


def duration_field(about: str) -> Field:
    text_form = {"type": "string", "pattern": f"^{_DURATION.pattern}$"}
    return Field(
        duration, _or_parameter({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, text_form]}), about
    )


def count_field(low: int, high: int, about: str) -> Field:
    plain = {"type": "integer", "minimum": low, "maximum": high}
    return Field(count(low, high), _or_parameter(plain), about)


def flag_field(about: str) -> Field:
    return Field(flag, _or_parameter({"type": "boolean"}), about)


def text_field(about: str) -> Field:
    return Field(text, {"type": "string", "minLength": 1}, about)


def texts_field(about: str) -> Field:
    return Field(texts, _list_of({"type": "string", "minLength": 1}), about)


def paths_field(about: str) -> Field:
    return Field(paths, _list_of({"type": "string", "pattern": rf"^(/|{PARAMETER})"}), about)


def choice_field(about: str, *names: str) -> Field:
    return Field(one_of(*names), _list_of(_or_parameter({"enum": list(names)})), about)
