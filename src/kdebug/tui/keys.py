"""docs/keys.md, from the bindings themselves: `python -m kdebug.tui.keys > docs/keys.md`.

Whoever binds a key describes it where it is bound; the help screen, the palette and this page follow.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from collections.abc import Iterator

from textual.app import App
from textual.binding import Binding
from textual.dom import DOMNode

import kdebug.tui
from kdebug.expression import TargetExpression
from kdebug.open import OpenOptions, open_target
from kdebug.tui.app import KdebugApp
from kdebug.tui.pane import Pane
from kdebug.tui.screen import SessionScreen
from kdebug.tui.session import Session
from kdebug.tui.table import LineTable

HEAD = """\
# Keys
Generated from the bindings by `python -m kdebug.tui.keys > docs/keys.md`; a test compares. In the UI `?`
shows the keys of the place where you are, and `:` finds every action by its name. What cannot work on a
target has no key there.
"""
TABS = ("1 … 9", "Go to a tab")
Row = tuple[str, str]
"""Keys, and what they do."""


def page() -> str:
    """The whole document."""
    sections = [
        ("Everywhere", [TABS, *rows(KdebugApp), *rows(SessionScreen)]),
        ("In every list", rows(LineTable)),
        *((f"{kind.title} (tab)", [*rows(Pane), *rows(kind)]) for kind in pane_kinds()),
        *((_words(kind.__name__), rows(kind)) for kind in _others()),
    ]
    return HEAD + "".join(_section(title, found) for title, found in sections if found)


def _section(title: str, found: list[Row]) -> str:
    lines = [f"\n## {title}", "| keys | what they do |", "|---|---|"]
    return "\n".join([*lines, *(f"| {keys} | {what} |" for keys, what in found)]) + "\n"


def pane_kinds() -> list[type[Pane]]:
    """In the order of the tabs, as a pod has them: it has the most."""
    app = KdebugApp(None, OpenOptions(), open_target)
    return [
        type(pane)
        for pane in app.panes(Session(TargetExpression("pod", "any"), OpenOptions(), open_target))
    ]


def _others() -> list[type[DOMNode]]:
    """Whatever else in this package binds keys: details, dialogs, viewers."""
    shown = {KdebugApp, SessionScreen, LineTable, Pane, *pane_kinds()}
    return sorted((kind for kind in _binding_kinds() if kind not in shown), key=lambda kind: kind.__name__)


def _binding_kinds() -> Iterator[type[DOMNode]]:
    for module in pkgutil.iter_modules(kdebug.tui.__path__):
        name = f"kdebug.tui.{module.name}"
        if module.name == "keys":
            continue
        for kind in vars(importlib.import_module(name)).values():
            own = isinstance(kind, type) and issubclass(kind, DOMNode) and kind.__module__ == name
            if own and "BINDINGS" in vars(kind):
                yield kind


def rows(kind: type[DOMNode]) -> list[Row]:
    """The keys that a class binds itself, one row for each description."""
    app: App[None] = App()
    found: dict[str, list[str]] = {}
    for binding in Binding.make_bindings(vars(kind).get("BINDINGS", ())):
        if binding.description and not re.fullmatch(r"Tab \d", binding.description):
            found.setdefault(binding.description, []).append(f"`{app.get_key_display(binding)}`")
    return [(" ".join(dict.fromkeys(keys)).replace("|", "\\|"), what) for what, keys in found.items()]


def _words(name: str) -> str:
    """ "ProcessDetailView" as "Process detail view"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).capitalize()


if __name__ == "__main__":
    sys.stdout.write(page())
