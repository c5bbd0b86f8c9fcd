"""One pod of the picker in more words: its containers, how they ended last, and what attaching would do."""

from __future__ import annotations

import time

from rich.text import Text
from textual.widget import Widget

from kdebug.target.cluster import ContainerSummary, Intent, PodSummary
from kdebug.tui.picker_rows import MARKS, STYLES, PodRow, short_image
from kdebug.tui.text import MAX_SHOWN, plain
from kdebug.tui.theme import BAD, DIM, GOOD, PLAIN, STRONG, WARN, styles
from kdebug.units import brief_age, unix_time

Line = list[tuple[str, str]]
"""Pieces of text, each with the name of its style."""


def what_attaching_does(intent: Intent, compact: bool = False) -> str:
    against = intent.against
    if against is not None:
        # Who sees one line of it has just read what it is about.
        told = (
            (against.why or against.what)
            if compact
            else ": ".join(filter(None, (against.what, against.why)))
        )
        return f"cannot attach now: {told}"
    how = f"rung {intent.rung}: {intent.rights}"
    if intent.toolbox:
        return f"enter attaches to {intent.container}, reusing {intent.toolbox} ({how})"
    more = f"; else {', '.join(intent.climbs)}" if intent.climbs else ""
    return f"enter attaches to {intent.container}, adding a toolbox ({how}{more})"


def _ago(stamp: str) -> str:
    moment = unix_time(stamp)
    return f"{brief_age(time.time() - moment)} ago" if moment is not None else ""


def _state(container: ContainerSummary) -> tuple[str, str]:
    word = " ".join(part for part in (container.state or "unknown", container.reason) if part)
    if container.state == "running":
        return f"{word} {_ago(container.since)}".rstrip(), GOOD if container.ready else WARN
    over = container.state == "terminated" and container.reason == "Completed"
    waits = (
        container.reason in ("", "ContainerCreating", "PodInitializing") and container.state != "terminated"
    )
    return word, DIM if over else WARN if waits else BAD


def _last_end(container: ContainerSummary) -> str:
    ago = _ago(container.last_end_at)
    return f"last: {container.last_end} {ago}".rstrip()


def _container(container: ContainerSummary, compact: bool) -> list[Line]:
    state, style = _state(container)
    kind = "" if container.kind == "regular" else f" ({container.kind})"
    count = container.restarts
    restarts = [(f"{count} restart{'s' if count > 1 else ''}", PLAIN)] if count else []
    not_ready = "  not ready" if container.state == "running" and not container.ready else ""
    head: Line = [
        (f"{container.name}{kind}  ", STRONG),
        (state, style),
        (not_ready, WARN),
    ]
    last = [(_last_end(container), WARN)] if container.last_end else []
    message = [(container.message, DIM)] if container.message else []
    if compact:
        rest = [*last, *restarts, (short_image(container.image), DIM), *message]
        return [[*head, *(piece for pair in rest for piece in (("  ", PLAIN), pair))]]
    return [head, *([("  ", PLAIN), pair] for pair in [(container.image, DIM), *restarts, *last, *message])]


def describe(row: PodRow, intent: Intent, compact: bool) -> list[Line]:
    """The most telling first, for who sees only six lines of it."""
    pod, urgency = row.pod, row.urgency
    lines: list[Line] = [
        [
            (f"{pod.namespace}/{pod.name}  ", STRONG),
            (f"{MARKS[urgency]} {row.status}".strip(), STYLES[urgency]),
            (f"  {pod.message}" if pod.message else "", WARN),
            (f"  {pod.owner}" if pod.owner and compact else "", DIM),
            (f"  on {pod.node}" if pod.node and compact else "", DIM),
        ],
        [(what_attaching_does(intent, compact), WARN if intent.against is not None else GOOD)],
    ]
    for container in sorted(pod.containers, key=_order):
        lines += _container(container, compact)
    lines += [[(f"! not {kind}", WARN), (f"  {why}", DIM)] for kind, why in pod.conditions]
    for box in pod.toolboxes:
        lines.append(
            [(f"toolbox {box.toolbox}  ", PLAIN), (f"{box.state}, {box.profile}, for {box.container}", DIM)]
        )
    return lines if compact else lines + _facts(pod)


def _order(container: ContainerSummary) -> tuple[bool, bool]:
    """What does not run first; init containers that are done last."""
    done = container.kind == "init" and container.reason == "Completed"
    return done, container.state == "running" and container.ready


def _facts(pod: PodSummary) -> list[Line]:
    facts = (
        ("owner", pod.owner),
        ("node", pod.node),
        ("address", pod.address),
        ("created", _ago(pod.created_at)),
    )
    return [[(f"{name:<9}", DIM), (value, PLAIN)] for name, value in facts if value]


class PodPreview(Widget):
    """Shows what `describe` says in the room that there is."""

    DEFAULT_CSS = """
    PodPreview { height: 7; border-top: solid $primary; padding: 0 1; }
    """
    WRAPS_FROM = 12
    """Lines of room from which nothing needs to be cut."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._shown: tuple[PodRow, Intent] | None = None

    def show(self, row: PodRow | None, intent: Intent | None) -> None:
        self._shown = (row, intent) if row is not None and intent is not None else None
        self.refresh()

    def render(self) -> Text:
        text = Text(end="", overflow="fold")
        if self._shown is None:
            return text
        compact = self.size.height < self.WRAPS_FROM
        lines = describe(*self._shown, compact)
        if compact and len(lines) > self.size.height > 0:
            hidden = len(lines) - self.size.height + 1
            lines[self.size.height - 1 :] = [[(f"… {hidden} more lines on a larger screen", DIM)]]
        known = styles(self.app.theme_variables)
        for index, line in enumerate(lines):
            text.append("\n" if index else "")
            whole = Text(end="")
            for piece, style in line:
                whole.append_text(Text(plain(piece).plain, style=known[style]))
            if compact:
                whole.truncate(max(1, self.size.width), overflow="ellipsis")
            else:
                whole.truncate(MAX_SHOWN)
            text.append_text(whole)
        return text
