"""grep: files read in blocks that are searched as a whole; lines are only looked at where one is selected.

What is kept of a file is one block, however large it is and however long its lines are.
"""

from __future__ import annotations

import errno
import os
from collections import deque

from kdebug.annotations import Iterator, Optional, Union
from kdebug.probe.find import name_test
from kdebug.probe.matcher import FixedMatcher, PatternMatcher, Span, Spans, Stop, matcher
from kdebug.probe.rooted import Root
from kdebug.probe.rooted_walk import path_text
from kdebug.probe.tree_files import TreeFiles
from kdebug.protocol.grep import COUNT, LINES, MAX_LINE_SHOWN, NAMES, Grep, GrepRow
from kdebug.protocol.search import Progress

READ = 128 * 1024
CAPACITY = 2 * READ
"""A line longer than READ is searched in pieces."""
OVERLAP = 4096
"""Of two pieces of such a line."""


class GrepSearch:
    """One search; `rows` yields what was found, and None now and then."""

    def __init__(self, root: Root, request: Grep, proc: str = "/proc") -> None:
        self._request = request
        self.stop = Stop()
        self._matcher = matcher(request.pattern, request.fixed, request.ignore_case, self.stop)
        self._files = TreeFiles(root, request, name_test(request.include, False), proc)
        self._buffer = bytearray(CAPACITY)
        self.long_lines = 0

    def progress(self, done: bool) -> Progress:
        notes = list(self._files.skipped)
        if self.long_lines:
            notes.append(
                f"{self.long_lines} lines longer than {READ} bytes were searched in pieces: a match of more"
                f" than {OVERLAP} bytes across two of them is missed, and ^ $ mean the pieces"
            )
        return Progress(self._files.visited, self._files.bytes_read, tuple(notes) if done else ())

    def rows(self) -> Iterator[Optional[GrepRow]]:
        for found in self._files.files():
            if found is None:
                yield None
            elif found.error:
                yield GrepRow(found.path, "error", error=found.error)
            else:
                yield from self._file(found.path, found.fd, found.limit)

    def _file(self, path: str, fd: int, limit: int) -> Iterator[Optional[GrepRow]]:
        scan = FileScan(self._request, self._matcher, self._buffer, path)
        try:
            yield from scan.rows(fd, limit)
        except OSError as error:
            yield GrepRow(path, "error", error=error.strerror or str(error))
        finally:
            self._files.bytes_read += scan.bytes_read
            self.long_lines += scan.long_lines
        if scan.bytes_read >= limit:
            yield GrepRow(path, "error", error=f"only its first {limit} bytes were searched: a pseudo-file")


