"""open and bundle: captures that are files by now."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from kdebug.capture import sealing
from kdebug.capture.container import MANIFEST_NAME
from kdebug.capture.extract import extract
from kdebug.capture.reader import BundleReader
from kdebug.cli import console
from kdebug.cli.attach import on_terminal, run_ui
from kdebug.cli.console import Document, emit, note, progress
from kdebug.cli.overview import attach_document
from kdebug.cli.table import size, table
from kdebug.cli.verb import Common, common_options, with_target, within
from kdebug.errors import KdebugError, UsageError
from kdebug.expression import TargetExpression
from kdebug.sanitise import one_line
from kdebug.target import Target

TOLD = ("status", "problems", "target", "recipe", "started_at", "redactions")
"""Of the manifest, in `bundle ls`."""
_FORMAT = click.option(
    "-o", "--output", type=click.Choice(("table", "json", "yaml", "name")), default="table"
)


@click.command("open", help="Open a bundle in the terminal UI; in a pipe: one screen of text.")
@click.argument("file", metavar="FILE")
@common_options()
def open_bundle(file: str, common: Common) -> int:
    expression = TargetExpression("bundle", file.removeprefix("bundle:"))
    if common.output == "table" and on_terminal():
        BundleReader(expression.value).close()  # what is no bundle is told here, and not on a screen
        return run_ui(expression, common)

    async def work(opened: Target) -> int:
        return console.emit(await within(common.timeout, "open", attach_document(opened)), common.output)

    return with_target(expression, common, work)


@click.group("bundle", help="Verify, list, unpack or encrypt a bundle.")
def bundle() -> None:
    """Only a group."""


@bundle.command("verify", help="Read every byte of a bundle and compare its digests.")
@click.argument("file", metavar="FILE")
@_FORMAT
def verify(file: str, output: str) -> int:
    with BundleReader(file) as reader:
        problems = reader.verify()
        data = _manifest(reader)
        problems += _against_manifest(reader, data)
        count = len(reader.members)
    found = {"file": file, "members": count, "status": data.get("status"), "problems": problems}
    status = one_line(str(data.get("status") or "without a manifest"))
    line = (
        f"{count} members, {'all' if not problems else 'not all'} as they were written; capture: {status}"
    )
    notes = [one_line(problem) for problem in problems]
    return emit(Document(found, lambda wide: [line], notes=notes, partial=bool(problems)), output)


def _manifest(reader: BundleReader) -> dict[str, Any]:
    """{} where there is none, or none that can be read: verify tells."""
    try:
        found = reader.json(MANIFEST_NAME)
    except KdebugError:
        return {}
    return found if isinstance(found, dict) else {}


def _artifacts(data: dict[str, Any]) -> list[dict[str, Any]]:
    listed = data.get("artifacts")
    return [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []


def _members(row: dict[str, Any]) -> list[str]:
    listed = row.get("members")
    return [str(name) for name in listed] if isinstance(listed, list) else []


def _against_manifest(reader: BundleReader, data: dict[str, Any]) -> list[str]:
    """The manifest may not promise what is not there, or something else."""
    problems = []
    for row in _artifacts(data):
        names = _members(row)
        missing = [name for name in names if name not in reader.members]
        problems += [f"{name} is in the manifest and not in the bundle" for name in missing]
        if (
            len(names) == 1
            and not missing
            and row.get("sha256") not in ("", reader.members[names[0]].sha256)
        ):
            problems.append(f"{names[0]} is not what the manifest says")
    return problems


@bundle.command("ls", help="List what a bundle holds, and what it does not and why.")
@click.argument("file", metavar="FILE")
@_FORMAT
def ls(file: str, output: str) -> int:
    with BundleReader(file) as reader:
        data = _manifest(reader)
        told = {name: row for row in _artifacts(data) for name in _members(row)}
        rows = [_member_row(member, told.get(member.name, {})) for member in reader.members.values()]
        rebuilt = reader.rebuilt
    missing = [_missing_row(row) for row in _artifacts(data) if not _members(row)]
    found = {
        "file": file, "members": rows, "not_taken": missing,
        **{key: data.get(key) for key in TOLD},
    }  # fmt: skip
    cells = [[r["outcome"], size(r["size_bytes"]), r["name"], r["reason"]] for r in rows]
    cells += [[r["outcome"], "-", r["what"], r["reason"]] for r in missing]
    notes = [f"the bundle lost its end ({rebuilt}): this is what was whole"] if rebuilt else []
    document = Document(
        found, lambda wide: table(["OUTCOME", "SIZE", "NAME", "REASON"], cells, right="SIZE")
    )
    document.names, document.notes = (lambda: (str(row["name"]) for row in rows)), notes
    return emit(document, output)


def _member_row(member: Any, told: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": member.name, "size_bytes": member.size_bytes, "packed_bytes": member.packed_bytes,
        "sha256": member.sha256, "outcome": str(told.get("outcome") or "-"),
        "reason": str(told.get("reason") or ""), "what": str(told.get("what") or ""),
    }  # fmt: skip


def _missing_row(row: dict[str, Any]) -> dict[str, str]:
    return {key: str(row.get(key) or "") for key in ("what", "outcome", "reason", "step")}


@bundle.command("extract", help="Unpack a bundle, or the members that globs name, into a new folder.")
@click.argument("file", metavar="FILE")
@click.argument("globs", nargs=-1, metavar="[GLOB...]")
@click.option(
    "-C", "--into", "folder", default="", metavar="FOLDER", help="new or empty (default: by the name)"
)
def extract_verb(file: str, globs: tuple[str, ...], folder: str) -> int:
    place = folder or os.path.basename(file).partition(".")[0] or "bundle"
    began, drawn = time.monotonic(), False

    def tell(member: Any) -> None:
        nonlocal drawn
        if time.monotonic() - began > 1:
            drawn = progress(member.name) or drawn

    with BundleReader(file) as reader:
        names = [n for n in reader.members if not globs or any(fnmatch.fnmatchcase(n, g) for g in globs)]
        if not names:
            raise UsageError("nothing in the bundle is called so", next_step="see `kdebug bundle ls`")
        count, problems = extract(reader, place, names, tell)
        rebuilt = reader.rebuilt
    if drawn:
        progress("")
    for problem in [*([f"the bundle lost its end: {rebuilt}"] if rebuilt else []), *problems]:
        note(one_line(problem))
    console.write_bytes(os.fsencode(place) + b"\n")
    note(f"{count} of {len(names)} members are in {place}")
    return 1 if problems else 0


@bundle.command("encrypt", help="Encrypt a bundle with age for those who hold a key; FILE itself stays.")
@click.argument("file", metavar="FILE")
@click.option(
    "-r",
    "--recipient",
    "to",
    multiple=True,
    required=True,
    metavar="RECIPIENT",
    help="age1..., ssh-ed25519 ..., or a file of them; several may decrypt it",
)
@click.option("--output", "path", default="", metavar="FILE", help="(default: FILE.age)")
def encrypt_verb(file: str, to: tuple[str, ...], path: str) -> int:
    place = path or file + sealing.SUFFIX
    keys = sealing.recipients(to)
    with _meter("encrypting") as tell:
        sealing.encrypt(file, place, keys, tell)
    console.write_bytes(os.fsencode(place) + b"\n")
    note(f"{file} is as it was; remove it where only the encrypted one may be kept")
    return 0


@bundle.command("decrypt", help="Decrypt a bundle with a key of your own.")
@click.argument("file", metavar="FILE")
@click.option(
    "-i",
    "--identity",
    "keys",
    multiple=True,
    required=True,
    metavar="FILE",
    help="a key, as age-keygen or ssh-keygen makes it",
)
@click.option("--output", "path", default="", metavar="FILE", help="(default: FILE without .age)")
def decrypt_verb(file: str, keys: tuple[str, ...], path: str) -> int:
    place = path or file.removesuffix(sealing.SUFFIX)
    if place == file:
        raise UsageError(
            f"{file} does not end in {sealing.SUFFIX}", next_step="name the result: --output FILE"
        )
    with _meter("decrypting") as tell:
        sealing.decrypt(file, place, sealing.identities(keys), tell)
    console.write_bytes(os.fsencode(place) + b"\n")
    return 0


@contextlib.contextmanager
def _meter(what: str) -> Iterator[Callable[[int], None]]:
    """The last line of a terminal, for what takes longer than a second."""
    began, drawn = time.monotonic(), False

    def tell(done: int) -> None:
        nonlocal drawn
        if time.monotonic() - began > 1:
            drawn = progress(f"{what}: {size(done)}") or drawn

    try:
        yield tell
    finally:
        if drawn:
            progress("")


COMMANDS: dict[str, click.Command] = {"open": open_bundle, "bundle": bundle}
