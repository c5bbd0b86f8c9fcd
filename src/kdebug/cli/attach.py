"""attach and demo: the terminal UI on a terminal, one screen of text elsewhere."""

from __future__ import annotations

import os
from typing import Optional

import click

from kdebug.cli import console
from kdebug.cli.verb import Common, common_options, one_target, with_target, within
from kdebug.errors import UsageError
from kdebug.expression import TargetExpression
from kdebug.target import Target


@click.command(
    "attach",
    help="Open the terminal UI on a target; without one, pick a pod. In a pipe: one screen of text.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("target", nargs=-1, metavar="[TARGET]")
@common_options()
def attach(target: tuple[str, ...], common: Common) -> int:
    words = () if target == ("pod",) else target
    picking = not words and not common.pod.selector
    if common.output == "table" and on_terminal():
        return run_ui(None if picking else target_of(words, common), common)
    if picking:
        raise UsageError(
            "a pod is picked on a terminal", next_step="name a target, or run it on a terminal"
        )

    async def work(opened: Target) -> int:
        from kdebug.cli.overview import attach_document

        document = await within(common.timeout, "attach", attach_document(opened))
        return console.emit(document, common.output)

    return with_target(target_of(words, common), common, work)


@click.command(
    "demo",
    help="Start a practice target without a shell and look into it, with a guided tour. "
    "In a pipe: one screen of text.",
)
@common_options()
def demo(common: Common) -> int:
    expression = TargetExpression("demo", "")
    if common.output == "table" and on_terminal():
        return run_ui(expression, common, tour=True)

    async def work(target: Target) -> int:
        from kdebug.cli.overview import demo_document

        return console.emit(await within(common.timeout, "demo", demo_document(target)), common.output)

    return with_target(expression, common, work)


def target_of(words: tuple[str, ...], common: Common) -> TargetExpression:
    expression = one_target(words, common)
    if expression.path:
        raise UsageError("attach takes no path", next_step="leave it out; the Files tab goes there")
    return expression


def on_terminal() -> bool:
    """Whether there is somebody to show a screen to, and keys to read."""
    return os.isatty(0) and os.isatty(1) and os.environ.get("TERM") != "dumb"


def run_ui(expression: Optional[TargetExpression], common: Common, tour: bool = False) -> int:
    """Until it is left; then the account is printed, for it is gone from the screen."""
    from kdebug.tui.app import run

    account, problem = run(expression, common.open_options(), tour=tour)
    for line in account:
        console.note(line)
    if problem:
        console.note(problem)
    return 1 if problem else 0


COMMANDS: dict[str, click.Command] = {"attach": attach, "demo": demo}
