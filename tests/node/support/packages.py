"""Debian packages unpacked into the checkout: a test machine gets a runtime without an installation.

Nothing here runs a maintainer script, needs a package to be configured or touches the machine's own
files: `apt-get download` (from whatever sources the machine is configured with) and `dpkg -x` are all
there is.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
HOME = CHECKOUT / ".node"

RUNTIME = ("containerd", "runc", "containernetworking-plugins")
BUSYBOX = ("busybox-static",)
PYTHON = (
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libc6",
    "libssl3",
    "libexpat1",
    "zlib1g",
    "libffi8",
    "libbz2-1.0",
    "liblzma5",
    "libuuid1",
    "libcrypt1",
)
"""What a slim python image has; ctypes (libffi8) is what the agent's prctl needs."""


class Unavailable(Exception):
    """The machine cannot hold a test node; the text is the reason to print."""


@contextlib.contextmanager
def exclusively(name: str) -> Iterator[None]:
    """Two test runs in one checkout must not unpack over each other."""
    HOME.mkdir(exist_ok=True)
    with (HOME / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def unpacked(name: str, packages: tuple[str, ...]) -> Path:
    """The folder that holds `packages` unpacked side by side; made once and kept."""
    wanted = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:12]
    folder = HOME / "packages" / f"{name}-{wanted}"
    with exclusively("packages"):
        if not folder.exists():
            _unpack(packages, folder)
    return folder


def _unpack(packages: tuple[str, ...], folder: Path) -> None:
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise Unavailable(f"the test node is made of Debian packages and {tool} is not here")
    downloads = folder.with_suffix(".debs")
    partial = folder.with_suffix(".partial")
    for leftover in (downloads, partial):
        shutil.rmtree(leftover, ignore_errors=True)
        leftover.mkdir(parents=True)
    _download(packages, downloads)
    for archive in sorted(downloads.glob("*.deb")):
        subprocess.run(["dpkg", "-x", archive, partial], check=True)
    partial.rename(folder)
    shutil.rmtree(downloads)


def _download(packages: tuple[str, ...], folder: Path) -> None:
    argv = ["apt-get", "download", "-o", "APT::Sandbox::User=root", *packages]
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split()[-40:])
        raise Unavailable(f"apt-get download failed (is `apt-get update` due?): {said}")
