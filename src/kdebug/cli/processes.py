"""ps, proc, top, env, limits, fds, maps: facts about processes."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Callable, Iterable
from typing import Any

import click

from kdebug.cli.console import Document, emit, note, write_bytes
from kdebug.cli.table import duration, exact, exact_list, rfc3339, size, table
from kdebug.cli.verb import Common, common_options, document_verb, one_target, with_target
from kdebug.errors import UsageError
from kdebug.protocol.processes import FdInfo, LimitInfo, MapInfo, Process, ProcessDetail, ProcessPage
from kdebug.sanitise import one_line
from kdebug.target import Target

SORTS: dict[str, Callable[[Process], Any]] = {
    "pid": lambda p: p.pid,
    "cpu": lambda p: -p.cpu_seconds,
    "rss": lambda p: -p.rss_bytes,
    "fds": lambda p: -(p.fds or 0),
    "start": lambda p: p.start_ticks,
    "name": lambda p: p.name,
}


def process_document(process: Process) -> dict[str, Any]:
    """One row in the JSON of design 5."""
    row: dict[str, Any] = {"pid": process.pid, "ppid": process.ppid}
    row |= {"uid": process.uid, "gid": process.gid}
    exact(row, "user", process.user)
    exact(row, "name", process.name)
    row |= {
        "state": process.state,
        "rss_bytes": process.rss_bytes,
        "vsize_bytes": process.vsize_bytes,
        "cpu_seconds": round(process.cpu_seconds, 3),
        "threads": process.threads,
        "fds": process.fds,
        "nice": process.nice,
        "started_at": rfc3339(process.started_at),
        "start_ticks": process.start_ticks,
    }
    exact_list(row, "cmdline", process.cmdline)
    row["cmdline_truncated"] = process.cmdline_truncated
    exact(row, "exe", process.exe)
    row |= {"container": process.container, "kernel_thread": process.kernel_thread}
    if process.reasons:
        row["reasons"] = process.reasons
    return row


def process_lines(processes: Iterable[Process], wide: bool) -> list[str]:
    headers = ["PID", "PPID", "USER", "ST", "RSS", "TIME", "THR", "FDS", "STARTED"]
    headers += ["NICE", "VSIZE", "CONTAINER", "EXE"] if wide else []
    rows = []
    for process in processes:
        row: list[object] = [process.pid, process.ppid, process.user or process.uid, process.state]
        row += [size(process.rss_bytes), duration(process.cpu_seconds), process.threads, process.fds]
        row.append((rfc3339(process.started_at) or "-")[:19])
        if wide:
            row += [process.nice, size(process.vsize_bytes), (process.container or "-")[:12], process.exe]
        rows.append([*row, process.command])
    return table([*headers, "COMMAND"], rows, right="PID PPID RSS TIME THR FDS NICE VSIZE")


def tree_lines(processes: Iterable[Process]) -> list[str]:
    """The table as a tree; a process whose parent is not in it is a root."""
    rows = sorted(processes, key=lambda p: p.pid)
    known = {process.pid for process in rows}
    children: dict[int, list[Process]] = {}
    for process in rows:
        children.setdefault(process.ppid if process.ppid in known else 0, []).append(process)
    lines: list[str] = []
    stack = [(process, 0) for process in reversed(children.get(0, []))]
    while stack:
        process, depth = stack.pop()
        indent = "  " * min(depth, 40)
        lines.append(one_line(f"{process.pid:>7} {size(process.rss_bytes):>8}  {indent}{process.command}"))
        stack += [(child, depth + 1) for child in reversed(children.get(process.pid, []))]
    return ["    PID      RSS  COMMAND", *lines]


async def ps(target: Target, sort: str, tree: bool) -> Document:
    page = await target.processes()
    return process_table(page, sort, tree, target.info.agent_container)


def process_table(page: ProcessPage, sort: str, tree: bool, own: str | None) -> Document:
    ordered = sorted(page.items, key=SORTS[sort])
    data = {
        "processes": [process_document(process) for process in ordered],
        "taken_at": rfc3339(page.taken_at),
        "scope": page.scope,
    }
    return Document(
        data,
        lambda wide: tree_lines(ordered) if tree else process_lines(ordered, wide),
        names=lambda: (str(process.pid) for process in ordered),
        notes=_hidden_facts(ordered, own),
    )


def _hidden_facts(processes: list[Process], own: str | None) -> list[str]:
    """A word about what is null. kdebug's own processes hide themselves, which nobody asked about."""
    reasons = [p.reasons for p in processes if p.reasons and (own is None or p.container != own)]
    if not reasons:
        return []
    hidden, reason = len(reasons), next(iter(reasons[0].values()))
    return [f"{hidden} of {len(processes)} processes hide some facts ({reason}); -o json has each reason"]


