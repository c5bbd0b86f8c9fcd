"""Copies between a target and this machine: what may be asked, what is told, and the two verbs.

Nothing here prints: the caller gets a `TransferReport`, and `Progress` while it lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kdebug.errors import Failed

if TYPE_CHECKING:
    from kdebug.target.target import Target

MAX_FILES = 100_000
"""Entries of one copy unless told otherwise: far above what people copy."""
MAX_BYTES = 10 * 1024**3
MAX_DEPTH = 256
"""Directories below each other; each is an open descriptor here."""
KEPT_LINES = 200
"""Lines kept of each kind; the rest is counted."""


@dataclass(frozen=True)
class TransferOptions:
    recursive: bool = False
    overwrite: bool = False
    """Replace files that exist at the destination."""
    links: bool = False
    """Make symlinks; otherwise they are skipped and counted."""
    special_bits: bool = False
    """Keep setuid, setgid and sticky bits."""
    max_files: int = MAX_FILES
    max_bytes: int = MAX_BYTES
    compress: str = "auto"
    """auto, always or never."""


@dataclass(frozen=True)
class Progress:
    """Where a transfer is."""

    path: str
    done_bytes: int
    """Contents that are in place, those of an earlier run included; holes count."""
    total_bytes: int | None
    """None where nobody knows, as for a directory that is still being walked."""
    files: int
    resumed_bytes: int = 0


Watcher = Callable[[Progress], None]


@dataclass
class Lines:
    """Sentences about single entries: the first of them, and how many there are."""

    count: int = 0
    kept: list[str] = field(default_factory=list)

    def add(self, line: str) -> None:
        self.count += 1
        if len(self.kept) < KEPT_LINES:
            self.kept.append(line)


@dataclass
class TransferReport:
    """What became of a copy. Remote text in the lines is raw: sanitise what you show."""

    files: int = 0
    directories: int = 0
    links: int = 0
    bytes: int = 0
    """Length of the files copied, holes included."""
    data_bytes: int = 0
    """Of them what was read or written as data in this run."""
    travelled_bytes: int = 0
    """Contents on the wire, packed as they were."""
    resumed_bytes: int = 0
    """Taken over from a part of an earlier run, after its digest was compared."""
    unchanged: int = 0
    """Files of a directory that were there already: same size, time and SHA-256."""
    reconnects: int = 0
    verified_files: int = 0
    """Every piece had the SHA-256 that the agent computed of what it read (or wrote)."""
    sha256: str = ""
    """Of the one file, where it is one."""
    skipped: Lines = field(default_factory=Lines)
    """Not copied because it was not asked for: symlinks, FIFOs, devices, sockets."""
    failed: Lines = field(default_factory=Lines)
    """Not copied, or not as it was, though it was asked for."""
    notes: Lines = field(default_factory=Lines)
    capped: str = ""
    """Which cap ended it; empty when none did."""
    left_part: str = ""
    """The local part of a file whose copy was broken off: the same command goes on from it."""

    @property
    def complete(self) -> bool:
        return not (self.failed.count or self.capped)


class CapReached(Failed):
    """A cap of the options; what was copied before stays."""


class Budget:
    """The caps, counted on what really comes."""

    def __init__(self, options: TransferOptions) -> None:
        self._options = options
        self.entries = 0
        self.bytes = 0

    def entry(self) -> None:
        """One more name, of whatever kind."""
        if self.entries >= self._options.max_files:
            raise CapReached(
                f"only the first {self.entries} entries were copied", next_step="raise --max-files for more"
            )
        self.entries += 1

    def data(self, count: int) -> None:
        """`count` bytes of contents are about to be written."""
        self.check(count)
        self.bytes += count

    def check(self, count: int) -> None:
        """Raise `CapReached` where `count` more bytes would be too many."""
        if self.bytes + count > self._options.max_bytes:
            raise CapReached(
                f"the copy ended at {self.bytes} bytes",
                why=f"at least {count} more would pass the cap of {self._options.max_bytes}",
                next_step="raise --max-bytes for more",
            )


async def download(
    target: Target,
    sources: Sequence[str],
    destination: str,
    options: TransferOptions,
    progress: Watcher = lambda now: None,
    report: TransferReport | None = None,
) -> TransferReport:
    """Copy paths of the target (globs where no such name exists) to a local file or directory.

    Problems of single entries are in the report; raises `KdebugError` for what ends it all. `report` is
    filled as it goes, so a caller that is interrupted knows where things stand.
    """
    from kdebug.target.download import Download

    return await Download(target, options, progress, report or TransferReport()).run(sources, destination)


async def upload(
    target: Target,
    sources: Sequence[str],
    destination: str,
    options: TransferOptions,
    progress: Watcher = lambda now: None,
    report: TransferReport | None = None,
) -> TransferReport:
    """Copy local paths to a file or directory of the target. As `download` otherwise."""
    from kdebug.target.upload import Upload

    return await Upload(target, options, progress, report or TransferReport()).run(sources, destination)
