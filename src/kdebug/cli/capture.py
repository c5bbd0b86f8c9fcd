"""capture: the evidence of a recipe, from one pod into a bundle or from several into a folder of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, Optional

import click

from kdebug.capture import sealing
from kdebug.capture.delivery import Delivered, Delivery
from kdebug.capture.recipe import Recipe, load_recipe
from kdebug.capture.recipe_fields import duration
from kdebug.capture.recipe_fields import size as bytes_of
from kdebug.capture.redaction import (
    DETECTORS,
    UNREDACTABLE,
    Choices,
    NoRedaction,
    Redaction,
    configured,
    redactions,
)
from kdebug.capture.runner import Result
from kdebug.capture.upload import Store
from kdebug.capture.work import Progress
from kdebug.capturing import SUFFIX, Fleet, PodState, capture, default_name
from kdebug.cli.console import Document, emit, note, progress, write_bytes
from kdebug.cli.recipe import settings_of
from kdebug.cli.running import run
from kdebug.cli.table import cell, size
from kdebug.cli.verb import Common, common_options, one_target
from kdebug.errors import EXIT_INTERRUPTED, UsageError
from kdebug.expression import OWNERS, TargetExpression
from kdebug.open import open_cluster

BUSY = ("attaching", "capturing", "sending")
EXITS = {"complete": 0, "partial": 1, "interrupted": EXIT_INTERRUPTED}


def value_of(read: Any, text: str, option: str) -> Any:
    try:
        return read(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error


@click.command(
    "capture",
    help="Take the evidence of a recipe into one file, redacted; several pods into a folder of them.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("target", nargs=-1, metavar="TARGET")
@click.option("-r", "--recipe", "name", default="standard", show_default=True, metavar="NAME|FILE")
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="set a parameter of the recipe"
)
@click.option("--output", "path", default="", metavar="FILE", help="the bundle, or the folder of several")
@click.option(
    "--to",
    "url",
    default="",
    metavar="URL",
    help="send it into this folder of a store: s3://, gs://, az://, file:// (--output keeps a copy)",
)
@click.option(
    "--encrypt-to",
    "recipients",
    multiple=True,
    metavar="RECIPIENT",
    help="encrypt it with age: age1..., ssh-ed25519 ..., or a file of them",
)
@click.option("--dry-run", is_flag=True, help="only say what would be taken, its cost, and what cannot be")
@click.option("--max-bytes", default="", metavar="SIZE", help="take at most so much")
@click.option("--deadline", default="", metavar="DURATION", help="end after so long, whatever is missing")
@click.option("--all", "every", is_flag=True, help="every pod of TARGET, of -l, or of the namespace")
@click.option(
    "--redact-rules", "rules", multiple=True, metavar="FILE", help="rules of your own (docs/redaction.md)"
)
@click.option(
    "--redact-key",
    "key",
    default=None,
    metavar="FILE",
    help="key of the tokens, to compare bundles of several captures (default: one for each)",
)
@click.option(
    "--redact-also", "also", multiple=True, type=click.Choice(DETECTORS), help="what is no secret to all"
)
@click.option(
    "--keep-unredacted",
    "include",
    multiple=True,
    type=click.Choice(UNREDACTABLE),
    help="files that nothing can be found in, left out otherwise",
)
@click.option("--no-redact", is_flag=True, help="keep secrets as they are (wants --i-know)")
@click.option("--i-know", is_flag=True, help="yes, the bundle may hold secrets")
@common_options(("table", "json", "yaml"), long_output=False)
def capture_verb(
    target: tuple[str, ...], name: str, settings: tuple[str, ...], path: str, url: str,
    recipients: tuple[str, ...], dry_run: bool, max_bytes: str, deadline: str, every: bool,
    rules: tuple[str, ...], key: str | None, also: tuple[str, ...], include: tuple[str, ...],
    no_redact: bool, i_know: bool, common: Common,
) -> int:  # fmt: skip
    if no_redact and not i_know:
        raise UsageError(
            "--no-redact keeps passwords and tokens in the file",
            next_step="add --i-know where that is wanted",
        )
    recipe = load_recipe(name, settings_of(settings))
    if max_bytes:
        recipe = replace(recipe, max_bytes=value_of(bytes_of, max_bytes, "--max-bytes"))
    if deadline:
        recipe = replace(recipe, deadline=value_of(duration, deadline, "--deadline"))
    if no_redact and (rules or key or also):
        raise UsageError("--no-redact leaves nothing to the rules", next_step="leave one of them out")
    making = redactions(not no_redact, _choices(rules, key, also, include))
    if making is NoRedaction:
        note("nothing is redacted: the bundle may hold secrets")
    delivery = _delivery(url, recipients, bool(path))
    if every or common.pod.selector:
        if dry_run:
            raise UsageError("a dry run is one of one pod", next_step="name it")
        return until_signal(_several(_all_of(target, common), common, recipe, path, making, delivery))
    expression = one_target(target, common)
    if expression.path:
        raise UsageError("capture takes no path", next_step="name paths in a recipe: `kdebug recipe show`")
    if dry_run:
        from kdebug.cli.capture_plan import dry_run as plan

        return until_signal(plan(expression, common, recipe))
    return until_signal(_one(expression, common, recipe, path, making(), delivery))


def _choices(
    rules: tuple[str, ...], key: str | None, also: tuple[str, ...], include: tuple[str, ...]
) -> Choices:
    """Beside the configured rules, which always hold."""
    always = configured()
    return Choices((*always.rules, *rules), always.key if key is None else key, also, include)


def _delivery(url: str, recipients: tuple[str, ...], keep: bool) -> Delivery:
    """Asks for what it takes before anything is captured. Raises `UsageError`."""
    return Delivery(sealing.recipients(recipients) if recipients else [], Store(url) if url else None, keep)


def _all_of(words: tuple[str, ...], common: Common) -> Optional[TargetExpression]:
    """Whose pods are meant; None for those of the selector or the namespace."""
    if not words:
        return None
    expression = one_target(words, common)
    if expression.scheme not in OWNERS:
        raise UsageError(f"--all is for pods, not for {expression}")
    if common.pod.selector:
        raise UsageError(f"both {expression} and a selector are given", next_step="leave one out")
    return expression


def until_signal(work: Coroutine[Any, Any, int]) -> int:
    """Also SIGTERM and SIGHUP close the bundle: whoever ends us wants what was taken until then."""

    async def guarded() -> int:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        assert task is not None
        for number in (signal.SIGTERM, signal.SIGHUP):
            with contextlib.suppress(ValueError, NotImplementedError):
                loop.add_signal_handler(number, task.cancel)
        try:
            return await work
        except asyncio.CancelledError:
            note("interrupted before there was anything to show")
            return EXIT_INTERRUPTED

    return run(guarded())


async def _one(
    expression: TargetExpression,
    common: Common,
    recipe: Recipe,
    path: str,
    redaction: Redaction,
    delivery: Delivery,
) -> int:
    path = path or default_name(str(expression)) + SUFFIX
    line = Line()
    try:
        result = await capture(expression, common.open_options(), recipe, path, redaction, line.captured)
    finally:
        line.clear()
    note(summary(f"{recipe.name} of {expression}", result))
    place = Delivered(result.path)
    if delivery.does_something:
        place = await _delivered(result, delivery, line)
    if common.output == "table":
        write_bytes(os.fsencode(place.url or place.path) + b"\n")
    else:
        told = result.document() | {"path": place.path, "url": place.url, "recipe": recipe.name}
        emit(Document(told, lambda wide: []), common.output)
    if place.remark:
        note(place.remark)
    return EXITS[result.status] or int(bool(place.remark))


async def _delivered(result: Result, delivery: Delivery, line: Line) -> Delivered:
    """After an interrupt as well: what was taken until then is wanted where it should go. A second one ends
    that, too."""
    if result.status == "interrupted" and delivery.store is not None:
        note("what was taken is sent all the same; interrupt again to leave it here")
    try:
        return await delivery.deliver(result.path, line.sent)
    except asyncio.CancelledError:
        line.clear()
        note(f"interrupted; the bundle is here: {delivery.local(result.path)}")
        raise
    finally:
        line.clear()


class Line:
    """The last line of a terminal, while something is under way."""

    def __init__(self) -> None:
        self._drawn = False

    def captured(self, now: Progress) -> None:
        self._draw(f"{now.step}: {now.artifacts} artifacts, {size(now.taken_bytes)}")

    def sent(self, done: int) -> None:
        self._draw(f"sending and comparing: {size(done)}")

    def _draw(self, line: str) -> None:
        self._drawn = progress(line) or self._drawn

    def clear(self) -> None:
        if self._drawn:
            progress("")
            self._drawn = False


def summary(what: str, result: Result) -> str:
    """One line: what came of it, and why it is not all."""
    count = sum(result.outcomes.values())
    others = [f"{n} {word}" for word, n in sorted(result.outcomes.items()) if word != "success"]
    line = f"{what}: {result.status}, {count} artifacts"
    line += f" ({', '.join(others)})" if others else ""
    line += f", {size(result.taken_bytes)} in {result.seconds:.1f} s, {size(result.size_bytes)} packed"
    if result.problems:
        more = f" (and {len(result.problems) - 1} more: `kdebug bundle ls`)" if result.problems[1:] else ""
        line += f"; {result.problems[0]}{more}"
    return line


async def _several(
    expression: Optional[TargetExpression],
    common: Common,
    recipe: Recipe,
    folder: str,
    making: Any,
    delivery: Delivery,
) -> int:
    options = common.open_options()
    async with open_cluster(options) as cluster:
        pods = await cluster.choose_all(expression)
        table = FleetTable(len(pods))
        folder = folder or default_name(str(expression) if expression else cluster.namespace)
        fleet = Fleet(pods, options, recipe, folder, making, table.show, delivery)
        index = await fleet.run()
        table.end(fleet.states)
    states = Counter(state.state for state in fleet.states)
    place = os.path.dirname(index.url) or folder
    if common.output == "table":
        write_bytes(os.fsencode(place) + b"\n")
    else:
        document = {
            "folder": place, "index": index.url or index.path, "pods": [s.document() for s in fleet.states],
        }  # fmt: skip
        emit(Document(document, lambda wide: []), common.output)
    note(f"{recipe.name} of {len(pods)} pods: " + ", ".join(f"{n} {word}" for word, n in states.items()))
    if fleet.remark:
        note(fleet.remark)
    if fleet.interrupted:
        return EXIT_INTERRUPTED
    return 0 if fleet.complete else 1


class FleetTable:
    """On a terminal one line that counts; a line for each pod that ends, everywhere."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._told: set[str] = set()
        self._drawn = False

    def show(self, states: Sequence[PodState]) -> None:
        for state in states:
            if state.state not in ("waiting", *BUSY) and state.pod not in self._told:
                self._told.add(state.pod)
                self._clear()
                why = f"  {state.problem}" if state.problem else ""
                took = f"{state.artifacts} artifacts  {size(state.taken_bytes)}"
                note(f"{state.pod}  {state.state}  {took}{why}")
        busy = [f"{cell(s.pod)} {s.artifacts}" for s in states if s.state in BUSY]
        self._drawn = progress(f"{len(self._told)} of {self._count} pods: {', '.join(busy)}") or self._drawn

    def _clear(self) -> None:
        if self._drawn:
            progress("")
            self._drawn = False

    def end(self, states: Sequence[PodState]) -> None:
        self.show(states)
        self._clear()


COMMANDS: dict[str, click.Command] = {"capture": capture_verb}
