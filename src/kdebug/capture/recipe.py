"""What a capture takes, as YAML: facts, details of processes, listings, files, logs, Kubernetes objects.

A recipe only names questions that kdebug asks anyway; it cannot run anything, change anything, or reach
beyond what the access rung gives. Keys that are not known are refused with their line.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.resources
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from kdebug.capture import recipe_fields as f
from kdebug.capture.recipe_yaml import MAX_BYTES, Located, RecipeError, error, load, substituted
from kdebug.errors import KdebugError, UsageError, from_os_error
from kdebug.protocol import codec
from kdebug.protocol.requests import Request, registered

BUILT_IN = ("quick", "standard", "memory", "network", "full")
ENTRY_POINTS = "kdebug.recipe"
"""Each names a str, or a callable that returns one: the YAML of a recipe."""

DETAILS = ("process", "fds", "environ", "limits", "maps")
OBJECTS = ("pod", "events", "owner", "node", "story")
_NOT_FACTS = ("open", "read", "follow", "digest", "list-dir", "list-table", *DETAILS)
"""Questions that have steps of their own, or are no question about a fact."""
ABILITIES = (
    "process list", "files read", "files write", "fds", "env", "maps", "sockets with owners", "signals",
    "packet capture", "trace",
)  # fmt: skip

WHEN = {
    "runtime": f.texts_field("the target's program is called so (globs of its file name)"),
    "rung": f.texts_field("the toolbox stands on one of these rungs"),
    "can": f.choice_field("the agent was measured to be able to", *ABILITIES),
    "exists": f.paths_field("one of these paths exists in the target"),
    "pod": f.flag_field("the target is a pod, or is none"),
}
SAMPLES = {
    "every": f.duration_field("time from one sample to the next"),
    "count": f.count_field(1, 600, "how many"),
}
BUDGET = {
    "max_bytes": f.size_field("bytes taken at most, before they are packed"),
    "deadline": f.duration_field("the capture ends after so long, whatever is missing"),
}
COMMON = {
    "name": f.text_field("how the step is called in the manifest"),
    "deadline": f.duration_field("the step ends after so long"),
    "max_bytes": f.size_field("bytes that the step takes at most"),
}
OPTIONS: dict[str, dict[str, f.Field]] = {
    "facts": {},
    "each_process": {"count": f.count_field(1, 5000, "processes at most")},
    "listings": {
        "depth": f.count_field(0, 64, "directories below that are listed too"),
        "count": f.count_field(1, 20_000, "directories at most"),
    },
    "files": {
        "head": f.size_field("of a longer file only the first so many bytes"),
        "tail": f.size_field("of a longer file only the last so many bytes"),
        "count": f.count_field(1, 10_000, "files at most"),
    },
    "kubernetes": {},
    "logs": {
        "tail": f.count_field(1, 10_000_000, "lines of each container, the last ones"),
        "since": f.duration_field("only what is newer"),
        "previous": f.flag_field("also those of the instance before the last restart"),
    },
}
"""The kinds of steps, each with the keys it takes beside the common ones."""
ITEMS = {
    "each_process": f.choice_field("details of every process of the target's container", *DETAILS),
    "listings": f.paths_field("directories"),
    "files": f.paths_field("paths, with *, ?, [...] and ** for any number of directories"),
    "kubernetes": f.choice_field("objects", *OBJECTS),
    "logs": f.texts_field("containers, or all"),
}
TOP = ("name", "description", "parameters", "budget", "steps")
PARAMETER_KEYS = ("default", "description")


@dataclass(frozen=True)
class When:
    """Conditions, all of which must hold."""

    runtime: tuple[str, ...] = ()
    rung: tuple[str, ...] = ()
    can: tuple[str, ...] = ()
    exists: tuple[str, ...] = ()
    pod: Optional[bool] = None


@dataclass(frozen=True)
class Samples:
    every: float
    """Seconds."""
    count: int


@dataclass(frozen=True)
class Step:
    """One thing to take."""

    kind: str
    """A key of `OPTIONS`."""
    name: str
    line: int
    requests: tuple[Request[Any], ...] = ()
    """Of facts."""
    items: tuple[str, ...] = ()
    """Of all other kinds."""
    when: When = When()
    samples: Optional[Samples] = None
    deadline: float = 30.0
    max_bytes: int = 64 * 2**20
    count: int = 200
    depth: int = 0
    head: int = 0
    """Bytes; 0: not asked for."""
    tail: int = 0
    """Bytes of files, lines of logs; 0: not asked for."""
    since: float = 0.0
    previous: bool = False


@dataclass(frozen=True)
class Recipe:
    name: str
    description: str
    steps: tuple[Step, ...]
    source: str
    """A file's name, built-in, or the package that it comes from."""
    sha256: str
    parameters: dict[str, Any] = field(default_factory=dict)
    """As they were set."""
    max_bytes: int = 512 * 2**20
    deadline: float = 120.0


