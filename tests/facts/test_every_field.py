"""Every field of every process record against a second reading (support/second_readings.py).

Each comparison is of all fields at once, so a new field fails here until it has a reading; and the values
of the subjects differ between any two fields of one kind, so that taking one for the other fails, too.
"""

from __future__ import annotations

import itertools
import mmap
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from conftest import needs_root
from kdebug.agent import dispatch
from kdebug.agent.session import Session
from kdebug.errors import NotFound
from kdebug.protocol import processes, system
from kdebug.protocol import requests as ask
from kdebug.protocol.record import Record, fields_of
from support import second_readings as second
from support.subjects import Subject, Workshop, make_subjects

pytestmark = [needs_root, pytest.mark.xdist_group("every-field")]
"""In one process of xdist: two sets of these would count each other's pending signals."""
PATIENCE = 10.0


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Subject]]:
    folder = tmp_path_factory.mktemp("subjects")
    folder.chmod(0o755)
    with Workshop(folder) as workshop:
        made = dict(make_subjects(workshop))
        for _ in range(3):
            # Queued for a user of its own; blocked there (rt_sigqueueinfo(2) merges none from SIGRTMIN on).
            os.kill(made["worker"].pid, signal.SIGRTMIN)
        deadline = time.monotonic() + PATIENCE
        while any(psutil.Process(one.pid).status() == "running" for one in made.values()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield made


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    session = Session()
    dispatch.handle(session, ask.OpenTarget(pid=os.getpid()))
    yield session
    session.close()


def agree(ours: Callable[[], Any], theirs: Callable[[], Any]) -> None:
    """Both at a moment at which they say the same: pages come and go while others map them."""
    deadline = time.monotonic() + PATIENCE
    while True:
        mine, other = ours(), theirs()
        # Theirs first, for it may be equal to more than itself.
        if other == mine:
            return
        if time.monotonic() > deadline:
            raise AssertionError(differences(mine, other))
        time.sleep(0.05)


def differences(mine: Any, other: Any) -> str:
    """Only what differs: a whole record twice would bury it."""
    if isinstance(mine, list) and isinstance(other, list) and len(mine) == len(other):
        mine, other = dict(enumerate(mine)), dict(enumerate(other))
    if not isinstance(mine, dict) or not isinstance(other, dict):
        return f"{mine!r} is not {other!r}"
    told = []
    for key in [*mine, *(key for key in other if key not in mine)]:
        one, two = mine.get(key, "(missing)"), other.get(key, "(missing)")
        if two != one:
            told.append(f"{key}: {differences(one, two)}")
    return "; ".join(told)


def rows_of(session: Session) -> dict[int, processes.Process]:
    page = dispatch.handle(session, ask.ListProcesses(limit=1000))
    rows = {row.pid: row for row in page.items}
    while page.cursor:
        page = dispatch.handle(session, ask.ListProcesses(limit=1000, cursor=page.cursor))
        rows |= {row.pid: row for row in page.items}
    return rows


def in_full(session: Session, subject: Subject) -> processes.ProcessDetail:
    return dispatch.handle(session, ask.GetProcess(subject.pid))


SUBJECTS = ("worker", "shy", "nested", "terminal", "deleted", "zombie", "kernel")
ACCOUNTING = ("worker", "shy", "nested", "terminal")


@pytest.fixture
def subject(request: pytest.FixtureRequest, subjects: dict[str, Subject]) -> Subject:
    if request.param not in subjects:
        pytest.skip("kernel threads are not visible here")
    return subjects[request.param]


everybody = pytest.mark.parametrize("subject", SUBJECTS, indirect=True)
accounting = pytest.mark.parametrize("subject", ACCOUNTING, indirect=True)


@everybody
def test_row(session: Session, subject: Subject) -> None:
    agree(lambda: vars(rows_of(session)[subject.pid]), lambda: second.process_row(subject))


@everybody
def test_detail(session: Session, subject: Subject) -> None:
    agree(lambda: vars(in_full(session, subject)), lambda: second.detail(subject))
    whole = {"cmdline": subject.argv, "cmdline_truncated": False}
    agree(
        lambda: vars(in_full(session, subject).process),
        lambda: second.process_row(subject) | whole,
    )


@everybody
def test_memory(session: Session, subject: Subject) -> None:
    agree(lambda: vars(in_full(session, subject).memory), lambda: second.memory(subject))


@everybody
def test_io(session: Session, subject: Subject) -> None:
    agree(lambda: vars(in_full(session, subject).io), lambda: second.io(subject))


@everybody
def test_limits(session: Session, subject: Subject) -> None:
    agree(lambda: [vars(one) for one in in_full(session, subject).limits], lambda: second.limits(subject))


@everybody
def test_threads(session: Session, subject: Subject) -> None:
    agree(lambda: [vars(one) for one in in_full(session, subject).threads], lambda: second.threads(subject))


@accounting
def test_capabilities(session: Session, subject: Subject) -> None:
    agree(lambda: vars(in_full(session, subject).capabilities), lambda: second.capabilities(subject))


@accounting
def test_descriptors(session: Session, subject: Subject) -> None:
    agree(
        lambda: {
            one.fd: vars(one)
            for one in dispatch.handle(session, ask.ListFds(pid=subject.pid, limit=500)).items
        },
        lambda: second.fds(subject),
    )


def mappings(session: Session, subject: Subject) -> list[processes.MapInfo]:
    return list(dispatch.handle(session, ask.ListMaps(pid=subject.pid, limit=1000)).items)


@everybody
def test_mappings(session: Session, subject: Subject) -> None:
    agree(lambda: [vars(one) for one in mappings(session, subject)], lambda: second.maps(subject))


@pytest.mark.parametrize("subject", ["worker", "shy", "nested"], indirect=True)
def test_environment(session: Session, subject: Subject) -> None:
    agree(
        lambda: [vars(one) for one in dispatch.handle(session, ask.ListEnviron(pid=subject.pid)).items],
        lambda: second.environment(subject),
    )


@everybody
def test_pages_and_documents_are_of_the_process_asked_for(session: Session, subject: Subject) -> None:
    questions: list[Any] = [ask.ListFds, ask.ListMaps]
    if subject.kernel or subject.ended:
        with pytest.raises(NotFound, match=f"the process {subject.pid} has no environment"):
            dispatch.handle(session, ask.ListEnviron(pid=subject.pid))
    else:
        questions.append(ask.ListEnviron)
    for question in questions:
        whole = dispatch.handle(session, question(pid=subject.pid, limit=1000))
        page = dispatch.handle(session, question(pid=subject.pid, limit=1))
        items = list(page.items)
        assert (page.pid, whole.pid, whole.cursor) == (subject.pid, subject.pid, "")
        while page.cursor:
            page = dispatch.handle(session, question(pid=subject.pid, limit=1, cursor=page.cursor))
            assert page.pid == subject.pid
            items.extend(page.items)
        assert tuple(items) == whole.items
    agree(
        lambda: vars(dispatch.handle(session, ask.GetLimits(subject.pid))),
        lambda: {"pid": subject.pid, "items": in_full(session, subject).limits},
    )


def test_page_of_the_table(session: Session, subjects: dict[str, Subject]) -> None:
    began, spent = time.time(), time.process_time()
    page = dispatch.handle(session, ask.ListProcesses(limit=1000))
    ended, seen_rows = time.time(), len(page.items)
    while page.cursor:
        page = dispatch.handle(session, ask.ListProcesses(limit=1000, cursor=page.cursor))
        seen_rows += len(page.items)
    cost = time.process_time() - spent
    assert {
        "items": second.Elsewhere("test_row"),
        "generation": second.Between(int(began * 1e6) - 10**12, int(ended * 1e6)),
        "full": True,
        "gone": (),
        "cursor": "",
        "taken_at": second.Between(began, ended),
        "cost_seconds": second.Between(1e-6, cost),
        "next_after_seconds": second.Between(0.001, 60),
        "scope": "every process of the PID namespace that the agent shares with the target",
    } == vars(page)
    delta = dispatch.handle(session, ask.ListProcesses(limit=1000, since=page.generation))
    assert not delta.full and delta.generation > page.generation and len(delta.items) < seen_rows


def test_target(session: Session, subjects: dict[str, Subject]) -> None:
    here = os.stat("/proc/self/ns/pid").st_ino, os.stat("/proc/self/ns/net").st_ino
    for role, read_only in (("worker", True), ("nested", False)):
        subject = subjects[role]
        other = Session()
        try:
            told = dispatch.handle(other, ask.OpenTarget(pid=subject.pid, read_only=read_only))
        finally:
            other.close()
        row = second.process_row(subject)
        spaces = second.namespaces(subject)
        assert {
            "pid": subject.pid,
            "start_ticks": row["start_ticks"],
            "name": subject.account["name"],
            "container": second.Elsewhere("test_system_facts"),
            "same_pid_namespace": spaces["pid"] == here[0],
            "same_network_namespace": spaces["net"] == here[1],
            "boot_id": second.system_control("kernel.random.boot_id"),
            "clock_ticks": second.TICKS,
            "page_size": mmap.PAGESIZE,
            "read_only": read_only,
            "agent_container": second.Elsewhere("test_system_facts"),
            "reasons": {},
        } == vars(told)


RECORDS: dict[type[Record], str] = {
    processes.Process: "test_row",
    processes.ProcessPage: "test_page_of_the_table",
    processes.ProcessDetail: "test_detail",
    processes.ThreadInfo: "test_threads",
    processes.FdInfo: "test_descriptors",
    processes.MapInfo: "test_mappings",
    processes.EnvVar: "test_environment",
    processes.LimitInfo: "test_limits",
    processes.Capabilities: "test_capabilities",
    processes.MemoryDetail: "test_memory",
    processes.IoDetail: "test_io",
    processes.FdPage: "test_pages_and_documents_are_of_the_process_asked_for",
    processes.MapPage: "test_pages_and_documents_are_of_the_process_asked_for",
    processes.EnvPage: "test_pages_and_documents_are_of_the_process_asked_for",
    processes.Limits: "test_pages_and_documents_are_of_the_process_asked_for",
    system.TargetInfo: "test_target",
}
NOT_HERE = {
    processes.SignalSent: "echoes the question",
    system.Mount: "test_system_facts: findmnt",
    system.MountPage: "test_system_facts: findmnt",
    system.Pressure: "test_system_facts: recorded cgroups",
    system.CgroupInfo: "test_system_facts: recorded cgroups",
    system.Ability: "what was tried, not what was read",
    system.Access: "what was tried, not what was read",
    system.AgentInfo: "of the agent, not of a process",
}


def test_every_record_has_its_comparison() -> None:
    """And each of its fields, for the comparisons are of all fields at once."""
    records = {
        found
        for module in (processes, system)
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, Record) and found.__module__ == module.__name__
    }
    assert records == RECORDS.keys() | NOT_HERE.keys()
    assert set(RECORDS.values()) <= globals().keys()


