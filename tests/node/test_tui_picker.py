"""The picker on real pods: what it lists is what kubectl says, and Enter attaches to what it shows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdebug import recent
from kdebug.open import OpenOptions, PodOptions, open_target
from kdebug.tui.app import KdebugApp
from kdebug.tui.picker import PickerScreen
from kdebug.tui.screen import SessionScreen
from kdebug.tui.session import State
from tui.conftest import Ui

from .conftest import Kubectl
from .support import targets
from .support.cluster import waiting_reason
from .support.node import Node


class Picker(Ui):
    @property
    def picker(self) -> PickerScreen:
        assert isinstance(self.app.screen, PickerScreen)
        return self.app.screen

    @property
    def names(self) -> list[str]:
        return [row.pod.name for row in self.picker.table.rows]

    def status(self, name: str) -> str:
        return next((row.pod.status for row in self.picker.table.rows if row.pod.name == name), "")

    async def says(self, text: str, seconds: float = 15.0) -> None:
        """As `shows`, wherever the line is broken."""
        await self.until(lambda: text in " ".join(self.text().split()), seconds)

    async def back(self) -> None:
        await self.until(lambda: isinstance(self.app.screen, PickerScreen))


def play(kubeconfig: Path, namespace: str, script: Callable[[Picker], Any]) -> KdebugApp:
    async def whole() -> KdebugApp:
        options = OpenOptions(pod=PodOptions(kubeconfig=str(kubeconfig), namespace=namespace))
        app = KdebugApp(None, options, open_target)
        async with app.run_test(size=(120, 40)) as pilot:
            await script(Picker(app, pilot))
        return app

    return asyncio.run(whole())


@pytest.fixture(autouse=True)
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def test_pick_attach_and_come_back(node: Node, kubectl: Kubectl) -> None:
    namespace = node.namespace()
    node.run(targets.explicit_user("web"), namespace)
    node.apply(targets.crash_loop("broken"), namespace)
    node.wait(namespace, "broken", lambda pod: waiting_reason(pod, "app") == "CrashLoopBackOff")

    async def script(ui: Picker) -> None:
        await ui.back()
        await ui.until(lambda: ui.names == ["broken", "web"])
        await ui.until(lambda: ui.status("broken") == "CrashLoopBackOff")
        await ui.says("last: exit code 3")
        await ui.says("cannot attach now")
        await ui.press("slash", *"web", "enter")
        await ui.until(lambda: ui.names == ["web"])
        await ui.says("adding a toolbox (rung match: uid 1000 gid 2000, no capabilities; else ptrace)")
        await ui.press("enter")
        await ui.attached()
        assert ui.screen.session.target is not None
        assert ui.screen.session.target.rung == "match"
        await ui.says(f"{namespace}/web › app")
        await ui.tab("Processes")
        await ui.says("/app")
        await ui.press("q")
        await ui.back()
        # The preview knows what is there now: the pod came by the watch, or with the list at the return.
        made = node.pod(namespace, "web")["spec"]["ephemeralContainers"][0]["name"]
        await ui.says(f"reusing {made}")
        assert ui.names == ["web"], "the filter stayed"
        await ui.press("enter")
        await ui.attached()
        await ui.press("q")
        await ui.back()
        await ui.press("escape")
        node.apply(targets.root("later"), namespace)
        await ui.until(lambda: ui.status("later") == "Running")
        node.delete_pod(namespace, "later", grace=0)
        await ui.until(lambda: "later" not in ui.names)

    app = play(node.kubeconfig, namespace, script)
    boxes = node.pod(namespace, "web")["spec"]["ephemeralContainers"]
    assert len(boxes) == 1, "the second session used the first one's toolbox"
    assert any("kdebug looked into" in line for line in app.account)
    assert [entry.pod for entry in recent.load()] == ["web"]
    rows = json.loads(kubectl("-n", namespace, "get", "pods", "-o", "json").stdout)["items"]
    assert sorted(row["metadata"]["name"] for row in rows) == ["broken", "web"]


def test_a_cancelled_attach_says_what_it_may_have_left(node: Node) -> None:
    """Escape while the API server has the toolbox before it and has not answered."""
    namespace = node.namespace()
    node.run(targets.explicit_user("web"), namespace)

    async def script(ui: Picker) -> None:
        await ui.back()
        await ui.until(lambda: ui.names == ["web"])
        node.faults.delay_seconds = 1.0
        await ui.press("enter")
        await ui.until(lambda: isinstance(ui.app.screen, SessionScreen))
        await ui.until(lambda: any("adding kdebug-" in line for _, line in ui.screen.session.steps))
        await ui.press("escape")
        await ui.until(lambda: ui.screen.session.state is State.CLOSED)
        node.faults.delay_seconds = 0.0
        await ui.says("the attach was cancelled")
        await ui.says("may have been added")
        await ui.press("q")
        await ui.back()

    app = play(node.kubeconfig, namespace, script)
    (told,) = [line for line in app.account if "may have been added" in line]
    for box in node.pod(namespace, "web")["spec"].get("ephemeralContainers") or []:
        assert box["name"] in told


def test_who_may_not_watch_is_shown_lists_and_who_may_not_list_the_reason(node: Node) -> None:
    namespace = node.namespace()
    node.run(targets.explicit_user("web"), namespace)
    node.forbid("watch", "pods")

    async def polled(ui: Picker) -> None:
        await ui.back()
        await ui.until(lambda: ui.names == ["web"])
        await ui.says("↻ polled")
        await ui.says("cannot watch resource")

    play(node.engineer, namespace, polled)
    node.forbid("list", "pods")

    async def refused(ui: Picker) -> None:
        await ui.back()
        await ui.says("cannot list resource")
        node.permit("list", "pods")
        node.permit("watch", "pods")
        await ui.press("r")
        await ui.until(lambda: ui.names == ["web"])
        await ui.says("● watching")

    play(node.engineer, namespace, refused)


def test_the_api_server_goes_away_and_returns_and_forgets(node: Node) -> None:
    namespace = node.namespace()
    node.run(targets.explicit_user("web"), namespace)

    async def script(ui: Picker) -> None:
        await ui.back()
        await ui.until(lambda: ui.names == ["web"])
        await asyncio.to_thread(node.stop_api)
        await ui.says("cannot be reached", 30)
        assert ui.names == ["web"]
        await asyncio.to_thread(node.start_api)
        await ui.says("● watching", 30)
        await asyncio.to_thread(node.forget_history)
        await asyncio.to_thread(node.apply, targets.root("new"), namespace)
        await ui.until(lambda: "new" in ui.names, 30)

    play(node.kubeconfig, namespace, script)
