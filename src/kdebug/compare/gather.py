"""From a target, live or captured, to the facts that are compared. What cannot be read is told."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Optional

from kdebug.capture.offline import OfflineBackend
from kdebug.capture.steps_target import of_target
from kdebug.capturing import opened
from kdebug.compare import facts as f
from kdebug.compare.facts import Facts
from kdebug.errors import KdebugError
from kdebug.expression import TargetExpression
from kdebug.open import OpenOptions, knows_pod, open_cluster, open_target
from kdebug.protocol.requests import ListDir
from kdebug.target import Target
from kdebug.target.cluster import PodRef

FOLDERS = ("/", "/etc", "/app", "/tmp")  # noqa: S108  the target's
"""Listed where no capture says which."""
MAX_FOLDERS = 500
_TOKEN = re.compile(f.TOKEN.pattern.encode("ascii"))
MAX_CONTENT_BYTES = 8 * 1024 * 1024
SHORTEST_NAME = 4


@dataclass
class Source:
    target: Optional[Target]
    pod: Optional[PodRef]
    problem: Optional[KdebugError] = None


@contextlib.asynccontextmanager
async def source(expression: TargetExpression, options: OpenOptions) -> AsyncIterator[Source]:
    """Raises as `open_target`; a pod that cannot be entered, or was not, has no target."""
    async with contextlib.AsyncExitStack() as stack:
        if expression.scheme != "bundle":
            found = await opened(expression, options, stack)
            yield Source(found.target, found.pod, found.problem)
            return
        pod: Optional[PodRef] = None
        if knows_pod(expression):
            cluster = await stack.enter_async_context(open_cluster(options, expression))
            pod = await cluster.choose(expression)
        try:
            yield Source(await stack.enter_async_context(open_target(expression, options)), pod)
        except KdebugError as error:
            if pod is None:
                raise
            yield Source(None, pod, error)


def folders_of(target: Optional[Target]) -> Optional[tuple[str, ...]]:
    """Directories that a capture listed; None for what is live, and can list any."""
    if target is None:
        return ()
    if not isinstance(target.backend, OfflineBackend):
        return None
    return tuple({request.path: None for request in target.backend.asked(ListDir)})


async def gather(found: Source, label: str, folders: Sequence[str]) -> Facts:
    """Sections that cannot be read are in `missing`."""
    facts = Facts(label)
    if found.pod is not None:
        _add_pod(facts, found.pod)
    if found.target is None:
        why = str(found.problem or "nothing was taken of it")
        facts.missing |= {section: why for section in f.SECTIONS if section not in (f.IMAGES, f.MODIFIED)}
        return facts
    steps: list[tuple[str, Callable[[Facts, Target], Awaitable[None]]]] = [
        (f.PROCESSES, _processes), (f.TARGET, _cgroup), (f.LIMITS, _limits), (f.ENV, _environ),
        (f.FDS, _fds), (f.SOCKETS, _sockets), (f.MAPS, _maps),
    ]  # fmt: skip
    for section, step in steps:
        try:
            await step(facts, found.target)
        except KdebugError as error:
            facts.missing[section] = str(error)
    await _files(facts, found.target, folders)
    return facts


def _add_pod(facts: Facts, pod: PodRef) -> None:
    status = pod.pod.get("status") or {}
    for one in status.get("containerStatuses") or []:
        image, name = f"{one.get('image')} ({one.get('imageID')})", str(one.get("name"))
        facts.put(f.IMAGES, name, image)
        facts.count(f.TARGET, f"restarts of {name}", one.get("restartCount"))
    own = [(pod.name, "<pod>"), ((pod.pod.get("metadata") or {}).get("uid"), "<uid>")]
    own += [(one.get("ip"), "<ip>") for one in status.get("podIPs") or []]
    own += [(status.get("podIP"), "<ip>"), (status.get("hostIP"), "<host ip>")]
    own += [((pod.pod.get("spec") or {}).get("nodeName"), "<node>")]
    known = {str(name): word for name, word in own if name and len(str(name)) >= SHORTEST_NAME}
    facts.names = tuple(sorted(known.items(), key=lambda item: -len(item[0])))


async def _processes(facts: Facts, target: Target) -> None:
    page = await target.processes()
    facts.at = page.taken_at
    processes = of_target(target.info, page.items)
    f.add_processes(facts, processes)
    facts.count(f.TARGET, "rss", sum(p.rss_bytes for p in processes), f.BYTES)
    facts.count(f.TARGET, "processes", len(processes))
    facts.count(f.TARGET, "threads", sum(p.threads for p in processes))
    if all(p.fds is not None for p in processes):
        facts.count(f.TARGET, "fds", sum(p.fds or 0 for p in processes))


async def _cgroup(facts: Facts, target: Target) -> None:
    f.add_cgroup(facts, await target.cgroup())


async def _limits(facts: Facts, target: Target) -> None:
    f.add_limits(facts, (await target.limits()).items)


async def _environ(facts: Facts, target: Target) -> None:
    f.add_environ(facts, (await target.environ(target.info.pid)).items)


async def _fds(facts: Facts, target: Target) -> None:
    f.add_fds(facts, (await target.fds(target.info.pid)).items)


async def _sockets(facts: Facts, target: Target) -> None:
    f.add_sockets(facts, (await target.sockets(("inet", "inet6"))).items)


async def _maps(facts: Facts, target: Target) -> None:
    f.add_maps(facts, (await target.maps(target.info.pid)).items)


async def _files(facts: Facts, target: Target, folders: Sequence[str]) -> None:
    """Directories that are not there have no entries; only when none can be listed is that told."""
    listed, why = False, "no directory was listed"
    for folder in folders[:MAX_FOLDERS]:
        try:
            entries = (await target.list_dir(folder)).entries
        except KdebugError as error:
            why = str(error)
            continue
        listed = True
        f.add_entries(facts, folder, entries)
    if not listed:
        facts.missing[f.FILES] = why
    if isinstance(target.backend, OfflineBackend):
        _contents(facts, target.backend)


def _contents(facts: Facts, backend: OfflineBackend) -> None:
    """Of files that were taken whole. Tokens of redaction count by their class: keys differ."""
    for path, file in backend.files.items():
        if file.offset or not file.to_its_end or file.end > MAX_CONTENT_BYTES:
            continue
        digest = hashlib.sha256()
        data = b"".join(backend.bundle.read(member.name) for member in file.members)
        digest.update(_TOKEN.sub(rb"[REDACTED:\1]", data))
        facts.put(f.FILES, f"contents of {path}", f"sha256 {digest.hexdigest()[:16]}")
