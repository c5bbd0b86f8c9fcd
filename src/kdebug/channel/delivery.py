"""Deliver the client's own agent to an image that has python3 and not our agent.

The command is `python3 -c LOADER`; a program follows on stdin, compressed: the agent's sources and the
importer that finds them. The loader checks length and SHA-256, then runs it from memory: nothing is
written anywhere. Only the digest is in argv, so an audit log names exactly the code that ran.
"""

from __future__ import annotations

import functools
import hashlib
import json
import zlib

from kdebug.agent.source import agent_sources
from kdebug.protocol.hello import hash_sources

MAX_ARCHIVE_BYTES = 1024 * 1024

LOADER = """\
import sys,os,zlib
n,b=int(sys.argv[1]),b""
while len(b)<n:
 p=os.read(0,n-len(b))
 if not p:sys.exit("kdebug-loader: the agent did not arrive: %d of %d bytes"%(len(b),n))
 b+=p
try:from _sha2 import sha256
except ImportError:
 try:from _sha256 import sha256
 except ImportError:from hashlib import sha256
if sha256(b).hexdigest()!=sys.argv[2]:sys.exit("kdebug-loader: the agent arrived damaged: wrong SHA-256")
exec(zlib.decompress(b))"""
"""Python >= 3.9, standard library only; short, since it stands in every process list."""

_IMPORTER = """
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in modules:
            return ModuleSpec(name, Finder, origin="memory:" + name, is_package=name in packages)
    @staticmethod
    def create_module(spec): return None
    @staticmethod
    def exec_module(module):
        name = module.__name__
        exec(compile(modules.pop(name), "memory:" + name, "exec", dont_inherit=True), module.__dict__)

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
    """What the loader takes; the same bytes for the same sources."""
    sources = agent_sources()
    modules = {_module_name(path): source.decode() for path, source in sorted(sources.items())}
    packages = sorted(_module_name(path) for path in sources if path.endswith("__init__.py"))
    # JSON of strings is a Python literal, too.
    program = (
        "import os, sys\nfrom importlib.machinery import ModuleSpec\n"
        f"source_hash = {hash_sources(sources)!r}\npackages = {packages!r}\n"
        f"modules = {json.dumps(modules)}\n"
    )
    return zlib.compress((program + _IMPORTER).encode(), 6)


def _module_name(path: str) -> str:
    return ".".join(["kdebug", *path[: -len(".py")].split("/")]).removesuffix(".__init__")


def delivered_agent_command(payload: bytes, *arguments: str, python: str = "python3") -> list[str]:
    """argv that loads `payload` from stdin and serves. Write `payload` before the first frame."""
    digest = hashlib.sha256(payload).hexdigest()
    return [python, "-I", "-c", LOADER, str(len(payload)), digest, "serve", *arguments]


HOLD_VARIABLE = "KDEBUG_HOLD"
"""Holds the program of a toolbox' first process: readable in the pod's spec, and not in process lists."""
_RUN_HOLD = f"import os;exec(os.environ['{HOLD_VARIABLE}'])"


def hold_command(*arguments: str, python: str = "python3") -> list[str]:
    """argv that keeps a container of any python image alive, with `hold_program` in `HOLD_VARIABLE`."""
    return [python, "-I", "-S", "-c", _RUN_HOLD, *arguments]


def hold_program() -> str:
    """`hold` as one text: whoever reviews the pod sees what runs."""
    sources = agent_sources()
    harden, hold = (sources[f"agent/{name}.py"].decode() for name in ("harden", "hold"))
    return harden + hold.replace("from kdebug.agent.harden import harden\n", "") + _HOLD_MAIN


_HOLD_MAIN = """

import sys

sys.exit(main(sys.argv[1:], lambda line: os.write(2, f"kdebug-hold: {line}\\n".encode())))
"""
