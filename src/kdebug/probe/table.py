"""A directory by columns, page by page, lazily: for listings of a hundred thousand names."""

from __future__ import annotations

import os
import stat
import sys

from kdebug.annotations import Any, Iterator
from kdebug.errors import from_os_error
from kdebug.probe.rooted import Root
from kdebug.probe.rooted_walk import path_text
from kdebug.protocol.search import COLUMNS, EntryTable

PAGE_CHARACTERS = 150_000
"""Of names and link targets in a page: each may take six in JSON."""
_ATTRIBUTES = (
    "st_mode", "st_size", "st_uid", "st_gid", "st_mtime_ns", "st_ino", "st_dev", "st_nlink", "st_blocks",
    "st_rdev",
)  # fmt: skip
_KIND = 0o170000
"""S_IFMT, without a call for each of a hundred thousand names."""
_NOTHING = os.stat_result((0,) * 10)
_PLAIN = (sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()) == ("utf-8", "surrogateescape")
"""Whether scandir decodes names as they travel: not so in an image with another locale."""


class _Page:
    """What is gathered for one answer."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.stats: list[os.stat_result] = []
        self.targets: list[tuple[int, str]] = []
        self.errors: list[tuple[int, str]] = []
        self.characters = 0

    def add(self, entry: os.DirEntry[str], dir_fd: int) -> None:
        name = entry.name
        shown = name if _PLAIN else path_text(os.fsencode(name))
        try:
            status = entry.stat(follow_symlinks=False)  # below the descriptor that was scanned
        except FileNotFoundError:
            return
        except OSError as error:
            self.errors.append((len(self.names), error.strerror or str(error)))
            status = _NOTHING
        if status.st_mode & _KIND == stat.S_IFLNK:
            self._add_target(name, dir_fd)
        self.characters += len(shown)
        self.names.append(shown)
        self.stats.append(status)

    def _add_target(self, name: str, dir_fd: int) -> None:
        try:
            target = path_text(os.readlink(os.fsencode(name), dir_fd=dir_fd))
        except OSError as error:
            self.errors.append((len(self.names), error.strerror or str(error)))
            return
        self.characters += len(target)
        self.targets.append((len(self.names), target))

    def table(self, path: str) -> EntryTable:
        columns: dict[str, Any] = {
            column: _column([getattr(status, attribute) for status in self.stats])
            for column, attribute in zip(COLUMNS, _ATTRIBUTES)
        }
        return EntryTable(
            path, tuple(self.names), targets=tuple(self.targets), errors=tuple(self.errors), **columns
        )


def _column(values: list[Any]) -> tuple[int, ...]:
    """One value for all where they are the same. The stand-in for what could not be examined has floats."""
    if values and values.count(values[0]) == len(values):
        return (int(values[0] or 0),)
    return tuple([int(value or 0) for value in values])


def pages(root: Root, path: str, limit: int) -> Iterator[tuple[EntryTable, bool]]:
    """Every entry in the kernel's order, and whether another page follows; the last one may be empty.

    An entry that vanishes before it is examined is left out, as it would be a moment later.
    """
    fd = root.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.scandir(fd) as entries:
            page = _Page()
            for entry in entries:
                page.add(entry, fd)
                if len(page.names) >= limit or page.characters > PAGE_CHARACTERS:
                    yield page.table(path), True
                    page = _Page()
        yield page.table(path), False
    except OSError as error:
        raise from_os_error(error, f"the directory {path} cannot be read to its end") from error
    finally:
        os.close(fd)
