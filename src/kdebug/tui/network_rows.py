"""Sockets as rows: joined to the names of their owners, with what grew since the last look.

Pure: it is given answers and gives rows. Names are never looked up: an address stays an address, for a
question to a name server would leave this machine and tell somebody what is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Optional

from kdebug.protocol.network import Socket
from kdebug.protocol.processes import Process
from kdebug.tui.table import Cell, Column
from kdebug.tui.theme import BAD, DIM, GOOD, PLAIN, WARN
from kdebug.units import size

SocketKey = tuple[str, str, str, str, int]
LISTENING = ("LISTEN", "UNCONN")
GROWN = "↑"
LOUD = "!"
"""Behind a state that somebody has to do something about."""
STUCK_AFTER = 2
"""Looks in a row in which a queue grew: once is traffic, more is somebody who does not keep up."""
UNIX_TYPES = {"stream": "ustr", "dgram": "udgr", "seqpacket": "useq"}
_RANKS = {"CLOSE-WAIT": 1, "LISTEN": 2, "UNCONN": 3, "ESTAB": 4, "TIME-WAIT": 9}


class SocketRow(NamedTuple):
    key: SocketKey
    entry: Socket
    owner: str
    """ "4866 client", "4866 client +2" where several hold it, "?" where none may be seen."""
    rx_grew: int = 0
    """How many looks in a row the queue has grown."""
    tx_grew: int = 0
    since: float = 0.0
    """When it was first seen in this state (monotonic)."""

    @property
    def stuck(self) -> bool:
        return max(self.rx_grew, self.tx_grew) >= STUCK_AFTER

    @property
    def loud(self) -> bool:
        return self.stuck or self.entry.state == "CLOSE-WAIT"


def protocol(entry: Socket) -> str:
    """tcp, tcp6, udp, udp6; unix sockets by their type, as ss shortens it."""
    if entry.family == "unix":
        return UNIX_TYPES.get(entry.type, "unix")
    return entry.type + ("6" if entry.family == "inet6" else "")


def search_text(row: SocketRow) -> str:
    """What `/` looks through: ":8080", "client", "estab", "udp6" all find something."""
    entry = row.entry
    return f"{protocol(entry)} {entry.state} {entry.local} {entry.remote} {row.owner}".casefold()


class Names:
    """pid -> process, from the table that the session shares; looked at when a socket names a stranger."""

    def __init__(self) -> None:
        self._processes: dict[int, Process] = {}

    def take(self, processes: Iterable[Process]) -> None:
        self._processes = {process.pid: process for process in processes}

    def process(self, pid: int) -> Optional[Process]:
        return self._processes.get(pid)

    def unknown(self, entries: Iterable[Socket]) -> bool:
        """Whether a socket names a process that is not known."""
        known = self._processes
        return any(pid not in known for entry in entries for pid in entry.pids or ())

    def owner(self, entry: Socket) -> str:
        pids = entry.pids
        if pids is None:
            return "?"
        if not pids:
            return ""
        process = self._processes.get(pids[0])
        first = f"{pids[0]} {process.name}" if process else str(pids[0])
        return first if len(pids) == 1 else f"{first} +{len(pids) - 1}"


class SocketModel:
    """The sockets of the last look, and what became of them since the look before."""

    def __init__(self) -> None:
        self.rows: dict[SocketKey, SocketRow] = {}

    def apply(self, entries: Iterable[Socket], names: Names, now: float) -> None:
        before = self.rows
        rows: dict[SocketKey, SocketRow] = {}
        for entry in entries:
            key = (entry.family, entry.type, entry.local, entry.remote, entry.inode)
            old = before.get(key)
            owner = names.owner(entry)
            if old is None:
                rows[key] = SocketRow(key, entry, owner, since=now)
                continue
            rx, tx = _grew(old, entry)
            since = old.since if old.entry.state == entry.state else now
            rows[key] = SocketRow(key, entry, owner, rx, tx, since)
        self.rows = rows

    def states(self) -> dict[str, int]:
        """State -> how many, the loudest first."""
        counts: dict[str, int] = {}
        for row in self.rows.values():
            counts[row.entry.state] = counts.get(row.entry.state, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: (_RANKS.get(item[0], 5), item[0])))


def _grew(old: SocketRow, entry: Socket) -> tuple[int, int]:
    before = old.entry
    rx = old.rx_grew + 1 if (entry.rx_queue_bytes or 0) > (before.rx_queue_bytes or 0) else 0
    tx = old.tx_grew + 1 if (entry.tx_queue_bytes or 0) > (before.tx_queue_bytes or 0) else 0
    return rx, tx


def state_style(state: str) -> str:
    styles = {"CLOSE-WAIT": BAD, "TIME-WAIT": DIM, "LISTEN": GOOD, "SYN-SENT": WARN, "SYN-RECV": WARN}
    return styles.get(state, PLAIN)


def _state(row: SocketRow) -> Cell:
    state = row.entry.state
    return state + (LOUD if state == "CLOSE-WAIT" else ""), state_style(state)


def _queue(count: Optional[int], grew: int) -> Cell:
    if count is None:
        return "-", DIM
    if not grew:
        return size(count), (PLAIN if count else DIM)
    return f"{size(count)}{GROWN}", (BAD if grew >= STUCK_AFTER else WARN)


def _rtt(row: SocketRow) -> Cell:
    rtt = row.entry.rtt_ms
    return ("-", DIM) if rtt is None else (f"{rtt:.2f}" if rtt < 100 else f"{rtt:.0f}", PLAIN)


def _retransmits(row: SocketRow) -> Cell:
    count = row.entry.retransmits
    return ("-", DIM) if count is None else (str(count), WARN if count else DIM)


def _owner(row: SocketRow) -> Cell:
    return row.owner or "-", (DIM if row.owner in ("", "?") else PLAIN)


def _rank(row: SocketRow) -> tuple[int, str, str]:
    """What a reader looks for first: trouble, who listens, who talks, and what is over."""
    entry = row.entry
    return 0 if row.stuck else _RANKS.get(entry.state, 5), entry.family, entry.local


def _port(address: str) -> tuple[int, str]:
    """Sorts by port, then by address."""
    host, _, port = address.rpartition(":")
    return (int(port) if port.isascii() and port.isdigit() else -1), host


COLUMNS: list[Column[SocketRow]] = [
    Column("protocol", "PROT", 4, lambda r: (protocol(r.entry), PLAIN), lambda r: protocol(r.entry)),
    Column("state", "STATE", 11, _state, _rank),
    Column(
        "rx", "RECV-Q", 6, lambda r: _queue(r.entry.rx_queue_bytes, r.rx_grew),
        lambda r: r.entry.rx_queue_bytes or 0, True, True,
    ),
    Column(
        "tx", "SEND-Q", 6, lambda r: _queue(r.entry.tx_queue_bytes, r.tx_grew),
        lambda r: r.entry.tx_queue_bytes or 0, True, True,
    ),
    Column("local", "LOCAL", 15, lambda r: (r.entry.local, PLAIN), lambda r: _port(r.entry.local), more=45),
    Column(
        "remote", "REMOTE", 0, lambda r: (r.entry.remote, PLAIN), lambda r: _port(r.entry.remote), more=27
    ),
    Column("owner", "PROCESS", 14, _owner, lambda r: (r.entry.pids or (0,))[0], more=24),
    Column(
        "rtt", "RTT ms", 7, _rtt, lambda r: r.entry.rtt_ms or 0.0, descending=True, right=True, optional=2
    ),
    Column(
        "retransmits", "RETR", 5, _retransmits, lambda r: r.entry.retransmits or 0, True, True, optional=1
    ),
]  # fmt: skip
