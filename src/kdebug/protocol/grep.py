"""grep: the request and its rows."""

from __future__ import annotations

from kdebug.annotations import Optional
from kdebug.errors import ProtocolViolation, UsageError
from kdebug.protocol.record import Record, dataclass
from kdebug.protocol.requests import HEAVY, _in_range, register
from kdebug.protocol.search import MAX_NAMES, MAX_PATTERN, NO_PROGRESS, Progress, TreeRequest

LINES, NAMES, COUNT = "lines", "names", "count"
MODES = (LINES, NAMES, COUNT)
ROWS = ("match", "context", "binary", "name", "count", "error")
MAX_CONTEXT = 1000
MAX_LINE_SHOWN = 8 * 1024
"""Bytes of a line that are sent; the rest is cut, and said."""


@dataclass(frozen=True, eq=False, repr=False)
class GrepRow(Record):
    """A line, or what is said of a file."""

    path: str
    kind: str
    """One of `ROWS`: a line that was selected, one around it, a binary file that has a selected line, a
    name (mode names), a count, or why a file or directory could not be searched."""
    line: Optional[int] = None
    """From 1; null unless it was asked for."""
    text: Optional[str] = None
    """Without its line feed."""
    cut: bool = False
    """The line is longer than `text`."""
    count: Optional[int] = None
    error: Optional[str] = None


@dataclass(frozen=True, eq=False, repr=False)
class GrepPage(Record):
    items: tuple[GrepRow, ...]
    cursor: str = ""
    progress: Progress = NO_PROGRESS


@register("grep", GrepPage, lane=HEAVY)
@dataclass(frozen=True, eq=False, repr=False)
class Grep(TreeRequest[GrepPage]):
    """Lines of a file, or with a depth above 0 of every regular file below a directory.

    The pattern is an extended regular expression on bytes (docs/files.md has the dialect); one that
    Python's engine could take for ever with runs on an automaton instead, in linear time.
    """

    pattern: str = ""
    max_depth: int = 0
    fixed: bool = False
    """The pattern is a string to find."""
    ignore_case: bool = False
    """ASCII letters only."""
    invert: bool = False
    mode: str = LINES
    max_count: int = 0
    """Selected lines of a file; 0: all."""
    before: int = 0
    after: int = 0
    numbers: bool = False
    text: bool = False
    """Show lines of binary files, too."""
    include: tuple[str, ...] = ()
    """Globs: only files so named, below a directory."""

    def validate(self) -> None:
        super().validate()
        _in_range("the length of the pattern", len(self.pattern), 0, MAX_PATTERN)
        if "\n" in self.pattern or "\0" in self.pattern:
            raise UsageError("the pattern holds a line feed or NUL, which no line has")
        if self.mode not in MODES:
            raise UsageError(f"there is no mode {self.mode!r}", next_step=f"there are: {', '.join(MODES)}")
        for what, value in (("the lines before", self.before), ("the lines after", self.after)):
            _in_range(what, value, 0, MAX_CONTEXT)
        _in_range("the count", self.max_count, 0, 2**31)
        _in_range("the number of names", len(self.include), 0, MAX_NAMES)
        for name in self.include:
            _in_range("the length of a name", len(name), 1, MAX_PATTERN)

    def check(self, answer: GrepPage) -> None:
        super().check(answer)
        for row in answer.items:
            if row.kind not in ROWS or len(row.text or "") > MAX_LINE_SHOWN:
                raise ProtocolViolation("the agent sent a line that was not asked for")
