"""Locked files in a cache, each checked against its SHA-256 before anything reads it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from builder.apt import Apt
from builder.listing import BuildError
from builder.lockfile import Locked

WHEEL_PLATFORM = {"amd64": "manylinux2014_x86_64", "arm64": "manylinux2014_aarch64"}


def sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fetch(locked: Sequence[Locked], apt: Apt, cache: Path) -> dict[Locked, Path]:
    """Every locked file; what the cache does not hold is downloaded. Raises `BuildError`."""
    cache.mkdir(parents=True, exist_ok=True)
    known = {sha256(file): file for file in cache.iterdir() if file.is_file()}
    missing = [entry for entry in locked if entry.sha256 not in known]
    debs = [(entry.name, entry.version) for entry in missing if entry.source == "deb"]
    if debs:
        apt.download(debs, cache)
    for entry in missing:
        if entry.source == "pypi":
            download_wheel(entry.name, entry.version, entry.architecture, cache)
    known = {sha256(file): file for file in cache.iterdir() if file.is_file()}
    for entry in locked:
        if entry.sha256 not in known:
            raise BuildError(
                f"{entry.name} {entry.version} for {entry.architecture} came with another SHA-256 "
                f"than the lock's {entry.sha256[:16]}..., and is not used"
            )
    return {entry: known[entry.sha256] for entry in locked}


def download_wheel(name: str, version: str, architecture: str, folder: Path) -> Path:
    """One wheel for another machine's architecture; returns its file."""
    before = set(folder.iterdir())
    wanted = f"{name}=={version}" if version else name
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--platform", WHEEL_PLATFORM[architecture]]
    done = subprocess.run(
        [*command, "--dest", str(folder), wanted], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BuildError(f"pip could not download {wanted}: {done.stderr.strip().splitlines()[-1]}")
    fresh = [file for file in folder.iterdir() if file not in before]
    if len(fresh) != 1:
        raise BuildError(f"pip downloaded {len(fresh)} files for {wanted} where one was expected")
    return fresh[0]
