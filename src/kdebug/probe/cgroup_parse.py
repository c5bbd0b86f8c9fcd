"""Pure parsers of cgroup files (cgroups(7), Documentation/admin-guide/cgroup-v2.rst and v1/)."""

from __future__ import annotations

import math

from kdebug.annotations import Optional, Union
from kdebug.protocol.system import Pressure

NO_LIMIT_V1 = 2**62
"""v1 writes PAGE_COUNTER_MAX rounded to a page, about 2**63, where there is no limit."""


def integer(word: Union[bytes, str]) -> int:
    """`ValueError` over 64 bits: a target may mount files of its own over those of the kernel."""
    if len(word) > 20:
        raise ValueError(f"{len(word)} digits")
    return int(word)


def real(word: str) -> float:
    """`ValueError` for what JSON has no number for."""
    value = float(word)
    if not math.isfinite(value):
        raise ValueError(word)
    return value


def number(text: bytes) -> Optional[int]:
    """One integer; None for "max" and for v1's way to say no limit."""
    word = text.strip()
    if word == b"max" or not word:
        return None
    value = integer(word)
    return None if value >= NO_LIMIT_V1 or value < 0 else value


def keyed(text: bytes) -> dict[str, int]:
    """ "name value" lines."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.decode("ascii", "replace").partition(" ")
        if value.strip().isdigit():
            found[name] = integer(value.strip())
    return found


def cpu_max(text: bytes) -> Optional[float]:
    """v2 cpu.max, "quota period" in microseconds, as cores."""
    quota, _, period = text.strip().partition(b" ")
    return None if quota == b"max" else integer(quota) / integer(period or b"100000")


def pressure(text: bytes) -> dict[str, Pressure]:
    """PSI lines by kind ("some", "full")."""
    found = {}
    for line in text.decode("ascii", "replace").splitlines():
        kind, *fields = line.split()
        values = dict(field.split("=") for field in fields)
        found[kind] = Pressure(
            real(values["avg10"]),
            real(values["avg60"]),
            real(values["avg300"]),
            integer(values["total"]) / 1e6,
        )
    return found


def controller_paths(cgroup: str) -> dict[str, str]:
    """/proc/PID/cgroup: controller -> path; "" is the unified hierarchy of v2."""
    found: dict[str, str] = {}
    # Not splitlines(): a cgroup's name may hold what Python, not the kernel, takes for a line end.
    for line in cgroup.split("\n"):
        if not line:
            continue
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(",") if controllers else [""]:
            found[controller] = path
    return found
