"""Questions to the kernel over netlink(7): one dump, message by message."""

from __future__ import annotations

import socket
import struct

from kdebug.annotations import Iterator

ROUTE, SOCK_DIAG = 0, 4
_ERROR, _DONE = 2, 3
_REQUEST_DUMP = 0x301
WAIT_SECONDS = 2.0
RECEIVE_BYTES = 65536

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")


def dump(protocol: int, kind: int, payload: bytes) -> Iterator[bytes]:
    """Bodies of the messages that answer `kind`. Raises `OSError`."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as netlink:
        netlink.settimeout(WAIT_SECONDS)
        netlink.send(_HEADER.pack(_HEADER.size + len(payload), kind, _REQUEST_DUMP, 1, 0) + payload)
        yield from _messages(netlink)


def _messages(netlink: socket.socket) -> Iterator[bytes]:
    while True:
        data = netlink.recv(RECEIVE_BYTES)
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, _, _, _ = _HEADER.unpack_from(data, offset)
            body = data[offset + _HEADER.size : offset + length]
            if kind == _DONE:
                return
            if kind == _ERROR:
                number = -struct.unpack_from("=i", body)[0]
                raise OSError(number, "netlink refused")
            yield body
            offset += max(_HEADER.size, length + 3 & ~3)


def attributes(body: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """(type, value) of the attributes from `offset` on."""
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        yield kind, body[offset + _ATTRIBUTE.size : offset + length]
        offset += max(_ATTRIBUTE.size, length + 3 & ~3)
