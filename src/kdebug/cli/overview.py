"""What attach and demo print in a pipe: one screen of what matters, and what to type next."""

from __future__ import annotations

import dataclasses
from typing import Any

from kdebug.cli.console import Document
from kdebug.cli.files import entry_document
from kdebug.cli.network import order, socket_document, socket_lines
from kdebug.cli.processes import process_document, process_lines
from kdebug.cli.system import access_checks
from kdebug.cli.table import exact, size, table
from kdebug.errors import KdebugError
from kdebug.mask import looks_secret
from kdebug.protocol.files import Entry
from kdebug.protocol.network import Socket
from kdebug.protocol.processes import FdInfo, Process
from kdebug.sanitise import one_line
from kdebug.target import Target

ROWS = 12
"""Of each list: together one screen of 50 lines."""


@dataclasses.dataclass
class Facts:
    """What one look found; a list that could not be read is empty and has its reason."""

    processes: list[Process]
    sockets: list[Socket]
    entries: list[Entry]
    deleted: list[tuple[Process, FdInfo]]
    checks: list[dict[str, str]]
    memory: str
    problems: list[str]


async def gather(target: Target) -> Facts:
    facts = Facts([], [], [], [], [], "", [])
    facts.processes = sorted((await target.processes()).items, key=lambda p: p.pid)
    facts.checks = access_checks(await target.access())
    for what, step in (
        ("sockets", _sockets),
        ("files", _files),
        ("descriptors", _deleted),
        ("memory", _memory),
    ):
        try:
            await step(target, facts)
        except KdebugError as error:
            facts.problems.append(f"{what}: {error}")
    return facts


async def _sockets(target: Target, facts: Facts) -> None:
    facts.sockets = sorted((await target.sockets(("inet", "inet6"))).items, key=order)


async def _files(target: Target, facts: Facts) -> None:
    facts.entries = sorted((await target.list_dir("/")).entries, key=lambda entry: entry.name)


async def _deleted(target: Target, facts: Facts) -> None:
    """Files without a name that somebody still holds: disk space that nobody finds with du."""
    for process in facts.processes[: 4 * ROWS]:
        if process.container != target.info.container:
            continue
        for item in (await target.fds(process.pid)).items:
            if item.deleted and item.kind == "file":
                facts.deleted.append((process, item))


async def _memory(target: Target, facts: Facts) -> None:
    group = await target.cgroup()
    limit = "no limit" if group.memory_limit_bytes is None else size(group.memory_limit_bytes)
    if group.memory_usage_bytes is not None:
        facts.memory = (
            f"memory {size(group.memory_working_set_bytes or group.memory_usage_bytes)} of {limit}"
        )


def facts_document(target: Target, facts: Facts) -> dict[str, Any]:
    return {
        "target": dataclasses.asdict(target.info),
        "processes": [process_document(process) for process in facts.processes],
        "sockets": [socket_document(entry) for entry in facts.sockets],
        "files": [entry_document(entry) for entry in facts.entries],
        "deleted_files": [_deleted_document(process, item) for process, item in facts.deleted],
        "access": facts.checks,
        "problems": facts.problems,
    }


def _deleted_document(process: Process, item: FdInfo) -> dict[str, Any]:
    row: dict[str, Any] = {"pid": process.pid, "fd": item.fd}
    exact(row, "target", item.target)
    row["size_bytes"] = item.size_bytes
    return row


def facts_lines(target: Target, facts: Facts) -> list[str]:
    info = target.info
    where = f", container {info.container[:12]}" if info.container else ""
    lines = [one_line(f"{target.label}: {info.name} (PID {info.pid}{where}) {facts.memory}")]
    denied = [c["name"] for c in facts.checks if c["status"] == "fail"]
    lines.append(
        f"access: {'everything that was tried works' if not denied else 'no ' + ', no '.join(denied)}"
    )
    lines += _section("processes", process_lines(facts.processes[:ROWS], False), len(facts.processes))
    lines += _section("sockets", socket_lines(facts.sockets[:ROWS]), len(facts.sockets))
    files = table(
        ["NAME", "KIND", "SIZE"],
        [[_name(e), e.kind, size(e.size_bytes)] for e in facts.entries[:16]],
        "SIZE",
    )
    lines += _section("files in /", files, len(facts.entries))
    lines += [
        one_line(
            f"deleted but open: {size(item.size_bytes)} {item.target}, PID {p.pid} ({p.name}), fd {item.fd}"
        )
        for p, item in facts.deleted[:ROWS]
    ]
    return lines + [one_line(problem) for problem in facts.problems]


def _name(entry: Entry) -> str:
    return entry.name if entry.link_target is None else f"{entry.name} -> {entry.link_target}"


def _section(title: str, rows: list[str], count: int) -> list[str]:
    more = f" (first {len(rows) - 1} of {count})" if count > len(rows) - 1 else ""
    return ["", f"{title}{more}", *rows]


def next_lines(label: str) -> list[str]:
    return [
        "",
        "next:",
        f"  kdebug proc {label}          the first process in full",
        f"  kdebug ls -l {label.rstrip(':')}:/etc      its files",
        f"  kdebug net {label} --unix    every socket",
        f"  kdebug doctor {label}        what can be read here, and what would unlock the rest",
    ]


async def attach_document(target: Target) -> Document:
    facts = await gather(target)
    lines = [*facts_lines(target, facts), *next_lines(target.label)]
    return Document(facts_document(target, facts), lambda wide: lines, notes=list(target.account))


async def demo_document(target: Target) -> Document:
    """The practice target, with its secret masked and its config read through absolute symlinks."""
    facts = await gather(target)
    lines = facts_lines(target, facts)
    config = await target.stat("/etc/app/config.yaml", follow=True)
    lines.append(
        one_line(f"config: /etc/app/config.yaml -> {config.resolved}, {size(config.entry.size_bytes)}")
    )
    secrets = [v.name for v in (await target.environ()).items if v.value and looks_secret(v.name, v.value)]
    lines.append(one_line(f"secrets in the environment (masked): {' '.join(secrets)}"))
    lines += [
        "",
        "The practice target ended with this command. Every verb starts its own:",
        "  kdebug top demo: --iterations 3      which worker grows?",
        "  kdebug fds demo:           which file is deleted and still open?",
        "  kdebug net demo:           who sits in CLOSE-WAIT?",
        "  kdebug ls -l demo:/etc/app",
        "  kdebug cat demo:/etc/app/config.yaml",
    ]
    return Document(facts_document(target, facts), lambda wide: lines)
