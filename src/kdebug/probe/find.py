"""find: entries of a tree that pass tests. Names are tested before anything is examined."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
import time

from kdebug.annotations import Callable, Iterator, Optional
from kdebug.probe.files import entry_from, examine
from kdebug.probe.rooted import Root
from kdebug.probe.rooted_walk import path_bytes, path_text
from kdebug.probe.walk import Step, TreeWalk
from kdebug.protocol.files import Entry
from kdebug.protocol.search import Find, Found, Progress

VANISHED = "it vanished while it was looked at"


class FindSearch:
    """One search; `rows` yields what was found, and None now and then."""

    def __init__(self, root: Root, request: Find) -> None:
        self._request = request
        self._walk = TreeWalk(
            root,
            request.path,
            follow=request.follow,
            max_depth=request.max_depth,
            one_file_system=request.one_file_system,
        )
        self._name_fits = name_test(request.names, request.ignore_case)
        self._now = time.time()

    def progress(self, done: bool) -> Progress:
        return Progress(self._walk.visited)

    def rows(self) -> Iterator[Optional[Found]]:
        for step in self._walk.steps():
            found = None if step is None or step.leaving else self._look(step)
            yield found

    def _look(self, step: Step) -> Optional[Found]:
        if step.error:
            # Whoever searches must know that nobody looked there.
            name = path_text(step.name) or _last_part(self._request.path)
            return self._found(step, Entry(name, "dir", error=step.error))
        if step.depth < self._request.min_depth:
            return None
        raw = step.name or path_bytes(_last_part(self._request.path))
        if self._name_fits is not None and not self._name_fits(raw):
            return None
        entry = self._examine(step)
        return self._found(step, entry) if entry.error or self._fits(entry) else None

    def _found(self, step: Step, entry: Entry) -> Found:
        return Found(self._walk.path_of(step), step.depth, entry)

    def _examine(self, step: Step) -> Entry:
        if step.parent is None:
            return top_entry(self._walk, self._request.path)
        entry = examine(step.name, step.parent.fd)
        return entry or Entry(path_text(step.name), "unknown", error=VANISHED)

    def _fits(self, entry: Entry) -> bool:
        asked = self._request
        return (
            (not asked.kinds or entry.kind in asked.kinds)
            and _within(entry.size_bytes, asked.min_bytes, asked.max_bytes)
            and (asked.uid is None or entry.uid == asked.uid)
            and (asked.gid is None or entry.gid == asked.gid)
            and (asked.newer_than_ns is None or (entry.mtime_ns or 0) > asked.newer_than_ns)
            and self._age_fits((entry.mtime_ns or 0) / 1e9)
        )

    def _age_fits(self, mtime: float) -> bool:
        asked, age = self._request, self._now - mtime
        return not (
            (asked.min_age_seconds is not None and age < asked.min_age_seconds)
            or (asked.max_age_seconds is not None and age >= asked.max_age_seconds)
        )


def top_entry(walk: TreeWalk, path: str) -> Entry:
    """The entry of the path that was asked for, from the descriptor that the walk has."""
    link = None
    if stat.S_ISLNK(walk.top_status.st_mode):
        link = path_text(os.readlink(b"", dir_fd=walk.top_fd))
    return entry_from(_last_part(path), walk.top_status, link)


def _last_part(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2] or "/"


def _within(value: Optional[int], low: Optional[int], high: Optional[int]) -> bool:
    if low is None and high is None:
        return True
    return value is not None and (low is None or value >= low) and (high is None or value <= high)


def name_test(globs: tuple[str, ...], ignore_case: bool) -> Optional[Callable[[bytes], object]]:
    """Whether a name fits one of the globs (fnmatch(3), a leading dot is not special); None: all do."""
    if not globs:
        return None
    pattern = b"|".join(b"(?:" + glob_pattern(path_bytes(glob)) + b")" for glob in globs)
    return re.compile(pattern, re.IGNORECASE if ignore_case else 0).match


def glob_pattern(glob: bytes) -> bytes:
    r"""A pattern for the whole name. Runs of `*` become one: each costs a pass over the name."""
    return fnmatch.translate(re.sub(rb"\*+", b"*", glob).decode("latin-1")).encode("latin-1")
