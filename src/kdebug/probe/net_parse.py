"""Pure parsers of /proc/PID/net files (proc(5), Documentation/networking/proc_net_tcp.rst)."""

from __future__ import annotations

import ipaddress
import struct
import sys

from kdebug.annotations import Optional
from kdebug.probe.net_diag import InetFacts
from kdebug.protocol.network import Socket

TCP_STATES = {
    1: "ESTAB",
    2: "SYN-SENT",
    3: "SYN-RECV",
    4: "FIN-WAIT-1",
    5: "FIN-WAIT-2",
    6: "TIME-WAIT",
    7: "UNCONN",
    8: "CLOSE-WAIT",
    9: "LAST-ACK",
    10: "LISTEN",
    11: "CLOSING",
    12: "SYN-RECV",
}
"""include/net/tcp_states.h in the words of ss(8); 12 is NEW_SYN_RECV."""
UNIX_TYPES = {1: "stream", 2: "dgram", 5: "seqpacket"}
_ACCEPTS_CONNECTIONS = 0x10000
"""__SO_ACCEPTCON: the flag of a listening unix socket."""


def address(text: str) -> str:
    """ "0100007F:1F90" as "127.0.0.1:8080"; 32 hex digits are IPv6 in four words of host order."""
    host, _, port = text.partition(":")
    words = [
        struct.pack("=I" if sys.byteorder == "little" else ">I", int(host[i : i + 8], 16))
        for i in range(0, len(host), 8)
    ]
    return shown_address(b"".join(words), int(port, 16))


def shown_address(raw: bytes, number: int) -> str:
    """4 or 16 bytes in the order of the network, and a port."""
    if len(raw) == 4:
        return f"{ipaddress.IPv4Address(raw)}:{number}"
    six = ipaddress.IPv6Address(raw)
    shown = f"::ffff:{six.ipv4_mapped}" if six.ipv4_mapped else str(six)
    return f"[{shown}]:{number}"


def parse_inet(line: bytes, family: str, kind: str) -> Optional[Socket]:
    """One line of tcp, udp, raw ... (and their 6); None for the header and for nonsense."""
    fields = line.split()
    if len(fields) < 10 or not fields[0].endswith(b":"):
        return None
    state = int(fields[3], 16)
    tx, _, rx = fields[4].partition(b":")
    name = TCP_STATES.get(state, f"STATE-{state}") if kind == "tcp" else _connected(state)
    return Socket(
        family=family,
        type=kind,
        local=address(fields[1].decode("ascii")),
        remote=address(fields[2].decode("ascii")),
        state=name,
        inode=int(fields[9]),
        uid=int(fields[7]),
        rx_queue_bytes=int(rx, 16),
        tx_queue_bytes=int(tx, 16),
    )


def udp_socket(facts: InetFacts, family: str) -> Socket:
    """From sock_diag, with the words that `parse_inet` has for the same socket."""
    return Socket(
        family=family,
        type="udp",
        local=shown_address(*facts.local),
        remote=shown_address(*facts.remote),
        state=_connected(facts.state),
        inode=facts.inode,
        uid=facts.uid,
        rx_queue_bytes=facts.rx_queue_bytes,
        tx_queue_bytes=facts.tx_queue_bytes,
    )


def _connected(state: int) -> str:
    return "ESTAB" if state == 1 else "UNCONN"


def parse_unix(line: bytes) -> Optional[Socket]:
    """One line of /proc/PID/net/unix; the kernel writes the NULs of abstract names as "@"."""
    fields = line.rstrip(b"\n").split(b" ", 7)
    if len(fields) < 7 or not fields[0].endswith(b":"):
        return None
    # Inodes are padded with blanks, so the last two columns are split again.
    inode, _, path = b" ".join(fields[6:]).lstrip().partition(b" ")
    flags, state = int(fields[3], 16), int(fields[5], 16)
    if flags & _ACCEPTS_CONNECTIONS:
        name = "LISTEN"
    else:
        name = {1: "UNCONN", 2: "SYN-SENT", 3: "ESTAB", 4: "CLOSING"}.get(state, "UNCONN")
    return Socket(
        family="unix",
        type=UNIX_TYPES.get(int(fields[4], 16), "unknown"),
        local=path.decode("utf-8", "surrogateescape"),
        remote="",
        state=name,
        inode=int(inode),
    )


def unix_socket(kind: int, state: int, inode: int, name: bytes) -> Socket:
    """From sock_diag, with the words that `parse_unix` has for the same socket."""
    # A path ends at its NUL, an abstract name begins with one.
    shown = name.replace(b"\0", b"@") if name[:1] == b"\0" else name.partition(b"\0")[0]
    return Socket(
        family="unix",
        type=UNIX_TYPES.get(kind, "unknown"),
        local=shown.decode("utf-8", "surrogateescape"),
        remote="",
        state=TCP_STATES.get(state, f"STATE-{state}"),
        inode=inode,
    )


SOURCES: dict[str, tuple[tuple[str, str], ...]] = {
    "inet": (("tcp", "tcp"), ("udp", "udp"), ("udplite", "udplite"), ("raw", "raw"), ("icmp", "icmp")),
    "inet6": (
        ("tcp6", "tcp"),
        ("udp6", "udp"),
        ("udplite6", "udplite"),
        ("raw6", "raw"),
        ("icmp6", "icmp"),
    ),
    "unix": (("unix", "unix"),),
}
"""Family -> (file below /proc/PID/net, type)."""
