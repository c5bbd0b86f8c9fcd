"""Go to a path, with completion of names by Tab, as a shell does."""

from __future__ import annotations

import posixpath
from os.path import commonprefix
from typing import ClassVar, Optional

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, Static

from kdebug.errors import KdebugError
from kdebug.protocol.requests import ListDir
from kdebug.tui.dialog import BOX, Dialog
from kdebug.tui.session import Session
from kdebug.tui.text import plain
from kdebug.tui.work import start

SHOWN = 12


class GoTo(Dialog[Optional[str]]):
    DEFAULT_CSS = BOX.format(name="GoTo")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Nothing", show=False),
        Binding("tab", "complete", "Complete", show=False, priority=True),
    ]

    def __init__(self, session: Session, start: str) -> None:
        super().__init__()
        self._session = session
        self._start = start if start.endswith("/") else start + "/"

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(plain("Go to a path ([tab] completes)"), classes="title")
            yield Input(self._start, select_on_focus=False)
            yield Static(id="matches")

    def on_mount(self) -> None:
        # Before the first paint: what is typed as soon as the field is seen must reach it.
        self.set_focus(self.query_one(Input))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        path = whole(event.value.strip())
        self.dismiss(path if path.startswith("/") else posixpath.join(self._start, path) if path else None)

    def action_complete(self) -> None:
        start(self, "complete", self._complete)

    async def _complete(self) -> None:
        field = self.query_one(Input)
        folder, _, begun = whole(field.value).rpartition("/")
        path = folder or "/"
        try:
            page = await self._session.ask(
                path, lambda target: target.backend.send(ListDir(path=path, limit=1000))
            )
        except KdebugError as error:
            self._say(str(error))
            return
        # A name that is not text cannot be typed, and one with a line feed must not be pasted.
        fitting = [e for e in page.entries if e.name.startswith(begun) and e.name.isprintable()]
        if not fitting:
            self._say("nothing begins so")
            return
        common = commonprefix([entry.name for entry in fitting])
        ending = "/" if len(fitting) == 1 and fitting[0].kind == "dir" else ""
        field.value = f"{folder}/{common}{ending}"
        field.cursor_position = len(field.value)
        names = sorted(entry.name for entry in fitting)
        self._say("  ".join(names[:SHOWN]) + ("  …" if len(names) > SHOWN or page.cursor else ""))

    def _say(self, text: str) -> None:
        self.query_one("#matches", Static).update(plain(text))


def whole(text: str) -> str:
    """What stands behind a double slash begins at the root: no need to delete what is there already."""
    _, doubled, rest = text.rpartition("//")
    return f"/{rest}" if doubled else text
