"""Steps that ask the target: facts, once or as samples, the details of its processes, and directories."""

from __future__ import annotations

import asyncio
from typing import Any

from kdebug.capture.work import StepWork, together
from kdebug.protocol import codec
from kdebug.protocol import requests as ask
from kdebug.protocol.files import Listing
from kdebug.protocol.processes import Process
from kdebug.protocol.requests import Request
from kdebug.protocol.system import TargetInfo

DETAILS: dict[str, Any] = {
    "process": lambda p: ask.GetProcess(p.pid, p.start_ticks),
    "fds": lambda p: ask.ListFds(pid=p.pid, limit=ask.MAX_PAGE),
    "environ": lambda p: ask.ListEnviron(pid=p.pid, limit=ask.MAX_PAGE),
    "limits": lambda p: ask.GetLimits(p.pid),
    "maps": lambda p: ask.ListMaps(pid=p.pid, limit=ask.MAX_PAGE),
}
PSEUDO = ("/proc", "/sys")
"""Not the target's files: what is in them is asked for as facts."""


def label(request: Request[Any]) -> str:
    """sockets; usage /tmp."""
    path = codec.to_plain(request).get("path", "")
    return f"{request.name} {path}".strip()


async def facts(run: StepWork) -> None:
    if run.step.samples is None:
        await _once(run, "")
        return
    loop, every = asyncio.get_running_loop(), run.step.samples.every
    due = loop.time()
    for number in range(run.step.samples.count):
        await asyncio.sleep(max(0.0, due - loop.time()))
        if run.work.gone is not None and number:
            run.artifact(f"samples from number {number + 1} on").reason = run.refusal()
            return
        due = max(due + every, loop.time())
        await _once(run, f", sample {number + 1}")


async def _once(run: StepWork, more: str) -> None:
    await together(run.ask(label(request) + more, _large(request)) for request in run.step.requests)


def _large(request: Request[Any]) -> Request[Any]:
    """In the largest pages: fewer round trips, and the answer is the same."""
    if isinstance(request, ask.Paged):
        return type(request)(**{**vars(request), "limit": ask.MAX_PAGE})
    return request


def of_target(info: TargetInfo, processes: tuple[Process, ...]) -> list[Process]:
    """The processes of the target's container, or the target and its descendants where it has none; the
    target first, then by memory."""
    alive = [p for p in processes if not p.kernel_thread and p.state not in ("Z", "X")]
    if info.container is not None:
        found = [p for p in alive if p.container == info.container]
    else:
        family = {info.pid}
        for process in sorted(alive, key=lambda p: (p.started_at, p.pid)):
            if process.ppid in family:
                family.add(process.pid)
        found = [p for p in alive if p.pid in family]
    return sorted(found, key=lambda p: (p.pid != info.pid, -p.rss_bytes))


async def each_process(run: StepWork) -> None:
    step = run.step
    chosen = run.work.processes[: step.count]
    await together(
        run.ask(f"{item} of {p.pid} ({p.name})", DETAILS[item](p)) for item in step.items for p in chosen
    )
    left = len(run.work.processes) - len(chosen)
    if left:
        _left_out(run, f"{left} more processes", f"at most {step.count} are looked at")
    if not chosen and run.work.target is not None:
        run.artifact("processes").reason = run.refusal() or "the target's processes could not be listed"


def _left_out(run: StepWork, what: str, why: str) -> None:
    artifact = run.artifact(what)
    artifact.reason, artifact.counts = why, False


async def listings(run: StepWork) -> None:
    """Level by level, so that a bound cuts the deepest ones."""
    asked: set[str] = set()
    level, left = [path.rstrip("/") or "/" for path in run.step.items], run.step.count
    for depth in range(run.step.depth + 1):
        level = [path for path in dict.fromkeys(level) if path not in asked]
        if len(level) > left:
            _left_out(run, f"{len(level) - left} more directories", f"at most {run.step.count} are listed")
        level = level[: max(0, left)]
        left -= len(level)
        asked.update(level)
        found = await together(_list(run, path, depth == 0) for path in level)
        level = [path for directories in found for path in directories]


async def _list(run: StepWork, path: str, named: bool) -> list[str]:
    """The directories in it."""
    listing: Listing | None = await run.ask(
        f"directory {path}", ask.ListDir(path=path, limit=ask.MAX_PAGE), counts=named, decoded=True
    )
    if listing is None:
        return []
    inside = (f"{path.rstrip('/')}/{entry.name}" for entry in listing.entries if entry.kind == "dir")
    return [folder for folder in inside if folder not in PSEUDO]
