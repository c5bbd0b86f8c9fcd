"""One source of truth: request in, answer out. The agent's lanes and the local backend both call it.

Probes that not every session needs are loaded at their first request: a delivered agent is compiled at
each attach, inside the pod's CPU quota and memory, and most sessions ask for one thing.
"""

from __future__ import annotations

import sys
import time

from kdebug import threads
from kdebug.agent.budget import refresh_interval
from kdebug.agent.cursors import Cursor
from kdebug.agent.session import NEVER, Session, target_gone
from kdebug.annotations import Any, Callable, Iterable, Optional, TypeVar
from kdebug.errors import AccessDenied, Failed, KdebugError, from_os_error
from kdebug.probe import abilities, files, identity, process_signal
from kdebug.protocol import requests as ask
from kdebug.protocol.files import FileChunk, FileStat, Listing
from kdebug.protocol.network import NetworkConfig, SocketPage
from kdebug.protocol.processes import (
    EnvPage,
    FdPage,
    Limits,
    MapPage,
    ProcessDetail,
    ProcessPage,
    SignalSent,
)
from kdebug.protocol.record import Record, dataclass
from kdebug.protocol.system import Access, AgentInfo, CgroupInfo, MountPage, TargetInfo

R = TypeVar("R")
Handler = Callable[[Session, Any, threads.Event], Any]
_HANDLERS: dict[type, Handler] = {}
_LATER = {
    "kdebug.protocol.grep": "kdebug.agent.dispatch_files",
    "kdebug.protocol.search": "kdebug.agent.dispatch_files",
    "kdebug.protocol.transfer": "kdebug.agent.dispatch_writes",
    "kdebug.protocol.writes": "kdebug.agent.dispatch_writes",
}
"""Handlers by the module of their requests, loaded at the first of them."""


@dataclass(frozen=True, eq=False, repr=False)
class WireError(Record):
    """How a `KdebugError` crosses the wire."""

    kind: str
    what: str
    why: str = ""
    next_step: str = ""
    errno: Optional[int] = None


def wire_error(error: KdebugError) -> WireError:
    return WireError(error.kind, error.what, error.why, error.next_step, error.errno)


def handle(session: Session, request: ask.Request[R], cancelled: threads.Event = NEVER) -> R:
    """Answer `request`, or raise a `KdebugError` that says what, why and what next."""
    request.validate()
    if request.mutates and session.read_only:
        raise AccessDenied(f"{request.name} is refused", why="this session is read-only")
    try:
        answer: R = _handler(type(request))(session, request, cancelled)
        return answer
    except OSError as error:
        raise target_gone(session) or from_os_error(error, f"{request.name} failed") from error


def _handler(request: type) -> Handler:
    if request not in _HANDLERS:
        __import__(_LATER[request.__module__])  # importlib would bring `warnings`
    return _HANDLERS[request]


def handles(request: type) -> Callable[[Handler], Handler]:
    def add(handler: Handler) -> Handler:
        _HANDLERS[request] = handler
        return handler

    return add


def _cursor(session: Session, request: ask.Paged[Any], start: Callable[[], Iterable[Any]]) -> Cursor:
    if request.cursor:
        return session.cursors.take(request.cursor, request.name)
    return Cursor(request.name, iter(start()))


def _page(
    session: Session, cursor: Cursor, limit: int, cancelled: threads.Event
) -> tuple[tuple[Any, ...], str]:
    """One page and the token of the next, "" when there is none."""
    if cancelled.is_set():
        cursor.close()
        raise Failed("the request was cancelled")
    try:
        rows, more = cursor.page(limit)
    except BaseException:
        cursor.close()
        raise
    return tuple(rows), session.cursors.put(cursor) if more else ""


@handles(ask.OpenTarget)
def _open(session: Session, request: ask.OpenTarget, cancelled: threads.Event) -> TargetInfo:
    found = identity.find_target(session.proc, request.pid, request.container)
    session.bind(found.pid, found.start_ticks, found.container, request.read_only, request.root_pid)
    return identity.target_info(session.proc, found, session.read_only)


@handles(ask.GetAgentInfo)
def _agent(session: Session, request: ask.GetAgentInfo, cancelled: threads.Event) -> AgentInfo:
    return identity.agent_info(
        session.proc,
        source_hash=session_source_hash(),
        python=".".join(map(str, sys.version_info[:3])),
        uptime_seconds=time.monotonic() - session.started,
        cpu_quota_cores=session.cpu_quota_cores,
    )


@handles(ask.GetAccess)
def _access(session: Session, request: ask.GetAccess, cancelled: threads.Event) -> Access:
    return abilities.measure(session.proc, session.require_target(), session.root)


@handles(ask.ListProcesses)
def _processes(session: Session, request: ask.ListProcesses, cancelled: threads.Event) -> ProcessPage:
    if request.cursor:
        cursor = session.cursors.take(request.cursor, request.name)
    else:
        # A table without its target would look healthy: say that it has ended instead.
        session.require_target()
        current = session.table().open_pass(request.since, request.fds)
        cursor = Cursor(request.name, current.rows())
        cursor.state = current
    current = cursor.state
    items, token = _page(session, cursor, request.limit, cancelled)
    return ProcessPage(
        items=items,
        generation=current.generation,
        full=current.full,
        gone=() if token else tuple(current.gone()),
        cursor=token,
        taken_at=current.taken_at,
        cost_seconds=current.cost_seconds,
        next_after_seconds=refresh_interval(current.cost_seconds, session.budget_cores()),
        scope=current.scope,
    )


