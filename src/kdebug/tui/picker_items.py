"""What the picker's choosers list: namespaces, contexts, containers, recent targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Optional

from kdebug.recent import Recent
from kdebug.target.cluster import ContainerSummary, ContextInfo, Intent, PodSummary
from kdebug.tui.chooser import Item
from kdebug.tui.picker_rows import short_image


def namespaces(names: Iterable[str], current: Optional[str]) -> list[Item]:
    """All of them first, as "", then by name."""
    every = Item("", "all namespaces", "0", current=current == "")
    return [every, *(Item(name, name, current=name == current) for name in sorted({*names} - {""}))]


def contexts(found: Sequence[ContextInfo], current: str) -> list[Item]:
    current = current or next((context.name for context in found if context.current), "")
    return [
        Item(
            context.name,
            context.name,
            "  ".join(part for part in (context.cluster, context.namespace) if part),
            current=context.name == current,
        )
        for context in found
    ]


def recents(entries: Sequence[Recent]) -> list[Item]:
    """Valued by their number."""
    return [
        Item(
            str(index),
            f"{entry.namespace}/{entry.pod} › {entry.container}",
            f"{entry.context}  {entry.owner}",
        )
        for index, entry in enumerate(entries)
    ]


def enterable(pod: PodSummary) -> list[ContainerSummary]:
    """All but init containers that do not run."""
    return [item for item in pod.containers if item.kind != "init" or item.state == "running"]


def containers(
    found: Iterable[ContainerSummary], wanted: str, intent_of: Callable[[str], Intent]
) -> list[Item]:
    """The one that is wanted first, each with what attaching to it would do."""
    return [
        Item(
            container.name,
            f"{container.name}  {container.state} {container.reason}".rstrip(),
            f"{short_image(container.image)}  {_briefly(intent_of(container.name))}",
            current=container.name == wanted,
        )
        for container in sorted(found, key=lambda item: item.name != wanted)
    ]


def _briefly(intent: Intent) -> str:
    if intent.against is not None:
        return "cannot attach now"
    return f"reuses {intent.toolbox}" if intent.toolbox else f"rung {intent.rung}"
