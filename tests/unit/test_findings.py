"""The rules of what looks wrong: each with what it tells, and the nearest thing that it must not tell."""

from __future__ import annotations

from typing import Any

import pytest

from kdebug.findings import Facts, Finding, Place, find
from kdebug.growth import Growth, Rising
from kdebug.kube import story
from kdebug.protocol.network import Socket
from kdebug.protocol.processes import FdInfo, LimitInfo, Process, ProcessPage
from kdebug.protocol.system import CgroupInfo, Pressure
from kdebug.target.cluster import EventInfo, Story
from kdebug.units import rfc3339
from kdebug.usage import BARS, Sample, Usage, sparkline

NOW = 1_700_000_000.0
MIB = 2**20


def ago(seconds: float) -> str:
    return rfc3339(NOW - seconds) or ""


def process(pid: int, rss: int = 0, **fields: Any) -> Process:
    fields = {"ppid": 1, "name": f"p{pid}", "state": "S", **fields}
    return Process(pid=pid, start_ticks=1, rss_bytes=rss, vsize_bytes=0, cpu_seconds=0.0, threads=1,
                   started_at=0.0, **fields)  # fmt: skip


def usage(*groups: CgroupInfo, apart: float = 2.0) -> Usage:
    made = Usage()
    for number, group in enumerate(groups):
        made.add(Sample(number * apart, group))
    return made


def group(**fields: Any) -> CgroupInfo:
    return CgroupInfo(version=2, path="/", **fields)


def pod_story(events: tuple[EventInfo, ...] = (), node: Any = None, **status: Any) -> Story:
    state = {"running": {"startedAt": ago(60)}}
    container = {"name": "app", "ready": True, "restartCount": 0, "state": state, **status}
    pod = {
        "metadata": {"name": "web", "namespace": "shop", "creationTimestamp": ago(900)},
        "spec": {"containers": [{"name": "app", "image": "i"}]},
        "status": {"phase": "Running", "containerStatuses": [container]},
    }
    return Story(story.pod_facts(pod, node, None), (), events, {})


def told(**fields: Any) -> list[Finding]:
    return find(Facts(now=NOW, container="app", **fields))


def only(**fields: Any) -> Finding:
    (found,) = told(**fields)
    return found


def test_nothing_is_said_of_what_is_not_known() -> None:
    assert told() == []
    assert told(usage=usage(group(reasons={"memory": "not there"})), story=pod_story()) == []


@pytest.mark.parametrize(("used", "says"), [(89, False), (90, True), (100, True)])
def test_memory_near_its_limit(used: int, says: bool) -> None:
    sample = usage(group(memory_limit_bytes=100 * MIB, memory_working_set_bytes=used * MIB))
    found = told(usage=sample, processes=[process(7, 80 * MIB), process(8, MIB)])
    assert bool(found) is says
    if says:
        text = f"memory is at {used}% of its limit of 100.0M; most has p7 (pid 7), 80.0M"
        assert found == [Finding("memory", text, True, Place.PROCESS, 7)]


def test_memory_without_a_limit_is_never_short() -> None:
    assert told(usage=usage(group(memory_working_set_bytes=2**40))) == []


def test_a_rising_process_and_when_the_limit_is_reached() -> None:
    rising = [Rising(7, "worker", 30 * MIB, MIB / 4, 60.0)]
    assert only(rising=rising).text == "memory of worker (pid 7) rises by 15.0 MiB/min, now 30.0M"
    sample = usage(group(memory_limit_bytes=100 * MIB, memory_usage_bytes=40 * MIB))
    finding = only(rising=rising, usage=sample)
    assert finding.text.endswith("at this rate the limit is reached in 4m00s")
    assert (finding.place, finding.pid, finding.bad) == (Place.PROCESS, 7, False)


def test_throttling_is_told_of_now_not_of_long_ago() -> None:
    def at(periods: int, throttled: int) -> CgroupInfo:
        return group(cpu_periods=periods, cpu_throttled_periods=throttled, cpu_limit_cores=0.1)

    finding = only(usage=usage(at(1000, 900), at(1020, 910)))
    assert finding.text == "CPU is throttled: the quota of 0.1 cores was used up in 50% of the periods"
    assert told(usage=usage(at(1000, 900), at(1020, 902))) == []
    assert told(usage=usage(at(1000, 900), at(1020, 910), at(1320, 910), at(1640, 910), apart=20)) == []
    assert told(usage=usage(at(1000, 900), at(10, 1))) == [], "the counters began anew"


