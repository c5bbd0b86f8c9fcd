"""mounts, doctor, version: the target as a whole, and kdebug itself."""

from __future__ import annotations

import dataclasses
import platform
import time
from typing import Any

import click

from kdebug import __version__
from kdebug.cli.console import Document, emit
from kdebug.cli.table import exact, size, table
from kdebug.cli.verb import document_verb
from kdebug.protocol.system import Access, AgentInfo, Mount
from kdebug.target import Target


async def mounts(target: Target) -> Document:
    page = await target.mounts()

    def row(mount: Mount) -> list[object]:
        mode = "ro" if mount.read_only else "rw"
        used, whole = size(mount.used_bytes), size(mount.size_bytes)
        return [mount.path, mount.filesystem, mount.source, mode, used, whole, mount.error or ""]

    headers = ["PATH", "TYPE", "SOURCE", "MODE", "USED", "SIZE", ""]
    data = {"mounts": [mount_document(mount) for mount in page.items]}
    return Document(data, lambda wide: table(headers, map(row, page.items), right="USED SIZE"))


def mount_document(mount: Mount) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, value in dataclasses.asdict(mount).items():
        if isinstance(value, str):
            exact(row, key, value)
        else:
            row[key] = value
    return row


def check(name: str, status: str, detail: str, fix: str = "") -> dict[str, str]:
    return {"name": name, "status": status, "detail": detail, "fix": fix}


async def doctor(target: Target) -> Document:
    """Everything that could be wrong between this machine and the target, tried."""
    access, agent = await target.access(), await target.agent()
    checks = [
        check(
            "client", "ok", f"kdebug {__version__}, Python {platform.python_version()}, {platform.system()}"
        ),
        *_agent_checks(agent, target.label.startswith("bundle:")),
        *_namespace_checks(target),
        *access_checks(access),
    ]
    lines = table(
        ["STATUS", "CHECK", "DETAIL", "FIX"],
        [[c["status"], c["name"], c["detail"], c["fix"]] for c in checks],
    )
    return Document({"checks": checks}, lambda wide: lines)


def _agent_checks(agent: AgentInfo, offline: bool) -> list[dict[str, str]]:
    checks = [check("agent", "ok", f"Python {agent.python}, {size(agent.rss_bytes)} resident")]
    if agent.psutil is None:
        checks.append(
            check("psutil", "warn", "missing: some details are null", "use our own toolbox image")
        )
    skew = abs(agent.clock_at - time.time())
    if skew > 5 and not offline:
        checks.append(check("clock", "warn", f"the agent's clock differs by {skew:.0f} s", "check NTP"))
    return checks


def _namespace_checks(target: Target) -> list[dict[str, str]]:
    shared = {"PID": target.info.same_pid_namespace, "network": target.info.same_network_namespace}
    return [
        check(f"{name} namespace", "ok", "shared with the target" if same else "the target has its own")
        for name, same in shared.items()
        if same is not None
    ]


def access_checks(access: Access) -> list[dict[str, str]]:
    status = {True: "ok", False: "fail", None: "warn"}
    return [check(a.name, status[a.allowed], a.reason, a.fix) for a in access.abilities]


@click.command("version", help="Print the version.")
@click.option("-o", "--output", type=click.Choice(("table", "json", "yaml")), default="table")
def version(output: str) -> int:
    data = {"version": __version__, "python": platform.python_version(), "platform": platform.platform()}
    return emit(Document(data, lambda wide: [f"kdebug {__version__}"]), output)


COMMANDS: dict[str, click.Command] = {
    "mounts": document_verb("mounts", mounts, help_text="List the target's mounts with their sizes."),
    "doctor": document_verb(
        "doctor", doctor, help_text="Check what works on this target and what would fix the rest."
    ),
    "version": version,
}
