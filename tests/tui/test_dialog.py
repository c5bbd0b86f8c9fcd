"""Dialogs answer once, whatever is typed ahead."""

from __future__ import annotations

from typing import Any

import pytest
from textual.widgets import Input, OptionList

from kdebug.tui.dialog import Ask, Choice, Confirm
from kdebug.tui.goto import GoTo
from kdebug.tui.help import HelpScreen

from .conftest import Ui, play
from .fakes import FakeBackend, opening


@pytest.mark.parametrize("kind", ["choice", "confirm", "ask", "go to", "help"])
def test_a_second_answer_closes_nothing_else(kind: str) -> None:
    async def script(ui: Ui) -> None:
        await ui.attached()
        session = ui.screen
        answers: list[Any] = []
        dialog: Any = {
            "choice": lambda: Choice("?", ["one", "two"]), "confirm": lambda: Confirm("?"),
            "ask": lambda: Ask("?", "text"), "go to": lambda: GoTo(session.session, "/etc"),
            "help": lambda: HelpScreen(session),
        }[kind]()  # fmt: skip
        await ui.app.push_screen(dialog, answers.append)
        for _ in range(3):  # as keys that were typed before the first was looked at
            if kind == "choice":
                dialog.query_one(OptionList).action_select()
            elif kind in ("ask", "go to"):
                await dialog.query_one(Input).action_submit()
            else:
                dialog.dismiss(True)
        await ui.until(lambda: ui.app.screen is session)
        await ui.pilot.pause()
        assert ui.app.screen is session and len(answers) == 1

    play("demo:", script, opener=opening(FakeBackend()))


@pytest.mark.parametrize("size", [(1, 10), (3, 10), (5, 10), (8, 10), (13, 10), (40, 1), (40, 3), (6, 2)])
@pytest.mark.parametrize("kind", ["palette", "choice", "confirm", "ask", "go to", "help"])
def test_a_terminal_that_becomes_too_small_ends_nothing(kind: str, size: tuple[int, int]) -> None:
    """Rich cannot fold a line into no columns at all."""

    async def script(ui: Ui) -> None:
        await ui.attached()
        session = ui.screen
        if kind == "palette":
            await ui.press("colon")
            await ui.until(lambda: bool(ui.app.screen.query_one(OptionList).option_count))
        else:
            dialog: Any = {
                "choice": lambda: Choice("?", ["one", "two words"]), "confirm": lambda: Confirm("?"),
                "ask": lambda: Ask("?", "text"), "go to": lambda: GoTo(session.session, "/etc"),
                "help": lambda: HelpScreen(session),
            }[kind]()  # fmt: skip
            await ui.app.push_screen(dialog)
        await ui.pilot.pause()
        await ui.pilot.resize_terminal(*size)
        await ui.press("pageup", "pagedown", "down", "pageup")
        await ui.pilot.pause()
        await ui.pilot.resize_terminal(80, 24)
        await ui.press("escape")
        await ui.until(lambda: ui.app.screen is session)

    play("demo:", script, opener=opening(FakeBackend()))
