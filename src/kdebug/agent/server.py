"""The frame loop: reads requests, runs each in its lane, writes answers.

One thread reads, one writes, and three kinds of lane work between them, so that a large read never
holds up a heartbeat or the process table. The reader never writes to the stream: when the client stops
reading, the reader still sees the silence and ends the agent.
"""

from __future__ import annotations

import os
import select
import sys
import time
from _queue import SimpleQueue

from kdebug import threads
from kdebug.agent import dispatch
from kdebug.agent.budget import Pace
from kdebug.agent.outbox import Outbox
from kdebug.agent.session import Session
from kdebug.annotations import Any, Callable, Optional
from kdebug.errors import Failed, KdebugError, ProtocolViolation, UsageError
from kdebug.protocol import codec, framing
from kdebug.protocol.hello import (
    BANNER,
    HEARTBEAT_SECONDS,
    MAX_ANSWER_BYTES,
    MAX_OUTSTANDING,
    MAX_REQUEST_BYTES,
    PROTOCOL_VERSION,
    SILENCE_SECONDS,
    Hello,
)
from kdebug.protocol.requests import HEAVY, QUICK, WAIT, Request, request_class

HEAVY_THREADS = 2
"""One large read beside one listing; more would only share the same CPU."""
WAIT_THREADS = 8
"""Followed files at once; each is a thread that sleeps."""
STUCK_SECONDS = 3.0
"""A job this old no longer counts for its lane: a dead network file system may hold it for ever, and
what comes after it must not wait as long."""
MAX_STUCK = 8
"""Threads a lane may lose like that."""
HEAVY_NICE = 10
STACK_BYTES = 512 * 1024
"""Deep enough for json, the rooted walk and compiling a module; the default of 8 MiB counts against tight
limits."""
READ_BYTES = 64 * 1024
MAX_HELD_BYTES = 8 * 1024 * 1024
"""Of DATA that was announced by requests and not worked off: twice what an honest client has on its way."""
SWITCH_SECONDS = 0.0005
"""How long a thread waits before it asks a busy one for the interpreter. A process table waits after each
of its hundreds of system calls: with Python's 5 ms a search beside it would hold it up for a second."""


NO_THREAD = Failed(
    "the agent cannot start a thread",
    why="the limit of processes is reached (pids.max of the pod, or RLIMIT_NPROC)",
    next_step="look with `kdebug limits`, end some processes, or raise the limit",
)


class Job:
    """A request on its way through a lane."""

    def __init__(self, request_id: int, request: Request[Any], cancelled: threads.Event) -> None:
        self.request_id = request_id
        self.request = request
        self.cancelled = cancelled
        self.began: Optional[float] = None
        """When a thread took it."""


