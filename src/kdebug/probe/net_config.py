"""Interfaces, routes, counters and the resolver of the target's network namespace."""

from __future__ import annotations

import ipaddress
import os
import re
import struct
import sys

from kdebug.annotations import Callable, Optional
from kdebug.errors import KdebugError
from kdebug.probe.identity import read_small
from kdebug.probe.net_addresses import interface_addresses
from kdebug.probe.process_static import reason_of
from kdebug.protocol.network import Dns, Interface, NetworkConfig, Route

ReadFile = Callable[[str], bytes]
MAX_ROWS = 2000
MAX_TEXT = 64 * 1024
"""Of each file of the resolver. As JSON it may be six times as long, and all of them are one answer."""
COUNTERS = {
    "Ip": ("InDiscards", "OutDiscards", "OutNoRoutes"),
    "Tcp": (
        "ActiveOpens",
        "PassiveOpens",
        "AttemptFails",
        "EstabResets",
        "CurrEstab",
        "RetransSegs",
        "OutSegs",
    ),
    "Udp": ("InErrors", "RcvbufErrors", "SndbufErrors", "NoPorts"),
    "TcpExt": ("ListenOverflows", "ListenDrops", "TCPTimeouts", "TCPAbortOnMemory", "TCPBacklogDrop"),
}
"""What explains lost or slow traffic; the whole files have 300 counters."""
_ROUTE_FLAGS = ((0x1, "U"), (0x2, "G"), (0x4, "H"), (0x10, "D"), (0x20, "M"), (0x200, "!"))
_UP = 0x1
_KERNELS_OWN = 0x80000000 | 0x00100000
"""RTF_LOCAL and RTF_ANYCAST (linux/ipv6_route.h): the machine's own addresses."""
_MULTICAST = "ff00::/8"
_BLANKS = re.compile("[ \t]+")


def network_config(pid: int, *, proc: str = "/proc", read_file: ReadFile) -> NetworkConfig:
    """Never raises for a single source: what cannot be read is empty with its reason."""
    reasons: dict[str, str] = {}

    def read(name: str) -> str:
        try:
            return _read_all(f"{proc}/{pid}/net/{name}")
        except OSError as error:
            reasons[name] = reason_of(error)
            return ""

    routes = parse_routes(read("route")) + parse_routes6(read("ipv6_route"))
    addresses = _addresses(read, proc, pid, reasons)
    interfaces = parse_dev(read("dev"), addresses, _link_facts(proc, pid, reasons))
    counters = parse_counters(read("snmp")) | parse_counters(read("netstat"))
    return NetworkConfig(
        interfaces=interfaces[:MAX_ROWS],
        routes=routes[:MAX_ROWS],
        dns=resolver(read_file),
        counters=counters,
        reasons=reasons,
        truncated=len(interfaces) > MAX_ROWS or len(routes) > MAX_ROWS,
    )


def _read_all(path: str) -> str:
    with open(path, "rb") as file:
        return file.read(1 << 20).decode("utf-8", "surrogateescape")


def _fields(line: str) -> list[str]:
    """Columns as the kernel separates them. str.split() and splitlines() also split at characters that an
    interface's name may hold (dev_valid_name refuses "/", ":" and ASCII blanks): it could forge a line."""
    return _BLANKS.split(line.strip(" \t"))


def parse_dev(
    text: str, addresses: dict[str, list[str]], links: dict[str, tuple[str, int, str]]
) -> tuple[Interface, ...]:
    """/proc/net/dev: "name: 8 receive columns, 8 transmit columns"."""
    found = []
    for line in text.split("\n")[2:]:
        name, _, numbers = line.rpartition(":")
        fields = _fields(numbers)
        name = name.strip(" ")
        if len(fields) < 16:
            continue
        counts = [int(field) for field in fields]
        state, mtu, mac = links.get(name, (None, None, None))
        found.append(
            Interface(name, state, mtu, mac, tuple(addresses.get(name, ())), *counts[:4], *counts[8:12])
        )
    return tuple(found)


