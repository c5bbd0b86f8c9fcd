"""Locks, flags and threads for code that runs in a pod: what it needs of `threading`, and no more.

`threading` brings `functools` and `collections`, which an image without bytecode compiles at every attach.
"""

from __future__ import annotations

from _thread import RLock as RLock
from _thread import allocate_lock as Lock
from _thread import get_native_id as get_native_id
from _thread import stack_size as stack_size
from _thread import start_new_thread
from time import monotonic

from kdebug.annotations import Any, Callable, Optional

__all__ = ["Condition", "Event", "Lock", "RLock", "Thread", "get_native_id", "stack_size"]


class Event:
    """Set once, and then for ever."""

    def __init__(self) -> None:
        self._is_set = False
        self._one = Lock()
        self._gate = Lock()
        self._gate.acquire()

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        with self._one:
            if not self._is_set:
                self._is_set = True
                self._gate.release()

    def wait(self, timeout: float) -> bool:
        """Whether it is set, at once or within `timeout` seconds."""
        if not self._is_set and self._gate.acquire(timeout=max(0.0, timeout)):
            self._gate.release()  # the next who waits passes, too
        return self._is_set


class Condition:
    """A lock whose holder may wait until something holds, or tell all others to look again."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: list[Any] = []

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def wait_for(self, holds: Callable[[], object], timeout: Optional[float] = None) -> bool:
        """Let go of the lock until `holds`, which is asked with the lock held, or `timeout` seconds are
        over; whether it holds."""
        end = None if timeout is None else monotonic() + timeout
        while not holds():
            left = -1.0 if end is None else end - monotonic()
            if end is not None and left <= 0:
                return False
            self._wait(left)
        return True

    def _wait(self, seconds: float) -> None:
        """Until notified, or so long; -1 has no end."""
        gate = Lock()
        gate.acquire()
        self._waiting.append(gate)
        self._lock.release()
        try:
            gate.acquire(timeout=seconds)
        finally:
            self._lock.acquire()
            if gate in self._waiting:
                self._waiting.remove(gate)

    def notify_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for gate in waiting:
            gate.release()


class Thread:
    """One that nobody waits for at exit."""

    def __init__(self, work: Callable[..., None], *arguments: object) -> None:
        self._work, self._arguments = work, arguments
        self._ended = Event()
        self._started = False

    def start(self) -> None:
        """Raises `RuntimeError` where the limit of threads is reached."""
        start_new_thread(self._run, ())
        self._started = True

    def _run(self) -> None:
        try:
            self._work(*self._arguments)
        finally:
            self._ended.set()

    def join(self, timeout: float) -> None:
        """At most `timeout` seconds."""
        if self._started:
            self._ended.wait(timeout)
