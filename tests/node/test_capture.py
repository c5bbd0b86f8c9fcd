"""Captures of real pods: whole ones, and those that something happens to on the way."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdebug.capture.reader import BundleReader
from kdebug.capture.report import report
from kdebug.errors import KdebugError

from .support import targets
from .support.cli import Kdebug
from .support.node import Node

LONG = """
steps:
  - facts: [processes, mounts, cgroup]
  - facts: [cgroup]
    name: waiting
    samples: {every: 500ms, count: 40}
  - kubernetes: [pod, events, story]
  - logs: all
  - files: [/etc/passwd]
"""


@pytest.fixture(scope="module")
def place(started_node: Node) -> str:
    return started_node.namespace()


@pytest.fixture
def long(tmp_path: Path) -> str:
    """A recipe that takes 20 s, so that there is time for something to happen."""
    path = tmp_path / "long.yaml"
    path.write_text(LONG)
    return str(path)


def manifest(path: Path) -> Any:
    with BundleReader(str(path)) as bundle:
        assert bundle.verify() == [], bundle.verify()
        return bundle.json("manifest.json")


def outcomes(told: Any, *kinds: str) -> list[str]:
    return [f"{row['what']}: {row['reason']}" for row in told["artifacts"] if row["outcome"] in kinds]


def await_samples(path: Path, client: subprocess.Popen[bytes]) -> None:
    """Until only samples are missing."""
    part = Path(f"{path}.part")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and client.poll() is None:
        try:
            with BundleReader(str(part)) as bundle:
                samples = sum(name.startswith("target/cgroup") for name in bundle.members)
                if samples >= 3 and "files/etc/passwd" in bundle.members:
                    return
        except KdebugError:
            pass  # not there yet, or nothing in it yet
        time.sleep(0.1)
    raise AssertionError("the capture did not get anywhere")


@pytest.mark.parametrize("kind", ["restricted", "root", "shared"])
def test_standard_of_a_pod(node: Node, kdebug: Kdebug, place: str, tmp_path: Path, kind: str) -> None:
    name, path = f"std-{kind}", tmp_path / "b.tar.gz"
    node.run(getattr(targets, kind)(name), place)
    done = kdebug("capture", name, "--output", str(path), "-n", place)
    assert done.stdout.decode().strip() == str(path)
    assert "standard of pod/" in done.lines[-1] and ": complete, " in done.lines[-1], done.stderr
    told = manifest(path)
    assert told["status"] == "complete" and not outcomes(told, "failed", "partial")
    assert told["target"]["pod"] == name and told["target"]["rung"]
    offline = f"bundle:{path}"
    found = kdebug("describe", offline, "-o", "json").json
    live = kdebug("describe", name, "-n", place, "-o", "json").json
    assert found["pod"] == name and found["containers"] == live["containers"]
    assert {e["reason"] for e in found["events"]} <= {e["reason"] for e in live["events"]} != set()
    logged = kdebug("logs", offline, "-c", "app", "--timestamps").stdout
    assert kdebug("logs", name, "-c", "app", "--timestamps", "-n", place).stdout.startswith(logged)
    assert any(row["name"] == "app" for row in kdebug("ps", offline, "-o", "json").json["processes"])
    passwd = node.rootfs(place, name, "app") / "etc/passwd"
    assert kdebug("cat", f"{offline}:/etc/passwd").stdout == passwd.read_bytes()
    page = asyncio.run(report(str(path)))[0].decode()
    assert f"{place}/{name}" in page and '<section id="pod"' in page and '<section id="logs"' in page
    with BundleReader(str(path)) as bundle:
        assert (
            bundle.json("kubernetes/pod.json")["metadata"]["uid"]
            == node.pod(place, name)["metadata"]["uid"]
        )


def test_the_target_is_killed_in_the_middle(
    node: Node, kdebug: Kdebug, place: str, tmp_path: Path, long: str
) -> None:
    node.run(targets.root("mortal"), place)
    path = tmp_path / "b.tar.gz"
    client = kdebug.start("capture", "mortal", "-r", long, "--output", str(path), "-n", place)
    try:
        await_samples(path, client)
        os.kill(node.container_pids(place, "mortal", "app")[0], signal.SIGKILL)
        stdout, stderr = client.communicate(timeout=40)
    finally:
        client.kill()
    assert client.returncode == 1, stderr
    assert b"Traceback" not in stderr and stdout.decode().strip() == str(path)
    told = manifest(path)
    assert told["status"] == "partial" and "has ended" in told["problems"][0], told["problems"]
    assert any("samples from number" in line for line in outcomes(told, "not-tried"))
    offline = f"bundle:{path}"
    assert kdebug("ps", offline, "-o", "json").json["processes"]
    assert kdebug("describe", offline, "-o", "json").json["pod"] == "mortal"
    with BundleReader(str(path)) as bundle:
        assert {"logs/app.log", "target/mounts.json", "files/etc/passwd"} <= set(bundle.members)


def test_a_cut_stream_goes_on(node: Node, kdebug: Kdebug, place: str, tmp_path: Path, long: str) -> None:
    node.run(targets.root("cut"), place)
    path = tmp_path / "b.tar.gz"
    client = kdebug.start("capture", "cut", "-r", long, "--output", str(path), "-n", place)
    try:
        await_samples(path, client)
        assert node.cut_streams() >= 1
        _, stderr = client.communicate(timeout=40)
    finally:
        client.kill()
    told = manifest(path)
    assert client.returncode == 0 and told["status"] == "complete", stderr
    assert sum(row["what"].startswith("cgroup") for row in told["artifacts"]) == 41


def test_a_stream_that_stays_cut_leaves_a_partial_bundle(
    node: Node, kdebug: Kdebug, place: str, tmp_path: Path, long: str
) -> None:
    node.run(targets.root("gone"), place)
    path = tmp_path / "b.tar.gz"
    client = kdebug.start("capture", "gone", "-r", long, "--output", str(path), "-n", place)
    try:
        await_samples(path, client)
        node.stop_api()
        try:
            _, stderr = client.communicate(timeout=60)
        finally:
            node.start_api()
    finally:
        client.kill()
    told = manifest(path)
    assert client.returncode == 1 and told["status"] == "partial", stderr
    assert kdebug("mounts", f"bundle:{path}", "-o", "json").json["mounts"]


def test_two_of_five_pods_fail(node: Node, kdebug: Kdebug, place: str, tmp_path: Path) -> None:
    """What cannot be entered is captured as far as Kubernetes tells; the others are whole."""
    for number in range(5):
        pod = targets.root(f"fleet-{number}")
        pod["metadata"]["labels"] = {"app": "fleet"}
        if number in (1, 3):
            pod["spec"]["containers"][0]["image"] = "registry.invalid/none:1"
        node.apply(pod, place)
    for number in (0, 2, 4):
        node.wait_running(place, f"fleet-{number}")
    folder = tmp_path / "fleet"
    store = tmp_path / "store"
    done = kdebug(
        "capture", "-l", "app=fleet", "-r", "quick", "--output", str(folder), "--to", f"file://{store}",
        "-n", place, code=1,
    )  # fmt: skip
    assert done.stdout.decode().strip() == f"file://{store}/fleet"
    sent = {path.name: path.read_bytes() for path in (store / "fleet").iterdir()}
    assert sent == {path.name: path.read_bytes() for path in folder.iterdir()} and len(sent) == 6
    index = json.loads((folder / "index.json").read_text())
    states = {row["pod"]: row["state"] for row in index["pods"]}
    assert [states[f"fleet-{n}"] for n in range(5)] == [
        "complete",
        "partial",
        "complete",
        "partial",
        "complete",
    ]
    for row in index["pods"]:
        told = manifest(folder / row["bundle"])
        assert told["target"]["pod"] == row["pod"]
    stuck = f"bundle:{folder / next(row['bundle'] for row in index['pods'] if row['pod'] == 'fleet-1')}"
    assert "registry.invalid" in json.dumps(kdebug("describe", stuck, "-o", "json").json)
    refused = kdebug("ps", stuck, code=1)
    assert "only what Kubernetes told was taken" in refused.last_line


SECRETS = """
steps:
  - facts: [processes]
  - kubernetes: [pod]
  - files: [/etc/leak.conf]
