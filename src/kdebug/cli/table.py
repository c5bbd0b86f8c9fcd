"""Aligned columns, units, and the sanitising of every cell."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any

from kdebug.cli.console import terminal_width
from kdebug.sanitise import one_line
from kdebug.units import UNKNOWN, duration, rfc3339, size

__all__ = ["UNKNOWN", "cell", "cut", "duration", "exact", "exact_list", "rfc3339", "size", "table"]


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], right: str = "") -> list[str]:
    """Lines of a table. `right` names the headers, blank-separated, whose cells align right."""
    body = [[cell(value) for value in row] for row in rows]
    to_right = {index for index, header in enumerate(headers) if header in right.split()}
    widths = [max([len(h), *(len(row[i]) for row in body)]) for i, h in enumerate(headers)]
    return cut_all(_line(row, widths, to_right) for row in [list(headers), *body])


def _line(row: Sequence[str], widths: Sequence[int], to_right: set[int]) -> str:
    cells = [
        text.rjust(width) if index in to_right else text.ljust(width)
        for index, (text, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def cut_all(lines: Iterable[str]) -> list[str]:
    """`cut` for many lines, with one look at the terminal."""
    return list(map(cut, lines)) if terminal_width() else list(lines)


def cut(line: str) -> str:
    """At the edge of a terminal; whole lines in a pipe."""
    width = terminal_width()
    return line[: width - 1] + "…" if width and len(line) > width else line


def cell(value: object) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, float):
        return f"{value:.1f}"
    return one_line(str(value))


def exact(document: dict[str, Any], key: str, text: str | None) -> None:
    """Put `text` under `key`; bytes that are not UTF-8 go losslessly to `<key>_base64` beside it."""
    if text is None:
        document[key] = None
        return
    try:
        text.encode("utf-8")
        document[key] = text
    except UnicodeEncodeError:
        raw = text.encode("utf-8", "surrogateescape")
        document[key] = raw.decode("utf-8", "replace")
        document[f"{key}_base64"] = base64.b64encode(raw).decode("ascii")


def exact_list(row: dict[str, Any], key: str, texts: Iterable[str] | None) -> None:
    """As `exact`, for a list: `<key>_base64` has the members that need it, and null for the others."""
    if texts is None:
        row[key] = None
        return
    cells: list[dict[str, Any]] = []
    for text in texts:
        cells.append({})
        exact(cells[-1], "t", text)
    row[key] = [cell["t"] for cell in cells]
    if any("t_base64" in cell for cell in cells):
        row[f"{key}_base64"] = [cell.get("t_base64") for cell in cells]
