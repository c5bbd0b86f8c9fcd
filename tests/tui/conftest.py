"""The UI driven by Textual's pilot: one body of tests over every backend."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from textual.pilot import Pilot

from kdebug.expression import TargetExpression, parse
from kdebug.open import OpenOptions, open_cluster, open_target
from kdebug.tui.app import KdebugApp
from kdebug.tui.screen import SessionScreen
from kdebug.tui.session import ClusterOpener, Opener, State

os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
WIDTH, HEIGHT = 100, 30
PATIENCE = 45.0


class Ui:
    """A running UI, as a test sees it."""

    def __init__(self, app: KdebugApp, pilot: Pilot[Any]) -> None:
        self.app = app
        self.pilot = pilot

    @property
    def screen(self) -> SessionScreen:
        assert isinstance(self.app.screen, SessionScreen)
        return self.app.screen

    def text(self) -> str:
        """What is on the screen, line by line."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip) for strip in strips)

    async def until(self, condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
        """Wait for it; fails with what is on the screen."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:g} s; the screen shows:\n{self.text()}")
            await self.pilot.pause(0.02)

    async def shows(self, text: str, seconds: float = PATIENCE) -> None:
        await self.until(lambda: text in self.text(), seconds)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def attached(self) -> None:
        await self.until(lambda: isinstance(self.app.screen, SessionScreen))
        await self.until(lambda: self.screen.session.state is State.LIVE)

    async def tab(self, title: str) -> Any:
        """Go to a tab by its number; its pane."""
        index = next(i for i, pane in enumerate(self.screen.panes) if pane.title == title)
        await self.press(str(index + 1))
        await self.until(lambda: self.screen.pane.title == title)
        return self.screen.pane


@contextlib.asynccontextmanager
async def ui(
    expression: str | TargetExpression | None,
    *,
    options: OpenOptions | None = None,
    opener: Opener = open_target,
    cluster_opener: ClusterOpener = open_cluster,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    tour: bool = False,
) -> AsyncIterator[Ui]:
    parsed = parse(expression) if isinstance(expression, str) else expression
    app = KdebugApp(parsed, options or OpenOptions(), opener, cluster_opener, tour=tour)
    async with app.run_test(size=size) as pilot:
        yield Ui(app, pilot)
        for screen in app.screen_stack:
            if isinstance(screen, SessionScreen):
                await screen.session.close()


Script = Callable[[Ui], Any]


def play(expression: str | TargetExpression | None, script: Script, **options: Any) -> KdebugApp:
    """Run `script` against a UI of its own; returns the app as it was left."""

    async def whole() -> KdebugApp:
        async with ui(expression, **options) as running:
            await script(running)
            return running.app

    return asyncio.run(whole())


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits to be looked at."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "--victim"])
    yield process
    process.kill()
    process.wait()
