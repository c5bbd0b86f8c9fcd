"""Heavy work rests where the pod's CPU is limited, the more where the target is throttled."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from kdebug.agent.budget import BURST_SECONDS, HEAVY_SHARE, MAX_REST_SECONDS, SHARE, Pace

STEP = 0.01
"""CPU seconds of a step of heavy work."""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def share_used(pace: Pace, clock: Clock, cores: float, seconds: float) -> float:
    """Of `cores`, when heavy work is asked for all the time and each step takes `STEP` on the whole CPU."""
    until, started, used = clock.now + seconds, clock.now, 0.0
    while clock.now < until:
        clock.now += STEP
        used += STEP
        clock.now += pace.rest_seconds(STEP)
    return used / (clock.now - started) / cores


def never() -> int:
    return 7


def always() -> Callable[[], int]:
    counter = itertools.count()
    return lambda: next(counter)


def test_without_a_limit_nothing_rests() -> None:
    assert Pace(lambda: None, never).rest_seconds(100.0) == 0.0


@pytest.mark.parametrize("cores", [0.1, 0.5, 2.0])
def test_a_calm_target_leaves_half_of_its_limit(cores: float) -> None:
    clock = Clock()
    used = share_used(Pace(lambda: cores, never, clock), clock, cores, 200.0)
    assert used == pytest.approx(min(HEAVY_SHARE, 1 / cores), rel=0.05)


def test_a_throttled_target_is_left_all_but_the_share_of_refreshing() -> None:
    clock = Clock()
    pace = Pace(lambda: 0.1, always(), clock)
    share_used(pace, clock, 0.1, 60.0)
    assert share_used(pace, clock, 0.1, 600.0) == pytest.approx(SHARE, rel=0.05)


def test_the_pace_comes_back_when_the_throttling_ends() -> None:
    clock, periods = Clock(), iter([1, 2, 3, 4, 5, 6, 7, 8])
    pace = Pace(lambda: 0.1, lambda: next(periods, 8), clock)
    share_used(pace, clock, 0.1, 100.0)
    assert share_used(pace, clock, 0.1, 200.0) == pytest.approx(HEAVY_SHARE, rel=0.05)


def test_a_little_work_needs_no_rest_and_no_rest_is_endless() -> None:
    clock = Clock()
    pace = Pace(lambda: 0.1, never, clock)
    assert pace.rest_seconds(BURST_SECONDS * 0.9) == 0.0
    assert 0.0 < pace.rest_seconds(BURST_SECONDS * 0.2) < 5.0
    assert pace.rest_seconds(1000.0) == MAX_REST_SECONDS


def test_a_target_whose_throttling_is_not_told_gets_half() -> None:
    clock = Clock()
    used = share_used(Pace(lambda: 0.1, lambda: None, clock), clock, 0.1, 200.0)
    assert used == pytest.approx(HEAVY_SHARE, rel=0.05)
