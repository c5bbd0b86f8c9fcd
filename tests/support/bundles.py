"""Bundles that no capture made: of a pod that has everything a report tells of, and of liars."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kdebug.capture.answers import Answer, member_name
from kdebug.capture.questions import question
from kdebug.capture.writer import BundleWriter
from kdebug.kube import story
from kdebug.protocol import codec, search
from kdebug.protocol import files as at_files
from kdebug.protocol import network as at_network
from kdebug.protocol import processes as at_processes
from kdebug.protocol import requests as ask
from kdebug.protocol import system as at_system
from kdebug.target.cluster import EventInfo
from kdebug.units import rfc3339

NOW = 1_700_000_600.0
MIB = 2**20
Change = Callable[[Any], Any]


class Made:
    """A bundle under way: each document passes `change` first."""

    def __init__(self, path: Path, change: Change = lambda document: document) -> None:
        self.writer, self.change = BundleWriter(str(path)), change
        self.listed: list[dict[str, Any]] = []
        self._names: set[str] = set()

    def answer(self, request: Any, record: Any, at: float) -> None:
        asked = {"request": request.name, **codec.to_plain(request)}
        answer = Answer(question(request, 7), asked, at, self.change(codec.to_plain(record)))
        name = member_name(answer, self._names.__contains__)
        self._names.add(name)
        self.writer.add_json(name, answer.document())
        self.listed.append({"question": answer.question, "at": at, "member": name})

    def json(self, name: str, document: Any) -> None:
        self.writer.add_json(name, self.change(document))

    def log(self, container: str, lines: list[tuple[float, bytes]], previous: bool = False) -> None:
        said = [self.change(text.decode("utf-8", "surrogateescape")) for _, text in lines]
        stamped = (f"{rfc3339(at)} {text}\n" for (at, _), text in zip(lines, said))
        data = "".join(stamped).encode("utf-8", "surrogateescape")
        self.writer.stream(f"logs/{container}{'.previous' if previous else ''}.log", [data])

    def close(self, manifest: dict[str, Any]) -> None:
        changed = self.change(manifest)
        if isinstance(changed, dict):
            changed = changed | {"answers": self.listed}
        self.writer.add_json("manifest.json", changed)
        self.writer.close()


def process(pid: int, name: str, rss: int, cpu: float, **fields: Any) -> at_processes.Process:
    given: dict[str, Any] = {
        "ppid": 7, "state": "S", "threads": 4, "started_at": NOW - 500, "uid": 65532, "user": "nonroot",
        "fds": 40 + pid, "container": "c0ffee",
        "cmdline": (f"/app/{name}", "--config", "/etc/app/config.yaml"),
    }  # fmt: skip
    return at_processes.Process(
        pid=pid,
        start_ticks=pid,
        name=name,
        rss_bytes=rss,
        vsize_bytes=2 * rss,
        cpu_seconds=cpu,
        **given | fields,
    )


def made_pod(path: Path, change: Change = lambda document: document, samples: int = 25) -> None:
    """A pod that was killed for want of memory and fills it again, over a minute."""
    made = Made(path, change)
    info = at_system.TargetInfo(7, 7, "server", "c0ffee", True, True, "boot", 100, 4096, False, "7001b0c5")
    made.answer(ask.OpenTarget(pid=7), info, NOW - 60)
    for number in range(samples):
        _sample(made, NOW - 60 + 60 * number / (samples - 1), number / (samples - 1))
    _files(made)
    agent = at_system.AgentInfo(9, "3.11", "abc", 14 * MIB, 0.4, 1.0, 1000, False, "present", 1.0, NOW - 59)
    made.answer(ask.GetAgentInfo(), agent, NOW - 59)
    ability = at_system.Ability("files write", False, "the root is mounted read-only", "nothing")
    made.answer(ask.GetAccess(), at_system.Access(65532, 65532, (), (ability,)), NOW - 59)
    limit = at_processes.LimitInfo("Max open files", 64, 64, "files")
    made.answer(ask.GetLimits(7), at_processes.Limits(7, (limit,)), NOW - 58)
    _kubernetes(made)
    made.close(MANIFEST)


def _sample(made: Made, at: float, share: float) -> None:
    growing = int((80 + 95 * share) * MIB)
    rows = (
        process(7, "server", 64 * MIB, 9 + 6 * share, ppid=0, fds=60 + int(4 * share)),
        process(21, "worker-0", 40 * MIB, 3 + share),
        process(22, "worker-leak", growing, 3 + 18 * share),
        process(23, "client", 12 * MIB, 1.0, state="Z" if share == 1 else "S"),
        process(90, "python3", 14 * MIB, 0.1, container="7001b0c5", ppid=0),
    )
    page = at_processes.ProcessPage(rows, 1, True, taken_at=at, scope="PID namespace of the target")
    made.answer(ask.ListProcesses(), page, at)
    group = at_system.CgroupInfo(
        2, "/", "the target's cgroup", memory_limit_bytes=256 * MIB, memory_usage_bytes=growing + 80 * MIB,
        memory_working_set_bytes=growing + 60 * MIB, oom_kills=1, cpu_limit_cores=0.5,
        cpu_usage_seconds=100 + 24 * share, cpu_periods=int(600 * share),
        cpu_throttled_periods=int(240 * share), pids_limit=100, pids_current=9,
    )  # fmt: skip
    made.answer(ask.GetCgroup(), group, at)
    made.answer(ask.ListSockets(), at_network.SocketPage(_sockets(share)), at)


def _sockets(share: float) -> tuple[at_network.Socket, ...]:
    make = at_network.Socket
    found = [make("inet", "tcp", "0.0.0.0:8080", "0.0.0.0:0", "LISTEN", 1, 65532, (7,), 0, 0)]
    found += [
        make(
            "inet", "tcp", f"192.0.2.7:{40000 + n}", "192.0.2.10:5432", "ESTAB", 10 + n, 65532, (21,), 0, 0
        )
        for n in range(12)
    ]
    found += [
        make("inet6", "tcp", f"[2001:db8::7]:{50000 + n}", "[2001:db8::9]:443", "CLOSE-WAIT", 90 + n, 65532,
             (23,), 1, 0)
        for n in range(3 + int(28 * share))
    ]  # fmt: skip
    return tuple(found)


def _files(made: Made) -> None:
    held = search.HeldFile(7, 5, "/tmp/upload.tmp", 700 * MIB, 700 * MIB, 41, 8, "rw", "server")
    made.answer(search.ListDeleted(), search.HeldPage((held,)), NOW - 50)
    rows = (
        search.Usage("/var/log", 2, "dir", 900 * MIB, 900 * MIB, 14),
        search.Usage("/", 0, "dir", 2**30, 2**30, 99),
    )
    made.answer(search.DiskUsage(path="/", top=20), search.UsagePage(rows), NOW - 49)
    entries = (
        at_files.Entry("app.log", "file", 512 * MIB, allocated_bytes=512 * MIB),
        at_files.Entry("sparse", "file", 2**40, allocated_bytes=4096),
    )
    made.answer(ask.ListDir(path="/var/log"), at_files.Listing("/var/log", entries), NOW - 48)
    mount = at_system.Mount(
        1, 0, "0:40", "/", "/", (), "overlay", "overlay", (), False, 40 * 2**30, 37 * 2**30
    )
    made.answer(ask.ListMounts(), at_system.MountPage((mount,)), NOW - 47)
    card = at_network.Interface("eth0", "up", 1500, None, ("192.0.2.7/24",), 0, 0, 0, 0, 0, 0, 0, 0)
    dns = at_network.Dns(("192.0.2.53",), ("shop.svc.cluster.local",), ("ndots:5",))
    made.answer(ask.GetNetwork(), at_network.NetworkConfig((card,), (), dns, {}), NOW - 46)


def _kubernetes(made: Made) -> None:
    stamp = lambda ago: rfc3339(NOW - ago)  # noqa: E731
    ended = {"reason": "OOMKilled", "exitCode": 137, "finishedAt": stamp(505)}
    status = {
        "name": "app", "ready": False, "restartCount": 3, "state": {"running": {"startedAt": stamp(500)}},
        "lastState": {"terminated": ended}, "imageID": "registry.example/app@sha256:" + "ab" * 32,
    }  # fmt: skip
    pod: dict[str, Any] = {
        "metadata": {
            "name": "web-0", "namespace": "shop", "creationTimestamp": stamp(90_000),
            "ownerReferences": [{"kind": "ReplicaSet", "name": "web"}],
        },
        "spec": {
            "nodeName": "node-3",
            "containers": [{
                "name": "app", "image": "registry.example/app:4.2",
                "resources": {"limits": {"memory": "256Mi", "cpu": "500m"}},
            }],
        },
        "status": {
            "phase": "Running", "qosClass": "Burstable", "podIP": "192.0.2.7",
            "containerStatuses": [status],
            "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
        },
    }  # fmt: skip
    node = {
        "status": {
            "conditions": [{"type": "DiskPressure", "status": "True", "reason": "KubeletHasDiskPressure"}]
        }
    }
    events = [
        EventInfo(
            stamp(40) or "", "Warning", "Unhealthy", "Readiness probe failed: HTTP 503", 7, "kubelet", "app"
        ),
        EventInfo(stamp(502) or "", "Normal", "Pulled", "Image is present", 1, "kubelet", "app"),
    ]
    facts = story.pod_facts(pod, node, None)
    changes = [codec.to_plain(change) for change in story.changes(facts, events)]
    plain = [codec.to_plain(event) for event in events]
    made.json("kubernetes/pod.json", pod)
    made.json("kubernetes/story.json", {"facts": facts, "changes": changes, "events": plain, "missing": {}})
    made.json("kubernetes/events.json", plain)
    texts = (b"GET /orders 200", b"cache holds 81244 entries", b"upstream answered in 12 ms")
    lines = [(NOW - 500 + n / 2, b"level=info " + texts[n % 3]) for n in range(1000)]
    made.log("app", [*lines, (NOW - 39.5, b"level=error out of \xff buffers")])
    made.log(
        "app", [(NOW - 530 + n, b"level=warn heap at %d %%" % (75 + n)) for n in range(25)], previous=True
    )


MANIFEST: dict[str, Any] = {
    "format": 1, "status": "partial", "seconds": 60.2,
    "started_at": rfc3339(NOW - 60.2), "ended_at": rfc3339(NOW),
    "tool": {"name": "kdebug", "version": "0.1.0", "python": "3.11.7"},
    "target": {
        "expression": "deploy/web", "place": "prod shop/web-0 app", "rung": "match", "context": "prod",
        "namespace": "shop", "pod": "web-0", "container": "app",
    },
    "recipe": {
        "name": "memory", "source": "memory.yaml (built in)", "sha256": "12" * 32,
        "parameters": {"every": "2s", "files": ["/etc/app/**"]},
    },
    "problems": ["log of sidecar: the server said no"],
    "notes": ["secret files were not learned: refused"],
    "steps": [
        {"name": "growth", "kind": "facts", "seconds": 60.0, "skipped": "", "problem": "a sample came late"}
    ],
    "artifacts": [
        {"step": "facts", "what": "processes", "outcome": "success", "reason": "", "seconds": 0.1,
         "size_bytes": 4096, "sha256": "34" * 32, "members": ["target/processes.json"]},
        {"step": "facts", "what": "agent", "outcome": "success", "reason": "", "seconds": 0.1,
         "size_bytes": 400, "sha256": "56" * 32, "members": ["target/agent.json"]},
        {"step": "logs", "what": "log of sidecar", "outcome": "denied", "reason": "the server said no",
         "seconds": 0.1, "size_bytes": 0, "sha256": "", "members": []},
        {"step": "files", "what": "file /etc/app/key.p12", "outcome": "left-out",
         "reason": "redaction cannot look into it", "seconds": 0.1, "size_bytes": 0, "sha256": "",
         "members": []},
    ],
    "cost": {"agent_cpu_seconds": 1.21, "agent_rss_bytes": 14 * MIB},
    "redactions": {
        "redacted": {"env": {"environ of 7 (server)": 3}, "jwt": {"logs/app.log": 12}},
        "redacted_total": 15, "scanned_bytes": 900_000, "known_secrets": 4,
        "learned_late": ["environ of 23"],
        "not_scanned": [{"name": "files/etc/app/key.p12", "reason": "compressed, left out"}],
        "detector_failures": {}, "notes": ["2 values were masked in their place only"],
    },
    "files": [{"path": "/etc/app/config.yaml", "member": "files/c", "size_bytes": 218, "taken_bytes": 218}],
    "logs": [],
}  # fmt: skip


def poisoned(chance: random.Random, payloads: list[str], kept: frozenset[str]) -> Change:
    """Puts one of `payloads` behind every string, except for the values of `kept` keys; the container's
    name stays, for its log is found by it."""

    def change(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: change(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [change(item, key) for item in value]
        if isinstance(value, str) and key not in kept and value != "app":
            return value + chance.choice(payloads)
        return value

    return change