CONSTANT = {
    "Process.container": "recorded",
    "Process.reasons": "test_what_is_null_has_a_reason",
    "ProcessDetail.threads_truncated": "recorded",
    "MemoryDetail.swap_bytes": "recorded: a machine need not swap",
    "FdInfo.error": "recorded",
    "EnvVar.value": "",
}
TWINS = {
    ("IoDetail.read_bytes", "IoDetail.write_bytes"): "a memory file system has no storage",
}


def seen(session: Session, subjects: dict[str, Subject]) -> Iterator[Record]:
    rows = rows_of(session)
    for subject in subjects.values():
        detail = in_full(session, subject)
        yield from (rows[subject.pid], detail, detail.memory, *detail.limits, *detail.threads)
        yield from [one for one in (detail.io, detail.capabilities) if one is not None]
        yield from mappings(session, subject)
        yield from dispatch.handle(session, ask.ListFds(pid=subject.pid, limit=500)).items


def test_no_two_fields_could_be_taken_for_each_other(
    session: Session, subjects: dict[str, Subject]
) -> None:
    """Else the comparisons above could not tell: what all subjects have in common proves little."""
    by_kind: dict[type[Record], list[dict[str, object]]] = {}
    for record in seen(session, subjects):
        by_kind.setdefault(type(record), []).append(vars(record))
    alike = []
    for kind, records in by_kind.items():
        annotations = {name: str(of[1]) for name, of in fields_of(kind).items()}
        for name in annotations:
            if len({repr(one[name]) for one in records}) < 2:
                alike.append(f"{kind.__name__}.{name}")
        for one, two in itertools.combinations(annotations, 2):
            pair = (f"{kind.__name__}.{one}", f"{kind.__name__}.{two}")
            if annotations[one] == annotations[two] and all(r[one] == r[two] for r in records):
                alike.append(" ".join(pair))
    known = {*CONSTANT, *(" ".join(pair) for pair in TWINS)}
    assert set(alike) <= known, set(alike) - known


