"""Capture: pick a recipe, see what it would take and cost, run it, open what came of it.

It asks through the session's own target: no other toolbox, no other connection. A capture is one of the
session's copies, so it goes on while other tabs are looked at, and leaving asks before it is ended.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Optional

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from kdebug.errors import Failed, KdebugError
from kdebug.expression import TargetExpression
from kdebug.target import Target
from kdebug.target.transfer import Progress, TransferReport, Watcher
from kdebug.tui.capture_text import failure_lines, offline_lines, plan_lines, progress_lines, result_lines
from kdebug.tui.dialog import Ask
from kdebug.tui.lines import Line, draw
from kdebug.tui.pane import Pane
from kdebug.tui.session import Session
from kdebug.tui.table import Cell, Column, LineTable
from kdebug.tui.tasks import Task
from kdebug.tui.theme import BAD, DIM, PLAIN, styles
from kdebug.tui.work import start

if TYPE_CHECKING:
    from kdebug.capture.plan import PlannedStep
    from kdebug.capture.recipe import Recipe
    from kdebug.capture.runner import Result
    from kdebug.capture.work import Progress as Taken
    from kdebug.capturing import Opened

REDRAW_SECONDS = 0.5
"""While a capture runs."""
MOST_LINES = 10
"""Of the list of recipes; the rest of the screen is for what they would do."""


@dataclass(frozen=True)
class Choice:
    """A recipe that can be named, or why it cannot be used."""

    name: str
    recipe: Optional[Recipe]
    problem: str = ""


def choices() -> list[Choice]:
    """Every recipe by its name. Loads what other packages registered: not for the UI's loop."""
    from kdebug.capture.recipe import names

    return [choice(name) for name in names()]


def choice(name: str) -> Choice:
    """A recipe by its name or its file's."""
    from kdebug.capture.recipe import load_recipe

    try:
        return Choice(name, load_recipe(name))
    except KdebugError as error:
        return Choice(name, None, str(error))


def _about(row: Choice) -> Cell:
    return (row.recipe.description, DIM) if row.recipe is not None else (f"✗ {row.problem}", BAD)


COLUMNS: list[Column[Choice]] = [
    Column("name", "RECIPE", 16, lambda row: (os.path.basename(row.name), PLAIN)),
    Column("about", "TAKES", 0, _about),
]


class Run:
    """One capture, as it goes."""

    def __init__(self, recipe: Recipe, path: str) -> None:
        self.recipe, self.path = recipe, path
        self.began = time.monotonic()
        self.taken: Optional[Taken] = None
        self.result: Optional[Result] = None
        self.task: Optional[Task] = None

    @property
    def running(self) -> bool:
        return self.task is not None and self.task.running

    def lines(self) -> Iterator[Line]:
        if self.result is not None:
            return result_lines(self.recipe.name, self.result)
        if self.task is not None and self.task.problem is not None:
            return failure_lines(f"{self.recipe.name} was not captured", str(self.task.problem))
        return progress_lines(self.recipe.name, self.path, self.taken, time.monotonic() - self.began)

    async def work(self, found: Opened, expression: str, watch: Watcher, report: TransferReport) -> None:
        """Runs it; the report is that of the list of copies."""
        from kdebug.capture.redaction import redactions
        from kdebug.capturing import capture_opened

        def tell(taken: Taken) -> None:
            self.taken = taken
            watch(Progress(taken.step, taken.taken_bytes, None, taken.artifacts))

        self.result = await capture_opened(found, expression, self.recipe, self.path, redactions()(), tell)
        report.files, report.bytes = sum(self.result.outcomes.values()), self.result.taken_bytes
        for problem in self.result.problems:
            report.failed.add(problem)


