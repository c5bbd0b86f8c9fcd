"""YAML with the line of every value, so that a mistake in a recipe is told where it stands.

Only plain YAML is taken: no tags, no anchors (a few lines of them can stand for gigabytes), no key twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from kdebug.errors import UsageError

MAX_BYTES = 256 * 1024
"""A recipe is written by people; the longest of ours has 60 lines."""
MAX_DEPTH = 20
_PLACE = re.compile(r"\$\{([^}]*)\}")
_SCALARS = ("str", "int", "float", "bool", "null")


@dataclass(frozen=True)
class Located:
    """A value and where it stands."""

    value: Any
    """A scalar, a list of `Located`, or a dict of them."""
    line: int

    def plain(self) -> Any:
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        return [item.plain() for item in self.value] if isinstance(self.value, list) else self.value


class RecipeError(UsageError):
    """A recipe that is none, with the file and the line."""

    @property
    def kind(self) -> str:
        return "UsageError"


def error(source: str, line: int, what: str, step: str = "") -> RecipeError:
    return RecipeError(f"{source}:{line}", why=what, next_step=step)


def load(text: str, source: str) -> Located:
    """The one document of `text`. Raises `RecipeError`."""
    if len(text) > MAX_BYTES:
        raise RecipeError(f"{source} is no recipe", why=f"it is longer than {MAX_BYTES} characters")
    try:
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        words = getattr(problem, "problem", None) or str(problem)
        raise error(source, mark.line + 1 if mark else 1, " ".join(str(words).split())) from problem
    if node is None:
        raise error(source, 1, "the file is empty")
    return _located(node, source, set(), 0)


def _located(node: yaml.Node, source: str, seen: set[int], depth: int) -> Located:
    line = node.start_mark.line + 1
    if id(node) in seen or depth > MAX_DEPTH:
        raise error(source, line, "anchors and deep nesting are not taken")
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        return Located(_mapping(node, source, seen, depth), line)
    if isinstance(node, yaml.SequenceNode):
        return Located([_located(item, source, seen, depth + 1) for item in node.value], line)
    return Located(_scalar(node, source, line), line)


def _mapping(node: yaml.MappingNode, source: str, seen: set[int], depth: int) -> dict[str, Located]:
    found: dict[str, Located] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise error(source, line, "a key is no word")
        if key.value in found:
            raise error(source, line, f"{key.value!r} stands here twice")
        found[key.value] = _located(value, source, seen, depth + 1)
    return found


def _scalar(node: yaml.Node, source: str, line: int) -> Any:
    tag = node.tag.rpartition(":")[2]
    if tag not in _SCALARS:
        return str(node.value)  # a time, for YAML: for us it is text
    try:
        return yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError) as problem:
        raise error(source, line, f"{node.value!r} cannot be understood") from problem


def _wrapped(value: Any, line: int) -> Located:
    if isinstance(value, dict):
        return Located({str(key): _wrapped(item, line) for key, item in value.items()}, line)
    if isinstance(value, list):
        return Located([_wrapped(item, line) for item in value], line)
    return Located(value, line)


def substituted(tree: Located, values: Mapping[str, Any], source: str) -> Located:
    """`${name}` replaced: a text that is nothing else becomes the value itself."""
    if isinstance(tree.value, dict):
        return Located({k: substituted(v, values, source) for k, v in tree.value.items()}, tree.line)
    if isinstance(tree.value, list):
        return Located([substituted(item, values, source) for item in tree.value], tree.line)
    if not isinstance(tree.value, str) or "${" not in tree.value:
        return tree

    def look(match: re.Match[str]) -> Any:
        if match[1] not in values:
            raise error(
                source, tree.line, f"there is no parameter {match[1]!r}", "name it below parameters:"
            )
        return values[match[1]]

    whole = _PLACE.fullmatch(tree.value)
    if whole:
        return _wrapped(look(whole), tree.line)
    return Located(_PLACE.sub(lambda match: str(look(match)), tree.value), tree.line)
