"""Shared fixtures, and the rule that CI lets nothing skip."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Generator, Iterator

import pytest


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With KDEBUG_NO_SKIP (CI) a skipped test is a failure: it would hide a missing piece."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if os.environ.get("KDEBUG_NO_SKIP") and skipped:
        reporter.write_line(f"KDEBUG_NO_SKIP is set and {len(skipped)} tests skipped", red=True)
        session.exitstatus = 1


NODES = ("test_pods", "test_pods_server")
"""Where the files of the second and of the third test node begin: each has about as much to do."""


@pytest.hookimpl(tryfirst=True)  # before xdist, which reads the groups in its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who shares something expensive runs in one process: the tests of a node (there are several, since
    most tests wait) and those of the toolbox' images."""
    for item in items:
        folders = item.path.parent.parts
        if "node" in folders:
            number = 1 + sum(item.path.name >= first for first in NODES)
            item.add_marker(pytest.mark.xdist_group(f"node-{number}"))
        elif "toolbox" in folders:
            item.add_marker(pytest.mark.xdist_group("toolbox"))


TOOLS = {
    "findmnt": "util-linux", "ip": "iproute2", "lsof": "lsof", "nsenter": "util-linux", "pgrep": "procps",
    "ps": "procps", "ss": "iproute2", "setsid": "util-linux", "tmux": "tmux",
    "unshare": "util-linux",
}  # fmt: skip
"""Independent readers that facts are compared with, and Debian's packages of them."""


def _skip_without_tool(error: FileNotFoundError) -> None:
    """A machine without one of the tools skips what needs it, with the reason; CI lets nothing skip."""
    if error.filename in TOOLS and shutil.which(error.filename) is None:
        pytest.skip(f"needs {error.filename} (package {TOOLS[error.filename]}), which this machine has not")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    try:
        return (yield)
    except FileNotFoundError as error:
        _skip_without_tool(error)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: object) -> Generator[None, object, object]:
    try:
        return (yield)
    except FileNotFoundError as error:
        _skip_without_tool(error)
        raise


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