class FileScan:
    """One file, from its beginning to its end or to where enough is known."""

    def __init__(
        self, request: Grep, lines: Union[FixedMatcher, PatternMatcher], buffer: bytearray, path: str
    ) -> None:
        self._asked = request
        self._lines = lines
        self._buffer = buffer
        self._path = path
        self._numbers = request.numbers and request.mode == LINES
        self._line = 1
        self._counted = 0
        """The line number at this place of the block is `_line`."""
        self._shown_to = 0
        """Lines before this place of the block have been sent or are too far away for context."""
        self._before: deque[tuple[int, bytes]] = deque(maxlen=request.before or None)
        self._after_left = 0
        self._selected = 0
        self._binary = False
        self._long: Optional[bytes] = None
        """Of a line that is searched in pieces: how it begins."""
        self._long_hit = False
        self._done = False
        self.long_lines = 0
        self.bytes_read = 0

    def rows(self, fd: int, limit: int) -> Iterator[Optional[GrepRow]]:
        """The selected lines, in order. `OSError` as read(2) raises it."""
        status = os.fstat(fd)
        sparse = status.st_blocks * 512 < status.st_size
        view = memoryview(self._buffer)
        have, at_end = 0, False
        while not at_end and not self._done and self.bytes_read < limit:
            at_end = sparse and not self._skip_hole(fd)
            count = 0 if at_end else os.readv(fd, [view[have : have + READ]])
            self.bytes_read += count
            at_end, total = count == 0, have + count
            self._look_for_nul(have, total)
            end = total if at_end else self._buffer.rfind(b"\n", have, total) + 1
            if end:
                yield from self._block(end)
                have = total - end
                self._buffer[:have] = self._buffer[end:total]
            else:
                have = self._piece(total) if total > READ else total
            yield None
        if self._asked.mode == COUNT:
            yield GrepRow(self._path, "count", count=self._selected)

    def _skip_hole(self, fd: int) -> bool:
        """To the next data, for a hole may be a terabyte; whether there is any (lseek(2), SEEK_DATA)."""
        place = os.lseek(fd, 0, os.SEEK_CUR)
        try:
            hole = os.lseek(fd, place, os.SEEK_DATA) > place
        except OSError as error:
            if error.errno == errno.ENXIO:
                self._binary = self._binary or not self._asked.text
            return error.errno != errno.ENXIO
        self._binary = self._binary or (hole and not self._asked.text)
        return True

    def _look_for_nul(self, start: int, end: int) -> None:
        """From the first block with a NUL on, a file is binary."""
        if not self._binary and not self._asked.text:
            self._binary = self._buffer.find(b"\0", start, end) >= 0

    def _piece(self, total: int) -> int:
        """A block without a line feed: a part of a long line. Returns how much of it is kept."""
        if self._long is None:
            self.long_lines += 1
            self._long = bytes(self._buffer[:MAX_LINE_SHOWN])
        self._long_hit = self._long_hit or self._lines.matches(self._buffer, 0, total)
        self._buffer[:OVERLAP] = self._buffer[total - OVERLAP : total]
        return OVERLAP

    def _block(self, end: int) -> Iterator[Optional[GrepRow]]:
        """Whole lines, the last perhaps without its line feed."""
        start = self._counted = self._shown_to = 0
        if self._long is not None:
            start = self._line_end(0, end)
            yield from self._end_of_long_line(start, self._long)
            start += 1
        for span in self._spans(start, end) if not self._enough() else ():
            if self._done:
                return
            if span is None:
                yield None
            else:
                yield from self._select(*span)
                if self._enough():
                    break
        if not self._done:
            yield from self._rest_of_block(end)

    def _end_of_long_line(self, last: int, text: bytes) -> Iterator[Optional[GrepRow]]:
        hit = self._long_hit or self._lines.matches(self._buffer, 0, last)
        if hit != self._asked.invert and not self._enough():
            yield from self._select(0, last, text)
        self._long, self._long_hit = None, False
        self._shown_to = max(self._shown_to, last + 1)

    def _line_end(self, start: int, end: int) -> int:
        last = self._buffer.find(b"\n", start, end)
        return end if last < 0 else last

    def _spans(self, start: int, end: int) -> Spans:
        found = self._lines.spans(self._buffer, start, end)
        return self._others(found, start, end) if self._asked.invert else found

    def _others(self, found: Spans, start: int, end: int) -> Spans:
        for span in found:
            if span is None:
                yield None
                continue
            yield from self._lines_of(start, span[0])
            start = span[1] + 1
        yield from self._lines_of(start, end)

    def _lines_of(self, start: int, end: int) -> Iterator[Span]:
        while start < end:
            last = self._line_end(start, end)
            yield start, last
            start = last + 1

    def _select(self, first: int, last: int, text: Optional[bytes] = None) -> Iterator[Optional[GrepRow]]:
        asked = self._asked
        self._selected += 1
        if asked.mode == NAMES:
            self._done = True
            yield GrepRow(self._path, "name")
        elif asked.mode == COUNT:
            self._done = self._enough()
        elif self._binary:
            self._done = True
            yield GrepRow(self._path, "binary")
        else:
            yield from self._context_after(first)
            yield from self._context_before(first)
            yield self._row("match", self._number(first), text or self._text(first, last), text is not None)
            self._shown_to = last + 1
            self._after_left = asked.after
            self._done = self._enough() and not asked.after

    def _enough(self) -> bool:
        return 0 < self._asked.max_count <= self._selected

    def _number(self, place: int) -> int:
        if self._numbers:
            self._line += self._buffer.count(b"\n", self._counted, place)
            self._counted = place
        return self._line

    def _text(self, first: int, last: int) -> bytes:
        return bytes(self._buffer[first : min(last, first + MAX_LINE_SHOWN + 1)])

    def _row(self, kind: str, number: int, text: bytes, cut: bool = False) -> GrepRow:
        return GrepRow(
            self._path,
            kind,
            number if self._numbers else None,
            path_text(text[:MAX_LINE_SHOWN]),
            cut or len(text) > MAX_LINE_SHOWN,
        )

    def _context_after(self, until: int) -> Iterator[GrepRow]:
        """The lines after the last selected one, up to `until`."""
        while self._after_left and self._shown_to < until:
            first, last = self._shown_to, self._line_end(self._shown_to, until)
            yield self._row("context", self._number(first), self._text(first, last))
            self._shown_to = last + 1
            self._after_left -= 1

    def _context_before(self, place: int) -> Iterator[GrepRow]:
        """The lines before `place` that have not been sent, from the blocks before, too."""
        wanted = self._asked.before
        if not wanted:
            return
        spans = self._last_lines(self._shown_to, place, wanted)
        if self._shown_to == 0:
            kept = list(self._before)[max(0, len(self._before) - (wanted - len(spans))) :]
            for number, text in kept if len(spans) < wanted else []:
                yield self._row("context", number, text)
        self._before.clear()
        for first, last in spans:
            yield self._row("context", self._number(first), self._text(first, last))

    def _last_lines(self, low: int, high: int, count: int) -> list[Span]:
        """Up to `count` lines that end before `high`, which is the start of a line."""
        spans: list[Span] = []
        while high > low and len(spans) < count:
            first = self._buffer.rfind(b"\n", low, high - 1) + 1 or low
            spans.append((first, high - 1))
            high = first
        return spans[::-1]

    def _rest_of_block(self, end: int) -> Iterator[GrepRow]:
        yield from self._context_after(end)
        if self._enough() and not self._after_left:
            self._done = True
        if self._asked.before and self._asked.mode == LINES:
            complete = end if self._buffer[end - 1 : end] == b"\n" else end + 1
            spans = self._last_lines(self._shown_to, complete, self._asked.before)
            if self._shown_to:
                self._before.clear()
            for first, last in spans:
                self._before.append((self._number(first), self._text(first, last)))
        self._number(end)
