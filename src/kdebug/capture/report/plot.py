"""Lines over time as SVG: nothing but paths, which take the page's colours and any width.

The picture is stretched to the width that there is, so words stand beside it as HTML, not in it. Each line
has a dash of its own and a legend with its value: colour is never the only difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Optional

from kdebug.capture.report.html import Content, Markup, tag

WIDTH, HEIGHT = 600, 120
DOTS = 40
"""Samples up to which each is marked."""
LIMIT_IN_SIGHT = 3.0
"""Times the largest value: a higher limit is told, not drawn, for the line would lie on the ground."""
LEAST = 1e-6
"""Below it everything is nothing."""
STEPS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


@dataclass(frozen=True)
class Series:
    name: str
    points: Sequence[tuple[float, float]]
    """(Unix time, value), earliest first."""


@dataclass(frozen=True)
class Plot:
    title: str
    series: Sequence[Series]
    write: Callable[[float], str]
    """A value for people."""
    limit: Optional[float] = None
    binary: bool = False
    """Ends of the axis in powers of 1024."""


def figure(plot: Plot, key: str) -> Markup:
    """A picture with its axis, legend, and a table of the same values. Wants two points at least."""
    times = [at for one in plot.series for at, _ in one.points]
    began, ended = min(times), max(times)
    top = _top(plot)
    shown_limit = plot.limit if plot.limit is not None and plot.limit <= top else None
    lines = [_line(n, one, began, ended, top) for n, one in enumerate(plot.series)]
    picture = tag(
        "svg",
        [_rule("grid", share) for share in (0.0, 0.5, 1.0)],
        _rule("limit", shown_limit / top) if shown_limit is not None else None,
        lines,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_labelledby=f"{key}-title {key}-said",
    )
    span = ended - began
    axis = [tag("span", plot.write(top * share)) for share in (1.0, 0.5, 0.0)]
    below = [tag("span", f"{'+' if share else ''}{span * share:.3g} s") for share in (0.0, 0.5, 1.0)]
    return tag(
        "figure",
        tag("figcaption", plot.title, id=f"{key}-title"),
        tag("div", axis, class_="axis", aria_hidden="true"),
        picture,
        tag("div", below, class_="below", aria_hidden="true"),
        tag("div", _legend(plot), class_="legend", id=f"{key}-said"),
        _values(plot, began),
        class_="plot",
    )


def _top(plot: Plot) -> float:
    """The upper end of the axis: a round number above everything that is drawn."""
    largest = max(max(value for _, value in one.points) for one in plot.series)
    if plot.limit is not None and plot.limit <= LIMIT_IN_SIGHT * largest:
        largest = max(largest, plot.limit)
    if largest < LEAST:
        return 1.0
    base = 1024.0 if plot.binary else 10.0
    power = base ** math.floor(math.log(largest, base))
    tens = 10.0 ** math.floor(math.log10(largest / power))
    return next(step * power * tens for step in STEPS if step * power * tens >= largest * 0.999)


def _x(at: float, began: float, ended: float) -> str:
    return f"{WIDTH * (at - began) / (ended - began) if ended > began else 0:.1f}"


def _y(share: float) -> str:
    return f"{HEIGHT * (1 - min(1.0, max(0.0, share))):.1f}"


def _rule(kind: str, share: float) -> Markup:
    return tag("path", d=f"M0 {_y(share)}H{WIDTH}", class_=kind)


def _line(number: int, one: Series, began: float, ended: float, top: float) -> list[Markup]:
    points = [(_x(at, began, ended), _y(value / top)) for at, value in one.points]
    course = "L".join(f"{x} {y}" for x, y in points)
    drawn = []
    if number == 0:
        area = f"M{points[0][0]} {HEIGHT}L{course}L{points[-1][0]} {HEIGHT}Z"
        drawn.append(tag("path", d=area, class_="area"))
    drawn.append(tag("path", d=f"M{course}", class_=f"line s{number}"))
    if len(points) <= DOTS:
        # A line of no length has round ends that are not stretched with the picture; a circle would be.
        drawn.append(tag("path", d="".join(f"M{x} {y}h0" for x, y in points), class_=f"dots s{number}"))
    return drawn


def _legend(plot: Plot) -> list[Content]:
    said: list[Content] = []
    for number, one in enumerate(plot.series):
        values = [value for _, value in one.points]
        most = max(values)
        peak = f", at most {plot.write(most)}" if plot.write(most) != plot.write(values[-1]) else ""
        swatch = tag(
            "svg",
            tag("path", d="M0 5H24", class_=f"line s{number}"),
            viewBox="0 0 24 10",
            aria_hidden="true",
        )
        said.append(tag("span", swatch, f" {one.name}: {plot.write(values[-1])}{peak}"))
    if plot.limit is not None:
        swatch = tag(
            "svg", tag("path", d="M0 5H24", class_="limit"), viewBox="0 0 24 10", aria_hidden="true"
        )
        said.append(tag("span", swatch, f" limit: {plot.write(plot.limit)}"))
    return said


def _values(plot: Plot, began: float) -> Markup:
    """The same for those who cannot see the picture, or want the figures."""
    moments = sorted({at for one in plot.series for at, _ in one.points})
    by_time = [dict(one.points) for one in plot.series]
    head = tag("tr", tag("th", "s", scope="col"), [tag("th", one.name, scope="col") for one in plot.series])
    rows = [
        tag("tr", tag("td", f"+{at - began:.1f}"), [tag("td", _cell(plot, row.get(at))) for row in by_time])
        for at in moments
    ]
    table = tag(
        "div", tag("table", tag("thead", head), tag("tbody", rows), class_="numbers"), class_="wide"
    )
    return tag("details", tag("summary", f"{len(moments)} values"), table)


def _cell(plot: Plot, value: Optional[float]) -> str:
    return "" if value is None else plot.write(value)
