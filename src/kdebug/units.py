"""Quantities for people: sizes, times, ages, modes. JSON has the plain numbers instead."""

from __future__ import annotations

import math
import stat
from datetime import datetime, timezone

UNKNOWN = "-"
"""What a fact that may not be read looks like (JSON has null and the reason)."""


KIND_BITS = {
    "file": stat.S_IFREG, "dir": stat.S_IFDIR, "symlink": stat.S_IFLNK, "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK, "char": stat.S_IFCHR, "block": stat.S_IFBLK,
}  # fmt: skip
"""The words for file types, with their bits in st_mode (inode(7))."""


def mode_text(kind: str, mode: int | None) -> str:
    """drwxr-xr-x, as ls writes it; question marks for what could not be read."""
    if mode is None:
        return "?" * 10
    return stat.filemode(KIND_BITS.get(kind, 0) | mode)


def size(count: int | float | None) -> str:
    """Bytes in powers of 1024, three figures: 512, 1.5K, 23.4M."""
    if count is None:
        return UNKNOWN
    number = float(count)
    for unit in ("", "K", "M", "G", "T", "P"):
        if abs(number) < 1024:
            break
        if unit != "P":
            number /= 1024
    return f"{count:.0f}" if unit == "" else f"{number:.1f}{unit}"


def duration(seconds: float | None) -> str:
    """1:02:03 or 2:03.45, as ps and top write CPU time."""
    if seconds is None:
        return UNKNOWN
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{int(rest):02d}" if hours else f"{minutes}:{rest:05.2f}"


def age(seconds: float | None) -> str:
    """How long ago, in its largest two units: 7s, 4m12s, 3h05m, 12d."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 48 * 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d"


def brief_age(seconds: float | None) -> str:
    """How long ago, in one unit for narrow columns: 7s, 4m, 3h, 12d."""
    if seconds is None:
        return UNKNOWN
    whole = max(0, int(seconds))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= 2 * length or (unit == "m" and whole >= length):
            return f"{whole // length}{unit}"
    return f"{whole}s"


def rfc3339(seconds: float | None) -> str | None:
    """Unix time as RFC 3339 UTC; None stays None, and so does a time that no calendar has."""
    if seconds is None:
        return None
    try:
        moment = datetime.fromtimestamp(seconds, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unix_time(stamp: str | None) -> float | None:
    """RFC 3339, as Kubernetes writes it, as Unix time; None for what is no time."""
    if not stamp:
        return None
    try:
        moment = datetime.fromisoformat(stamp.replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo else None
