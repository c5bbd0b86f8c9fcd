#!/usr/bin/env python3
"""Write packages.lock anew: what apt and PyPI would give today, for every flavour and architecture."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from builder import fetch, lockfile
from builder.apt import Apt
from builder.listing import FLAVOURS, BuildError, read_list
from builder.lockfile import ARCHITECTURES, Lock, Locked


def locked_packages(flavour: str, architecture: str, apt: Apt, scratch: Path) -> Iterator[Locked]:
    """What a list means today on one architecture."""
    wanted = read_list(flavour)
    names = wanted.packages if wanted.exactly else apt.closure(wanted.packages)
    for name, found in apt.candidates(sorted(set(names) - set(wanted.refused))).items():
        yield Locked(flavour, architecture, "deb", name, *found)
    for name in wanted.wheels:
        wheel = fetch.download_wheel(name, "", architecture, scratch)
        version = wheel.name.split("-")[1]
        yield Locked(flavour, architecture, "pypi", name, version, fetch.sha256(wheel))


def make_lock(state: Path, sources: Path | None = None, flavours: tuple[str, ...] = FLAVOURS) -> Lock:
    """Resolve every list. Raises `BuildError`."""
    entries: list[Locked] = []
    for architecture in ARCHITECTURES:
        apt = Apt(architecture, state, sources)
        with tempfile.TemporaryDirectory() as scratch:
            for flavour in flavours:
                entries += locked_packages(flavour, architecture, apt, Path(scratch))
    return Lock(int(time.time()), tuple(entries))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, default=Path("build/toolbox"), help="folder for apt's lists")
    parser.add_argument("--sources", type=Path, help="apt sources to resolve from (default: the machine's)")
    options = parser.parse_args()
    try:
        lock = make_lock(options.state, options.sources)
    except BuildError as error:
        print(f"toolbox/lock.py: {error}", file=sys.stderr)
        return 1
    lockfile.FILE.write_text(lockfile.render(lock))
    print(f"{len(lock.entries)} entries in {lockfile.FILE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
