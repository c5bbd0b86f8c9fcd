"""apt with state of its own, for any architecture: of the machine only sources and keys are read."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from builder.listing import BuildError

SOURCES = ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list")
"""Where Debian's images keep their sources; the first that exists is used."""
_URI = re.compile(r"^'[^']*' (?P<file>\S+)_\S+\.deb \d+ ", re.MULTILINE)


class Apt:
    """One architecture's view of the archive, kept below `state`."""

    def __init__(self, architecture: str, state: Path, sources: Optional[Path] = None) -> None:
        self.architecture = architecture
        self._state = state.resolve() / f"apt-{architecture}"
        self._sources = sources or _machine_sources()
        self._updated = False
        for folder in ("lists/partial", "cache/archives/partial"):
            (self._state / folder).mkdir(parents=True, exist_ok=True)
        (self._state / "status").touch()

    def _run(self, *arguments: str, cwd: Optional[Path] = None) -> str:
        state = self._state
        settings = {
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",
            "Dir::Cache": state / "cache",
            "Dir::Etc::parts": "/dev/null",
            "Dir::Etc::sourcelist": self._sources,
            "Dir::Etc::sourceparts": "-",
            "Dir::State": state,
            "Dir::State::lists": state / "lists",
            "Dir::State::status": state / "status",
        }
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        try:
            done = subprocess.run(
                [arguments[0], *options, *arguments[1:]],
                cwd=cwd,
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            raise BuildError(
                "the toolbox is made from Debian packages and this machine has no apt; "
                "use `docker build -f toolbox/Dockerfile .`"
            ) from None
        if done.returncode != 0:
            raise BuildError(f"{arguments[0]} {arguments[1]} failed: {_errors(done.stderr)}")
        return done.stdout

    def update(self) -> None:
        """Fetch the lists once."""
        if not self._updated:
            self._run("apt-get", "update", "--error-on=any")
            self._updated = True

    def closure(self, names: Sequence[str]) -> list[str]:
        """The packages and their dependencies, as for an empty system."""
        self.update()
        shown = self._run("apt-get", "install", "--print-uris", "--yes", *names)
        return sorted(match["file"].partition("_")[0] for match in _URI.finditer(shown))

    def candidates(self, names: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Name -> version and SHA-256 of what apt would install now."""
        self.update()
        found = {}
        for stanza in self._run("apt-cache", "show", "--no-all-versions", *names).split("\n\n"):
            fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line)
            if "Package" in fields:
                found[fields["Package"]] = (fields["Version"], fields["SHA256"])
        return found

    def download(self, wanted: Sequence[tuple[str, str]], folder: Path) -> None:
        """Fetch (name, version) pairs into `folder`, as name_version_arch.deb."""
        self.update()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._run("apt-get", "download", *(f"{name}={version}" for name, version in wanted), cwd=folder)
        except BuildError as error:
            raise BuildError(
                f"{error}; Debian has newer versions: run `python3 toolbox/lock.py`, "
                "or name an archive that keeps old ones with --sources"
            ) from None


def _machine_sources() -> Path:
    for place in SOURCES:
        if Path(place).exists():
            return Path(place)
    raise BuildError("this machine names no Debian archive; name one with --sources FILE")


def _errors(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.startswith("E:")] or stderr.splitlines()
    return "; ".join(line.removeprefix("E: ") for line in lines[-3:])