def load_recipe(name: str, settings: Mapping[str, str] | None = None) -> Recipe:
    """A file, where there is one of that name with a / or .yaml in it, else a recipe by its name."""
    text, source = recipe_text(name)
    return parse_recipe(text, source, settings or {})


def recipe_text(name: str) -> tuple[str, str]:
    """(YAML, where it comes from). Raises `UsageError`, or as opening a file does."""
    if "/" in name or name.endswith((".yaml", ".yml")):
        return _file_text(name), name
    if name in BUILT_IN:
        place = importlib.resources.files("kdebug.capture").joinpath("recipes", f"{name}.yaml")
        return place.read_text("utf-8"), f"{name}.yaml (built in)"
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if point.name == name:
            return _foreign_text(point), f"{name} (of {point.value})"
    raise UsageError(f"there is no recipe {name!r}", next_step="see `kdebug recipe list`, or give a file")


def _file_text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        return data.decode("utf-8")
    except OSError as problem:
        raise from_os_error(problem, f"the recipe {path} cannot be read") from problem
    except ValueError as problem:
        raise UsageError(f"the recipe {path} cannot be read", why="it is not UTF-8") from problem


def _foreign_text(point: importlib.metadata.EntryPoint) -> str:
    """Somebody else's code: whatever it raises is told as its failure."""
    try:
        found = point.load()
        text = found() if callable(found) else found
    except Exception as problem:
        raise UsageError(
            f"the recipe {point.name} of {point.value} cannot be loaded", why=str(problem)
        ) from problem
    if not isinstance(text, str):
        raise UsageError(f"the recipe {point.name} of {point.value} is no text")
    return text


def names() -> list[str]:
    """Every recipe that can be named: ours first."""
    others = {point.name for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}
    return [*BUILT_IN, *sorted(others - set(BUILT_IN))]


def parse_recipe(text: str, source: str, settings: Mapping[str, str]) -> Recipe:
    """Raises `RecipeError` with file and line, `UsageError` for a setting that does not fit."""
    tree = load(text, source)
    top = _keys(tree, TOP, source)
    if "steps" not in top:
        raise error(source, tree.line, "there are no steps")
    values = _parameters(top.get("parameters"), settings, source)
    top = _keys(
        substituted(
            Located({k: v for k, v in top.items() if k != "parameters"}, tree.line), values, source
        ),
        TOP,
        source,
    )
    budget = _fields(top.get("budget"), BUDGET, source)
    steps = top["steps"]
    if not isinstance(steps.value, list) or not steps.value:
        raise error(source, steps.line, "steps is no list, or empty")
    description = top["description"].value if "description" in top else ""
    return Recipe(
        str(top["name"].value) if "name" in top else os.path.basename(source),
        " ".join(str(description).split()),
        tuple(_step(step, source) for step in steps.value),
        source,
        hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest(),
        values,
        **budget,
    )


def _keys(tree: Located, known: tuple[str, ...], source: str) -> dict[str, Located]:
    if not isinstance(tree.value, dict):
        raise error(source, tree.line, f"a mapping is wanted here, with {', '.join(known)}")
    for key, item in tree.value.items():
        if key not in known:
            raise error(source, item.line, f"{key!r} is not known here", f"known are {', '.join(known)}")
    found: dict[str, Located] = tree.value
    return found


def _fields(tree: Optional[Located], fields: dict[str, f.Field], source: str) -> dict[str, Any]:
    if tree is None:
        return {}
    found = _keys(tree, tuple(fields), source)
    return {key: _read(fields[key], key, item, source) for key, item in found.items()}


