"""Globs of a recipe: *, ? and [...] within a name, ** for any number of directories."""

from __future__ import annotations

import fnmatch
import posixpath
import re

_MAGIC = re.compile(r"[*?\[]")
MAX_DEPTH = 16
"""Of ** below its directory."""


def is_glob(path: str) -> bool:
    return _MAGIC.search(path) is not None


def top(pattern: str) -> tuple[str, int]:
    """(the directory that the search begins in, how deep it goes)."""
    parts = pattern.strip("/").split("/")
    fixed = next(index for index, part in enumerate(parts) if is_glob(part))
    depth = MAX_DEPTH if "**" in parts else len(parts) - fixed
    return "/" + "/".join(parts[:fixed]), depth


def matches(pattern: str, path: str) -> bool:
    """Name by name: `*` never crosses a slash, and a pattern costs at most its length times the path's."""
    names = posixpath.normpath(path).strip("/").split("/")
    reached = {0}
    for part in posixpath.normpath(pattern).strip("/").split("/"):
        if part == "**":
            reached = set(range(min(reached), len(names) + 1)) if reached else set()
        else:
            reached = {i + 1 for i in reached if i < len(names) and fnmatch.fnmatchcase(names[i], part)}
    return len(names) in reached
