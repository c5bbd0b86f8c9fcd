"""Where you are, always: target, rung, rights, connection; and the tabs. One line each."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.text import Text
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from kdebug.tui.session import Session, State
from kdebug.tui.text import plain
from kdebug.tui.time_bar import place
from kdebug.units import age

MARKS = {
    State.OPENING: "…",
    State.LIVE: "●",
    State.LOST: "✗",
    State.ENDED: "■",
    State.CLOSED: "○",
}
CLASSES = {State.LIVE: "live", State.LOST: "lost", State.ENDED: "lost"}


class SessionHeader(Widget):
    """kdebug  ns/pod › container   rung match   read-only   ● connected   TTL 59m"""

    DEFAULT_CSS = """
    SessionHeader { height: 1; background: $primary; color: $background; text-style: bold; }
    SessionHeader.lost { background: $error; }
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    def render(self) -> Text:
        session = self.session
        left = Text(" kdebug  ", end="")
        left.append_text(plain(self._where()))
        right = Text(f"{'  '.join(self._facts())}  {MARKS[session.state]} {session.state.value} ", end="")
        room = self.size.width - right.cell_len
        left.truncate(max(0, room - 1), overflow="ellipsis", pad=False)
        left.append(" " * max(1, room - left.cell_len))
        return left.append_text(right)

    def _where(self) -> str:
        target = self.session.target
        return target.place if target else str(self.session.expression)

    def _facts(self) -> list[str]:
        facts = []
        target = self.session.target
        if target and target.rung:
            facts.append(f"rung {target.rung}")
        timeline = self.session.timeline
        facts += [place(timeline)] if timeline is not None and timeline.stops else []
        facts += ["read-only"] if self.session.read_only else []
        if target and target.ends_by is not None:
            facts.append(f"ends in {age(target.ends_by - time.time())}")
        return facts

    def update_state(self) -> None:
        state = self.session.state
        for name in ("live", "lost"):
            self.set_class(CLASSES.get(state) == name, name)
        self.refresh()


class TabBar(Widget):
    """The tabs by number. Posts `Picked`."""

    DEFAULT_CSS = """
    TabBar { height: 1; background: $panel; }
    """

    class Picked(Message):
        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

    def __init__(self, titles: Sequence[str]) -> None:
        super().__init__()
        self.titles = list(titles)
        self.active = 0

    def render(self) -> Text:
        text = Text(" ", end="")
        for index, title in enumerate(self.titles):
            style = "bold reverse" if index == self.active else ""
            text.append(f" {index + 1} {title} ", style)
        return text

    def activate(self, index: int) -> None:
        self.active = index
        self.refresh()

    def on_click(self, event: object) -> None:
        x, start = getattr(event, "x", 0), 1
        for index, title in enumerate(self.titles):
            end = start + len(title) + 4
            if start <= x < end:
                self.post_message(self.Picked(index))
                return
            start = end


class Banner(Static):
    """Across the screen while what is shown is old: since when, why, and what can be done."""

    DEFAULT_CSS = """
    Banner { height: auto; max-height: 3; padding: 0 1; background: $error; color: $background;
        text-style: bold; display: none; }
    Banner.told { display: block; }
    """

    def show_state(self, session: Session) -> None:
        text = _banner(session)
        self.set_class(bool(text), "told")
        self.update(plain(text))


def _banner(session: Session) -> str:
    old = f"what is shown is {age(time.monotonic() - session.heard)} old" if session.heard else ""
    if session.state is State.LOST:
        trying = age(time.monotonic() - session.since)
        why = session.problem.why or session.problem.what if session.problem else ""
        return f"✗ connection lost, trying again for {trying}; {old}. {why}"
    if session.state is State.ENDED:
        return f"■ {session.problem}; {old}. [a] attach to the new instance"
    if session.state in (State.OPENING, State.CLOSED) and old:
        return f"{MARKS[session.state]} {session.state.value}; {old}, and of an earlier instance"
    return ""
