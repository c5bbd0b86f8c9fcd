"""Deliver the client's own agent to an image that has python3 and not our agent.

The command is `python3 -c LOADER`; the agent's sources follow on stdin, compressed, with their length
and SHA-256 in front. The loader checks both, then imports from memory: nothing is written anywhere.
Only the digest is in argv, so an audit log names exactly the code that ran.
"""

from __future__ import annotations

import hashlib
import json
import zlib

from kdebug.agent.source import agent_sources
from kdebug.protocol.hello import hash_sources

MAX_ARCHIVE_BYTES = 1024 * 1024

LOADER = r"""
import sys,os,zlib,json
n,d=int(sys.argv[1]),sys.argv[2]
b=bytearray()
while len(b)<n:
    p=os.read(0,min(65536,n-len(b)))
    if not p: sys.exit("kdebug-loader: the agent did not arrive: %d of %d bytes"%(len(b),n))
    b+=p
try: from _sha2 import sha256
except ImportError:
    try: from _sha256 import sha256
    except ImportError: from hashlib import sha256
if sha256(b).hexdigest()!=d: sys.exit("kdebug-loader: the agent arrived damaged: wrong SHA-256")
t=json.loads(zlib.decompress(b))
class F:
    @staticmethod
    def find_spec(name,path=None,target=None):
        if name in t["modules"]:
            from importlib.machinery import ModuleSpec
            return ModuleSpec(name,F,origin="memory:"+name,is_package=name in t["packages"])
    @staticmethod
    def create_module(spec): return None
    @staticmethod
    def exec_module(m):
        exec(compile(t["modules"].pop(m.__name__),"memory:"+m.__name__,"exec",dont_inherit=True),m.__dict__)
del b,p
sys.meta_path.insert(0,F)
import kdebug
kdebug.SOURCE_HASH=t["hash"]
sys.argv=["kdebug-agent"]+sys.argv[3:]
from kdebug.agent.__main__ import main
os._exit(main())
"""
"""Python >= 3.9, standard library only. A module's text is dropped once it is compiled."""


def archive() -> bytes:
    """The agent's sources as the loader takes them; the same bytes for the same sources."""
    sources = agent_sources()
    modules = {_module_name(path): source.decode() for path, source in sorted(sources.items())}
    packages = sorted(_module_name(path) for path in sources if path.endswith("__init__.py"))
    text = json.dumps({"hash": hash_sources(sources), "modules": modules, "packages": packages})
    return zlib.compress(text.encode(), 9)


def _module_name(path: str) -> str:
    return ".".join(["kdebug", *path[: -len(".py")].split("/")]).removesuffix(".__init__")


def delivered_agent_command(payload: bytes, *arguments: str, python: str = "python3") -> list[str]:
    """argv that loads `payload` from stdin and serves. Write `payload` before the first frame."""
    digest = hashlib.sha256(payload).hexdigest()
    return [python, "-I", "-c", LOADER, str(len(payload)), digest, "serve", *arguments]


def hold_command(*arguments: str, python: str = "python3") -> list[str]:
    """argv that keeps a container of any python image alive: `hold` itself, readable in the pod's spec.

    Its two modules are joined to one text; whoever reviews the pod sees what runs.
    """
    sources = agent_sources()
    harden, hold = (sources[f"agent/{name}.py"].decode() for name in ("harden", "hold"))
    joined = harden + hold.replace("from kdebug.agent.harden import harden\n", "") + _HOLD_MAIN
    return [python, "-I", "-S", "-c", joined, *arguments]


_HOLD_MAIN = """

import sys

sys.exit(main(sys.argv[1:], lambda line: os.write(2, f"kdebug-hold: {line}\\n".encode())))
"""
