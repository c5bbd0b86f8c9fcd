"""watch: wait until a condition holds, then capture; and the black box of such a capture, offline."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Optional

import click

from kdebug.capture.earlier import ACCOUNT
from kdebug.capture.offline import OfflineBackend
from kdebug.capture.reader import BundleReader
from kdebug.capture.recipe import Recipe, load_recipe
from kdebug.capture.recipe_fields import duration
from kdebug.capture.redaction import redactions
from kdebug.capture.work import Progress
from kdebug.capturing import default_name
from kdebug.cli.capture import until_signal, value_of
from kdebug.cli.console import Document, emit, note, progress, write_bytes
from kdebug.cli.running import run
from kdebug.cli.table import size, table
from kdebug.cli.verb import Common, common_options, one_target
from kdebug.errors import (
    EXIT_DEADLINE,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    UsageError,
    from_os_error,
)
from kdebug.expression import OWNERS, TargetExpression
from kdebug.sanitise import one_line
from kdebug.target import Target
from kdebug.units import age, rfc3339
from kdebug.watch.condition import BYTES, QUANTITIES, Condition, parse
from kdebug.watch.judge import Verdict, told
from kdebug.watch.reading import Reading
from kdebug.watch.timeline import timeline
from kdebug.watch.watcher import Event, Plan, Watch

SHORTEST_SECONDS = 0.2
QUIET_SECONDS = 60.0
"""In a pipe, plain lines tell of the values once in so long; JSON lines of every look."""
COMPLETE = "complete"


@click.command(
    "watch",
    help="Wait until a condition holds, then capture it together with the minutes before. On a bundle: "
    "show these minutes, or the samples that it holds.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("target", nargs=-1, metavar="TARGET")
@click.option(
    "--when", "conditions", multiple=True, metavar="CONDITION",
    help="'rss > 80% of limit for 30s', 'log matches /refused/', restart, 'not ready for 1m'; one or more",
)  # fmt: skip
@click.option("--do", "actions", multiple=True, metavar="capture:RECIPE", help="default: capture:standard")
@click.option("--max", "most", type=click.IntRange(1, 100), default=3, show_default=True, help="then end")
@click.option("--cooldown", default="10m", show_default=True, metavar="DURATION", help="quiet after each")
@click.option("--every", default="2s", show_default=True, metavar="DURATION", help="between two looks")
@click.option("--ring", default="5m", show_default=True, metavar="DURATION", help="kept of what was before")
@click.option("--deadline", default="", metavar="DURATION", help="end after so long")
@click.option("--output", "to", default="", metavar="FOLDER", help="where the bundles go")
@common_options(("table", "json"), long_output=False)
def watch_verb(
    target: tuple[str, ...], conditions: tuple[str, ...], actions: tuple[str, ...], most: int,
    cooldown: str, every: str, ring: str, deadline: str, to: str, common: Common,
) -> int:  # fmt: skip
    expression = one_target(target, common)
    if expression.path:
        raise UsageError("watch takes no path", next_step="--when 'file /PATH grows > 1MiB per minute'")
    if expression.scheme == "bundle":
        return emit(run(black_box(expression.value)), common.output)
    parsed = _conditions(conditions, expression)
    recipes = tuple(_recipe(action) for action in actions or ("capture:standard",))
    pause = value_of(duration, every, "--every")
    if pause < SHORTEST_SECONDS:
        raise UsageError(f"--every {every} is too often", next_step=f"at least {SHORTEST_SECONDS:g}s")
    quiet = 0.0 if cooldown in ("0", "0s") else value_of(duration, cooldown, "--cooldown")
    ends = value_of(duration, deadline, "--deadline") if deadline else None
    kept = value_of(duration, ring, "--ring")
    folder = Folder(to or default_name(f"watch-{expression}"))
    plan = Plan(parsed, recipes, folder.path, redactions(), pause, most, quiet, kept)
    options = replace(common.open_options(), note=_note)
    watch = Watch(expression, options, plan, Teller(common.output == "json"))
    with folder:
        return until_signal(_watched(watch, ends))


def _note(line: str) -> None:
    """The line that shows how it stands comes again by itself."""
    progress("")
    note(line)


def _conditions(texts: tuple[str, ...], expression: TargetExpression) -> tuple[Condition, ...]:
    if not texts:
        raise UsageError(
            "there is nothing to wait for", next_step="give --when 'rss > 80% of limit for 30s'"
        )
    found = tuple(parse(text) for text in texts)
    for condition in found:
        if condition.of_pod and expression.scheme not in OWNERS:
            raise UsageError(
                f"{condition.text!r} is for pods, not for {expression}",
                why="logs, restarts and readiness are known to Kubernetes only",
            )
    return found


def _recipe(action: str) -> Recipe:
    kind, colon, name = action.partition(":")
    if kind != "capture" or not colon or not name:
        raise UsageError(f"--do {action!r} cannot be done", next_step="write capture:RECIPE")
    return load_recipe(name)


async def _watched(watch: Watch, seconds: Optional[float]) -> int:
    interrupted = False
    try:
        async with asyncio.timeout(seconds):
            await watch.run()
    except TimeoutError:
        note(f"the watch ends after {age(seconds)}")
    except asyncio.CancelledError:
        interrupted = True
    finally:
        progress("")
        note(_summary(watch))
    if interrupted:
        return EXIT_INTERRUPTED
    if not watch.fired:
        return EXIT_DEADLINE
    whole = all(result.status == COMPLETE for result in watch.results)
    return EXIT_DONE if whole and not watch.problems else EXIT_FAILED


def _summary(watch: Watch) -> str:
    bundles = len(watch.results)
    fired = {0: "no condition was met", 1: "met once"}.get(watch.fired, f"met {watch.fired} times")
    return f"{str(watch.expression).rstrip(':')}: {fired}, {bundles} bundle{'' if bundles == 1 else 's'}"


class Folder:
    """For the bundles: made before there is anything to keep, and taken away when nothing came."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._made = False

    def __enter__(self) -> None:
        try:
            os.mkdir(self.path, 0o700)
            self._made = True
        except FileExistsError:
            if not os.path.isdir(self.path) or not os.access(self.path, os.W_OK | os.X_OK):
                raise UsageError(f"{self.path} is no folder that can be written to") from None
        except OSError as error:
            raise from_os_error(error, f"the folder {self.path} cannot be made") from error

    def __exit__(self, *_: object) -> None:
        if self._made:
            with contextlib.suppress(OSError):
                os.rmdir(self.path)  # fails where a bundle is in it


