"""The true account of a session, for people: what was attached, with which rights, what remains."""

from __future__ import annotations

from kdebug.kube.attach import Attached, Report


def attached_lines(attached: Attached) -> list[str]:
    """What must be known at once: something was created, or something is missing."""
    report, lines = attached.report, list(attached.report.notes)
    if report.created:
        last, *before = reversed(report.created)
        rights = report.rung.rights if report.rung else "unknown rights"
        rung = report.rung.name if report.rung else "?"
        line = f"added the ephemeral container {last} to {attached.selected.label} (rung {rung}: {rights})"
        if before:
            line += f"; {len(before)} more that did not do remain in the pod, ended: {', '.join(before)}"
        lines.insert(0, line)
    return lines


def failed_lines(report: Report, label: str) -> list[str]:
    """What a failed attach leaves behind: nothing, or containers that cannot be removed."""
    if not report.created:
        return []
    return [
        f"the ephemeral container {', '.join(report.created)} was added to {label} before this failed, and "
        "stays listed there (Kubernetes cannot remove ephemeral containers)"
    ]


def leaving_lines(attached: Attached, idle: float, ttl: float, max_ttl: float) -> list[str]:
    """Fit to paste into an incident channel."""
    report, selected = attached.report, attached.selected
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
    return lines


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
