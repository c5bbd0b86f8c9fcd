"""One line of the picker: what is wrong with a pod in one word, in what order, and how it is found."""

from __future__ import annotations

import re
import time
from collections.abc import Hashable
from typing import Optional

from textual import events

from kdebug.target.cluster import ContainerSummary, PodSummary
from kdebug.tui.fuzzy import Fuzzy, Haystack
from kdebug.tui.table import Cell, Column, LineTable
from kdebug.tui.theme import ACCENT, BAD, DIM, PLAIN, WARN
from kdebug.units import brief_age, unix_time

LATELY_SECONDS = 3600.0
"""A restart that is younger is worth a mark."""
BROKEN, UNSETTLED, FINE, OVER = range(4)
"""How urgent a pod is; the order of the list."""
MARKS = {BROKEN: "✗", UNSETTLED: "!", FINE: " ", OVER: "-"}
STYLES = {BROKEN: BAD, UNSETTLED: WARN, FINE: PLAIN, OVER: DIM}
OVER_WORDS = ("Completed", "Succeeded")
PASSING = ("Pending", "ContainerCreating", "PodInitializing", "Terminating", "NotReady", "SchedulingGated")
"""Words of a pod that is on its way; every other word but Running tells of something broken."""
_INIT_COUNT = re.compile(r"Init:[0-9]+/[0-9]+")
OOM = "OOMKilled"


class PodRow:
    """A pod with what is asked of it again and again."""

    __slots__ = ("_urgency", "haystack", "oom", "pod", "ranked", "restarted_at")

    def __init__(self, pod: PodSummary) -> None:
        self.pod = pod
        containers = pod.containers
        self.haystack = Haystack.of(
            pod.name,
            (f"{pod.namespace}/{pod.name}", " ".join(c.name for c in containers)),
            (pod.status, pod.owner, pod.node, " ".join(c.image for c in containers)),
        )
        self.restarted_at = unix_time(pod.last_restart_at)
        self.oom = any(OOM in (container.reason, container.last_reason) for container in containers)
        self._urgency = _urgency(pod)
        self.ranked: tuple[str, Optional[int]] = ("", None)
        """The filter that was last tried on it, and how well it matched."""

    @property
    def key(self) -> Hashable:
        return self.pod.key

    @property
    def restarted_lately(self) -> bool:
        return self.restarted_at is not None and time.time() - self.restarted_at < LATELY_SECONDS

    @property
    def urgency(self) -> int:
        unsettled = self._urgency == FINE and self.restarted_lately
        return UNSETTLED if unsettled else self._urgency

    @property
    def status(self) -> str:
        """kubectl's word; of a pod that seems well again, that its memory ran out lately."""
        word = self.pod.status
        return f"{word} {OOM}" if self.oom and word == "Running" and self.restarted_lately else word


def _urgency(pod: PodSummary) -> int:
    word = pod.status
    if word in OVER_WORDS:
        return OVER
    if word == "Running":
        return FINE if pod.ready >= pod.total else UNSETTLED
    return UNSETTLED if word in PASSING or _INIT_COUNT.fullmatch(word) else BROKEN


def _name(row: PodRow) -> Cell:
    return row.pod.name, STYLES[row.urgency] if row.urgency != FINE else PLAIN


def _marked_name(row: PodRow) -> Cell:
    return f"{MARKS[row.urgency]} {row.pod.name}", STYLES[row.urgency]


def _by_status(row: PodRow) -> tuple[int, str, str]:
    return row.urgency, row.pod.name, row.pod.namespace


def _ready(row: PodRow) -> Cell:
    pod = row.pod
    short = pod.ready < pod.total and row.urgency != OVER
    return f"{pod.ready}/{pod.total}", WARN if short else DIM


def _status(row: PodRow) -> Cell:
    urgency = row.urgency
    return f"{MARKS[urgency]} {row.status}", STYLES[urgency]


def _restarts(row: PodRow) -> Cell:
    count = row.pod.restarts
    if not count:
        return "0", DIM
    ago = "" if row.restarted_at is None else f" ({brief_age(time.time() - row.restarted_at)})"
    return f"{count}{ago}", WARN if row.restarted_lately else PLAIN


