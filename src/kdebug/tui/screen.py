"""The session screen: header, tabs, the tab in use, filter, status. It routes keys; tabs do the work."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Optional, TypeVar, cast

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Key
from textual.screen import Screen
from textual.widgets import ContentSwitcher, Input
from textual.worker import WorkerError

from kdebug.errors import KdebugError
from kdebug.tui.dialog import Confirm
from kdebug.tui.header import Banner, SessionHeader, TabBar
from kdebug.tui.pane import Pane
from kdebug.tui.session import Session, State
from kdebug.tui.shell import look_for_shell, visit, why_not
from kdebug.tui.status import StatusLine
from kdebug.tui.tasks import Task, TaskBar, TasksScreen
from kdebug.tui.time_bar import TimeBar
from kdebug.tui.work import start

if TYPE_CHECKING:
    from kdebug.tui.app import KdebugApp

P = TypeVar("P", bound=Pane)


class SessionScreen(Screen[None]):
    DEFAULT_CSS = """
    SessionScreen { layout: vertical; background: $background; }
    SessionScreen #tabs { height: 1fr; }
    SessionScreen #filter { height: 1; border: none; padding: 0 1; display: none;
        background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        # With priority a key is done before the next one is looked at: what is typed or pasted right behind
        # a slash belongs to the filter, and behind a number to that tab.
        *(
            Binding(str(number), f"tab({number - 1})", f"Tab {number}", show=False, priority=True)
            for number in range(1, 10)
        ),
        Binding("tab", "next_tab(1)", "Next tab", show=False),
        Binding("shift+tab", "next_tab(-1)", "Previous tab", show=False),
        Binding("slash", "filter", "Filter", priority=True),
        Binding("w", "tasks", "Copies and captures, and their progress"),
        Binding("a", "attach_again", "Attach again (to the new instance)"),
        Binding("exclamation_mark", "shell", "Shell in the toolbox"),
        Binding("left_curly_bracket,alt+left", "time(-1)", "The sample before (of a bundle)"),
        Binding("right_curly_bracket,alt+right", "time(1)", "The next sample (of a bundle)"),
        Binding("q", "leave", "Leave"),
        Binding("escape", "back", "Back", show=False),
    ]

    def __init__(self, session: Session, panes: Sequence[Pane]) -> None:
        super().__init__()
        self.session = session
        self.panes = list(panes)
        self._index = 0

    def compose(self) -> ComposeResult:
        yield SessionHeader(self.session)
        yield TabBar([pane.title for pane in self.panes])
        yield Banner()
        # The other tabs are made when they are first gone to: all six would double the time to this one.
        with ContentSwitcher(initial=self.panes[0].id, id="tabs"):
            yield self.panes[0]
        yield Input(id="filter")
        yield TimeBar(self.session)
        yield TaskBar(self.session.tasks)
        yield StatusLine(self.session)

    def on_mount(self) -> None:
        self.session.changed = self._session_changed
        self.session.tasks.changed = self._task_changed
        self.set_interval(1.0, self._tick)
        self._show_tab(0)
        self.attach()

    def on_unmount(self) -> None:
        self.session.changed = lambda: None
        self.session.tasks.changed = lambda task: None

    @property
    def host(self) -> KdebugApp:
        return cast("KdebugApp", self.app)

    @property
    def pane(self) -> Pane:
        return self.panes[self._index]

    def pane_of(self, kind: type[P]) -> Optional[P]:
        return next((pane for pane in self.panes if isinstance(pane, kind)), None)

    @on(events.ScreenResume)
    def _seen_again(self) -> None:
        self.pane.start()

    # The connection

    def attach(self, wait: bool = False) -> None:
        """Open the target in the background, or once it starts; the first tab shows how far it is."""
        start(self, "attach", self._open_target, wait)

    def cancel_attach(self) -> None:
        self.workers.cancel_group(self, "attach")

    async def _open_target(self, wait: bool) -> None:
        try:
            await self.session.open(wait)
        except KdebugError:
            return  # the session knows why, and the first tab shows it
        for line in self.session.notes:
            self.tell(line)
        await look_for_shell(self.session)
        self.refresh_bindings()

    async def end_work(self) -> None:
        """End what this screen and its tabs are doing, an attach under way too, and wait for it.

        Nobody asks any more when the session is closed, and what an attach left is in its notes.
        """
        for worker in list(self.workers):
            if self in worker.node.ancestors_with_self and not worker.is_finished:
                worker.cancel()
                with contextlib.suppress(WorkerError):
                    await worker.wait()

    def action_attach_again(self) -> None:
        if self.session.state in (State.LIVE, State.OPENING):
            self.tell(f"{self.session.state.value} already")
            return
        self.attach()

    def _session_changed(self) -> None:
        # Called from workers of any widget: what follows must run where this screen is the active one.
        self.call_later(self._show_session)

    def _show_session(self) -> None:
        self.query_one(SessionHeader).update_state()
        self.query_one(Banner).show_state(self.session)
        self.query_one(StatusLine).refresh()
        self.query_one(TimeBar).update_time()
        for pane in self.panes:
            if pane.seen:
                pane.session_changed()

    def _tick(self) -> None:
        self.query_one(SessionHeader).refresh()
        if self.session.state in (State.LOST, State.ENDED):
            self.query_one(Banner).show_state(self.session)

    # Tabs

    async def show_tab(self, index: int) -> None:
        """Switch to a tab; everything in it is there when this returns."""
        if not 0 <= index < len(self.panes):
            return
        pane = self.panes[index]
        if pane.parent is None:
            pane.display = False
            await self.query_one("#tabs").mount(pane)
        self._show_tab(index)

    def _show_tab(self, index: int) -> None:
        self.pane.stop()
        self._index = index
        self.query_one("#tabs", ContentSwitcher).current = self.pane.id
        self.query_one(TabBar).activate(index)
        status = self.query_one(StatusLine)
        status.hint = self.pane.hint
        status.refresh()
        self.pane.start()
        self.pane.focus_first()  # at once: what is typed right behind the tab's number belongs to it

    async def show_pane(self, kind: type[P]) -> Optional[P]:
        """Switch to a tab by its class; None where this session has none of the kind."""
        pane = self.pane_of(kind)
        if pane is not None:
            await self.show_tab(self.panes.index(pane))
        return pane

    async def show_title(self, title: str) -> Optional[Pane]:
        """The same by what stands on it."""
        index = next((index for index, pane in enumerate(self.panes) if pane.title == title), None)
        if index is None:
            return None
        await self.show_tab(index)
        return self.panes[index]

    async def action_tab(self, index: int) -> None:
        await self.show_tab(index)

    async def action_next_tab(self, step: int) -> None:
        await self.show_tab((self._index + step) % len(self.panes))

    @on(TabBar.Picked)
    async def _picked(self, event: TabBar.Picked) -> None:
        await self.show_tab(event.index)

    def action_time(self, step: int) -> None:
        self.session.go_in_time(step)

    # Filter

    def check_action(self, action: str, parameters: tuple[object, ...]) -> Optional[bool]:
        """A slash or a number typed into a field is just that; a shell is offered where there is one, and
        another time where there is a recording."""
        if action == "shell":
            return not why_not(self.session)
        if action == "time":
            timeline = self.session.timeline
            return timeline is not None and bool(timeline.stops)
        return not (action in ("filter", "tab") and isinstance(self.focused, Input))

    def action_filter(self) -> None:
        field = self.query_one("#filter", Input)
        field.value, field.placeholder = self.pane.needle, self.pane.filter_words
        # At once, not with the next layout.
        field.display = True
        self.set_focus(field)

    @on(Input.Changed, "#filter")
    def _filter_changed(self, event: Input.Changed) -> None:
        if self.query_one("#filter", Input).has_focus:
            self.pane.filter(event.value)

    @on(Input.Submitted, "#filter")
    def _filter_kept(self, event: Input.Submitted) -> None:
        self._end_filter()
        self.pane.filter(event.value)  # the last letters may still be on their way
        self.pane.focus_first()

    @property
    def filtering(self) -> bool:
        """Whether a filter is being typed."""
        return self.query_one("#filter", Input).display

    def _end_filter(self) -> None:
        self.query_one("#filter", Input).display = False

    def action_back(self) -> None:
        if self.filtering:
            self._end_filter()
            self.pane.filter("")
        elif self.session.state is State.OPENING:
            self.cancel_attach()
        self.pane.focus_first()

    # The rest

    def tell(self, message: str) -> None:
        self.query_one(StatusLine).tell(message)

    def _task_changed(self, task: Task) -> None:
        self.query_one(TaskBar).update_tasks()
        if not task.running:
            self.tell(f"{task.name}: {task.state}: {task.line()}")

    def action_tasks(self) -> None:
        self.app.push_screen(TasksScreen(self.session.tasks))

    def action_shell(self) -> None:
        start(self, "shell", visit, self)

    def on_key(self, event: Key) -> None:
        """Where no shell is offered its key has no action, and says why."""
        if event.key == "exclamation_mark" and (reason := why_not(self.session)):
            self.tell(f"no shell: {reason}")

    def action_leave(self) -> None:
        running = len(self.session.tasks.running)
        if not running:
            self.host.leave(self)
            return

        def answered(yes: Optional[bool]) -> None:
            if yes:
                self.host.leave(self)

        works = "copy or capture is" if running == 1 else "copies or captures are"
        question = f"{running} {works} still running: leave and stop?"
        warning = "The same copy goes on later; of a capture there is what it took until now."
        self.app.push_screen(Confirm(question, warning), answered)
