"""What all verbs share: options, the event loop, the deadline, and opening the target."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import click

from kdebug import settings
from kdebug.cli import console
from kdebug.cli.running import run
from kdebug.errors import DeadlinePassed, UsageError
from kdebug.expression import EXAMPLES, OWNERS, TargetExpression, parse
from kdebug.open import OpenOptions, PodOptions, open_target
from kdebug.protocol.record import Record, dataclass, field
from kdebug.target import Target

T = TypeVar("T")

DEFAULT_TIMEOUT = 30.0


@dataclass(frozen=True, eq=False, repr=False)
class Common(Record):
    """Options that every verb on a target takes."""

    output: str
    timeout: float
    read_only: bool
    verbose: bool = False
    pod: PodOptions = field(default_factory=PodOptions)
    patience: float = 0.0
    """The timeout, where the user gave one; else 0."""
    root_pid: int = 0
    """--pid of the verbs on files."""

    def open_options(self) -> OpenOptions:
        step = console.note if self.verbose else lambda line: None
        return OpenOptions(
            self.read_only, self.timeout, self.patience, console.note, step, self.pod, self.root_pid
        )


Verb = Callable[..., Coroutine[Any, Any, int]]


def cluster_options(short_selector: bool = True, short_cluster: bool = True) -> list[Callable[[Any], Any]]:
    """Which cluster, pod and container, as kubectl names them; without the letters that a verb needs."""
    selector = ("-l", "--selector") if short_selector else ("--selector",)
    namespace = ("-n", "--namespace") if short_cluster else ("--namespace",)
    container = ("-c", "--container") if short_cluster else ("--container",)
    return [
        click.option(*namespace, "namespace", default="", help="namespace (default: the context's)"),
        click.option("--context", default="", help="context of the kubeconfig"),
        click.option("--kubeconfig", default="", metavar="FILE", help="kubeconfig to use"),
        click.option(*container, "container", default="", help="container of the pod"),
        click.option(*selector, "selector", default="", help="choose a pod by labels"),
    ]


def toolbox_options() -> list[Callable[[Any], Any]]:
    """How the toolbox is made, where one is needed. The defaults come from the user's configuration."""
    return [
        click.option("--image", default=None, help="toolbox image (default: a python slim image)"),
        click.option(
            "--profile",
            default=None,
            metavar="auto|match|ptrace|netadmin|sysadmin|FILE",
            help="access rung",
        ),
        click.option("--reason", default=None, help="why; kept in the toolbox' environment"),
        click.option(
            "--ttl", type=_SECONDS, default=None, metavar="SECONDS", help="toolbox' life when unused"
        ),
        click.option("--max-ttl", type=_SECONDS, default=None, metavar="SECONDS", help="its life at most"),
        click.option(
            "--idle", type=_SECONDS, default=None, metavar="SECONDS", help="ends after so long unused"
        ),
        click.option(
            "--wait", is_flag=True, help="wait until the container starts, or as long as --timeout"
        ),
    ]


_SECONDS = click.FloatRange(min=0, min_open=True)
_CLUSTER = ("namespace", "context", "kubeconfig", "container", "selector")
_TOOLBOX = ("image", "profile", "reason", "ttl", "max_ttl", "idle")


def pod_options(arguments: dict[str, Any]) -> PodOptions:
    """Take the options above out of a verb's arguments; what was not given comes from the settings."""
    given = {name: arguments.pop(name, "") for name in _CLUSTER}
    configured = settings.load()
    built_in = PodOptions()
    for name in _TOOLBOX:
        value = arguments.pop(name, None)
        given[name] = configured.get(name, getattr(built_in, name)) if value is None else value
    return PodOptions(**given, wait=arguments.pop("wait", False))


def common_options(
    formats: tuple[str, ...] = ("table", "wide", "json", "yaml"),
    short_selector: bool = True,
    short_cluster: bool = True,
    long_output: bool = True,
) -> Callable[[Any], Any]:
    """-o, --timeout, --read-only and those of clusters, gathered into one `common` argument."""
    verbose = ("-v", "--verbose") if short_cluster else ("--verbose",)
    output = ("-o", "--output") if long_output else ("-o",)
    options = [
        click.option(*output, "output", type=click.Choice(formats), default="table", show_default=True),
        click.option(
            "--timeout", type=_SECONDS, default=None, metavar="SECONDS",
            help=f"give up waiting for an answer after this long (default {DEFAULT_TIMEOUT:g})",
        ),
        click.option("--read-only", is_flag=True, help="the agent refuses to change anything"),
        click.option(*verbose, "verbose", is_flag=True, help="show each step and each refused rung"),
        *cluster_options(short_selector, short_cluster),
        *toolbox_options(),
    ]  # fmt: skip

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(
            output: str, timeout: float | None, read_only: bool, verbose: bool, **arguments: Any
        ) -> Any:
            pod, configured = pod_options(arguments), settings.load()
            patience = configured.get("timeout", 0.0) if timeout is None else timeout
            only_read = read_only or configured.get("read_only", False)
            common = Common(output, patience or DEFAULT_TIMEOUT, only_read, verbose, pod, patience)
            return function(common=common, **arguments)

        decorated: Any = wrapper
        for option in reversed(options):
            decorated = option(decorated)
        return decorated  # type: ignore[no-any-return]

    return decorate


def with_target(
    expression: TargetExpression, common: Common, work: Callable[[Target], Awaitable[int]]
) -> int:
    """Open the target, do `work` with it, close it; returns the exit code."""

    async def opened() -> int:
        async with open_target(expression, common.open_options()) as target:
            return await work(target)

    return run(opened())


async def within(seconds: float, what: str, work: Awaitable[T]) -> T:
    """`work`, or `DeadlinePassed` after `seconds`."""
    try:
        return await asyncio.wait_for(work, seconds)
    except asyncio.TimeoutError:
        raise DeadlinePassed(
            f"{what} took longer than {seconds:g} s", next_step="give it more time with --timeout"
        ) from None


def one_target(words: tuple[str, ...], common: Common) -> TargetExpression:
    """`TARGET`, `pod NAME`, or nothing where -l chooses. Raises `UsageError`."""
    if not words and common.pod.selector:
        return TargetExpression("pod", "")
    if len(words) == 2 and words[0] in OWNERS:
        return parse("/".join(words))
    if len(words) != 1:
        raise UsageError("one target is wanted", next_step=EXAMPLES)
    return parse(words[0])


def document_verb(
    name: str,
    build: Callable[..., Awaitable[console.Document]],
    *parameters: Callable[[Any], Any],
    formats: tuple[str, ...] = ("table", "wide", "json", "yaml"),
    help_text: str = "",
) -> click.Command:
    """A verb that asks one target once and prints one document."""

    def callback(target: tuple[str, ...], common: Common, **arguments: Any) -> int:
        expression = one_target(target, common)
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
    decorated = click.argument("target", nargs=-1, metavar="TARGET")(decorated)
    return click.command(name, help=help_text, context_settings={"help_option_names": ["-h", "--help"]})(
        decorated
    )
