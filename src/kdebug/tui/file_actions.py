"""What the files tab does to files: copy down and up, edit, remove, make a directory, change a mode.

What each needs is loaded when it is used: most sessions only look, and the first screen waits for imports.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
import shlex
import subprocess
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Optional

from kdebug.errors import Failed, KdebugError, Partial, UsageError
from kdebug.target import Target
from kdebug.target.transfer import TransferOptions, TransferReport, Watcher, download, upload
from kdebug.tui.dialog import Ask, Confirm
from kdebug.tui.lend import terminal_lent
from kdebug.tui.work import start

if TYPE_CHECKING:
    from kdebug.protocol.writes import Changed
    from kdebug.tui.files import FileRow, FilesPane


class FileActions:
    """Bound to one pane; every action first says what it will do."""

    def __init__(self, pane: FilesPane) -> None:
        self.pane = pane
        self.session = pane.session

    def _paths(self) -> list[str]:
        return [self._path(row) for row in self.pane.table.marked]

    def _path(self, row: FileRow) -> str:
        return posixpath.join(self.pane.path, row.entry.name)

    def _writable(self) -> bool:
        if self.session.read_only:
            self.pane.notice.tell("changes are refused: this session is read-only", mild=True)
            return False
        return True

    # Copies

    def download(self) -> None:
        paths = self._paths()
        if not paths:
            return
        what = paths[0] if len(paths) == 1 else f"{len(paths)} entries"

        def answered(folder: Optional[str]) -> None:
            if folder:
                self._download(paths, what, os.path.expanduser(folder))

        self.pane.app.push_screen(Ask(f"Copy {what} to the local directory", os.getcwd()), answered)

    def _download(self, paths: list[str], what: str, folder: str) -> None:
        if not os.path.isdir(folder):
            self.pane.notice.tell(f"✗ {folder} is not a directory on this machine")
            return
        target = self.session.target
        if target is None:
            return
        options = TransferOptions(recursive=True)

        async def copy(watch: Watcher, report: TransferReport) -> TransferReport:
            return await download(target, paths, folder, options, watch, report)

        self.session.tasks.start(f"↓ {what}", copy)
        self.pane.table.clear_marks()

    def upload(self) -> None:
        if not self._writable():
            return
        folder = self.pane.path

        def answered(source: Optional[str]) -> None:
            if source:
                self._upload(os.path.expanduser(source), folder)

        self.pane.app.push_screen(
            Ask(f"Copy a local file or directory to {folder}", os.getcwd() + "/"), answered
        )

    def _upload(self, source: str, folder: str) -> None:
        if not os.path.lexists(source):
            self.pane.notice.tell(f"✗ there is no {source} on this machine")
            return
        target = self.session.target
        if target is None:
            return
        options = TransferOptions(recursive=True)

        async def copy(watch: Watcher, report: TransferReport) -> TransferReport:
            done = await upload(target, [source], folder, options, watch, report)
            self.session.did(f"copied {source} to {folder}")
            return done

        self.session.tasks.start(f"↑ {source}", copy)

    # Changes

    def edit(self) -> None:
        row = self.pane.table.selected
        if row is None or not self._writable():
            return
        start(self.pane, "edit", self._edit, self._path(row))

    async def _edit(self, path: str) -> None:
        from kdebug.target.edit import edit_file

        notes: list[str] = []
        try:
            changed = await self.session.ask(
                path, lambda target: edit_file(target, path, self._editor, notes.append)
            )
        except KdebugError as error:
            self.pane.notice.tell("✗ " + "; ".join([str(error), *notes]))
            return
        if changed:
            self.session.did(f"edited {path}")
        self.pane.host.tell(
            "; ".join([f"{'changed' if changed else 'nothing was changed in'} {path}", *notes])
        )
        self.pane.wake()

    async def _editor(self, copy: str) -> None:
        """The user's editor, with the terminal to itself. Heartbeats go on meanwhile."""
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        with terminal_lent(self.pane.app):
            try:
                done = await asyncio.to_thread(subprocess.run, [*shlex.split(editor), copy])
            except (OSError, ValueError) as error:
                raise Failed(
                    f"the editor {editor!r} cannot be started", why=str(error), next_step="set EDITOR"
                ) from error
        if done.returncode != 0:
            raise Failed(f"the editor ended with {done.returncode}", why="nothing was put back")

    def remove(self) -> None:
        rows = self.pane.table.marked
        if not rows or not self._writable():
            return
        paths = [self._path(row) for row in rows]
        what = paths[0] if len(paths) == 1 else f"these {len(paths)} entries"
        below = " with everything below" if any(row.entry.kind == "dir" for row in rows) else ""

        def answered(yes: Optional[bool]) -> None:
            if yes:
                start(self.pane, "change", self._remove, paths)

        warning = "It is removed from the target and cannot be brought back."
        self.pane.app.push_screen(Confirm(f"Remove {what}{below}?", warning), answered)

    async def _remove(self, paths: list[str]) -> None:
        for path in paths:
            await self._change(f"removed {path}", partial(_remove_all, path))
        self.pane.table.clear_marks()

    def make_dir(self) -> None:
        from kdebug.protocol.writes import MakeDir

        if not self._writable():
            return

        def answered(name: Optional[str]) -> None:
            if name:
                path = posixpath.join(self.pane.path, name)
                start(
                    self.pane,
                    "change",
                    self._change,
                    f"made {path}",
                    lambda t: t.backend.send(MakeDir(path)),
                )

        self.pane.app.push_screen(Ask(f"Make a directory in {self.pane.path}"), answered)

    def chmod(self) -> None:
        from kdebug.protocol.modes import check_mode
        from kdebug.protocol.writes import Chmod

        row = self.pane.table.selected
        if row is None or not self._writable():
            return
        path = self._path(row)
        mode = "" if row.entry.mode is None else f"{row.entry.mode:04o}"

        def answered(mode: Optional[str]) -> None:
            if not mode:
                return
            try:
                check_mode(mode)
            except UsageError as error:
                self.pane.notice.fail(error)
                return
            done = f"changed the mode of {path} to {mode}"
            start(self.pane, "change", self._change, done, lambda t: t.backend.send(Chmod(path, mode=mode)))

        self.pane.app.push_screen(Ask(f"Mode of {path} (octal, or as chmod takes it)", mode), answered)

    async def _change(self, done: str, question: Callable[[Target], Awaitable[Changed]]) -> None:
        try:
            changed = await self.session.ask(done, question)
        except KdebugError as error:
            self.pane.notice.fail(error)
            return
        if changed.failed:
            self.pane.notice.tell(f"✗ {changed.failed} not changed: {'; '.join(changed.failures[:3])}")
        self.session.did(done)
        self.pane.host.tell("; ".join([done, *changed.notes]))
        self.pane.wake()


async def _remove_all(path: str, target: Target) -> Changed:
    """Step by step, as the agent gives each answer a bounded time."""
    from kdebug.protocol.writes import Remove

    total = 0
    while True:
        changed = await target.backend.send(Remove(path, True))
        total += changed.changed
        if changed.done:
            return changed
        if not changed.changed:
            raise Partial(f"{path} could not be removed whole", why=f"{total} entries were removed")
