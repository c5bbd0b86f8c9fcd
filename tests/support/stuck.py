"""A file system that never answers, as a network one whose server is gone."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

MNT_DETACH = 2


@contextlib.contextmanager
def stuck_file_system(folder: Path) -> Iterator[None]:
    """FUSE without a server (mount.fuse3(8)). Raises `OSError` where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
        if libc.mount(b"stuck", os.fsencode(folder), b"fuse", ctypes.c_ulong(0), options) != 0:
            raise OSError(ctypes.get_errno(), "mount")
        try:
            yield
        finally:
            libc.umount2(os.fsencode(folder), MNT_DETACH)
    finally:
        # Whoever waits for an answer gets ENOTCONN now.
        os.close(server)
