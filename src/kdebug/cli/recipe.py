"""recipe: what captures take, listed, shown and checked."""

from __future__ import annotations

from typing import Any

import click

from kdebug.capture.recipe import Recipe, Step, names, parse_recipe, recipe_text
from kdebug.cli.console import Document, emit, write_bytes
from kdebug.cli.table import size, table
from kdebug.errors import KdebugError, UsageError

_FORMAT = click.option("-o", "--output", type=click.Choice(("table", "json", "yaml")), default="table")
_SET = click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="set a parameter")


def settings_of(pairs: tuple[str, ...]) -> dict[str, str]:
    """NAME=VALUE of --set. Raises `UsageError`."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"--set {pair!r} is no setting", next_step="write --set NAME=VALUE")
        found[name] = value
    return found


@click.group("recipe", help="List, show and check the recipes of captures.")
def recipe() -> None:
    """Only a group."""


@recipe.command("list", help="List the recipes that can be named.")
@_FORMAT
def list_recipes(output: str) -> int:
    rows: list[dict[str, Any]] = []
    for name in names():
        try:
            found = parse_recipe(*recipe_text(name), {})
            about = {"description": found.description, "source": found.source, "problem": ""}
        except KdebugError as error:
            about = {"description": "", "source": "", "problem": str(error)}
        rows.append({"name": name, **about})
    cells = [[row["name"], row["description"] or row["problem"]] for row in rows]
    failed = any(row["problem"] for row in rows)
    return emit(
        Document({"recipes": rows}, lambda wide: table(["NAME", "TAKES"], cells), partial=failed), output
    )


@recipe.command("show", help="Print a recipe as YAML, to be changed and given to --recipe.")
@click.argument("name")
def show(name: str) -> int:
    write_bytes(recipe_text(name)[0].encode("utf-8", "surrogateescape"))
    return 0


@recipe.command("check", help="Check a recipe: every mistake is told with its line.")
@click.argument("name", metavar="FILE")
@_SET
@_FORMAT
def check(name: str, settings: tuple[str, ...], output: str) -> int:
    text, source = recipe_text(name)
    found = parse_recipe(text, source, settings_of(settings))
    return emit(Document(recipe_document(found), lambda wide: recipe_lines(found)), output)


@recipe.command("schema", help="Print the JSON Schema of recipes, for editors.")
def schema() -> int:
    from kdebug.capture.recipe_schema import text

    write_bytes(text().encode("ascii"))
    return 0


def recipe_document(found: Recipe) -> dict[str, Any]:
    return {
        "name": found.name, "description": found.description, "source": found.source,
        "parameters": found.parameters, "max_bytes": found.max_bytes, "deadline_seconds": found.deadline,
        "steps": [{"name": s.name, "kind": s.kind, "line": s.line, "takes": takes(s)} for s in found.steps],
    }  # fmt: skip


def recipe_lines(found: Recipe) -> list[str]:
    rows = [[s.line, s.name, s.kind, f"{s.deadline:g} s", size(s.max_bytes), takes(s)] for s in found.steps]
    head = f"{found.name}: at most {size(found.max_bytes)} in {found.deadline:g} s"
    return [head, *table(["LINE", "STEP", "KIND", "DEADLINE", "BYTES", "TAKES"], rows, right="LINE BYTES")]


def takes(step: Step) -> str:
    """In a few words."""
    items = ", ".join([request.name for request in step.requests] or step.items)
    if step.samples is not None:
        return f"{items}, {step.samples.count} times {step.samples.every:g} s apart"
    return items


COMMANDS: dict[str, click.Command] = {"recipe": recipe}