def test_kills_and_pids() -> None:
    assert only(usage=usage(group(oom_kills=2))).text.startswith("the kernel has killed 2 processes")
    assert told(usage=usage(group(oom_kills=0))) == []
    assert only(usage=usage(group(pids_limit=100, pids_current=90))).bad
    assert told(usage=usage(group(pids_limit=100, pids_current=89))) == []


def test_pressure() -> None:
    def of(name: str, avg10: float) -> Usage:
        return usage(group(pressure={name: Pressure(avg10, 0, 0, 0), "cpu.full": None}))

    assert only(usage=of("memory.full", 6.0)).text == (
        "pressure: everything waited for memory 6 % of the last 10 s"
    )
    assert only(usage=of("io.some", 25.0)).bad is False
    assert told(usage=of("io.some", 19.0)) == [] == told(usage=of("io.full", 4.0))


def test_open_files_near_the_limit() -> None:
    limit = LimitInfo("Max open files", 100, 200, "files", used=3)
    finding = only(files=[(process(7, fds=95), limit)])
    assert (finding.place, finding.pid) == (Place.FDS, 7)
    assert finding.text == "p7 (pid 7) has 95 of 100 files open: soon it can open no more"
    assert told(files=[(process(7, fds=89), limit), (process(8), limit)]) == []


def socket(state: str, *pids: int) -> Socket:
    return Socket("inet", "tcp", "192.0.2.1:80", "192.0.2.2:9", state, inode=1, pids=pids)


def test_sockets_in_close_wait_by_who_holds_them() -> None:
    sockets = [socket("CLOSE-WAIT", 7), socket("CLOSE-WAIT", 7), socket("ESTAB", 8), socket("CLOSE-WAIT")]
    finding = only(sockets=sockets, processes=[process(7, name="client")])
    assert finding.text == "client (pid 7) holds 2 sockets in CLOSE-WAIT: the peer has closed, it has not"
    assert finding.place is Place.SOCKETS


def test_a_deleted_file_that_several_hold_is_told_once() -> None:
    item = FdInfo(4, "file", "/tmp/big (deleted)", deleted=True, inode=5, size_bytes=3 * MIB)
    finding = only(deleted=[(process(1, name="server"), item), (process(2), item), (process(3), item)])
    assert finding.text == "a deleted file of 3.0M is held open by server (pid 1) and 2 more: /tmp/big"
    assert (finding.place, finding.pid) == (Place.FDS, 1)


def test_zombies_name_their_parent() -> None:
    dead = [process(pid, state="Z", ppid=7) for pid in (20, 21)]
    finding = only(processes=[process(7, name="init"), *dead])
    assert finding.text == "2 zombies are left: init (pid 7) does not wait for its children"


def test_the_clock() -> None:
    assert only(skew_seconds=-7.4).text.startswith("the clock there is 7 s behind this machine's")
    assert told(skew_seconds=1.9) == []


OOM = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": ago(300)}}


def test_a_restart_lately_and_why() -> None:
    finding = only(story=pod_story(lastState=OOM, restartCount=4))
    assert finding.text == "app restarted 5m00s ago, 4 times so far: exit code 137 (OOMKilled)"
    assert (finding.place, finding.container, finding.bad) == (Place.PREVIOUS_LOGS, "app", True)
    old = {"terminated": {"exitCode": 1, "finishedAt": ago(7200)}}
    assert told(story=pod_story(lastState=old, restartCount=1)) == []


def test_a_container_that_does_not_run() -> None:
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    finding = only(story=pod_story(state=waiting, lastState=OOM))
    assert finding.text == (
        "app does not run: CrashLoopBackOff: back-off 10s; it ended last with exit code 137 (OOMKilled)"
    )
    assert finding.place is Place.PREVIOUS_LOGS
    pulling = only(story=pod_story(state={"waiting": {"reason": "ErrImagePull"}}))
    assert (pulling.text, pulling.place) == ("app does not run: ErrImagePull", Place.LOGS)
    failed = only(story=pod_story(state={"terminated": {"exitCode": 3, "finishedAt": ago(5)}}))
    assert failed.text.startswith("app has ended (exit code 3 at ")
    assert told(story=pod_story(state={"terminated": {"exitCode": 0, "finishedAt": ago(5)}})) == []


def test_a_probe_that_fails() -> None:
    def unhealthy(seconds: float) -> tuple[EventInfo, ...]:
        text = "Readiness probe failed: HTTP probe failed with statuscode: 503"
        return (EventInfo(ago(seconds), "Warning", "Unhealthy", text, 12, "kubelet", "app"),)

    finding = only(story=pod_story(unhealthy(20)))
    assert "statuscode: 503 (20s ago, 12 times)" in finding.text and finding.container == "app"
    assert told(story=pod_story(unhealthy(700))) == []


