"""Overview as lines of styled text: pure, from facts to what is read. What is remote is made safe here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Optional

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from kdebug.findings import NEARLY, THROTTLED
from kdebug.process_model import ProcessRow
from kdebug.protocol.system import Access, CgroupInfo
from kdebug.sanitise import one_line
from kdebug.target.cluster import Story
from kdebug.tui.text import MAX_SHOWN, fit
from kdebug.tui.theme import ACCENT, BAD, DIM, GOOD, PLAIN, STRONG, WARN
from kdebug.units import age, size, unix_time
from kdebug.usage import Usage, memory_bytes, sparkline

Line = list[tuple[str, str]]
"""(text, name of a style), in the order of the line."""

LABEL = 10
SPARK = 24
TOP = 5
"""Processes in each list."""
CHANGES = 12


def drawn(lines: Iterable[Line], width: int, styles: dict[str, Style]) -> Text:
    """The lines as a `Text` of at most `width` cells each; no remote character is left as it came."""
    text = Text(no_wrap=True, end="")
    for number, line in enumerate(lines):
        text.append("\n" if number else "")
        room = width
        for part, style in line:
            safe = one_line(part[:MAX_SHOWN])
            shown = fit(safe, room) if cell_len(safe) > room else safe
            text.append(shown, styles[style])
            room -= cell_len(shown)
            if room <= 0:
                break
    return text


def usage_lines(usage: Usage, width: int) -> list[Line]:
    group = usage.last
    if group is None:
        return []
    bars = max(8, min(SPARK * 2, width - 64))
    lines = [_memory(usage, group, bars), _cpu(usage, group, bars), _pids(group)]
    if group.pressure:
        lines.append(_pressure(group))
    return [[("Usage", STRONG), (_span(usage), DIM)], *(line for line in lines if line)]


def _span(usage: Usage) -> str:
    return f"  the last {age(usage.seconds)}" if usage.seconds >= 1 else ""


def _memory(usage: Usage, group: CgroupInfo, bars: int) -> Line:
    used, limit = memory_bytes(group), group.memory_limit_bytes
    if used is None:
        return _unknown("memory", group, "memory_usage_bytes", "memory")
    share = used / limit if limit else None
    style = BAD if share is not None and share >= NEARLY else PLAIN
    of = f" of {size(limit)}  {share:.0%}" if share is not None else "  no limit"
    spark = sparkline(usage.memory(), bars, limit)
    more = f"  peak {size(group.memory_peak_bytes)}" if group.memory_peak_bytes is not None else ""
    used_now = size(used) + of
    return [("memory".ljust(LABEL), DIM), (spark.ljust(bars) + " ", ACCENT), (used_now, style), (more, DIM)]


def _cpu(usage: Usage, group: CgroupInfo, bars: int) -> Line:
    if group.cpu_usage_seconds is None:
        return _unknown("cpu", group, "cpu_usage_seconds", "cpu", "cpuacct")
    cores, limit = usage.cores(), group.cpu_limit_cores
    now = f"{cores[-1]:.2f}" if cores else "-"
    of = f" of {limit:.2f} cores" if limit else " cores, no limit"
    share = usage.throttled()
    throttled = "" if share is None or not limit else f"  throttled in {share:.0%} of periods"
    style = WARN if share is not None and share >= THROTTLED else DIM
    spark = sparkline(cores, bars, limit).ljust(bars)
    return [("cpu".ljust(LABEL), DIM), (spark + " ", ACCENT), (now + of, PLAIN), (throttled, style)]


def _pids(group: CgroupInfo) -> Line:
    if group.pids_current is None:
        return []
    of = f" of {group.pids_limit}" if group.pids_limit else ", no limit"
    return [("pids".ljust(LABEL), DIM), (f"{group.pids_current}{of}", PLAIN)]


def _pressure(group: CgroupInfo) -> Line:
    shown = [
        f"{name} {value.avg10:.1f} %" for name, value in sorted(group.pressure.items()) if value is not None
    ]
    return [("pressure".ljust(LABEL), DIM), ("  ".join(shown), PLAIN)] if shown else []


def _unknown(label: str, group: CgroupInfo, *names: str) -> Line:
    reason = next((group.reasons[name] for name in names if name in group.reasons), "not known")
    return [(label.ljust(LABEL), DIM), ("- ", PLAIN), (reason, DIM)]


def access_line(access: Optional[Access], rung: str, read_only: bool) -> Line:
    """What the agent may do here, in one line."""
    if access is None:
        return []
    denied = [ability.name for ability in access.abilities if ability.allowed is False]
    facts = [
        f"uid {access.uid}",
        *([f"rung {rung}"] if rung else []),
        *(["read-only"] if read_only else []),
    ]
    said = ("no " + ", no ".join(denied), WARN) if denied else ("everything that was tried works", GOOD)
    return [("access".ljust(LABEL), DIM), (", ".join(facts) + ": ", PLAIN), said]


def top_lines(rows: Sequence[ProcessRow], width: int, wide: bool) -> list[Line]:
    """Who uses most of the CPU, and who most of the memory; side by side where there is room."""
    others = [row for row in rows if not row.ours]
    if not others:
        return []
    by_cpu = sorted(others, key=lambda row: (-(row.cpu_percent or 0.0), row.process.pid))[:TOP]
    by_rss = sorted(others, key=lambda row: (-row.process.rss_bytes, row.process.pid))[:TOP]
    if not wide:
        return [*_processes("Top by CPU", by_cpu, width), [], *_processes("Top by memory", by_rss, width)]
    half = width // 2 - 1
    left, right = _processes("Top by CPU", by_cpu, half), _processes("Top by memory", by_rss, half)
    return [[*_padded(a, half + 2), *b] for a, b in zip(left, right)]


def _processes(title: str, rows: Sequence[ProcessRow], width: int) -> list[Line]:
    head: Line = [(f"{title:<13}", STRONG), ("    PID   CPU%      RSS", DIM)]
    return [head, *(_process(row, width) for row in rows)]


def _process(row: ProcessRow, width: int) -> Line:
    cpu = "-" if row.cpu_percent is None else f"{row.cpu_percent:.1f}"
    process = row.process
    numbers = f"{process.pid:>7} {cpu:>6} {size(process.rss_bytes):>8}"
    name = fit(process.name, 13)
    return [
        (name, PLAIN),
        (numbers, PLAIN),
        ("  " + fit(row.process.command, max(0, width - 40)).rstrip(), DIM),
    ]


def _padded(line: Line, width: int) -> Line:
    taken = sum(cell_len(one_line(part[:MAX_SHOWN])) for part, _ in line)
    return [*line, (" " * max(0, width - taken), PLAIN)]


def pod_lines(story: Story, container: str, now: float) -> list[Line]:
    """The container in question first, then the pod and its node."""
    facts = story.facts
    found = next((one for one in facts["containers"] if one["name"] == container), None)
    lines: list[Line] = [[("Pod", STRONG), (f"  {facts['namespace']}/{facts['pod']} › {container}", DIM)]]
    lines += _container(found, now) if found else []
    lines.append(_fact("phase", _joined(facts["phase"], facts["why"], f"QoS {facts['qos'] or '-'}")))
    lines.append(_fact("node", _joined(facts["node"] or "not scheduled", *_conditions(facts))))
    owner = ", ".join(facts["owner"])
    if owner:
        rolled = unix_time(facts["rollout_at"])
        lines.append(_fact("owner", owner + (f", rolled out {age(now - rolled)} ago" if rolled else "")))
    lines += [_fact(f"no {what}", why, WARN) for what, why in sorted(story.missing.items())]
    return lines


def _container(one: dict[str, Any], now: float) -> list[Line]:
    lines = [_state(one, now)]
    if one["last_termination"]:
        at = unix_time(one["last_termination_at"])
        when = f", {age(now - at)} ago" if at else ""
        text = str(one["last_termination"]).removesuffix(f" at {one['last_termination_at']}")
        lines.append(_fact("last end", text + when, WARN))
    lines.append(_fact("image", str(one["image"])))
    requests, limits = one["requests"], one["limits"]
    lines.append(_fact("requests", _quantities(requests)))
    lines.append(_fact("limits", _quantities(limits)))
    for kind, text in one["probes"].items():
        lines.append(_fact(kind.removesuffix("Probe"), text))
    if not one["probes"]:
        lines.append(_fact("probes", "none"))
    return lines


def _state(one: dict[str, Any], now: float) -> Line:
    since = unix_time(one["started_at"])
    text = str(one["state"])
    text += f" for {age(now - since)}" if since else ""
    text += f": {one['ended'] or one['why']}" if one["ended"] or one["why"] else ""
    if one["state"] == "running" and not one["ready"]:
        text += ", not ready"
    restarts = one["restarts"] or 0
    good = one["state"] == "running" and one["ready"]
    text += f", {restarts} restart{'' if restarts == 1 else 's'}"
    return _fact("state", ("● " if good else "✗ ") + text, GOOD if good else BAD)


def _quantities(found: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(found.items())) or "none"


def _conditions(facts: dict[str, Any]) -> list[str]:
    found = facts["node_conditions"] or []
    ill = [f"{c['type']}={c['status']}" for c in found if c["status"] != _healthy(str(c["type"]))]
    return ill or (["healthy"] if found else [])


def _healthy(kind: str) -> str:
    return "True" if kind == "Ready" else "False"


def _joined(*parts: Optional[str]) -> str:
    return ", ".join(part for part in parts if part)


def _fact(label: str, text: str, style: str = PLAIN) -> Line:
    return [(label.ljust(LABEL), DIM), (" ", DIM), (text, style)]


def change_lines(story: Story, now: float) -> list[Line]:
    """What changed lately, newest first."""
    lines: list[Line] = [[("What changed lately", STRONG)]]
    for change in story.changes[:CHANGES]:
        at = unix_time(change.at)
        when = f"{age(now - at)} ago" if at else "-"
        detail = f"  {change.detail}" if change.detail else ""
        lines.append([(f"{when:>10} ", DIM), (change.what, PLAIN), (detail, DIM)])
    return lines
