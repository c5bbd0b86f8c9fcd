"""Start work in the background of a widget: one at a time in its group, the newest wins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from textual.dom import DOMNode

from kdebug.errors import KdebugError


def start(node: DOMNode, group: str, work: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    """Run `work(*arguments)`; what ran in `group` before is cancelled. It should say in place what
    goes wrong; an error that it does not handle is told in passing, for no answer of a pod may end the UI.

    A coroutine that is cancelled before its first step would be complained about: so it is made late.
    """

    async def guarded() -> None:
        try:
            await work(*arguments)
        except KdebugError as error:
            node.app.tell(str(error))  # type: ignore[attr-defined]

    node.run_worker(
        cast("Callable[[], Awaitable[None]]", guarded), group=group, exclusive=True, exit_on_error=True
    )
