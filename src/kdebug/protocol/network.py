"""Facts about the target's network namespace, as they cross the wire."""

from __future__ import annotations

from kdebug.annotations import Optional
from kdebug.protocol.record import Record, dataclass, field


@dataclass(frozen=True, eq=False, repr=False)
class Socket(Record):
    """One socket of the target's network namespace, joined to the processes that hold it."""

    family: str
    """inet, inet6, unix, netlink or packet."""
    type: str
    """tcp, udp, udplite, raw, icmp; stream, dgram or seqpacket for unix."""
    local: str
    """"address:port" ("[v6]:port"), the path of a unix socket ("@name" when abstract), or ""."""
    remote: str
    state: str
    """As ss(8) writes it: LISTEN, ESTAB, CLOSE-WAIT, TIME-WAIT, UNCONN ..."""
    inode: int
    """0 where no process can hold it any more (TIME-WAIT)."""
    uid: Optional[int] = None
    pids: Optional[tuple[int, ...]] = None
    """Holders; None when no owner may be seen, () when nobody holds it."""
    rx_queue_bytes: Optional[int] = None
    tx_queue_bytes: Optional[int] = None
    rtt_ms: Optional[float] = None
    retransmits: Optional[int] = None
    """Segments retransmitted over the life of the connection, from sock_diag; unacknowledged
    timeouts of the current one where only /proc is there."""


@dataclass(frozen=True, eq=False, repr=False)
class SocketPage(Record):
    items: tuple[Socket, ...]
    cursor: str = ""
    unread_processes: int = 0
    """How many processes' descriptors could not be read, so that owners may be missing."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Field or source name -> why it is null or missing."""


@dataclass(frozen=True, eq=False, repr=False)
class Interface(Record):
    name: str
    state: Optional[str]
    """operstate of the kernel: up, down, unknown, ...; None where it cannot be read."""
    mtu: Optional[int]
    mac: Optional[str]
    addresses: tuple[str, ...]
    """"address/prefix"."""
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


@dataclass(frozen=True, eq=False, repr=False)
class Route(Record):
    destination: str
    """"0.0.0.0/0" and "::/0" are the default routes."""
    gateway: Optional[str]
    interface: str
    metric: int
    flags: str
    """As route(8) writes them: U, UG, UH ..."""


@dataclass(frozen=True, eq=False, repr=False)
class Dns(Record):
    """The target's resolver files, read through its own root."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    """Lines of /etc/hosts without comments."""
    hostname: Optional[str] = None
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, repr=False)
class NetworkConfig(Record):
    interfaces: tuple[Interface, ...]
    routes: tuple[Route, ...]
    dns: Dns
    counters: dict[str, int]
    """Chosen counters of /proc/PID/net/snmp and netstat, e.g. "Tcp.RetransSegs"."""
    reasons: dict[str, str] = field(default_factory=dict)
    truncated: bool = False
