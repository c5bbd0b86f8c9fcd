"""What the sections are made of: tables with a bound, lists of facts, headings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Optional

from kdebug.capture.report.html import Content, Markup, join, tag
from kdebug.units import UNKNOWN, rfc3339


@dataclass(frozen=True)
class Section:
    key: str
    """Its name in the page's own links."""
    title: str
    content: Content


def table(columns: Sequence[str], rows: Iterable[Sequence[Content]], most: int, total: int) -> Content:
    """At most `most` of `total` rows. A column whose title ends in > has numbers."""
    classes = ["n" if title.endswith(">") else None for title in columns]
    head = [tag("th", title.rstrip(">"), scope="col", class_=kind) for title, kind in zip(columns, classes)]
    body = [
        tag("tr", [tag("td", cell, class_=kind) for cell, kind in zip(row, classes)])
        for row in islice(rows, most)
    ]
    if total > most:
        body.append(
            tag("tr", tag("td", f"… and {total - most:,} more", colspan=len(columns)), class_="more")
        )
    made = tag("table", tag("thead", tag("tr", head)), tag("tbody", body))
    return tag(
        "div", made, class_="wide", role="region", tabindex=0, aria_label=f"{columns[0]} …".rstrip("> …")
    )


def row(*cells: Content) -> Sequence[Content]:
    return cells


def facts(rows: Iterable[tuple[str, Content]]) -> Markup:
    """Names and values; what is not known is left out."""
    shown = [(name, value) for name, value in rows if value not in ("", None)]
    return tag(
        "dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in shown], class_="facts"
    )


def folded(title: Content, *content: Content) -> Markup:
    return tag("details", tag("summary", title), content)


def under(title: str) -> Markup:
    return tag("h3", title)


def code(text: str) -> Markup:
    return tag("code", text)


def codes(texts: Iterable[str]) -> Markup:
    return join([code(text) for text in texts], ", ")


def bar(share: Optional[float]) -> Content:
    """A share of a whole as a bar; nothing where it is not known."""
    if share is None:
        return None
    width = f"{100 * min(1.0, max(0.0, share)):.0f}"
    inner = tag("path", d=f"M0 4H{width}", class_="full" if share >= 0.9 else "part")
    ground = tag("path", d="M0 4H100", class_="ground")
    return tag("svg", ground, inner, viewBox="0 0 100 8", class_="bar", aria_hidden="true")


def moment(at: Optional[float]) -> str:
    """A time for people, to the second, always UTC."""
    text = rfc3339(at)
    return UNKNOWN if text is None else f"{text[:10]} {text[11:19]} UTC"


def clock(at: Optional[float]) -> str:
    text = rfc3339(at)
    return UNKNOWN if text is None else text[11:23]


def count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