@handles(ask.GetProcess)
def _process(session: Session, request: ask.GetProcess, cancelled: threads.Event) -> ProcessDetail:
    from kdebug.probe import process_detail

    return process_detail.process_detail(
        session.proc, request.pid, request.start_ticks, user_name=session.user_name
    )


@handles(ask.ListFds)
def _fds(session: Session, request: ask.ListFds, cancelled: threads.Event) -> FdPage:
    from kdebug.probe import process_fds

    pid = session.process(request.pid)
    cursor = _cursor(session, request, lambda: process_fds.iter_fds(session.proc, pid))
    items, token = _page(session, cursor, request.limit, cancelled)
    return FdPage(pid, items, token)


@handles(ask.ListMaps)
def _maps(session: Session, request: ask.ListMaps, cancelled: threads.Event) -> MapPage:
    from kdebug.probe import process_maps

    pid = session.process(request.pid)
    cursor = _cursor(session, request, lambda: process_maps.iter_maps(session.proc, pid))
    items, token = _page(session, cursor, request.limit, cancelled)
    return MapPage(pid, items, token)


@handles(ask.ListEnviron)
def _environ(session: Session, request: ask.ListEnviron, cancelled: threads.Event) -> EnvPage:
    from kdebug.probe import process_detail

    pid = session.process(request.pid)
    if request.cursor:
        cursor = session.cursors.take(request.cursor, request.name)
    else:
        variables, truncated = process_detail.read_environ(session.proc, pid)
        cursor = Cursor(request.name, iter(variables))
        cursor.state = truncated
    items, token = _page(session, cursor, request.limit, cancelled)
    return EnvPage(pid, items, token, truncated=cursor.state and not token)


@handles(ask.GetLimits)
def _limits(session: Session, request: ask.GetLimits, cancelled: threads.Event) -> Limits:
    from kdebug.probe import process_limits

    pid = session.process(request.pid)
    return Limits(pid, process_limits.limits(session.proc, pid))


@handles(ask.SendSignal)
def _signal(session: Session, request: ask.SendSignal, cancelled: threads.Event) -> SignalSent:
    process_signal.send_signal(session.proc, request.pid, request.start_ticks, request.signal)
    return SignalSent(request.pid, request.signal)


@handles(ask.ListSockets)
def _sockets(session: Session, request: ask.ListSockets, cancelled: threads.Event) -> SocketPage:
    from kdebug.probe import net_sockets

    pid = session.require_target()
    if request.cursor:
        cursor = session.cursors.take(request.cursor, request.name)
    else:
        scan = net_sockets.SocketScan(pid, proc=session.proc, families=request.families)
        cursor = Cursor(request.name, iter(scan))
        cursor.state = scan
    items, token = _page(session, cursor, request.limit, cancelled)
    return SocketPage(items, token, cursor.state.unread_processes, dict(cursor.state.reasons))


@handles(ask.GetNetwork)
def _network(session: Session, request: ask.GetNetwork, cancelled: threads.Event) -> NetworkConfig:
    from kdebug.probe import net_config

    return net_config.network_config(
        session.require_target(), proc=session.proc, read_file=session.read_target
    )


@handles(ask.ListMounts)
def _mounts(session: Session, request: ask.ListMounts, cancelled: threads.Event) -> MountPage:
    from kdebug.probe import mounts

    pid = session.require_target()
    sizes = (lambda path, number: session.root().statvfs(path, number)) if request.sizes else None
    cursor = _cursor(session, request, lambda: mounts.iter_mounts(pid, proc=session.proc, statvfs=sizes))
    items, token = _page(session, cursor, request.limit, cancelled)
    return MountPage(items, token)


@handles(ask.GetCgroup)
def _cgroup(session: Session, request: ask.GetCgroup, cancelled: threads.Event) -> CgroupInfo:
    session.require_target()
    return session.target_cgroup()


@handles(ask.ListDir)
def _list_dir(session: Session, request: ask.ListDir, cancelled: threads.Event) -> Listing:
    cursor = _cursor(session, request, lambda: files.iter_dir(session.root(), request.path))
    items, token = _page(session, cursor, request.limit, cancelled)
    return Listing(request.path, items, token)


@handles(ask.StatPath)
def _stat(session: Session, request: ask.StatPath, cancelled: threads.Event) -> FileStat:
    return files.stat_path(session.place(request.path), request.path, request.follow)


@handles(ask.ReadFile)
def _read(session: Session, request: ask.ReadFile, cancelled: threads.Event) -> FileChunk:
    return session.open_files.read(session.place(request.path), request)


@handles(ask.FollowFile)
def _follow(session: Session, request: ask.FollowFile, cancelled: threads.Event) -> FileChunk:
    return session.open_files.follow(session.place(request.path), request, cancelled)


_source_hash = ""


def session_source_hash() -> str:
    """The hash of the running agent's sources, set once by whoever started it."""
    return _source_hash


def set_source_hash(value: str) -> None:
    global _source_hash
    _source_hash = value
