"""The session screen: tabs and the keys that are typed right behind them."""

from __future__ import annotations

from .conftest import Ui, play
from .fakes import FakeBackend, a_socket, opening


def test_keys_typed_right_behind_the_number_of_a_tab_reach_it() -> None:
    async def script(ui: Ui) -> None:
        await ui.attached()
        screen = ui.screen
        for index, pane in enumerate(screen.panes):
            await screen.show_tab(index)
            # Nothing was drawn in between, and the focus is where the keys of this tab work.
            focused = screen.focused
            assert focused is not None and pane in focused.ancestors_with_self, pane.title
        await screen.show_tab(0)
        await ui.press("4", "l")
        await ui.shows("only listeners")

    play("demo:", script, opener=opening(FakeBackend(lambda: [a_socket(1, state="LISTEN")])))
