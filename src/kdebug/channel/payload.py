"""The agent as it is delivered: compiled by this Python, and as source for every other one.

An image whose Python has our magic number compiles nothing: 30 ms less at each attach, several times that
in a throttled pod. Compiling takes us longer than that, so the result is kept beside Python's own compiled
files, as theirs, where those may be written; elsewhere only the source is sent.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import marshal
import os
import re
import sys
import zlib
from types import CodeType

from kdebug.agent.source import agent_sources
from kdebug.protocol.hello import hash_sources

NO_MAGIC = bytes(4)
"""In place of a magic number where nothing is compiled."""
NO_REFERENCES = 2
"""The version of marshal's format that does not depend on what else this process has loaded: whoever
allow-lists a digest meets the same one again."""
_DIGEST_BYTES = 32
_STARTS = ("kdebug.agent.__main__", "kdebug.agent.harden", "kdebug.agent.startup")
_IMPORT = re.compile(r"^from (kdebug[\w.]*) import ([^(\n]+|\([^)]*\))", re.MULTILINE)
"""At the left margin, so not within a function or for type checkers only."""

_IMPORTER = """
import marshal, os, sys, zlib
from _frozen_importlib import ModuleSpec

late = b[n:k]
del b

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in modules or name in late_names:
            return ModuleSpec(name, Finder, origin="memory:" + name, is_package=name in packages)
    @staticmethod
    def create_module(spec): return None
    @staticmethod
    def exec_module(module):
        name = module.__name__
        if name in late_names:
            modules.update(marshal.loads(zlib.decompress(late)))
            late_names.clear()
        text = modules.pop(name)
        if type(text) is bytes: code = marshal.loads(text)
        else: code = compile(text, "memory:" + name, "exec", dont_inherit=True, optimize=2)
        exec(code, module.__dict__)

sys.meta_path.insert(0, Finder)
import kdebug

kdebug.SOURCE_HASH = source_hash
sys.argv = ["kdebug-agent"] + sys.argv[3:]
from kdebug.agent.__main__ import main

os._exit(main())
"""
"""A module's text is dropped once it is compiled."""


@functools.cache
def archive() -> bytes:
    """What the loader takes: see `build`."""
    folder = os.path.dirname(importlib.util.cache_from_source(__file__))
    if sys.dont_write_bytecode or not os.access(folder, os.W_OK):
        return build(agent_sources(), compiled=False)
    path = os.path.join(folder, f"agent.{sys.implementation.cache_tag}.delivery")
    key = _key()
    kept = _read(path, key)
    if kept is None:
        kept = build(agent_sources())
        with contextlib.suppress(OSError):
            _write(path, key + hashlib.sha256(kept).digest() + kept)
    return kept


def build(sources: dict[str, bytes], *, compiled: bool = True) -> bytes:
    """Magic number, length of the compiled part and of the modules that are seldom needed, then both of
    them, and the source of the rest. The same bytes for the same sources and the same Python."""
    texts = {_module_name(path): source.decode() for path, source in sorted(sources.items())}
    early = sorted(_early(texts))
    rest = {name: text for name, text in texts.items() if name not in early}
    late = zlib.compress(marshal.dumps(rest, NO_REFERENCES), 9)
    head = _head(sources) + f"late_names = dict.fromkeys({sorted(rest)!r})\n"
    # JSON of strings is a Python literal, too.
    words = json.dumps({name: texts[name] for name in early})
    source = zlib.compress(f"{head}modules = {words}\n{_IMPORTER}".encode(), 9)
    magic, code = NO_MAGIC, b""
    if compiled:
        codes = {name: _compiled(texts[name], "memory:" + name) for name in early}
        magic = importlib.util.MAGIC_NUMBER
        code = zlib.compress(_compiled(f"{head}modules = {codes!r}\n{_IMPORTER}", "memory:kdebug"), 9)
    return magic + len(code).to_bytes(4, "big") + len(late).to_bytes(4, "big") + code + late + source


def _early(texts: dict[str, str]) -> set[str]:
    """What every agent loads. The rest is compiled at the first request that needs it, for the sake of slow
    uplinks."""
    found: set[str] = set()
    todo = list(_STARTS)
    while todo:
        name = todo.pop()
        if name in texts and name not in found:
            found.add(name)
            todo.append(name.rpartition(".")[0])
            for module, names in _IMPORT.findall(texts[name]):
                todo += [module, *(f"{module}.{word}" for word in re.findall(r"\w+", names))]
    return found


def _head(sources: dict[str, bytes]) -> str:
    packages = sorted(_module_name(path) for path in sources if path.endswith("__init__.py"))
    return f"source_hash = {hash_sources(sources)!r}\npackages = {packages!r}\n"


def _module_name(path: str) -> str:
    return ".".join(["kdebug", *path[: -len(".py")].split("/")]).removesuffix(".__init__")


def _compiled(text: str, name: str) -> bytes:
    code = _bare(compile(text, name, "exec", dont_inherit=True, optimize=2))
    try:
        return marshal.dumps(code, NO_REFERENCES)
    except ValueError:
        return marshal.dumps(code)  # Python 3.14 writes slices in its newest format only


def _bare(code: CodeType) -> CodeType:
    """Without line numbers, a quarter of its size: the agent logs no tracebacks."""
    inner = tuple(_bare(item) if isinstance(item, CodeType) else item for item in code.co_consts)
    return code.replace(co_consts=inner, co_linetable=b"")


def _key() -> bytes:
    """Differs when any file of the package does: names, sizes and times, as Python's own caches."""
    seen = hashlib.sha256(importlib.util.MAGIC_NUMBER)
    for folder, below, files in os.walk(os.path.dirname(os.path.dirname(__file__))):
        below[:] = sorted(name for name in below if name != "__pycache__")
        for file in sorted(files):
            status = os.stat(os.path.join(folder, file))
            seen.update(f"{folder}/{file}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return seen.digest()


def _read(path: str, key: bytes) -> bytes | None:
    """What was kept under this key, whole."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError:
        return None
    kept = content[2 * _DIGEST_BYTES :]
    return kept if content[: 2 * _DIGEST_BYTES] == key + hashlib.sha256(kept).digest() else None


def _write(path: str, content: bytes) -> None:
    """At once or not at all: another client may read it meanwhile."""
    partial = f"{path}.{os.getpid()}"
    try:
        with open(partial, "xb") as file:
            file.write(content)
        os.replace(partial, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise
