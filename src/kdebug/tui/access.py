"""Access: what may be done to this target, measured, with reason and remedy; and what we cost it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import ClassVar, Optional

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from kdebug.errors import Failed, KdebugError
from kdebug.protocol.system import Access, AgentInfo
from kdebug.target.cluster import PlanStep
from kdebug.tui.access_text import (
    ability_lines,
    cost_lines,
    identity_lines,
    plan_lines,
    step_lines,
)
from kdebug.tui.lines import BLANK, Line, draw, holds
from kdebug.tui.pane import Pane
from kdebug.tui.session import Session, State
from kdebug.tui.theme import DIM, PLAIN, STRONG, styles
from kdebug.tui.work import start
from kdebug.units import age

AGENT_SECONDS = 5.0
"""What we cost changes; what is allowed does not, and is measured anew on `r` only."""


class AccessPane(Pane):
    title = "Access"
    hint = "r measure again  y copy"
    DEFAULT_CSS = """
    AccessPane #access { height: 1fr; padding: 0 1; }
    AccessPane #access-text { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "plan", "Ask the API server about every rung (dry run)"),
        Binding("y", "copy", "Copy what works here"),
        Binding("j", "scroll(1)", "Down", show=False),
        Binding("k", "scroll(-1)", "Up", show=False),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._access: Optional[Access] = None
        self._agent: Optional[AgentInfo] = None
        self._skew = 0.0
        self._measured = 0.0
        self._generation = -1
        self._plan: Optional[list[PlanStep]] = None
        self._plan_problem = ""
        self._needle = ""

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="access", can_focus=True):
            yield Static(id="access-text")
        yield self.notice

    def on_resize(self) -> None:
        self._show()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> Optional[bool]:
        """There is a ladder where there is a pod."""
        return self.session.is_pod if action == "plan" else True

    def session_changed(self) -> None:
        super().session_changed()
        self._show()

    async def load(self) -> Optional[float]:
        if self._access is None or self._generation != self.session.generation:
            generation = self.session.generation
            self._access = await self.session.ask("what works here", lambda target: target.access())
            self._measured, self._generation = time.monotonic(), generation
        self._agent = await self.session.ask("what we cost", lambda target: target.agent())
        self._skew = self._agent.clock_at - time.time()
        self._show()
        return AGENT_SECONDS

    def action_reload(self) -> None:
        self._generation = -1
        super().action_reload()

    # Showing

    def _lines(self) -> Iterator[Line]:
        session = self.session
        target = session.target
        if self._access is not None:
            yield from ability_lines(self._access)
            yield Line(f" measured {age(time.monotonic() - self._measured)} ago; [r] measures again", DIM)
            yield BLANK
            yield from identity_lines(self._access, session.read_only, target.rung if target else "")
            yield BLANK
        if self._agent is not None:
            yield from cost_lines(self._agent, self._skew)
            yield BLANK
        if session.problem is not None and session.state is State.CLOSED:
            yield from (Line(f"✗ {session.problem}", STRONG, 2), BLANK)
        yield from step_lines(session.steps, session.notes)
        if self.session.is_pod:
            yield BLANK
            yield from self._ladder()

    def _ladder(self) -> Iterator[Line]:
        if self._plan is not None:
            yield from plan_lines(self._plan)
        else:
            yield Line("the ladder", STRONG)
            ask = "[d] asks the API server about every rung; nothing is created"
            yield Line(f" {self._plan_problem or ask}", PLAIN, 3)

    def _show(self) -> None:
        lines = (line for line in self._lines() if holds(line, self._needle))
        text = draw(lines, styles(self.app.theme_variables), max(1, self.size.width - 4))
        self.query_one("#access-text", Static).update(text)

    @property
    def needle(self) -> str:
        return self._needle

    def filter(self, needle: str) -> None:
        self._needle = needle
        self._show()

    def action_scroll(self, step: int) -> None:
        self.query_one("#access").scroll_relative(y=step, animate=False)

    def action_copy(self) -> None:
        if self._access is not None:
            self.host.copy_line("; ".join(line.text.strip() for line in ability_lines(self._access)))

    # The ladder

    def action_plan(self) -> None:
        self._plan, self._plan_problem = None, "asking the API server …"
        self._show()
        start(self, "plan", self._ask_plan)

    async def _ask_plan(self) -> None:
        cluster, pod = self.session.cluster, self.session.pod
        try:
            if cluster is None or pod is None:
                raise Failed("the pod is not known to its cluster yet")
            self._plan = await cluster.plan(pod)
        except KdebugError as error:
            self._plan_problem = f"✗ {error}  [d] try again"
        self._show()
