"""What Kubernetes told: the pod, its events, and the log lines around what happened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Optional

from kdebug.capture.report.evidence import Evidence
from kdebug.capture.report.html import Content, Markup, tag
from kdebug.capture.report.log_windows import Window
from kdebug.capture.report.parts import Section, clock, code, codes, count, facts, moment, row, table, under
from kdebug.sanitise import file_bytes
from kdebug.target.cluster import EventInfo, LogLine
from kdebug.units import UNKNOWN, age, unix_time

MAX_EVENTS = 100
MAX_CONTAINERS = 50
MAX_LINE = 500
"""Bytes of a log line that are shown."""


def pod(found: Evidence) -> Optional[Section]:
    story = found.story
    if story is None:
        return None
    told, now = story.facts, found.now
    since = unix_time(told["created_at"])
    said = facts([
        ("phase", ", ".join(part for part in (told["phase"], told["why"]) if part)),
        ("quality of service", told["qos"]),
        ("node", told["node"] or "not scheduled"),
        ("owner", codes(told["owner"]) if told["owner"] else ""),
        ("address", told["pod_ip"]),
        ("age", age(now - since) if since is not None else ""),
        ("to be gone by", told["deleted_at"]),
        *((f"no {what}", why) for what, why in sorted(story.missing.items())),
    ])  # fmt: skip
    content: list[Content] = [said, _containers(told["containers"], now)]
    if story.changes:
        rows = (row(_ago(c.at, now), c.what, c.detail) for c in story.changes)
        content += [
            under("What changed lately"),
            table(("When", "What", ""), rows, MAX_EVENTS, len(story.changes)),
        ]
    ill = [row for row in [*told["conditions"], *(told["node_conditions"] or [])] if _ill(row)]
    if ill:
        rows_of_ill = (
            row(f"{r['type']}={r['status']}", r["why"] or "", _ago(r["since"], now)) for r in ill
        )
        content += [
            under("Conditions that are not well"),
            table(("Condition", "Why", "Since"), rows_of_ill, 50, len(ill)),
        ]
    content += _events(story.events, now)
    return Section("pod", "Pod", content)


def _ill(row: Mapping[str, Any]) -> bool:
    """Of a node only Ready is good when it is true; so are all of a pod's."""
    bad_when_true = str(row["type"]).endswith(("Pressure", "Unavailable"))
    return bool(row["status"] != ("False" if bad_when_true else "True"))


def _containers(rows: list[dict[str, Any]], now: float) -> Content:
    cells = (
        row(
            code(one["name"]), _state(one, now), str(one["restarts"] or 0),
            _ended(one, now), _quantities(one["requests"]), _quantities(one["limits"]),
            [code(one["image"] or UNKNOWN), tag("br"), code(one["image_id"]) if one["image_id"] else None])
        for one in rows
    )  # fmt: skip
    columns = ("Container", "State", "Restarts>", "Ended last", "Requests", "Limits", "Image")
    return table(columns, cells, MAX_CONTAINERS, len(rows))


def _state(one: Mapping[str, Any], now: float) -> str:
    since = unix_time(one["started_at"])
    words = [one["state"] + (f" for {age(now - since)}" if since is not None else "")]
    words += [one["ended"] or one["why"] or ""]
    words += ["not ready" if one["state"] == "running" and one["ready"] is False else ""]
    return ", ".join(word for word in words if word)


def _ended(one: Mapping[str, Any], now: float) -> str:
    if not one["last_termination"]:
        return ""
    stamp = one["last_termination_at"]
    text = str(one["last_termination"]).removesuffix(f" at {stamp}")
    return f"{text}, {_ago(stamp, now)}" if stamp else text


def _quantities(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(found.items())) or "none"


def _ago(stamp: Optional[str], now: float) -> str:
    at = unix_time(stamp)
    return UNKNOWN if at is None else f"{age(now - at)} ago"


def _events(events: Iterable[EventInfo], now: float) -> list[Content]:
    newest = sorted(events, key=lambda event: event.at, reverse=True)
    if not newest:
        return []
    cells = (
        row(_ago(e.at, now), _mark(e.kind), e.reason, e.about, e.message, str(e.count)) for e in newest
    )
    columns = ("When", "Type", "Reason", "About", "Message", "Times>")
    return [under("Events"), table(columns, cells, MAX_EVENTS, len(newest))]


def _mark(kind: str) -> Content:
    return kind if kind == "Normal" else tag("strong", kind, class_="warn")


# Logs


def logs(found: Evidence) -> Optional[Section]:
    if found.logs is None:
        return _ends(found)
    content: list[Content] = []
    for window in reversed(found.logs.around):
        if window.lines:
            content.append(_window(window))
    if found.logs.last:
        lines = list(found.logs.last)
        content += [under(f"The last {count(len(lines), 'line')}"), _lines(lines, [])]
    else:
        content.append(tag("p", "The bundle holds no lines of any log.", class_="dim"))
    held = tag("p", f"{count(found.logs.count, 'line')} of all containers are in the bundle.", class_="dim")
    return Section("logs", "Logs", [held, *content])


def _window(window: Window) -> list[Content]:
    title = [moment(window.began), " · ", window.happened[0][1][:120]]
    more = len(window.happened) - 1
    return [tag("h3", title, f" (and {more} more)" if more else ""), _lines(window.lines, window.happened)]


def _lines(lines: list[LogLine], happened: list[tuple[float, str]]) -> Markup:
    """Lines and events in the order of their times."""
    rows = [(unix_time(line.at) or 0.0, 1, _log_line(line)) for line in lines]
    rows += [(at, 0, _line(clock(at), "event", what, "event")) for at, what in happened]
    ordered = [row for _, _, row in sorted(rows, key=lambda row: row[:2])]
    return tag(
        "div",
        tag("table", tag("tbody", ordered)),
        class_="wide log",
        role="region",
        tabindex=0,
        aria_label="log lines",
    )


def _log_line(line: LogLine) -> Markup:
    return _line(line.at[11:23], line.container, file_bytes(line.text[:MAX_LINE]))


def _line(at: str, source: str, text: str, kind: Optional[str] = None) -> Markup:
    return tag(
        "tr",
        tag("td", at, class_="dim"),
        tag("td", source, class_="dim"),
        tag("td", code(text)),
        class_=kind,
    )


def _ends(found: Evidence) -> Optional[Section]:
    """Of the log files that were taken, where there is no pod."""
    if not found.ends:
        return None
    content = [
        [under(path), tag("div", tag("table", tag("tbody", [
            tag("tr", tag("td", code(file_bytes(line[:MAX_LINE])))) for line in lines
        ])), class_="wide log", role="region", tabindex=0, aria_label="log lines")]
        for path, lines in found.ends
    ]  # fmt: skip
    return Section("logs", "Ends of log files", content)
