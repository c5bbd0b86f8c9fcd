"""What one client's conversation is bound to: a target process and everything opened for it."""

from __future__ import annotations

import os
import time

from kdebug import threads
from kdebug.agent.cursors import Cursors
from kdebug.annotations import Any, Optional
from kdebug.errors import KdebugError, TargetEnded, UsageError
from kdebug.probe.cgroup import cgroup_info, own_cpu_quota_cores
from kdebug.probe.files import OpenFiles, Place
from kdebug.probe.process_signal import check_same
from kdebug.probe.process_table import ProcessTable
from kdebug.probe.rooted import Root
from kdebug.probe.users import UserNames
from kdebug.protocol.requests import is_held
from kdebug.protocol.system import CgroupInfo

NEVER = threads.Event()
"""A cancel flag for callers that never cancel."""


class Session:
    """State behind `dispatch.handle`. Opening is lazy: a target whose root may not be read still has
    processes and sockets to show. Thread-safe."""

    def __init__(self, *, read_only: bool = False, proc: str = "/proc") -> None:
        self.proc = proc
        self.forced_read_only = read_only
        """Set by whoever started the agent; a client can add to it and never take it away."""
        self.read_only = read_only
        self.pid = 0
        self.start_ticks = 0
        self.container: Optional[str] = None
        self.root_pid = 0
        """Whose root the files are seen from, where it is not the target's."""
        self.cursors = Cursors()
        self.open_files = OpenFiles()
        self.writes: Any = None
        """Files that are being written (`probe.write.Writes`), made at the first one."""
        self.started = time.monotonic()
        self.cpu_quota_cores = own_cpu_quota_cores(proc)
        self.lock = threads.RLock()
        self._root: Optional[Root] = None
        self._table: Optional[ProcessTable] = None
        self._users: Optional[UserNames] = None
        self._budget: Optional[list[float]] = None

    def bind(
        self, pid: int, start_ticks: int, container: Optional[str], read_only: bool, root_pid: int = 0
    ) -> None:
        """Make `pid` the target; what was open for another one is closed."""
        with self.lock:
            self._release()
            self.pid, self.start_ticks, self.container = pid, start_ticks, container
            self.root_pid = root_pid
            self.read_only = self.forced_read_only or read_only

    def require_target(self) -> int:
        """The target's pid, which still is its own: `NotFound` once another process may have it."""
        if not self.pid:
            raise UsageError("no target is open on this session", next_step="send `open` first")
        check_same(self.proc, self.pid, self.start_ticks)
        return self.pid

    def process(self, pid: int) -> int:
        """The process that a request means; 0 is the target."""
        return pid if pid and pid != self.pid else self.require_target()

    def root(self) -> Root:
        """The target's root, opened and pinned at first need; errors say who could read it."""
        with self.lock:
            if self._root is None:
                self._root = self._open_root()
            self._root.check_alive()
            return self._root

    def _open_root(self) -> Root:
        pid = self.require_target()
        if not self.root_pid:
            return Root.of_process(pid, proc=self.proc, start_ticks=self.start_ticks)
        from kdebug.probe.held import require_scope

        # Held first: then its pid cannot change hands before it is looked at.
        root = Root.of_process(self.root_pid, proc=self.proc)
        try:
            require_scope(self.proc, self.root_pid, pid)
        except KdebugError:
            root.close()
            raise
        return root

    def place(self, path: str) -> Place:
        """Where `path` is looked up: the root, or for `deleted:PID/FD` the processes' descriptors."""
        if not is_held(path):
            return self.root()
        from kdebug.probe.held import HeldPlace

        return HeldPlace(self.proc, self.require_target())

    def table(self) -> ProcessTable:
        with self.lock:
            if self._table is None:
                self._table = ProcessTable(
                    proc=self.proc, target_pid=self.require_target(), user_name=self.user_name
                )
            return self._table

    def budget_cores(self) -> Optional[float]:
        """The CPU that the pod may use, as far as its cgroups tell: ours, or the target's when that is
        less, for an ephemeral container has no limit of its own. Asked once a target."""
        if self._budget is None:
            self._budget = [cores for cores in (self.cpu_quota_cores, self._target_quota()) if cores]
        return min(self._budget, default=None)

    def throttled_periods(self) -> Optional[int]:
        """In how many periods the target wanted more CPU than its limit; None where that is not told."""
        try:
            return self.target_cgroup().cpu_throttled_periods
        except (KdebugError, OSError):
            return None

    def _target_quota(self) -> Optional[float]:
        try:
            return self.target_cgroup().cpu_limit_cores
        except (KdebugError, OSError):
            return None

    def target_cgroup(self) -> CgroupInfo:
        """Its limits and usage, through its own root; what may not be read is in the reasons."""
        return cgroup_info(self.pid, proc=self.proc, read_target=self.read_target, read_host=self.read_host)

    def user_name(self, uid: int, container: Optional[str]) -> Optional[str]:
        """The name that the target's own /etc/passwd gives `uid`; None when it has none, and for processes
        of other containers, which have another passwd."""
        with self.lock:
            if container != self.container:
                return None
            if self._users is None:
                self._users = UserNames(self.read_target)
            users = self._users
        # Without the lock, for reading may never end, and closing the session must.
        return users.name(uid)

    def read_target(self, path: str) -> bytes:
        """A small configuration file through the target's root; `KdebugError` when it cannot be."""
        return self.root().read_small(path)

    def read_host(self, path: str) -> bytes:
        """A small file of the agent's own file system (its cgroup); `KdebugError` likewise."""
        with Root.at(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as own_root:
            return own_root.read_small(path)

    def close(self) -> None:
        with self.lock:
            self._release()

    def _release(self) -> None:
        self.cursors.close()
        self.open_files.close()
        self.open_files = OpenFiles()
        if self.writes is not None:
            self.writes.close()
            self.writes = None
        if self._root is not None:
            self._root.close()
        self._root = self._table = self._users = self._budget = None


def target_gone(session: Session) -> Optional[KdebugError]:
    """`NotFound` when the target has ended, for an error that would otherwise blame a path."""
    if os.path.exists(f"{session.proc}/{session.pid}"):
        return None
    return TargetEnded(f"the target process {session.pid} has ended")
