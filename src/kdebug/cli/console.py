"""The only file that writes to stdout and stderr and decides the exit code.

stdout is data; notes, progress and errors go to stderr, each as one sanitised line. A reader that goes
away (`| head`) had enough: that is no failure.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from kdebug.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, KdebugError
from kdebug.sanitise import one_line

LONGEST_LINE = 3500
"""Characters of a note or an error: names from a pod may be as long as a pod likes."""
FORMATS = ("table", "wide", "json", "yaml", "name")


@dataclass
class Document:
    """What a verb found: one document for machines, lines for people."""

    data: dict[str, Any] | Callable[[], dict[str, Any]]
    """Or what makes it, where that is work that lines do without."""
    lines: Callable[[bool], Iterable[str]]
    """Called with wide=True or False; the lines are sanitised already."""
    names: Callable[[], Iterable[str]] | None = None
    """For `-o name`, where that is natural."""
    notes: list[str] = field(default_factory=list)
    """What the reader must know beside the data: truncation, what could not be read."""
    partial: bool = False
    """Something that was asked for is missing: exit code 1."""


def claim_standard_streams() -> None:
    """Descriptors 0 to 2 that the caller closed lead to /dev/null, for reading only.

    Otherwise the next file we open would become stdout and be written to.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # the lowest free number, which is fd
    if sys.stdout is None:
        # Python saw that it was closed. Whatever is written now fails, and is told as any failed write.
        sys.stdout = open(1, "w", closefd=False)


def write_bytes(data: bytes) -> None:
    """All of `data` to stdout, unbuffered. Raises `BrokenPipeError`."""
    sys.stdout.flush()
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def emit(document: Document, output: str) -> int:
    """Write `document` in the format asked for; returns the exit code."""
    if output in ("json", "yaml"):
        data = document.data() if callable(document.data) else document.data
    if output == "json":
        text = json.dumps(data, indent=2) + "\n"
    elif output == "yaml":
        import yaml

        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=False)
    elif output == "name" and document.names is not None:
        text = "".join(f"{one_line(name)}\n" for name in document.names())
    else:
        text = "\n".join([*document.lines(output == "wide"), ""])
    write_bytes(text.encode("utf-8", "backslashreplace"))
    for line in document.notes:
        note(line)
    return EXIT_FAILED if document.partial else EXIT_DONE


def note(line: str) -> None:
    """One line beside the data."""
    _stderr(f"kdebug: {line}")


def fail(error: KdebugError) -> int:
    """Say what failed, why and what next; returns the exit code."""
    _stderr(f"kdebug: {error}")
    return error.exit_code


def interrupted() -> int:
    _stderr("kdebug: interrupted")
    return EXIT_INTERRUPTED


def _stderr(line: str) -> None:
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    try:
        os.write(2, (one_line(line, LONGEST_LINE) + "\n").encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # nobody is left to tell


def progress(line: str) -> bool:
    """Draw `line` over the last one on a terminal, "" to take it away; whether there is a terminal."""
    if not os.isatty(2):
        return False
    with contextlib.suppress(OSError):
        os.write(2, b"\r\x1b[K" + one_line(line, 79).encode("utf-8", "backslashreplace"))
    return True


def finish(code: int) -> int:
    """Write what is left in a buffer; the exit code, which tells as well when that failed."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return reader_left()
    except OSError:
        return code or EXIT_FAILED
    return code


def reader_left() -> int:
    """stdout was closed by its reader. Nothing may be written there at exit either."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
    return EXIT_DONE


def stdout_is_terminal() -> bool:
    """Contents are then sanitised; a pipe gets them byte for byte."""
    return os.isatty(1)


def terminal_width() -> int:
    """Columns of the terminal; 0 when stdout is not one, so that pipes get whole lines."""
    if not os.isatty(1):
        return 0
    try:
        return os.get_terminal_size(1).columns
    except OSError:
        return 80
