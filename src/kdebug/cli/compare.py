"""diff: what differs between two captures, or a capture and now. compare: which replica is the odd one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections import Counter
from collections.abc import Awaitable, Iterator, Sequence
from typing import Optional

import click

from kdebug.capture.recipe import load_recipe
from kdebug.capture.redaction import redactions
from kdebug.capturing import SUFFIX, Fleet
from kdebug.cli.capture import FleetTable, until_signal
from kdebug.cli.console import Document, emit, fail
from kdebug.cli.table import size, table
from kdebug.cli.verb import Common, common_options, one_target
from kdebug.compare.diff import ADDED, REMOVED, Comparison, Difference, compare
from kdebug.compare.facts import BYTES, Facts
from kdebug.compare.gather import FOLDERS, folders_of, gather, source
from kdebug.compare.odd import Finding, odd_ones
from kdebug.errors import EXIT_FAILED, EXIT_INTERRUPTED, Failed, KdebugError, UsageError, from_os_error
from kdebug.expression import OWNERS, TargetExpression, parse
from kdebug.open import open_cluster
from kdebug.sanitise import one_line
from kdebug.units import age, rfc3339

SAME, DIFFERENT, TROUBLE = 0, 1, 2
"""Exit codes, as diff has them; what is 3 and above elsewhere is the same here."""
MARKS = {ADDED: "+", REMOVED: "-"}
MAX_SHOWN = 60
"""Characters of a value in a table."""
_HELP = {"help_option_names": ["-h", "--help"]}


def side(word: str) -> TargetExpression:
    """A target; a file that is there is a bundle."""
    return TargetExpression("bundle", word) if os.path.isfile(word) else parse(word)


@click.command(
    "diff",
    help="Show what differs between two captures, a capture and now, or two targets. Exit code 0: nothing, "
    "1: something, 2: trouble.",
    context_settings=_HELP,
)
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@common_options()
def diff_verb(a: str, b: str, common: Common) -> int:
    sides = [side(word) for word in (a, b)]
    for expression in sides:
        if expression.path:
            raise UsageError(
                "diff takes no path", next_step="for one file: `kdebug cat` both, and diff them"
            )
    return until_signal(_guarded(_diff(sides, common)))


async def _diff(sides: list[TargetExpression], common: Common) -> int:
    a, b = await _both(sides, common)
    found = compare(a, b)
    emit(diff_document(a, b, found), common.output)
    return DIFFERENT if found.differences else SAME


async def _both(sides: list[TargetExpression], common: Common) -> tuple[Facts, Facts]:
    """Both are open at once, so that what one listed is asked of the other."""
    options = common.open_options()
    async with contextlib.AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(source(side, options)) for side in sides]
        listed = [set(each) for found in (one, other) if (each := folders_of(found.target)) is not None]
        folders = sorted(set.intersection(*listed)) if listed else list(FOLDERS)
        return await gather(one, str(sides[0]), folders), await gather(other, str(sides[1]), folders)


def diff_document(a: Facts, b: Facts, found: Comparison) -> Document:
    data = {
        "a": {"target": a.label, "at": rfc3339(a.at or None)},
        "b": {"target": b.label, "at": rfc3339(b.at or None)},
        "seconds": round(found.seconds, 3),
        "differences": [one.document() for one in found.differences],
        "not_compared": [{"what": what, "why": why} for what, why in found.not_compared],
    }

    def lines(wide: bool) -> list[str]:
        if not found.differences:
            return []
        rows = [_diff_row(one, wide) for one in found.differences]
        return table(["", "SECTION", "WHAT", "A", "B", "PER-MINUTE"], rows, right="PER-MINUTE")

    passed = f", {age(abs(found.seconds))} apart" if found.seconds else ""
    notes = [f"{len(found.differences)} differences{passed}"]
    notes += [f"not compared: {what}: {why}" for what, why in found.not_compared]
    return Document(data, lines, notes=notes)


def _diff_row(one: Difference, wide: bool) -> list[object]:
    limit = 0 if wide else MAX_SHOWN
    before, after, rate = one.before, one.after, ""
    if one.kind:
        before, after = (_amount(one.kind, value) for value in (one.before_amount, one.after_amount))
        rate = "" if one.per_minute is None else _signed(one.kind, one.per_minute)
    shown = [one_line(text, limit) for text in (one.what, before, after)]
    return [MARKS.get(one.change, "~"), one.section, *shown, rate]


def _amount(kind: str, value: Optional[float]) -> str:
    return size(value) if kind == BYTES else f"{value or 0:g}"


def _signed(kind: str, value: float) -> str:
    text = size(abs(value)) if kind == BYTES else f"{abs(value):.3g}"
    return f"{'-' if value < 0 else '+'}{text}"


# Replicas


@click.command(
    "compare",
    help="Capture `quick` of all replicas at once and show which is not like the others: of -l, of an "
    "owner such as deploy/web, of bundles, or of a folder of bundles. Exit code 0: all alike, 1: findings, "
    "2: trouble.",
    context_settings=_HELP,
)
@click.argument("target", nargs=-1, metavar="TARGET|FOLDER|FILE...")
@click.option("--output", "to", default="", metavar="FOLDER", help="keep the bundles there")
@common_options(("table", "json", "yaml"), long_output=False)
def compare_verb(target: tuple[str, ...], to: str, common: Common) -> int:
    paths = bundles_of(target)
    if paths:
        return until_signal(_guarded(_compared(paths, common)))
    expression = one_target(target, common) if target else None
    if expression is not None and (expression.scheme not in OWNERS or expression.scheme == "pod"):
        raise UsageError(
            f"{expression} has no replicas", next_step="name deploy/NAME, -l LABELS, or bundles"
        )
    if expression is None and not common.pod.selector:
        raise UsageError("nothing is named to compare", next_step="name deploy/NAME, -l LABELS, or bundles")
    return until_signal(_guarded(_live(expression, to, common)))


def bundles_of(words: Sequence[str]) -> list[str]:
    """Bundles that are named, or in the folder that is; none where the words are no files."""
    if len(words) == 1 and os.path.isdir(words[0]):
        found = sorted(name for name in os.listdir(words[0]) if name.endswith(SUFFIX))
        if not found:
            raise UsageError(f"there is no bundle in {words[0]}", next_step=f"their names end in {SUFFIX}")
        return [os.path.join(words[0], name) for name in found]
    plain = [word.removeprefix("bundle:") for word in words]
    return plain if plain and all(os.path.isfile(word) for word in plain) else []


async def _guarded(work: Awaitable[int]) -> int:
    """Exit code 1 says that there are findings: failures have another."""
    try:
        return await work
    except KdebugError as error:
        return TROUBLE if fail(error) == EXIT_FAILED else error.exit_code


async def _live(expression: Optional[TargetExpression], to: str, common: Common) -> int:
    options = common.open_options()
    async with open_cluster(options) as cluster:
        pods = await cluster.choose_all(expression)
        if len(pods) < 2:
            raise Failed(f"there is only {pods[0].name}", why="one replica is compared with others")
        with _folder(to) as folder:
            shown = FleetTable(len(pods))
            fleet = Fleet(pods, options, load_recipe("quick"), folder, redactions(), shown.show)
            await fleet.run()
            shown.end(fleet.states)
            if fleet.interrupted:
                return EXIT_INTERRUPTED
            taken = [state.path for state in fleet.states if state.path]
            lost = {state.pod: state.problem for state in fleet.states if not state.path}
            return await _compared(taken, common, lost)


@contextlib.contextmanager
def _folder(to: str) -> Iterator[str]:
    """Where the bundles go: kept where that was asked for."""
    if to:
        yield to
        return
    try:
        with tempfile.TemporaryDirectory(prefix="kdebug-compare-") as place:
            yield os.path.join(place, "bundles")
    except OSError as error:
        raise from_os_error(error, "no folder can be made for the captures") from error


async def _compared(paths: list[str], common: Common, lost: dict[str, str] | None = None) -> int:
    lost = lost or {}
    if len(paths) < 2:
        why = next(iter(lost.values()), "one is compared with others")
        raise Failed(f"there are {len(paths)} captures to compare", why=why)
    replicas = [await _facts(path, common) for path in paths]
    findings, lacking = odd_ones(replicas)
    emit(compare_document(replicas, findings, [*lacking, *lost.items()]), common.output)
    return DIFFERENT if findings or lost else SAME


async def _facts(path: str, common: Common) -> Facts:
    expression = TargetExpression("bundle", path)
    async with source(expression, common.open_options()) as found:
        label = found.pod.name if found.pod is not None else os.path.basename(path).removesuffix(SUFFIX)
        return await gather(found, label, folders_of(found.target) or ())


def compare_document(
    replicas: Sequence[Facts], findings: list[Finding], lacking: list[tuple[str, str]]
) -> Document:
    data = {
        "replicas": [{"name": one.label, "at": rfc3339(one.at or None)} for one in replicas],
        "findings": [one.document() for one in findings],
        "not_compared": [{"what": what, "why": why} for what, why in lacking],
    }
    rows = [
        [
            one.label or "-",
            one.section,
            *(one_line(t, MAX_SHOWN) for t in (one.what, one.value, one.others)),
        ]
        for one in findings
    ]
    count = Counter(one.label for one in findings if one.label)
    odd = ", ".join(f"{label} ({n})" for label, n in count.most_common(5))
    said = f"{odd} stand{'s' if len(count) == 1 else ''} out" if odd else "all are alike"
    notes = [
        f"{len(replicas)} replicas: {said}",
        *(f"not compared: {what}: {why}" for what, why in lacking),
    ]
    headers = ["REPLICA", "SECTION", "WHAT", "VALUE", "OTHERS"]
    return Document(data, lambda wide: table(headers, rows) if rows else [], notes=notes)


COMMANDS: dict[str, click.Command] = {"diff": diff_verb, "compare": compare_verb}
