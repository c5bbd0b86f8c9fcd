"""What redaction must know before the first byte is written: secrets that are known by their place."""

from __future__ import annotations

import contextlib

from kdebug.capture.answers import Answer, RecordingBackend
from kdebug.capture.redaction import Redaction
from kdebug.capture.work import Work, together
from kdebug.errors import KdebugError
from kdebug.protocol import codec
from kdebug.protocol.requests import MAX_PAGE, ListEnviron
from kdebug.protocol.search import Find, Found
from kdebug.target import Target
from kdebug.target.search import search_pages

MAX_PROCESSES = 64
MAX_SECRET_FILES = 64
MAX_SECRET_BYTES = 64 * 1024
"""A Secret has at most 1 MiB; what is longer than this is no password."""
MAX_KEPT = 8 * 2**20
"""Characters of all environments until they are taken; a larger one is asked for again."""
PLACES = ("/var/run/secrets", "/run/secrets")
"""Where service account tokens and Docker's secrets stand; Secret volumes are found in the mounts."""


async def learn(work: Work, redaction: Redaction) -> list[str]:
    """Best effort: returns what was not learned, for the manifest."""
    problems: list[str] = []
    if work.pod is not None:
        redaction.learn_document(work.pod.pod, "kubernetes/pod.json")
    problems += await _of_cluster(work, redaction)
    if work.target is None:
        return problems
    for what, learning in (("environments", _environments), ("secret files", _files)):
        try:
            problems += await learning(work, redaction)
        except KdebugError as error:
            problems.append(f"{what} were not learned: {error}")
    return problems


async def _of_cluster(work: Work, redaction: Redaction) -> list[str]:
    """The Secrets of the pod and the client's own credentials. That most users may not read Secrets is no
    fault of the capture: what the pod itself shows of them is learned all the same."""
    if work.cluster is None or work.pod is None:
        return []
    try:
        found = await work.cluster.secrets(work.pod)
    except KdebugError as error:
        return [f"the pod's Secrets were not learned: {error}"]
    for secret in found.objects:
        redaction.learn_document(secret, f"Secret {secret['metadata']['name']}")
    for credential in found.credentials:
        redaction.learn(credential, "credential", "kubeconfig")
    return [f"the Secret {name} was not learned: {why}" for name, why in found.missing.items()]


async def _environments(work: Work, redaction: Redaction) -> list[str]:
    chosen = work.processes[:MAX_PROCESSES]
    await together(_environment(work, redaction, process.pid) for process in chosen)
    left = len(work.processes) - MAX_PROCESSES
    if left <= 0:
        return []
    return [f"the environments of {left} more processes were not learned: at most {MAX_PROCESSES} are"]


async def _environment(work: Work, redaction: Redaction, pid: int) -> None:
    """Also kept for the step that takes it: it stays as it is from a program's start."""
    target = work.target
    assert target is not None
    kept: list[Answer] = []
    recording = Target(
        RecordingBackend(target.backend, kept.append, target.info.pid), target.info, target.label
    )
    size = 0
    try:
        async with work.turns.turn():
            # Kubernetes adds seven variables for each service: a page of them is soon full.
            async for page in recording.pages(ListEnviron(pid=pid, limit=MAX_PAGE)):
                redaction.learn_document(codec.to_plain(page), f"environ of {pid}")
                size += sum(len(item.name) + len(item.value or "") for item in page.items)
    except KdebugError:
        return  # told when it is taken
    if size <= MAX_KEPT // MAX_PROCESSES:
        work.environments[pid] = kept[-1]


async def _files(work: Work, redaction: Redaction) -> list[str]:
    assert work.target is not None
    paths, long = await _secret_paths(work), 0
    for path in paths[:MAX_SECRET_FILES]:
        try:
            chunk = await work.target.read(path, 0, MAX_SECRET_BYTES)
        except KdebugError:
            continue
        if chunk.data and chunk.eof:
            redaction.learn_file(path, chunk.data)
        long += bool(chunk.data and not chunk.eof)
    more = f"not all secret files were learned: there are more than {MAX_SECRET_FILES}"
    longer = f"{long} secret files of more than {MAX_SECRET_BYTES} bytes were not learned"
    return [note for note, holds in ((more, len(paths) > MAX_SECRET_FILES), (longer, long)) if holds]


async def _secret_paths(work: Work) -> list[str]:
    """More than are read, where there are; each once, for /var/run is mostly /run and holds mounts, too."""
    assert work.target is not None
    found: dict[tuple[int, int] | str, str] = {}
    for place in dict.fromkeys([*PLACES, *_secret_mounts(work)]):
        try:
            request = Find(path=place, follow=True, max_depth=3, kinds=("file", "symlink"), limit=MAX_PAGE)
            async with contextlib.aclosing(search_pages(work.target, request)) as pages:
                async for page in pages:
                    files = [row for row in page.items if row.entry.kind in ("file", "symlink")]
                    found |= {key: row.path for row in files if (key := _identity(row)) not in found}
                    if len(found) > MAX_SECRET_FILES:
                        return list(found.values())
        except KdebugError:
            continue
    return list(found.values())


def _identity(row: Found) -> tuple[int, int] | str:
    entry = row.entry
    return (entry.device or 0, entry.inode) if entry.inode else row.path


def _secret_mounts(work: Work) -> list[str]:
    """Where the pod's containers mount Secrets and tokens, as the spec says."""
    spec = work.pod.pod.get("spec", {}) if work.pod is not None else {}
    volumes = {v.get("name") for v in spec.get("volumes") or [] if "secret" in v or "projected" in v}
    paths = []
    for container in spec.get("containers") or []:
        for mount in container.get("volumeMounts") or []:
            if mount.get("name") in volumes and str(mount.get("mountPath", "")).startswith("/"):
                paths.append(str(mount["mountPath"]))
    return paths
