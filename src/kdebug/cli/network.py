"""net: sockets with their owners, interfaces, routes and the resolver."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from kdebug.cli.console import Document
from kdebug.cli.table import exact, exact_list, size, table
from kdebug.cli.verb import document_verb
from kdebug.protocol.network import Dns, Interface, Route, Socket, SocketPage
from kdebug.target import Target

FAMILIES = ("inet", "inet6", "unix")


def socket_document(entry: Socket) -> dict[str, Any]:
    """One socket in the JSON of design 5."""
    row: dict[str, Any] = {"family": entry.family, "type": entry.type}
    exact(row, "local", entry.local)
    exact(row, "remote", entry.remote)
    row |= {"state": entry.state, "inode": entry.inode, "uid": entry.uid}
    row["pids"] = None if entry.pids is None else list(entry.pids)
    row |= {"rx_queue_bytes": entry.rx_queue_bytes, "tx_queue_bytes": entry.tx_queue_bytes}
    row |= {"rtt_ms": entry.rtt_ms, "retransmits": entry.retransmits}
    return row


def socket_row(entry: Socket) -> list[object]:
    pids = None if entry.pids is None else ",".join(map(str, entry.pids))
    row: list[object] = [entry.type, entry.state, entry.rx_queue_bytes, entry.tx_queue_bytes]
    return [*row, entry.local, entry.remote, pids, entry.rtt_ms, entry.retransmits]


def socket_lines(sockets: list[Socket]) -> list[str]:
    headers = ["TYPE", "STATE", "RECV-Q", "SEND-Q", "LOCAL", "REMOTE", "PIDS", "RTT-MS", "RETRANS"]
    return table(headers, map(socket_row, sockets), right="RECV-Q SEND-Q RTT-MS RETRANS")


def order(entry: Socket) -> tuple[object, ...]:
    """Listeners first, then by type and address: what a reader looks for first."""
    return (entry.family == "unix", entry.state not in ("LISTEN", "UNCONN"), entry.type, entry.local)


async def net(target: Target, unix: bool, interfaces: bool) -> Document:
    page = await target.sockets(FAMILIES if unix else FAMILIES[:2])
    config = await target.network()
    sockets = sorted(page.items, key=order)
    data: dict[str, Any] = {
        "sockets": [socket_document(entry) for entry in sockets],
        "interfaces": [_plain(item) for item in config.interfaces],
        "routes": [_plain(item) for item in config.routes],
        "dns": _plain(config.dns),
        "counters": dict(config.counters),
        "unread_processes": page.unread_processes,
        "reasons": {**page.reasons, **config.reasons},
    }

    def lines(wide: bool) -> list[str]:
        shown = socket_lines(sockets)
        if wide or interfaces:
            shown += ["", *interface_lines(config.interfaces), "", *route_lines(config.routes)]
            shown += ["", *dns_lines(config.dns)]
        return shown

    return Document(data, lines, notes=_notes(page))


def _plain(record: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in dataclasses.asdict(record).items():
        if isinstance(value, str):
            exact(out, key, value)
        elif isinstance(value, (tuple, list)):
            exact_list(out, key, value)
        else:
            out[key] = value
    return out


def _notes(page: SocketPage) -> list[str]:
    notes = []
    if page.unread_processes:
        notes.append(
            f"the descriptors of {page.unread_processes} processes may not be read: some owners are unknown"
        )
    if "rtt_ms" in page.reasons:
        notes.append(f"no round-trip times: {page.reasons['rtt_ms']}")
    if "udp" in page.reasons:
        notes.append(f"udp sockets: {page.reasons['udp']}")
    if "unix" in page.reasons:
        notes.append(f"unix sockets: {page.reasons['unix']}")
    return notes


def interface_lines(interfaces: tuple[Interface, ...]) -> list[str]:
    rows = [
        [i.name, i.state, i.mtu, " ".join(i.addresses), size(i.rx_bytes), size(i.tx_bytes)]
        + [i.rx_errors + i.rx_dropped, i.tx_errors + i.tx_dropped]
        for i in interfaces
    ]
    headers = ["INTERFACE", "STATE", "MTU", "ADDRESSES", "RX", "TX", "RX-LOST", "TX-LOST"]
    return table(headers, rows, right="MTU RX TX RX-LOST TX-LOST")


def route_lines(routes: tuple[Route, ...]) -> list[str]:
    rows = [[r.destination, r.gateway, r.interface, r.metric, r.flags] for r in routes]
    return table(["DESTINATION", "GATEWAY", "INTERFACE", "METRIC", "FLAGS"], rows, right="METRIC")


def dns_lines(dns: Dns) -> list[str]:
    rows: list[list[object]] = [
        ["nameservers", " ".join(dns.nameservers)],
        ["search", " ".join(dns.search)],
        ["options", " ".join(dns.options)],
        ["hostname", dns.hostname],
    ]
    rows += [[name, f"not readable: {reason}"] for name, reason in dns.reasons.items()]
    return table(["RESOLVER", ""], rows)


COMMANDS: dict[str, click.Command] = {
    "net": document_verb(
        "net",
        net,
        click.option("--unix", is_flag=True, help="unix sockets too"),
        click.option(
            "--interfaces", is_flag=True, help="also interfaces, routes and resolver (as -o wide)"
        ),
        help_text="List the sockets of the target's network namespace and the processes that hold them.",
    )
}