class Server:
    """One client on two descriptors. `run` returns when the stream ends or falls silent."""

    def __init__(
        self,
        read_fd: int,
        write_fd: int,
        *,
        session: Session,
        version: str = "",
        source_hash: str = "",
        silence_seconds: float = SILENCE_SECONDS,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._read_fd = read_fd
        self._outbox = Outbox(write_fd)
        self._session = session
        self._hello = Hello(PROTOCOL_VERSION, version, source_hash, os.getpid())
        self._silence = silence_seconds
        self._log = log
        self._lock = threads.Lock()
        self._jobs: dict[int, Job] = {}
        self._arriving: dict[int, tuple[Request[Any], bytearray]] = {}
        """Requests whose DATA has not come in full; only the reader touches it."""
        self._held = 0
        self._lanes: dict[str, SimpleQueue[Optional[Job]]] = {
            lane: SimpleQueue() for lane in (QUICK, HEAVY, WAIT)
        }
        self._threads: dict[str, int] = dict.fromkeys(self._lanes, 0)
        self._limits = {QUICK: 1, HEAVY: HEAVY_THREADS, WAIT: WAIT_THREADS}
        self._pace = Pace(session.budget_cores, session.throttled_periods)
        self._stopping = threads.Event()

    def run(self) -> str:
        """Serve until the end; returns why it ended, for the log."""
        threads.stack_size(STACK_BYTES)
        sys.setswitchinterval(SWITCH_SECONDS)
        try:
            self._outbox.start(BANNER)
        except RuntimeError:
            return str(NO_THREAD)
        self._send_record(framing.HELLO, 0, self._hello)
        try:
            return self._read_frames()
        except ProtocolViolation as violation:
            self._outbox.put_now(framing.ERROR, 0, _error_payload(violation))
            return str(violation)
        finally:
            self._stop()

    def _read_frames(self) -> str:
        decoder = framing.FrameDecoder()
        heard = time.monotonic()
        while True:
            ready, _, _ = select.select([self._read_fd], [], [], min(HEARTBEAT_SECONDS, self._silence / 4))
            if ready:
                data = os.read(self._read_fd, READ_BYTES)
                if not data:
                    return "the client closed the stream"
                heard = time.monotonic()
                for frame in decoder.feed(data):
                    if frame.kind == framing.BYE:
                        return "the client said goodbye"
                    self._receive(frame)
            elif time.monotonic() - heard > self._silence:
                return f"the client was silent for {self._silence:.0f} s"
            if self._outbox.broken:
                return "the stream cannot be written any more"

    def _receive(self, frame: framing.Frame) -> None:
        if frame.kind == framing.REQUEST:
            self._receive_request(frame)
        elif frame.kind == framing.DATA:
            self._receive_data(frame)
        elif frame.kind == framing.CANCEL:
            self._cancel(frame.request_id)
        elif frame.kind == framing.PING:
            self._outbox.put_now(framing.PONG, frame.request_id, frame.payload[:64])
        elif frame.kind not in (framing.PONG, framing.HELLO):
            raise ProtocolViolation(f"a client does not send {framing.KIND_NAMES[frame.kind]} frames")

    def _receive_request(self, frame: framing.Frame) -> None:
        # Requests fit one frame; a longer one is refused before anything is gathered.
        if frame.flags or len(frame.payload) > MAX_REQUEST_BYTES:
            raise ProtocolViolation(f"a request is at most {MAX_REQUEST_BYTES} bytes in one frame")
        with self._lock:
            taken, full = frame.request_id in self._jobs, len(self._jobs) >= MAX_OUTSTANDING
        if taken or frame.request_id in self._arriving:
            raise ProtocolViolation(f"the request id {frame.request_id} is in use")
        if full:
            refusal = Failed(f"more than {MAX_OUTSTANDING} requests are outstanding")
            self._outbox.put_now(framing.ERROR, frame.request_id, _error_payload(refusal))
            return
        try:
            request = decode_request(frame.payload)
        except KdebugError as error:
            self._outbox.put_now(framing.ERROR, frame.request_id, _error_payload(error))
            return
        if request.carries_data:
            self._expect_data(frame.request_id, request)
        else:
            self._enqueue(Job(frame.request_id, request, threads.Event()))

    def _expect_data(self, request_id: int, request: Any) -> None:
        """Before a byte is gathered: is it too much with what else was announced?"""
        with self._lock:
            self._held += request.size
            held = self._held
        if held > MAX_HELD_BYTES:
            raise ProtocolViolation(f"more than {MAX_HELD_BYTES} bytes were announced at once")
        self._arriving[request_id] = (request, bytearray())

    def _receive_data(self, frame: framing.Frame) -> None:
        found = self._arriving.get(frame.request_id)
        if found is None:
            raise ProtocolViolation(f"data came for the request {frame.request_id}, which announced none")
        request, data = found
        size: int = request.size  # type: ignore[attr-defined]
        if len(data) + len(frame.payload) > size or not frame.payload:
            raise ProtocolViolation(f"{request.name} announced {size} bytes, and other data came")
        data += frame.payload
        if len(data) == size:
            del self._arriving[frame.request_id]
            object.__setattr__(request, "data", bytes(data))
            self._enqueue(Job(frame.request_id, request, threads.Event()))

    def _enqueue(self, job: Job) -> None:
        lane = job.request.lane
        with self._lock:
            self._jobs[job.request_id] = job
            jobs = [other for other in self._jobs.values() if other.request.lane == lane]
            limit = self._limits[lane] + min(MAX_STUCK, sum(map(_is_stuck, jobs)))
            start = self._threads[lane] < min(limit, len(jobs))
            self._threads[lane] += start
        if start and not self._start_thread(lane):
            with self._lock:
                del self._jobs[job.request_id]
                self._release(job)
            self._outbox.put_now(framing.ERROR, job.request_id, _error_payload(NO_THREAD))
            return
        self._lanes[lane].put(job)

    def _release(self, job: Job) -> None:
        if job.request.carries_data:
            self._held -= job.request.size  # type: ignore[attr-defined]

    def _start_thread(self, lane: str) -> bool:
        """Whether the lane has a thread now: where the pod's limit is reached, an older one will do."""
        try:
            threads.Thread(self._work, lane).start()
        except RuntimeError:
            with self._lock:
                self._threads[lane] -= 1
                return self._threads[lane] > 0
        return True

    def _cancel(self, request_id: int) -> None:
        with self._lock:
            job = self._jobs.get(request_id)
        if job is not None:
            job.cancelled.set()

    def _work(self, lane: str) -> None:
        if lane == HEAVY:
            _lower_priority()
        while True:
            job = self._lanes[lane].get()
            if job is None:
                return
            job.began = time.monotonic()
            used = time.thread_time()
            try:
                self._answer(job)
            finally:
                with self._lock:
                    self._jobs.pop(job.request_id, None)
                    self._release(job)
            if lane == HEAVY:
                self._stopping.wait(self._pace.rest_seconds(time.thread_time() - used))

    def _answer(self, job: Job) -> None:
        """Every request ends with exactly one ANSWER or ERROR, also when it was cancelled."""
        try:
            if job.cancelled.is_set():
                raise Failed("the request was cancelled")
            answer = dispatch.handle(self._session, job.request, job.cancelled)
            payload = codec.to_json(answer)
            if len(payload) > MAX_ANSWER_BYTES:
                # The client would end the connection, and what is so long may be the target's doing.
                raise Failed(f"the answer to {job.request.name} is longer than {MAX_ANSWER_BYTES} bytes")
            data = getattr(answer, "data", b"")
        except KdebugError as error:
            payload, data = _error_payload(error), b""
            self._outbox.put(framing.ERROR, job.request_id, payload)
            return
        except Exception as error:  # noqa: BLE001  one broken probe must not end the session
            self._log(f"{job.request.name} failed: {type(error).__name__}: {error}")
            failure = Failed(
                f"the agent failed at {job.request.name}", why=f"{type(error).__name__}: {error}"
            )
            self._outbox.put(framing.ERROR, job.request_id, _error_payload(failure))
            return
        if data:
            self._outbox.put(framing.DATA, job.request_id, data)
        self._outbox.put(framing.ANSWER, job.request_id, payload, bulk=bool(data))

    def _send_record(self, kind: int, request_id: int, record: object) -> None:
        self._outbox.put_now(kind, request_id, codec.to_json(record))

    def _stop(self) -> None:
        self._stopping.set()
        with self._lock:
            jobs, threads = list(self._jobs.values()), dict(self._threads)
        for job in jobs:
            job.cancelled.set()
        for lane, count in threads.items():
            for _ in range(count):
                self._lanes[lane].put(None)
        self._outbox.stop()
        self._session.close()


def decode_request(payload: bytes) -> Request[Any]:
    """A request from `{"request": name, ...fields}`; `UsageError` or `ProtocolViolation` otherwise."""
    fields = codec.parse_json(payload)
    if not isinstance(fields, dict) or not isinstance(fields.get("request"), str):
        raise UsageError("a request is an object with the field `request`")
    request: Request[Any] = codec.from_plain(request_class(fields.pop("request")), fields)
    request.validate()
    return request


def _error_payload(error: KdebugError) -> bytes:
    return codec.to_json(dispatch.wire_error(error))


def _is_stuck(job: Job) -> bool:
    # Those that wait do so because they were asked to.
    if job.began is None or job.request.lane == WAIT:
        return False
    return time.monotonic() - job.began > STUCK_SECONDS


def _lower_priority() -> None:
    """setpriority(2): on Linux a thread id names one thread, so only this lane becomes nice."""
    try:
        os.setpriority(os.PRIO_PROCESS, threads.get_native_id(), HEAVY_NICE)
    except OSError:
        pass  # a seccomp profile may forbid it; the work is right all the same
