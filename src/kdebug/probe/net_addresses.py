"""Which interface has which address, from rtnetlink(7).

/proc lists local IPv4 addresses without their interface. The question goes to the network namespace of
the *asking* process, so it is only asked when the target shares it. No privilege is needed.
"""

from __future__ import annotations

import ipaddress
import socket
import struct

from kdebug.annotations import Optional
from kdebug.probe import netlink

RTM_GETADDR = 22
IFA_ADDRESS, IFA_LOCAL = 1, 2
"""They differ where a link has a peer: IFA_LOCAL is this end (linux/if_addr.h)."""
_MESSAGE = struct.Struct("=BBBBI")
"""ifaddrmsg: family, prefix length, flags, scope, interface."""


def interface_addresses() -> dict[str, list[str]]:
    """Interface -> "address/prefix" in the kernel's order. Raises `OSError`."""
    found: dict[str, list[str]] = {}
    for message in netlink.dump(netlink.ROUTE, RTM_GETADDR, _MESSAGE.pack(socket.AF_UNSPEC, 0, 0, 0, 0)):
        address = parse_address(message)
        if address is not None:
            index, text = address
            found.setdefault(_name(index), []).append(text)
    return found


def parse_address(message: bytes) -> Optional[tuple[int, str]]:
    """Interface index and "address/prefix" of one ifaddrmsg; None for other families and nonsense."""
    if len(message) < _MESSAGE.size:
        return None
    family, prefix, _, _, index = _MESSAGE.unpack_from(message)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    values = dict(netlink.attributes(message, _MESSAGE.size))
    raw = values.get(IFA_LOCAL) or values.get(IFA_ADDRESS)
    return None if raw is None else (index, f"{ipaddress.ip_address(raw)}/{prefix}")


def _name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""  # removed meanwhile
