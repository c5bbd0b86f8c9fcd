"""The target itself: its processes as a tree, its files and what holds them, its sockets."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Optional

from kdebug.capture import told
from kdebug.capture.report.evidence import Evidence
from kdebug.capture.report.html import Content, tag
from kdebug.capture.report.parts import Section, bar, code, codes, count, facts, folded, row, table, under
from kdebug.process_model import ProcessRow, tree
from kdebug.protocol.network import Socket
from kdebug.protocol.processes import Process
from kdebug.protocol.search import HeldFile
from kdebug.units import UNKNOWN, age, size

MAX_PROCESSES = 300
MAX_COMMAND = 300
"""Characters."""
MAX_ROWS = 50
"""Of each list about files and sockets."""
MAX_SOCKETS = 15
"""In a state: the counts tell the rest."""
MAX_FILES = 200
"""That were taken; folded away."""


def processes(found: Evidence) -> Optional[Section]:
    everyone = found.processes
    if not everyone:
        return None
    largest = sorted(everyone, key=lambda p: (-p.rss_bytes, p.pid))[:MAX_PROCESSES]
    looks = [page.items for _, page in found.pages]
    first = {(p.pid, p.start_ticks): p for p in looks[0]}
    seconds = found.pages[-1][0] - found.pages[0][0]
    rows = tree(_row(process, first, seconds) for process in largest)
    columns = ("Process", "PID>", "User", "State", "Memory>", "Grew>", "CPU %>", "Threads>", "FDs>", "Age>")
    cells = (_cells(row, first, found.now) for row in rows)
    scope, many = found.pages[-1][1].scope, count(len(everyone), "process", "processes")
    return Section(
        "processes", "Processes",
        [
            tag("p", f"{many}: {scope}." if scope else f"{many}.", class_="dim"),
            table(columns, cells, MAX_PROCESSES, len(everyone)),
        ],
    )  # fmt: skip


def _row(process: Process, first: dict[tuple[int, int], Process], seconds: float) -> ProcessRow:
    """CPU over the whole time of the samples."""
    before = first.get((process.pid, process.start_ticks))
    percent = None
    if before is not None and seconds > 0:
        percent = max(0.0, 100 * (process.cpu_seconds - before.cpu_seconds) / seconds)
    return ProcessRow(process, percent)


def _cells(row: ProcessRow, first: dict[tuple[int, int], Process], now: float) -> list[Content]:
    process = row.process
    before = first.get((process.pid, process.start_ticks))
    grew = process.rss_bytes - before.rss_bytes if before is not None else 0
    command = code(process.command[:MAX_COMMAND])
    return [
        [tag("span", row.branch, class_="branch", aria_hidden="true") if row.branch else None, command],
        str(process.pid),
        process.user or ("" if process.uid is None else str(process.uid)),
        process.state,
        size(process.rss_bytes),
        f"{'+' if grew > 0 else '-'}{size(abs(grew))}" if grew else "",
        UNKNOWN if row.cpu_percent is None else f"{row.cpu_percent:.1f}",
        str(process.threads),
        UNKNOWN if process.fds is None else str(process.fds),
        age(now - process.started_at),
    ]


# Files


def files(found: Evidence) -> Optional[Section]:
    content: list[Content] = [
        *_held(found),
        *_usage(found),
        *_largest(found),
        *_systems(found),
        *_taken(found),
    ]
    return Section("files", "Files", content) if content else None


def _held(found: Evidence) -> list[Content]:
    """A file that several processes hold is told once: its space is freed when the last one closes it."""
    if not found.held:
        return []
    by_file: dict[object, list[HeldFile]] = defaultdict(list)
    for held in found.held:
        key = (held.device, held.inode, held.path) if held.inode is not None else (held.pid, held.fd)
        by_file[key].append(held)
    groups = sorted(by_file.values(), key=lambda rows: (-(rows[0].size_bytes or 0), rows[0].path))
    cells = (
        row(size(rows[0].size_bytes), code(rows[0].path), codes(dict.fromkeys(map(_holder, rows[:20]))))
        for rows in groups
    )
    return [
        under("Deleted and still open"),
        tag("p", "Space that is freed only when the last of those who hold it closes it.", class_="dim"),
        table(("Size>", "Path", "Held by"), cells, MAX_ROWS, len(groups)),
    ]


def _holder(row: HeldFile) -> str:
    return f"{row.process} ({row.pid}) fd {row.fd}"


def _usage(found: Evidence) -> list[Content]:
    content: list[Content] = []
    for path, rows in sorted(found.usage.items()):
        ordered = sorted(rows, key=lambda row: (-row.allocated_bytes, row.path))
        cells = (row(size(r.allocated_bytes), str(r.files), code(r.path)) for r in ordered)
        content += [
            under(f"What takes the space below {path}"),
            table(("Size>", "Files>", "Path"), cells, MAX_ROWS, len(rows)),
        ]
    return content


def _largest(found: Evidence) -> list[Content]:
    if not found.largest:
        return []
    cells = (row(size(e.allocated_bytes), size(e.size_bytes), code(path)) for path, e in found.largest)
    return [
        under("Largest files in the directories that were listed"),
        table(("On disk>", "Size>", "Path"), cells, MAX_ROWS, len(found.largest)),
    ]


def _systems(found: Evidence) -> list[Content]:
    mounts = {
        mount.device: mount
        for mount in reversed(found.mounts)
        if (mount.size_bytes or 0) > 0 < (mount.used_bytes or 0)
    }
    if not mounts:
        return []
    shares = {key: (mount.used_bytes or 0) / (mount.size_bytes or 1) for key, mount in mounts.items()}
    ordered = sorted(mounts, key=lambda key: (-shares[key], mounts[key].path))
    cells = (
        row(
            code(mounts[key].path), mounts[key].filesystem, f"{shares[key]:.0%}", bar(shares[key]),
            size(mounts[key].used_bytes), size(mounts[key].size_bytes))
        for key in ordered
    )  # fmt: skip
    columns = ("Mounted on", "Type", "Used>", "", "Used>", "Size>")
    return [under("File systems"), table(columns, cells, MAX_ROWS, len(ordered))]


def _taken(found: Evidence) -> list[Content]:
    rows = told.mappings(found.manifest.get("files"))
    if not rows:
        return []
    cells = (
        row(size(told.number(r.get("size_bytes"))), size(told.number(r.get("taken_bytes"))), code(_path(r)))
        for r in rows
    )
    inside = table(("Size>", "Taken>", "Path"), cells, MAX_FILES, len(rows))
    return [folded(f"{count(len(rows), 'file')} taken into the bundle", inside)]


def _path(row: dict[str, object]) -> str:
    return told.text(row.get("path")) or ""


# Sockets


def sockets(found: Evidence) -> Optional[Section]:
    if not found.sockets:
        return None
    items = [socket for socket in found.sockets[-1][1].items if socket.family in ("inet", "inet6")]
    names = {process.pid: process.name for process in found.processes}
    states = Counter((socket.type, socket.state) for socket in items)
    ranked = sorted(states.items(), key=lambda one: (-one[1], one[0]))
    content: list[Content] = [
        table(
            ("Type", "State", "Sockets>"),
            (row(t, s, str(n)) for (t, s), n in ranked),
            MAX_ROWS,
            len(ranked),
        )
    ]
    waiting = [socket for socket in items if socket.state == "CLOSE-WAIT"]
    if waiting:
        said = (
            "The peer has closed these connections; their owner has not, and holds a descriptor for each."
        )
        content += [under("CLOSE-WAIT"), tag("p", said, class_="dim"), _sockets(waiting, names)]
    listening = [socket for socket in items if socket.state == "LISTEN"]
    if listening:
        content += [under("Listening"), _sockets(listening, names)]
    peers = Counter(_peer(socket) for socket in items if socket.state not in ("LISTEN", "UNCONN"))
    if peers:
        ordered = sorted(peers.items(), key=lambda one: (-one[1], one[0]))
        cells = (row(code(peer), str(many)) for peer, many in ordered)
        content += [under("Peers"), table(("Address", "Connections>"), cells, 20, len(ordered))]
    return Section("sockets", "Sockets", [*content, _resolver(found)])


def _sockets(items: list[Socket], names: dict[int, str]) -> Content:
    ordered = sorted(items, key=lambda socket: (socket.local, socket.remote))
    cells = (
        row(
            code(s.local), code(s.remote), _owners(s, names), size(s.rx_queue_bytes), size(s.tx_queue_bytes)
        )
        for s in ordered
    )
    columns = ("Local", "Remote", "Held by", "Receive queue>", "Send queue>")
    return table(columns, cells, MAX_SOCKETS, len(ordered))


def _owners(socket: Socket, names: dict[int, str]) -> Content:
    if socket.pids is None:
        return "not to be seen"
    more = f" and {len(socket.pids) - 6} more" if len(socket.pids) > 6 else ""
    return [codes(f"{names.get(pid, '?')} ({pid})" for pid in socket.pids[:6]), more]


def _peer(socket: Socket) -> str:
    return socket.remote.rpartition(":")[0].strip("[]") or socket.remote


def _resolver(found: Evidence) -> Content:
    if found.network is None:
        return None
    dns = found.network.dns
    return facts([
        ("name servers", codes(dns.nameservers) if dns.nameservers else ""),
        ("search domains", codes(dns.search) if dns.search else ""),
        ("resolver options", codes(dns.options) if dns.options else ""),
        ("interfaces", codes(f"{i.name} {', '.join(i.addresses)}" for i in found.network.interfaces[:20])),
    ])  # fmt: skip
