"""How far a container's log was read: a stream that broke is read on, no line comes twice. Pure."""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime
from functools import lru_cache
from typing import Optional

from kdebug.target.cluster import LogLine


@lru_cache(maxsize=64)
def _seconds(stamp: str, zone: str) -> Optional[int]:
    try:
        moment = datetime.fromisoformat(stamp + ("+00:00" if zone == "Z" else zone))
    except ValueError:
        return None
    return int(moment.timestamp())


_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?\d*(Z|[+-]\d\d:\d\d)")


def nanoseconds(stamp: str) -> Optional[int]:
    """RFC 3339 as nanoseconds since the epoch: a kubelet writes the node's zone, and nine digits."""
    match = _STAMP.fullmatch(stamp)
    if match is None:
        return None
    seconds = _seconds(match[1], match[3])
    return None if seconds is None else seconds * 1_000_000_000 + int((match[2] or "0").ljust(9, "0"))


class Tail:
    """How far one container's log was read: what comes again after a break is told from what is new.

    A server bounds by time, and many lines may share the last moment; so these are counted by their text.
    """

    def __init__(self) -> None:
        self.moment: Optional[int] = None
        self.at = ""
        """The last time that was seen, in the server's words."""
        self._last: Counter[bytes] = Counter()
        """The lines of that moment that are here, by their text."""
        self._again: Counter[bytes] = Counter()
        self._skipping = False

    def resume(self) -> str:
        """What to ask for as `since_time`; then `new` leaves out what was read before."""
        self._again, self._skipping = Counter(self._last), self.moment is not None
        return self.at

    def new(self, line: LogLine) -> bool:
        """Whether it was not read before; every line of a stream has to pass here, in its order."""
        moment = nanoseconds(line.at)
        if self._skipping:
            if self.moment is not None and moment is not None and moment < self.moment:
                return False
            if moment is None or moment == self.moment:
                if self._again[line.text] > 0:
                    self._again[line.text] -= 1
                    return False
            else:
                self._skipping = False
        if moment is not None and moment != self.moment:
            self.moment, self.at = moment, line.at
            self._last.clear()
        self._last[line.text] += 1
        return True
