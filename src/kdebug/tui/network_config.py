"""Interfaces with rates, routes, resolver and counters as lines. Pure: two samples in, lines out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

from kdebug.protocol.network import Interface, NetworkConfig
from kdebug.tui.lines import BLANK, Line, holds
from kdebug.tui.text import fit
from kdebug.tui.theme import BAD, DIM, PLAIN, STRONG, WARN
from kdebug.units import UNKNOWN, age, size

WIDE = 110
"""Cells from which on the sums are shown beside the rates, and what each counter means."""
MAX_LINES = 400
"""Of each list: nobody reads more on a screen, and `kdebug net -o json` has them all."""
TROUBLE = {
    "Tcp.RetransSegs": "segments sent again: loss on the way, or a peer that is gone",
    "Tcp.AttemptFails": "connections that were refused or never answered",
    "Tcp.EstabResets": "connections that were reset",
    "TcpExt.ListenOverflows": "an accept queue was full: the listener accepts too slowly",
    "TcpExt.ListenDrops": "connections that a listener dropped",
    "TcpExt.TCPTimeouts": "retransmission timers that ran out",
    "TcpExt.TCPAbortOnMemory": "connections given up for lack of memory",
    "TcpExt.TCPBacklogDrop": "packets dropped because a socket's owner was too slow",
    "Udp.InErrors": "datagrams that could not be delivered",
    "Udp.RcvbufErrors": "datagrams dropped: the receiver reads too slowly",
    "Udp.SndbufErrors": "datagrams that found no room to be sent",
    "Udp.NoPorts": "datagrams to a port where nobody listens",
    "Ip.InDiscards": "packets thrown away on arrival",
    "Ip.OutDiscards": "packets thrown away before sending",
    "Ip.OutNoRoutes": "packets without a route",
}
"""Counters that grow when something is wrong, and what it is."""


@dataclass(frozen=True)
class Sample:
    at: float
    """Monotonic, when the answer came."""
    config: NetworkConfig


@dataclass(frozen=True)
class Samples:
    """What two looks, and the first one, say together."""

    now: Sample
    before: Optional[Sample] = None
    first: Optional[Sample] = None

    def then(self, sample: Sample) -> Samples:
        return Samples(sample, self.now, self.first or self.now)

    @property
    def seconds(self) -> float:
        return self.now.at - self.before.at if self.before else 0.0

    def interface_before(self, name: str) -> Optional[Interface]:
        interfaces = self.before.config.interfaces if self.before else ()
        return next((item for item in interfaces if item.name == name), None)

    def grew(self, counter: str) -> tuple[int, int]:
        """Since the look before, and since the first one. A counter that went back has begun anew."""
        value = self.now.config.counters.get(counter, 0)
        return _growth(value, self.before, counter), _growth(value, self.first, counter)


def _growth(value: int, since: Optional[Sample], counter: str) -> int:
    return max(0, value - since.config.counters.get(counter, value)) if since else 0


def config_lines(samples: Samples, width: int, needle: str = "") -> list[Line]:
    """All sections; with a needle only lines that hold its words, and no empty section."""
    config = samples.now.config
    lines: list[Line] = []
    for title, body in (
        (_interface_title(width), _interfaces(samples, width)),
        (f"{'ROUTE':<22} {'GATEWAY':<18} {'INTERFACE':<11} {'METRIC':>6}  FLAGS", _routes(config)),
        ("RESOLVER", _resolver(config)),
        (_counter_title(samples), _counters(samples, width)),
        ("NOT READABLE", (Line(f"{name}: {why}", WARN) for name, why in sorted(config.reasons.items()))),
    ):
        shown = [line for line in body if holds(line, needle)]
        if shown:
            lines += [*([BLANK] if lines else []), Line(title, STRONG), *shown[:MAX_LINES]]
        if len(shown) > MAX_LINES:
            lines.append(
                Line(f"… {len(shown) - MAX_LINES} more: / filters, `kdebug net -o json` has all", DIM)
            )
    if config.truncated:
        lines.append(Line("the agent cut interfaces or routes short: there are thousands", WARN))
    return lines or [Line("nothing holds these words", DIM)]


def _interface_title(width: int) -> str:
    title = f"{'INTERFACE':<12} {'STATE':<8} {'RX/s':>8} {'TX/s':>8} {'ERRORS':>7} {'DROPS':>7}"
    return title + (f" {'RX':>8} {'TX':>8} {'MTU':>6}" if width >= WIDE else "") + "  ADDRESSES"


def _interfaces(samples: Samples, width: int) -> Iterator[Line]:
    for item in samples.now.config.interfaces:
        old = samples.interface_before(item.name)
        rx, tx = (old.rx_bytes, old.tx_bytes) if old is not None else (None, None)
        errors, drops = item.rx_errors + item.tx_errors, item.rx_dropped + item.tx_dropped
        grew = old is not None and errors + drops > (
            old.rx_errors + old.tx_errors + old.rx_dropped + old.tx_dropped
        )
        text = f"{fit(item.name, 12)} {fit(item.state or UNKNOWN, 8)} "
        text += f"{_rate(rx, item.rx_bytes, samples.seconds):>8} "
        text += f"{_rate(tx, item.tx_bytes, samples.seconds):>8} "
        text += f"{_count(errors, grew):>7} {_count(drops, grew):>7}"
        if width >= WIDE:
            mtu = UNKNOWN if item.mtu is None else str(item.mtu)
            text += f" {size(item.rx_bytes):>8} {size(item.tx_bytes):>8} {mtu:>6}"
        yield Line(f"{text}  {' '.join(item.addresses)}", _interface_style(item, grew), len(text) + 2)


def _interface_style(item: Interface, grew: bool) -> str:
    if grew:
        return BAD
    return DIM if item.state == "down" else PLAIN


def _count(count: int, grew: bool) -> str:
    return f"{count}{'↑' if grew and count else ''}"


def _rate(before: Optional[int], now: int, seconds: float) -> str:
    """Bytes a second, or "-" until there are two samples."""
    if before is None or seconds <= 0 or now < before:
        return UNKNOWN
    return size((now - before) / seconds)


def _routes(config: NetworkConfig) -> Iterator[Line]:
    for route in config.routes:
        text = f"{fit(route.destination, 22)} {fit(route.gateway or 'on the link', 18)} "
        yield Line(text + f"{fit(route.interface, 11)} {route.metric:>6}  {route.flags}")


def _resolver(config: NetworkConfig) -> Iterator[Line]:
    dns = config.dns
    for name, value in (
        ("hostname", dns.hostname or ""),
        ("nameserver", " ".join(dns.nameservers)),
        ("search", " ".join(dns.search)),
        ("options", " ".join(dns.options)),
    ):
        if value:
            yield Line(f"{name:<12} {value}", PLAIN, 13)
    for line in dns.hosts:
        yield Line(f"{'hosts':<12} {line}", DIM, 13)
    for name, why in sorted(dns.reasons.items()):
        yield Line(f"{name:<12} not readable: {why}", WARN, 13)


def _counter_title(samples: Samples) -> str:
    since = f"SINCE {age(samples.now.at - samples.first.at)}" if samples.first else "SINCE"
    return f"{'COUNTER':<24} {'VALUE':>12} {'NOW':>8} {since:>12}"


def _counters(samples: Samples, width: int) -> Iterator[Line]:
    """Those that mean trouble first; what grew while we looked is marked, and its meaning told."""
    counters = samples.now.config.counters
    for name in sorted(counters, key=lambda name: (name not in TROUBLE, name)):
        lately, whole = samples.grew(name)
        trouble = name in TROUBLE and whole > 0
        text = f"{fit(name, 24)} {counters[name]:>12} {_plus(lately):>8} {_plus(whole):>12}"
        if name in TROUBLE and (trouble or width >= WIDE):
            text += f"  {'!' if trouble else ' '} {TROUBLE[name]}"
        style = BAD if trouble and lately else WARN if trouble else DIM if not whole else PLAIN
        yield Line(text, style, 63)


def _plus(count: int) -> str:
    return f"+{count}" if count else ""
