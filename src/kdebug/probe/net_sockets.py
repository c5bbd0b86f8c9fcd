"""Sockets of the target's network namespace, joined to their owners, one at a time."""

from __future__ import annotations

import errno
import io
import os
import socket

from kdebug.annotations import Iterator, Optional
from kdebug.errors import AccessDenied, NotFound
from kdebug.probe.net_diag import TcpFacts, UnixFacts, tcp_facts, udp_facts, unix_facts
from kdebug.probe.net_owners import Owners
from kdebug.probe.net_parse import SOURCES, parse_inet, parse_unix, udp_socket, unix_socket
from kdebug.probe.process_static import reason_of
from kdebug.protocol.network import Socket
from kdebug.protocol.record import replace

AT_ONCE_BYTES = 4 * 1024 * 1024
"""Of a table: 27,000 rows. The kernel goes on by position in it, so what is read as slowly as somebody
turns pages loses rows when others come and go meanwhile."""


class SocketScan:
    """Iterate it for the sockets; `unread_processes` and `reasons` are valid from the first one on.

    Rows are made as they are asked for, so 20,000 sockets cost the memory of the owners and of the kernel's
    text (3 MiB; those of UDP 1.4 MiB, `udp_facts`).
    Raises `NotFound` or `AccessDenied` at the first row.
    """

    def __init__(self, pid: int, *, proc: str, families: tuple[str, ...]) -> None:
        self._pid, self._proc = pid, proc
        self._families = families
        self.unread_processes = 0
        self.reasons: dict[str, str] = {}

    def __iter__(self) -> Iterator[Socket]:
        try:
            os.stat(f"{self._proc}/{self._pid}/net")
        except PermissionError as error:
            raise AccessDenied(
                f"the sockets of process {self._pid} may not be read", why=reason_of(error)
            ) from error
        except OSError as error:
            raise NotFound(f"there is no process {self._pid}") from error
        owners = Owners(self._proc)
        self.unread_processes = owners.unread
        if owners.unread:
            self.reasons["pids"] = f"the descriptors of {owners.unread} processes may not be read"
        facts = self._tcp_facts()
        for family in self._families:
            if family == "unix" and (found := self._unix_facts()) is not None:
                yield from (self._joined(unix_socket(*one), owners, {}) for one in found)
                continue
            for name, kind in SOURCES.get(family, ()):
                if kind == "udp" and (udp := self._udp(family)) is not None:
                    yield from (self._joined(one, owners, {}) for one in udp)
                    continue
                yield from self._file(name, family, kind, owners, facts)

    def _tcp_facts(self) -> dict[int, TcpFacts]:
        try:
            self._require_own_network()
            return tcp_facts()
        except OSError as error:
            self.reasons["rtt_ms"] = error.strerror or str(error)
        return {}

    def _unix_facts(self) -> Optional[list[UnixFacts]]:
        """None where only /proc can be asked, with the reason why its rows are worth less."""
        try:
            self._require_own_network()
            return list(unix_facts())
        except OSError as error:
            why = error.strerror or str(error)
            self.reasons["unix"] = f"a name with a line feed may forge rows here: {why}"
        return None

    def _udp(self, family: str) -> Optional[Iterator[Socket]]:
        """None where only /proc can be asked, with the reason why its rows are worth less."""
        try:
            self._require_own_network()
            facts = udp_facts(socket.AF_INET if family == "inet" else socket.AF_INET6)
        except OSError as error:
            why = error.strerror or str(error)
            self.reasons["udp"] = f"some may be left out while others come and go: {why}"
            return None
        return (udp_socket(one, family) for one in facts)

    def _require_own_network(self) -> None:
        here = os.readlink(f"{self._proc}/self/ns/net")
        if here != os.readlink(f"{self._proc}/{self._pid}/ns/net"):
            raise OSError(errno.EXDEV, "the target has another network namespace than the agent")

    def _file(
        self, name: str, family: str, kind: str, owners: Owners, facts: dict[int, TcpFacts]
    ) -> Iterator[Socket]:
        try:
            with open(f"{self._proc}/{self._pid}/net/{name}", "rb") as file:
                file.readline()
                head = file.read(AT_ONCE_BYTES) + file.readline()
                for lines in (io.BytesIO(head), file):
                    for line in lines:
                        found = _parse(line, family, kind)
                        if found is not None:
                            yield self._joined(found, owners, facts)
        except FileNotFoundError:
            pass  # this kernel has no such protocol (IPv6 off, no udplite)
        except OSError as error:
            self.reasons[name] = reason_of(error)

    def _joined(self, found: Socket, owners: Owners, facts: dict[int, TcpFacts]) -> Socket:
        measured = facts.get(found.inode)
        return replace(
            found,
            pids=self._holders(found.inode, owners),
            rtt_ms=measured.rtt_ms if measured else None,
            retransmits=measured.retransmits if measured else None,
        )

    @staticmethod
    def _holders(inode: int, owners: Owners) -> Optional[tuple[int, ...]]:
        """() only when it is certain that nobody holds it."""
        if inode == 0:
            return ()
        held = owners.pids.get(inode)
        return held if held is not None else (None if owners.unread else ())


def _parse(line: bytes, family: str, kind: str) -> Optional[Socket]:
    try:
        return parse_unix(line) if family == "unix" else parse_inet(line, family, kind)
    except (ValueError, IndexError):
        return None  # the tail of an odd unix name with a line feed in it
