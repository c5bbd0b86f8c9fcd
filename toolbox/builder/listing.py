"""The package lists: plain text that a security team can read and change."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
FLAVOURS = ("core", "full")


class BuildError(Exception):
    """One line: what failed, why, what next."""


@dataclass
class PackageList:
    """A parsed `.list` file with everything that it includes."""

    exactly: bool = False
    """No dependencies are resolved."""
    packages: list[str] = field(default_factory=list)
    wheels: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)

    def takes(self, path: str) -> bool:
        """Whether a file of a package goes into the image; a glob's `*` also matches `/`."""
        if any(fnmatch.fnmatchcase(path, glob) for glob in self.kept):
            return True
        return not any(fnmatch.fnmatchcase(path, glob) for glob in self.dropped)


def read_list(flavour: str, folder: Path = HERE) -> PackageList:
    """The list of a flavour. Raises `BuildError` at a line that means nothing."""
    found = PackageList()
    _read_into(found, folder / f"{flavour}.list")
    return found


def _read_into(found: PackageList, file: Path) -> None:
    for number, raw in enumerate(file.read_text().splitlines(), 1):
        line = raw.partition("#")[0].strip()
        if line.startswith("@include "):
            _read_into(found, file.parent / line.partition(" ")[2])
        elif line and not _add(found, line):
            raise BuildError(f"{file.name}:{number}: {line!r} is not understood")


def _add(found: PackageList, line: str) -> bool:
    lists = {"-": found.dropped, "=": found.kept, "~": found.refused}
    if line == "@exactly":
        found.exactly = True
    elif line[0] in lists:
        lists[line[0]].append(line[1:])
    elif line.startswith("+") and " -> " in line:
        path, _, text = line[1:].partition(" -> ")
        found.links[path] = text
    elif line.startswith("pypi:"):
        found.wheels.append(line.removeprefix("pypi:"))
    elif line[0].isalnum():
        found.packages.append(line)
    else:
        return False
    return True
