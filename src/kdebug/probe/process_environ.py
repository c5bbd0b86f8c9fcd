"""The environment of a process: its own memory, which may hold anything by now."""

from __future__ import annotations

import os
import re

from kdebug.annotations import Iterator
from kdebug.errors import AccessDenied, NotFound, from_os_error
from kdebug.probe.process_parse import text_of
from kdebug.probe.process_static import ENDED, reason_of
from kdebug.protocol.processes import EnvVar

MAX_ENVIRON = 1024 * 1024
MAX_VALUE = 128 * 1024
"""MAX_ARG_STRLEN: the longest string that execve(2) takes. Memory that a process rewrote may be longer."""
_TOO_LONG = re.compile(rb"(?:\A|\0)[^\0]{%d}" % (MAX_VALUE + 1))
"""Tried at the beginning of each string only: from each of its bytes it would take quadratic time."""
_ENTRY = re.compile(rb"[^\0]+")


def read_environ(proc: str, pid: int) -> tuple[Iterator[EnvVar], bool]:
    """The environment, parsed as it is iterated, and whether it was cut (1 MiB in all, 128 KiB a value).

    Raises `NotFound`, `AccessDenied`, or `Failed` when the memory cannot be read.
    """
    try:
        raw, whole = _read(f"{proc}/{pid}/environ")
    except PermissionError as error:
        raise AccessDenied(
            f"the environment of process {pid} may not be read", why=reason_of(error)
        ) from error
    except ENDED as error:
        if os.path.exists(f"{proc}/{pid}"):
            raise NotFound(
                f"the process {pid} has no environment",
                why="kernel threads and processes that have ended have no memory",
            ) from error
        raise NotFound(f"there is no process {pid}") from error
    except OSError as error:
        raise from_os_error(error, f"the environment of process {pid} cannot be read") from error
    return iter_environ(raw), not whole or _TOO_LONG.search(raw) is not None


def iter_environ(raw: bytes) -> Iterator[EnvVar]:
    """One variable at a time: half a million of a single letter each would cost 100 MiB as objects."""
    for entry in _ENTRY.finditer(raw):
        start, end = entry.span()
        name, equals, value = raw[start : min(end, start + MAX_VALUE)].partition(b"=")
        yield EnvVar(text_of(name), text_of(value) if equals else None)


def _read(path: str) -> tuple[bytes, bool]:
    """At most `MAX_ENVIRON` bytes, and whether that was all. A page that cannot be read ends it."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    data = bytearray()
    try:
        while len(data) <= MAX_ENVIRON:
            try:
                piece = os.read(fd, MAX_ENVIRON + 1 - len(data))
            except OSError:
                if not data:
                    raise
                return bytes(data), False
            if not piece:
                break
            data += piece
        return bytes(data[:MAX_ENVIRON]), len(data) <= MAX_ENVIRON
    finally:
        os.close(fd)
