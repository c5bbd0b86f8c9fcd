#!/usr/bin/env python3
"""Make the toolbox image: packages named in packages.lock, the agent, and nothing else.

Writes an OCI archive and an SBOM; with --rootfs a plain tar of the file system, which the Dockerfile
takes. Needs Debian's apt and dpkg-deb, and no privilege.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from builder import compiled, fetch, lockfile, oci, sbom
from builder.apt import Apt
from builder.compiled import Interpreter
from builder.listing import FLAVOURS, HERE, BuildError, read_list
from builder.lockfile import ARCHITECTURES, Lock, Locked
from builder.tree import Tree

SOURCES = HERE.parent / "src"
REPOSITORY = "kdebug-toolbox"
AGENT = "usr/bin/kdebug-agent"
PASSWD = "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"
GROUP = "root:x:0:\nnonroot:x:65532:\n"
OS_RELEASE = 'PRETTY_NAME="kdebug toolbox"\nNAME="kdebug toolbox"\nID=debian\nVERSION_ID="12"\n'
"""ID and version are Debian's, since scanners look for the packages' advisories by them."""


@dataclass
class Workshop:
    """What every image of one run shares."""

    lock: Lock
    cache: Path
    sources: Path | None
    apts: dict[str, Apt]
    interpreter: Interpreter | None = None

    def files(self, locked: tuple[Locked, ...], architecture: str) -> dict[Locked, Path]:
        if architecture not in self.apts:
            self.apts[architecture] = Apt(architecture, self.cache, self.sources)
        return fetch.fetch(locked, self.apts[architecture], self.cache / "packages")

    def compiler(self) -> Interpreter:
        """The interpreter of core for this machine, whatever is built."""
        if self.interpreter is None:
            host = compiled.host_architecture()
            tree = Tree()
            wanted = read_list("core")
            for file in self.files(self.lock.of("core", host), host).values():
                tree.add_deb(file, wanted)
            self.interpreter = Interpreter(tree)
        return self.interpreter


def version() -> str:
    """The client's version: image and client belong together."""
    try:
        text = (SOURCES / "kdebug/__init__.py").read_text()
    except FileNotFoundError:
        return "unknown"
    found = re.search(r'__version__ = "([^"]+)"', text)
    return found[1] if found else "unknown"


def agent_zipapp(workshop: Workshop) -> tuple[bytes, str]:
    """The agent and its source hash; nothing where the sources are not in reach (docker build toolbox/)."""
    if not (SOURCES / "kdebug/agent").is_dir():
        return b"", ""
    sys.path.insert(0, str(SOURCES))
    from kdebug.agent.source import agent_sources
    from kdebug.protocol.hello import hash_sources

    sources = agent_sources()
    source_hash = hash_sources(sources)
    return compiled.zipapp(sources, source_hash, workshop.compiler()), source_hash


def build_tree(flavour: str, architecture: str, workshop: Workshop, agent: tuple[bytes, str]) -> Tree:
    """Everything that is in the image."""
    wanted, locked = read_list(flavour), workshop.lock.of(flavour, architecture)
    tree = Tree()
    for entry, file in workshop.files(locked, architecture).items():
        if entry.source == "deb":
            tree.add_deb(file, wanted)
            tree.file(f"var/lib/dpkg/status.d/{entry.name}", sbom.dpkg_status(file))
        else:
            tree.add_wheel_programs(file)
    compiled.compile_tree(tree, workshop.compiler())
    for path, text in wanted.links.items():
        tree.link(path, text)
    _add_own_files(tree, flavour, agent[0])
    document = sbom.spdx(
        f"{REPOSITORY}-{flavour}-{architecture}", version(), locked, workshop.lock.epoch, agent[1]
    )
    tree.file("usr/share/doc/kdebug/sbom.spdx.json", document)
    return tree


def _add_own_files(tree: Tree, flavour: str, agent: bytes) -> None:
    tree.file("etc/passwd", PASSWD.encode())
    tree.file("etc/group", GROUP.encode())
    tree.file("etc/os-release", OS_RELEASE.encode())
    tree.file("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n")
    tree.directory("tmp", 0o1777)
    for place in ("dev", "proc", "sys", "run"):
        tree.directory(place)
    if agent:
        tree.file(AGENT, agent, 0o755)
    if flavour == "full":
        tree.file("usr/bin/kdebug-reap", (HERE / "reap.py").read_bytes(), 0o755)
        # What the package's maintainer script would have made.
        bundle = b"".join(
            n.data for p, n in tree.files(".crt") if p.startswith("usr/share/ca-certificates/")
        )
        tree.file("etc/ssl/certs/ca-certificates.crt", bundle)


def build(flavour: str, architectures: list[str], workshop: Workshop, output: Path, rootfs: bool) -> None:
    """Build one flavour and say what was made."""
    agent = agent_zipapp(workshop)
    if not agent[0]:
        print(
            "the agent's sources are not here: the image has none, the client delivers it", file=sys.stderr
        )
    command = ("/" + AGENT, "hold") if agent[0] else ("/usr/bin/python3",)
    images = []
    output.mkdir(parents=True, exist_ok=True)
    for architecture in architectures:
        tree = build_tree(flavour, architecture, workshop, agent)
        layer = tree.to_tar(workshop.lock.epoch)
        title = f"{REPOSITORY}-{flavour}"
        images.append(oci.Image(architecture, layer, title, version(), workshop.lock.epoch, command))
        stem = f"{title}-{architecture}"
        (output / f"{stem}.spdx.json").write_bytes(tree.nodes["usr/share/doc/kdebug/sbom.spdx.json"].data)
        if rootfs:
            (output / f"{stem}.rootfs.tar").write_bytes(layer)
    if agent[0]:
        (output / "kdebug-agent").write_bytes(agent[0])
        (output / "kdebug-agent").chmod(0o755)
    name = f"{REPOSITORY}-{flavour}-{architectures[0] if len(architectures) == 1 else 'all'}.oci.tar"
    sizes = oci.write_archive(images, f"docker.io/library/{REPOSITORY}:{flavour}", output / name)
    for architecture, size in sizes.items():
        print(f"{output / name}: {flavour} for {architecture}, {size / 1e6:.1f} MB compressed")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flavour", choices=FLAVOURS, default="core")
    parser.add_argument(
        "--arch",
        choices=ARCHITECTURES,
        action="append",
        help="may be repeated: then one archive holds both",
    )
    parser.add_argument("--output", type=Path, default=Path("dist"))
    parser.add_argument("--cache", type=Path, default=Path("build/toolbox"))
    parser.add_argument("--lock", type=Path, default=lockfile.FILE)
    parser.add_argument(
        "--sources", type=Path, help="apt sources to download from (default: the machine's)"
    )
    parser.add_argument("--rootfs", action="store_true", help="also write the file system as a plain tar")
    options = parser.parse_args()
    workshop = None
    try:
        workshop = Workshop(lockfile.read(options.lock), options.cache, options.sources, {})
        architectures = options.arch or [compiled.host_architecture()]
        build(options.flavour, architectures, workshop, options.output, options.rootfs)
    except BuildError as error:
        print(f"toolbox/build.py: {error}", file=sys.stderr)
        return 1
    finally:
        if workshop and workshop.interpreter:
            workshop.interpreter.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
