"""What a capture would take and cost, how far it is, and what came of it, as lines of a page. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kdebug.tui.lines import BLANK, Line
from kdebug.tui.theme import BAD, DIM, GOOD, PLAIN, STRONG, WARN
from kdebug.units import size

if TYPE_CHECKING:
    from kdebug.capture.plan import PlannedStep
    from kdebug.capture.recipe import Recipe
    from kdebug.capture.runner import Result
    from kdebug.capture.work import Progress

STYLES = {"complete": GOOD, "partial": WARN, "interrupted": WARN}
MARKS = {GOOD: "✓", WARN: "!"}
NAMES, KINDS = 14, 12
"""Widths of columns."""


def offline_lines() -> Iterator[Line]:
    yield Line("Nothing can be captured here", STRONG)
    yield Line("This is a bundle: what it holds was captured already, and it cannot be asked for more.")
    yield Line("`kdebug bundle ls` lists what it holds, `kdebug bundle extract` takes it out.", DIM)


def plan_lines(recipe: Recipe, steps: Sequence[PlannedStep], rung: str) -> Iterator[Line]:
    from kdebug.capture.plan import AGENT_MEMORY_BYTES, cost

    total = cost(steps)
    where = f" on the rung {rung}" if rung else ""
    yield Line(f"{recipe.name}{where} would take at most about {total.artifacts} artifacts", STRONG, 2)
    yield Line(
        f"about {size(total.bytes_about)}, at most {size(recipe.max_bytes)} in {recipe.deadline:g} s",
        PLAIN,
        2,
    )
    yield Line(
        f"the agent: about {total.cpu_ms_about:.0f} ms of CPU and up to {size(AGENT_MEMORY_BYTES)} of "
        "the target's memory; the target is never paused",
        PLAIN,
        2,
    )
    yield Line("[c] captures it", GOOD)
    yield BLANK
    yield Line(_columns("STEP", "KIND", "ARTIFACTS", "BYTES", "CPU MS", "NOT TAKEN"), DIM)
    for step in steps:
        told = _columns(
            step.name, step.kind, str(step.artifacts), size(step.bytes_about), f"{step.cpu_ms_about:.0f}",
            step.not_taken,
        )  # fmt: skip
        yield Line(told, WARN if step.not_taken else PLAIN, NAMES + KINDS)


def _columns(name: str, kind: str, artifacts: str, taken: str, cpu: str, not_taken: str) -> str:
    left = f"{name[:NAMES]:<{NAMES}} {kind[:KINDS]:<{KINDS}}"
    return f"{left} {artifacts:>9} {taken:>8} {cpu:>6}  {not_taken}".rstrip()


def progress_lines(name: str, path: str, progress: Progress | None, seconds: float) -> Iterator[Line]:
    yield Line(f"capturing {name} for {seconds:.0f} s", STRONG)
    if progress is None:
        yield Line("the first look")
    else:
        yield Line(f"{progress.artifacts} artifacts, {size(progress.taken_bytes)}; now {progress.step}")
    yield Line(f"into {path}", DIM, 2)
    yield BLANK
    yield Line("[x] ends it: what was taken until then makes a bundle")


def result_lines(name: str, result: Result) -> Iterator[Line]:
    style = STYLES[result.status]
    yield Line(f"{MARKS[style]} {name}: {result.status}", style)
    others = [f"{count} {word}" for word, count in sorted(result.outcomes.items()) if word != "success"]
    count = sum(result.outcomes.values())
    yield Line(f"{count} artifacts" + (f" ({', '.join(others)})" if others else ""))
    yield Line(f"{size(result.taken_bytes)} in {result.seconds:.1f} s, {size(result.size_bytes)} packed")
    yield Line(result.path, STRONG)
    yield Line("[o] opens it here  [y] copies its path", GOOD)
    if result.problems:
        yield BLANK
        yield Line("not all was taken", WARN)
        yield from (Line(f"  {problem}", PLAIN, 4) for problem in result.problems)


def failure_lines(what: str, problem: str) -> Iterator[Line]:
    yield Line(f"✗ {what}", BAD, 2)
    yield Line(problem, PLAIN, 2)
