"""The core image, built once a session from the committed lock, and a way to run it on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "toolbox/build.py"
CACHE = REPOSITORY / "build/toolbox"
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
    output: str
    """What it printed."""

    @property
    def root(self) -> Path:
        return self.folder / "root"

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
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def usable_lock(folder: Path) -> Path:
    """The committed lock; where Debian no longer has its versions, what a new lock would say."""
    committed = REPOSITORY / "toolbox/packages.lock"
    tried = build("--lock", str(committed), "--output", str(folder / "try"))
    if tried.returncode == 0:
        return committed
    assert "lock.py" in tried.stderr, tried.stderr
    print(f"the committed lock is out of date: {tried.stderr.strip()}", file=sys.stderr)
    sys.path.insert(0, str(SCRIPT.parent))
    from builder import lockfile
    from lock import make_lock

    fresh = folder / "packages.lock"
    fresh.write_text(lockfile.render(make_lock(CACHE, flavours=("core",))))
    return fresh


def build_core(folder: Path) -> Built:
    """Build and unpack core for this machine."""
    lock = usable_lock(folder)
    done = build("--lock", str(lock), "--output", str(folder), "--rootfs")
    assert done.returncode == 0, done.stderr
    (archive,) = folder.glob("*.rootfs.tar")
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "root", filter="fully_trusted" if os.geteuid() == 0 else "tar")
    return Built(folder, done.stdout)
