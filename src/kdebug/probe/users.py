"""Names for uids, from the target's own /etc/passwd: the agent's image knows other people."""

from __future__ import annotations

from kdebug.annotations import Callable, Optional
from kdebug.errors import KdebugError

MAX_USERS = 10_000
"""A hostile passwd file must not fill the agent's memory."""


def parse_passwd(text: bytes) -> dict[int, str]:
    """uid -> name; the first line of a uid wins, as in getpwuid(3). Broken lines are skipped."""
    names: dict[int, str] = {}
    for line in text.split(b"\n", MAX_USERS)[:MAX_USERS]:
        fields = line.split(b":")
        if len(fields) >= 4 and fields[2].isdigit() and len(fields[2]) <= 10:
            names.setdefault(int(fields[2]), fields[0][:256].decode("utf-8", "surrogateescape"))
    return names


class UserNames:
    """Reads the file once, at the first question; without it no uid has a name."""

    def __init__(self, read_target: Callable[[str], bytes]) -> None:
        self._read = read_target
        self._names: Optional[dict[int, str]] = None

    def name(self, uid: int) -> Optional[str]:
        if self._names is None:
            try:
                self._names = parse_passwd(self._read("/etc/passwd"))
            except KdebugError:
                self._names = {}
        return self._names.get(uid)
