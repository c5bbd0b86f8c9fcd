"""The guided tour on `demo:`: what to do next, in a few lines at the bottom, and that it was done.

Nothing is played back and nothing runs by the clock: each step looks at the screen that the user has in
front of them, whatever way led there. Escape hides the panel and `T` brings it back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import Static

from kdebug.errors import KdebugError
from kdebug.mask import looks_secret
from kdebug.protocol.processes import EnvVar, FdInfo
from kdebug.tui.files import FilesPane
from kdebug.tui.lines import Line, draw
from kdebug.tui.network import NetworkPane
from kdebug.tui.pane import Pane
from kdebug.tui.processes import ProcessesPane
from kdebug.tui.screen import SessionScreen
from kdebug.tui.session import Session, State
from kdebug.tui.status import StatusLine
from kdebug.tui.theme import DIM, GOOD, PLAIN, STRONG, styles
from kdebug.tui.work import start

LOOK_SECONDS = 0.25
"""How often the state of the screen is compared with what is to be done."""
CONFIG = "/etc/app/config.yaml"
LEAST_HEIGHT = 18
"""On a smaller screen the panel would leave nothing to look at."""


@dataclass(frozen=True)
class Step:
    """One thing to find."""

    place: type[Pane]
    task: str
    """What to do; {tab} is the number of the tab."""
    found: Callable[[SessionScreen], bool]
    """Whether it is in front of the user now."""
    learnt: str
    """What was seen, once it was."""


def _leak_found(screen: SessionScreen) -> bool:
    pane = screen.pane
    process = (
        pane.detail.process if isinstance(pane, ProcessesPane) and pane.has_class("detailed") else None
    )
    return process is not None and process.name == "worker-leak"


def _in_sight(screen: SessionScreen, section: str) -> list[object]:
    """What can be seen of one section of a process' details; of any process, for all of them inherited
    the server's descriptors and environment."""
    pane = screen.pane
    if not isinstance(pane, ProcessesPane) or not pane.has_class("detailed"):
        return []
    return list(pane.detail.rows_in_sight) if pane.detail.section == section else []


def _deleted_found(screen: SessionScreen) -> bool:
    rows = _in_sight(screen, "fds")
    return any(isinstance(row, FdInfo) and row.deleted and row.kind == "file" for row in rows)


def _secret_found(screen: SessionScreen) -> bool:
    rows = _in_sight(screen, "env")
    return any(isinstance(row, EnvVar) and looks_secret(row.name, row.value or "") for row in rows)


def _close_wait_found(screen: SessionScreen) -> bool:
    pane = screen.pane
    row = pane.connection.row if isinstance(pane, NetworkPane) and pane.has_class("detailed") else None
    return row is not None and row.entry.state == "CLOSE-WAIT"


def _config_read(screen: SessionScreen) -> bool:
    pane = screen.pane
    if not isinstance(pane, FilesPane) or not pane.has_class("reading"):
        return False
    return pane.view.path.endswith("/config.yaml") and pane.view.problem is None


STEPS = (
    Step(
        ProcessesPane,
        "Somebody's memory grows. [{tab}] Processes, [m] sorts by memory: whose RSS is higher at each "
        "refresh? Put the cursor on it (j k) and press [enter].",
        _leak_found,
        "worker-leak: it keeps 256 KiB more each second",
    ),
    Step(
        ProcessesPane,
        "A deleted file takes space that du cannot find. Put the cursor on /app/server, with [enter] "
        "where the details are closed, and press ] until they show fds; [enter] goes in, [G] to the end.",
        _deleted_found,
        "upload-7f3a.tmp (deleted): 3 MiB until its descriptor is closed",
    ),
    Step(
        ProcessesPane,
        "What was it started with? Once more ] shows the environment. Its secrets are masked; [v] in "
        "there shows them when you must.",
        _secret_found,
        "DB_PASSWORD and its like stay hidden until they are asked for",
    ),
    Step(
        NetworkPane,
        "[{tab}] Network: a connection was closed by its peer and forgotten by its owner. Put the cursor "
        "on the one in CLOSE-WAIT and press [enter]. ([o] would go to its owner.)",
        _close_wait_found,
        "the client never closes what its upstream has closed",
    ),
    Step(
        FilesPane,
        f"[{{tab}}] Files: the config lies behind absolute symlinks, and there is no shell. [o], type "
        f"{CONFIG}, [enter], and [enter] again to read it.",
        _config_read,
        "links were followed inside the target's own root",
    ),
)
THE_END = (
    "That was the tour. [?] has the keys of each place, [:] every command by name, [q] leaves: the "
    "practice target ends with it. `kdebug attach POD` does the same on a cluster."
)


