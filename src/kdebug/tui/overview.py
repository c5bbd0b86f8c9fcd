"""Overview: how the attach went, what looks wrong and where it is, usage over time, the pod's own story.

A pod that cannot be entered opens here too: what Kubernetes knows of it is read beside the attach.
"""

from __future__ import annotations

from typing import Any, ClassVar, Optional, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical, VerticalScroll
from textual.message import Message
from textual.widgets import Static

from kdebug.findings import Finding, Place
from kdebug.tui.overview_facts import OverviewFacts
from kdebug.tui.overview_text import access_line, change_lines, drawn, pod_lines, top_lines, usage_lines
from kdebug.tui.pane import Pane
from kdebug.tui.session import Session, State
from kdebug.tui.text import paragraph, plain, wrapped
from kdebug.tui.theme import BAD, GOOD, PLAIN, STRONG, WARN, styles

WIDE = 120
"""Cells from which on there are two columns."""
BLOCKS = {True: 4, False: 2}
"""Of a pod; of what is none."""
EDGES = 4
"""Cells that the scroll bar and the padding take."""
TABS = {
    Place.PROCESS: "Processes",
    Place.FDS: "Processes",
    Place.SOCKETS: "Network",
    Place.LOGS: "Logs",
    Place.PREVIOUS_LOGS: "Logs",
}


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
            self.update(text)
            return
        if session.problem is not None:
            text.append_text(paragraph(f"✗ {session.problem}", "bold"))
            text.append("\n")
        wait = "   [w] attach by itself when the container starts" if session.is_pod else ""
        text.append(f"[a] try again{wait}\n")
        self.update(text)


