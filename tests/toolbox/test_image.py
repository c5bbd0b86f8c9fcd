"""The core image as a pod would run it: read-only root, no capability, any uid."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import posixpath
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from conftest import needs_root
from kdebug.agent.source import agent_sources
from kdebug.channel.delivery import archive, delivered_agent_command
from kdebug.channel.subprocess import SubprocessChannel
from kdebug.protocol.hello import hash_sources
from kdebug.protocol.requests import OpenTarget
from kdebug.target import Target
from kdebug.target.connection import Connection
from support.toolbox_image import BUILD_SECONDS, SCRIPT, Built, build, core_image

pytestmark = pytest.mark.timeout(BUILD_SECONDS)


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Built:
    if not shutil.which("dpkg-deb") or not shutil.which("apt-get"):
        pytest.skip("the toolbox is built with Debian's apt and dpkg-deb, which this machine has not")
    return core_image(tmp_path_factory.mktemp("toolbox"))


def elf_files(root: Path) -> dict[str, ELFFile]:
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink():
            data = path.open("rb")
            if data.read(4) == b"\x7fELF":
                found[str(path.relative_to(root))] = ELFFile(data)
    return found


def test_every_library_that_is_needed_is_there(core: Built) -> None:
    programs = elf_files(core.root)
    there = {posixpath.basename(str(path)) for path in (core.root / "usr/lib").rglob("*.so*")}
    needed = {
        tag.needed
        for elf in programs.values()
        if (section := elf.get_section_by_name(".dynamic"))
        for tag in section.iter_tags("DT_NEEDED")
    }
    assert "libc.so.6" in needed and needed <= there


def test_nothing_is_setuid_and_no_device_is_there(core: Built) -> None:
    (archive_file,) = core.folder.glob("*.rootfs.tar")
    with tarfile.open(archive_file) as tar:
        for member in tar:
            assert member.isreg() or member.isdir() or member.issym(), member.name
            assert (member.uid, member.gid) == (0, 0)
            if member.isreg():
                assert not member.mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWGRP | stat.S_IWOTH)


def test_it_holds_no_shell(core: Built) -> None:
    programs = {path.name for folder in ("usr/bin", "usr/sbin") for path in (core.root / folder).glob("*")}
    assert programs <= {"kdebug-agent", "python3", "python3.11"} | {"ld.so"}


def test_the_same_lock_gives_the_same_bytes(core: Built, tmp_path: Path) -> None:
    again = build(*core.lock, "--output", str(tmp_path), "--rootfs")
    assert again.returncode == 0, again.stderr
    names = {file.name for file in tmp_path.iterdir()}
    assert names >= {"kdebug-agent"} and any(name.endswith(".oci.tar") for name in names)
    for file in tmp_path.iterdir():
        assert digest(file) == digest(core.folder / file.name), file.name


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_archive_is_what_its_digests_say(core: Built) -> None:
    with tarfile.open(core.archive) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    for name, data in members.items():
        if name.startswith("blobs/sha256/"):
            assert hashlib.sha256(data).hexdigest() == posixpath.basename(name)
    (top,) = json.loads(members["index.json"])["manifests"]
    manifest = json.loads(members["blobs/sha256/" + top["digest"].partition(":")[2]])
    assert sum(layer["size"] for layer in manifest["layers"]) <= 12_000_000
    (docker,) = json.loads(members["manifest.json"])
    assert set(docker["Layers"]) | {docker["Config"]} <= members.keys()


def test_the_sbom_names_every_package(core: Built) -> None:
    document = json.loads((core.root / "usr/share/doc/kdebug/sbom.spdx.json").read_text())
    named = {package["name"] for package in document["packages"]}
    assert named == {path.name for path in (core.root / "var/lib/dpkg/status.d").iterdir()} | {
        "kdebug-agent"
    }
    for name in named - {"kdebug-agent"}:
        assert (core.root / f"usr/share/doc/{name}/copyright").is_file(), name


def test_the_zipapp_carries_sources_and_compiled_modules(core: Built) -> None:
    with zipfile.ZipFile(core.root / "usr/bin/kdebug-agent") as app:
        names = set(app.namelist())
    for path in agent_sources():
        assert {f"kdebug/{path}", f"kdebug/{path}c"} <= names


def test_the_zipapp_runs_on_other_interpreters(core: Built) -> None:
    import subprocess

    app = str(core.root / "usr/bin/kdebug-agent")
    tried = 0
    for minor in range(9, 15):
        python = shutil.which(f"python3.{minor}")
        if python is None or subprocess.run([python, "-c", ""], capture_output=True).returncode:
            continue
        done = subprocess.run([python, "-IS", app, "bogus"], capture_output=True, text=True)
        assert (done.returncode, done.stderr.startswith("kdebug-agent: unknown command")) == (2, True)
        tried += 1
    assert tried


@needs_root
@pytest.mark.parametrize("uid", [0, 1234567, 65532])
def test_the_agent_answers_as_any_user(core: Built, run: asyncio.Runner, uid: int) -> None:
    async def ask() -> None:
        channel = await SubprocessChannel.start(core.command("/usr/bin/kdebug-agent", "serve", uid=uid))
        connection = await Connection.open(channel)
        assert connection.hello.source_hash == hash_sources(agent_sources())
        agent_pid = connection.hello.pid
        target = await Target.open(connection, OpenTarget(pid=agent_pid), "itself")
        detail = await target.process(agent_pid)
        assert detail.process.uid == uid
        assert detail.capabilities is not None and detail.capabilities.effective == ()
        assert detail.io is not None or "io" in detail.reasons
        info = await target.agent()
        assert info.psutil is not None and info.dumpable is False and info.oom_score_adj == 1000
        await target.close()

    run.run(ask())


@needs_root
def test_a_delivered_agent_runs_on_it_too(core: Built, run: asyncio.Runner) -> None:
    async def ask() -> None:
        payload = archive()
        command = delivered_agent_command(payload, python="/usr/bin/python3")
        channel = await SubprocessChannel.start(core.command(*command))
        await channel.write(payload)
        connection = await Connection.open(channel)
        assert connection.hello.source_hash == hash_sources(agent_sources())
        await connection.close()

    run.run(ask())


@needs_root
def test_nothing_is_compiled_at_run_time(core: Built) -> None:
    code = (
        "import sys, json, dataclasses, ctypes, threading, socket, psutil\n"
        "loaders = {n: type(getattr(m.__spec__, 'loader', 0)).__name__ for n, m in sys.modules.items()}\n"
        "print([name for name, loader in loaders.items() if loader == 'SourceFileLoader'])"
    )
    done = core.run("/usr/bin/python3", "-I", "-c", code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_a_build_context_without_the_sources_gives_an_image_without_agent(
    core: Built, tmp_path: Path
) -> None:
    """`docker build toolbox/` sees this folder only."""
    context = tmp_path / "context"
    shutil.copytree(SCRIPT.parent, context, ignore=shutil.ignore_patterns("__pycache__"))
    done = build("--output", str(tmp_path / "out"), "--rootfs", *core.lock, script=context / "build.py")
    assert done.returncode == 0 and "the client delivers it" in done.stderr
    (rootfs,) = (tmp_path / "out").glob("*.rootfs.tar")
    with tarfile.open(rootfs) as tar:
        names = tar.getnames()
    assert "usr/bin/python3" in names and "usr/bin/kdebug-agent" not in names


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--lock", "/nonexistent/packages.lock"], "there is no packages.lock"),
        (["--sources", "/nonexistent/list"], "nothing"),
    ],
)
def test_a_build_that_cannot_be_says_why(tmp_path: Path, arguments: list[str], words: str) -> None:
    command = [*arguments, "--output", str(tmp_path)]
    done = build(*command, "--cache", str(tmp_path / "cache"))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("toolbox/build.py: ")


def test_reproducible_means_no_time_of_this_machine(core: Built) -> None:
    (archive_file,) = core.folder.glob("*.rootfs.tar")
    with tarfile.open(archive_file) as tar:
        assert len({member.mtime for member in tar}) == 1
    assert os.path.getmtime(core.folder) > 0