class TourPanel(Static):
    DEFAULT_CSS = """
    TourPanel { height: auto; max-height: 5; padding: 0 1; background: $panel; border-top: solid $accent; }
    """

    def show(self, number: int, steps: Sequence[Step], task: str, learnt: str) -> None:
        count = "tour, done" if number >= len(steps) else f"tour {number + 1} of {len(steps)}"
        looks = styles(self.app.theme_variables)
        head = Text(f"{count}  ", looks[STRONG], end="")
        if learnt:
            head.append(f"✓ {learnt}", looks[GOOD])
        else:
            head.append("esc hides this, T brings it back", looks[DIM])
        width = max(1, self.app.size.width - 2)  # its own is not known while it is hidden
        head.truncate(width, overflow="ellipsis")
        body = draw([Line(task, PLAIN)], looks, width)
        body.rstrip()
        self.update(Text("\n").join([head, body]))


class TourScreen(SessionScreen):
    """A session screen with the tour below it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("T", "toggle_tour", "Show or hide the tour")]

    def __init__(self, session: Session, panes: Sequence[Pane]) -> None:
        super().__init__(session, panes)
        kinds = {type(pane) for pane in panes}
        self.steps = [step for step in STEPS if step.place in kinds]
        self.step = 0
        self.hidden = False
        self._learnt = ""
        self._asked = False

    def on_mount(self) -> None:
        self.mount(TourPanel(id="tour"), before=self.query_one(StatusLine))
        self.set_interval(LOOK_SECONDS, self._look)
        self.call_after_refresh(self._show)

    def on_resize(self) -> None:
        self.call_after_refresh(self._show)

    def action_back(self) -> None:
        """Whatever is open inside is closed first, then the panel."""
        if self.filtering or self.hidden or self.session.state is not State.LIVE:
            super().action_back()
        else:
            self.action_toggle_tour()

    def action_toggle_tour(self) -> None:
        self.hidden = not self.hidden
        self._show()
        if self.hidden:
            self.tell("T brings the tour back")

    def _look(self) -> None:
        if self.session.state is not State.LIVE:
            return
        if not self._asked:
            self._asked = True
            start(self, "tour", self._leave_out_what_is_not_there)
        while self.step < len(self.steps) and self.steps[self.step].found(self):
            self._learnt = self.steps[self.step].learnt
            self.step += 1
            self._show()

    async def _leave_out_what_is_not_there(self) -> None:
        """Where namespaces are not allowed, the practice target has the machine's files and no config."""
        try:
            await self.session.ask("the config", lambda target: target.stat(CONFIG))
        except KdebugError:
            self.steps = [step for step in self.steps if step.place is not FilesPane]
            self._show()

    def _show(self) -> None:
        panel = self.query_one(TourPanel)
        panel.display = not self.hidden and self.size.height >= LEAST_HEIGHT
        panel.show(self.step, self.steps, self.task_text(), self._learnt)

    def task_text(self) -> str:
        if self.step >= len(self.steps):
            return THE_END
        step = self.steps[self.step]
        tab = next(index for index, pane in enumerate(self.panes) if isinstance(pane, step.place))
        return step.task.replace("{tab}", str(tab + 1))
