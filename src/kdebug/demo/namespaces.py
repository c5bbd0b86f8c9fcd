"""Namespaces, mounts and credentials by ctypes: unshare(2), mount(2), pivot_root(2), capset(2)."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import socket
import struct

NEW_NAMESPACES = 0x00020000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000
"""CLONE_NEWNS, NEWUTS, NEWIPC, NEWPID, NEWNET (sched.h)."""
NEW_USER = 0x10000000
PRACTICE_ID = 65532
""""nonroot" of the distroless images."""
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_NO_NEW_PRIVS = 1, 4, 15, 38
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, value, 0, 0, 0), f"prctl {option}")


def set_name(name: str) -> None:
    """The command name of this thread (comm)."""
    _check(_libc.prctl(PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]), 0, 0, 0), "PR_SET_NAME")


def enter_user_namespace() -> None:
    """New namespaces with this user mapped to `PRACTICE_ID`, as any user may where they are allowed."""
    if os.geteuid() == 0:
        become_nobody()
    uid, gid = os.geteuid(), os.getegid()
    _check(_libc.unshare(NEW_USER | NEW_NAMESPACES), "unshare")
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{PRACTICE_ID} {uid} 1")
    _write("/proc/self/gid_map", f"{PRACTICE_ID} {gid} 1")


def enter_namespaces_as_root() -> None:
    _check(_libc.unshare(NEW_NAMESPACES), "unshare")


def become_nobody() -> None:
    """Leave root for `PRACTICE_ID`; dumpable again, for else /proc/self belongs to root (proc(5))."""
    os.setgroups([])
    os.setresgid(PRACTICE_ID, PRACTICE_ID, PRACTICE_ID)
    os.setresuid(PRACTICE_ID, PRACTICE_ID, PRACTICE_ID)
    prctl(PR_SET_DUMPABLE, 1)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()
    )
    _check(result, f"mount {target}")


def enter_root(path: str) -> None:
    """Make `path`, a mount point, the root, and let the old one go (pivot_root(2), "." twice)."""
    os.chdir(path)
    _check(_libc.syscall(_PIVOT_ROOT[platform.machine()], b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", MNT_DETACH), "umount of the old root")
    os.chdir("/")


def loopback_up() -> None:
    """netdevice(7): SIOCSIFFLAGS with IFF_UP | IFF_RUNNING on lo."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x41))


def drop_capabilities() -> None:
    """No capability in any set, none to be had from any program (capset(2), no_new_privs)."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, bytes(24)), "capset")
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_DUMPABLE, 1)
