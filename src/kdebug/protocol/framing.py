"""Frames on a byte stream: the only place that knows their layout. Sans-IO.

    magic 2 | kind 1 | flags 1 | request id 4 | length 4 | payload

All numbers are big-endian. Magic and length are checked before a byte of payload is kept, so a peer
that lies about a size costs at most one frame of memory. docs/protocol.md describes the dialogue.
"""

from __future__ import annotations

import struct

from kdebug.annotations import Iterator, Optional, Union
from kdebug.errors import ProtocolViolation
from kdebug.protocol.record import Record, dataclass

MAGIC = b"\xf5\x4b"
"""0xF5 never occurs in UTF-8, so text printed by accident is recognised at its first byte."""
MAX_PAYLOAD = 256 * 1024 - 12
"""A whole frame is at most 256 KiB: large enough that framing costs nothing (over 100 MB/s measured),
small enough that a heartbeat never waits long behind one."""

HELLO, REQUEST, ANSWER, DATA, ERROR, CANCEL, PING, PONG, BYE = range(1, 10)
KIND_NAMES = {
    HELLO: "hello",
    REQUEST: "request",
    ANSWER: "answer",
    DATA: "data",
    ERROR: "error",
    CANCEL: "cancel",
    PING: "ping",
    PONG: "pong",
    BYE: "bye",
}

MORE = 1
"""Flag: the payload goes on in the next frame of the same kind and id."""
_KNOWN_FLAGS = MORE

_HEADER = struct.Struct(">2sBBII")
HEADER_BYTES = _HEADER.size


@dataclass(frozen=True, eq=False, repr=False)
class Frame(Record):
    kind: int
    request_id: int
    payload: bytes = b""
    """Of DATA that came in from a stream, a view of what was received."""
    flags: int = 0


def encode(frame: Frame) -> bytes:
    """The bytes of one frame; `ValueError` when the payload is over the cap (a bug, not input)."""
    if len(frame.payload) > MAX_PAYLOAD:
        raise ValueError(f"a frame of {len(frame.payload)} bytes is over the cap of {MAX_PAYLOAD}")
    return header(frame.kind, frame.request_id, len(frame.payload), frame.flags) + frame.payload


def header(kind: int, request_id: int, length: int, flags: int = 0) -> bytes:
    """Only the header, for payloads that are written without being copied."""
    return _HEADER.pack(MAGIC, kind, flags, request_id, length)


def split(kind: int, request_id: int, payload: bytes) -> Iterator[Frame]:
    """One payload of any size as frames; at least one, all but the last flagged MORE."""
    last = max(0, (len(payload) - 1) // MAX_PAYLOAD)
    for index in range(last + 1):
        piece = payload[index * MAX_PAYLOAD : (index + 1) * MAX_PAYLOAD]
        yield Frame(kind, request_id, piece, MORE if index < last else 0)


SMALL_PIECE = 4096
LARGEST_WASTE = 4
"""A view of less than the fourth part of something is copied."""


class Pieces:
    """Bytes that arrive in pieces and are joined once. Small ones are copied together, and so are small
    parts of something large, which they would keep alive: a peer costs no more memory than it sends."""

    def __init__(self) -> None:
        self._pieces: list[Union[bytes, bytearray, memoryview]] = []
        self.size = 0

    def add(self, piece: Union[bytes, memoryview]) -> None:
        self.size += len(piece)
        whole = piece.obj if type(piece) is memoryview else piece
        if len(piece) >= SMALL_PIECE and len(piece) * LARGEST_WASTE >= len(whole):  # type: ignore[arg-type]
            self._pieces.append(piece)
            return
        if not self._pieces or type(self._pieces[-1]) is not bytearray:
            self._pieces.append(bytearray())
        self._pieces[-1] += piece  # type: ignore[operator]

    def take(self) -> bytes:
        """All of them; none are left."""
        pieces, self._pieces, self.size = self._pieces, [], 0
        if len(pieces) == 1:
            return pieces[0] if type(pieces[0]) is bytes else bytes(pieces[0])
        return b"".join(pieces)


class FrameDecoder:
    """Turns bytes that arrive in any pieces into frames.

    DATA is given on as it comes, a frame of it in as many parts, all but the last flagged MORE: whoever
    gathers it joins it once, and a download is not copied here. `feed` raises `ProtocolViolation` at the
    first byte that cannot belong to a frame; the decoder is useless from then on, for nothing after it
    can be trusted.
    """

    def __init__(self) -> None:
        self._head = bytearray()
        """Of a frame whose header is not complete."""
        self._header: Optional[tuple[int, int, int]] = None
        self._payload = Pieces()
        self._missing = 0
        """Bytes of the payload that have not come."""

    @property
    def pending_bytes(self) -> int:
        """Bytes kept for an incomplete frame: never more than one frame."""
        return len(self._head) + self._payload.size

    def feed(self, data: Union[bytes, memoryview]) -> Iterator[Frame]:
        """Every frame that `data` completes, and what it holds of DATA. Exhaust it before feeding more."""
        view, position, size = memoryview(data), 0, len(data)
        while position < size:
            if self._header is None:
                head = view[position : position + HEADER_BYTES - len(self._head)]
                self._head += head
                position += len(head)
                if len(self._head) < HEADER_BYTES:
                    self._refuse_early()
                    return
                self._header = self._checked_header()
            piece = view[position : position + self._missing]
            position += len(piece)
            self._missing -= len(piece)
            kind, flags, request_id = self._header
            if not self._missing:
                self._header = None
                self._head.clear()
            if kind == DATA:
                if not self._missing:
                    yield Frame(kind, request_id, piece, flags)  # type: ignore[arg-type]
                elif len(piece):
                    yield Frame(kind, request_id, piece, flags | MORE)  # type: ignore[arg-type]
                continue
            self._payload.add(piece)
            if not self._missing:
                yield Frame(kind, request_id, self._payload.take(), flags)

    def _checked_header(self) -> tuple[int, int, int]:
        magic, kind, flags, request_id, length = _HEADER.unpack(self._head)
        if magic != MAGIC:
            raise ProtocolViolation("the peer sent something that is not a frame", why=_excerpt(self._head))
        if kind not in KIND_NAMES:
            raise ProtocolViolation(f"the peer sent a frame of unknown kind {kind}")
        if flags & ~_KNOWN_FLAGS:
            raise ProtocolViolation(f"the peer sent a frame with unknown flags 0x{flags:02x}")
        if length > MAX_PAYLOAD:
            raise ProtocolViolation(
                f"the peer announced a frame of {length} bytes; at most {MAX_PAYLOAD} are allowed"
            )
        self._missing = length
        return kind, flags, request_id

    def _refuse_early(self) -> None:
        """Garbage shorter than a header must not wait for more: its first bytes tell already."""
        if not MAGIC.startswith(self._head[: len(MAGIC)]):
            raise ProtocolViolation("the peer sent something that is not a frame", why=_excerpt(self._head))


def _excerpt(head: bytearray) -> str:
    """The first bytes, so that a shell's complaint on stdout can be read in the error."""
    return f"it begins with {bytes(head[:60])!r}"
