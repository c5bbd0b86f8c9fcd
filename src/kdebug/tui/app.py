"""The application: themes, palette, help, and what every screen may ask of it."""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Optional

from textual.app import App
from textual.binding import Binding, BindingType
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.worker import WorkerFailed

from kdebug import settings
from kdebug.expression import TargetExpression
from kdebug.open import contexts, open_cluster, open_target
from kdebug.sanitise import one_line
from kdebug.target.options import OpenOptions
from kdebug.tui.access import AccessPane
from kdebug.tui.capture import CapturePane
from kdebug.tui.files import FilesPane
from kdebug.tui.help import HelpScreen
from kdebug.tui.logs import LogsPane
from kdebug.tui.network import NetworkPane
from kdebug.tui.overview import OverviewPane
from kdebug.tui.pane import Pane
from kdebug.tui.processes import ProcessesPane
from kdebug.tui.screen import SessionScreen
from kdebug.tui.session import ClusterOpener, ContextReader, Opener, Session
from kdebug.tui.theme import (
    AUTO,
    DARK,
    LIGHT,
    MONO,
    MONO_CSS,
    NARROW_CSS,
    THEMES,
    chosen_theme,
    without_colour,
)
from kdebug.tui.work import start


class Actions(Provider):
    """The palette: every action that has a key here, by its name."""

    def _commands(self) -> list[tuple[str, str, Callable[[], Any]]]:
        screen = self.screen
        found = {}
        for key, active in screen.active_bindings.items():
            binding = active.binding
            if binding.description and active.enabled and not binding.description.startswith("Tab "):
                run = partial(self.app.run_action, binding.action, active.node)
                found[binding.description] = (self.app.get_key_display(binding) or key, run)
        for index, pane in enumerate(getattr(screen, "panes", [])):
            found[f"Go to {pane.title}"] = (str(index + 1), partial(screen.show_tab, index))  # type: ignore[attr-defined]
        return [(name, key, run) for name, (key, run) in sorted(found.items())]

    async def discover(self) -> Hits:
        for name, key, run in self._commands():
            yield DiscoveryHit(name, run, help=key)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for name, key, run in self._commands():
            score = matcher.match(name)
            if score > 0:
                yield Hit(score, matcher.highlight(name), run, help=key)


