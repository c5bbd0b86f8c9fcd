"""Remote text made fit for a cell of the screen: sanitised first, then cut and padded by its width.

Width is what the terminal draws, not the number of characters: East Asian wide characters take two
cells and combining ones none (rich.cells, from the Unicode tables).
"""

from __future__ import annotations

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.text import Text

from kdebug.sanitise import multi_line, one_line

MAX_SHOWN = 4096
"""Characters of one remote string that are looked at for one line; nobody's screen is wider."""


def fit(text: str, width: int, right: bool = False) -> str:
    """`text` in exactly `width` cells, with … where something is missing."""
    safe = one_line(text[:MAX_SHOWN])
    if safe.isascii():
        if len(safe) > width:
            return safe[: width - 1] + "…" if width > 0 else ""
        return safe.rjust(width) if right else safe.ljust(width)
    length = cell_len(safe)
    if length > width:
        return set_cell_size(safe, width - 1) + "…" if width > 0 else ""
    padding = " " * (width - length)
    return padding + safe if right else safe + padding


def safe_line(line: bytes) -> str:
    """One line of a file: tabs as blanks up to the next eighth column, everything else sanitised."""
    text = line.decode("utf-8", "surrogateescape")
    return one_line(text.expandtabs(8) if "\t" in text else text)


def wrapped(text: str, width: int) -> list[str]:
    """`text`, made safe, in lines of at most `width` cells; broken at blanks where there are some."""
    lines, line = [], ""
    for word in one_line(text[:MAX_SHOWN]).split(" "):
        joined = f"{line} {word}" if line else word
        if cell_len(joined) <= width:
            line = joined
            continue
        lines += [line] if line else []
        *full, line = chop_cells(word, max(1, width)) or [""]
        lines += full
    return [*lines, line]


def plain(text: str, style: str = "") -> Text:
    """One line of remote text for a widget; never markup."""
    return Text(one_line(text[:MAX_SHOWN]), style=style, no_wrap=True, end="")


def paragraph(text: str, style: str = "") -> Text:
    """Several lines of remote text for a widget; never markup."""
    return Text(multi_line(text), style=style, end="")
