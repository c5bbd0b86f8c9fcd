"""Give the terminal to somebody else for a while: an editor, a shell."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from textual.app import App, SuspendNotSupported

from kdebug.errors import Failed


@contextlib.contextmanager
def terminal_lent(app: App[Any]) -> Iterator[None]:
    """Nothing is drawn and no key is read meanwhile; refreshes go on. Raises `Failed` where there is no
    terminal.

    Textual does not take the terminal back when the body raises: so that is raised afterwards.
    """
    problem: BaseException | None = None
    try:
        with app.batch_update(), app.suspend():
            try:
                yield
            except BaseException as error:  # noqa: BLE001  # raised below
                problem = error
    except SuspendNotSupported as error:
        raise Failed("the terminal cannot be given away", why=str(error)) from error
    app.refresh(layout=True)
    if problem is not None:
        raise problem
