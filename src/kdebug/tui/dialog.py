"""Small questions over the screen: pick one, or yes and no. Escape always answers "nothing"."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Optional, TypeVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from kdebug.tui.text import paragraph, plain

BOX = """
    {name} {{ align: center middle; background: $background 60%; }}
    {name} > Vertical {{ width: 64; max-width: 95%; height: auto; max-height: 90%; padding: 0 1;
        border: round $primary; background: $surface; }}
    {name} .title {{ text-style: bold; height: auto; }}
    {name} .warning {{ color: $warning; height: auto; }}
    {name} OptionList {{ height: auto; max-height: 16; border: none; background: $surface; }}
"""


Answer = TypeVar("Answer")


class Dialog(ModalScreen[Answer]):
    """Whatever lies over a session's screen. It answers once: a second Enter, typed before the first was
    acted on, must not close the screen below."""

    def dismiss(self, result: Optional[Answer] = None) -> AwaitComplete:
        return super().dismiss(result) if self.is_active else AwaitComplete()


class Choice(Dialog[Optional[str]]):
    """One of a few words; None when nothing was chosen."""

    DEFAULT_CSS = BOX.format(name="Choice")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss(None)", "Nothing"),
        Binding("j", "app.simulate_key('down')", show=False),
        Binding("k", "app.simulate_key('up')", show=False),
    ]

    def __init__(self, title: str, options: Iterable[str]) -> None:
        super().__init__()
        self._title = title
        self._options = list(options)

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(plain(self._title), classes="title")
            yield OptionList(*(Option(plain(option)) for option in self._options))

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._options[event.option_index])


class Confirm(Dialog[Optional[bool]]):
    """y or n. Enter alone does nothing: what is asked here cannot be undone."""

    DEFAULT_CSS = BOX.format(name="Confirm")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "Yes"),
        Binding("n,escape,q", "dismiss(False)", "No"),
    ]

    def __init__(self, question: str, warning: str = "") -> None:
        super().__init__()
        self._question = question
        self._warning = warning

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(paragraph(self._question), classes="title")
            if self._warning:
                yield Static(paragraph(f"! {self._warning}"), classes="warning")
            yield Static(Text("[y] yes   [n] no"))


class Ask(Dialog[Optional[str]]):
    """One line of text; None when it was left."""

    DEFAULT_CSS = BOX.format(name="Ask")
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Nothing")]

    def __init__(self, title: str, value: str = "", placeholder: str = "") -> None:
        super().__init__()
        self._title = title
        self._value = value
        self._placeholder = placeholder

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(plain(self._title), classes="title")
            yield Input(self._value, placeholder=self._placeholder, select_on_focus=False)

    def on_mount(self) -> None:
        # Before the first paint: what is typed as soon as the field is seen must reach it.
        self.set_focus(self.query_one(Input))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value)
