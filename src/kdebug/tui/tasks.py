"""Copies and captures in the background: each shows its progress and can be cancelled, none is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import ClassVar, Optional

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Static

from kdebug.errors import KdebugError, from_os_error
from kdebug.target.transfer import Progress, TransferReport, Watcher
from kdebug.tui.dialog import Dialog
from kdebug.tui.table import Cell, Column, LineTable
from kdebug.tui.text import plain
from kdebug.tui.theme import BAD, DIM, GOOD, PLAIN, WARN
from kdebug.units import age, size

MAX_KEPT = 100
"""Ended tasks in the list; the oldest goes first."""
RATE_SECONDS = 3.0
"""The rate is that of so long a time."""

Copy = Callable[[Watcher, TransferReport], Awaitable[TransferReport]]


class Task:
    """One copy or capture."""

    def __init__(self, name: str, copy: Copy, changed: Callable[[Task], None]) -> None:
        self.name = name
        """What is copied where to, for people; remote text is raw."""
        self.report = TransferReport()
        self.progress: Optional[Progress] = None
        self.problem: Optional[KdebugError] = None
        self.state = "running"
        """running, done, incomplete, failed or cancelled."""
        self.began = time.monotonic()
        self.ended: Optional[float] = None
        self._changed = changed
        self._marks: list[tuple[float, int]] = []
        self._job = asyncio.create_task(self._run(copy), name="kdebug-copy")

    async def _run(self, copy: Copy) -> None:
        try:
            await copy(self._watch, self.report)
            self.state = "done" if self.report.complete else "incomplete"
        except asyncio.CancelledError:
            self.state = "cancelled"
        except KdebugError as error:
            self.state, self.problem = "failed", error
        except OSError as error:
            self.state, self.problem = "failed", from_os_error(error, "the copy failed")
        self.ended = time.monotonic()
        self._changed(self)

    def _watch(self, progress: Progress) -> None:
        now = time.monotonic()
        self.progress = progress
        self._marks = [mark for mark in self._marks if now - mark[0] < RATE_SECONDS]
        self._marks.append((now, progress.done_bytes))

    async def cancel(self) -> None:
        """Stop it; what came so far can be resumed by the same copy."""
        self._job.cancel()
        await asyncio.gather(self._job, return_exceptions=True)

    @property
    def running(self) -> bool:
        return self.ended is None

    def rate(self) -> float:
        """Bytes a second of late; 0 where it is not known yet."""
        if len(self._marks) < 2:
            return 0.0
        (began, first), (now, last) = self._marks[0], self._marks[-1]
        return (last - first) / (now - began) if now > began else 0.0

    def line(self) -> str:
        """How far it is, or what came of it, in one line."""
        if self.problem is not None:
            return str(self.problem)
        if not self.running:
            return self._ending()
        progress = self.progress
        if progress is None:
            return "starting"
        rate, total = self.rate(), progress.total_bytes
        parts = [f"{size(progress.done_bytes)} of {size(total)}" if total else size(progress.done_bytes)]
        parts += [f"{100 * progress.done_bytes // total} %"] if total else [f"{progress.files} files"]
        parts += [f"{size(rate)}/s"] if rate else []
        parts += [f"{age((total - progress.done_bytes) / rate)} left"] if rate and total else []
        return "  ".join(parts)

    def _ending(self) -> str:
        report = self.report
        parts = [f"{report.files} file{'' if report.files == 1 else 's'}, {size(report.bytes)}"]
        parts += [f"{report.verified_files} verified"] if report.verified_files else []
        parts += [f"{report.skipped.count} skipped"] if report.skipped.count else []
        parts += [f"{report.failed.count} failed: {report.failed.kept[0]}"] if report.failed.count else []
        parts += [report.capped] if report.capped else []
        parts += [f"{report.left_part} is kept: the same copy resumes it"] if report.left_part else []
        return ", ".join(parts)


class Tasks:
    """All copies of a session."""

    def __init__(self) -> None:
        self.all: list[Task] = []
        self.changed: Callable[[Task], None] = lambda task: None
        """Called when one began or ended."""

    def start(self, name: str, copy: Copy) -> Task:
        task = Task(name, copy, lambda task: self.changed(task))
        self.all.append(task)
        ended = [task for task in self.all if not task.running]
        for old in ended[: max(0, len(self.all) - MAX_KEPT)]:
            self.all.remove(old)
        self.changed(task)
        return task

    @property
    def running(self) -> list[Task]:
        return [task for task in self.all if task.running]

    async def cancel_all(self) -> None:
        await asyncio.gather(*(task.cancel() for task in self.running))


class TaskBar(Widget):
    """One line while something is copied."""

    DEFAULT_CSS = """
    TaskBar { height: 1; background: $surface; color: $accent; display: none; padding: 0 1;
        text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self.tasks = tasks

    def on_mount(self) -> None:
        self.set_interval(0.5, self.update_tasks)

    def update_tasks(self) -> None:
        if self.display or self.tasks.running:
            self.display = bool(self.tasks.running)
            self.refresh()

    def render(self) -> Text:
        running = self.tasks.running
        if not running:
            return Text()
        first = running[0]
        more = f"  (+{len(running) - 1} more)" if len(running) > 1 else ""
        return plain(f"↕ {first.name}  {first.line()}{more}  [w] tasks")


STATES = {"running": PLAIN, "done": GOOD, "incomplete": WARN, "failed": BAD, "cancelled": DIM}


def _state(task: Task) -> Cell:
    return task.state, STATES[task.state]


class TasksScreen(Dialog[None]):
    """The list; `x` cancels."""

    DEFAULT_CSS = """
    TasksScreen { align: center middle; background: $background 60%; }
    TasksScreen > Vertical { width: 110; max-width: 98%; height: 16; max-height: 90%; padding: 0 1;
        border: round $primary; background: $surface; }
    TasksScreen #line { height: auto; max-height: 4; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,w", "dismiss", "Close"),
        Binding("x", "cancel", "Cancel it"),
    ]

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self.tasks = tasks

    def compose(self) -> ComposeResult:
        columns: list[Column[Task]] = [
            Column("state", "STATE", 10, _state),
            Column("name", "WHAT", 44, lambda task: (task.name, PLAIN)),
            Column("line", "PROGRESS", 0, lambda task: (task.line(), DIM)),
        ]
        with Vertical():
            yield Static(Text("Copies and captures of this session   [x] cancel   [esc] close", "bold"))
            yield LineTable(columns, id, id="tasks", empty="nothing was copied or captured yet")
            yield Static(id="line")

    def on_mount(self) -> None:
        self._show()
        self.set_interval(0.5, self._show)
        self.query_one(LineTable).focus()

    def _show(self) -> None:
        table = self.query_one(LineTable)
        table.show(reversed(self.tasks.all))
        task = table.selected
        self.query_one("#line", Static).update(plain(f"{task.name}: {task.line()}") if task else Text())

    async def action_cancel(self) -> None:
        task = self.query_one(LineTable).selected
        if task is not None and task.running:
            await task.cancel()
            self._show()
