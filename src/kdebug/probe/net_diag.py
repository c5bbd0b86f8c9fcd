"""Round-trip times and retransmissions of TCP connections, and unix sockets, from sock_diag(7).

/proc does not have the former, and of the latter it shows names that may hold a line feed and a whole
forged row behind it. The question goes to the network namespace of the *asking* process, so it is
only asked when the target shares it. No privilege is needed (sock_diag(7)).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST_DUMP = 0x301
INET_DIAG_INFO = 2
ALL_STATES = 0xFFFFFFFF
WAIT_SECONDS = 2.0
RECEIVE_BYTES = 65536

_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI48s")
_MESSAGE = struct.Struct("=BBBBHH16s16sIQIIIII")
"""inet_diag_msg: family, state, timer, retransmits, ports, addresses, interface, cookie, expires,
queues, uid, inode."""
_ATTRIBUTE = struct.Struct("=HH")
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
    for body in _dump(request):
        if len(body) >= _UNIX_MESSAGE.size:
            _, kind, state, inode, _, _ = _UNIX_MESSAGE.unpack_from(body)
            yield UnixFacts(kind, state, inode, _attribute(body, _UNIX_MESSAGE.size, UNIX_DIAG_NAME))


class TcpFacts(NamedTuple):
    rtt_ms: float
    retransmits: int


def tcp_facts() -> dict[int, TcpFacts]:
    """inode -> facts of every TCP connection of this network namespace. Raises `OSError`."""
    facts: dict[int, TcpFacts] = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        request = _REQUEST.pack(family, socket.IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0, ALL_STATES, b"")
        for message in _dump(request):
            inode, found = parse_message(message)
            if inode and found is not None:
                facts[inode] = found
    return facts


def _dump(request: bytes) -> Iterator[bytes]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(WAIT_SECONDS)
        length = _HEADER.size + len(request)
        netlink.send(_HEADER.pack(length, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP, 1, 0) + request)
        yield from _messages(netlink)


def _messages(netlink: socket.socket) -> Iterator[bytes]:
    while True:
        data = netlink.recv(RECEIVE_BYTES)
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, _, _, _ = _HEADER.unpack_from(data, offset)
            body = data[offset + _HEADER.size : offset + length]
            if kind == NLMSG_DONE:
                return
            if kind == NLMSG_ERROR:
                number = -struct.unpack_from("=i", body)[0]
                raise OSError(number, "sock_diag refused")
            yield body
            offset += max(_HEADER.size, length + 3 & ~3)


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
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if kind == wanted:
            return body[offset + _ATTRIBUTE.size : offset + length]
        offset += max(_ATTRIBUTE.size, length + 3 & ~3)
    return b""
