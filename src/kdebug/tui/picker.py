"""`kdebug attach` without a target: the pods of a cluster, live; Enter attaches to one.

The screen routes keys; `PodFeed` knows the pods, `PodTable` and `PodPreview` show them. It owns one
`Cluster` per context, for as long as the UI runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Optional, cast

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.screen import Screen
from textual.widgets import Input

from kdebug import recent
from kdebug.errors import Failed, KdebugError, NotFound, UsageError
from kdebug.expression import TargetExpression, parse
from kdebug.open import contexts, open_cluster
from kdebug.recent import Recent
from kdebug.target.cluster import Cluster, Intent, PodSummary
from kdebug.target.options import OpenOptions
from kdebug.tui import picker_items as items_of
from kdebug.tui.chooser import Chooser
from kdebug.tui.pane import Notice
from kdebug.tui.picker_bars import PickerHeader, PickerStatus
from kdebug.tui.picker_feed import PodFeed
from kdebug.tui.picker_preview import PodPreview
from kdebug.tui.picker_rows import PodRow, PodTable
from kdebug.tui.session import ClusterOpener, ContextReader
from kdebug.tui.table import LineTable
from kdebug.tui.work import start
from kdebug.units import age

if TYPE_CHECKING:
    from kdebug.tui.app import KdebugApp

FLUSH_SECONDS = 0.5
"""News is shown so often at most: sorting 5,000 rows takes some of the UI's time."""
PATIENT_SECONDS = 2.0
"""So long news waits for somebody who types."""
TYPING_SECONDS = 0.3
"""After a letter the next one is expected."""
TICK_SECONDS = 2.0
"""Ages move on, where nothing else has drawn them."""


