"""A dry run: what a recipe would take of this target, what it would cost, and what cannot be taken.

Costs are estimates from measured means of the practice target; the agent works at low priority, and no
question of a recipe stops the target.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kdebug.capture import glob
from kdebug.capture.conditions import unmet
from kdebug.capture.recipe import Recipe, Step
from kdebug.capture.redaction import NoRedaction
from kdebug.capture.sink import Sink
from kdebug.capture.steps_cluster import TOOLBOXES
from kdebug.capture.steps_files import DEFAULT_BYTES
from kdebug.capture.steps_target import of_target
from kdebug.capture.work import Work
from kdebug.errors import KdebugError
from kdebug.protocol.requests import MAX_PAGE
from kdebug.protocol.search import Find
from kdebug.target import Target
from kdebug.target.search import search_pages

BYTES = {
    "process": 3500, "fds": 4000, "environ": 2500, "limits": 2000, "maps": 30_000, "processes": 700,
    "sockets": 3000, "network": 4000, "mounts": 6000, "cgroup": 1500, "access": 1200, "agent": 400,
    "deleted": 600,
}  # fmt: skip
"""Of one answer; of one row for the process table."""
CPU_MS = {
    "process": 4.0,
    "fds": 2.0,
    "environ": 0.5,
    "limits": 0.5,
    "maps": 4.0,
    "processes": 0.15,
    "sockets": 8.0,
}
"""Of the agent; a millisecond for what is not listed."""
LISTING_BYTES, LISTING_MS = 6000, 1.0
READ_MS_PER_MIB = 1.5
LOG_LINE_BYTES = 150
NEEDS = {
    "environ": "env", "fds": "fds", "maps": "maps", "deleted": "fds", "sockets": "sockets with owners",
    "processes": "process list",
}  # fmt: skip
"""The ability without which a question is refused, or answered in part."""


AGENT_MEMORY_BYTES = 24 * 2**20
"""What the agent may come to hold meanwhile."""


@dataclass
class PlannedStep:
    """One step, as it would go."""

    name: str
    kind: str
    artifacts: int = 0
    bytes_about: int = 0
    cpu_ms_about: float = 0.0
    """Of the agent, in the pod."""
    not_taken: str = ""
    """Why nothing of it, or not all of it, would be taken."""


@dataclass(frozen=True)
class Cost:
    """Of all steps."""

    artifacts: int
    bytes_about: int
    cpu_ms_about: float


def cost(steps: Iterable[PlannedStep]) -> Cost:
    found = list(steps)
    return Cost(
        sum(step.artifacts for step in found),
        sum(step.bytes_about for step in found),
        sum(step.cpu_ms_about for step in found),
    )


async def plan(recipe: Recipe, work: Work) -> list[PlannedStep]:
    """Only looks: the process table, the rights, and for globs the names."""
    target = work.target
    if target is not None:
        work.processes = of_target(target.info, (await target.processes()).items)
        work.access = await target.access()
    return [await _step(step, work) for step in recipe.steps]


def looking(recipe: Recipe, target: Target | None, cluster: Any, pod: Any) -> Work:
    """A work that writes nothing."""
    nothing: Any = None
    return Work(recipe, Sink(nothing, NoRedaction()), target, cluster, pod)


async def _step(step: Step, work: Work) -> PlannedStep:
    planned = PlannedStep(step.name, step.kind)
    of_cluster = step.kind in ("kubernetes", "logs")
    if of_cluster and work.pod is None:
        planned.not_taken = "the target is no pod"
    elif not of_cluster and work.target is None:
        planned.not_taken = str(work.gone or "the target cannot be entered")
    else:
        planned.not_taken = await unmet(work, step.when)
    if not planned.not_taken:
        await _ESTIMATES[step.kind](step, work, planned)
    return planned


def _add(planned: PlannedStep, name: str, times: int, rows: int = 1) -> None:
    planned.artifacts += times
    planned.bytes_about += BYTES.get(name, 2000) * times * rows
    planned.cpu_ms_about += CPU_MS.get(name, 1.0) * times * rows


def _refused(work: Work, name: str) -> str:
    ability = next(
        (a for a in (work.access.abilities if work.access else ()) if a.name == NEEDS.get(name)), None
    )
    if ability is None or ability.allowed is not False:
        return ""
    fix = f" ({ability.fix})" if ability.fix else ""
    return f"{name}: {ability.reason}{fix}"


async def _facts(step: Step, work: Work, planned: PlannedStep) -> None:
    times = step.samples.count if step.samples else 1
    for request in step.requests:
        _add(planned, request.name, times, len(work.processes) if request.name == "processes" else 1)
    planned.not_taken = "; ".join(filter(None, (_refused(work, r.name) for r in step.requests)))


async def _each(step: Step, work: Work, planned: PlannedStep) -> None:
    for item in step.items:
        _add(planned, item, min(step.count, len(work.processes)))
    reasons = [_refused(work, item) for item in step.items]
    left = len(work.processes) - step.count
    reasons.append(f"{left} more processes" if left > 0 else "")
    planned.not_taken = "; ".join(filter(None, reasons))


async def _listings(step: Step, work: Work, planned: PlannedStep) -> None:
    """Directories are counted only as they are listed: at most `count`."""
    planned.artifacts = len(step.items) if not step.depth else step.count
    planned.bytes_about = planned.artifacts * LISTING_BYTES
    planned.cpu_ms_about = planned.artifacts * LISTING_MS
    planned.not_taken = _refused_files(work)


def _refused_files(work: Work) -> str:
    for ability in work.access.abilities if work.access else ():
        if ability.name == "files read" and ability.allowed is False:
            return f"{ability.reason} ({ability.fix})"
    return ""


async def _files(step: Step, work: Work, planned: PlannedStep) -> None:
    most = step.head or step.tail or DEFAULT_BYTES
    for pattern in step.items:
        for size in await _sizes(work, pattern, step.count - planned.artifacts):
            planned.artifacts += 1
            planned.bytes_about += min(size, most)
    planned.bytes_about = min(planned.bytes_about, step.max_bytes)
    planned.cpu_ms_about = planned.artifacts + planned.bytes_about / 2**20 * READ_MS_PER_MIB
    planned.not_taken = _refused_files(work)


async def _sizes(work: Work, pattern: str, most: int) -> list[int]:
    """Of the files that match; [] where nothing can be seen."""
    target = work.target
    assert target is not None
    found: list[int] = []
    try:
        if not glob.is_glob(pattern):
            return [(await target.stat(pattern, follow=True)).entry.size_bytes or 0][:most]
        top, depth = glob.top(pattern)
        request = Find(path=top, follow=True, max_depth=depth, kinds=("file", "symlink"), limit=MAX_PAGE)
        async for page in search_pages(target, request):
            rows = [row for row in page.items if glob.matches(pattern, row.path)]
            found += [row.entry.size_bytes or 0 for row in rows if row.entry.kind in ("file", "symlink")]
            if len(found) >= most:
                break
    except KdebugError:
        return found[:most]
    return found[:most]


async def _kubernetes(step: Step, work: Work, planned: PlannedStep) -> None:
    planned.artifacts = len(step.items)
    planned.bytes_about = 10_000 * planned.artifacts


async def _logs(step: Step, work: Work, planned: PlannedStep) -> None:
    assert work.pod is not None
    names = [name for name in work.pod.containers if not name.startswith(TOOLBOXES)]
    planned.artifacts = len(names) if "all" in step.items else len(step.items)
    each = (step.tail or 50_000) * LOG_LINE_BYTES
    planned.bytes_about = min(step.max_bytes, planned.artifacts * each)


_ESTIMATES = {
    "facts": _facts, "each_process": _each, "listings": _listings, "files": _files,
    "kubernetes": _kubernetes, "logs": _logs,
}  # fmt: skip
