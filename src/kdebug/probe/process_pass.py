"""One reading of the process table, a row at a time: memory stays that of a page for 10,000 processes."""

from __future__ import annotations

import time

from kdebug.annotations import TYPE_CHECKING, Iterator
from kdebug.protocol.processes import Process

if TYPE_CHECKING:
    from kdebug.probe.process_table import ProcessTable


class Pass:
    """Iterate `rows` to its end, then ask who is `gone`."""

    def __init__(self, table: ProcessTable, generation: int, since: int, fds: bool, scope: str) -> None:
        self._table = table
        self._gone: list[tuple[int, int]] = []
        self.since = since
        """0: every row; else those that changed under a later generation."""
        self.fds = fds
        self.generation = generation
        """Send it as `since` to get only what changes after this pass."""
        self.stamp = generation
        """Under which this pass files what it finds changed; moves on when other passes begin."""
        self.listed = generation
        """When the pids were listed: whoever was not seen since then has ended."""
        self.full = since == 0
        self.scope = scope
        self.taken_at = time.time()
        self.cost_seconds = 0.0
        """CPU time spent so far, by whichever thread took the pages."""

    def rows(self) -> Iterator[Process]:
        """Every row, or every row that changed after `since`; a process that ends meanwhile is skipped.

        Raises `OSError` only when the agent itself is short of something (descriptors, memory).
        """
        table, since = self._table, self.since
        started = time.thread_time()
        self.listed = table.generation
        for pid in table.pids():
            known = table.look(pid, self)
            if known is not None and known.changed > since and known.row is not None:
                self.cost_seconds += time.thread_time() - started
                yield known.row
                started = time.thread_time()
        self._gone = table.end_pass(self)
        self.cost_seconds += time.thread_time() - started

    def gone(self) -> list[tuple[int, int]]:
        """(pid, start_ticks) of who ended since, once `rows` is exhausted; empty on a full pass."""
        return [] if self.full else self._gone
