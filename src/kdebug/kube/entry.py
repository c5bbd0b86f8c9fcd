"""From a target expression and options to an open target in a pod: what `open` calls."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Callable

from kdebug import __version__
from kdebug.channel.delivery import HOLD_VARIABLE, hold_command, hold_program
from kdebug.errors import UsageError
from kdebug.expression import TargetExpression
from kdebug.kube import account, ephemeral, ladder
from kdebug.kube.api import Api
from kdebug.kube.attach import Attachment, AttachOptions
from kdebug.kube.config import Choice, load_config
from kdebug.kube.ephemeral import Lifetime, ToolboxSpec
from kdebug.kube.images import DEFAULT_IMAGE
from kdebug.kube.pods import Object, Selected, select
from kdebug.kube.shell import PodShells
from kdebug.target import Target
from kdebug.target.options import OpenOptions, PodOptions

CONNECT_SECONDS = 4.0
"""An address that swallows packets is told within the 5 s that a failure may take."""


async def open_api(options: OpenOptions, stack: contextlib.AsyncExitStack) -> Api:
    """The API server that the options name; closed with `stack`."""
    pod = options.pod
    config = await load_config(Choice(pod.kubeconfig, pod.context, pod.namespace))
    api = Api(config, seconds=options.request_seconds, connect=options.patience or CONNECT_SECONDS)
    stack.push_async_callback(api.close)
    return api


def profile(text: str) -> tuple[str, Object | None]:
    """A rung's name, or the contents of a YAML file. Raises `UsageError`."""
    if text in ladder.PROFILES:
        return text, None
    if not os.path.exists(text):
        raise UsageError(
            f"there is no profile {text}",
            next_step=f"use {', '.join(ladder.PROFILES)}, or the path of a YAML file",
        )
    import yaml

    try:
        with open(text, encoding="utf-8") as file:
            custom: Any = yaml.safe_load(file)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"the profile {text} cannot be read", why=" ".join(str(error).split())) from error
    if not isinstance(custom, dict):
        raise UsageError(
            f"the profile {text} is not a mapping", next_step="write a securityContext in YAML"
        )
    return "custom", custom


def toolbox_spec(pod: PodOptions) -> ToolboxSpec:
    """What every toolbox of this run is made of."""
    lifetime = Lifetime(pod.ttl, pod.max_ttl, pod.idle)
    arguments = ("--ttl", lifetime.ttl, "--max-ttl", lifetime.max_ttl, "--idle", lifetime.idle)
    command = hold_command(*(f"{word:g}" if isinstance(word, float) else word for word in arguments))
    return ToolboxSpec(
        pod.image or DEFAULT_IMAGE, tuple(command), {HOLD_VARIABLE: hold_program()}, __version__, pod.reason
    )


async def choose(
    api: Api, expression: TargetExpression, pod: PodOptions, note: Callable[[str], None]
) -> Selected:
    """The pod and container that are meant, with a word about what was chosen."""
    selected = await select(api, expression, pod.container, pod.selector)
    for line in selected.notes:
        note(line)
    return selected


async def open_pod(
    expression: TargetExpression, options: OpenOptions, stack: contextlib.AsyncExitStack
) -> Target:
    """Attach, and say what was created, changed or refused on the way."""
    pod = options.pod
    name, custom = profile(pod.profile)
    api = await open_api(options, stack)
    selected = await choose(api, expression, pod, options.note)
    if not ephemeral.running(selected.pod, selected.container):
        from kdebug.kube import headroom

        for line in await headroom.warnings(api, selected):
            options.note(line)
    attempt = Attachment(
        api,
        selected,
        AttachOptions(
            spec=toolbox_spec(pod),
            profile=name,
            custom=custom,
            read_only=options.read_only,
            root_pid=options.root_pid,
            seconds=options.request_seconds,
            wait=pod.wait,
            wait_seconds=options.patience,
            step=options.step,
        ),
    )
    try:
        attached = await attempt.run()
    except BaseException as error:
        # Also when it is interrupted: what was added remains.
        for line in account.failed_lines(attempt.report, selected.label, error):
            options.note(line)
        raise
    stack.push_async_callback(attached.backend.close)
    for line in account.attached_lines(attached):
        options.note(line)
    target = Target(attached.backend, attached.info, str(expression))
    target.place = f"{api.config.context} {attached.selected.label} › {attached.selected.container}"
    target.rung = attached.report.rung.name if attached.report.rung else ""
    target.shells = PodShells(attached.backend.toolbox)
    target.ends_by = account.ends_by(attached, pod.max_ttl)
    target.account = tuple(account.leaving_lines(attached, pod.idle, pod.ttl, pod.max_ttl))
    return target
