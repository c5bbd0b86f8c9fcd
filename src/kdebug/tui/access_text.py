"""What may be done here and why, as lines of text. Pure: facts in, lines out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kdebug.protocol.system import Ability, Access, AgentInfo
from kdebug.target.cluster import PlanStep
from kdebug.tui.lines import BLANK, Line
from kdebug.tui.theme import BAD, DIM, GOOD, PLAIN, STRONG, WARN
from kdebug.units import UNKNOWN, age, size

VERDICTS: dict[object, tuple[str, str, str]] = {
    True: ("✓", "yes", GOOD), False: ("✗", "no", BAD), None: ("?", "unknown", WARN),
}  # fmt: skip
"""Mark, word and style: the word is there for whoever sees no colour and hears the mark not."""
PLAN_STYLES = {"accepted": GOOD, "refused": BAD}
SKEW_SECONDS = 5.0


def ability_lines(access: Access) -> Iterator[Line]:
    yield Line("what works here, tried and not assumed", STRONG)
    for ability in access.abilities:
        yield from _ability(ability)


def _ability(ability: Ability) -> Iterator[Line]:
    mark, word, style = VERDICTS[ability.allowed]
    yield Line(f" {mark} {word:<8} {ability.name:<20} {ability.reason}", style, 33)
    if ability.fix and ability.allowed is not True:
        yield Line(f"{'':33}fix: {ability.fix}", PLAIN, 38)


def identity_lines(access: Access, read_only: bool, rung: str) -> Iterator[Line]:
    yield Line("as whom", STRONG)
    capabilities = [name.removeprefix("cap_").upper() for name in access.capabilities]
    yield Line(f" uid {access.uid} gid {access.gid}")
    yield Line(f" capabilities: {' '.join(capabilities) or 'none'}", PLAIN, 15)
    if rung:
        yield Line(f" rung of the access ladder: {rung}")
    if read_only:
        yield Line(" read-only: the agent refuses whatever would change something", GOOD, 1)
    else:
        yield Line(
            " changes are allowed, each only when you ask for it (--read-only forbids them)", PLAIN, 1
        )


def cost_lines(agent: AgentInfo, skew_seconds: float) -> Iterator[Line]:
    """What looking costs the target, which pays for the agent."""
    yield Line("what we cost", STRONG)
    share = 100 * agent.cpu_seconds / agent.uptime_seconds if agent.uptime_seconds > 0 else 0.0
    quota = "" if agent.cpu_quota_cores is None else f", of a quota of {agent.cpu_quota_cores:g} cores"
    yield Line(f" memory {size(agent.rss_bytes)} resident")
    cpu = f"{agent.cpu_seconds:.2f} s in {age(agent.uptime_seconds)}: {share:.1f} % of one core{quota}"
    yield Line(f" CPU {cpu}")
    adjusted = UNKNOWN if agent.oom_score_adj is None else str(agent.oom_score_adj)
    first = " (the kernel ends the agent before the target)" if agent.oom_score_adj == 1000 else ""
    yield Line(f" oom_score_adj {adjusted}{first}")
    details = "with psutil" if agent.psutil else "without psutil: some details are missing"
    yield Line(f" Python {agent.python}, PID {agent.pid}, {details}", PLAIN if agent.psutil else WARN)
    if abs(skew_seconds) > SKEW_SECONDS:
        text = f" ! its clock differs from ours by {skew_seconds:+.0f} s: times shown are the target's"
        yield Line(text, WARN, 3)


def step_lines(steps: Iterable[tuple[float, str]], notes: Iterable[str]) -> Iterator[Line]:
    steps, notes = list(steps), list(notes)
    if steps:
        yield Line("how we got here", STRONG)
        yield from (Line(f" {seconds:6.2f} s  {line}", DIM, 11) for seconds, line in steps)
        yield BLANK
    yield Line("what was made or is to be known", STRONG)
    yield from (Line(f" {note}", PLAIN, 1) for note in notes or ["nothing"])


def plan_lines(plan: Iterable[PlanStep]) -> Iterator[Line]:
    """The rungs of the ladder and what the API server says to each; nothing was created for it."""
    yield Line("the ladder, by dry run", STRONG)
    for step in plan:
        mark = {"accepted": "✓", "refused": "✗"}.get(step.verdict, "?")
        text = f" {mark} {step.verdict:<8} {step.rung:<12} {step.rights}"
        yield Line(text, PLAN_STYLES.get(step.verdict, WARN), 25)
        yield Line(f"{'':12}{step.why}", DIM, 12)
        if step.words:
            yield Line(f"{'':12}the server: {step.words}", PLAIN, 12)
