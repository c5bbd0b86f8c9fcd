"""Frames waiting to be written, by one thread, within a bound.

Answers with file bytes go to a second queue, so that a heartbeat or a process table overtakes a
download; the frames of one answer keep their order because all of them are in the same queue.
"""

from __future__ import annotations

import fcntl
import os

from kdebug import threads
from kdebug.protocol import framing

BULK_BYTES = 2 * 1024 * 1024
"""Two reads of the largest size: enough to keep the stream full, little enough for a tight pod."""
CONTROL_BYTES = 6 * 1024 * 1024
"""Above the largest answer; a client that asks without reading stops the lanes here."""


Frame = tuple[bytes, memoryview]
"""Header and payload."""
PIPE_BYTES = 256 * 1024
"""Of the pipe to the client, where the kernel allows it: a whole frame without waiting for the reader."""
F_SETPIPE_SZ = 1031
"""fcntl(2); `fcntl` has it from Python 3.10 on."""


class Outbox:
    """Takes whole payloads, splits them into frames, writes them in the background."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._ready = threads.Condition()
        self._control: list[Frame] = []
        self._bulk: list[Frame] = []
        self._waiting = {False: 0, True: 0}
        self._stopping = False
        self.broken = False
        """The stream refused a write: nobody reads any more."""
        self._thread = threads.Thread(self._write_all)

    def start(self, first: bytes) -> None:
        """Write `first` as it is (the banner) and then what comes."""
        try:
            fcntl.fcntl(self._fd, F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            pass  # no pipe, or the user's share of pipe memory is used up
        self._control.append((first, memoryview(b"")))
        self._waiting[False] += len(first)
        self._thread.start()

    def put(self, kind: int, request_id: int, payload: bytes, *, bulk: bool = False) -> None:
        """Queue a payload, waiting while the queue is full. Lanes only; the reader uses `put_now`."""
        bulk = bulk or kind == framing.DATA
        limit = BULK_BYTES if bulk else CONTROL_BYTES
        with self._ready:
            self._ready.wait_for(lambda: self._stopping or self.broken or self._waiting[bulk] < limit)
            self._append(kind, request_id, payload, bulk)

    def put_now(self, kind: int, request_id: int, payload: bytes) -> None:
        """Queue a small payload without waiting; dropped when the queue is full, for then the client
        is not reading and a lost PONG is what it deserves."""
        with self._ready:
            if self._waiting[False] < CONTROL_BYTES:
                self._append(kind, request_id, payload, False)

    def _append(self, kind: int, request_id: int, payload: bytes, bulk: bool) -> None:
        """Frames of slices: file contents are not copied between read(2) and write(2)."""
        target, view = self._bulk if bulk else self._control, memoryview(payload)
        for start in range(0, max(1, len(view)), framing.MAX_PAYLOAD):
            piece = view[start : start + framing.MAX_PAYLOAD]
            flags = framing.MORE if start + len(piece) < len(view) else 0
            head = framing.header(kind, request_id, len(piece), flags)
            target.append((head, piece))
            self._waiting[bulk] += len(head) + len(piece)
        self._ready.notify_all()

    def _write_all(self) -> None:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._control or self._bulk or self._stopping)
                if not self._control and not self._bulk:
                    return
                bulk = not self._control
                frame = (self._bulk if bulk else self._control).pop(0)
                self._waiting[bulk] -= len(frame[0]) + len(frame[1])
                self._ready.notify_all()
            if not self._write(frame):
                return

    def _write(self, frame: Frame) -> bool:
        head, view = frame
        try:
            written = os.writev(self._fd, frame) - len(head)
            if written < 0:
                # A pipe takes fewer than 4,096 bytes at once or not at all (pipe(7)); a socket may not.
                view = memoryview(head[written:] + bytes(view))
                written = 0
            view = view[written:]
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            with self._ready:
                self.broken = True
                self._ready.notify_all()
            return False
        return True

    def stop(self, timeout: float = 2.0) -> None:
        """Write what is queued, for at most `timeout` seconds: the client may have gone."""
        with self._ready:
            self._stopping = True
            self._ready.notify_all()
        self._thread.join(timeout)
