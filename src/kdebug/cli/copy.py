"""cp: files and directories, out of a target and into it."""

from __future__ import annotations

import os
import time
from typing import Any

import click

from kdebug.cli.console import Document, emit, note
from kdebug.cli.table import exact, size
from kdebug.cli.verb import Common, common_options, with_target
from kdebug.errors import UsageError
from kdebug.expression import TargetExpression, parse
from kdebug.sanitise import one_line
from kdebug.target import Target
from kdebug.target.transfer import (
    MAX_BYTES,
    MAX_FILES,
    Lines,
    Progress,
    TransferOptions,
    TransferReport,
    download,
    upload,
)

SHOWN_LINES = 20
"""Of each kind; the rest is counted, and -v shows more."""
REFRESH_SECONDS = 0.1
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class ByteCount(click.ParamType[int]):
    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """512, 64K, 10M, 2G."""
        if isinstance(value, int):
            return value
        text = str(value).upper().removesuffix("IB").removesuffix("B")
        number, unit = (text[:-1], text[-1]) if text[-1:] in "KMGT" and text[-1:] else (text, "")
        if not number.isascii() or not number.isdigit():
            self.fail(f"{value!r} is not a number of bytes such as 512, 64K or 2G", param, ctx)
        return int(number) * _UNITS[unit]


def remote(word: str) -> TargetExpression | None:
    """The target and path that `word` names; None where it is a local path. Raises `UsageError`."""
    if word[:1] in ("/", ".", "~") or ":" not in word:
        return None
    try:
        expression = parse(word)
    except UsageError:
        if ":/" in word:
            raise
        return None
    return expression if expression.path else None


class Bar:
    """One line on a terminal: how much, how fast, how long still. Nothing in a pipe."""

    def __init__(self) -> None:
        self._on = os.isatty(2)
        self._started = time.monotonic()
        self._drawn = 0.0
        self._shown = False

    def __call__(self, now: Progress) -> None:
        clock = time.monotonic()
        if not self._on or clock - self._drawn < REFRESH_SECONDS:
            return
        self._drawn = clock
        self._shown = True
        line = self._line(now, clock - self._started)
        width = os.get_terminal_size(2).columns or 80
        self._write("\r\x1b[K" + one_line(line)[: width - 1])

    def _line(self, now: Progress, seconds: float) -> str:
        rate = (now.done_bytes - now.resumed_bytes) / max(seconds, 0.001)
        name = now.path.rpartition("/")[2]
        if now.total_bytes is None:
            return f"{now.files} files  {size(now.done_bytes)}  {size(int(rate))}/s  {name}"
        share = now.done_bytes / now.total_bytes if now.total_bytes else 1.0
        left = (now.total_bytes - now.done_bytes) / rate if rate > 0 else 0.0
        bar = ("#" * int(20 * min(share, 1.0))).ljust(20)
        figures = f"{min(share, 1.0):4.0%} [{bar}] {size(now.done_bytes)} of {size(now.total_bytes)}"
        return f"{figures}  {size(int(rate))}/s  {_clock(left)} left  {name}"

    def clear(self) -> None:
        if self._shown:
            self._write("\r\x1b[K")
            self._shown = False

    @staticmethod
    def _write(text: str) -> None:
        try:
            os.write(2, text.encode("utf-8", "backslashreplace"))
        except OSError:
            pass  # nobody looks


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def report_document(report: TransferReport, seconds: float) -> dict[str, Any]:
    data: dict[str, Any] = {
        "files": report.files,
        "directories": report.directories,
        "links": report.links,
        "bytes": report.bytes,
        "data_bytes": report.data_bytes,
        "travelled_bytes": report.travelled_bytes,
        "resumed_bytes": report.resumed_bytes,
        "unchanged": report.unchanged,
        "reconnects": report.reconnects,
        "verified_files": report.verified_files,
        "sha256": report.sha256 or None,
        "seconds": round(seconds, 3),
        "truncated": bool(report.capped),
        "truncated_by": report.capped or None,
    }
    for key, lines in (("skipped", report.skipped), ("failed", report.failed), ("notes", report.notes)):
        rows: list[dict[str, Any]] = []
        for line in lines.kept:
            rows.append({})
            exact(rows[-1], "text", line)
        data[key] = {"count": lines.count, "lines": rows}
    exact(data, "left_part", report.left_part or None)
    return data


