"""One connection in full: what its state means, who holds it by which descriptors, and since when."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Optional

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from kdebug.errors import KdebugError
from kdebug.protocol.network import Socket
from kdebug.protocol.processes import FdPage, Process
from kdebug.target import Target
from kdebug.tui.lines import Line, draw
from kdebug.tui.network_rows import GROWN, Names, SocketKey, SocketRow, protocol
from kdebug.tui.session import Session
from kdebug.tui.theme import PLAIN, styles
from kdebug.tui.work import start
from kdebug.units import age, size

MAX_OWNERS = 8
"""Of one socket are looked at; a pre-forking server's listener has dozens, all alike."""
MEANINGS = {
    "CLOSE-WAIT": "the peer has closed and waits for nothing more; the owner has not called close(2): "
    "a connection that its program forgot",
    "LISTEN": "accepts connections; recv-q is how many wait to be accepted",
    "UNCONN": "not connected: takes what arrives at its address",
    "ESTAB": "both sides may send",
    "SYN-SENT": "waits for the peer's first answer; a firewall that drops looks like this",
    "SYN-RECV": "a peer has asked; the handshake is not complete",
    "FIN-WAIT-1": "closed on this side; the peer has not acknowledged it",
    "FIN-WAIT-2": "closed on this side; the peer has not closed yet",
    "LAST-ACK": "closed on both sides; the peer's last acknowledgement is missing",
    "CLOSING": "closed by both at once",
    "TIME-WAIT": "over; the kernel keeps its number for a minute, nobody holds it",
}


class Owner:
    """One process that holds the socket, as far as it may be seen."""

    def __init__(self, pid: int, process: Optional[Process]) -> None:
        self.pid = pid
        self.process = process
        self.fds: tuple[int, ...] = ()
        self.problem = ""


class ConnectionView(VerticalScroll, can_focus=True):
    """`show` follows one socket from look to look; what is known of its owners is asked once."""

    DEFAULT_CSS = """
    ConnectionView { padding: 0 1; }
    ConnectionView Static { height: auto; }
    """

    def __init__(self, session: Session, names: Names) -> None:
        super().__init__(id="connection")
        self.session = session
        self._names = names
        self.key: Optional[SocketKey] = None
        self.row: Optional[SocketRow] = None
        self._gone_at: Optional[float] = None
        self._owners: list[Owner] = []
        self.told = ""
        """What is shown."""

    def compose(self) -> ComposeResult:
        yield Static(id="connection-text")

    @property
    def exists(self) -> bool:
        """Whether it was there at the last look."""
        return self.row is not None and self._gone_at is None

    def open(self, row: SocketRow) -> None:
        """Look at another connection."""
        if self.key == row.key:
            return
        self.key, self._gone_at, self._owners = row.key, None, []
        self.update(row)
        self.scroll_home(animate=False)
        start(self, "owners", self._ask_owners, row.entry)

    def update(self, row: Optional[SocketRow]) -> None:
        """The same one as it is now; None: it is not there any more."""
        if row is not None:
            self.row, self._gone_at = row, None
        elif self._gone_at is None:
            self._gone_at = time.monotonic()
        self._draw()

    async def _ask_owners(self, entry: Socket) -> None:
        for pid in (entry.pids or ())[:MAX_OWNERS]:
            owner = Owner(pid, self._names.process(pid))
            try:
                fds = await self.session.ask(f"the descriptors of {pid}", partial(_fds, pid))
            except KdebugError as error:
                owner.problem = str(error)
            else:
                wanted = f"socket:[{entry.inode}]"
                owner.fds = tuple(item.fd for item in fds.items if item.target == wanted)
            self._owners.append(owner)
            self._draw()

    def _draw(self) -> None:
        if self.row is not None:
            gone = None if self._gone_at is None else time.monotonic() - self._gone_at
            pairs = connection_facts(self.row, self._owners, time.monotonic(), gone)
            looks = styles(self.app.theme_variables)
            text = draw(fact_lines(pairs), looks, max(1, self.size.width - 4))
            self.told = text.plain
            self.query_one("#connection-text", Static).update(text)

    def on_resize(self) -> None:
        self._draw()


async def _fds(pid: int, target: Target) -> FdPage:
    return await target.fds(pid)


def fact_lines(pairs: list[tuple[str, str]]) -> Iterator[Line]:
    """`name  value`, with long values wrapped under themselves."""
    width = max(len(name) for name, _ in pairs)
    return (Line(f"{name.ljust(width)}  {value}", PLAIN, width + 2) for name, value in pairs)


def connection_facts(
    row: SocketRow, owners: list[Owner], now: float, gone_seconds: Optional[float]
) -> list[tuple[str, str]]:
    """Everything that is known, in words; what is not known says so."""
    entry = row.entry
    pairs = [("state", f"{entry.state}: {MEANINGS.get(entry.state, 'as the kernel calls it')}")]
    pairs += _owner_facts(entry, owners)
    if gone_seconds is None:
        pairs.append(("seen for", f"{age(now - row.since)} in this state"))
    else:
        pairs.append(("gone", f"{age(gone_seconds)} ago; this is how it was last seen"))
    pairs += [
        ("recv-q", _queue(entry, entry.rx_queue_bytes, row.rx_grew, True)),
        ("send-q", _queue(entry, entry.tx_queue_bytes, row.tx_grew, False)),
        ("local", entry.local or "-"),
        ("remote", entry.remote or "-"),
        ("protocol", f"{protocol(entry)} ({entry.family}, {entry.type})"),
        ("round trip", "-" if entry.rtt_ms is None else f"{entry.rtt_ms:.3f} ms, smoothed"),
        ("sent again", "-" if entry.retransmits is None else f"{entry.retransmits} segments"),
        ("user", "-" if entry.uid is None else f"uid {entry.uid} made it"),
        ("inode", str(entry.inode) if entry.inode else "none: no process can hold it"),
    ]
    return pairs


def _queue(entry: Socket, count: Optional[int], grew: int, receiving: bool) -> str:
    if count is None:
        return "-"
    if entry.state == "LISTEN" and receiving:
        return f"{count} connections wait to be accepted" + (f" {GROWN} more each look" if grew else "")
    text = size(count) if count >= 1024 else f"{count} {'byte' if count == 1 else 'bytes'}"
    if grew:
        who = "the owner does not read as fast as it arrives" if receiving else "the peer does not take it"
        text += f" {GROWN} grew {grew} looks in a row: {who}"
    return text


def _owner_facts(entry: Socket, owners: list[Owner]) -> list[tuple[str, str]]:
    pids = entry.pids
    if pids is None:
        return [("owner", "not known: the descriptors of some processes may not be read (see Access)")]
    if not pids:
        return [("owner", "none: no process holds it")]
    pairs = []
    for owner in owners:
        pairs.append(("owner", f"{owner.pid} {_command(owner)}"))
        if owner.fds:
            pairs.append(("", "descriptor " + ", ".join(map(str, owner.fds)) + f", {_user(owner)}"))
        if owner.problem:
            pairs.append(("", owner.problem))
    if len(pids) > MAX_OWNERS:
        pairs.append(("", f"and {len(pids) - MAX_OWNERS} more"))
    return pairs or [("owner", ", ".join(map(str, pids[:MAX_OWNERS])))]


def _command(owner: Owner) -> str:
    if owner.process is None:
        return "(its command is not known)"
    return " ".join(owner.process.cmdline or ()) or f"[{owner.process.name}]"


def _user(owner: Owner) -> str:
    process = owner.process
    if process is None or (process.user is None and process.uid is None):
        return "of a user that is not known"
    return f"user {process.user or process.uid}"
