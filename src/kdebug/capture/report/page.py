"""The page: what matters first, then the evidence for it, then the account of how it came about."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence

from kdebug.capture import told
from kdebug.capture.report import account, pod, target
from kdebug.capture.report.evidence import Evidence
from kdebug.capture.report.html import Content, Markup, document, stylesheet, tag
from kdebug.capture.report.parts import Section, count, moment
from kdebug.capture.report.timelines import timelines
from kdebug.findings import Finding, Place
from kdebug.units import unix_time

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Nothing is loaded and nothing runs, whatever would get into the page."""
SECTIONS = {
    Place.PROCESS: "processes",
    Place.FDS: "files",
    Place.SOCKETS: "sockets",
    Place.LOGS: "logs",
    Place.PREVIOUS_LOGS: "logs",
}
MARKS = {"complete": "good", "partial": "warn", "interrupted": "warn"}


def page(found: Evidence) -> bytes:
    """The same bytes for the same bundle."""
    made = [
        timelines(found) if found.pages or found.groups else None,
        target.processes(found),
        target.files(found),
        target.sockets(found),
        pod.pod(found),
        pod.logs(found),
        account.missing(found),
        account.redacted(found),
        account.taken(found),
    ]
    sections = [section for section in made if section is not None]
    summary = Section("summary", "What looks wrong", _findings(found, {one.key for one in sections}))
    title = f"{_what(found)}: kdebug report"
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        stylesheet(importlib.resources.files(__package__).joinpath("page.css").read_text("utf-8")),
    ]
    everything = [summary, *sections]
    return document(
        head, [_top(found), _links(everything), tag("main", map(_section, everything)), _foot(found)]
    )


def _what(found: Evidence) -> str:
    who = told.mapping(found.manifest.get("target"))
    return told.text(who.get("place")) or told.text(who.get("expression")) or found.name


def _top(found: Evidence) -> Markup:
    status = told.text(found.manifest.get("status")) or "cut short"
    recipe = told.text(told.mapping(found.manifest.get("recipe")).get("name"))
    seconds = told.number(found.manifest.get("seconds"))
    began = unix_time(told.text(found.manifest.get("started_at")))
    words: list[Content] = [
        tag("span", status, class_=f"status {MARKS.get(status, 'bad')}"),
        f"recipe {recipe}" if recipe else None,
        moment(found.now if began is None else began),
        f"{seconds:.1f} s" if seconds is not None else None,
    ]
    said = [tag("span", word) if isinstance(word, str) else word for word in words]
    warning = None
    if not account.is_redacted(found.manifest):
        warning = tag(
            "p",
            "Nothing says that this was redacted: handle it as you would its secrets.",
            class_="warning",
        )
    return tag(
        "header",
        tag("p", "kdebug report", class_="kicker"),
        tag("h1", _what(found)),
        tag("p", said, class_="said"),
        warning,
    )


def _findings(found: Evidence, keys: set[str]) -> Content:
    findings = found.findings()
    if not findings:
        looked = (
            "Nothing looks wrong in what was taken."
            if found.pages or found.story
            else "Nothing was looked at."
        )
        return tag("p", tag("span", "✓", class_="mark good", aria_hidden="true"), looked, class_="finding")
    return tag("ul", [_finding(finding, keys) for finding in findings], class_="findings")


def _finding(finding: Finding, keys: set[str]) -> Markup:
    kind, mark, word = ("bad", "✗", "wrong: ") if finding.bad else ("warn", "!", "look at: ")
    key = SECTIONS[finding.place] if finding.place else ""
    link = tag("a", f"see {key}", href=f"#{key}") if key in keys else None
    return tag(
        "li",
        tag("span", mark, class_=f"mark {kind}", aria_hidden="true"),
        tag("span", tag("span", word, class_="spoken"), finding.text, " ", link),
        class_="finding",
    )


def _links(sections: Sequence[Section]) -> Markup:
    return tag(
        "nav",
        [tag("a", one.title, href=f"#{one.key}") for one in sections],
        aria_label="Sections of this page",
    )


def _section(one: Section) -> Markup:
    return tag(
        "section", tag("h2", one.title, id=f"{one.key}-title"), one.content,
        id=one.key, aria_labelledby=f"{one.key}-title",
    )  # fmt: skip


def _foot(found: Evidence) -> Markup:
    held = count(len(told.mappings(found.manifest.get("artifacts"))), "artifact")
    more = f"The bundle {found.name} holds more ({held}): kdebug open shows it as the live target was seen."
    return tag(
        "footer", tag("p", more), tag("p", "Made by kdebug report. Nothing in this page is loaded or run.")
    )
