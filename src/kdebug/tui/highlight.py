"""Colours for the text of a small file, by its name. The text is sanitised before the lexer sees it.

Pygments is loaded at the first file. The text is a stranger's, so only lexers of plain formats are used,
on lines of a sane length and for a bounded time; where that does not do, the file is shown without colours.
"""

from __future__ import annotations

import time

from rich.segment import Segment
from rich.style import Style

MAX_HIGHLIGHTED = 96 * 1024
"""Bytes; more would be felt between a key and its effect."""
MAX_LINE = 1000
"""Characters; a line of a megabyte is where a lexer's regular expressions go astray."""
MAX_SECONDS = 0.05
LANGUAGES = {
    "bash", "docker", "go", "html", "ini", "java", "javascript", "json", "markdown", "nginx", "properties",
    "python", "ruby", "rust", "sql", "toml", "typescript", "xml", "yaml",
}  # fmt: skip
_COLOURS = {
    "Comment": Style(italic=True, dim=True),
    "Keyword": Style(bold=True),
    "Name.Tag": Style(color="cyan"),
    "Name.Attribute": Style(color="cyan"),
    "Literal.String": Style(color="green"),
    "Literal.Number": Style(color="magenta"),
    "Literal.Scalar": Style(color="green"),
    "Generic.Deleted": Style(color="red"),
    "Generic.Inserted": Style(color="green"),
    "Operator": Style(bold=True),
}


def highlight(path: str, lines: list[str]) -> dict[int, list[Segment]]:
    """Row -> segments, for rows that have colours; {} where nobody knows the language."""
    from pygments.lexers import get_lexer_for_filename
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_for_filename(path.rpartition("/")[2], stripnl=False, ensurenl=False)
    except ClassNotFound:
        return {}
    if not LANGUAGES & set(lexer.aliases) or any(len(line) > MAX_LINE for line in lines):
        return {}
    found: dict[int, list[Segment]] = {}
    row, deadline = 0, time.monotonic() + MAX_SECONDS
    for kind, value in lexer.get_tokens("\n".join(lines)):
        if time.monotonic() > deadline:
            return {}
        style = _style(str(kind)[6:])
        for index, part in enumerate(value.split("\n")):
            row += 1 if index else 0
            if part:
                found.setdefault(row, []).append(Segment(part, style))
    # A lexer that dropped or changed something would show another file than there is.
    kept = ("".join(s.text for s in found.get(index, [])) == line for index, line in enumerate(lines))
    return found if all(kept) else {}


def _style(kind: str) -> Style:
    while kind:
        if kind in _COLOURS:
            return _COLOURS[kind]
        kind = kind.rpartition(".")[0]
    return Style()