async def _one(target: Target, pid: int | None) -> ProcessDetail:
    if pid is None or pid == target.info.pid:
        return await target.process(target.info.pid, target.info.start_ticks)
    return await target.process(pid)


async def proc(target: Target, pid: int | None) -> Document:
    detail = await _one(target, pid)
    plain = dataclasses.asdict(detail)
    data = process_document(detail.process) | {
        key: value for key, value in plain.items() if key not in ("process", "reasons", "threads")
    }
    # `threads` is the count, as in ps; the threads themselves stand beside it.
    data["thread_list"] = plain["threads"]
    if reasons := {**detail.process.reasons, **detail.reasons}:
        data["reasons"] = reasons
    data = _lossless(data)
    return Document(data, lambda wide: _proc_lines(data), notes=[])


def _lossless(value: Any) -> Any:
    """Strings that no UTF-8 encodes, anywhere in a document, get their `_base64` neighbour."""
    if isinstance(value, dict):
        out: dict[str, Any] = {}
        for key, item in value.items():
            if isinstance(item, str):
                exact(out, key, item)
            elif isinstance(item, (list, tuple)) and all(isinstance(member, str) for member in item):
                exact_list(out, key, item)
            else:
                out[key] = _lossless(item)
        return out
    if isinstance(value, (list, tuple)):
        return [_lossless(item) for item in value]
    return value


def _proc_lines(data: dict[str, Any]) -> list[str]:
    lines = []
    for key, value in data.items():
        if key in ("limits", "reasons", "start_ticks"):
            continue
        lines += _field_lines(key, value)
    for name, reason in data.get("reasons", {}).items():
        lines.append(one_line(f"{name}: not readable: {reason}"))
    return lines


def _field_lines(key: str, value: Any) -> list[str]:
    if isinstance(value, dict):
        return [
            one_line(f"{key}.{name}: {_text(item)}") for name, item in value.items() if item is not None
        ]
    if key == "thread_list":
        return [
            one_line(f"thread {t['tid']} {t['name']} {t['state']} {t['cpu_seconds']:.2f}s") for t in value
        ]
    return [] if value is None else [one_line(f"{key}: {_text(value)}")]


def _text(value: Any) -> str:
    return " ".join(str(item) for item in value) if isinstance(value, list) else str(value)


async def env(target: Target, pid: int | None, reveal: bool) -> Document:
    from kdebug.mask import looks_secret

    page = await target.environ(pid or 0)
    rows: list[dict[str, Any]] = []
    masked = 0
    for variable in page.items:
        hide = not reveal and variable.value is not None and looks_secret(variable.name, variable.value)
        row: dict[str, Any] = {}
        exact(row, "name", variable.name)
        exact(row, "value", None if hide else variable.value)
        row["masked"] = hide
        masked += hide
        rows.append(row)
    notes = [f"{masked} values look secret and are masked; --reveal shows them"] if masked else []
    if page.truncated:
        notes.append("the environment is longer than the agent reads; the rest is not shown")
    data = {"pid": page.pid, "variables": rows, "truncated": page.truncated}
    return Document(data, lambda wide: [_env_line(row) for row in rows], notes=notes)


def _env_line(row: dict[str, Any]) -> str:
    if row["masked"]:
        return one_line(f"{row['name']}=********")
    return one_line(row["name"] if row["value"] is None else f"{row['name']}={row['value']}")


async def limits(target: Target, pid: int | None) -> Document:
    answer = await target.limits(pid or 0)
    cgroup = await target.cgroup()
    data = {
        "pid": answer.pid,
        "limits": [dataclasses.asdict(limit) for limit in answer.items],
        "cgroup": dataclasses.asdict(cgroup),
    }
    lines = table(
        ["LIMIT", "SOFT", "HARD", "USED", "UNIT"], map(_limit_row, answer.items), "SOFT HARD USED"
    )
    lines.append("")
    group = dataclasses.asdict(cgroup)
    lines += [
        one_line(f"cgroup {key}: {value}") for key, value in group.items() if value not in (None, {}, "")
    ]
    return Document(_lossless(data), lambda wide: lines)


def _limit_row(limit: LimitInfo) -> list[object]:
    unlimited = "unlimited"
    soft = unlimited if limit.soft is None else limit.soft
    hard = unlimited if limit.hard is None else limit.hard
    return [limit.name, soft, hard, limit.used, limit.unit]


async def fds(target: Target, pid: int | None) -> Document:
    page = await target.fds(pid or 0)
    rows = [_lossless(dataclasses.asdict(item)) for item in page.items]

    def line(item: FdInfo) -> list[object]:
        note = "deleted" if item.deleted else (item.error or "")
        return [item.fd, item.kind, item.access, size(item.size_bytes), item.position, item.target, note]

    headers = ["FD", "KIND", "MODE", "SIZE", "POSITION", "TARGET", "NOTE"]
    return Document(
        {"pid": page.pid, "fds": rows},
        lambda wide: table(headers, map(line, page.items), right="FD SIZE POSITION"),
    )


