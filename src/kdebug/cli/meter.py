"""How far a search has come, on a terminal's last line; silent everywhere else."""

from __future__ import annotations

import time

from kdebug.cli import console
from kdebug.cli.table import size
from kdebug.protocol.search import Progress

QUIET_SECONDS = 1.0
"""What ends sooner needs no meter."""


class Meter:
    """Give `tell` to a search and call `clear` before anything is printed."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._drawn = False
        self.last = Progress()

    def tell(self, progress: Progress) -> None:
        self.last = progress
        if time.monotonic() - self._began > QUIET_SECONDS:
            read = f", {size(progress.bytes_read)} read" if progress.bytes_read else ""
            self._drawn = console.progress(f"{progress.entries} names looked at{read}") or self._drawn

    def clear(self) -> None:
        if self._drawn:
            console.progress("")
            self._drawn = False
