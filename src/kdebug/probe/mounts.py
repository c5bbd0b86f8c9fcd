"""The target's mounts, from /proc/PID/mountinfo (proc(5)), with the size of each file system."""

from __future__ import annotations

import os

from kdebug.annotations import Callable, Iterator, Optional
from kdebug.errors import AccessDenied, KdebugError, NotFound
from kdebug.probe.process_static import reason_of
from kdebug.protocol.record import replace
from kdebug.protocol.system import Mount

REMOTE = ("nfs", "cifs", "smb", "fuse", "9p", "ceph", "gluster", "afs", "lustre", "glusterfs", "virtiofs")
"""Asking a network file system for its size can block for ever when its server is gone (statfs(2))."""
SizeOf = Callable[[str, int], os.statvfs_result]
"""Of the mount at a path with this number."""


def unescape(text: bytes) -> str:
    r"""\040 is a blank: the kernel escapes blank, tab, line feed and backslash."""
    if b"\\" in text:
        import re  # seldom needed

        text = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m.group(1), 8) & 0xFF]), text)
    return text.decode("utf-8", "surrogateescape")


def parse_mount(line: bytes) -> Mount:
    """One line of mountinfo; `ValueError` or `IndexError` on nonsense."""
    before, _, after = line.rstrip(b"\n").partition(b" - ")
    fields, tail = before.split(b" "), after.split(b" ")
    options = tuple(unescape(part) for part in fields[5].split(b","))
    super_options = tuple(unescape(part) for part in tail[2].split(b",")) if len(tail) > 2 else ()
    return Mount(
        mount_id=int(fields[0]),
        parent_id=int(fields[1]),
        device=fields[2].decode("ascii", "replace"),
        root=unescape(fields[3]),
        path=unescape(fields[4]),
        options=options,
        filesystem=unescape(tail[0]),
        source=unescape(tail[1]),
        super_options=super_options,
        read_only="ro" in options or "ro" in super_options,
    )


def iter_mounts(pid: int, *, proc: str = "/proc", statvfs: Optional[SizeOf] = None) -> Iterator[Mount]:
    """Every mount in mount order; sizes through `statvfs` of a path in the target."""
    try:
        remote: list[str] = []
        with open(f"{proc}/{pid}/mountinfo", "rb", buffering=65536) as lines:
            for line in lines:
                mount = parse_mount(line)
                if mount.filesystem.startswith(REMOTE) and mount.path != "/":
                    remote.append(mount.path.rstrip("/") + "/")
                yield _with_size(mount, statvfs, remote) if statvfs else mount
    except PermissionError as error:
        raise AccessDenied(f"the mounts of process {pid} may not be read", why=reason_of(error)) from error
    except (FileNotFoundError, ProcessLookupError) as error:
        raise NotFound(f"there is no process {pid}") from error


def _with_size(mount: Mount, statvfs: SizeOf, remote: list[str]) -> Mount:
    if mount.filesystem.startswith(REMOTE) or f"{mount.path}/".startswith(tuple(remote)):
        return replace(mount, error="size not asked: a network file system could block")
    try:
        size = statvfs(mount.path, mount.mount_id)
    except KdebugError as error:
        return replace(mount, error=str(error))
    return replace(
        mount,
        size_bytes=size.f_blocks * size.f_frsize,
        used_bytes=(size.f_blocks - size.f_bfree) * size.f_frsize,
        available_bytes=size.f_bavail * size.f_frsize,
        inodes=size.f_files,
        inodes_used=size.f_files - size.f_ffree,
    )
