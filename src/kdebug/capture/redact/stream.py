"""Files and logs, piece by piece, in constant memory; what comes out does not depend on how it was cut.

Blocks are cut by the contents alone: at the last line end of every 512 KiB, looking 40 KiB ahead for what
begins in one block and ends in the next.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Optional, Protocol

from kdebug.capture.redact.span import Span

BLOCK_BYTES = 512 * 1024
AHEAD_BYTES = 40 * 1024
"""More than any detector's bound: the longest value has 32 KiB."""
BEHIND_BYTES = 1024
"""What stands before a block is looked at again, for the names and boundaries in it."""
MAGIC_BYTES = 20

Spans = Callable[[bytes], list[Span]]
Replace = Callable[[bytes, int, Span], bytes]

_MAGIC = (
    (b"\x1f\x8b", "compressed"), (b"PK\x03\x04", "compressed"), (b"\x28\xb5\x2f\xfd", "compressed"),
    (b"\xfd7zXZ\0", "compressed"), (b"BZh", "compressed"), (b"7z\xbc\xaf\x27\x1c", "compressed"),
    (b"\x04\x22\x4d\x18", "compressed"), (b"\x1f\x9d", "compressed"),
    (b"\xd4\xc3\xb2\xa1", "packets"), (b"\xa1\xb2\xc3\xd4", "packets"), (b"\x4d\x3c\xb2\xa1", "packets"),
    (b"\xa1\xb2\x3c\x4d", "packets"), (b"\x0a\x0d\x0d\x0a", "packets"),
    (b"JAVA PROFILE 1.0", "dump"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"),
)  # fmt: skip
REASONS = {
    "compressed": "compressed: what is inside was not looked at",
    "packets": "a packet capture: cannot be redacted",
    "dump": "a dump of memory: cannot be redacted",
    "utf-16": "UTF-16 text: the detectors read bytes",
}
_ET_CORE = 4


def unscannable(head: bytes) -> Optional[str]:
    """Why a file that begins so cannot be looked into; None where it can."""
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head.startswith(b"\x7fELF") and len(head) >= 18:
        order = ">H" if head[5] == 2 else "<H"
        return "dump" if struct.unpack(order, head[16:18])[0] == _ET_CORE else None
    return None


class Told(Protocol):
    """Who keeps the account."""

    def scanned(self, count: int) -> None: ...

    def unread(self, reason: str, kept: bool) -> None: ...


class RedactingStream:
    """`feed` bytes, then `finish`; each returns what may be written. `left_out` says why nothing is."""

    block_bytes = BLOCK_BYTES
    ahead_bytes = AHEAD_BYTES

    def __init__(self, spans: Spans, replace: Replace, include: frozenset[str], coverage: Told) -> None:
        self._window = self.block_bytes + self.ahead_bytes
        self._spans = spans
        self._replace = replace
        self._include = include
        self._told = coverage
        self._held = bytearray()
        self._floor = 0
        """Where in `_held` the contents begin that were not written; before it is what was."""
        self._to_line_end = False
        self._looked = False
        self._pass = False
        self.left_out: Optional[str] = None

    def feed(self, data: bytes) -> bytes:
        out = []
        for at in range(0, len(data), self._window):
            self._held += data[at : at + self._window]
            self._look_at_head(False)
            while len(self._held) - self._floor >= self._window and not self._unread:
                out.append(self._block(False))
            out.append(self._unscanned())
        return b"".join(out)

    def finish(self) -> bytes:
        self._look_at_head(True)
        out = [self._unscanned()]
        while len(self._held) > self._floor:
            out.append(self._block(True))
        return b"".join(out)

    # What is not looked into

    def _look_at_head(self, end: bool) -> None:
        if self._looked or not (end or len(self._held) >= MAGIC_BYTES):
            return
        self._looked = True
        kind = unscannable(bytes(self._held[:MAGIC_BYTES]))
        if kind is not None:
            self._pass = kind in self._include
            self.left_out = None if self._pass else REASONS[kind]
            self._told.unread(REASONS[kind], self._pass)

    @property
    def _unread(self) -> bool:
        return self._pass or self.left_out is not None

    def _unscanned(self) -> bytes:
        if not self._unread:
            return b""
        data = bytes(self._held) if self._pass else b""
        self._held.clear()
        return data

    # Blocks

    def _block(self, end: bool) -> bytes:
        """The next block, redacted. `_held` begins with what was written before, for its context."""
        window = bytes(self._held[: self._floor + self._window])
        last = end and len(window) == len(self._held) and len(window) - self._floor < self._window
        begin = self._swallow(window) if self._to_line_end else self._floor
        cut = len(window) if last else self._cut(window)
        out, done = self._redacted(window, begin, max(cut, begin), last)
        self._told.scanned(done - self._floor)
        keep = max(0, done - BEHIND_BYTES)
        del self._held[:keep]
        self._floor = done - keep
        return out

    def _cut(self, window: bytes) -> int:
        line = window.rfind(b"\n", self._floor, self._floor + self.block_bytes)
        return line + 1 if line >= 0 else self._floor + self.block_bytes

    def _swallow(self, window: bytes) -> int:
        """The rest of a line of which the beginning was replaced whole."""
        line = window.find(b"\n", self._floor)
        self._to_line_end = line < 0
        return line if line >= 0 else len(window)

    def _redacted(self, window: bytes, begin: int, cut: int, last: bool) -> tuple[bytes, int]:
        """(what to write, where in the window it ends): a secret that begins before `cut` is taken
        whole."""
        out, at = [], begin
        for span in self._spans(window) if begin < len(window) else []:
            if span.end <= at:
                continue
            if span.start >= cut:
                break
            start = max(span.start, at)
            out += [window[at:start], self._replace(window, start, span)]
            at = span.end
            if span.end == len(window) and not last:
                self._to_line_end = True
        done = max(at, cut)
        return b"".join([*out, window[at:done]]), done