class CapturePane(Pane):
    title: ClassVar[str] = "Capture"
    hint = "enter what it would take and cost  c capture  f a recipe of your own"
    DEFAULT_CSS = """
    CapturePane #capture { height: 1fr; padding: 0 1; border-top: solid $primary; }
    CapturePane #capture-text { height: auto; }
    CapturePane.offline #recipes { display: none; }
    CapturePane.offline #capture { border-top: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "capture", "Capture"),
        Binding("f", "file", "Use a recipe of your own"),
        Binding("x", "stop", "End the capture; what was taken makes a bundle"),
        Binding("o", "open", "Open what was captured"),
        Binding("y", "copy", "Copy the path of what was captured"),
        Binding("right_square_bracket", "scroll(1)", "More below", show=False),
        Binding("left_square_bracket", "scroll(-1)", "Back up", show=False),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.offline = session.expression.scheme == "bundle"
        self.run: Optional[Run] = None
        self.last: Optional[Result] = None
        """What the last capture made, also when something else is on the page."""
        self._choices: list[Choice] = []
        self._planned: tuple[str, list[PlannedStep]] = ("", [])
        """Of which recipe, and its steps."""
        self._planning = ""
        self.set_class(self.offline, "offline")

    def compose(self) -> ComposeResult:
        yield LineTable(COLUMNS, lambda row: row.name, id="recipes", empty="reading the recipes …")
        with VerticalScroll(id="capture", can_focus=True):
            yield Static(id="capture-text")
        yield self.notice

    @property
    def table(self) -> LineTable[Choice]:
        return self.query_one("#recipes", LineTable)

    def may_load(self) -> bool:
        """Recipes are of this machine, and a capture tells itself how far it is."""
        return True

    async def load(self) -> Optional[float]:
        if not self._choices and not self.offline:
            self._list(await asyncio.to_thread(choices))
        self._show()
        return REDRAW_SECONDS if self.run is not None and self.run.running else None

    def _list(self, found: list[Choice]) -> None:
        self._choices = found
        self.table.styles.height = min(MOST_LINES, len(found) + 1)
        self.table.show(found)

    def on_resize(self) -> None:
        self._show()

    @property
    def needle(self) -> str:
        return self.table.needle

    def filter(self, needle: str) -> None:
        self.table.filter(needle)

    # Showing

    def _show(self) -> None:
        looks = styles(self.app.theme_variables)
        text = draw(self._lines(), looks, max(1, self.size.width - 4))
        self.query_one("#capture-text", Static).update(text)
        self.refresh_bindings()

    def _lines(self) -> Iterator[Line]:
        row = self.table.selected
        if self.offline:
            yield from offline_lines()
        elif self.run is not None:
            yield from self.run.lines()
        elif row is not None and row.recipe is not None and self._planned[0] == row.name:
            target = self.session.target
            yield from plan_lines(row.recipe, self._planned[1], target.rung if target else "")
        elif row is not None and row.problem:
            yield from failure_lines(f"{row.name} cannot be used", row.problem)
        elif self._planning:
            yield Line(f"looking what {self._planning} would take …")
        else:
            yield Line("[enter] looks what it would take and cost; nothing is taken  [c] captures", DIM)

    # The dry run

    @on(LineTable.Highlighted, "#recipes")
    def _highlighted(self) -> None:
        if self.run is not None and not self.run.running:
            self.run = None
        self._show()

    @on(LineTable.Chosen, "#recipes")
    def _chosen(self, event: LineTable.Chosen) -> None:
        row: Choice = event.row
        if row.recipe is not None and (self.run is None or not self.run.running):
            self.run, self._planning = None, row.name
            start(self, "plan", self._plan, row.recipe, row.name)

    async def _plan(self, recipe: Recipe, name: str) -> None:
        from kdebug.capturing import planned

        self._show()
        try:
            found = self._opened()

            async def look(target: Optional[Target] = None) -> list[PlannedStep]:
                return await planned(found, recipe)

            steps = await (self.session.ask("the dry run", look) if found.target is not None else look())
        except KdebugError as error:
            self.notice.tell(f"✗ {error}")
        else:
            self.notice.tell("")
            self._planned = name, steps
        self._planning = ""
        self._show()

    def _opened(self) -> Opened:
        """Raises `KdebugError` where there is nothing to take: neither a target nor a pod."""
        from kdebug.capturing import Opened

        session = self.session
        if session.target is None and (session.pod is None or session.problem is None):
            raise session.problem or Failed("not attached yet")
        problem = session.problem if session.target is None else None
        return Opened(session.target, session.cluster, session.pod, problem)

    # The capture

    def check_action(self, action: str, parameters: tuple[object, ...]) -> Optional[bool]:
        running = self.run is not None and self.run.running
        if action in ("open", "copy"):
            return self.last is not None
        if action == "stop":
            return running
        if action in ("capture", "file"):
            return not self.offline and not running
        return True

    def action_capture(self) -> None:
        from kdebug.capturing import SUFFIX, default_name

        row = self.table.selected
        if row is None or row.recipe is None:
            return
        recipe, name = row.recipe, default_name(str(self.session.expression)) + SUFFIX

        def answered(path: Optional[str]) -> None:
            if path:
                self._begin(recipe, os.path.abspath(os.path.expanduser(path)))

        self.app.push_screen(Ask(f"Capture {row.name} into", os.path.join(os.getcwd(), name)), answered)

    def _begin(self, recipe: Recipe, path: str) -> None:
        try:
            found = self._opened()
        except KdebugError as error:
            self.notice.tell(f"✗ {error}")
            return
        if os.path.lexists(path):
            self.notice.tell(f"✗ {path} is there already: choose another name")
            return
        self.notice.tell("")
        run = self.run = Run(recipe, path)

        async def copy(watch: Watcher, report: TransferReport) -> TransferReport:
            await run.work(found, str(self.session.expression), watch, report)
            if run.result is not None:
                self.last = run.result
                self.session.bundles.append(run.result.path)
            return report

        run.task = self.session.tasks.start(f"capture {recipe.name}", copy)
        self.wake()

    async def action_stop(self) -> None:
        if self.run is not None and self.run.task is not None:
            await self.run.task.cancel()
            self.wake()

    def action_file(self) -> None:
        def answered(path: Optional[str]) -> None:
            if path:
                start(self, "file", self._use_file, os.path.abspath(os.path.expanduser(path)))

        self.app.push_screen(Ask("A recipe of your own (YAML)", os.getcwd() + "/"), answered)

    async def _use_file(self, path: str) -> None:
        found = await asyncio.to_thread(choice, path)
        self._list([*(row for row in self._choices if row.name != path), found])
        self.table.select(found.name)
        self._show()

    def action_open(self) -> None:
        if self.last is not None:
            self.host.open_session(TargetExpression("bundle", self.last.path), self.host.options)

    def action_copy(self) -> None:
        if self.last is not None:
            self.host.copy_line(self.last.path)

    def action_scroll(self, step: int) -> None:
        self.query_one("#capture").scroll_relative(y=5 * step, animate=False)
