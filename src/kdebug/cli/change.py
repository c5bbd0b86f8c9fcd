"""edit, rm, mkdir, chmod: change the target's files. On a read-only session the agent refuses them all."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shlex
import signal
import subprocess
from collections.abc import Awaitable, Callable
from typing import Any

import click

from kdebug.cli.console import note
from kdebug.cli.verb import Common, common_options, with_target, within
from kdebug.errors import AccessDenied, Failed, KdebugError, Partial, UsageError
from kdebug.expression import parse_with_path
from kdebug.protocol.modes import check_mode
from kdebug.protocol.writes import Changed, Chmod, MakeDir, Remove
from kdebug.target import Target
from kdebug.target.edit import edit_file

Work = Callable[[Target, str, Common], Awaitable[int]]


def _changing(name: str, locations: tuple[str, ...], common: Common, work: Work) -> int:
    """`work` on each path of one target; the exit code of the first that failed, else 0."""
    if not locations:
        raise UsageError(f"{name} needs a path in the target", next_step=f"kdebug {name} web-0:/tmp/x")
    expressions = [parse_with_path(location, name) for location in locations]
    first = expressions[0]
    if any((one.scheme, one.value) != (first.scheme, first.value) for one in expressions):
        raise UsageError(f"all paths of one {name} are in one target")

    async def all_paths(target: Target) -> int:
        check_writable(target, name)
        code = 0
        for one in expressions:
            try:
                code = await work(target, one.path, common) or code
            except KdebugError as error:
                if len(expressions) == 1 or error.exit_code == 6:
                    raise
                note(str(error))
                code = code or error.exit_code
        return code

    return with_target(first, common, all_paths)


def check_writable(target: Target, name: str) -> None:
    """Early and in the agent's words; the agent refuses all the same."""
    if target.info.read_only:
        raise AccessDenied(f"{name} is refused", why="this session is read-only")


def _told(changed: Changed, common: Common) -> int:
    for line in (*changed.notes, *changed.failures):
        note(line)
    if changed.failed > len(changed.failures):
        note(f"{changed.failed} entries in all were not changed")
    return 1 if changed.failed else 0


def verb(name: str, help_text: str, *parameters: Callable[[Any], Any]) -> Callable[[Any], click.Command]:
    def decorate(callback: Any) -> click.Command:
        decorated: Any = common_options(("table",), short_selector=False)(callback)
        for parameter in reversed(parameters):
            decorated = parameter(decorated)
        settings = {"help_option_names": ["-h", "--help"]}
        return click.command(name, help=help_text, context_settings=settings)(decorated)

    return decorate


@verb(
    "rm",
    "Remove files of the target, with -r directories too. Never its root, and nothing that is mounted "
    "below unless --cross-mounts is given.",
    click.argument("locations", nargs=-1, metavar="TARGET:/PATH..."),
    click.option("-r", "-R", "--recursive", is_flag=True, help="directories with all below"),
    click.option("-f", "--force", is_flag=True, help="what is not there is no failure"),
    click.option("--cross-mounts", is_flag=True, help="also what is mounted below"),
)
def rm(locations: tuple[str, ...], common: Common, recursive: bool, force: bool, cross_mounts: bool) -> int:
    async def work(target: Target, path: str, common: Common) -> int:
        request = Remove(path, recursive, cross_mounts, force)
        total = 0
        while True:
            changed = await target.backend.send(request)
            total += changed.changed
            if changed.done:
                return _told(changed, common)
            if not changed.changed:
                _told(changed, common)
                raise Partial(f"{path} could not be removed whole", why=f"{total} entries were removed")

    return _changing("rm", locations, common, work)


@verb(
    "mkdir",
    "Make directories in the target.",
    click.argument("locations", nargs=-1, metavar="TARGET:/PATH..."),
    click.option(
        "-p", "--parents", is_flag=True, help="also those on the way; one that exists is no failure"
    ),
    click.option("-m", "--mode", default="0755", metavar="MODE", help="octal, or as chmod takes it"),
)
def mkdir(locations: tuple[str, ...], common: Common, parents: bool, mode: str) -> int:
    from kdebug.protocol.modes import apply_mode

    bits = apply_mode(mode, 0o777, True)

    async def work(target: Target, path: str, common: Common) -> int:
        changed = await within(common.timeout, "mkdir", target.backend.send(MakeDir(path, bits, parents)))
        return _told(changed, common)

    return _changing("mkdir", locations, common, work)


@verb(
    "chmod",
    "Change modes in the target: MODE is octal or as chmod takes it (u+rwX,go-w). Symlinks below a "
    "directory are left alone.",
    click.argument("words", nargs=-1, metavar="MODE TARGET:/PATH..."),
    click.option("-R", "-r", "--recursive", is_flag=True, help="directories with all below"),
    click.option("--cross-mounts", is_flag=True, help="also what is mounted below"),
)
def chmod(words: tuple[str, ...], common: Common, recursive: bool, cross_mounts: bool) -> int:
    if len(words) < 2:
        raise UsageError("chmod needs a mode and a path", next_step="kdebug chmod u+x web-0:/tmp/x")
    check_mode(words[0])

    async def work(target: Target, path: str, common: Common) -> int:
        request = Chmod(path, recursive, cross_mounts, words[0])
        code = 0
        while True:
            changed = await target.backend.send(request)
            code = _told(changed, common) or code
            if changed.done:
                return code
            done = request.skip + changed.changed + changed.failed
            request = dataclasses.replace(request, skip=done)

    return _changing("chmod", words[1:], common, work)


@verb(
    "edit",
    "Edit a file of the target with $VISUAL or $EDITOR. It is put back only if you changed it, and "
    "not over a change that somebody else made meanwhile: then your copy is kept here.",
    click.argument("location", metavar="TARGET:/PATH"),
)
def edit(location: str, common: Common) -> int:
    return _changing("edit", (location,), common, _edit)


async def _edit(target: Target, path: str, common: Common) -> int:
    changed = await edit_file(target, path, _run_editor, note)
    note(f"{path} was changed" if changed else f"{path} was left as it is: nothing was changed")
    return 0


async def _run_editor(copy: str) -> None:
    """In a thread, so that heartbeats go on; Ctrl-C is the editor's meanwhile."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    # A handler, for what is ignored would be ignored by the editor as well (execve(2)).
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        done = await asyncio.to_thread(subprocess.run, [*shlex.split(editor), copy])
    except (OSError, ValueError) as error:
        why = str(error)
        raise Failed(f"the editor {editor!r} cannot be started", why=why, next_step="set EDITOR") from error
    finally:
        signal.signal(signal.SIGINT, before)
    if done.returncode != 0:
        raise Failed(f"the editor ended with {done.returncode}", why="nothing was put back")


COMMANDS: dict[str, click.Command] = {"rm": rm, "mkdir": mkdir, "chmod": chmod, "edit": edit}