class PickerScreen(Screen[None]):
    DEFAULT_CSS = """
    PickerScreen { layout: vertical; background: $background; }
    PickerScreen #split { layout: vertical; height: 1fr; }
    PickerScreen #filter { height: 1; border: none; padding: 0 1; background: $panel; }
    PickerScreen.wide #split { layout: horizontal; }
    PickerScreen.wide PodTable { width: 3fr; }
    PickerScreen.wide PodPreview { width: 2fr; height: 1fr; border-top: none; border-left: solid $primary; }
    PickerScreen.tall PodPreview { height: 13; }
    PickerScreen.small PodPreview { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", priority=True),
        Binding("n", "namespace", "Choose the namespace"),
        Binding("0", "every_namespace", "Pods of all namespaces"),
        Binding("c,ctrl+x", "context", "Choose the context"),
        Binding("R", "recent", "Attach to a recent target"),
        Binding("r", "retry", "Try again, or list anew"),
        Binding("y", "copy", "Copy the pod's name"),
        Binding("q", "leave", "Leave"),
        Binding("escape", "back", "End the filter", show=False),
        Binding("up", "move(-1)", "Up", show=False),
        Binding("down", "move(1)", "Down", show=False),
    ]
    WIDE, TALL, SMALL = 130, 36, 14
    """Columns for a preview beside the list, lines for a taller one, lines below which there is none."""

    def __init__(
        self,
        options: OpenOptions,
        opener: ClusterOpener = open_cluster,
        context_reader: ContextReader = contexts,
    ) -> None:
        super().__init__()
        self._options = options
        self._opener = opener
        self._read_contexts = context_reader
        self._in_context = options.pod.context
        """As chosen; "" for the current one."""
        self._clusters: dict[str, Cluster] = {}
        self._stack = contextlib.AsyncExitStack()
        self._dirty = False
        self._typed_at = self._flushed_at = 0.0
        self._settled = False
        self._following = False
        self._told = ""
        self._wanted: Optional[tuple[str, str]] = None
        """The pod to put the cursor on once it is listed."""
        self._intent: tuple[tuple[object, ...], Intent] = ((), Intent(""))
        self.feed = PodFeed(self._cluster, options.pod.namespace or None, self._news)

    def compose(self) -> ComposeResult:
        yield PickerHeader()
        yield Notice(id="notice")
        yield Container(PodTable(id="pods"), PodPreview(id="preview"), id="split")
        field = Input(
            placeholder="letters of names, namespaces, images, nodes, states; Enter keeps it, Esc ends it",
            id="filter",
        )
        field.display = False
        yield field
        yield PickerStatus()

    def on_mount(self) -> None:
        self.set_interval(FLUSH_SECONDS, self._flush)
        self.set_interval(TICK_SECONDS, self._tick)
        self.table.focus()
        self._follow(self.feed)

    async def on_unmount(self) -> None:
        with contextlib.suppress(KdebugError):
            await self._stack.aclose()

    @property
    def host(self) -> KdebugApp:
        return cast("KdebugApp", self.app)

    @property
    def table(self) -> PodTable:
        return self.query_one(PodTable)

    # The cluster and its pods

    async def _cluster(self) -> Cluster:
        """Of the chosen context; opened once."""
        name = self._in_context
        if name not in self._clusters:
            options = self._with(context=name)
            self._clusters[name] = await self._stack.enter_async_context(self._opener(options))
        return self._clusters[name]

    def _with(self, **fields: str) -> OpenOptions:
        return replace(self._options, pod=replace(self._options.pod, **fields))  # type: ignore[arg-type]

    def _follow(self, feed: PodFeed) -> None:
        """Show these pods from now on."""
        self.feed = feed
        self._following, self._settled = True, False
        start(self, "follow", feed.run)
        self._dirty = True
        self._flush()

    def _show_place(self, context: str, namespace: Optional[str]) -> None:
        """Another context or namespace: what was listed is no longer meant."""
        self._in_context = context
        self._follow(PodFeed(self._cluster, namespace, self._news))

    def _news(self) -> None:
        if not self.query(PodTable):
            return  # the screen is being taken down, which ends its connection
        at_once = not self.table.total or not self.feed.listing
        self._dirty = True
        if at_once and self.table.total == 0:
            self._flush()

    @on(events.ScreenResume)
    def _resumed(self) -> None:
        # A chooser that is left for a session resumes this screen as well, for an instant.
        if not self._following and self.app.screen is self:
            self._follow(self.feed)

    # What is shown

    def _flush(self) -> None:
        """Show what came since the last time, at most so often."""
        if not self._dirty or not self.is_mounted or self.app.screen is not self:
            return
        now = time.monotonic()
        if now - self._typed_at < TYPING_SECONDS and now - self._flushed_at < PATIENT_SECONDS:
            return  # or the next letter would wait for it
        self._dirty, self._flushed_at = False, now
        feed, table = self.feed, self.table
        table.show_namespaces(feed.namespace == "")
        table.empty = "" if feed.problem else "listing …" if feed.listing else "no pods are here"
        table.show(feed.rows.values())
        if feed.complete:
            table.stick()
            self._settle()
        if self._wanted is not None and (table.select(self._wanted) or not feed.listing):
            self._wanted = None
        self._show_state()
        self._preview()

    def _settle(self) -> None:
        """The whole list stays: a garbage collector that looks through it takes 80 ms each time, which is a
        letter that comes late."""
        if not self._settled:
            self._settled = True
            gc.freeze()

    def _tick(self) -> None:
        if self.app.screen is self:
            self._show_state()
            self.table.refresh()

    def _show_state(self) -> None:
        feed = self.feed
        lost = feed.problem is not None
        self.query_one(PickerHeader).show(self._place(), self._facts(), lost)
        trouble = self._trouble()
        if trouble != self._told:
            # Only what is new: a notice makes the screen be laid out anew.
            self._told = trouble
            self.query_one(Notice).tell(trouble, mild=not lost)

    def _place(self) -> str:
        cluster, namespace = self.feed.cluster, self.feed.namespace
        context = cluster.context if cluster is not None else self._in_context
        where = "…" if namespace is None else namespace or "all namespaces"
        return f"{context} › {where}" if context else where

    def _facts(self) -> str:
        feed, table = self.feed, self.table
        count = f"{len(table.rows):,} of {table.total:,}" if table.needle.strip() else f"{table.total:,}"
        facts = [f"/{table.needle.strip()}"] if table.needle.strip() else []
        facts.append(f"{count} pod{'' if table.total == 1 else 's'}")
        if feed.problem is not None:
            facts.append(f"✗ {age(time.monotonic() - feed.heard)} old" if feed.heard else "✗ not connected")
        elif feed.listing:
            more = f", {feed.remaining:,} to come" if feed.remaining else ""
            facts.append(f"… {'listing' if feed.cluster else 'connecting'}{more}")
        else:
            facts.append("↻ polled" if feed.polled else "● watching")
        return "  ".join(facts)

    def _trouble(self) -> str:
        feed = self.feed
        if feed.problem is not None:
            left = (
                ""
                if feed.retry_at is None
                else f" (by itself in {max(0.0, feed.retry_at - time.monotonic()):.0f} s)"
            )
            old = f"what is shown is {age(time.monotonic() - feed.heard)} old. " if feed.rows else ""
            return f"✗ {old}{feed.problem}  [r] try again{left}"
        if feed.note:
            return f"! {feed.note}"
        return f"! not watched but listed every few seconds: {feed.polled}" if feed.polled else ""

    def _preview(self) -> None:
        row = self.table.selected
        self.query_one(PodPreview).show(row, None if row is None else self._intent_of(row.pod))

    def _intent_of(self, pod: PodSummary, container: str = "") -> Intent:
        """What attaching would do; once for each version of a pod."""
        container = container or self._container_of(pod)
        seen = (self.feed, pod.key, pod.version, container)
        if self._intent[0] != seen or not pod.version:
            self._intent = (seen, self._plan(pod, container))
        return self._intent[1]

    def _plan(self, pod: PodSummary, container: str) -> Intent:
        if self.feed.cluster is None:
            return Intent(container, against=Failed("not connected"))
        try:
            return self.feed.cluster.intent(pod, container)
        except KdebugError as error:
            return Intent(container, against=error)

    def _container_of(self, pod: PodSummary) -> str:
        """The one that -c names, where the pod has it; else the pod's own choice."""
        named = self._options.pod.container
        return named if any(item.name == named for item in pod.containers) else pod.default_container

    @on(LineTable.Highlighted, "#pods")
    def _highlighted(self) -> None:
        self._preview()

    def on_resize(self, event: events.Resize) -> None:
        wide, lines = event.size.width >= self.WIDE, event.size.height
        self.set_class(wide, "wide")
        self.set_class(not wide and lines >= self.TALL, "tall")
        self.set_class(lines < self.SMALL, "small")

    # Filter

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A slash typed into a field is a slash."""
        return not (action == "filter" and isinstance(self.focused, Input))

    def action_filter(self) -> None:
        field = self.query_one("#filter", Input)
        field.value = self.table.needle
        # At once, not with the next layout: what is typed right behind the slash belongs to the filter.
        field.display = True
        self.set_focus(field)

    @on(Input.Changed, "#filter")
    def _filter_changed(self, event: Input.Changed) -> None:
        if self.query_one("#filter", Input).has_focus:
            self._filter(event.value)

    def _filter(self, needle: str) -> None:
        self._typed_at = time.monotonic()
        self.table.filter(needle)
        self._show_state()

    @on(Input.Submitted, "#filter")
    def _filter_kept(self, event: Input.Submitted) -> None:
        self.query_one("#filter", Input).display = False
        self._filter(event.value)  # the last letters may still be on their way
        self.set_focus(self.table)

    def action_back(self) -> None:
        self.query_one("#filter", Input).display = False
        self._filter("")
        self.set_focus(self.table)

    def action_move(self, step: int) -> None:
        """The arrows, while the filter has the focus."""
        self.table.action_move(step)

    # Attach

    @on(LineTable.Chosen, "#pods")
    def _chosen(self, event: LineTable.Chosen) -> None:
        row: PodRow = event.row
        pod = row.pod
        wanted = self._container_of(pod)
        enterable = items_of.enterable(pod)
        if len(enterable) < 2 or self._options.pod.container == wanted:
            self._enter(pod, wanted)
            return
        items = items_of.containers(enterable, wanted, lambda name: self._intent_of(pod, name))

        def answered(name: Optional[str]) -> None:
            if name is not None:
                self._enter(pod, name)

        self.app.push_screen(Chooser(f"Container of {pod.name}", items), answered)

    def _enter(self, pod: PodSummary, container: str) -> None:
        context = self.feed.cluster.context if self.feed.cluster is not None else self._in_context
        entry = Recent(context, pod.namespace, pod.name, pod.owner, container)
        self._open(TargetExpression("pod", pod.name), entry, self._in_context)

    def _open(self, expression: TargetExpression, entry: Recent, context: str) -> None:
        try:
            recent.remember(entry)
        except OSError as error:
            self.tell(f"recent targets cannot be kept: {error}")
        self._following = False
        self.workers.cancel_group(self, "follow")
        options = self._with(
            context=context, namespace=entry.namespace, container=entry.container, selector=""
        )
        self.host.open_session(expression, options)

    # Choosers

    def action_namespace(self) -> None:
        start(self, "choose", self._choose_namespace)

    async def _choose_namespace(self) -> None:
        feed, note, names = self.feed, "", list[str]()
        if feed.cluster is not None:
            self.tell("listing the namespaces …")
            try:
                names = await feed.cluster.namespaces()
            except KdebugError as error:
                note = f"{error.what}: {error.why}. Type a name."
        if self.app.screen is not self:
            return  # somebody went on meanwhile
        own = feed.cluster.namespace if feed.cluster is not None else ""
        seen = [
            *names,
            own,
            self._options.pod.namespace,
            feed.namespace or "",
            *(key[0] for key in feed.rows),
        ]
        items = items_of.namespaces(seen, feed.namespace)

        def answered(name: Optional[str]) -> None:
            if name is not None:
                self._show_place(self._in_context, name)

        self.app.push_screen(Chooser("Namespace", items, note, other="namespace"), answered)

    def action_every_namespace(self) -> None:
        self._show_place(self._in_context, "")

    def action_context(self) -> None:
        start(self, "choose", self._choose_context)

    async def _choose_context(self) -> None:
        try:
            found = await asyncio.to_thread(self._read_contexts, self._options)
        except KdebugError as error:
            self.tell(str(error))
            return
        if self.app.screen is not self:
            return
        current = self.feed.cluster.context if self.feed.cluster is not None else self._in_context
        items = items_of.contexts(found, current)

        def answered(name: Optional[str]) -> None:
            if name is not None:
                self._show_place(name, None)

        self.app.push_screen(Chooser("Context", items), answered)

    def action_recent(self) -> None:
        entries = recent.load()
        if not entries:
            self.tell("nothing was attached to from here yet")
            return
        items = items_of.recents(entries)

        def answered(value: Optional[str]) -> None:
            if value is not None:
                start(self, "choose", self._open_recent, entries[int(value)])

        self.app.push_screen(Chooser("Recent targets", items), answered)

    async def _open_recent(self, entry: Recent) -> None:
        """The same pod, or the one that its owner made in its place."""
        here = self.feed.cluster is not None and entry.context == self.feed.cluster.context
        context = self._in_context if here else entry.context
        expression = TargetExpression("pod", entry.pod)
        self.tell(f"looking for {entry.namespace}/{entry.pod} …")
        try:
            options = self._with(context=context, namespace=entry.namespace, container="", selector="")
            async with self._opener(options) as cluster:
                try:
                    await cluster.choose(expression)
                except NotFound:
                    expression = parse(entry.owner)
                    await cluster.choose(expression)
        except UsageError:
            self.tell(f"the pod {entry.pod} is no more, and nothing makes it anew")
            return
        except KdebugError as error:
            self.tell(str(error))
            return
        if self.app.screen is not self:
            return
        self._wanted = (entry.namespace, entry.pod)
        self._open(expression, entry, context)

    # The rest

    def action_retry(self) -> None:
        if self.feed.problem is not None:
            self.feed.retry()
        else:
            self._follow(self.feed)

    def action_copy(self) -> None:
        row = self.table.selected
        if row is not None:
            self.host.copy_line(row.pod.name)

    def tell(self, message: str) -> None:
        self.query_one(PickerStatus).tell(message)

    def action_leave(self) -> None:
        self.app.exit()
