"""capture --dry-run: what would be taken, and what it would cost the target."""

from __future__ import annotations

import contextlib
import dataclasses

from kdebug.capture.plan import AGENT_MEMORY_BYTES, PlannedStep, cost
from kdebug.capture.recipe import Recipe
from kdebug.capturing import opened, planned
from kdebug.cli.console import Document, emit
from kdebug.cli.table import size, table
from kdebug.cli.verb import Common, within
from kdebug.expression import TargetExpression
from kdebug.sanitise import one_line


async def dry_run(expression: TargetExpression, common: Common, recipe: Recipe) -> int:
    """Opens the target (of a pod: with a toolbox, as any verb does) and takes nothing."""
    async with contextlib.AsyncExitStack() as stack:
        found = await opened(expression, common.open_options(), stack)
        steps = await within(common.timeout, "the dry run", planned(found, recipe))
        rung = found.target.rung if found.target is not None else ""
    total = cost(steps)
    data = {
        "recipe": recipe.name, "target": str(expression), "rung": rung,
        "steps": [dataclasses.asdict(step) for step in steps],
        "artifacts": total.artifacts, "bytes_about": total.bytes_about,
        "agent_cpu_ms_about": round(total.cpu_ms_about, 1),
        "agent_memory_bytes_about": AGENT_MEMORY_BYTES, "pause_seconds": 0,
        "max_bytes": recipe.max_bytes, "deadline_seconds": recipe.deadline,
    }  # fmt: skip
    return emit(Document(data, lambda wide: plan_lines(steps, data)), common.output)


def plan_lines(steps: list[PlannedStep], data: dict[str, object]) -> list[str]:
    used, most = int(str(data["bytes_about"])), int(str(data["max_bytes"]))
    rows = [
        [s.name, s.kind, s.artifacts, size(s.bytes_about), f"{s.cpu_ms_about:.0f}", s.not_taken]
        for s in steps
    ]
    where = f" on the rung {data['rung']}" if data["rung"] else ""
    return [
        one_line(
            f"{data['recipe']} of {data['target']}{where} takes at most about {data['artifacts']} artifacts"
        ),
        f"at most {size(most)} in {data['deadline_seconds']:g} s, about {size(used)}",
        f"the agent: about {float(str(data['agent_cpu_ms_about'])):.0f} ms of CPU and "
        "up to 24M of the pod's memory; the target is never paused",
        *table(
            ["STEP", "KIND", "ARTIFACTS", "BYTES", "CPU MS", "NOT TAKEN"], rows, right="ARTIFACTS BYTES CPU"
        ),
    ]