class Teller:
    """Events on stdout, a line each; on a terminal also one line on stderr that shows how it stands."""

    def __init__(self, json_lines: bool) -> None:
        self._json = json_lines
        self._terminal = os.isatty(2)
        self._told_at = 0.0

    def sample(self, reading: Reading, verdicts: Sequence[Verdict], fired: int) -> None:
        if self._json:
            judged = [
                {"holds": v.holds, "held_seconds": round(v.seconds, 3), "unknown": v.unknown or None}
                for v in verdicts
            ]
            self._line({"event": "sample", **reading.document(), "conditions": judged})
        words = f"{values_text(reading.values)}{_held(verdicts)}  fired {fired}"
        if self._terminal:
            progress(words)
        elif not self._json and time.monotonic() - self._told_at >= QUIET_SECONDS:
            self._told_at = time.monotonic()
            self._line(f"{rfc3339(reading.clock)}  sample  {words}")

    def event(self, event: Event) -> None:
        progress("")
        if self._json:
            self._line(event.document())
        else:
            self._line(f"{rfc3339(event.clock)}  {event.kind}  {event.text}")

    def progress(self, now: Progress) -> None:
        progress(f"capturing {now.step}: {now.artifacts} artifacts, {size(now.taken_bytes)}")

    def _line(self, what: Any) -> None:
        text = one_line(what) if isinstance(what, str) else json.dumps(what)
        write_bytes(text.encode("utf-8", "backslashreplace") + b"\n")


def _held(verdicts: Sequence[Verdict]) -> str:
    """Of the condition that has held for longest."""
    held = max((one.seconds for one in verdicts if one.holds), default=None)
    unknown = next((one.unknown for one in verdicts if one.unknown), "")
    if held is not None:
        return f"  holds for {age(held)}"
    return f"  ({unknown})" if unknown else ""


def values_text(values: dict[str, float]) -> str:
    """rss 12.0M  cpu 0.31  threads 9."""
    return "  ".join(f"{name} {told(QUANTITIES.get(name, BYTES), value)}" for name, value in values.items())


async def black_box(path: str) -> Document:
    """The minutes before a capture, as its watch saw them; of another capture the samples that it took."""
    bundle = BundleReader(path)
    backend = OfflineBackend(bundle)
    try:
        if ACCOUNT in bundle.members:
            found = bundle.json(ACCOUNT)
            return _account_document(found if isinstance(found, dict) else {})
        readings = await timeline(Target(backend, backend.info, path), backend)
    finally:
        await backend.close()
    return _account_document({"samples": [reading.document() for reading in readings]})


def _account_document(account: dict[str, Any]) -> Document:
    samples, notes = _rows(account.get("samples")), _rows(account.get("notes"))

    def lines(wide: bool) -> list[str]:
        names = list(dict.fromkeys(key for row in samples for key in row))
        rows = [[_shown(name, row.get(name)) for name in names] for row in samples]
        numbers = " ".join(name.upper() for name in names if name in QUANTITIES)
        shown = [f"{account['met']}: {account.get('values')}"] if "met" in account else []
        shown += [f"{row.get('at')}  {row.get('text')}" for row in notes]
        headers = [one_line(name.upper(), 60) for name in names]
        return [*map(one_line, shown), *([""] if shown else []), *table(headers, rows, right=numbers)]

    return Document(account, lines)


def _rows(listed: Any) -> list[dict[str, Any]]:
    """What a bundle, which is anybody's, has as a list of objects."""
    return [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []


def _shown(name: str, value: Any) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return told(QUANTITIES.get(name, BYTES), value)
    return "-" if value is None else str(value)


COMMANDS: dict[str, click.Command] = {"watch": watch_verb}
