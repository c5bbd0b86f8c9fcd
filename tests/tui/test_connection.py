"""What is seen while the connection is lost, when it comes back, and when the target itself is gone."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import AsyncIterator
from typing import Any

from kdebug.errors import AccessDenied, ConnectionLost, Failed, KdebugError, TargetLost
from kdebug.expression import TargetExpression
from kdebug.open import OpenOptions, open_target
from kdebug.target import Target
from kdebug.tui import session as session_module
from kdebug.tui.session import State

from .conftest import Ui, play


class Cuttable:
    """A real backend behind a connection that the test can break."""

    def __init__(self) -> None:
        self.broken: KdebugError | None = None
        self.refused: KdebugError | None = None
        self.opened = 0
        self.closed = 0

    @contextlib.asynccontextmanager
    async def opener(self, expression: TargetExpression, options: OpenOptions) -> AsyncIterator[Target]:
        options.step(f"opening number {self.opened + 1}")
        if self.refused is not None:
            raise self.refused
        async with open_target(expression, options) as target:
            self.opened += 1
            inner, outer = target.backend, self

            class Between:
                async def send(self, request: Any) -> Any:
                    if outer.broken is not None:
                        raise outer.broken
                    return await inner.send(request)

                async def close(self) -> None:
                    await inner.close()

            target.backend = Between()
            target.account = ("what remains: nothing",)
            try:
                yield target
            finally:
                self.closed += 1


def test_a_cut_is_told_what_was_read_stays_and_it_goes_on(monkeypatch: Any) -> None:
    monkeypatch.setattr(session_module, "BACKOFF_SECONDS", (0.1,))
    link = Cuttable()

    async def script(ui: Ui) -> None:
        await ui.attached()
        pane = await ui.tab("Processes")
        await ui.shows("/app/worker-leak")
        link.broken = ConnectionLost("the connection to the agent is lost", why="cable bitten by a shark")
        pane.wake()
        await ui.shows("connection lost")
        await ui.shows("cable bitten by a shark")
        await ui.shows("old")
        assert "/app/worker-leak" in ui.text()
        await ui.press("down", "t", "slash", "a", "escape")
        link.broken = None
        await ui.until(lambda: ui.screen.session.state is State.LIVE)
        await ui.until(lambda: "shark" not in ui.text())
        before = ui.screen.session.heard
        pane.wake()
        await ui.until(lambda: ui.screen.session.heard > before)
        assert link.opened == 1

    play("demo:", script, opener=link.opener)


def test_a_new_instance_is_attached_to_when_asked_and_the_old_rows_stay_until_then() -> None:
    link = Cuttable()

    async def script(ui: Ui) -> None:
        await ui.attached()
        pane = await ui.tab("Processes")
        await ui.shows("/app/worker-leak")
        link.broken = TargetLost("the container app has ended", why="exit code 137 (OOMKilled)")
        pane.wake()
        await ui.shows("OOMKilled")
        await ui.shows("[a] attach")
        assert "/app/worker-leak" in ui.text() and ui.screen.session.state is State.ENDED
        link.broken = None
        await ui.press("a")
        await ui.attached()
        await ui.until(lambda: link.opened == 2)
        await ui.shows("/app/worker-leak")
        assert link.closed == 1 and "OOMKilled" not in ui.text()

    play("demo:", script, opener=link.opener)


def test_a_right_taken_away_is_told_in_place() -> None:
    link = Cuttable()

    async def script(ui: Ui) -> None:
        await ui.attached()
        pane = await ui.tab("Processes")
        await ui.shows("/app/worker-leak")
        link.broken = AccessDenied("exec is refused", why="pods web is forbidden", next_step="ask for it")
        pane.wake()
        await ui.shows("✗ exec is refused: pods web is forbidden; ask for it")
        link.broken = None
        await ui.press("r")
        await ui.until(lambda: "forbidden" not in ui.text())

    play("demo:", script, opener=link.opener)


def test_what_cannot_be_opened_says_why_and_can_be_tried_again() -> None:
    link = Cuttable()
    link.refused = Failed("no toolbox may be added", why="\x1b[31madmission says [bold]no[/bold]")

    async def script(ui: Ui) -> None:
        await ui.shows("no toolbox may be added")
        await ui.shows("\\x1b[31madmission says [bold]no[/bold]")
        for key in "1234567890":
            await ui.press(key)
        await ui.press("1")
        link.refused = None
        await ui.press("a")
        await ui.attached()

    play("demo:", script, opener=link.opener)


def test_leaving_gives_the_account(victim: subprocess.Popen[bytes]) -> None:
    link = Cuttable()

    async def script(ui: Ui) -> None:
        await ui.attached()
        await ui.press("q")
        await ui.until(lambda: not ui.app.is_running or ui.app._exit)

    app = play(f"local:{victim.pid}", script, opener=link.opener)
    assert app.account == ["what remains: nothing"] and link.closed == 1
