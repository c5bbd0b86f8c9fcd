"""What is compared of a target: texts by name, and numbers, in sections. Pure.

Everything becomes one of these two, so that telling two apart, and finding the odd one of many, need to
know nothing of processes or sockets.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from kdebug.mask import looks_secret
from kdebug.protocol.files import Entry
from kdebug.protocol.network import Socket
from kdebug.protocol.processes import EnvVar, FdInfo, LimitInfo, MapInfo, Process
from kdebug.protocol.system import CgroupInfo
from kdebug.units import KIND_BITS, rfc3339
from kdebug.usage import memory_bytes

BYTES, COUNT = "bytes", "count"
TARGET, PROCESSES, FDS, SOCKETS, MAPS = "target", "processes", "fds", "sockets", "maps"
LIMITS, ENV, FILES, MODIFIED, IMAGES = "limits", "env", "files", "modified", "images"
SECTIONS = (TARGET, IMAGES, PROCESSES, LIMITS, ENV, FDS, SOCKETS, MAPS, FILES, MODIFIED)
"""In the order in which they are shown."""
MASKED = "***"
TOKEN = re.compile(r"\[REDACTED:([a-z0-9-]+):[0-9a-f]{8}\]")
"""What stands in a capture where a secret stood: comparable among bundles of one set."""
MAX_NAME = 300
"""Characters of a command line: whoever differs behind that is the same here."""


@dataclass(frozen=True)
class Text:
    """A value as it is compared, and as it is shown: secrets are masked."""

    value: str
    shown: str = ""

    def __str__(self) -> str:
        return self.shown or self.value


@dataclass(frozen=True)
class Amount:
    value: float
    kind: str


@dataclass
class Facts:
    label: str
    at: float = 0.0
    """Unix time, by the agent's clock."""
    names: tuple[tuple[str, str], ...] = ()
    """(what is the target's own, such as its pod's name, a word for it)."""
    texts: dict[str, dict[str, Text]] = field(default_factory=lambda: defaultdict(dict))
    numbers: dict[str, dict[str, Amount]] = field(default_factory=lambda: defaultdict(dict))
    missing: dict[str, str] = field(default_factory=dict)
    """Section -> why nothing of it is known."""

    def lacks(self, section: str) -> str:
        """Why a section is missing; "" when it is there."""
        return self.missing.get(FILES if section == MODIFIED else section, "")

    def tokens(self, section: str) -> set[str]:
        return {match[0] for text in self.texts[section].values() for match in TOKEN.finditer(text.value)}

    def put(self, section: str, name: str, value: str, shown: str = "") -> None:
        self.texts[section][name] = Text(value, shown)

    def count(self, section: str, name: str, value: float | None, kind: str = COUNT) -> None:
        if value is not None:
            self.numbers[section][name] = Amount(float(value), kind)


def add_processes(facts: Facts, processes: Iterable[Process]) -> None:
    """By command line: pids are others in each replica and after each restart."""
    groups: dict[str, list[Process]] = defaultdict(list)
    for process in processes:
        groups[process.command[:MAX_NAME]].append(process)
    for command, group in groups.items():
        facts.put(PROCESSES, command, "")
        facts.count(PROCESSES, f"{command}: processes", len(group))
        facts.count(PROCESSES, f"{command}: rss", sum(p.rss_bytes for p in group), BYTES)
        facts.count(PROCESSES, f"{command}: threads", sum(p.threads for p in group))
        fds = [p.fds for p in group if p.fds is not None]
        facts.count(PROCESSES, f"{command}: fds", sum(fds) if len(fds) == len(group) else None)


def add_cgroup(facts: Facts, group: CgroupInfo) -> None:
    facts.count(TARGET, "memory", memory_bytes(group), BYTES)
    facts.count(TARGET, "oom kills", group.oom_kills)
    for name, limit in (
        ("memory limit", group.memory_limit_bytes),
        ("cpu limit", group.cpu_limit_cores),
        ("pids limit", group.pids_limit),
    ):
        facts.put(LIMITS, name, "none" if limit is None else f"{limit:g}" if name[0] == "c" else str(limit))


def add_limits(facts: Facts, limits: Iterable[LimitInfo]) -> None:
    for limit in limits:
        soft, hard = ("unlimited" if v is None else str(v) for v in (limit.soft, limit.hard))
        facts.put(LIMITS, limit.name, f"{soft} (hard {hard})")


def add_environ(facts: Facts, variables: Iterable[EnvVar]) -> None:
    for variable in variables:
        value = variable.value or ""
        secret = looks_secret(variable.name, value) and not TOKEN.fullmatch(value)
        facts.put(ENV, variable.name, value, MASKED if secret else "")


def add_fds(facts: Facts, fds: Iterable[FdInfo]) -> None:
    """Files by their names; what has none by its kind."""
    kinds: Counter[str] = Counter()
    for item in fds:
        kinds[f"{item.kind}, deleted" if item.deleted else item.kind] += 1
        if item.kind in ("file", "dir", "char", "block", "fifo") and item.target and not item.deleted:
            facts.put(FDS, item.target, "")
    for kind, number in kinds.items():
        facts.count(FDS, kind, number)


def add_sockets(facts: Facts, sockets: Iterable[Socket]) -> None:
    """Listeners by address; connections by state, and by the peer where it is the one who listens."""
    found = [one for one in sockets if one.family in ("inet", "inet6")]
    listening = {one.local.rpartition(":")[2] for one in found if one.state == "LISTEN"}
    states: Counter[str] = Counter()
    peers: Counter[str] = Counter()
    for one in found:
        if one.state == "LISTEN" or (one.type == "udp" and one.state == "UNCONN"):
            facts.put(SOCKETS, f"{one.type} {one.state} {one.local}", "")
            continue
        states[f"{one.type} {one.state}"] += 1
        if one.state == "ESTAB" and one.local.rpartition(":")[2] not in listening:
            peers[f"{one.type} to {one.remote}"] += 1
    for name, number in [*states.items(), *peers.items()]:
        facts.count(SOCKETS, name, number)


def add_maps(facts: Facts, maps: Iterable[MapInfo]) -> None:
    anonymous, count = 0, 0
    for item in maps:
        count += 1
        if not item.path or item.path.startswith("["):
            anonymous += item.end - item.start
        elif not item.path.startswith(("/dev/zero", "/memfd:", "/SYSV")):
            facts.put(MAPS, item.path, "deleted" if item.deleted else "")
    facts.count(MAPS, "mappings", count)
    facts.count(MAPS, "anonymous", anonymous, BYTES)


def add_entries(facts: Facts, folder: str, entries: Iterable[Entry]) -> None:
    for entry in entries:
        path = f"{folder.rstrip('/')}/{entry.name}"
        bits = KIND_BITS.get(entry.kind, 0) | (entry.mode or 0)
        size = f", {entry.size_bytes} bytes" if entry.kind == "file" else ""
        link = f" to {entry.link_target}" if entry.link_target else ""
        owner = f"{entry.uid}:{entry.gid}"
        facts.put(FILES, path, f"{entry.kind}{link}, mode {bits & 0o7777:04o}, owner {owner}{size}")
        if entry.kind == "file" and entry.mtime_ns is not None:
            facts.put(MODIFIED, path, rfc3339(entry.mtime_ns / 1e9) or str(entry.mtime_ns))
