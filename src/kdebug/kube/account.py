"""The true account of a session, for people: what was attached, with which rights, what remains."""

from __future__ import annotations

import time
from dataclasses import replace

from kdebug.kube import ephemeral
from kdebug.kube.attach import Attached, Report
from kdebug.kube.pods import container_status
from kdebug.units import unix_time


def attached_lines(attached: Attached) -> list[str]:
    """What must be known at once: something was created, or something is missing."""
    report, lines = attached.report, []
    if report.toolbox in report.created:
        rights = report.rung.rights if report.rung else "unknown rights"
        rung = report.rung.name if report.rung else "?"
        line = f"added the ephemeral container {report.toolbox} to {attached.selected.label}"
        lines.append(f"{line} (rung {rung}: {rights})")
    if others := [name for name in report.created if name != report.toolbox]:
        ended = ", ended" if set(others) <= set(report.ended) else ""
        told = f"{len(others)} more that did not do remain in the pod{ended}: {', '.join(others)}"
        lines[-1:] = [f"{lines[-1]}; {told}"] if lines else [told]
    return lines + report.notes


def _others(report: Report) -> str:
    """The containers that were added and are not the one in use."""
    names = [name for name in report.created if name != report.toolbox]
    return ", ".join(f"{name} (ended)" if name in report.ended else name for name in names)


def failed_lines(report: Report, label: str, error: BaseException) -> list[str]:
    """What a failed attach leaves behind, and which rungs were refused in words that `error` lacks."""
    told = str(error)
    lines = [f"the rung {name} did not do: {words}" for name, words in report.refused if words not in told]
    if left := _others(replace(report, toolbox="")):
        added = f"the ephemeral container {left} was added to {label} before this failed, and stays"
        lines.append(f"{added} listed there (Kubernetes cannot remove ephemeral containers)")
    if name := report.asked_for:
        asked = f"the ephemeral container {name} may have been added to {label}: the API server was asked"
        lines.append(f"{asked} and did not say yes or no (`kdebug sessions` shows it if it was)")
    return lines


def leaving_lines(attached: Attached, idle: float, ttl: float, max_ttl: float) -> list[str]:
    """Fit to paste into an incident channel."""
    report, selected = attached.report, attached.selected
    made = ephemeral.find(selected.pod, report.toolbox)
    if made is not None and (own := ephemeral.lifetime_of(made)) is not None:
        idle, max_ttl = own.idle, own.max_ttl  # whoever added it may have said otherwise
    rung = f"{report.rung.name} ({report.rung.rights})" if report.rung else "?"
    how = "reused" if report.reused else "added"
    agent = "delivered by the client" if report.delivered else "of the image"
    lines = [
        f"kdebug looked into {selected.label}, container {selected.container}: {how} the ephemeral "
        f"container {report.toolbox}, rung {rung}, agent {agent}.",
    ]
    lines += [f"The rung {name} was refused: {words}" for name, words in report.refused]
    lines.append(
        f"What remains: {report.toolbox} stays listed in the pod (Kubernetes cannot remove ephemeral "
        f"containers); its process ends by itself {_time(idle)} after the last session, and "
        f"{_time(max_ttl)} after its start at the latest. `kdebug sessions stop {selected.name}` ends it."
    )
    if others := _others(report):
        lines.append(f"Also listed, and of no use: {others}.")
    return lines


def ends_by(attached: Attached, max_ttl: float) -> float:
    """Unix time at which the toolbox ends at the latest: its start and the longest life it was given."""
    name, pod = attached.report.toolbox, attached.selected.pod
    made = ephemeral.find(pod, name)
    own = ephemeral.lifetime_of(made) if made is not None else None
    running = (container_status(pod, name).get("state") or {}).get("running") or {}
    started = unix_time(running.get("startedAt"))
    return (started or time.time()) + (own.max_ttl if own else max_ttl)


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
