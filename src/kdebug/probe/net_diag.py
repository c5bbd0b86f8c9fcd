"""Round-trip times and retransmissions of TCP connections, and UDP and unix sockets, from sock_diag(7).

/proc does not have the first, leaves out UDP sockets while others come and go (it counts rows from the
beginning with every piece), and shows names of unix sockets that may hold a line feed and a whole forged
row behind it. The question goes to the network namespace of the *asking* process, so it is
only asked when the target shares it. No privilege is needed (sock_diag(7)).
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

from kdebug.annotations import Iterator
from kdebug.probe import netlink

SOCK_DIAG_BY_FAMILY = 20
INET_DIAG_INFO = 2
ALL_STATES = 0xFFFFFFFF

_REQUEST = struct.Struct("=BBBBI48s")
_MESSAGE = struct.Struct("=BBBBHH16s16sIQIIIII")
"""inet_diag_msg: family, state, timer, retransmits, ports, addresses, interface, cookie, expires,
queues, uid, inode."""
_RTT_AT, _TOTAL_RETRANS_AT = 68, 100
"""Offsets in struct tcp_info (include/uapi/linux/tcp.h): tcpi_rtt in microseconds, tcpi_total_retrans."""
UDIAG_SHOW_NAME, UNIX_DIAG_NAME = 1, 0
_UNIX_REQUEST = struct.Struct("=BBHIIIII")
"""unix_diag_req: family, protocol, states, inode, what to show, cookie (linux/unix_diag.h)."""
_UNIX_MESSAGE = struct.Struct("=BBBxIII")
"""unix_diag_msg: family, type, state, inode, cookie."""


class UnixFacts(NamedTuple):
    type: int
    state: int
    """As of TCP: 10 listens."""
    inode: int
    name: bytes
    """A path, or a NUL and an abstract name (unix(7)); b"" when it is not bound."""


def unix_facts() -> Iterator[UnixFacts]:
    """Every unix socket of this network namespace. Raises `OSError`."""
    request = _UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0, ALL_STATES, 0, UDIAG_SHOW_NAME, 0, 0)
    for body in netlink.dump(netlink.SOCK_DIAG, SOCK_DIAG_BY_FAMILY, request):
        if len(body) >= _UNIX_MESSAGE.size:
            _, kind, state, inode, _, _ = _UNIX_MESSAGE.unpack_from(body)
            yield UnixFacts(kind, state, inode, _attribute(body, _UNIX_MESSAGE.size, UNIX_DIAG_NAME))


class InetFacts(NamedTuple):
    state: int
    local: tuple[bytes, int]
    """Address, 4 or 16 bytes, and port."""
    remote: tuple[bytes, int]
    rx_queue_bytes: int
    tx_queue_bytes: int
    uid: int
    inode: int


def udp_facts(family: int) -> Iterator[InetFacts]:
    """Every UDP socket of this network namespace and AF_INET or AF_INET6. Raises `OSError`, at once.

    The kernel goes on where it was by counting the sockets of one port: whoever took the rest only when
    his own reader asks would miss some that stay while others close. Kept are 72 bytes a socket.
    """
    size, taken = _MESSAGE.size, bytearray()
    for body in _inet_dump(family, socket.IPPROTO_UDP, 0):
        if len(body) >= size:
            taken += body[:size]
    return (parse_udp(bytes(taken[at : at + size])) for at in range(0, len(taken), size))


def parse_udp(body: bytes) -> InetFacts:
    """One inet_diag_msg, which has addresses and ports in the order of the network."""
    family, state, _, _, *ports, local, remote, _, _, _, rx, tx, uid, inode = _MESSAGE.unpack_from(body)
    size = 4 if family == socket.AF_INET else 16
    here, there = map(socket.ntohs, ports)
    return InetFacts(state, (local[:size], here), (remote[:size], there), rx, tx, uid, inode)


def _inet_dump(family: int, protocol: int, extensions: int) -> Iterator[bytes]:
    request = _REQUEST.pack(family, protocol, extensions, 0, ALL_STATES, b"")
    return netlink.dump(netlink.SOCK_DIAG, SOCK_DIAG_BY_FAMILY, request)


class TcpFacts(NamedTuple):
    rtt_ms: float
    retransmits: int


def tcp_facts() -> dict[int, TcpFacts]:
    """inode -> facts of every TCP connection of this network namespace. Raises `OSError`."""
    facts: dict[int, TcpFacts] = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        for message in _inet_dump(family, socket.IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1)):
            inode, found = parse_message(message)
            if inode and found is not None:
                facts[inode] = found
    return facts


def parse_message(body: bytes) -> tuple[int, TcpFacts | None]:
    """inode and facts of one inet_diag_msg; None facts for sockets without TCP_INFO (listening)."""
    if len(body) < _MESSAGE.size:
        return 0, None
    inode = _MESSAGE.unpack_from(body)[14]
    state = body[1]
    info = _attribute(body, _MESSAGE.size, INET_DIAG_INFO)
    if len(info) < _TOTAL_RETRANS_AT + 4 or state in (10, 6):
        return inode, None
    rtt = struct.unpack_from("=I", info, _RTT_AT)[0]
    return inode, TcpFacts(rtt / 1000, struct.unpack_from("=I", info, _TOTAL_RETRANS_AT)[0])


def _attribute(body: bytes, offset: int, wanted: int) -> bytes:
    """The value of one attribute behind a message's fixed part; b"" when it is not there."""
    return next((value for kind, value in netlink.attributes(body, offset) if kind == wanted), b"")
