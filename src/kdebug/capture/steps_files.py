"""Files by their paths and globs, whole or their ends, streamed into the bundle as they come."""

from __future__ import annotations

import contextlib
import dataclasses
import posixpath
from typing import Any, Optional

from kdebug.capture import glob
from kdebug.capture.sink import LEFT_OUT, Artifact
from kdebug.capture.work import Refused, StepWork, answered
from kdebug.errors import Failed, KdebugError
from kdebug.protocol import codec
from kdebug.protocol.files import FileChunk, FileStat
from kdebug.protocol.requests import MAX_PAGE, StatPath
from kdebug.protocol.search import Find
from kdebug.target.reader import Reader
from kdebug.target.search import search_pages

MAX_SEEN = 200_000
"""Names looked at for one glob."""
DEFAULT_BYTES = 1024 * 1024
"""Of a file, where the recipe says neither head nor tail."""
ZEROS = bytes(64 * 1024)


async def files(run: StepWork) -> None:
    """One after the other: reading ahead keeps the stream busy, and one file's bytes stay together."""
    left = run.step.count
    known: dict[tuple[int, int], str] = {}
    """(device, inode) -> member: a file with two names is taken once."""
    for pattern in run.step.items:
        for path, named in await _paths(run, pattern):
            if left <= 0:
                artifact = run.artifact(f"more files of {pattern}")
                artifact.reason, artifact.counts = f"at most {run.step.count} are taken", False
                break
            left -= 1
            await _file(run, path, named, known)


async def _paths(run: StepWork, pattern: str) -> list[tuple[str, bool]]:
    """(path, whether the recipe names it itself)."""
    if not glob.is_glob(pattern):
        return [(pattern, True)]
    if run.refusal():
        run.artifact(f"files {pattern}").reason = run.refusal()
        return []
    found: list[tuple[str, bool]] = []
    problem = await _search(run, pattern, found)
    if problem is not None:
        artifact = run.artifact(f"files {pattern}")
        async with run.taking(artifact):
            raise problem
    return sorted(found)


async def _search(run: StepWork, pattern: str, found: list[tuple[str, bool]]) -> Optional[KdebugError]:
    top, depth = glob.top(pattern)
    request = Find(path=top, follow=True, max_depth=depth, kinds=("file", "symlink"), limit=MAX_PAGE)
    seen = 0
    assert run.work.target is not None
    try:
        async with run.turn(), contextlib.aclosing(search_pages(run.work.target, request)) as pages:
            async for page in pages:
                seen += len(page.items)
                for row in page.items:
                    if row.entry.kind in ("file", "symlink") and glob.matches(pattern, row.path):
                        found.append((row.path, False))
                if seen > MAX_SEEN or len(found) > run.step.count:
                    return None
    except KdebugError as error:
        return error
    return None


async def _file(run: StepWork, path: str, named: bool, known: dict[tuple[int, int], str]) -> None:
    artifact = run.artifact(f"file {path}")
    artifact.counts = named
    async with run.taking(artifact):
        stat = await _stat(run, path)
        if stat.entry.kind != "file":
            if not named:
                raise Refused(f"{path} leads to a {stat.entry.kind}")
            raise Failed(f"{path} is a {stat.entry.kind}", why="only regular files are taken")
        reason = run.work.sink.redaction.left_out(path, stat.resolved or path)
        if reason:
            artifact.outcome, artifact.reason = LEFT_OUT, reason
            return
        identity = (stat.entry.device or 0, stat.entry.inode or 0)
        member = known.get(identity) if stat.entry.inode else None
        if member is None:
            await _contents(run, artifact, path, stat, known)
        else:
            _listed(run, path, stat, member, same=True)


async def _stat(run: StepWork, path: str) -> FileStat:
    """Its facts, which go into the manifest beside the member: no listing may hold them."""
    kept: list[Any] = []
    await answered(run.work, StatPath(path, follow=True), kept)
    return codec.from_plain(FileStat, kept[-1].answer)


async def _contents(
    run: StepWork, artifact: Artifact, path: str, stat: FileStat, known: dict[tuple[int, int], str]
) -> None:
    size, most = stat.entry.size_bytes or 0, run.step.head or run.step.tail or DEFAULT_BYTES
    most = min(
        most, run.step.max_bytes - run.taken_bytes, run.work.recipe.max_bytes - run.work.sink.taken_bytes
    )
    offset = max(0, size - most) if run.step.tail else 0
    assert run.work.target is not None
    reader = Reader(run.work.target, path, offset)
    contents = run.work.sink.stream(artifact, f"files{posixpath.normpath(path)}")
    try:
        async for chunk in reader.pieces():
            _write(contents, chunk, most - contents.taken_bytes)
            if contents.taken_bytes >= most:
                break
    finally:
        contents.close()
        end = offset + contents.taken_bytes
        whole = reader.first.size_bytes if reader.first else size
        row = _listed(run, path, stat, contents.name)
        row |= {"offset": offset, "taken_bytes": contents.taken_bytes, "size_bytes": max(whole, end)}
    known[(stat.entry.device or 0, stat.entry.inode or 0)] = contents.name
    if offset or end < whole:
        artifact.reason = f"bytes {offset} to {end} of {whole}"


def _write(contents: Any, chunk: FileChunk, room: int) -> None:
    data = chunk.data[:room]
    contents.write(data)
    holes = min(chunk.hole_bytes, room - len(data))
    while holes > 0:
        contents.write(ZEROS[:holes])
        holes -= len(ZEROS[:holes])


def _listed(run: StepWork, path: str, stat: FileStat, member: str, same: bool = False) -> dict[str, Any]:
    """In the manifest: which member holds it, and what it was."""
    sink = run.work.sink
    row: dict[str, Any] = {"path": sink.redaction.text(path), "member": member}
    if same:
        row |= {
            k: v for k, v in next(r for r in sink.files if r["member"] == member).items() if k not in row
        }
    entry = sink.redaction.document(dataclasses.asdict(stat.entry))
    row |= {"stat": entry, "resolved": sink.redaction.text(stat.resolved or path)}
    sink.files.append(row)
    return row
