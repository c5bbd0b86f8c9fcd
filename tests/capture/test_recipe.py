"""Recipes: what is taken, what is refused and where the mistake stands, and the schema beside them."""

from __future__ import annotations

import importlib.metadata
import json
import random
from pathlib import Path
from typing import Any

import pytest

from kdebug.capture import glob, recipe_schema
from kdebug.capture.recipe import BUILT_IN, OPTIONS, facts, load_recipe, names, parse_recipe
from kdebug.errors import KdebugError, UsageError

SCHEMA = Path(__file__).parents[2] / "docs" / "recipe.schema.json"


def parse(text: str, **settings: str) -> Any:
    return parse_recipe(text, "r.yaml", settings)


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_built_in_ones_are_whole(name: str) -> None:
    found = load_recipe(name)
    assert found.name == name and found.description and found.steps
    kinds = {step.kind for step in found.steps}
    assert {"facts", "each_process", "kubernetes", "logs"} <= kinds
    assert all("environ" in step.items for step in found.steps if step.kind == "each_process")


def test_everything_of_a_step_is_read() -> None:
    (step,) = parse(
        "steps:\n- facts: [cgroup, {sockets: {families: [inet]}}, usage: {path: /tmp, top: 3}]\n"
        "  name: often\n  deadline: 2m\n  max_bytes: 3MiB\n  samples: {every: 250ms, count: 4}\n"
        "  when: {rung: [ptrace, match], can: maps, exists: /etc/app, runtime: 'java*', pod: true}\n"
    ).steps
    assert (step.name, step.deadline, step.max_bytes) == ("often", 120.0, 3 * 2**20)
    assert (step.samples.every, step.samples.count) == (0.25, 4)
    assert [request.name for request in step.requests] == ["cgroup", "sockets", "usage"]
    assert step.requests[1].families == ("inet",) and step.requests[2].top == 3
    when = step.when
    assert (when.rung, when.can, when.exists) == (("ptrace", "match"), ("maps",), ("/etc/app",))
    assert when.runtime == ("java*",) and when.pod is True


MISTAKES = [
    ("steps:\n- facts: [cgroup]\n  colour: red\n", 3, "'colour' is not known"),
    ("steps:\n- facts: [cgroup]\nmore: 1\n", 3, "'more' is not known"),
    ("steps:\n- facts: [cgroup]\n- facts: [nonsense]\n", 3, "no fact 'nonsense'"),
    ("steps:\n- facts: [signal]\n", 2, "no fact 'signal'"),
    ("steps:\n- facts: [{sockets: {colour: 1}}]\n", 2, "colour"),
    ("steps:\n- facts: [{usage: {path: tmp}}]\n", 2, "not absolute"),
    ("steps:\n- facts: [cgroup]\n  files: [/etc]\n", 2, "exactly one of"),
    ("steps:\n- name: nothing\n", 2, "exactly one of"),
    ("steps: []\n", 1, "empty"),
    ("name: x\n", 1, "no steps"),
    ("steps:\n- listings: [etc]\n", 2, "absolute path"),
    ("steps:\n- files: [/etc/../root]\n", 2, "absolute path"),
    ("steps:\n- files: [/etc/x]\n  head: 1K\n  tail: 1K\n", 2, "both"),
    ("steps:\n- files: [/etc/x]\n  head: 1KB\n", 3, "no size"),
    ("steps:\n- files: [/etc/x]\n  head: 0\n", 3, "no size"),
    ("steps:\n- files: [/etc/x]\n  deadline: soon\n", 3, "no duration"),
    ("steps:\n- facts: cgroup\n  samples: {every: 1s}\n", 3, "every and count"),
    ("steps:\n- listings: [/]\n  samples: {every: 1s, count: 2}\n", 3, "not known"),
    ("steps:\n- listings: [/]\n  depth: 65\n", 3, "0 to 64"),
    ("steps:\n- listings: [/]\n  depth: true\n", 3, "0 to 64"),
    ("steps:\n- kubernetes: [secrets]\n", 2, "no 'secrets'"),
    ("steps:\n- facts: cgroup\n  when: {weather: fine}\n", 3, "'weather' is not known"),
    ("steps:\n- files: ['${where}']\n", 2, "no parameter 'where'"),
    ("steps:\n- facts: cgroup\n  name: a\n  name: b\n", 4, "twice"),
    ("a: &x [1]\nsteps: *x\n", 1, "anchors"),
    ("steps:\n- facts: [\n", 3, "expected"),
    ("- 1\n", 1, "mapping"),
    ("", 1, "empty"),
]


