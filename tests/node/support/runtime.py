"""containerd, started apart from the machine: its own namespaces (see keeper.py), root, state and socket.

What the machine lacks is found out here and worked around (no overlay, no CAP_SYS_RESOURCE), or said
plainly.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import images, keeper, packages

Socket = socket.socket

CAP_SYS_ADMIN, CAP_SYS_RESOURCE = 21, 24
START_SECONDS = 30
STREAM_PORT = 10250
"""Of the streaming server, in the node's own network namespace; the kubelet's port, for no other reason."""

CONFIG = """\
version = 2
root = "/run/node/run/root"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = {restrict}
  stream_server_address = "127.0.0.1"
  stream_server_port = "{port}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/run/node/packages/usr/lib/cni"
    conf_dir = "/run/node/run/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "/run/node/packages/usr/sbin/runc"
"""

NETWORK = {
    "cniVersion": "0.4.0",
    "name": "kdebug",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "kdebug0",
            "isGateway": True,
            "ipMasq": False,
            "ipam": {
                "type": "host-local",
                "dataDir": "/run/cni",
                "ranges": [[{"subnet": "192.0.2.0/24"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
    ],
}
"""The documentation range; the machine may use it too: the node has a network namespace of its own."""


def has_capability(number: int) -> bool:
    status = Path("/proc/self/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> number & 1)


def reason_against() -> str | None:
    """Why this machine cannot hold a node at all; `None` if it can."""
    if sys.platform != "linux":
        return "the test node needs Linux"
    if os.geteuid() != 0:
        return "the test node needs root: it runs a container runtime"
    if not has_capability(CAP_SYS_ADMIN):
        return "the test node needs CAP_SYS_ADMIN: it makes namespaces and mounts"
    if not Path("/sys/fs/cgroup").is_dir():
        return "the test node needs cgroups"
    return None


class Runtime:
    """One containerd. Everything it makes ends with `stop`, or with this process."""

    def __init__(self) -> None:
        self.packages = packages.unpacked("runtime", packages.RUNTIME)
        self.archive = images.archive()
        runs = packages.HOME / "runs"
        runs.mkdir(exist_ok=True)
        sweep(runs)
        self.name = f"kdn-{secrets.token_hex(3)}"
        """Of the run's folder and of its cgroup."""
        self.folder = runs / self.name
        self._keeper: subprocess.Popen[bytes] | None = None
        self.first_pid = 0
        """Of the node's first process, as the machine numbers it."""

    def start(self) -> None:
        lock = _lock(self.folder)
        if lock is None:
            raise RuntimeError(f"{self.folder} is locked by someone else")
        self.folder.mkdir()
        for folder in ("root", "cni", "logs", "volumes"):
            (self.folder / folder).mkdir()
        self.snapshotter = "overlayfs" if _overlay_works(self.folder) else "native"
        config = CONFIG.format(
            pause=images.PAUSE,
            port=STREAM_PORT,
            snapshotter=self.snapshotter,
            restrict=str(not has_capability(CAP_SYS_RESOURCE)).lower(),
        )
        (self.folder / "config.toml").write_text(config)
        (self.folder / "cni/10-kdebug.conflist").write_text(json.dumps(NETWORK))
        self._start_keeper(lock)
        try:
            self._await_socket()
            self.ctr("images", "import", "--snapshotter", self.snapshotter, str(self.archive))
        except BaseException:
            self.stop()
            raise

    def _start_keeper(self, lock: int) -> None:
        argv = [sys.executable, keeper.__file__, str(self.folder), str(self.packages)]
        with os.fdopen(lock):
            # A session of its own: Ctrl-C in the terminal must not race with the tests' own teardown.
            self._keeper = subprocess.Popen(
                argv, stdin=subprocess.PIPE, pass_fds=(lock,), start_new_session=True
            )

    def _await_socket(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._keeper is None or self._keeper.poll() is not None:
                raise RuntimeError(f"the test node did not start:\n{self.log()}")
            if self._answers():
                return
            time.sleep(0.02)
        raise RuntimeError(f"containerd did not answer within {START_SECONDS} s:\n{self.log()}")

    def _answers(self) -> bool:
        noted = self.folder / "first.pid"
        if not noted.exists() or not noted.read_text():
            return False
        self.first_pid = int(noted.read_text())
        with socket.socket(socket.AF_UNIX) as probe:
            return Path(self.socket).exists() and probe.connect_ex(self.socket) == 0

    @property
    def socket(self) -> str:
        """Through the root of the node's first process: short, and not on the machine's own file system."""
        return f"/proc/{self.first_pid}/root/run/containerd/containerd.sock"

    def inside(self, path: Path) -> str:
        """The name that a file of the run's folder has inside the node."""
        return str(keeper.INSIDE / "run" / path.relative_to(self.folder))

    def ctr(self, *argv: str) -> str:
        command = [
            str(self.packages / "usr/bin/ctr"),
            "--address",
            self.socket,
            "--namespace",
            "k8s.io",
            *argv,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise RuntimeError(f"ctr {argv[0]} failed: {done.stderr.strip()}\n{self.log()}")
        return done.stdout

    @property
    def keeper_pid(self) -> int:
        return self._keeper.pid if self._keeper is not None else 0

    def log(self) -> str:
        """The last lines of containerd's log."""
        path = self.folder / "containerd.log"
        return (
            "\n".join(path.read_text(errors="replace").splitlines()[-20:]) if path.exists() else "(no log)"
        )

    def connect_inside(self) -> Socket:
        """A TCP socket that belongs to the node's network namespace."""
        with ThreadPoolExecutor(1) as thread:  # setns changes one thread, which ends with the executor
            return thread.submit(self._socket_inside).result()

    def _socket_inside(self) -> Socket:
        with open(f"/proc/{self.first_pid}/ns/net", "rb") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), keeper.CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM)

    def stop(self) -> None:
        if self._keeper is not None and self._keeper.stdin is not None:
            self._keeper.stdin.close()
            self._keeper.wait(timeout=30)
            self._keeper = None
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.with_suffix(".lock").unlink(missing_ok=True)


def _lock(folder: Path) -> int | None:
    """Held by the keeper for its whole life; `None` if someone else holds it."""
    descriptor = os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def sweep(runs: Path) -> None:
    """Remove what a killed keeper left: folders and control groups; the kernel has taken the rest."""
    for note in runs.glob("kdn-*.lock"):
        folder = note.with_suffix("")
        if (lock := _lock(folder)) is None:
            continue
        keeper.remove_cgroups(folder.name)
        shutil.rmtree(folder, ignore_errors=True)
        note.unlink(missing_ok=True)
        os.close(lock)


def _overlay_works(folder: Path) -> bool:
    """Tried in a child's mount namespace: some file systems (overlay itself) cannot carry an overlay."""
    parts = {name: folder / "root" / f"probe-{name}" for name in ("lower", "upper", "work", "merged")}
    for part in parts.values():
        part.mkdir()
    child = os.fork()
    if child == 0:
        libc = ctypes.CDLL(None)
        options = f"lowerdir={parts['lower']},upperdir={parts['upper']},workdir={parts['work']}"
        failed = libc.unshare(keeper.CLONE_NEWNS) or libc.mount(
            b"none", b"/", b"", keeper.MS_REC | keeper.MS_PRIVATE, b""
        )
        failed = failed or libc.mount(b"overlay", bytes(parts["merged"]), b"overlay", 0, options.encode())
        os._exit(1 if failed else 0)
    works = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for part in parts.values():
        shutil.rmtree(part, ignore_errors=True)
    return works
