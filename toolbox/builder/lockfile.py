"""The lock: which version of which package, with the SHA-256 that its bytes must have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from builder.listing import HERE, BuildError

FILE = HERE / "packages.lock"
ARCHITECTURES = ("amd64", "arm64")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, order=True)
class Locked:
    """One file to fetch."""

    flavour: str
    architecture: str
    """amd64 or arm64: of the image, not of the package (which may be for all)."""
    source: str
    """deb or pypi."""
    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Lock:
    epoch: int
    """Seconds since the Unix epoch: the time that every file of the image carries."""
    entries: tuple[Locked, ...]

    def of(self, flavour: str, architecture: str) -> tuple[Locked, ...]:
        """What one image is made of. Raises `BuildError` when the lock does not know it."""
        found = tuple(e for e in self.entries if (e.flavour, e.architecture) == (flavour, architecture))
        if not found:
            raise BuildError(f"{FILE.name} holds nothing for {flavour} on {architecture}")
        return found


def parse(text: str) -> Lock:
    """Lines of `flavour architecture source name version sha256`, after `epoch SECONDS`."""
    epoch, entries = 0, []
    for number, raw in enumerate(text.splitlines(), 1):
        fields = raw.partition("#")[0].split()
        if len(fields) == 2 and fields[0] == "epoch" and fields[1].isdigit():
            epoch = int(fields[1])
        elif len(fields) == 6 and _SHA256.fullmatch(fields[5]):
            entries.append(Locked(*fields))
        elif fields:
            raise BuildError(f"line {number} of the lock is not understood: {raw!r}")
    return Lock(epoch, tuple(entries))


def read(file: Path = FILE) -> Lock:
    try:
        return parse(file.read_text())
    except FileNotFoundError:
        raise BuildError(f"there is no {file.name}; make it with `python3 toolbox/lock.py`") from None


def render(lock: Lock) -> str:
    head = "# Made by toolbox/lock.py. flavour architecture source name version sha256\n"
    rows = [
        f"{e.flavour} {e.architecture} {e.source} {e.name} {e.version} {e.sha256}\n"
        for e in sorted(lock.entries)
    ]
    return f"{head}epoch {lock.epoch}\n{''.join(rows)}"