def _addresses(
    read: Callable[[str], str], proc: str, pid: int, reasons: dict[str, str]
) -> dict[str, list[str]]:
    """Interface -> addresses, from the kernel's own word where it may be asked (`net_addresses`)."""
    try:
        if _shares_namespace(proc, pid):
            return interface_addresses()
    except OSError:
        pass  # a seccomp profile may forbid netlink
    return _matched_addresses(read, reasons)


def _matched_addresses(read: Callable[[str], str], reasons: dict[str, str]) -> dict[str, list[str]]:
    """From /proc, which does not name the interface of an IPv4 address: matched with connected routes."""
    found: dict[str, list[str]] = {}
    networks = connected_networks(read("route"))
    for local in local_addresses(read("fib_trie")):
        owner = _interface_of(local, networks)
        if owner is not None:
            found.setdefault(owner[0], []).append(f"{local}/{owner[1].prefixlen}")
            if not local.is_loopback:
                reasons.setdefault("addresses", "IPv4 matched with routes: /proc does not name interfaces")
        else:
            reasons["addresses"] = f"which interface has {local} cannot be told from /proc"
    for line in read("if_inet6").split("\n"):
        fields = _fields(line)
        if len(fields) >= 6:
            address = ipaddress.IPv6Address(bytes.fromhex(fields[0]))
            found.setdefault(fields[5], []).append(f"{address}/{int(fields[2], 16)}")
    return found


def local_addresses(fib_trie: str) -> list[ipaddress.IPv4Address]:
    """Addresses marked "/32 host LOCAL" in /proc/net/fib_trie, each once, in order."""
    found: dict[ipaddress.IPv4Address, None] = {}
    last = ""
    for line in fib_trie.split("\n"):
        text = line.strip()
        if text.startswith("|-- "):
            last = text[4:]
        elif text == "/32 host LOCAL":
            found[ipaddress.IPv4Address(last)] = None
    return list(found)


def connected_networks(route: str) -> list[tuple[str, ipaddress.IPv4Network]]:
    """(interface, network) of routes without a gateway, the narrowest first."""
    rows = [_fields(line) for line in route.split("\n")[1:]]
    found = [
        (row[0], ipaddress.IPv4Network((_ip4(row[1]), str(_ip4(row[7])))))
        for row in rows
        if len(row) >= 8 and int(row[2], 16) == 0 and int(row[3], 16) & _UP
    ]
    return sorted(found, key=lambda item: -item[1].prefixlen)


def _interface_of(
    local: ipaddress.IPv4Address, networks: list[tuple[str, ipaddress.IPv4Network]]
) -> Optional[tuple[str, ipaddress.IPv4Network]]:
    if local.is_loopback:
        return "lo", ipaddress.IPv4Network("127.0.0.0/8")
    return next((item for item in networks if local in item[1]), None)


def _ip4(text: str) -> ipaddress.IPv4Address:
    """Eight hex digits in the byte order of the host."""
    order = "<I" if sys.byteorder == "little" else ">I"
    return ipaddress.IPv4Address(struct.pack(order, int(text, 16)))


def parse_routes(text: str) -> tuple[Route, ...]:
    """/proc/net/route."""
    found = []
    for line in text.split("\n")[1:]:
        row = _fields(line)
        if len(row) < 8:
            continue
        network = ipaddress.IPv4Network((_ip4(row[1]), str(_ip4(row[7]))), strict=False)
        gateway = None if int(row[2], 16) == 0 else str(_ip4(row[2]))
        found.append(Route(str(network), gateway, row[0], int(row[6]), _flags(int(row[3], 16))))
    return tuple(found)


