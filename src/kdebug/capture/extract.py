"""Unpacks a bundle into a directory: by descriptors, regular files only, under names that were checked.

A bundle may be anybody's. It is written below one empty directory; nothing is followed, nothing is
replaced, and what is damaged is told and left out.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from typing import Optional

from kdebug.capture.container import BadBundle, Member, check_name
from kdebug.capture.reader import BundleReader
from kdebug.errors import Failed, from_os_error

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_DEPTH = 128
MAX_NAME_BYTES = 255


def extract(
    bundle: BundleReader, folder: str, names: Iterable[str], tell: Callable[[Member], None]
) -> tuple[int, list[str]]:
    """(members written, a sentence about each that was not). Raises `Failed` for a folder that is not
    empty, or cannot be made."""
    problems: list[str] = []
    count = 0
    top = _empty(folder)
    try:
        for name in names:
            member = bundle.member(name)
            try:
                _one(bundle, top, member)
            except (BadBundle, OSError) as error:
                problems.append(f"{name}: {error if isinstance(error, BadBundle) else error.strerror}")
                continue
            count += 1
            tell(member)
    finally:
        os.close(top)
    return count, problems


def _empty(folder: str) -> int:
    """A descriptor of it; it is made where it is not there."""
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        top = os.open(folder, DIRECTORY)
    except OSError as error:
        raise from_os_error(error, f"{folder} cannot be used") from error
    if os.listdir(top):
        os.close(top)
        raise Failed(f"{folder} is not empty", why="nothing is overwritten", next_step="name a new folder")
    return top


def _one(bundle: BundleReader, top: int, member: Member) -> None:
    """Read twice where that is needed: not a byte of a damaged member stays."""
    *folders, name = check_name(member.name).split("/")
    if len(folders) > MAX_DEPTH:
        raise BadBundle(f"it is {len(folders)} folders deep")
    place = _below(top, folders)
    try:
        raw = _checked(name)
        fd = os.open(raw, NEW_FILE, 0o600, dir_fd=place)
        whole = False
        try:
            with open(fd, "wb") as file:
                for piece in bundle.pieces(member.name):
                    file.write(piece)
            whole = True
        finally:
            if not whole:
                os.unlink(raw, dir_fd=place)
    finally:
        os.close(place)


def _checked(name: str) -> bytes:
    raw = name.encode("utf-8", "surrogateescape")
    if len(raw) > MAX_NAME_BYTES:
        raise BadBundle("its name is too long for a file")
    return raw


def _below(top: int, folders: list[str]) -> int:
    """A descriptor of the folder, made where it is missing; nothing on the way is a link."""
    place = os.dup(top)
    for folder in folders:
        inner: Optional[int] = None
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(_checked(folder), 0o700, dir_fd=place)
            inner = os.open(_checked(folder), DIRECTORY, dir_fd=place)
        finally:
            os.close(place)
        place = inner
    return place
