"""Styled lines of remote text for a page that scrolls: sanitised, and wrapped under their own beginning."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from rich.style import Style
from rich.text import Text

from kdebug.sanitise import one_line
from kdebug.tui.text import MAX_SHOWN
from kdebug.tui.theme import PLAIN

NARROWEST = 20
"""Below this nothing is indented: there is no room for it."""


class Line(NamedTuple):
    text: str
    style: str = PLAIN
    """A name of tui.theme."""
    indent: int = 0
    """Where the second and further screen lines begin."""


BLANK = Line("")


def holds(line: Line, needle: str) -> bool:
    """Whether every word of `needle` is in it, whatever the case."""
    text = line.text.casefold()
    return all(word in text for word in needle.casefold().split())


def draw(lines: Iterable[Line], looks: Mapping[str, Style], width: int) -> Text:
    """All lines as one text that is at most `width` cells wide where its characters are narrow."""
    text = Text(end="")
    for line in lines:
        for piece in _wrapped(line, width):
            text.append(piece + "\n", looks[line.style])
    return text


def _wrapped(line: Line, width: int) -> Iterator[str]:
    safe = one_line(line.text[:MAX_SHOWN])
    if len(safe) <= width or width < NARROWEST:
        yield safe
        return
    indent = " " * min(line.indent, width // 2)
    yield from textwrap.wrap(
        safe, width, subsequent_indent=indent, break_on_hyphens=False, drop_whitespace=True
    )