def summary(report: TransferReport, seconds: float) -> str:
    """One line: what, how much, how fast, and how it was verified."""
    parts = [f"copied {report.files} file{'' if report.files == 1 else 's'}"]
    if report.directories:
        parts.append(f"{report.directories} directories")
    if report.links:
        parts.append(f"{report.links} symlinks")
    if report.unchanged:
        parts.append(f"{report.unchanged} files were there already")
    if report.skipped.count:
        parts.append(f"{report.skipped.count} skipped")
    rate = report.data_bytes / max(seconds, 0.001)
    parts.append(f"{size(report.bytes)} in {seconds:.1f} s ({size(int(rate))}/s)")
    if report.resumed_bytes and not report.unchanged:
        parts.append(f"{size(report.resumed_bytes)} of it from an earlier run")
    if report.verified_files:
        whole = f" {report.sha256}" if report.sha256 else ""
        parts.append(f"SHA-256 of every piece compared with the agent's{':' if whole else ''}{whole}")
    return ", ".join(parts)


def show_lines(report: TransferReport, verbose: bool) -> None:
    for title, lines in (("not copied", report.failed), ("skipped", report.skipped), ("", report.notes)):
        _show(title, lines, len(lines.kept) if verbose else SHOWN_LINES)
    if report.capped:
        note(report.capped)


def _show(title: str, lines: Lines, most: int) -> None:
    for line in lines.kept[:most]:
        note(f"{title}: {line}" if title else line)
    if lines.count > min(most, len(lines.kept)):
        note(f"{title or 'notes'}: {lines.count} in all")


@click.command(
    "cp",
    help="Copy between a target and this machine: TARGET:/PATH ... LOCAL, or LOCAL ... TARGET:/PATH. "
    "Remote paths may be globs. Every piece is verified by SHA-256; a download that was broken off goes on "
    "where it stopped.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("words", nargs=-1, metavar="SOURCE... DESTINATION")
@click.option("-r", "-R", "--recursive", "recursive", is_flag=True, help="copy directories with all below")
@click.option("-f", "--force", "overwrite", is_flag=True, help="replace files that exist")
@click.option("--links", is_flag=True, help="make symlinks (none that lead out of a download)")
@click.option("--special-bits", is_flag=True, help="keep setuid, setgid and sticky bits")
@click.option(
    "--max-files", type=click.IntRange(min=1), default=MAX_FILES, show_default=True, help="entries at most"
)
@click.option(
    "--max-bytes",
    type=ByteCount(),
    default=MAX_BYTES,
    metavar="BYTES",
    help="contents at most (default 10G)",
)
@click.option(
    "--compress",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="deflate downloads on the way: auto where the link is slow and a sample shrinks",
)
@common_options(("table", "json", "yaml"), short_selector=False)
def cp(words: tuple[str, ...], common: Common, **options: Any) -> int:
    if len(words) < 2:
        raise UsageError("cp needs a source and a destination", next_step="kdebug cp web-0:/etc/hosts .")
    sources, destination = words[:-1], words[-1]
    far = [remote(word) for word in sources]
    to = remote(destination)
    settings = TransferOptions(**options)
    if to is not None:
        if any(one is not None for one in far):
            raise UsageError(
                "cp does not copy from target to target", next_step="copy to a local path first"
            )
        return with_target(
            to, common, lambda target: _run(target, upload, sources, to.path, settings, common)
        )
    first = far[0]
    if first is None or any(one is None for one in far):
        raise UsageError(
            "one side of cp is a target", next_step="write TARGET:/PATH for the sources or the destination"
        )
    paths = [one.path for one in far if one is not None]
    if any((one.scheme, one.value) != (first.scheme, first.value) for one in far if one is not None):
        raise UsageError("all sources of one cp are in one target")
    return with_target(
        first, common, lambda target: _run(target, download, paths, destination, settings, common)
    )


async def _run(
    target: Target, verb: Any, sources: Any, destination: str, options: TransferOptions, common: Common
) -> int:
    bar, report, started = Bar(), TransferReport(), time.monotonic()
    # Once it is there, the same words would mean a directory within it, as for cp.
    moved = verb is download and options.recursive and not os.path.isdir(destination)
    try:
        await verb(target, sources, destination, options, bar, report)
    except BaseException:
        bar.clear()
        show_lines(report, common.verbose)
        if moved and report.directories:
            again = f"{sources[0].rstrip('/')}/. to {destination}"
            note(f"to go on, copy {again}: files that have come are compared, not fetched again")
        elif report.left_part:
            note(f"{report.left_part} holds what has come; the same command goes on from there")
        raise
    bar.clear()
    seconds = time.monotonic() - started
    show_lines(report, common.verbose)
    if common.output == "table":
        note(summary(report, seconds))
        return 0 if report.complete else 1
    data = report_document(report, seconds)
    return emit(Document(data, lambda wide: [], partial=not report.complete), common.output)


COMMANDS: dict[str, click.Command] = {"cp": cp}
