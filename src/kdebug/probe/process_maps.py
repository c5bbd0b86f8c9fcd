"""Memory mappings of a process, one at a time: there may be 65,530 (vm.max_map_count)."""

from __future__ import annotations

import re

from kdebug.annotations import Iterator
from kdebug.errors import AccessDenied, NotFound, from_os_error
from kdebug.probe.process_static import ENDED, reason_of
from kdebug.protocol.processes import MapInfo

_OCTAL = re.compile(rb"\\012")
DELETED = b" (deleted)"


def parse_map(line: bytes) -> MapInfo:
    """One line of /proc/PID/maps (proc(5)); a line feed in a path is written as \\012."""
    fields = line.split(None, 5)
    start, end = fields[0].split(b"-")
    path = fields[5].rstrip(b"\n") if len(fields) > 5 else b""
    deleted = path.endswith(DELETED) and path.startswith(b"/")
    shown = _OCTAL.sub(b"\n", path.removesuffix(DELETED) if deleted else path)
    return MapInfo(
        start=int(start, 16),
        end=int(end, 16),
        permissions=fields[1].decode("ascii", "replace"),
        offset=int(fields[2], 16),
        device=fields[3].decode("ascii", "replace"),
        inode=int(fields[4]),
        path=shown.decode("utf-8", "surrogateescape") or None,
        deleted=deleted,
    )


def iter_maps(proc: str, pid: int) -> Iterator[MapInfo]:
    """Every mapping, by address. Raises `NotFound` or `AccessDenied`."""
    try:
        with open(f"{proc}/{pid}/maps", "rb", buffering=65536) as lines:
            for line in lines:
                yield parse_map(line)
    except PermissionError as error:
        raise AccessDenied(
            f"the memory map of process {pid} may not be read", why=reason_of(error)
        ) from error
    except ENDED as error:
        raise NotFound(f"there is no process {pid}") from error
    except OSError as error:
        raise from_os_error(error, f"the memory map of process {pid} cannot be read") from error
