"""The process table of a session, kept up to date by deltas: CPU% from two looks, the tree, who grows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Optional

from kdebug.growth import Growth
from kdebug.protocol.processes import Process, ProcessPage

ProcessKey = tuple[int, int]
"""(pid, start_ticks): a PID that was given to another process is another row."""
INTERVAL_SECONDS = 2.0
"""Between two looks; longer where the agent asks for it, to keep its share of the CPU."""


@dataclass(eq=False, slots=True)
class ProcessRow:
    process: Process
    cpu_percent: Optional[float]
    """Share of one core between the last two looks; None at the first one."""
    branch: str = ""
    """What a tree draws before the command."""
    ours: bool = False
    """A process of kdebug's own toolbox."""
    words: str = ""
    """What a filter looks at; made at the first filter, and kept for as long as it would be the same."""
    key: ProcessKey = field(init=False)

    def __post_init__(self) -> None:
        self.key = self.process.pid, self.process.start_ticks

    def searched(self) -> str:
        process = self.process
        if not self.words:
            owner = process.user or ("-" if process.uid is None else process.uid)
            self.words = f"{process.pid} {owner} {process.name} {process.command}".casefold()
        return self.words


class ProcessModel:
    """The process table kept up to date by deltas."""

    def __init__(self) -> None:
        self.rows: dict[ProcessKey, ProcessRow] = {}
        self.growth = Growth()
        """Whose memory rises."""
        self._page: Optional[ProcessPage] = None

    @property
    def since(self) -> int:
        return self._page.generation if self._page else 0

    def forget(self) -> None:
        """Another agent counts its passes anew."""
        self._page = None
        self.growth.forget()

    def apply(self, page: ProcessPage, own_container: Optional[str]) -> None:
        """Take in one answer to `ListProcesses(since=self.since)`."""
        before = self._page
        elapsed = page.taken_at - before.taken_at if before else 0.0
        old = self.rows
        kept = {} if page.full else dict(old)
        for row in kept.values():
            row.cpu_percent = 0.0  # whoever the delta does not name has used none since
        for process in page.items:
            key = (process.pid, process.start_ticks)
            seen = old.get(key)
            percent = _percent(seen, process, elapsed)
            ours = own_container is not None and process.container == own_container
            words = seen.words if seen is not None and _same_words(seen.process, process) else ""
            kept[key] = ProcessRow(process, percent, ours=ours, words=words)
        for pid, start_ticks in page.gone:
            kept.pop((pid, start_ticks), None)
        self.rows, self._page = kept, page
        self.growth.apply(page, own_container)

    @property
    def pause(self) -> float:
        return max(INTERVAL_SECONDS, self._page.next_after_seconds if self._page else 0.0)


def _percent(row: Optional[ProcessRow], process: Process, elapsed: float) -> Optional[float]:
    if row is None or elapsed <= 0:
        return None
    return max(0.0, 100 * (process.cpu_seconds - row.process.cpu_seconds) / elapsed)


def _same_words(old: Process, new: Process) -> bool:
    return (old.name, old.user, old.uid, old.cmdline) == (new.name, new.user, new.uid, new.cmdline)


def tree(rows: Iterable[ProcessRow]) -> list[ProcessRow]:
    """Children below their parents, by PID; whoever's parent is not there is a root."""
    everyone = sorted(rows, key=lambda row: row.process.pid)
    pids = {row.process.pid for row in everyone}
    children: dict[int, list[ProcessRow]] = {}
    roots = []
    for row in everyone:
        parent = row.process.ppid
        if parent in pids and parent != row.process.pid:
            children.setdefault(parent, []).append(row)
        else:
            roots.append(row)
    ordered: list[ProcessRow] = []
    # A stack of our own: a chain of 10,000 children would end Python's.
    waiting = [(row, "", "") for row in reversed(roots)]
    seen: set[ProcessKey] = set()
    while waiting:
        row, lead, below = waiting.pop()
        if row.key in seen:
            continue
        seen.add(row.key)
        ordered.append(replace(row, branch=lead))
        below = below[-64:]
        offspring = children.get(row.process.pid, [])
        for index, child in reversed(list(enumerate(offspring))):
            last = index == len(offspring) - 1
            waiting.append((child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  ")))
    # Parents in a ring (a hostile agent, or a PID reused between two reads) still are shown.
    ordered += [row for row in everyone if row.key not in seen]
    return ordered