@pytest.mark.parametrize(("text", "line", "words"), MISTAKES)
def test_a_mistake_is_told_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(text)
    told = str(raised.value)
    assert told.startswith(f"r.yaml:{line}:") and words in told, told


def test_parameters_keep_their_types_and_are_asked_for() -> None:
    text = (
        "parameters:\n  n: {default: 3}\n  where: {default: [/a, /b]}\n  app: {}\n"
        "steps:\n- listings: ${where}\n  count: ${n}\n- files: ['/etc/${app}/x', '${app}${n}']\n"
    )
    found = parse(text, app="/web")
    assert found.steps[0].items == ("/a", "/b") and found.steps[0].count == 3
    assert found.steps[1].items == ("/etc//web/x", "/web3")
    assert parse(text, app="/web", n="7").steps[0].count == 7
    assert parse(text, app="/web", where="[/c]").steps[0].items == ("/c",)
    with pytest.raises(UsageError, match="wants the parameter app"):
        parse(text)
    with pytest.raises(UsageError, match="no parameter 'other'"):
        parse(text, app="/web", other="1")
    with pytest.raises(UsageError, match="r.yaml:7: count"):
        parse(text, app="/web", n="many")


def test_a_few_lines_of_yaml_cannot_become_many() -> None:
    text = "a: &a [x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
    )
    with pytest.raises(UsageError, match="anchors"):
        parse(text + "steps: *j\n")
    with pytest.raises(UsageError, match="nesting"):
        parse("steps: " + "[" * 40 + "]" * 40)


def test_hostile_text_never_ends_in_anything_else(seed: int) -> None:
    chance = random.Random(seed)
    good = "parameters: {a: {default: 1}}\nsteps:\n- facts: [cgroup]\n  when: {pod: true}\n- files: [/x]\n"
    for _ in range(400):
        letters = list(good)
        for _ in range(chance.randrange(1, 6)):
            letters[chance.randrange(len(letters))] = chance.choice("{}[]:-&*!|>'\"\n\t %@`,#?0${}é\x00")
        try:
            parse("".join(letters))
        except KdebugError:
            pass


def test_third_parties_add_theirs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A real distribution on the path, found by importlib.metadata as an installed one would be."""
    (tmp_path / "acme_recipes.py").write_text(
        "JAVA = 'steps: [{facts: cgroup, when: {runtime: java}}]'\ndef broken(): raise OSError('no disk')\n"
    )
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    points = "[kdebug.recipe]\njava = acme_recipes:JAVA\nbroken = acme_recipes:broken\n"
    (info / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.metadata.MetadataPathFinder().invalidate_caches()
    assert names()[-2:] == ["broken", "java"]
    assert load_recipe("java").steps[0].when.runtime == ("java",)
    with pytest.raises(UsageError, match="no disk"):
        load_recipe("broken")
    with pytest.raises(UsageError, match="recipe list"):
        load_recipe("nonsense")


def test_the_schema_is_the_one_that_is_shipped() -> None:
    assert SCHEMA.read_text() == recipe_schema.text()
    steps = json.loads(SCHEMA.read_text())["properties"]["steps"]["items"]["oneOf"]
    assert [step["title"] for step in steps] == list(OPTIONS)
    enum = steps[0]["properties"]["facts"]["anyOf"][0]["anyOf"][0]["enum"]
    assert enum == list(facts()) and "signal" not in enum and "write" not in enum


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("/etc/app/**", "/etc/app/a", True), ("/etc/app/**", "/etc/app/a/b/c", True),
        ("/etc/app/**", "/etc/apple", False), ("/var/log/*.log", "/var/log/a.log", True),
        ("/var/log/*.log", "/var/log/x/a.log", False), ("/var/log/**/*.log", "/var/log/a.log", True),
        ("/var/log/**/*.log", "/var/log/x/y/a.log", True), ("/a/?/[xy]", "/a/b/y", True),
        ("/a/?/[xy]", "/a/bb/y", False), ("/a/**/b/**/c", "/a/1/b/2/3/c", True),
        ("/a/**/b/**/c", "/a/1/2/3/c", False), ("/a/*", "/a/line\nfeed", True), ("/**", "/x/y", True),
    ],
)  # fmt: skip
def test_globs(pattern: str, path: str, fits: bool) -> None:
    assert glob.matches(pattern, path) is fits
    top, depth = glob.top(pattern)
    inside = path.startswith(top.rstrip("/") + "/")
    assert not fits or (inside and path.count("/") - top.rstrip("/").count("/") <= depth)