class KdebugApp(App[None]):
    """One run of the UI."""

    TITLE = "kdebug"
    CSS = MONO_CSS + NARROW_CSS
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (8, "-upright")]
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {Actions}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("colon", "command_palette", "Commands", show=False),
        Binding("question_mark,f1", "keys", "Keys of this place"),
        Binding("ctrl+t", "other_theme", "Light or dark"),
        Binding("ctrl+z", "suspend_process", "Suspend to the shell"),
        Binding("ctrl+q", "quit", "Leave kdebug at once", show=False, priority=True),
    ]

    def __init__(
        self,
        expression: Optional[TargetExpression],
        options: OpenOptions,
        opener: Opener,
        cluster_opener: ClusterOpener = open_cluster,
        *,
        tour: bool = False,
    ) -> None:
        theme = chosen_theme(settings.load().get("theme", AUTO), os.environ)
        # Without colours the terminal's own are kept: Textual then sends none at all, not shades of grey.
        super().__init__(ansi_color=True if without_colour(os.environ) else None)
        # A page that glides is a dozen paints, and half a second, over ssh.
        self.animation_level = "none"
        self.expression = expression
        self.options = options
        self.opener = opener
        self.cluster_opener = cluster_opener
        self.contexts: ContextReader = contexts
        self.tour = tour
        """Whether the practice target is shown with the guided tour."""
        self.defect = ""
        """What ended the UI, where that was a defect of its own."""
        self.account: list[str] = []
        """What was done and what remains, for after the screen is gone."""
        for known in THEMES:
            self.register_theme(known)
        self.theme = theme.name

    def on_mount(self) -> None:
        if self.expression is not None:
            self.open_session(self.expression, self.options)
        else:
            from kdebug.tui.picker import PickerScreen

            self.push_screen(PickerScreen(self.options, self.cluster_opener, self.contexts))

    def open_session(self, expression: TargetExpression, options: OpenOptions) -> SessionScreen:
        session = Session(expression, options, self.opener, self.cluster_opener)
        kind = SessionScreen
        if self.tour and expression.scheme == "demo":
            from kdebug.tui.tour import TourScreen

            kind = TourScreen
        if isinstance(self.screen, SessionScreen):
            self.screen.pane.stop()  # not seen while a bundle lies over it
        screen = kind(session, self.panes(session))
        self.push_screen(screen)
        return screen

    def panes(self, session: Session) -> list[Pane]:
        """The tabs that make sense for this target: nothing is shown that does not work."""
        panes: list[Pane] = [
            OverviewPane(session),
            ProcessesPane(session),
            FilesPane(session),
            NetworkPane(session),
        ]
        panes += [LogsPane(session)] if session.has_pod else []
        return [*panes, AccessPane(session), CapturePane(session)]

    def leave(self, screen: SessionScreen) -> None:
        """Out of a session: back to where it was opened from, or out of kdebug."""
        start(self, "leave", self._leave, screen)

    async def _leave(self, screen: SessionScreen) -> None:
        await screen.end_work()
        self.account += account(screen.session)
        await screen.session.close()
        if len(self.screen_stack) > 2:
            self.pop_screen()
        else:
            self.exit()

    async def action_quit(self) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, SessionScreen):
                await screen.end_work()
                self.account += account(screen.session)
                with contextlib.suppress(Exception):
                    await screen.session.close()
        self.exit()

    def _handle_exception(self, error: Exception) -> None:
        """A defect in the UI: one line once the terminal is whole again, never a traceback on it.

        KDEBUG_TRACEBACK=1 shows where it happened.
        """
        if os.environ.get("KDEBUG_TRACEBACK") or self.is_headless:
            super()._handle_exception(error)
            return
        root = root_of(error)
        places = traceback.extract_tb(root.__traceback__)
        where = f" ({os.path.basename(places[-1].filename)}:{places[-1].lineno})" if places else ""
        self.defect = f"the UI failed: {type(root).__name__}: {root}{where}; this is a defect of kdebug"
        self._return_code = 1
        self._close_messages_no_wait()

    def action_keys(self) -> None:
        self.push_screen(HelpScreen(self.screen))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> Optional[bool]:
        if action == "other_theme":
            return self.theme != MONO.name
        return super().check_action(action, parameters)

    def action_other_theme(self) -> None:
        self.theme = LIGHT.name if self.theme == DARK.name else DARK.name

    def tell(self, message: str) -> None:
        """A passing line at the bottom of whatever screen is there."""
        screen: Any = self.screen
        if hasattr(screen, "tell"):
            screen.tell(message)
        else:
            self.notify(one_line(message), markup=False)

    def copy_line(self, text: str) -> None:
        """To the terminal's clipboard (OSC 52), sanitised: a pasted line feed would run a command."""
        self.copy_to_clipboard(one_line(text))
        self.tell("copied")


def root_of(error: BaseException) -> BaseException:
    """What really happened, inside of the failure of a worker or of a group of tasks."""
    inner = getattr(error, "error", None) if isinstance(error, WorkerFailed) else None
    inner = inner or next(iter(getattr(error, "exceptions", ())), None)
    return root_of(inner) if isinstance(inner, BaseException) else error


def account(session: Session) -> list[str]:
    """The note at leaving: what was attached, what was done, what remains."""
    target = session.target
    # Without a target, what was tried may have left something behind: the notes say so.
    lines = list(target.account) if target is not None else list(session.notes)
    lines += [f"Captured into {path}." for path in session.bundles]
    return lines + [f"Done in the target: {action}." for action in session.actions]


def run(
    expression: Optional[TargetExpression],
    options: OpenOptions,
    *,
    opener: Opener = open_target,
    tour: bool = False,
) -> tuple[list[str], str]:
    """Run the UI until it is left: the account, and a line about a defect in kdebug itself, or ""."""
    app = KdebugApp(expression, options, opener, tour=tour)
    app.run()
    return app.account, app.defect