def _age(row: PodRow) -> Cell:
    created = unix_time(row.pod.created_at)
    return brief_age(None if created is None else time.time() - created), DIM


def main_container(pod: PodSummary) -> Optional[ContainerSummary]:
    return next((item for item in pod.containers if item.name == pod.default_container), None)


def _image(row: PodRow) -> Cell:
    container = main_container(row.pod)
    # The registry is the same for most: what differs comes last.
    return short_image(container.image) if container else "", DIM


def short_image(image: str) -> str:
    """The last part of the path with its tag; a digest by its first digits."""
    name, at, digest = image.rpartition("/")[2].partition("@")
    return f"{name}@{digest.rpartition(':')[2][:12]}" if at else name


NAME = Column[PodRow]("name", "NAME", 0, _name, lambda r: (r.pod.name, r.pod.namespace))
NAMESPACE = Column[PodRow](
    "namespace",
    "NAMESPACE",
    14,
    lambda r: (r.pod.namespace, ACCENT),
    lambda r: (r.pod.namespace, r.pod.name),
)
REST = [
    Column[PodRow](
        "ready", "READY", 5, _ready, lambda r: r.pod.ready - r.pod.total, right=True, optional=1
    ),
    Column[PodRow]("status", "STATUS", 19, _status, _by_status),
    Column[PodRow](
        "restarts", "RESTARTS", 9, _restarts, lambda r: r.pod.restarts, True, right=True, optional=2
    ),
    Column[PodRow]("age", "AGE", 4, _age, lambda r: r.pod.created_at, True, right=True, optional=3),
    Column[PodRow]("image", "IMAGE", 26, _image, lambda r: _image(r)[0], optional=4),
    Column[PodRow]("node", "NODE", 18, lambda r: (r.pod.node, DIM), lambda r: r.pod.node, optional=5),
]
NARROW = [Column[PodRow]("status", "POD", 0, _marked_name, _by_status)]
"""Where there is no room for more than a name."""
NARROW_WIDTH = 40


def columns(every_namespace: bool, narrow: bool = False) -> list[Column[PodRow]]:
    return NARROW if narrow else [*([NAMESPACE] if every_namespace else []), NAME, *REST]


def _rank(row: PodRow) -> int:
    return row.ranked[1] or 0


class PodTable(LineTable[PodRow]):
    """Problems first; while somebody types, the best match first."""

    min_flexible = 24

    def __init__(self, id: str) -> None:
        super().__init__(columns(False), lambda row: row.key, sort="status", id=id, empty="")
        self._namespaces = self._narrow = False

    def filter(self, needle: str) -> None:
        """Fuzzy. The cursor goes to the best match, and stays with it when the list changes."""
        if needle.casefold() == self._needle:
            return
        # Without a filter it stays with the pod that was found by it.
        self._touched = not needle.strip() and self.selected is not None
        super().filter(needle)
        self.stick()

    def _matching(self) -> list[PodRow]:
        fuzzy, needle = Fuzzy(self._needle), self._needle
        found = []
        for row in self._all:
            tried, rank = row.ranked
            # Whoever does not match the beginning of what was typed does not match all of it.
            if tried != needle and (rank is not None or not tried or not needle.startswith(tried)):
                rank = fuzzy.rank(row.haystack)
                row.ranked = needle, rank
            if rank is not None:
                found.append(row)
        return sorted(found, key=_rank)

    def show_namespaces(self, shown: bool) -> None:
        if shown != self._namespaces:
            self._namespaces = shown
            self._choose_columns()

    def on_resize(self, event: events.Resize) -> None:
        # The base has its own handler; Textual calls both.
        if (event.size.width < NARROW_WIDTH) != self._narrow:
            self._narrow = not self._narrow
            self._choose_columns()

    def _choose_columns(self) -> None:
        self.set_columns(columns(self._namespaces, self._narrow))
        if self._sort is None:
            self.sort_by("status")
