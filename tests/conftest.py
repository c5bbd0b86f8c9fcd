"""Shared fixtures, and the rule that CI lets nothing skip."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator

import pytest


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With KDEBUG_NO_SKIP (CI) a skipped test is a failure: it would hide a missing piece."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if os.environ.get("KDEBUG_NO_SKIP") and skipped:
        reporter.write_line(f"KDEBUG_NO_SKIP is set and {len(skipped)} tests skipped", red=True)
        session.exitstatus = 1


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes users, chroots or devices")


@pytest.fixture
def seed() -> int:
    """From the clock, and printed when the test fails."""
    value = time.time_ns() % 2**32
    print(f"seed: {value}")
    return value


@pytest.fixture
def run() -> Iterator[asyncio.Runner]:
    """Run coroutines on one loop: `run.run(...)`."""
    with asyncio.Runner() as runner:
        yield runner