def _read(reads: f.Field, key: str, item: Located, source: str) -> Any:
    try:
        return reads.read(item.plain())
    except ValueError as problem:
        raise error(source, item.line, f"{key}: {problem}") from problem


def _parameters(tree: Optional[Located], settings: Mapping[str, str], source: str) -> dict[str, Any]:
    """Name -> value: what was set, else the default."""
    import yaml

    declared = tree.value if tree is not None else {}
    if not isinstance(declared, dict):
        raise error(source, tree.line if tree else 1, "parameters is no mapping")
    for name in settings:
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise UsageError(f"the recipe has no parameter {name!r}", next_step=f"it has {known}")
    values: dict[str, Any] = {}
    for name, item in declared.items():
        keys = _keys(item, PARAMETER_KEYS, source)
        if name in settings:
            try:
                values[name] = yaml.safe_load(settings[name])
            except yaml.YAMLError as problem:
                raise UsageError(f"{name}={settings[name]!r} cannot be understood") from problem
        elif "default" in keys:
            values[name] = keys["default"].plain()
        else:
            raise UsageError(f"the recipe wants the parameter {name}", next_step=f"give --set {name}=VALUE")
    return values


def _step(tree: Located, source: str) -> Step:
    kinds = [kind for kind in OPTIONS if isinstance(tree.value, dict) and kind in tree.value]
    if len(kinds) != 1:
        raise error(source, tree.line, f"a step has exactly one of {', '.join(OPTIONS)}")
    (kind,) = kinds
    keys = _keys(
        tree, (kind, *COMMON, "when", *(["samples"] if kind == "facts" else []), *OPTIONS[kind]), source
    )
    given = {k: v for k, v in keys.items() if k not in (kind, "when", "samples")}
    options = _fields(Located(given, tree.line), COMMON | OPTIONS[kind], source)
    options["when"] = When(**_fields(keys.get("when"), WHEN, source))
    if "samples" in keys:
        options["samples"] = _samples(keys["samples"], source)
    if options.get("head") and options.get("tail"):
        raise error(source, tree.line, "head and tail are given both")
    if kind == "facts":
        options["requests"] = _requests(keys[kind], source)
    else:
        options["items"] = _read(ITEMS[kind], kind, keys[kind], source)
    options.setdefault("name", kind)
    return Step(kind, line=tree.line, **options)


def _samples(tree: Located, source: str) -> Samples:
    found = _fields(tree, SAMPLES, source)
    if len(found) != len(SAMPLES):
        raise error(source, tree.line, "samples wants every and count")
    return Samples(**found)


def facts() -> dict[str, type[Request[Any]]]:
    """The questions that a step of facts may ask."""
    return {
        name: made for name, made in sorted(registered().items())
        if not made.mutates and name not in _NOT_FACTS
    }  # fmt: skip


def _requests(tree: Located, source: str) -> tuple[Request[Any], ...]:
    items = tree.value if isinstance(tree.value, list) else [tree]
    if not items:
        raise error(source, tree.line, "facts: the list is empty")
    return tuple(_request(item, source) for item in items)


def _request(tree: Located, source: str) -> Request[Any]:
    """A name, or {name: {field: value}}."""
    fields: dict[str, Any] = {}
    name = tree.value
    if isinstance(tree.value, dict):
        if len(tree.value) != 1:
            raise error(
                source, tree.line, "one question with its fields is wanted: {sockets: {families: [inet]}}"
            )
        ((name, inner),) = tree.value.items()
        fields = inner.plain() or {}
    known = facts()
    if name not in known:
        raise error(source, tree.line, f"there is no fact {name!r}", f"there are {', '.join(known)}")
    try:
        if not isinstance(fields, dict) or {"cursor", "since"} & set(fields):
            raise UsageError("a mapping of its fields is wanted")
        made: Request[Any] = codec.from_plain(known[name], fields)
        made.validate()
    except KdebugError as problem:
        words = str(problem).replace("the peer sent", "it takes no")
        raise error(source, tree.line, f"{name}: {words}") from problem
    return made


__all__ = [
    "BUILT_IN",
    "Recipe",
    "RecipeError",
    "Step",
    "facts",
    "load_recipe",
    "names",
    "parse_recipe",
    "recipe_text",
]
