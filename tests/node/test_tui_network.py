"""Network and Access on real pods: sockets with owners through the toolbox, the ladder by dry run."""

from __future__ import annotations

from typing import Any

import pytest

from kdebug.open import OpenOptions, PodOptions
from kdebug.tui.session import State
from tui.conftest import Ui, play

from .support import targets
from .support.node import Node

SLOW = 40.0
"""Seconds for what waits for a kubelet."""


@pytest.fixture(scope="module")
def place(started_node: Node) -> str:
    return started_node.namespace("restricted")


def look(node: Node, place: str, script: Any, size: tuple[int, int] = (110, 40)) -> None:
    pod = PodOptions(kubeconfig=str(node.kubeconfig), namespace=place)
    play("pod/web", script, options=OpenOptions(pod=pod), size=size)


def test_sockets_of_a_restricted_pod_have_owners_and_access_shows_rung_plan_and_cost(
    node: Node, place: str
) -> None:
    node.run(targets.restricted("web"), place)

    async def script(ui: Ui) -> None:
        await ui.until(lambda: ui.screen.session.state is State.LIVE, SLOW)
        network = await ui.tab("Network")
        await ui.until(lambda: any(row.entry.state == "LISTEN" for row in network.table.rows))
        listener = next(row for row in network.table.rows if row.entry.state == "LISTEN")
        assert listener.entry.pids, "the toolbox sees who listens"
        assert network.table.select(listener.key)
        await ui.press("enter")
        await ui.shows("accepts connections")
        await ui.shows("descriptor ")
        await ui.press("escape", "i")
        await ui.shows("eth0")
        await ui.shows("nameserver")
        access = await ui.tab("Access")
        await ui.shows("✓ yes      files read")
        assert access.session.target is not None and access.session.target.rung == "match"
        await ui.press("d")
        await ui.until(lambda: access._plan is not None, SLOW)
        await ui.press("slash", *"ptrace", "enter")
        await ui.shows("✗ refused  ptrace")  # Pod Security restricted says no to it

    look(node, place, script)
