"""Overview: how the attach went, what the target is, usage against limits over time, what looks wrong."""

from __future__ import annotations

from typing import ClassVar, Optional

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from kdebug.tui.pane import Pane
from kdebug.tui.session import Session, State
from kdebug.tui.text import plain


class Steps(Static):
    """The attach, step by step with times; gone once it is done."""

    DEFAULT_CSS = """
    Steps { height: auto; padding: 0 1; }
    """

    def show(self, session: Session) -> None:
        self.display = session.state in (State.OPENING, State.CLOSED)
        text = Text()
        for seconds, line in session.steps:
            text.append(f"{seconds:6.2f} s  ", "dim")
            text.append_text(plain(line))
            text.append("\n")
        if session.state is State.OPENING:
            text.append(f"attaching to {session.expression} …  [esc] cancel\n", "bold")
        elif session.problem is not None:
            text.append_text(plain(f"✗ {session.problem}", "bold"))
            text.append("\n[a] try again\n")
        self.update(text)


class OverviewPane(Pane):
    title: ClassVar[str] = "Overview"

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Steps()
        yield self.notice

    def on_mount(self) -> None:
        self.query_one(Steps).show(self.session)

    def session_changed(self) -> None:
        super().session_changed()
        self.query_one(Steps).show(self.session)

    async def load(self) -> Optional[float]:
        return None
