"""Usage over the time of the capture: figures where there is one look, plots where there are more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Optional, TypeVar

from kdebug.capture.report.evidence import Evidence
from kdebug.capture.report.html import Content, Markup, tag
from kdebug.capture.report.parts import Section, clock, count
from kdebug.capture.report.plot import Plot, Series, figure
from kdebug.protocol.network import SocketPage
from kdebug.protocol.processes import Process
from kdebug.units import size
from kdebug.usage import Sample, Usage, memory_bytes

T = TypeVar("T")

MOST = 1e30
"""No quantity of a computer is larger; a bundle may say anything."""
PROCESSES = 5
"""Lines in one plot."""


def timelines(found: Evidence) -> Section:
    plots = [figure(plot, f"plot{number}") for number, plot in enumerate(_plots(found))]
    content: list[Content] = [tag("div", list(_tiles(found)), class_="tiles")]
    if plots:
        began, ended = _span(found)
        looks = f"Samples from {clock(began)} to {clock(ended)} UTC, as seen by who captured."
        content += [tag("p", looks, class_="dim"), tag("div", plots, class_="plots")]
    else:
        hint = "There was one look only: the recipes standard, memory, network and full take samples."
        content.append(tag("p", hint, class_="dim"))
    return Section("usage", "Usage", content)


def _span(found: Evidence) -> tuple[float, float]:
    times = [at for series in (found.pages, found.groups, found.sockets) for at, _ in series]
    return min(times), max(times)


def _plots(found: Evidence) -> Iterator[Plot]:
    """Those with two points at least."""
    group = found.groups[-1][1] if found.groups else None
    memory = _series("working set", found.groups, memory_bytes)
    cores = Series("cores in use", _cores(found))
    limits = (group.memory_limit_bytes, group.cpu_limit_cores) if group else (None, None)
    sockets = [
        _series("all of IP", found.sockets, lambda page: len(_of_ip(page))),
        _series("CLOSE-WAIT", found.sockets, lambda page: _in_state(page, "CLOSE-WAIT")),
        _series("established", found.sockets, lambda page: _in_state(page, "ESTAB")),
    ]
    for plot in (
        Plot("Memory of the container", [memory], size, limits[0], binary=True),
        _of_processes(found),
        Plot("CPU", [cores], lambda value: f"{value:.2f}", limits[1]),
        Plot("Open descriptors", [_series("of all processes", _own(found), _descriptors)], _whole),
        Plot("Sockets", sockets, _whole),
        Plot("Threads", [_series("of all processes", _own(found), _threads)], _whole),
    ):
        drawn = [one for one in plot.series if len(one.points) > 1]
        if drawn:
            yield Plot(plot.title, drawn, plot.write, plot.limit, plot.binary)


def _series(name: str, samples: Sequence[tuple[float, T]], read: Callable[[T], Optional[float]]) -> Series:
    values = ((at, read(sample)) for at, sample in samples)
    return Series(name, [(at, float(v)) for at, v in values if v is not None and 0 <= v < MOST])


def _cores(found: Evidence) -> list[tuple[float, float]]:
    points = []
    for (sooner, before), (later, after) in zip(found.groups, found.groups[1:]):
        pair = Usage()
        pair.add(Sample(sooner, before))
        pair.add(Sample(later, after))
        points += [(later, value) for value in pair.cores() if value < MOST]
    return points


def _own(found: Evidence) -> list[tuple[float, list[Process]]]:
    ours = found.info.agent_container if found.info else None
    return [
        (at, [p for p in page.items if ours is None or p.container != ours]) for at, page in found.pages
    ]


def _of_processes(found: Evidence) -> Plot:
    """Of those that grew, or where none did of the largest; each with every look at it."""
    seen: dict[tuple[int, int], list[tuple[float, float]]] = {}
    names: dict[tuple[int, int], str] = {}
    for at, processes in _own(found):
        for process in processes:
            key = (process.pid, process.start_ticks)
            names[key] = f"{process.name} ({process.pid})"
            if process.rss_bytes < MOST:
                seen.setdefault(key, []).append((at, float(max(0, process.rss_bytes))))
    grew = {key: points[-1][1] - points[0][1] for key, points in seen.items()}
    most = sorted((key for key in seen if grew[key] > 0), key=lambda key: (-grew[key], key))
    largest = sorted(seen, key=lambda key: (-seen[key][-1][1], key))
    title = "Memory of the processes that grew most" if most else "Memory of the largest processes"
    return Plot(
        title, [Series(names[k], seen[k]) for k in (most or largest)[:PROCESSES]], size, binary=True
    )


def _descriptors(processes: list[Process]) -> Optional[float]:
    known = [process.fds for process in processes if process.fds is not None]
    return sum(known) if known else None


def _threads(processes: list[Process]) -> float:
    return sum(process.threads for process in processes)


def _of_ip(page: SocketPage) -> list[str]:
    return [socket.state for socket in page.items if socket.family in ("inet", "inet6")]


def _in_state(page: SocketPage, state: str) -> int:
    return _of_ip(page).count(state)


def _whole(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def _tiles(found: Evidence) -> Iterator[Markup]:
    group = found.groups[-1][1] if found.groups else None
    if group is not None:
        used, limit = memory_bytes(group), group.memory_limit_bytes
        yield _tile("memory", size(used), f"of {size(limit)}" if limit else "no limit")
        cores, quota = _cores(found), group.cpu_limit_cores
        if cores:
            yield _tile("cores", f"{cores[-1][1]:.2f}", f"of {quota:.2f}" if quota else "no limit")
    if found.pages:
        own = _own(found)[-1][1]
        yield _tile("processes", f"{len(own):,}", count(int(_threads(own)), "thread"))
        descriptors = _descriptors(own)
        if descriptors is not None:
            yield _tile("descriptors", _whole(descriptors), "open")
    if found.sockets:
        page = found.sockets[-1][1]
        waiting = _in_state(page, "CLOSE-WAIT")
        yield _tile("sockets", f"{len(_of_ip(page)):,}", f"{waiting:,} in CLOSE-WAIT")


def _tile(name: str, value: str, more: str) -> Markup:
    return tag(
        "div", tag("span", name, class_="dim"), tag("strong", value), tag("span", more), class_="tile"
    )
