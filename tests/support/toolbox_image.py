"""The core image, built once for its sources and lock, and a way to run it on this machine."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from kdebug.agent.source import agent_sources
from kdebug.protocol.hello import hash_sources

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "toolbox/build.py"
CACHE = REPOSITORY / "build/toolbox"
BUILD_SECONDS = 300
"""A build takes 15 s of a CPU, which others may want as well."""
_MOUNTS = (
    'mount --bind "$0" "$0"; mount --rbind /dev "$0/dev"; mount -t proc proc "$0/proc";'
    ' mount -o remount,bind,ro "$0"; exec "$@"'
)
_ENTER = """
import ctypes, os, sys
root, uid, *command = sys.argv[1:]
prctl = ctypes.CDLL(None, use_errno=True).prctl
os.chroot(root)
os.chdir("/")
for capability in range(64): prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
os.setgroups([])
os.setresgid(*[int(uid)] * 3)
os.setresuid(*[int(uid)] * 3)
os.execv(command[0], command)
"""
"""What a pod would give it: a read-only root, its own /proc and /dev, no capability, any user."""


@dataclass
class Built:
    """What build.py wrote."""

    folder: Path
    root: Path
    """The image's file system, unpacked."""

    @property
    def archive(self) -> Path:
        (found,) = self.folder.glob("*.oci.tar")
        return found

    @property
    def lock(self) -> list[str]:
        """The options that build it once more."""
        fresh = self.folder / "packages.lock"
        return ["--lock", str(fresh)] if fresh.exists() else []

    def command(self, *arguments: str, uid: int = 65532) -> list[str]:
        """argv that runs a program of the image as `uid`. Needs root."""
        mounted = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _MOUNTS, str(self.root)]
        return [*mounted, sys.executable, "-I", "-c", _ENTER, str(self.root), str(uid), *arguments]

    def run(self, *arguments: str, uid: int = 65532) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp"}
        return subprocess.run(
            self.command(*arguments, uid=uid), capture_output=True, text=True, timeout=60, env=environment
        )


def build(*arguments: str, script: Path = SCRIPT) -> subprocess.CompletedProcess[str]:
    """Run the build as a user would."""
    command = [sys.executable, str(script), "--cache", str(CACHE), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS)


def build_core(folder: Path) -> Path:
    """By the committed lock; where Debian no longer has its versions, by a new one."""
    tried = build("--output", str(folder), "--rootfs")
    if tried.returncode == 0:
        return folder
    assert "lock.py" in tried.stderr, tried.stderr
    print(f"the committed lock is out of date: {tried.stderr.strip()}", file=sys.stderr)
    sys.path.insert(0, str(SCRIPT.parent))
    from builder import lockfile
    from lock import make_lock

    fresh = folder / "packages.lock"
    fresh.write_text(lockfile.render(make_lock(CACHE, flavours=("core",))))
    done = build("--lock", str(fresh), "--output", str(folder), "--rootfs")
    assert done.returncode == 0, done.stderr
    return folder


def _inputs() -> str:
    """Whatever decides the image: the toolbox' folder and the agent's sources."""
    digest = hashlib.sha256(hash_sources(agent_sources()).encode())
    for path in sorted(SCRIPT.parent.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(f"{path.relative_to(SCRIPT.parent)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def core_image(folder: Path) -> Built:
    """Core, built unless these very sources were built before; its file system is unpacked in `folder`."""
    CACHE.mkdir(parents=True, exist_ok=True)
    kept = CACHE / f"tested-{_inputs()}"
    with open(CACHE / "tested.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the toolbox' tests and the node's run beside each other
        if not kept.exists():
            for old in CACHE.glob("tested-*"):
                shutil.rmtree(old)
            partial = CACHE / "tested-partial"
            partial.mkdir()
            build_core(partial).rename(kept)
    (archive,) = kept.glob("*.rootfs.tar")
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "root", filter="fully_trusted" if os.geteuid() == 0 else "tar")
    return Built(kept, folder / "root")
