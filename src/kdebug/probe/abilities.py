"""The proof after attaching: what the agent can do to this target, measured (design 6.3).

Each ability is tried in the way the feature itself would use it, on the target's own process, without
changing anything. What cannot be tried without harm is answered from the kernel's own rules and says so.
"""

from __future__ import annotations

import os

from kdebug.annotations import Callable, Optional
from kdebug.errors import KdebugError
from kdebug.probe.capabilities import capability_names
from kdebug.probe.identity import read_small
from kdebug.probe.rooted import Root
from kdebug.protocol.system import Ability, Access

SAME_USER = (
    "run as the target's uid and gid with at least its capabilities (rung match), or with SYS_PTRACE"
)


def measure(proc: str, pid: int, open_root: Callable[[], Root]) -> Access:
    """Every ability with its reason; raises only when the target has gone."""
    capabilities = _own_capabilities(proc)
    abilities = (
        _try("process list", lambda: _read(f"{proc}/{pid}/stat"), "share the target's PID namespace"),
        _files_read(open_root),
        _files_write(open_root),
        _try("fds", lambda: _list(f"{proc}/{pid}/fd"), SAME_USER),
        _try("env", lambda: _read(f"{proc}/{pid}/environ"), SAME_USER),
        _try("maps", lambda: _read(f"{proc}/{pid}/maps"), SAME_USER),
        _sockets(proc, pid),
        _signals(pid),
        _packet_capture(proc, pid),
        _trace(proc, pid, capabilities),
    )
    return Access(os.geteuid(), os.getegid(), capabilities, abilities)


def _own_capabilities(proc: str) -> tuple[str, ...]:
    for line in read_small(f"{proc}/self/status").splitlines():
        if line.startswith(b"CapEff:"):
            return capability_names(int(line.split()[1], 16))
    return ()


def _read(path: str) -> str:
    read_small(path)
    return "read"


def _list(path: str) -> str:
    return f"{len(os.listdir(path))} seen"


def _try(name: str, attempt: Callable[[], str], fix: str) -> Ability:
    try:
        return Ability(name, True, attempt())
    except KdebugError as error:
        return Ability(name, False, error.why or error.what, error.next_step or fix)
    except OSError as error:
        return Ability(name, False, error.strerror or str(error), fix)


def _files_read(open_root: Callable[[], Root]) -> Ability:
    def attempt() -> str:
        fd = open_root().open("/", os.O_RDONLY | os.O_DIRECTORY)
        try:
            return f"{len(os.listdir(fd))} entries in /"
        finally:
            os.close(fd)

    return _try("files read", attempt, SAME_USER)


def _files_write(open_root: Callable[[], Root]) -> Ability:
    """Asked, not tried: faccessat(2) with the effective ids, on / and /tmp, changes nothing."""
    try:
        writable = [path for path in ("/", "/tmp") if _may_write(open_root(), path)]  # noqa: S108
    except KdebugError as error:
        return Ability("files write", False, error.why or error.what, error.next_step or SAME_USER)
    if writable:
        return Ability("files write", True, f"the kernel would allow it in {' and '.join(writable)}")
    reason = "the kernel would refuse it in / and /tmp (permissions or a read-only file system)"
    return Ability("files write", False, reason, "a writable volume, or the owner's uid")


def _may_write(root: Root, path: str) -> bool:
    try:
        fd = root.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except KdebugError:
        return False
    try:
        return os.access(".", os.W_OK, dir_fd=fd, effective_ids=True)
    finally:
        os.close(fd)


def _sockets(proc: str, pid: int) -> Ability:
    def attempt() -> str:
        read_small(f"{proc}/{pid}/net/tcp")
        os.listdir(f"{proc}/{pid}/fd")
        return "sockets and the descriptors of the target can be joined"

    return _try("sockets with owners", attempt, SAME_USER)


def _signals(pid: int) -> Ability:
    """kill(2): signal 0 checks the permission and sends nothing."""

    def attempt() -> str:
        os.kill(pid, 0)
        return "the kernel would allow it"

    return _try("signals", attempt, "run as the target's uid, or with KILL")


def _packet_capture(proc: str, pid: int) -> Ability:
    """packet(7): opening the socket needs CAP_NET_RAW; nothing is bound or received."""
    try:
        if os.readlink(f"{proc}/{pid}/ns/net") != os.readlink(f"{proc}/self/ns/net"):
            return Ability("packet capture", False, "the target has another network namespace")
    except OSError as error:
        same: Optional[str] = error.strerror
        return Ability("packet capture", None, f"whether the network is shared cannot be read: {same}")

    def attempt() -> str:
        import _socket  # socket itself would load `selectors` and `enum`

        _socket.socket(_socket.AF_PACKET, _socket.SOCK_RAW, 0).close()
        return "a packet socket could be opened"

    return _try("packet capture", attempt, "NET_RAW (rung netadmin)")


def _trace(proc: str, pid: int, capabilities: tuple[str, ...]) -> Ability:
    """ptrace(2), PTRACE_MODE_ATTACH: stopping the target to try it would be harm, so it is inferred."""
    fix = "SYS_PTRACE (rung ptrace)"
    if "cap_sys_ptrace" in capabilities:
        return Ability("trace", None, "not tried (it would stop the target); SYS_PTRACE is held", "")
    readable = _try("trace", lambda: _read(f"{proc}/{pid}/environ"), fix)
    if not readable.allowed:
        return readable
    scope = _yama_scope(proc)
    if scope:
        return Ability("trace", False, f"Yama's ptrace_scope is {scope}", fix)
    return Ability("trace", None, "not tried (it would stop the target); the same user may", "")


def _yama_scope(proc: str) -> int:
    try:
        return int(read_small(f"{proc}/sys/kernel/yama/ptrace_scope"))
    except (OSError, ValueError):
        return 0