NULL_WITHOUT_REASON = {"container", "user", "exe"}
"""None outside of containers, without a line in passwd, and without a program."""


@pytest.mark.parametrize("reader", ["root", "stranger"])
def test_what_is_null_has_a_reason(subjects: dict[str, Subject], reader: str) -> None:
    """And what has a reason is null, whoever reads."""
    for role, subject in subjects.items():
        told = second.details_for(subject, stranger=reader == "stranger")
        reasons = dict(told["reasons"])
        parts = {"": told, "memory.": told["memory"], "namespaces.": told["namespaces"]}
        null = {
            prefix + name for prefix, part in parts.items() for name, value in part.items() if value is None
        }
        assert null == reasons.keys() - {"threads", "limits"}, (role, null ^ reasons.keys())
        row = told["process"]
        null = {name for name, value in row.items() if value is None} - NULL_WITHOUT_REASON
        assert null == row["reasons"].keys() - NULL_WITHOUT_REASON, role
        if reader == "stranger" and role == "worker":
            assert {"io", "cwd", "root", "memory.pss_bytes", "memory.uss_bytes"} <= reasons.keys()
            assert {"fds", "exe"} <= row["reasons"].keys()
            for name in ("cwd", "io", "memory.uss_bytes"):
                assert "SYS_PTRACE" in reasons[name], (name, reasons[name])
