"""The samples of a bundle as rows of numbers: what a watch saw, or what a recipe took again and again."""

from __future__ import annotations

from kdebug.capture.offline import OfflineBackend
from kdebug.capture.steps_target import of_target
from kdebug.errors import NotCaptured
from kdebug.protocol.requests import ListProcesses
from kdebug.protocol.system import CgroupInfo
from kdebug.target import Target
from kdebug.watch.reading import Meter, Reading


async def timeline(target: Target, backend: OfflineBackend) -> list[Reading]:
    """One reading for each process table, oldest first; looks of an instance before are left out."""
    meter, found = Meter(), []
    try:
        for at in backend.times_of(ListProcesses()):
            backend.moment = at
            processes = of_target(target.info, (await target.processes()).items)
            if processes:
                reading = Reading(at, at)
                meter.read(reading, processes, await _cgroup(target))
                found.append(reading)
    finally:
        backend.moment = None
    return found


async def _cgroup(target: Target) -> CgroupInfo:
    """As it was then, or right before."""
    try:
        return await target.cgroup()
    except NotCaptured:
        return CgroupInfo(None, None)
