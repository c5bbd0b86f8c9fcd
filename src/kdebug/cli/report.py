"""report: a bundle as one page of HTML."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time

import click

from kdebug.capture.report import report
from kdebug.capture.report.account import is_redacted
from kdebug.cli.console import note, progress, write_bytes
from kdebug.cli.running import run
from kdebug.cli.table import size
from kdebug.errors import Failed, KdebugError, UsageError, from_os_error

ENDINGS = (".kdebug.tar.gz", ".tar.gz", ".tgz")
SILENT_SECONDS = 0.5


@click.command(
    "report", help="Write what a bundle tells as one HTML file, fit for a mail or an incident's page."
)
@click.argument("file", metavar="BUNDLE")
@click.option(
    "--output", "to", default="", metavar="FILE", help="the page (default: beside the bundle; - is stdout)"
)
@click.option("-f", "--force", is_flag=True, help="replace a file that is there")
def report_verb(file: str, to: str, force: bool) -> int:
    path = file.removeprefix("bundle:")
    if path.endswith(":") or path.startswith(("local:", "pod/", "deploy/")):
        raise UsageError(
            f"report reads a bundle, and {file} is none", next_step=f"take one: `kdebug capture {file}`"
        )
    place = to or default_place(path)
    if place != "-" and not force and os.path.lexists(place):
        raise _exists(place)
    began, drawn = time.monotonic(), False

    def tell(what: str) -> None:
        nonlocal drawn
        if time.monotonic() - began > SILENT_SECONDS:
            drawn = progress(f"reading {what}") or drawn

    try:
        data, found = run(report(path, tell))
    finally:
        if drawn:
            progress("")
    if place == "-":
        write_bytes(data)
    else:
        write(place, data, force)
        write_bytes(os.fsencode(place) + b"\n")
    for problem in found.problems[:3]:
        note(problem)
    if not is_redacted(found.manifest):
        note("nothing says that the bundle was redacted: the page may hold secrets")
    count = len(found.findings())
    note(f"{size(len(data))}, {count or 'no'} finding{'' if count == 1 else 's'}")
    return 1 if found.problems else 0


def default_place(path: str) -> str:
    ending = next((ending for ending in ENDINGS if path.endswith(ending)), "")
    return path[: len(path) - len(ending)] + ".html"


def write(place: str, data: bytes, force: bool) -> None:
    """Private, whole or not at all. Raises `Failed` where something is there by now."""
    folder, name = os.path.split(place)
    try:
        descriptor, made = tempfile.mkstemp(dir=folder or ".", prefix=f".{name[:100]}-")
    except OSError as error:
        raise from_os_error(error, f"{place} cannot be written") from error
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        if os.path.lexists(place) and not force:
            raise _exists(place)
        os.replace(made, place)
    except OSError as error:
        _remove(made)
        raise from_os_error(error, f"{place} cannot be written") from error
    except BaseException:
        _remove(made)
        raise


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _exists(place: str) -> KdebugError:
    return Failed(
        f"{place} exists", why="nothing is overwritten", next_step="add -f, or name another with --output"
    )


COMMANDS: dict[str, click.Command] = {"report": report_verb}
