"""Edit a file of the target with a local editor: put back only if it was changed here and not there.

Nobody's edit is ever lost: a copy that could not be put back is kept, and its place is told.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable

from kdebug.errors import Failed
from kdebug.protocol.files import Entry
from kdebug.protocol.writes import FileVersion
from kdebug.target.target import Target
from kdebug.target.transfer import TransferOptions, download
from kdebug.target.upload import Sender

MAX_EDIT_BYTES = 64 * 1024 * 1024


async def edit_file(
    target: Target, path: str, editor: Callable[[str], Awaitable[None]], note: Callable[[str], None]
) -> bool:
    """Whether the file was changed. `editor` gets the path of a private copy, and raises `Failed` when its
    result is not to be used. Raises as reads and writes do; `Failed` with what changed meanwhile."""
    found = (await target.stat(path, follow=True)).entry
    _check(path, found)
    folder = tempfile.mkdtemp(prefix="kdebug-edit-")  # mode 0700
    copy = os.path.join(folder, "edited" + _suffix(path))
    original = ""
    try:
        report = await download(target, [path], copy, TransferOptions(compress="never"))
        if not report.complete:
            raise Failed(f"{path} cannot be edited", why=report.failed.kept[0])
        original = report.sha256
        os.chmod(copy, 0o600)
        await editor(copy)
        if _digest(copy) == original:
            return False
        # Minutes may have passed: this one may be asked again on a new connection, the writes may not.
        await target.stat(path, follow=True)
        await _put_back(target, path, copy, _version(found, original), note)
        original = _digest(copy)
        return True
    finally:
        if original and _digest(copy) != original:
            note(f"your edited copy is kept: {copy}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _check(path: str, found: Entry) -> None:
    if found.kind != "file":
        raise Failed(f"{path} is a {found.kind}", why="only regular files are edited")
    if (found.size_bytes or 0) > MAX_EDIT_BYTES:
        raise Failed(f"{path} is {found.size_bytes} bytes long", why=f"edit takes at most {MAX_EDIT_BYTES}")


def _version(found: Entry, sha256: str) -> FileVersion:
    return FileVersion(
        found.device or 0, found.inode or 0, found.size_bytes or 0, found.mtime_ns or 0, sha256
    )


def _digest(file: str) -> str:
    """SHA-256 in hex; "" when it cannot be read."""
    try:
        with open(file, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""


def _suffix(path: str) -> str:
    """The ending that tells an editor what it is; nothing else of a name that comes from outside."""
    ending = os.path.splitext(path)[1]
    return ending if ending[1:].isascii() and ending[1:].isalnum() and len(ending) <= 12 else ""


async def _put_back(
    target: Target, path: str, copy: str, version: FileVersion, note: Callable[[str], None]
) -> None:
    fd = os.open(copy, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sender = Sender(target, path, 0o600, True)
        changed = await sender.send(fd, os.fstat(fd), lambda *counts: None, keep_time=False, expect=version)
    finally:
        os.close(fd)
    for line in changed.notes:
        note(line)
