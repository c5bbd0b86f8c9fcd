"""Make the pictures of the UI: `python docs/make_pictures.py` writes docs/pictures/*.svg.

The UI runs on the practice target without a terminal, is driven by keys, and draws itself as SVG. What
Textual writes names a font on somebody's server: the pictures here fetch nothing and tell nothing of the
machine that made them.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

os.environ["TEXTUAL_ANIMATIONS"] = "none"
os.environ.pop("NO_COLOR", None)

from textual.pilot import Pilot

from kdebug.expression import parse
from kdebug.open import OpenOptions, open_target
from kdebug.tui.app import KdebugApp
from kdebug.tui.network import NetworkPane
from kdebug.tui.processes import ProcessesPane
from kdebug.tui.screen import SessionScreen

FOLDER = Path(__file__).parent / "pictures"
SIZE = (100, 30)
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
GROWN_BYTES = 3 * 1024 * 1024
"""So much more than the others the leaking worker holds before the picture is taken."""
PATIENCE_SECONDS = 60.0


async def until(pilot: Pilot[Any], condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("the screen did not become what was to be shown")
        await pilot.pause(0.1)


async def processes(screen: SessionScreen, pilot: Pilot[Any]) -> None:
    """The worker that grows on top, and the deleted file that the server holds."""
    pane = await screen.show_pane(ProcessesPane)
    assert pane is not None
    await until(pilot, lambda: len(pane.table.rows) >= 5)
    await pilot.press("m")
    await until(pilot, lambda: _grown(pane))
    pid = screen.session.target.info.pid if screen.session.target else 0
    await until(pilot, lambda: pane.show_process(pid))
    await pilot.press("right_square_bracket")
    await until(pilot, lambda: any(getattr(row, "deleted", False) for row in pane.detail.rows_in_sight))


def _grown(pane: ProcessesPane) -> bool:
    sizes = sorted(row.process.rss_bytes for row in pane.table.rows)
    return sizes[-1] > sizes[-2] + GROWN_BYTES


async def network(screen: SessionScreen, pilot: Pilot[Any]) -> None:
    """The forgotten connection and its owner."""
    pane = await screen.show_pane(NetworkPane)
    assert pane is not None
    await until(pilot, lambda: pane.table.rows)
    await pilot.press("enter")
    await until(pilot, lambda: pane.has_class("detailed") and "descriptor" in pane.connection.told)


PICTURES: dict[str, Callable[[SessionScreen, Pilot[Any]], Awaitable[None]]] = {
    "processes": processes,
    "network": network,
}


async def draw(name: str) -> str:
    app = KdebugApp(parse("demo:"), OpenOptions(), open_target)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: isinstance(app.screen, SessionScreen) and app.screen.session.target)
        screen = app.screen
        assert isinstance(screen, SessionScreen)
        await PICTURES[name](screen, pilot)
        await pilot.pause()
        svg = app.export_screenshot(title="kdebug demo")
        await screen.session.close()
    return at_rest(svg)


def at_rest(svg: str) -> str:
    """Without fonts from elsewhere and without ids of this run. Raises when something of it is left."""
    svg = re.sub(r"@font-face\s*\{.*?\}", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family:\s*[^;]*;", f"font-family: {FONTS};", svg)
    svg = re.sub(r"terminal-\d+", "kdebug", svg)
    svg = "\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n"
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", svg)) - {"http://www.w3.org/2000/svg"}
    comments = re.findall(r"<!--.*?-->", svg, flags=re.DOTALL)
    for comment in comments:
        svg = svg.replace(comment, "")
        addresses -= set(re.findall(r"https?://[^\s\"'<>)]+", comment))
    places = [
        place for place in (os.getcwd(), str(Path.home()), sys.prefix) if len(place) > 1 and place in svg
    ]
    if addresses or places:
        raise SystemExit(f"the picture would tell {sorted(addresses)} {places}")
    return svg


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or PICTURES:
        (FOLDER / f"{name}.svg").write_text(asyncio.run(draw(name)), encoding="utf-8")


if __name__ == "__main__":
    main()
