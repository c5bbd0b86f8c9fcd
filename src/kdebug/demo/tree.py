"""The practice root: what a distroless image holds, and some odd things to look at."""

from __future__ import annotations

import os

from kdebug.demo.namespaces import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    enter_root,
    mount,
)

MOUNT_POINT = "/tmp"  # only covered in a mount namespace of our own; nothing is written there
SIZE = "size=96m,mode=755"
CONFIG = """\
server:
  port: 8080
  workers: 2
upstream:
  address: 127.0.0.1:9090
  keepalive: true   # the client never closes what the upstream has closed
cache:
  max_bytes: 0      # 0: no bound, which is why worker-leak grows
"""
FILES = {
    "/app/server": "practice placeholder: the program is in memory only\n",
    "/etc/passwd": "root:x:0:0::/root:/sbin/nologin\nnonroot:x:65532:65532::/home/nonroot:/sbin/nologin\n",
    "/etc/group": "root:x:0:\nnonroot:x:65532:\n",
    "/etc/hostname": "demo\n",
    "/etc/hosts": "127.0.0.1 localhost\n192.0.2.10 db.internal\n",
    "/etc/resolv.conf": "search practice.svc.cluster.local\nnameserver 192.0.2.53\noptions ndots:5\n",
    "/etc/ssl/certs/ca-certificates.crt": "practice placeholder\n",
    "/srv/releases/42/config.yaml": CONFIG,
    "/srv/odd/a name with blanks.txt": "blanks\n",
    "/srv/odd/line\nfeed.txt": "a line feed in the name\n",
    "/srv/odd/\x1b[31mred\x1b[0m.txt": "escape sequences in the name\n",
    "/srv/odd/not-utf8-\udcff.txt": "a byte that is not UTF-8 in the name\n",
}
LINKS = {
    "/etc/app/current": "/srv/releases/42",
    "/etc/app/config.yaml": "/etc/app/current/config.yaml",
    "/srv/odd/loop": "/srv/odd/loop",
    "/srv/odd/escape": "../../../../../../etc/passwd",
    "/var/log/app/stdout.log": "/proc/1/fd/1",
}
DIRECTORIES = ("/dev", "/proc", "/tmp", "/var/log/app", "/home/nonroot", "/etc/app")
DEVICES = ("null", "zero", "urandom")


def plant(base: str) -> None:
    """Write the tree below `base`."""
    for path in DIRECTORIES:
        os.makedirs(base + path, exist_ok=True)
    for path, text in FILES.items():
        os.makedirs(os.path.dirname(base + path), exist_ok=True)
        with open(base + path, "w", encoding="utf-8") as file:
            file.write(text)
    for path, target in LINKS.items():
        os.symlink(target, base + path)
    os.mkfifo(base + "/srv/odd/fifo")
    with open(base + "/srv/odd/sparse", "wb") as sparse:
        sparse.truncate(1 << 40)


def enter() -> None:
    """A tmpfs as root of this mount namespace, with the tree, some devices and /proc."""
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    mount("practice", MOUNT_POINT, "tmpfs", MS_NOSUID | MS_NODEV, SIZE)
    plant(MOUNT_POINT)
    for device in DEVICES:
        place = f"{MOUNT_POINT}/dev/{device}"
        os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o600))
        mount(f"/dev/{device}", place, "", MS_BIND)
    try:
        mount("proc", f"{MOUNT_POINT}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    except OSError:
        pass  # inside a container with a masked /proc the kernel refuses a fresh one
    enter_root(MOUNT_POINT)
