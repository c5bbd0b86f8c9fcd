"""Start work in the background of a widget: one at a time in its group, the newest wins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

from textual.dom import DOMNode


def start(node: DOMNode, group: str, work: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    """Run `work(*arguments)`; what ran in `group` before is cancelled. Its errors must be handled in it.

    A coroutine that is cancelled before its first step would be complained about: so it is made late.
    """
    made = cast("Callable[[], Awaitable[None]]", partial(work, *arguments))
    node.run_worker(made, group=group, exclusive=True, exit_on_error=True)
