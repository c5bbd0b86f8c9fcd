"""HTML as values. Text becomes safe in one place, and only what `tag` makes is markup.

Everything from a bundle is a `str`: it passes the sanitiser and is escaped, whatever it holds. Names of
tags and attributes are ours. There are no scripts, no addresses but those inside of the page, and nothing
to load.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Union

from kdebug.sanitise import one_line

MAX_TEXT = 2000
"""Characters of one piece of text; a log line of a megabyte is cut with `…`."""
VOID = frozenset({"meta", "br"})
"""They have no end; everything of SVG has one."""
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})


class Markup:
    """Finished HTML; made by the functions here only."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


Content = Union[Markup, str, int, None, Iterable["Content"]]
Attribute = Union[str, int, bool, None]


def tag(element: str, /, *content: Content, **attributes: Attribute) -> Markup:
    """`tag("a", "there", href="#x", class_="big")`; an attribute that is None or False is left out."""
    opened = f"<{element}{''.join(_attribute(key, value) for key, value in attributes.items())}>"
    return Markup(opened if element in VOID else f"{opened}{join(content).text}</{element}>")


def join(content: Content, between: str = "") -> Markup:
    """What is nested, one after the other."""
    if isinstance(content, Markup):
        return content
    if content is None:
        return Markup("")
    if isinstance(content, (str, int)):
        return Markup(safe(str(content)))
    return Markup(safe(between).join(join(item).text for item in content))


def safe(text: str) -> str:
    """The only way of text into the page, into contents and attributes alike."""
    return one_line(text, MAX_TEXT).translate(_ESCAPES)


def stylesheet(css: str) -> Markup:
    """Our own; CSS has no escapes for what would end the element."""
    if "<" in css:
        raise ValueError("a style sheet may not hold <")
    return Markup(f"<style>\n{css}</style>")


def document(head: Content, body: Content) -> bytes:
    page = tag("html", tag("head", head), tag("body", body), lang="en")
    return f"<!doctype html>\n{page.text}\n".encode()


def _attribute(key: str, value: Attribute) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{safe(str(value))}"'
