"""The composition root: from a target expression to a `Target`.

Only here is it decided which backend, channel and agent stand behind a target; everything is imported
when it is needed, so that `local:` loads no Kubernetes client and `--help` loads nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterator
from typing import Any, Optional

from kdebug.errors import Failed, KdebugError, UsageError
from kdebug.expression import OWNERS, TargetExpression
from kdebug.protocol.requests import OpenTarget
from kdebug.target import Backend, Target
from kdebug.target.cluster import Cluster, ContextInfo
from kdebug.target.options import OpenOptions, PodOptions

__all__ = [
    "OpenOptions",
    "PodOptions",
    "contexts",
    "knows_pod",
    "open_cluster",
    "open_target",
    "role_objects",
]

AGENT_VARIABLE = "KDEBUG_LOCAL_AGENT"
"""How `local:` and `demo:` reach the probes: thread (default), process (an agent over pipes), or
delivered (an agent loaded from stdin, as on a stock image). For tests and for the curious."""


@contextlib.asynccontextmanager
async def open_target(expression: TargetExpression, options: OpenOptions) -> AsyncIterator[Target]:
    """Open, yield, close. Raises `UsageError`, `NotFound`, `AccessDenied`, `Failed`, `ConnectionLost`."""
    async with contextlib.AsyncExitStack() as stack:
        if expression.scheme in OWNERS:
            from kdebug.kube.entry import open_pod

            yield await open_pod(expression, options, stack)
            return
        if expression.scheme == "bundle":
            yield await _open_bundle(expression, stack)
            return
        pid = _target_pid(expression, options, stack)
        backend = await _local_backend(options)
        stack.push_async_callback(backend.close)
        request = OpenTarget(pid=pid, read_only=options.read_only, root_pid=options.root_pid)
        yield await Target.open(backend, request, str(expression))


async def _open_bundle(expression: TargetExpression, stack: contextlib.AsyncExitStack) -> Target:
    from kdebug.capture.offline import OfflineBackend
    from kdebug.capture.reader import BundleReader
    from kdebug.capture.timeline import BundleTimeline

    backend = OfflineBackend(BundleReader(expression.value))
    stack.push_async_callback(backend.close)
    target = Target(backend, backend.info, str(expression))
    target.timeline = BundleTimeline(backend)
    return target


@contextlib.asynccontextmanager
async def open_cluster(
    options: OpenOptions, expression: Optional[TargetExpression] = None
) -> AsyncIterator[Cluster]:
    """The API server that the options name, or what the bundle of `expression` knows of its pod. Raises as
    `open_target`."""
    async with contextlib.AsyncExitStack() as stack:
        if expression is not None and expression.scheme == "bundle":
            yield _bundle_cluster(expression, options, stack)
            return
        from kdebug.kube import cluster

        yield await cluster.open_cluster(options, stack)


def _bundle_cluster(
    expression: TargetExpression, options: OpenOptions, stack: contextlib.AsyncExitStack
) -> Cluster:
    from kdebug.capture.offline_cluster import OfflineCluster
    from kdebug.capture.reader import BundleReader

    return OfflineCluster(stack.enter_context(BundleReader(expression.value)), options.pod.container)


def knows_pod(expression: TargetExpression) -> bool:
    """Whether there is a pod with a story and logs behind a target."""
    if expression.scheme != "bundle":
        return expression.scheme in OWNERS
    from kdebug.capture.offline_cluster import POD
    from kdebug.capture.reader import BundleReader

    try:
        with BundleReader(expression.value) as bundle:
            return POD in bundle.members
    except KdebugError:
        return False  # whoever opens it is told


def contexts(options: OpenOptions) -> list[ContextInfo]:
    """Every context of the kubeconfig that the options name. Raises `UsageError` where it is unreadable."""
    from kdebug.kube import config

    pod = options.pod
    return config.contexts(config.Choice(pod.kubeconfig, pod.context, pod.namespace))


def role_objects(
    namespace: str, name: str, subject: dict[str, str], *, useful: bool
) -> list[dict[str, Any]]:
    """The Role and RoleBinding that kdebug needs, as plain objects."""
    from kdebug.kube import rights

    return rights.role(namespace, name, subject, useful)


def _target_pid(
    expression: TargetExpression, options: OpenOptions, stack: contextlib.AsyncExitStack
) -> int:
    if expression.scheme == "local":
        require_linux("local:")
        return int(expression.value)
    if expression.scheme == "demo":
        from kdebug.demo import start_demo

        demo = start_demo()
        stack.callback(demo.stop)
        options.note(demo.note)
        return demo.pid
    raise Failed(
        f"{expression} cannot be opened",
        why="this version of kdebug opens pods, local:PID, bundle:FILE and demo:",
        next_step="try `kdebug demo`",
    )


def require_linux(what: str) -> None:
    """Raise `Failed` where there is no /proc to read."""
    if sys.platform != "linux":
        raise Failed(
            f"{what} does not work on {sys.platform}",
            why="it reads the /proc file system of Linux",
            next_step="look into a pod, or open a recorded bundle",
        )


async def _local_backend(options: OpenOptions) -> Backend:
    how = os.environ.get(AGENT_VARIABLE, "thread")
    if how == "thread":
        return _thread_backend(options)
    if how == "process":
        return await _process_backend(options)
    if how == "delivered":
        return await _delivered_backend(options)
    raise UsageError(f"{AGENT_VARIABLE}={how} is unknown", next_step="use thread, process or delivered")


def _thread_backend(options: OpenOptions) -> Backend:
    from kdebug.agent.session import Session
    from kdebug.target.local import LocalBackend

    return LocalBackend(Session(read_only=options.read_only), request_seconds=options.request_seconds)


async def _process_backend(options: OpenOptions) -> Backend:
    from kdebug.channel.subprocess import SubprocessChannel, local_agent_command
    from kdebug.target.connection import Connection

    channel = await SubprocessChannel.start(local_agent_command(*_agent_flags(options)))
    return await Connection.open(channel, request_seconds=options.request_seconds)


async def _delivered_backend(options: OpenOptions) -> Backend:
    from kdebug.channel.delivery import archive, delivered_agent_command
    from kdebug.channel.subprocess import SubprocessChannel
    from kdebug.target.connection import Connection

    payload = archive()
    command = delivered_agent_command(payload, *_agent_flags(options), python=sys.executable)
    channel = await SubprocessChannel.start(command)
    await channel.write(payload)
    return await Connection.open(channel, request_seconds=options.request_seconds)


def _agent_flags(options: OpenOptions) -> list[str]:
    return ["--read-only"] if options.read_only else []
