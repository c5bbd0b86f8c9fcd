"""The account: what is missing and why, what redaction did, and how all of it was taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from kdebug.capture import told
from kdebug.capture.report.evidence import Evidence
from kdebug.capture.report.html import Content, Markup, tag
from kdebug.capture.report.parts import (
    Section,
    code,
    codes,
    count,
    facts,
    folded,
    moment,
    row,
    table,
    under,
)
from kdebug.units import UNKNOWN, duration, size, unix_time

TAKEN = ("success",)
MAX_MISSING = 200
MAX_LISTED = 500
MAX_PLACES = 8
"""Of one class of secrets."""
MAX_CLASSES = 50
MAX_NOTES = 50


def missing(found: Evidence) -> Section:
    rows = [r for r in told.mappings(found.manifest.get("artifacts")) if r.get("outcome") not in TAKEN]
    content: list[Content] = []
    if found.rebuilt or not found.manifest:
        said = (
            "The bundle lost its end: this is what was whole, without the account that a capture ends with."
        )
        content.append(tag("p", said, class_="warning"))
    problems = [*told.texts(found.manifest.get("problems")), *found.problems]
    content.append(_list(problems, "warning"))
    if rows:
        outcomes = Counter(_word(row, "outcome") for row in rows)
        content.append(
            tag("p", ", ".join(f"{n} {word}" for word, n in outcomes.most_common(10)), class_="dim")
        )
        cells = (row(_word(r, "outcome"), _word(r, "what"), _word(r, "reason")) for r in rows)
        content.append(table(("Outcome", "What", "Why"), cells, MAX_MISSING, len(rows)))
    elif found.manifest:
        content.append(tag("p", "Everything that the recipe asks for was taken."))
    return Section("missing", "Not captured", content)


def _word(row: dict[str, Any], name: str) -> str:
    return told.text(row.get(name)) or ""


def _list(lines: list[str], kind: str = "") -> Content:
    if not lines:
        return None
    more = tag("li", f"… and {len(lines) - MAX_NOTES} more") if len(lines) > MAX_NOTES else None
    return tag("ul", [tag("li", line) for line in lines[:MAX_NOTES]], more, class_=kind or None)


def is_redacted(manifest: dict[str, Any]) -> bool:
    """Whether it says that redaction looked at anything; a bundle without a manifest cannot say so."""
    return "scanned_bytes" in told.mapping(manifest.get("redactions"))


def redacted(found: Evidence) -> Section:
    report = told.mapping(found.manifest.get("redactions"))
    content: list[Content] = []
    if is_redacted(found.manifest):
        total, scanned = (told.number(report.get(key)) for key in ("redacted_total", "scanned_bytes"))
        known = told.whole(report.get("known_secrets")) or 0
        said = f"{count(int(total or 0), 'value')} replaced by tokens in {size(scanned)} that were looked "
        said += f"through; {count(known, 'secret')} known by their place. Equal secrets have equal tokens."
        content.append(tag("p", said))
    else:
        said = "Nothing says that this bundle was redacted: it, and this page, may hold secrets."
        content.append(tag("p", said, class_="warning"))
    content.append(_classes(told.mapping(report.get("redacted"))))
    content.append(_list(told.texts(report.get("notes"))))
    unread = told.mappings(report.get("not_scanned"))
    if unread:
        cells = (row(code(_word(r, "name")), _word(r, "reason")) for r in unread)
        content += [under("Not looked through"), table(("What", "Why"), cells, MAX_MISSING, len(unread))]
    late = told.texts(report.get("learned_late"))
    if late:
        content += [under("Learned after something was written"), _list(late)]
    failures = told.mapping(report.get("detector_failures"))
    if failures:
        content += [under("Detectors that failed"), _list([f"{k}: {v}" for k, v in failures.items()])]
    return Section("redacted", "Redacted", content)


def _classes(found: dict[str, Any]) -> Content:
    if not found:
        return None
    rows: list[Sequence[Content]] = []
    for kind, listed in sorted(found.items()):
        places = {k: v for k, v in told.mapping(listed).items() if told.whole(v) is not None}
        rows.append([code(kind), f"{sum(places.values()):,}", _places(places)])
    return table(("Class", "Values>", "Where"), rows, MAX_CLASSES, len(rows))


def _places(places: dict[str, int]) -> Content:
    shown = sorted(places.items(), key=lambda one: (-one[1], one[0]))[:MAX_PLACES]
    more = f" and {len(places) - MAX_PLACES} more places" if len(places) > MAX_PLACES else ""
    return ["; ".join(f"{name} ({number})" for name, number in shown), more]


# How it was taken


def taken(found: Evidence) -> Section:
    manifest = found.manifest
    tool, recipe, cost, target = (
        told.mapping(manifest.get(k)) for k in ("tool", "recipe", "cost", "target")
    )
    began, ended = (unix_time(told.text(manifest.get(key))) for key in ("started_at", "ended_at"))
    content: list[Content] = [
        facts([
            ("taken of", code(_word(target, "expression")) if target else ""),
            ("place", _word(target, "place")),
            ("rung", _word(target, "rung")),
            ("process", f"{found.info.name} (PID {found.info.pid})" if found.info else ""),
            ("container", code(found.info.container) if found.info and found.info.container else ""),
            ("began", moment(began)),
            ("ended", moment(ended)),
            ("recipe", [_word(recipe, "name"), " ", tag("span", _word(recipe, "source"), class_="dim")]),
            ("SHA-256 of the recipe", code(_word(recipe, "sha256"))),
            ("taken by", f"{_word(tool, 'name')} {_word(tool, 'version')}, Python {_word(tool, 'python')}"),
            ("CPU of the agent", _seconds(told.number(cost.get("agent_cpu_seconds")))),
            ("memory of the agent", size(told.number(cost.get("agent_rss_bytes")))),
            ("bundle", [code(found.name), f" {size(found.size_bytes)}"]),
            ("SHA-256 of the bundle", code(found.sha256)),
        ])
    ]  # fmt: skip
    content += [_access(found), _list(told.texts(manifest.get("notes"))), *_details(manifest, recipe)]
    return Section("account", "How it was taken", content)


def _seconds(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2f} s"


def _access(found: Evidence) -> Content:
    if found.access is None:
        return None
    words = {True: "yes", False: "no", None: "not tried"}
    cells = (row(a.name, words[a.allowed], a.reason, a.fix) for a in found.access.abilities)
    held = codes(found.access.capabilities) if found.access.capabilities else "no capabilities"
    who = tag("p", f"The agent ran as uid {found.access.uid}, gid {found.access.gid}, with ", held, ".")
    columns = ("Ability", "Allowed", "Why", "What would unlock it")
    inside = table(columns, cells, MAX_LISTED, len(found.access.abilities))
    return folded("What the agent was allowed", who, inside)


def _details(manifest: dict[str, Any], recipe: dict[str, Any]) -> Iterable[Markup]:
    parameters = told.mapping(recipe.get("parameters"))
    if parameters:
        yield folded("Parameters of the recipe", facts((k, _value(v)) for k, v in parameters.items()))
    steps = told.mappings(manifest.get("steps"))
    if steps:
        cells = (row(_word(s, "name"), _took(s), _word(s, "problem") or _word(s, "skipped")) for s in steps)
        yield folded("Steps", table(("Step", "Took>", "Left out because"), cells, MAX_LISTED, len(steps)))
    rows = [r for r in told.mappings(manifest.get("artifacts")) if r.get("outcome") in TAKEN]
    if rows:
        made = (row(*_taken(r), code(_word(r, "sha256"))) for r in rows)
        columns = ("What", "Size>", "Member", "SHA-256")
        yield folded(
            f"{count(len(rows), 'artifact')} and their digests", table(columns, made, MAX_LISTED, len(rows))
        )


def _taken(row: dict[str, Any]) -> list[Content]:
    members = told.texts(row.get("members"))[:MAX_PLACES]
    return [_word(row, "what"), size(told.number(row.get("size_bytes"))), codes(members)]


def _took(step: dict[str, Any]) -> str:
    return duration(told.number(step.get("seconds")))


def _value(value: Any) -> Content:
    return codes(told.texts(value)) if isinstance(value, list) else str(value)
