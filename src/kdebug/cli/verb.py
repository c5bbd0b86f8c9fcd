"""What all verbs share: options, the event loop, the deadline, and opening the target."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from kdebug.cli import console
from kdebug.errors import DeadlinePassed, UsageError
from kdebug.expression import TargetExpression, parse
from kdebug.open import OpenOptions, open_target
from kdebug.target import Target

T = TypeVar("T")

DEFAULT_TIMEOUT = 30.0


@dataclass(frozen=True)
class Common:
    """Options that every verb on a target takes."""

    output: str
    timeout: float
    read_only: bool

    def open_options(self) -> OpenOptions:
        return OpenOptions(self.read_only, self.timeout, console.note)


Verb = Callable[..., Coroutine[Any, Any, int]]


def common_options(formats: tuple[str, ...] = ("table", "wide", "json", "yaml")) -> Callable[[Any], Any]:
    """-o, --timeout and --read-only, gathered into one `common` argument."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @click.option("-o", "--output", type=click.Choice(formats), default="table", show_default=True)
        @click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            default=DEFAULT_TIMEOUT,
            show_default=True,
            metavar="SECONDS",
            help="give up waiting for an answer after this long",
        )
        @click.option(
            "--read-only", is_flag=True, help="let the agent refuse whatever would change anything"
        )
        @functools.wraps(function)
        def wrapper(output: str, timeout: float, read_only: bool, **arguments: Any) -> Any:
            return function(common=Common(output, timeout, read_only), **arguments)

        return wrapper

    return decorate


def with_target(
    expression: TargetExpression, common: Common, work: Callable[[Target], Awaitable[int]]
) -> int:
    """Open the target, do `work` with it, close it; returns the exit code."""

    async def opened() -> int:
        async with open_target(expression, common.open_options()) as target:
            return await work(target)

    return asyncio.run(opened())


async def within(seconds: float, what: str, work: Awaitable[T]) -> T:
    """`work`, or `DeadlinePassed` after `seconds`."""
    try:
        return await asyncio.wait_for(work, seconds)
    except asyncio.TimeoutError:
        raise DeadlinePassed(
            f"{what} took longer than {seconds:g} s", next_step="give it more time with --timeout"
        ) from None


def document_verb(
    name: str,
    build: Callable[..., Awaitable[console.Document]],
    *parameters: Callable[[Any], Any],
    formats: tuple[str, ...] = ("table", "wide", "json", "yaml"),
    help_text: str = "",
) -> click.Command:
    """A verb that asks one target once and prints one document."""

    def callback(target: str, common: Common, **arguments: Any) -> int:
        expression = parse(target)
        if expression.path:
            raise UsageError(
                f"{name} takes no path",
                next_step=f"leave out the part behind {expression}, or use a file verb",
            )

        async def work(opened: Target) -> int:
            document = await within(common.timeout, name, build(opened, **arguments))
            return console.emit(document, common.output)

        return with_target(expression, common, work)

    decorated: Any = common_options(formats)(callback)
    for parameter in reversed(parameters):
        decorated = parameter(decorated)
    decorated = click.argument("target")(decorated)
    return click.command(name, help=help_text, context_settings={"help_option_names": ["-h", "--help"]})(
        decorated
    )