"""


def test_secrets_of_the_cluster_are_learned_where_they_may_be_read(
    node: Node, kdebug: Kdebug, place: str, tmp_path: Path
) -> None:
    """Pull secrets, variables from Secrets, the token of whoever captures: found in a file of the pod that
    gives nothing away by its names. Without the right to read Secrets the capture is as whole."""
    pulled, variable = f"Pull-{uuid.uuid4().hex}", f"Var-{uuid.uuid4().hex}"
    kdebug = kdebug.with_options(kubeconfig=node.engineer)
    token = yaml.safe_load(kdebug.kubeconfig.read_text())["users"][0]["user"]["token"]
    login = {"auths": {"registry.example": {"username": "ci", "password": pulled}}}
    for name, kind, data in (
        ("pull", "kubernetes.io/dockerconfigjson", {".dockerconfigjson": json.dumps(login)}),
        ("app", "Opaque", {"url": variable}),
    ):
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        made = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind}
        node.apply(made | {"data": encoded}, place)
    pod = targets.root("leaky")
    pod["spec"]["imagePullSecrets"] = [{"name": "pull"}, {"name": "not-there"}]
    reference = {"secretKeyRef": {"name": "app", "key": "url", "optional": True}}
    pod["spec"]["containers"][0]["env"] = [{"name": "UPSTREAM", "valueFrom": reference}]
    node.run(pod, place)
    values = [pulled, variable, token]
    forms = [*values] + [
        base64.b64encode(b"x" * shift + value.encode()).decode() for value in values for shift in range(3)
    ]
    leak = node.rootfs(place, "leaky", "app") / "etc/leak.conf"
    leak.write_text("".join(f"upstream {form} end\n" for form in forms))
    recipe = tmp_path / "secrets.yaml"
    recipe.write_text(SECRETS)

    def taken(name: str) -> tuple[str, Any]:
        path = tmp_path / name
        kdebug("capture", "leaky", "-r", str(recipe), "--output", str(path), "-n", place)
        with BundleReader(str(path)) as bundle:
            whole = b"".join(bundle.read(one) for one in bundle.members)
            told = bundle.json("manifest.json")
            for value in values if name == "allowed" else [token]:
                assert value.encode() not in whole
            return bundle.read("files/etc/leak.conf").decode(), told

    text, told = taken("allowed")
    lines = text.splitlines()
    assert len(lines) == len(forms) and all("[REDACTED:" in line for line in lines), lines
    assert any("not-there was not learned" in note for note in told["notes"])
    node.forbid("get", "secrets")
    text, told = taken("forbidden")
    assert pulled in text and token not in text
    assert any("pull was not learned" in note and "cannot get" in note for note in told["notes"])
