"""Python files as .pyc, made by the very interpreter of the image: nothing is compiled in the pod.

The toolbox runs with a read-only root and as any user, so nothing could be cached there. The .pyc are
unchecked (PEP 552) and stand in place of their sources. They do not depend on the architecture, so the
interpreter of the machine that builds makes them for both.
"""

from __future__ import annotations

import io
import os
import platform
import subprocess
import tempfile
import zipfile
from pathlib import Path

from builder.listing import BuildError
from builder.tree import Tree

MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
INTERPRETER = "usr/bin/python3.11"
LIBRARY = "usr/lib/python3.11/"
COMPILED = ("usr/lib/python3.11/", "usr/lib/python3/dist-packages/")
_COMPILE = """
import importlib._bootstrap_external as bootstrap, importlib.util, os, sys
root, shown = sys.argv[1:]
for folder, folders, names in os.walk(root):
    folders.sort()
    for name in sorted(names):
        path = os.path.join(folder, name)
        if not name.endswith('.py'): continue
        with open(path, 'rb') as file: source = file.read()
        place = shown + os.path.relpath(path, root)
        try: code = compile(source, place, 'exec', dont_inherit=True, optimize=0)
        except SyntaxError: continue
        data = bootstrap._code_to_hash_pyc(code, importlib.util.source_hash(source), False)
        with open(path + 'c', 'wb') as file: file.write(data)
"""


def host_architecture() -> str:
    """amd64 or arm64. Raises `BuildError` on another machine."""
    machine = platform.machine()
    if machine not in MACHINES or os.name != "posix":
        raise BuildError(f"the toolbox is built on amd64 and arm64, not on {machine}")
    return MACHINES[machine]


class Interpreter:
    """The image's own CPython for this machine, unpacked in a temporary folder."""

    def __init__(self, tree: Tree) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="kdebug-toolbox-")
        self.root = Path(self._folder.name) / "root"
        tree.write_to(self.root)

    def close(self) -> None:
        self._folder.cleanup()

    def command(self, *arguments: str) -> list[str]:
        """argv that runs it without a chroot: through the image's own loader and libraries."""
        loader = next((self.root / "usr/lib").glob("*/ld-linux-*"))
        libraries = f"{loader.parent}"
        return [str(loader), "--library-path", libraries, str(self.root / INTERPRETER), *arguments]

    def compile(self, sources: dict[str, bytes], shown: str = "/") -> dict[str, bytes]:
        """Path -> .pyc for every source that compiles; `shown` is the prefix that tracebacks name."""
        with tempfile.TemporaryDirectory(prefix="kdebug-compile-") as folder:
            for path, source in sources.items():
                place = Path(folder) / path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(source)
            environment = {"PYTHONHASHSEED": "0", "PYTHONHOME": str(self.root / "usr")}
            done = subprocess.run(
                self.command("-S", "-c", _COMPILE, folder, shown),
                capture_output=True, text=True, check=False, env=environment,
            )  # fmt: skip
            if done.returncode != 0:
                raise BuildError(f"the image's interpreter could not compile: {done.stderr.strip()[-300:]}")
            found = {path: Path(folder) / f"{path}c" for path in sources}
            return {path: file.read_bytes() for path, file in found.items() if file.exists()}


def compile_tree(tree: Tree, interpreter: Interpreter) -> None:
    """Replace every .py of the standard library and of psutil by its .pyc."""
    sources = {path: node.data for path, node in tree.files(".py") if path.startswith(COMPILED)}
    for path, compiled in interpreter.compile(sources).items():
        tree.remove(path)
        tree.file(f"{path}c", compiled)


def zipapp(sources: dict[str, bytes], source_hash: str, interpreter: Interpreter) -> bytes:
    """The agent as one executable file: its .pyc for the image's interpreter, its .py for any other."""
    main = _MAIN.format(source_hash=source_hash).encode()
    files = {f"kdebug/{path}": source for path, source in sources.items()} | {"__main__.py": main}
    compiled = {f"{path}c": data for path, data in interpreter.compile(files, "kdebug-agent/").items()}
    buffer = io.BytesIO(_SHEBANG)
    buffer.seek(0, os.SEEK_END)
    # Stored, not deflated: reading a module then needs no zlib and no second copy in memory.
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for path, data in sorted((files | compiled).items()):
            archive.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), data)
    return buffer.getvalue()


_SHEBANG = b"#!/usr/bin/python3 -IS\n"
_MAIN = """\
import os
import sys

# Without `site`, which costs time and memory, psutil's place must be named.
sys.path.append("/usr/lib/python3/dist-packages")
import kdebug

kdebug.SOURCE_HASH = "{source_hash}"
from kdebug.agent.__main__ import main

os._exit(main())
"""
