"""`when:` of a step: facts of the target that decide whether it makes sense."""

from __future__ import annotations

import fnmatch
import posixpath

from kdebug.capture.recipe import When
from kdebug.capture.work import Work
from kdebug.errors import KdebugError


async def unmet(work: Work, when: When) -> str:
    """The first condition that does not hold, in words; "" when all do."""
    if when.pod is not None and when.pod != (work.pod is not None):
        return "the target is no pod" if when.pod else "the target is a pod"
    if when.rung and (work.target is None or work.target.rung not in when.rung):
        rung = work.target.rung if work.target is not None else ""
        return f"the rung is {rung or 'none'}, not {' or '.join(when.rung)}"
    if when.runtime and not _runs(work, when.runtime):
        return f"no process of the target is called {' or '.join(when.runtime)}"
    for ability in when.can:
        if not _can(work, ability):
            return f"the agent cannot do this here: {ability}"
    if when.exists and not await _exists(work, when.exists):
        return f"there is no {' or '.join(when.exists)}"
    return ""


def _runs(work: Work, globs: tuple[str, ...]) -> bool:
    """By the program's file or its command name, which it may choose itself."""
    called = {posixpath.basename(p.exe or "") for p in work.processes} | {p.name for p in work.processes}
    return any(fnmatch.fnmatchcase(name, glob) for name in called for glob in globs)


def _can(work: Work, name: str) -> bool:
    abilities = work.access.abilities if work.access is not None else ()
    return any(ability.name == name and ability.allowed for ability in abilities)


async def _exists(work: Work, paths: tuple[str, ...]) -> bool:
    if work.target is None:
        return False
    for path in paths:
        try:
            async with work.turns.turn():
                await work.target.stat(path, follow=True)
        except KdebugError:
            continue
        return True
    return False
