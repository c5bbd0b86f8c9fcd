"""The toolbox' images: our own `core` with its agent inside, and others that get it delivered."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from pathlib import Path

import pytest

from kdebug.target.reader import pieces
from support.toolbox_image import BUILD_SECONDS, core_image

from .support import images, targets, toolboxes
from .support.cli import Kdebug
from .support.node import Node

CORE = "docker.io/library/kdebug-toolbox:core"
IMPOSTOR = "docker.io/library/kdebug-toolbox:impostor"
LEVELS = {
    "restricted": "restricted",
    "root": "baseline",
    "explicit_user": "baseline",
    "unreadable": "privileged",
}
"""A target for each rung, at the strictest level that lets it be read."""

pytestmark = pytest.mark.timeout(BUILD_SECONDS)


@pytest.fixture(scope="module")
def core(started_node: Node, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Imported into the node's runtime, as `kdebug toolbox` says."""
    if not shutil.which("dpkg-deb") or not shutil.which("apt-get"):
        pytest.skip("the toolbox is built with Debian's apt and dpkg-deb, which this machine has not")
    archive = core_image(tmp_path_factory.mktemp("toolbox")).archive
    runtime = started_node.runtime
    runtime.ctr("images", "import", "--snapshotter", runtime.snapshotter, str(archive))
    assert CORE in runtime.ctr("images", "list", "--quiet").split()
    return CORE


@pytest.mark.parametrize("target", LEVELS)
def test_core(node: Node, kdebug: Kdebug, core: str, target: str) -> None:
    """The same answers by the image's own agent."""
    namespace, manifest = node.namespace(LEVELS[target]), targets.ALL[target]()
    pod = manifest["metadata"]["name"]
    node.run(manifest, namespace)
    user = kdebug.with_options("--image", core, "-n", namespace)
    done = user("attach", pod, "-o", "json")
    assert any(line.endswith("agent of the image.") for line in done.lines), done.stderr
    names = [
        row["name"]
        for row in done.json["processes"]
        if row["container"] == done.json["target"]["container"]
    ]
    assert names == ["app"] and done.json["problems"] == []
    assert any(one["local"] == "0.0.0.0:8080" for one in done.json["sockets"])
    assert "APP_GREETING=hello" in user("env", pod).stdout.decode().splitlines()
    asyncio.run(_check_blob(node, namespace, pod, core))
    made = toolboxes.toolboxes(node.pod(namespace, pod))
    assert {one["image"] for one in made} == {core}


async def _check_blob(node: Node, namespace: str, pod: str, image: str) -> None:
    digest = hashlib.sha256()
    async with toolboxes.opened(node, namespace, pod, image=image) as target:
        async for chunk in pieces(target, "/data/blob.bin"):
            digest.update(chunk.data)
    assert digest.digest() == hashlib.sha256(images.blob()).digest()


def test_sessions_of_core(node: Node, kdebug: Kdebug, core: str) -> None:
    namespace = node.namespace("baseline")
    node.run(targets.root("web"), namespace)
    kdebug("ps", "web", "--image", core, "--idle", "600", "-n", namespace)
    (row,) = kdebug("sessions", "--ask", "-n", namespace, "-o", "json").json["sessions"]
    assert row["image"] == core
    assert "ended kdebug-" in kdebug("sessions", "stop", "web", "-n", namespace).stderr


def test_an_image_of_our_name_without_our_agent(node: Node, kdebug: Kdebug) -> None:
    """The name is a guess; the agent is delivered where it was wrong."""
    node.runtime.ctr("images", "tag", "--force", images.PYTHON, IMPOSTOR)
    namespace = node.namespace("baseline")
    node.run(targets.root("web"), namespace)
    done = kdebug("attach", "web", "--image", IMPOSTOR, "-n", namespace)
    assert any(line.endswith("agent delivered by the client.") for line in done.lines), done.stderr


def test_image_by_environment_and_configuration(
    node: Node, kdebug: Kdebug, tmp_path: Path, core: str
) -> None:
    """The flag before the environment before the file before what is built in."""
    namespace = node.namespace("baseline")
    node.run(targets.root("web"), namespace)
    (tmp_path / "kdebug").mkdir()
    (tmp_path / "kdebug/config.yaml").write_text(f"image: {core}\n")
    configured = kdebug.with_options("-n", namespace, XDG_CONFIG_HOME=str(tmp_path))
    configured("ps", "web")
    configured.with_options(KDEBUG_IMAGE=images.PYTHON)("ps", "web")
    used = [one["image"] for one in toolboxes.toolboxes(node.pod(namespace, "web"))]
    assert used == [core, images.PYTHON]