class Findings(Static):
    """What looks wrong, each with a way to the place; a cursor chooses one."""

    DEFAULT_CSS = """
    Findings { height: auto; padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Finding] = []
        self.cursor = 0
        self.touched = False
        """Until somebody moves it, the cursor stays on the first."""

    @property
    def selected(self) -> Optional[Finding]:
        return self.found[self.cursor] if self.found else None

    def show(self, found: list[Finding], tabs: set[str], looked: bool, width: int) -> None:
        """`tabs`: those that are there to jump to. The cursor sticks to its finding once it was moved."""
        before = self.selected if self.touched else None
        keys = [finding.key for finding in found]
        self.found = found
        if before is not None and before.key in keys:
            self.cursor = keys.index(before.key)
        self.cursor = max(0, min(self.cursor, len(found) - 1))
        self.update(self._text(tabs, looked, width - 4))

    def move_to(self, index: int) -> bool:
        if not 0 <= index < len(self.found):
            return False
        self.cursor, self.touched = index, True
        return True

    def _text(self, tabs: set[str], looked: bool, width: int) -> Text:
        names = styles(self.app.theme_variables)
        if not self.found:
            return Text("✓ nothing looks wrong" if looked else "", names[GOOD], end="")
        text = Text(end="", no_wrap=True)
        for index, finding in enumerate(self.found):
            here, tab = index == self.cursor, tab_of(finding)
            text.append("\n" if index else "")
            text.append("> " if here else "  ", names[STRONG])
            text.append("✗ " if finding.bad else "! ", names[BAD if finding.bad else WARN])
            lines = wrapped(finding.text + (f"  ⏎ {tab}" if tab in tabs else ""), width)
            text.append("\n    ".join(lines), names[STRONG if here else PLAIN])
        return text


def tab_of(finding: Finding) -> str:
    return TABS[finding.place] if finding.place else ""


class Page(VerticalScroll, can_focus=True, inherit_bindings=False):
    """Scrolls as one page; up and down go through the findings first. Posts `Chosen`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "step(-1)", "Previous finding, or up", show=False),
        Binding("down,j", "step(1)", "Next finding, or down", show=False),
        Binding("pageup,ctrl+b", "page_up", "Page up", show=False),
        Binding("pagedown,ctrl+f,space", "page_down", "Page down", show=False),
        Binding("home,g", "scroll_home", "First", show=False),
        Binding("end,G", "scroll_end", "Last", show=False),
        Binding("enter", "choose", "Go to the place of the finding"),
    ]

    class Stepped(Message):
        """The cursor is to go to the next finding, or to the one before."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    class Chosen(Message):
        """Enter."""

    def action_step(self, step: int) -> None:
        self.post_message(self.Stepped(step))

    def action_choose(self) -> None:
        self.post_message(self.Chosen())


class OverviewPane(Pane):
    title: ClassVar[str] = "Overview"
    hint = "↑ ↓ findings  enter go there  r refresh"
    DEFAULT_CSS = """
    OverviewPane #columns { height: auto; layout: vertical; }
    OverviewPane .column { height: auto; width: 1fr; }
    OverviewPane.wide #columns { layout: horizontal; }
    OverviewPane .block { height: auto; padding: 1 1 0 1; display: none; }
    OverviewPane .block.told { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("w", "wait", "Attach by itself when the container starts"),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.facts = OverviewFacts(session)

    def compose(self) -> ComposeResult:
        # What runs beside what is known of it; without a pod, what it uses beside who uses it.
        left = ("usage", "top") if self.session.has_pod else ("usage",)
        right = ("pod", "changes") if self.session.has_pod else ("top",)
        with Page():
            yield Steps()
            yield Findings()
            with Container(id="columns"):
                for names in (left, right):
                    with Vertical(classes="column"):
                        for name in names:
                            yield Static(id=f"block-{name}", classes="block")
        yield self.notice

    def on_mount(self) -> None:
        self.query_one(Steps).show(self.session)

    def on_resize(self) -> None:
        self.set_class(self.size.width >= WIDE, "wide")
        self._show()

    def session_changed(self) -> None:
        super().session_changed()
        for steps in self.query(Steps):
            steps.show(self.session)
        self.refresh_bindings()

    def may_load(self) -> bool:
        return self.session.state is State.LIVE or self.session.pod is not None

    def action_reload(self) -> None:
        self.facts.hurry()
        super().action_reload()

    async def load(self) -> Optional[float]:
        pause = await self.facts.step(self._show)
        self.notice.tell("; ".join(f"✗ {problem}" for problem in self.facts.problems), mild=True)
        return pause

    # What is shown

    def _tabs(self) -> set[str]:
        return {pane.title for pane in cast(Any, self.screen).panes}

    def _show(self) -> None:
        if len(self.query(".block")) < BLOCKS[self.session.is_pod] or not self.query(Findings):
            return  # not there yet, or taken away already: a resize or an answer may come in between
        looked = self.session.usage.last is not None and self.session.state is not State.OPENING
        self.query_one(Findings).show(self.facts.find(), self._tabs(), looked, self.size.width - EDGES)
        wide = self.has_class("wide")
        width = max(20, (self.size.width // 2 if wide else self.size.width) - EDGES)
        rows = list(self.session.processes.rows.values())
        target, story, now = self.session.target, self.facts.facts.story, self.session.now
        access = access_line(self.facts.access, target.rung if target else "", self.session.read_only)
        usage = usage_lines(self.session.usage, width) + ([access] if access else [])
        self._block("usage", usage, width)
        self._block("top", top_lines(rows, width, width >= 100), width)
        if story is not None:
            container = self.session.pod.container if self.session.pod else ""
            self._block("pod", pod_lines(story, container, now), width)
            self._block("changes", change_lines(story, now), width)

    def _block(self, name: str, lines: list[Any], width: int) -> None:
        block = self.query_one(f"#block-{name}", Static)
        block.set_class(bool(lines), "told")
        block.update(drawn(lines, width, styles(self.app.theme_variables)))

    # Keys

    def on_page_stepped(self, event: Page.Stepped) -> None:
        page, findings = self.query_one(Page), self.query_one(Findings)
        if event.step < 0 and page.scroll_y > 0:
            page.scroll_up(animate=False)
        elif findings.move_to(findings.cursor + event.step):
            self._show()
        elif event.step > 0:
            page.scroll_down(animate=False)

    async def on_page_chosen(self) -> None:
        finding = self.query_one(Findings).selected
        if finding is None or finding.place is None or tab_of(finding) not in self._tabs():
            return
        pane = await cast(Any, self.screen).show_title(tab_of(finding))
        if finding.place in (Place.PROCESS, Place.FDS):
            if finding.pid:
                pane.show_process(finding.pid, "fds" if finding.place is Place.FDS else "summary")
        elif finding.place is Place.SOCKETS:
            pane.filter("CLOSE-WAIT")
        else:
            pane.show_container(finding.container, previous=finding.place is Place.PREVIOUS_LOGS)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> Optional[bool]:
        if action == "wait":
            return self.session.is_pod and self.session.state in (State.CLOSED, State.ENDED)
        return True

    def action_wait(self) -> None:
        cast(Any, self.screen).attach(wait=True)
