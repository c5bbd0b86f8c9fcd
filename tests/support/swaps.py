"""A directory tree in which a directory is swapped for symlinks that lead out, in a tight loop."""

from __future__ import annotations

import os
from pathlib import Path

SECRET = b"outside the root"
INSIDE = b"inside, a needle\n"


def swap_for_ever(base: Path) -> None:
    """a/b is a directory, then a link that leads out, then the directory moved elsewhere, and so on."""
    while True:
        os.rename(base / "a/b", base / "a/real")
        os.symlink("../../../outside", base / "a/b")
        os.unlink(base / "a/b")
        os.symlink("/../../outside", base / "a/b")
        os.unlink(base / "a/b")
        os.rename(base / "a/real", base / "moved")
        os.rename(base / "moved", base / "a/b")


def plant(base: Path) -> None:
    for folder in ("a/b", "a/b/c/d", "a/steady"):
        (base / folder).mkdir(parents=True, exist_ok=True)
        (base / folder / "file").write_bytes(INSIDE)
    for outside in (base.parent / "outside", base.parent.parent / "outside"):
        (outside / "c/d").mkdir(parents=True)
        (outside / "file").write_bytes(SECRET + b" needle\n")
        (outside / "c/d/file").write_bytes(SECRET + b" needle\n")
        (outside / "secret-name").write_bytes(SECRET + b" needle\n")
