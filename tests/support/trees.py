"""Trees that hurt, made from a seed, and their comparison bit for bit."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

ODD = [b"line\nfeed", b"\x1b[31mred", b"\xff\xfe", b" ", b"-rf", b"[x]*?", "\u202e".encode(), b"a" * 240]


def make_tree(top: Path, files: int, chance: random.Random) -> None:
    """`files` files in directories up to five deep: modes, times, empty, sparse, odd names, symlinks."""
    folders = [os.fsencode(top)]
    os.makedirs(folders[0], exist_ok=True)
    for number in range(max(1, files // 20)):
        parent = chance.choice(folders)
        if parent.count(b"/") - folders[0].count(b"/") < 5 and len(parent) < 2500:
            name = chance.choice(ODD) if chance.random() < 0.2 else b"dir-%d" % number
            path = os.path.join(parent, name)
            if not os.path.lexists(path):
                os.mkdir(path)
                folders.append(path)
    for number in range(files):
        parent = chance.choice(folders)
        name = chance.choice(ODD) + b"%d" % number if chance.random() < 0.1 else b"file-%d" % number
        path = os.path.join(parent, name)
        kind = chance.random()
        if kind < 0.1:
            os.symlink(chance.choice([b"file-0", b"nowhere", b"./dir-0/x", b"\xff"]), path)
            continue
        with open(path, "wb") as file:
            if kind < 0.2:
                pass
            elif kind < 0.25:
                file.seek(chance.randrange(1 << 22))
                file.write(b"middle")
                file.truncate(chance.randrange(1 << 22, 1 << 23))
            else:
                file.write(chance.randbytes(int(chance.expovariate(1 / 3000))))
        os.chmod(path, chance.choice([0o644, 0o600, 0o755, 0o400, 0o777, 0o444]))
        os.utime(path, ns=(0, chance.randrange(10**18, 17 * 10**17)))
    for path in reversed(folders):
        os.chmod(path, chance.choice([0o755, 0o700, 0o750, 0o555]))
        os.utime(path, ns=(0, chance.randrange(10**18, 17 * 10**17)))


Facts = dict[bytes, tuple[object, ...]]


def facts(top: Path, *, links: bool = True, times: bool = True) -> Facts:
    """Everything that a copy keeps, by path below `top`."""
    found: Facts = {}
    root = os.fsencode(top)
    for folder, folders, files in os.walk(root):
        for name in [b".", *folders, *files]:
            path = os.path.join(folder, name)
            if name != b"." and name in folders and not os.path.islink(path):
                continue  # comes as "." of its own
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                if links:
                    found[os.path.relpath(path, root)] = ("link", os.readlink(path))
                continue
            mtime = status.st_mtime_ns if times else 0
            row: tuple[object, ...] = (stat.S_IMODE(status.st_mode), mtime)
            if stat.S_ISREG(status.st_mode):
                row += (open(path, "rb").read(),)
            found[os.path.relpath(path, root)] = row
    return found


def allocated(path: Path) -> int:
    return os.lstat(path).st_blocks * 512