def parse_routes6(text: str) -> tuple[Route, ...]:
    """/proc/net/ipv6_route, which has every table; routes of the kernel itself are left out: on lo, to its
    own addresses, for all multicast."""
    found = []
    for line in text.split("\n"):
        row = _fields(line)
        if len(row) < 10 or row[9] == "lo":
            continue
        destination = f"{ipaddress.IPv6Address(bytes.fromhex(row[0]))}/{int(row[1], 16)}"
        flags = int(row[8], 16)
        if flags & _KERNELS_OWN or destination == _MULTICAST:
            continue
        hop = ipaddress.IPv6Address(bytes.fromhex(row[4]))
        gateway = None if hop.is_unspecified else str(hop)
        found.append(Route(destination, gateway, row[9], int(row[5], 16), _flags(flags)))
    return tuple(found)


def _flags(bits: int) -> str:
    return "".join(letter for bit, letter in _ROUTE_FLAGS if bits & bit)


def parse_counters(text: str) -> dict[str, int]:
    """/proc/net/snmp and netstat: pairs of lines, names above numbers."""
    lines = text.split("\n")
    found = {}
    for names, numbers in zip(lines[::2], lines[1::2]):
        group, _, keys = names.partition(":")
        values = dict(zip(keys.split(), numbers.partition(":")[2].split()))
        found.update(
            {f"{group}.{key}": int(values[key]) for key in COUNTERS.get(group, ()) if key in values}
        )
    return found


def _link_facts(proc: str, pid: int, reasons: dict[str, str]) -> dict[str, tuple[str, int, str]]:
    """name -> (state, mtu, mac) from /sys, which shows the network namespace of whoever mounted it:
    only asked when the agent shares the target's."""
    try:
        if not _shares_namespace(proc, pid):
            reasons["interfaces"] = "state, mtu and mac: the target has another network namespace"
            return {}
        base = "/sys/class/net"
        return {
            name: _link(f"{base}/{name}") for name in os.listdir(base) if os.path.isdir(f"{base}/{name}")
        }
    except OSError as error:
        reasons["interfaces"] = f"state, mtu and mac: {reason_of(error)}"
        return {}


def _shares_namespace(proc: str, pid: int) -> bool:
    """Whether the target's network namespace is the agent's. Raises `OSError`."""
    return os.readlink(f"{proc}/self/ns/net") == os.readlink(f"{proc}/{pid}/ns/net")


def _link(path: str) -> tuple[str, int, str]:
    def word(name: str) -> str:
        return read_small(f"{path}/{name}").decode("ascii", "replace").strip()

    return word("operstate"), int(word("mtu")), word("address")


def resolver(read_file: ReadFile) -> Dns:
    """resolv.conf(5), hosts(5), hostname(5) through the target's root."""
    reasons: dict[str, str] = {}

    def lines(path: str) -> list[str]:
        try:
            raw = read_file(path)
        except KdebugError as error:
            reasons[path] = error.why or error.what
            return []
        text = raw[:MAX_TEXT].decode("utf-8", "surrogateescape")
        if len(raw) > MAX_TEXT or text.count("\n") > MAX_ROWS:
            reasons[path] = f"longer than {MAX_TEXT} bytes or {MAX_ROWS} lines: the rest is not shown"
        bare = (line.split("#")[0].strip() for line in text.split("\n"))
        return [line for line in bare if line and not line.startswith(";")][:MAX_ROWS]

    servers, search, options = parse_resolv(lines("/etc/resolv.conf"))
    hosts, names = lines("/etc/hosts"), lines("/etc/hostname")
    return Dns(servers, search, options, tuple(hosts), names[0] if names else None, reasons)


def parse_resolv(lines: list[str]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """nameservers, search list (the last one wins) and options."""
    servers: list[str] = []
    search: list[str] = []
    options: list[str] = []
    for line in lines:
        word, *rest = line.split()
        if word == "nameserver" and rest:
            servers.append(rest[0])
        elif word in ("search", "domain"):
            search = rest
        elif word == "options":
            options += rest
    return tuple(servers), tuple(search), tuple(options)
