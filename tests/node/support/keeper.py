"""The process that holds the test node: containerd in PID, mount and network namespaces of its own.

Everything the node makes (containers, shims, overlay mounts, network namespaces, the bridge) lives
inside those namespaces, so the kernel takes all of it away with the namespace's first process. That
makes the end certain: when the tests end, are interrupted or are killed, the pipe on our stdin closes
and we kill that process; when we are killed ourselves, its parent-death signal does it. Only cgroup
directories and files can be left, and the next start sweeps them (`runtime.sweep`).

Runs as a program of its own, from the standard library only: `python keeper.py RUN_FOLDER PACKAGES`.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC = 0x20000, 0x20000000, 0x40000000, 0x08000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
PR_SET_PDEATHSIG = 1
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1

libc = ctypes.CDLL(None, use_errno=True)

INSIDE = Path("/run/node")
"""Where the node's own folders appear inside its mount namespace: short, and the same on every machine."""


def call(result: int, what: str) -> None:
    if result != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{what}: {os.strerror(errno)}")


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    done = libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode())
    call(done, f"mount {target}")


def private_mounts(run: Path, packages: Path) -> None:
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    folders = {name: os.open(folder, os.O_PATH) for name, folder in (("run", run), ("packages", packages))}
    mount("tmpfs", "/run", "tmpfs", 0, "mode=755")
    for name, descriptor in folders.items():
        inside = INSIDE / name
        inside.mkdir(parents=True)
        mount(f"/proc/self/fd/{descriptor}", str(inside), "", MS_BIND)
        os.close(descriptor)
    mount("proc", "/proc", "proc")
    # The CNI library keeps its cache in /var/lib/cni, whatever it is told; the machine's own is not ours.
    mount("tmpfs", "/var/lib", "tmpfs", 0, "mode=755")


def loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def first_process(run: Path, packages: Path) -> None:
    """PID 1 of the node: starts containerd, reaps what the shims leave, ends with containerd."""
    call(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    call(libc.unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC), "unshare")
    private_mounts(run, packages)
    loopback_up()
    binaries = INSIDE / "packages/usr"
    path = f"{binaries}/bin:{binaries}/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
    with (run / "containerd.log").open("ab") as log:
        daemon = subprocess.Popen(
            [f"{binaries}/bin/containerd", "--config", str(INSIDE / "run/config.toml")],
            env={"PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    while os.wait()[0] != daemon.pid:
        pass
    os._exit(1)


def cgroup_folders(name: str) -> list[Path]:
    """Our group in every hierarchy (cgroup v1), or in the one there is (v2)."""
    top = Path("/sys/fs/cgroup")
    return [folder for folder in (top / name, *top.glob(f"*/{name}")) if folder.is_dir()]


def remove_cgroups(name: str) -> None:
    """A group can be removed a moment after its last process was reaped, not at once."""
    deadline = time.monotonic() + 5
    while folders := cgroup_folders(name):
        for folder in folders:
            for group, _, _ in os.walk(folder, topdown=False):
                try:
                    os.rmdir(group)
                except OSError:
                    if time.monotonic() > deadline:
                        return
                    time.sleep(0.01)


def main() -> None:
    run, packages = Path(sys.argv[1]), Path(sys.argv[2])
    # Ctrl-C is for the tests: they close the pipe when they are done with us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    call(libc.unshare(CLONE_NEWPID), "unshare")
    first = os.fork()
    if first == 0:
        os.close(0)
        os.open("/dev/null", os.O_RDONLY)
        try:
            first_process(run, packages)
        except BaseException as problem:
            (run / "containerd.log").write_text(f"keeper: {problem}\n")
        os._exit(1)
    (run / "first.pid").write_text(str(first))
    sys.stdin.buffer.read()
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    remove_cgroups(run.name)
    shutil.rmtree(run, ignore_errors=True)
    run.with_suffix(".lock").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