def test_the_node_and_the_end_of_the_pod() -> None:
    def node(kind: str, status: str) -> Any:
        return {"status": {"conditions": [{"type": kind, "status": status, "reason": "KubeletSays"}]}}

    assert only(story=pod_story(node=node("MemoryPressure", "True"))).text == (
        "the node says MemoryPressure=True: KubeletSays"
    )
    assert only(story=pod_story(node=node("Ready", "Unknown"))).bad
    assert told(story=pod_story(node=node("Ready", "True"))) == []
    leaving = pod_story()
    leaving.facts["deleted_at"] = ago(-30)
    assert only(story=leaving).text.startswith("the pod was deleted and must be gone by 20")


def test_what_breaks_comes_first() -> None:
    found = told(skew_seconds=60.0, usage=usage(group(pids_limit=10, pids_current=10)))
    assert [finding.bad for finding in found] == [True, False]


def grown(*points: tuple[float, int], own: str | None = None) -> list[Rising]:
    return seen(*points, own=own).rising()


def seen(*points: tuple[float, int], own: str | None = None) -> Growth:
    growth = Growth()
    for at, rss in points:
        item = process(7, rss, container="c")
        growth.apply(ProcessPage((item,), 1, full=False, taken_at=at), own)
    return growth


def test_a_short_look_tells_who_rose_and_that_it_was_short() -> None:
    growth = seen((0.0, 10 * MIB), (0.5, 10 * MIB), (1.0, 11 * MIB), (2.0, 12 * MIB))
    assert growth.rising() == []
    text = only(rose=growth.rose()).text
    assert text.startswith("memory of p7 (pid 7) rose by 2.0M, to 12.0M, in the 2.0 s of the looks")
    assert "too short" in text
    rising = Rising(7, "p7", 12 * MIB, 1000.0, 60.0)
    assert " rises by " in only(rose=growth.rose(), rising=[rising]).text


@pytest.mark.parametrize(
    "points",
    [
        [(0.0, 10 * MIB), (2.0, 20 * MIB)],  # once: a cache was filled
        [(0.0, 10 * MIB), (1.0, 10 * MIB + 1000), (2.0, 10 * MIB + 9000)],
        [(0.0, 2000 * MIB), (1.0, 2001 * MIB), (2.0, 2002 * MIB)],  # a thousandth
        [(0.0, 10 * MIB), (1.0, 14 * MIB), (2.0, 16 * MIB), (3.0, 11 * MIB)],
    ],
)
def test_what_is_no_rise_even_for_a_short_look(points: list[tuple[float, int]]) -> None:
    assert seen(*points).rose() == []


def test_a_clock_that_stands_tells_of_no_leak() -> None:
    assert grown((0.0, MIB), *((20.0, n * MIB) for n in range(2, 9))) == []


def test_a_leak_is_told_with_its_rate() -> None:
    (rising,) = grown(*((2.0 * n, 10 * MIB + n * MIB // 2) for n in range(12)))
    assert rising.bytes_per_second == pytest.approx(MIB / 4)
    assert rising.rss_bytes == 10 * MIB + 11 * MIB // 2 and rising.seconds == 22.0


def test_what_a_start_takes_is_no_leak() -> None:
    warm = [(2.0 * n, min(n, 4) * 100 * MIB + n) for n in range(20)]
    assert grown(*warm) == []


def test_steady_up_and_down_is_no_leak() -> None:
    assert grown(*((2.0 * n, (10 + n % 5) * MIB) for n in range(40))) == []


def test_a_rise_that_stopped_and_kdebugs_own_are_not_told() -> None:
    leak = [(2.0 * n, 10 * MIB + n * MIB) for n in range(12)]
    assert len(grown(*leak)) == 1
    assert grown(*leak, (60.0, 10 * MIB + 11 * MIB)) == []
    assert grown(*leak, own="c") == []


def test_a_long_leak_keeps_few_points_and_its_rate() -> None:
    (rising,) = grown(*((2.0 * n, n * MIB) for n in range(2000)))
    assert rising.bytes_per_second == pytest.approx(MIB / 2, rel=0.05)


def test_sparkline() -> None:
    assert sparkline([0, 50, 100], 10, 100) == BARS[0] + BARS[4] + BARS[7]
    assert sparkline([1, 2, 3, 4], 2) == BARS[5] + BARS[7]
    assert sparkline([], 5) == "" and sparkline([0, 0], 5) == BARS[0] * 2
