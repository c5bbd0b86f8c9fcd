"""The logs tab: merged, followed, searched, resumed without a line twice, bounded, saved."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from kdebug.errors import AccessDenied
from kdebug.target.cluster import EventInfo, LogLine
from kdebug.tui.log_view import LogView
from kdebug.tui.logs import LogsPane

from .conftest import Ui, play
from .fake_cluster import NOT_RUNNING, FakeCluster, own_process, refusing, stamp

HOSTILE = (
    b"\x1b[2J\x1b]0;owned\x07 [/foo] [bold]x\r\nnext \xe2\x80\xaeback\xe2\x80\xac \xe4\xb8\xad\xe6\x96\x87"
    b" e\xcc\x81 \xff\xfe \x00"
)


def lines(container: str, count: int, text: str = "line {}") -> list[LogLine]:
    return [LogLine(container, stamp(n), text.format(n).encode()) for n in range(count)]


def logs(ui: Ui) -> LogsPane:
    pane = ui.screen.pane_of(LogsPane)
    assert pane is not None
    return pane


def run(cluster: FakeCluster, script: Any, **options: Any) -> None:
    opener = options.pop("opener", own_process)
    play("web", script, opener=opener, cluster_opener=cluster.opener(), **options)


async def opened(ui: Ui) -> LogView:
    await ui.until(lambda: ui.screen.session.pod)
    pane: LogsPane = await ui.tab("Logs")
    return pane.view


def texts(view: LogView) -> list[str]:
    return [row.text.decode("utf-8", "replace") for row in view.rows]


def test_two_containers_by_time_and_what_is_written_later() -> None:
    cluster = FakeCluster(lines={"app": lines("app", 3, "a{}"), "side": lines("side", 3, "s{}")})

    async def script(ui: Ui) -> None:
        view = await opened(ui)
        await ui.until(lambda: len(view.rows) == 6)
        assert texts(view) == ["a0", "s0", "a1", "s1", "a2", "s2"]
        await cluster.write("side", b"later")
        await ui.shows("side later")
        assert "following" in ui.text()

    run(cluster, script)
    assert cluster.open == 0 and cluster.closed


def test_nothing_is_asked_while_the_tab_is_not_seen() -> None:
    cluster = FakeCluster(lines={"app": lines("app", 3)})

    async def script(ui: Ui) -> None:
        await ui.attached()
        assert cluster.asked == []
        view = await opened(ui)
        await ui.until(lambda: len(view.rows) == 3)
        await ui.tab("Processes")
        await ui.until(lambda: cluster.open == 0)
        await cluster.write("app", b"meanwhile")
        await ui.tab("Logs")
        await ui.shows("meanwhile")
        assert texts(view) == ["line 0", "line 1", "line 2", "meanwhile"]

    run(cluster, script)


def test_a_broken_stream_goes_on_without_a_line_twice() -> None:
    same = stamp(2)
    twins = [LogLine("app", same, text) for text in (b"twin", b"twin", b"other")]
    cluster = FakeCluster(lines={"app": [*lines("app", 2), *twins]})

    async def script(ui: Ui) -> None:
        view = await opened(ui)
        await ui.until(lambda: len(view.rows) == 5)
        await cluster.cut()
        await ui.shows("the stream is cut")
        await cluster.write("app", b"twin", same)
        await cluster.write("app", b"new")
        await ui.shows("new")
        assert texts(view) == ["line 0", "line 1", "twin", "twin", "other", "twin", "new"]
        await ui.until(lambda: "the stream is cut" not in ui.text())
        again = [query for name, query in cluster.asked if name == "app"][-1]
        assert again.since_time == same and again.tail == 20_000

    run(cluster, script)


def test_a_refused_container_is_told_and_the_others_go_on() -> None:
    cluster = FakeCluster(lines={"side": lines("side", 2)})
    cluster.refused["app"] = AccessDenied("the logs of app cannot be read", why="pods/log is forbidden")

    async def script(ui: Ui) -> None:
        view = await opened(ui)
        await ui.shows("app: pods/log is forbidden")
        await ui.until(lambda: len(view.rows) == 2)

    run(cluster, script)


def test_events_stand_between_the_lines_and_can_be_left_out() -> None:
    event = EventInfo(stamp(1.5), "Warning", "Unhealthy", "Readiness probe failed", 3, "kubelet", "app")
    cluster = FakeCluster(lines={"app": lines("app", 4)}, listed=[event])

    async def script(ui: Ui) -> None:
        view = await opened(ui)
        await ui.until(lambda: len(view.rows) == 5)
        assert texts(view)[2] == "◆ Warning Unhealthy (3 times): Readiness probe failed"
        await ui.shows("◆ Warning Unhealthy (3 times)")
        await ui.press("e")
        await ui.until(lambda: len(view.rows) == 4)
        await ui.shows("no events")

    run(cluster, script)


def test_search_marks_goes_on_and_ends() -> None:
    cluster = FakeCluster(lines={"app": lines("app", 300, "line {} of log")})
    cluster.lines["app"][40] = LogLine("app", stamp(40), b"a \xe4\xb8\xad needle")
    cluster.lines["app"][90] = LogLine("app", stamp(90), b"another NEEDLE")

    async def script(ui: Ui) -> None:
        view = await opened(ui)
        await ui.until(lambda: len(view.rows) == 300)
        await ui.press("slash", *"needle", "enter")
        await ui.shows("another NEEDLE")
        await ui.shows("found 2 of 2")
        assert not view.following
        await ui.press("n")
        await ui.shows("中 needle")
        await ui.press("N")
        await ui.shows("another NEEDLE")
        await ui.press("escape")
        await ui.until(lambda: "found" not in ui.text())
        await ui.press("f")
        await ui.shows("line 299 of log")

    run(cluster, script)


def test_who_reads_keeps_the_line_while_others_come() -> None:
    cluster = FakeCluster(lines={"app": lines("app", 200)})

    async def script(ui: Ui) -> None:
        view = await opened(ui)
        await ui.until(lambda: len(view.rows) == 200)
        await ui.press("pageup")
        await ui.shows("not following")
        top = ui.text().splitlines()[3]
        for _ in range(20):
            await cluster.write("app", b"more")
        await ui.until(lambda: len(view.rows) == 220)
        assert ui.text().splitlines()[3] == top
        await ui.press("G")
        await ui.shows("more")
        assert view.following

    run(cluster, script)


def test_a_full_window_waits_for_who_reads() -> None:
    cluster = FakeCluster(lines={"app": lines("app", 10)})

    async def script(ui: Ui) -> None:
        view = await opened(ui)
        await ui.until(lambda: len(view.rows) == 10)
        await ui.press("g")
        cluster.lines["app"] += [LogLine("app", stamp(100 + n / 1000), b"flood") for n in range(30_000)]
        await cluster.write("app", b"last", stamp(1000))
        await ui.shows("stopped, the window is full")
        assert texts(view)[0] == "line 0" and len(view.rows) == 20_000
        await ui.press("f")
        await ui.shows("last")
        assert "line 0" not in texts(view)

    run(cluster, script)


def test_older_lines_are_loaded_at_the_top() -> None:
    cluster = FakeCluster(lines={"app": lines("app", 5000)})

    async def script(ui: Ui) -> None:
        view = await opened(ui)
        await ui.until(lambda: len(view.rows) == 2000)
        assert texts(view)[0] == "line 3000"
        for count in (4000, 5000):
            await ui.press("g", "g")
            await ui.until(lambda count=count: len(view.rows) == count)
        await ui.press("g", "g")
        await ui.shows("this is the beginning of the log")
        assert texts(view) == [f"line {n}" for n in range(5000)]

    run(cluster, script)


def test_the_window_is_bounded_and_says_what_it_dropped() -> None:
    cluster = FakeCluster(lines={"app": lines("app", 10)})

    async def script(ui: Ui) -> None:
        view = await opened(ui)
        await ui.until(lambda: len(view.rows) == 10)
        flood = [LogLine("app", stamp(100 + n / 1000), b"flood") for n in range(20_500)]
        cluster.lines["app"] += flood
        await cluster.write("app", b"last", stamp(1000))
        await ui.shows("last")
        await ui.until(lambda: "511 older dropped" in ui.text())
        assert len(view.rows) == 20_000
        await ui.press("g", "g")
        await ui.shows("kdebug logs")

    run(cluster, script, size=(160, 30))


@pytest.mark.parametrize("wrapped", [False, True])
def test_hostile_lines_are_shown_as_what_they_are(wrapped: bool) -> None:
    long = b"\xe4\xb8\xad\xcc\x81[/x]" * 2000
    cluster = FakeCluster(lines={"app": [LogLine("app", stamp(1), HOSTILE), LogLine("app", "", long)]})
    cluster.listed = [EventInfo(stamp(2), "Warning", "\x1b[31mBad", "[/foo]\x1b[2J", 1, "x", "\x1b]0;")]

    async def script(ui: Ui) -> None:
        view = await opened(ui)
        await ui.until(lambda: len(view.rows) == 3)
        if wrapped:
            await ui.press("w")
        await ui.press("g", "right", "left", "t", "slash", *"foo", "enter")
        await ui.press("g")
        await ui.shows(r"\x1b[2J")
        shown = ui.text()
        assert r"\x1b]0;owned\x07 [/foo] [bold]x\r\n" in shown
        assert all(c.isprintable() or c == "\n" for c in shown)
        assert all(len(line) <= 100 for line in shown.splitlines())

    run(cluster, script)


def test_colours_and_tabs_of_a_program_leave_its_words() -> None:
    cluster = FakeCluster(lines={"app": [LogLine("app", stamp(1), b"\x1b[1;31mERROR\x1b[0m\tdisk full")]})

    async def script(ui: Ui) -> None:
        await opened(ui)
        await ui.shows("ERROR    disk full")

    run(cluster, script)


def test_times_in_utc_and_local() -> None:
    cluster = FakeCluster(
        lines={
            "app": [
                LogLine("app", "2024-05-01T10:00:00.123456789Z", b"first"),
                LogLine("app", "2024-05-01T12:00:01.5+02:00", b"second"),
            ]
        }
    )

    async def script(ui: Ui) -> None:
        await opened(ui)
        await ui.press("t")
        await ui.shows("10:00:00.123 app first")
        await ui.shows("10:00:01.500 app second")
        await ui.shows("times UTC")
        await ui.press("t")
        await ui.shows("times local")

    run(cluster, script)


def test_the_previous_instance_of_a_crash_loop_without_an_attach() -> None:
    crashed: dict[str, Any] = {
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": stamp(-9)}},
    }
    cluster = FakeCluster(
        lines={"app": lines("app", 2)}, previous={"app": lines("app", 2, "last words {}")}
    )
    cluster.pod["status"]["containerStatuses"][0].update(crashed)

    async def script(ui: Ui) -> None:
        view = await opened(ui)
        await ui.until(lambda: len(view.rows) == 2)
        await ui.press("p")
        await ui.shows("last words 1")
        await ui.shows("previous instance")
        assert {name for name, query in cluster.asked if query.previous} == {"app"}

    run(cluster, script, opener=refusing(NOT_RUNNING))


def test_one_container_is_chosen() -> None:
    cluster = FakeCluster(lines={"app": lines("app", 2, "a{}"), "side": lines("side", 2, "s{}")})

    async def script(ui: Ui) -> None:
        view = await opened(ui)
        await ui.until(lambda: len(view.rows) == 4)
        await ui.press("c")
        await ui.shows("all containers")
        await ui.press("down", "down", "enter")
        await ui.until(lambda: texts(view) == ["s0", "s1"])

    run(cluster, script)


def test_saved_privately_and_never_over_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cluster = FakeCluster(lines={"app": [LogLine("app", stamp(1), HOSTILE)]})

    async def script(ui: Ui) -> None:
        view = await opened(ui)
        await ui.until(lambda: view.rows)
        await ui.press("S")
        await ui.shows("Save 1 lines to")
        await ui.press("enter")
        await ui.until(lambda: list(tmp_path.iterdir()))
        (file,) = tmp_path.iterdir()
        await ui.until(lambda: file.stat().st_size)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert file.read_bytes() == stamp(1).encode() + b" app " + HOSTILE + b"\n"
        os.rename(file, tmp_path / "kept.log")
        await ui.press("S")
        await ui.shows("Save 1 lines to")
        await ui.press("ctrl+u", *"kept.log", "enter")
        await ui.shows("kept.log is there already")
        assert (tmp_path / "kept.log").read_bytes().endswith(HOSTILE + b"\n")

    run(cluster, script)


def test_a_local_target_has_no_logs() -> None:
    async def script(ui: Ui) -> None:
        await ui.attached()
        assert [pane.title for pane in ui.screen.panes if pane.title == "Logs"] == []

    play(f"local:{os.getpid()}", script)
