"""System calls that Python 3.9 does not wrap, by ctypes, which is loaded at the first call."""

from __future__ import annotations

import os
import struct

from kdebug.annotations import Any, Optional

SYS_OPENAT2 = 437
"""The same number on every architecture: calls after 2019 share one table."""
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_IN_ROOT = 0x10
PR_GET_DUMPABLE = 3
PROC_SUPER_MAGIC = 0x9FA0
"""statfs(2), f_type of procfs."""
PSEUDO_FILE_SYSTEMS = frozenset(
    (
        PROC_SUPER_MAGIC, 0x62656572, 0x64626720, 0x74726163, 0x27E0EB, 0x63677270, 0x73636673, 0xCAFE4A11,
        0x6165676C, 0x62656570, 0x1CD1, 0xF97CFF8C, 0xDE5E81E4, 0x42494E4D, 0x65735543, 0x19800202,
        0x67596969, 0x6E736673,
    )
)  # fmt: skip
"""linux/magic.h: proc, sysfs, debugfs, tracefs, cgroup, cgroup2, securityfs, bpf, pstore, configfs, devpts,
selinuxfs, efivarfs, binfmt_misc, fusectl, mqueue, rpc_pipefs, nsfs."""

_libc: Optional[Any] = None


def _library() -> Any:
    global _libc
    if _libc is None:
        import ctypes

        _libc = ctypes.CDLL(None, use_errno=True)
    return _libc


def _checked(result: int, what: str) -> int:
    if result < 0:
        import ctypes

        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def openat2(dir_fd: int, path: bytes, flags: int, resolve: int) -> int:
    """openat2(2) without O_CREAT: a descriptor, or `OSError`."""
    import ctypes

    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, resolve)
    library = _library()
    result = library.syscall(
        ctypes.c_long(SYS_OPENAT2),
        ctypes.c_long(dir_fd),
        ctypes.c_char_p(path),
        ctypes.c_char_p(how),
        ctypes.c_size_t(len(how)),
    )
    return _checked(result, os.fsdecode(path))


def file_system_type(fd: int) -> int:
    """fstatfs(2), f_type. The first member of struct statfs is a long on amd64 and arm64."""
    import ctypes

    buffer = ctypes.create_string_buffer(512)
    _checked(_library().fstatfs(fd, buffer), "fstatfs")
    return int(ctypes.c_long.from_buffer(buffer).value)


def get_dumpable() -> bool:
    """prctl(2), PR_GET_DUMPABLE."""
    return _checked(_library().prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), "PR_GET_DUMPABLE") == 1
