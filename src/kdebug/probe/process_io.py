"""What a process has read and written, through psutil, which is loaded at the first question."""

from __future__ import annotations

from kdebug.annotations import Optional
from kdebug.probe.identity import add_site_packages
from kdebug.probe.process_static import NEEDS
from kdebug.protocol.processes import IoDetail


def io_detail(pid: int, reasons: dict[str, str]) -> Optional[IoDetail]:
    """None with the reason under "io" where psutil is missing or /proc/PID/io may not be read."""
    add_site_packages()
    try:
        import psutil
    except ImportError:
        reasons["io"] = "psutil is missing in this image"
        return None
    try:
        io = psutil.Process(pid).io_counters()
    except psutil.AccessDenied:
        reasons["io"] = f"Permission denied (EACCES): {NEEDS}"
        return None
    except (psutil.Error, OSError, NotImplementedError, ValueError) as error:
        reasons["io"] = str(error) or type(error).__name__
        return None
    return IoDetail(
        read_calls=io.read_count,
        write_calls=io.write_count,
        read_bytes=io.read_bytes,
        write_bytes=io.write_bytes,
        read_chars=io.read_chars,
        write_chars=io.write_chars,
    )
