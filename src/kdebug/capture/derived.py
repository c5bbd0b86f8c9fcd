"""Questions about files that were not asked at the capture, answered from the listings that were: stat, the
table of a directory, a search. Symlinks are followed inside what was captured, never on this machine.

What lies below a directory that was not listed is told as not captured: nothing is left out silently.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import posixpath
import time
from collections.abc import Callable, Iterator
from typing import Optional

from kdebug.errors import NotCaptured
from kdebug.protocol.files import Entry, FileStat, Listing
from kdebug.protocol.search import COLUMNS, EntryTable, Find, Found, FoundPage, ListTable, Progress
from kdebug.units import KIND_BITS

MAX_LINKS = 40
"""As the kernel follows (path_resolution(7))."""
NOT_LISTED = "not captured: the bundle does not hold what is in it"


class Tree:
    """What a bundle knows of the target's files."""

    def __init__(self, listing: Callable[[str], Optional[Listing]], stats: dict[str, FileStat]) -> None:
        self._listing = listing
        """The captured listing of exactly this path."""
        self._stats = stats
        """Of files whose contents were taken: path -> what the target said when it followed it."""

    def entry(self, path: str) -> Optional[Entry]:
        """Of a path whose folders are no links; a link itself."""
        if path == "/":
            return Entry("/", "dir") if self._listing("/") is not None else None
        above, name = posixpath.split(path)
        listing = self._listing(above)
        for entry in listing.entries if listing is not None else ():
            if entry.name == name:
                return entry
        if path in self._stats:
            return self._stats[path].entry
        return Entry(name, "dir") if self._listing(path) is not None else None

    def resolved(self, path: str, follow: bool = True) -> str:
        """`path` without links in it, as far as the listings show them."""
        todo = [part for part in path.split("/") if part not in ("", ".")]
        done: list[str] = []
        links = 0
        while todo:
            part = todo.pop(0)
            if part == "..":
                done = done[:-1]
                continue
            entry = self.entry("/" + "/".join([*done, part]))
            if entry is None or entry.link_target is None or not (todo or follow):
                done.append(part)
                continue
            links += 1
            if links > MAX_LINKS:
                raise NotCaptured(f"{path} cannot be followed", why="too many levels of symbolic links")
            if entry.link_target.startswith("/"):
                done = []
            todo = [piece for piece in entry.link_target.split("/") if piece not in ("", ".")] + todo
        return "/" + "/".join(done)

    def listing(self, path: str) -> Optional[Listing]:
        return self._listing(self.resolved(path))

    def stat(self, path: str, follow: bool) -> Optional[FileStat]:
        plain = posixpath.normpath("/" + path.lstrip("/"))
        if follow and plain in self._stats:
            return dataclasses.replace(self._stats[plain], path=path)
        place = self.resolved(path, follow)
        entry = self.entry(place)
        return FileStat(path, entry, self.resolved(place)) if entry is not None else None

    def table(self, request: ListTable, listing: Listing) -> EntryTable:
        """One page of the columns."""
        begin = int(request.cursor) if request.cursor.isdigit() else 0
        rows = listing.entries[begin : begin + request.limit]
        more = begin + request.limit < len(listing.entries)
        columns = {name: tuple(_column(name, row) for row in rows) for name in COLUMNS}
        return EntryTable(
            request.path,
            names=tuple(row.name for row in rows),
            targets=tuple(
                (i, row.link_target) for i, row in enumerate(rows) if row.link_target is not None
            ),
            errors=tuple((i, row.error) for i, row in enumerate(rows) if row.error),
            cursor=str(begin + request.limit) if more else "",
            **columns,
        )

    def find(self, request: Find) -> Optional[FoundPage]:
        """All rows as one page; `page_of` cuts it. None where nothing of the path was captured."""
        found = self.stat(request.path, request.follow)
        if found is None:
            return None
        name = posixpath.basename(request.path.rstrip("/")) or "/"
        top = dataclasses.replace(found.entry, name=name)
        place = found.resolved if found.resolved and request.follow else self.resolved(request.path, False)
        rows = tuple(self._walk(request, request.path, place or request.path, top))
        return FoundPage(rows, "", Progress(len(rows)))

    def _walk(self, asked: Find, shown: str, place: str, top: Entry) -> Iterator[Found]:
        """Each directory before what is in it; without recursion, for the bundle may be anybody's."""
        todo = [(shown, place, top, 0)]
        while todo:
            shown, place, entry, depth = todo.pop()
            if depth >= asked.min_depth and _fits(asked, entry):
                yield Found(shown, depth, entry)
            if entry.kind != "dir" or depth >= asked.max_depth:
                continue
            listing = self._listing(place)
            if listing is None:
                yield Found(shown, depth, Entry(entry.name, "dir", error=NOT_LISTED))
                continue
            for inner in reversed(listing.entries):
                below = f"{shown.rstrip('/')}/{inner.name}", f"{place.rstrip('/')}/{inner.name}"
                todo.append((*below, inner, depth + 1))


def _column(name: str, entry: Entry) -> int:
    if name == "modes":
        known = entry.mode is not None
        return (entry.mode or 0) | KIND_BITS.get(entry.kind, 0) if known and entry.kind in KIND_BITS else 0
    if name == "blocks":
        return (entry.allocated_bytes or 0) // 512
    if name == "numbers":
        major, _, minor = (entry.device_number or "0:0").partition(":")
        return _makedev(int(major), int(minor))
    field = {
        "sizes": "size_bytes",
        "uids": "uid",
        "gids": "gid",
        "mtimes_ns": "mtime_ns",
        "inodes": "inode",
    }
    return getattr(entry, {**field, "devices": "device", "links": "links"}[name]) or 0


def _makedev(major: int, minor: int) -> int:
    """Of Linux (gnu_dev_makedev), also where this runs on another system."""
    return (minor & 0xFF) | (major & 0xFFF) << 8 | (minor & ~0xFF) << 12 | (major & ~0xFFF) << 32


def _fits(asked: Find, entry: Entry) -> bool:
    age = time.time() - (entry.mtime_ns or 0) / 1e9
    return (
        _named(asked, entry.name)
        and (not asked.kinds or entry.kind in asked.kinds)
        and _within(entry.size_bytes, asked.min_bytes, asked.max_bytes)
        and (asked.uid is None or entry.uid == asked.uid)
        and (asked.gid is None or entry.gid == asked.gid)
        and (asked.newer_than_ns is None or (entry.mtime_ns or 0) > asked.newer_than_ns)
        and (asked.min_age_seconds is None or age >= asked.min_age_seconds)
        and (asked.max_age_seconds is None or age < asked.max_age_seconds)
    )


def _named(asked: Find, name: str) -> bool:
    if not asked.names:
        return True
    if asked.ignore_case:
        return any(fnmatch.fnmatchcase(name.lower(), glob.lower()) for glob in asked.names)
    return any(fnmatch.fnmatchcase(name, glob) for glob in asked.names)


def _within(value: Optional[int], low: Optional[int], high: Optional[int]) -> bool:
    if low is None and high is None:
        return True
    return value is not None and (low is None or value >= low) and (high is None or value <= high)
