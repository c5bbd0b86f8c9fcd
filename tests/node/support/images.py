"""Container images made at test time: there is no registry to pull from, and a target must have no shell.

The targets are one static C program `FROM scratch` under several image users. Beside them stand the
pause image that every sandbox needs, a stock-like python image (Debian's python3 under the name people
would pull) and a busybox for what `kubectl debug` would run. All of them go into one archive that `ctr
images import` takes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import random
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from . import packages

PAUSE = "registry.k8s.io/pause:node"
TARGET = "docker.io/library/kdebug-target"
PYTHON = "docker.io/library/python:3.13-slim"
BUSYBOX = "docker.io/library/busybox:1.37"

BLOB_SIZE = 64 << 20
BLOB_SEED = 20240229
"""The blob is the same on every run so that the archive can be kept; its digest is what tests compare."""

PROGRAMS = Path(__file__).with_name("programs")
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

TOOL_PASSWD = """\
root:x:0:0:root:/root:/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin
"""
TOOL_GROUP = "root:x:0:\nnobody:x:65534:\n"
PASSWD = TOOL_PASSWD + "app:x:1000:2000:app:/home/app:/sbin/nologin\n"
GROUP = TOOL_GROUP + "app:x:2000:\n"
LISTED = "nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"
"""The runtime takes a bare uid's group from the image's passwd: without such a line it is 0."""

SKIPPED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/lib/x86_64-linux-gnu/gconv",
)
"""What a slim image leaves out of a Debian package as well."""


@dataclass(frozen=True)
class Image:
    name: str
    layers: tuple[bytes, ...]
    user: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: tuple[str, ...] = (PATH,)


class Layer:
    """A tar of a few files, in memory."""

    def __init__(self) -> None:
        self._bytes = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._bytes, mode="w", format=tarfile.GNU_FORMAT)

    def _add(
        self, name: str, kind: bytes, mode: int, owner: int, content: bytes = b"", link: str = ""
    ) -> Layer:
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.linkname, entry.size = kind, mode, link, len(content)
        entry.uid = entry.gid = owner
        entry.mtime = 1700000000
        self._tar.addfile(entry, io.BytesIO(content))
        return self

    def file(self, name: str, content: bytes | str, mode: int = 0o644, owner: int = 0) -> Layer:
        data = content.encode() if isinstance(content, str) else content
        return self._add(name, tarfile.REGTYPE, mode, owner, data)

    def folder(self, name: str, mode: int = 0o755, owner: int = 0) -> Layer:
        return self._add(name, tarfile.DIRTYPE, mode, owner)

    def link(self, name: str, target: str) -> Layer:
        return self._add(name, tarfile.SYMTYPE, 0o777, 0, link=target)

    def tree(self, root: Path) -> Layer:
        """An unpacked package, owned by root whoever unpacked it."""
        for path in sorted(root.rglob("*")):
            name = str(path.relative_to(root))
            if not name.startswith(SKIPPED):
                self._tar.add(path, name, recursive=False, filter=_owned_by_root)
        return self

    def done(self) -> bytes:
        self._tar.close()
        return self._bytes.getvalue()


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def compiled(program: str) -> bytes:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise packages.Unavailable("the targets are C programs and there is no C compiler (gcc, libc6-dev)")
    source, binary = PROGRAMS / f"{program}.c", packages.HOME / f"{program}.{os.getpid()}"
    packages.HOME.mkdir(exist_ok=True)
    subprocess.run([compiler, "-static", "-O1", "-s", "-o", binary, source], check=True)
    try:
        return binary.read_bytes()
    finally:
        binary.unlink()


def blob() -> bytes:
    return random.Random(BLOB_SEED).randbytes(BLOB_SIZE)


def _target_images() -> Iterable[Image]:
    app = compiled("app")
    data = Layer().folder("data").file("data/blob.bin", blob()).done()
    base = Layer().folder("etc").folder("tmp", 0o1777).folder("root", 0o700).folder("home").folder("var")
    base.folder("home/nonroot", 0o700, 65532).folder("home/app", 0o700, 1000).folder("var/run")
    base.file("etc/passwd", PASSWD).file("etc/group", GROUP).file("etc/app.conf", "greeting = hello\n")
    base.file("etc/secret.conf", "password = swordfish\n", 0o600)
    base.folder("data").file("data/hello.txt", "hello, world\n").folder("data/empty")
    base.link("data/current", "/data/blob.bin").link("data/conf", "/etc").link("data/dangling", "/nowhere")
    base.link("data/escape", "/../../../../etc/passwd")
    system = base.done()
    program = Layer().file("app", app, 0o755).done()
    environment = (PATH, "APP_GREETING=hello", "APP_SECRET=swordfish")

    def image(tag: str, user: str = "", top: bytes = b"") -> Image:
        layers = (system, data, program, top) if top else (system, data, program)
        return Image(f"{TARGET}:{tag}", layers, user, ("/app",), (), environment)

    yield image("root")
    yield image("nonroot", "65532:65532")
    yield image("listed", "65532:65532", Layer().file("etc/passwd", PASSWD + LISTED).done())
    yield image("named", "app")
    # A binary that its user may run but not read makes the process non-dumpable.
    yield image("unreadable", "65532:65532", Layer().file("app", app, 0o711).done())


def _busybox(layer: Layer) -> Layer:
    root = packages.unpacked("busybox", packages.BUSYBOX)
    binary = root / "bin/busybox"
    layer.file("bin/busybox", binary.read_bytes(), 0o755)
    applets = subprocess.run([binary, "--list"], check=True, capture_output=True, text=True).stdout.split()
    for applet in applets:
        if applet != "busybox":
            layer.link(f"bin/{applet}", "/bin/busybox")
    return layer.folder("tmp", 0o1777).file("etc/passwd", TOOL_PASSWD).file("etc/group", TOOL_GROUP)


def _tool_images() -> Iterable[Image]:
    yield Image(
        PAUSE, (Layer().file("pause", compiled("pause"), 0o755).done(),), "65535:65535", ("/pause",)
    )
    shell = _busybox(Layer().folder("bin").folder("etc")).done()
    yield Image(BUSYBOX, (shell,), "", (), ("sh",))
    python = Layer().tree(packages.unpacked("python", packages.PYTHON))
    python.folder("usr/local").folder("usr/local/bin")
    for name in ("python", "python3", "python3.11"):
        python.link(f"usr/local/bin/{name}", "/usr/bin/python3.11")
    yield Image(PYTHON, (shell, python.done()), "", (), ("python3",), (PATH, "LANG=C.UTF-8"))


def _config(image: Image) -> bytes:
    digests = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in image.layers]
    config = {
        "User": image.user,
        "Entrypoint": list(image.entrypoint) or None,
        "Cmd": list(image.command) or None,
        "Env": list(image.environment),
        "WorkingDir": "/",
    }
    document = {
        "architecture": ARCHITECTURE,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": digests},
    }
    return json.dumps(document).encode()


def _write_archive(images: Iterable[Image], path: Path) -> None:
    """The format of `docker save`, whose layers are shared by name."""
    manifest, written = [], set()
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:

        def put(name: str, content: bytes) -> str:
            if name not in written:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
                written.add(name)
            return name

        for image in images:
            config = _config(image)
            layers = [
                put(f"{hashlib.sha256(layer).hexdigest()}/layer.tar", layer) for layer in image.layers
            ]
            name = put(f"{hashlib.sha256(config).hexdigest()}.json", config)
            manifest.append({"Config": name, "RepoTags": [image.name], "Layers": layers})
        put("manifest.json", json.dumps(manifest).encode())


def archive() -> Path:
    """Every image in one file, kept until this module, a program or a package changes."""
    sources = hashlib.sha256()
    for path in (Path(__file__), Path(packages.__file__), *sorted(PROGRAMS.glob("*.c"))):
        sources.update(path.read_bytes())
    path = packages.HOME / f"images-{sources.hexdigest()[:16]}.tar"
    with packages.exclusively("images"):
        if not path.exists():
            for old in packages.HOME.glob("images-*.tar"):
                old.unlink()
            partial = path.with_suffix(".partial")
            _write_archive((*_tool_images(), *_target_images()), partial)
            partial.rename(path)
    return path