async def maps(target: Target, pid: int | None) -> Document:
    page = await target.maps(pid or 0)
    rows = [_lossless(dataclasses.asdict(item)) for item in page.items]

    def line(item: MapInfo) -> list[object]:
        span = f"{item.start:012x}-{item.end:012x}"
        return [span, size(item.end - item.start), item.permissions, item.path or ""]

    headers = ["ADDRESS", "SIZE", "PERM", "PATH"]
    return Document(
        {"pid": page.pid, "maps": rows}, lambda wide: table(headers, map(line, page.items), right="SIZE")
    )


@click.command("top", help="Watch the processes that use most. CPU% is measured between two looks.")
@click.argument("target", nargs=-1, metavar="TARGET")
@click.option(
    "-d", "--delay", type=click.FloatRange(min=0.1), default=1.0, show_default=True, metavar="SECONDS"
)
@click.option("--iterations", type=click.IntRange(min=1), help="stop after this many looks")
@click.option("--rows", type=click.IntRange(min=1), default=20, show_default=True)
@common_options(("table", "json"))
def top(target: tuple[str, ...], delay: float, iterations: int | None, rows: int, common: Common) -> int:
    expression = one_target(target, common)
    if expression.path:
        raise UsageError("top takes no path")
    if iterations is None:
        iterations = 10**9 if os.isatty(1) else 1

    async def work(opened: Target) -> int:
        before = await opened.processes(fds=False)
        told = False
        for _ in range(iterations):
            pause = _pause(delay, before)
            if pause > delay and not told:
                told = True
                note(f"looking every {pause:.1f} s, not {delay:g}, to use at most 2% of the target's CPU")
            await asyncio.sleep(pause)
            after = await opened.processes(fds=False)
            _show_top(before, after, rows, common.output)
            before = after
        return 0

    return with_target(expression, common, work)


def _pause(delay: float, before: ProcessPage) -> float:
    """What the user asked for, or more where the agent would use over its share of a small pod's CPU."""
    wanted = before.next_after_seconds
    return wanted if wanted > max(delay, SHORTEST_SECONDS) else delay


SHORTEST_SECONDS = 1.0
"""The agent's advice for targets that can afford any pace."""


def cpu_percent(before: ProcessPage, after: ProcessPage) -> dict[int, float]:
    """pid -> share of one core in percent between two looks, for processes present in both."""
    seconds = after.taken_at - before.taken_at
    old = {(p.pid, p.start_ticks): p.cpu_seconds for p in before.items}
    if seconds <= 0:
        return {}
    return {
        p.pid: round(100 * (p.cpu_seconds - old[p.pid, p.start_ticks]) / seconds, 1)
        for p in after.items
        if (p.pid, p.start_ticks) in old
    }


def _show_top(before: ProcessPage, after: ProcessPage, rows: int, output: str) -> None:
    percent = cpu_percent(before, after)
    ordered = sorted(after.items, key=lambda p: (-percent.get(p.pid, 0.0), -p.rss_bytes))[:rows]
    data = {
        "taken_at": rfc3339(after.taken_at),
        "processes": [process_document(p) | {"cpu_percent": percent.get(p.pid)} for p in ordered],
    }

    def lines(wide: bool) -> list[str]:
        headers = ["PID", "CPU%", "RSS", "TIME", "THR", "ST", "COMMAND"]
        cells = [
            [p.pid, percent.get(p.pid), size(p.rss_bytes), duration(p.cpu_seconds)]
            + [p.threads, p.state, p.command]
            for p in ordered
        ]
        return table(headers, cells, right="PID CPU% RSS TIME THR")

    if os.isatty(1) and output == "table":
        write_bytes(b"\x1b[H\x1b[2J")
    emit(Document(data, lines), output)


_PID = click.option("--pid", type=click.IntRange(min=1), help="another process than the target's first")

COMMANDS: dict[str, click.Command] = {
    "ps": document_verb(
        "ps",
        ps,
        click.option("--sort", type=click.Choice(sorted(SORTS)), default="pid", show_default=True),
        click.option("--tree", is_flag=True, help="show parents and children"),
        formats=("table", "wide", "json", "yaml", "name"),
        help_text="List the processes of the target's PID namespace.",
    ),
    "proc": document_verb("proc", proc, _PID, help_text="Show one process in full."),
    "top": top,
    "env": document_verb(
        "env",
        env,
        _PID,
        click.option("--reveal", is_flag=True, help="show values that look secret"),
        help_text="Show a process' environment as it was when its program started.",
    ),
    "limits": document_verb("limits", limits, _PID, help_text="Show rlimits and the cgroup's limits."),
    "fds": document_verb("fds", fds, _PID, help_text="List open descriptors."),
    "maps": document_verb("maps", maps, _PID, help_text="List memory mappings."),
}
