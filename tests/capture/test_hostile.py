"""Bundles that are whole as files and lie in what they say: every verb answers, or refuses in one line."""

from __future__ import annotations

import asyncio
import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kdebug.capture.reader import BundleReader
from kdebug.capture.recipe import parse_recipe
from kdebug.capture.redaction import NoRedaction
from kdebug.capture.runner import Capture, CaptureOptions
from kdebug.capture.writer import BundleWriter
from kdebug.cli.main import run as command_line
from kdebug.expression import parse
from kdebug.open import OpenOptions, open_target

RECIPE = """
steps:
- facts: [agent, access, cgroup, processes, sockets, network, mounts, deleted]
- each_process: [environ, process, limits, fds, maps]
- listings: [/etc]
  depth: 3
- files: [/etc/hosts, /etc/passwd]
- facts: cgroup
  name: samples
  samples: {every: 10ms, count: 2}
"""
TIME = "2026-01-02T03:04:05Z"
POD = {
    "metadata": {"name": "web-0", "namespace": "shop", "uid": "1", "creationTimestamp": TIME},
    "spec": {"containers": [{"name": "app", "image": "web:1"}], "nodeName": "n"},
    "status": {"phase": "Running", "containerStatuses": [{"name": "app", "restartCount": 3, "state": {}}]},
}
EVENT = {"at": TIME, "kind": "Warning", "reason": "BackOff", "message": "m", "count": 9,
         "source": "kubelet", "about": "app"}  # fmt: skip
PATHS = (
    "ls:/etc cat:/etc/hosts stat:/etc/passwd tree:/etc find:/etc head:/etc/hosts tail:/etc/hosts".split()
)
VERBS = "ps proc env limits fds maps net mounts df access describe events logs attach".split()
ODD = [None, True, -1, 0, 10**30, 1e308, float("nan"), "", "x" * 5000,
       "\x1b]0;owned\x07\x1b[2J",
       "[/red][bold", "\udcff\u202e\n\r", [], {}, [[[]]], {"items": {"a": 1}}]  # fmt: skip


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The members of a true capture, with the objects of a pod."""
    path = str(tmp_path_factory.mktemp("true") / "b")

    async def captured() -> None:
        async with open_target(parse("demo:"), OpenOptions()) as live:
            options = CaptureOptions(path, NoRedaction(), "demo:")
            await Capture(parse_recipe(RECIPE, "r.yaml", {}), options, live).run()

    asyncio.run(captured())
    with BundleReader(path) as bundle:
        found = {name: bundle.read(name) for name in bundle.members}
    from kdebug.kube.story import pod_facts

    story = {"facts": pod_facts(POD, None, None), "changes": [], "events": [EVENT], "missing": {}}
    log = b"2026-01-02T03:04:05Z one\nno stamp \x1b[31m\n" + b"2026-01-02T03:04:06Z \xff\n"
    manifest = json.loads(found["manifest.json"])
    manifest["logs"] = [{"container": "app", "previous": False, "member": "logs/app.log", "lines": 3}]
    manifest["target"] |= {"namespace": "shop", "pod": "web-0", "container": "app", "context": "c"}
    objects = {"pod": POD, "events": [EVENT], "story": story}
    added = {f"kubernetes/{name}.json": json.dumps(document).encode() for name, document in objects.items()}
    return found | added | {"logs/app.log": log, "manifest.json": json.dumps(manifest).encode()}


def written(path: Path, documents: dict[str, bytes]) -> str:
    writer = BundleWriter(str(path))
    for name, data in documents.items():
        writer.add(name, data)
    writer.close()
    return str(path)


def every_verb(path: str) -> Iterator[list[str]]:
    for verb in VERBS:
        yield [verb, f"bundle:{path}"]
    for word in PATHS:
        verb, _, place = word.partition(":")
        yield [verb, f"bundle:{path}:{place}"]
    yield ["bundle", "ls", path]
    yield ["bundle", "verify", path]
    yield ["open", path, "-o", "json"]


def survived(path: str, capfd: pytest.CaptureFixture[str]) -> list[int]:
    """The exit codes; anything but an answer or a refusal raises, and nothing steers the terminal."""
    codes = []
    for words in every_verb(path):
        try:
            codes.append(command_line(words))
        except Exception as defect:
            raise AssertionError(f"{words}: {defect!r}") from defect
        out, err = capfd.readouterr()
        assert codes[-1] in range(7), (words, err)
        if words[0] not in ("cat", "head", "tail", "logs"):  # a pipe gets contents byte for byte
            assert "\x1b" not in out + err and "\u202e" not in out + err, words
        # One line for a refusal; `bundle verify` names each member that is not as it should be.
        longest = max(map(len, err.splitlines()), default=0)
        assert "defect" not in err and longest < 4000 and len(err) < 40_000, (words, err[:500])
    return codes


def test_the_true_one_is_answered(
    tmp_path: Path, documents: dict[str, bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    codes = survived(written(tmp_path / "b", documents), capfd)
    refused = [words[0] for words, code in zip(every_verb(""), codes) if code]
    assert refused == []


def twisted(chance: random.Random, value: Any, odds: float) -> Any:
    """The same document with some of its values, fields and keys changed into something else."""
    if chance.random() < odds:
        return copy.deepcopy(chance.choice(ODD))
    if isinstance(value, dict):
        kept = {
            key: twisted(chance, item, odds) for key, item in value.items() if chance.random() > odds / 2
        }
        return kept | ({chance.choice(["\x1b[0m", "items", "extra"]): 1} if chance.random() < odds else {})
    if isinstance(value, list):
        return [twisted(chance, item, odds) for item in value]
    return value


@pytest.mark.parametrize("odds", [0.005, 0.05, 0.3])
def test_documents_that_lie(
    tmp_path: Path, documents: dict[str, bytes], capfd: pytest.CaptureFixture[str], seed: int, odds: float
) -> None:
    chance = random.Random(seed)
    lies = {name: data for name, data in documents.items() if name != "index.json"}
    for name in [name for name in lies if name.endswith(".json")]:
        lies[name] = json.dumps(twisted(chance, json.loads(lies[name]), odds)).encode()
    survived(written(tmp_path / "b", lies), capfd)


MANY = {"answers": [{"question": "q", "at": 1, "member": "m"}] * 100_000}
WRONG = {"artifacts": [{"members": ["../x"] * 9}], "files": [{"path": 1}] * 9, "logs": [1]}


@pytest.mark.parametrize(
    "name, data",
    [
        ("manifest.json", b"[" * 100_000 + b"]" * 100_000),
        ("manifest.json", b"17"),
        ("manifest.json", b"\xff\xfe"),
        ("manifest.json", json.dumps(MANY).encode()),
        ("manifest.json", json.dumps(WRONG).encode()),
        ("target/processes.json", b'{"answer": {"items": [{"pid": "1"}]}}'),
        ("kubernetes/pod.json", b'{"metadata": [], "spec": 1}'),
        ("logs/app.log", b"\0" * 3_000_000),
    ],
    ids=["deep", "a number", "no text", "many answers", "wrong rows", "wrong process", "no pod", "zeros"],
)
def test_members_that_are_no_such_thing(
    tmp_path: Path, documents: dict[str, bytes], capfd: pytest.CaptureFixture[str], name: str, data: bytes
) -> None:
    """Refused, or answered from what else there is."""
    survived(written(tmp_path / "b", documents | {name: data}), capfd)
