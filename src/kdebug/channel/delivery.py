"""Deliver the client's own agent to an image that has python3 and not our agent.

The command is `python3 -c LOADER`; a program follows on stdin (`payload`): the agent's modules and the
importer that finds them. The loader checks length and SHA-256, then runs it from memory: the compiled form
where its own Python has the magic number that it was compiled for, else the source. Nothing is written
anywhere. Only the digest is in argv, so an audit log names exactly the code that ran.
"""

from __future__ import annotations

import functools
import hashlib

from kdebug.agent.source import agent_sources
from kdebug.channel.payload import archive

__all__ = ["archive", "delivered_agent_command", "hold_command", "hold_program"]

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
from _frozen_importlib_external import MAGIC_NUMBER as m
n=12+int.from_bytes(b[4:8],"big")
k=n+int.from_bytes(b[8:12],"big")
if b[:4]==m:
 import marshal
 exec(marshal.loads(zlib.decompress(b[12:n])))
else:exec(zlib.decompress(b[k:]))"""
"""Python >= 3.9, standard library only; short, since it stands in every process list."""


def delivered_agent_command(payload: bytes, *arguments: str, python: str = "python3") -> list[str]:
    """argv that loads `payload` from stdin and serves. Write `payload` before the first frame."""
    digest = hashlib.sha256(payload).hexdigest()
    return [python, "-I", "-S", "-c", LOADER, str(len(payload)), digest, "serve", *arguments]


HOLD_VARIABLE = "KDEBUG_HOLD"
"""Holds the program of a toolbox' first process: readable in the pod's spec, and not in process lists."""
_RUN_HOLD = f"import os;exec(os.environ['{HOLD_VARIABLE}'])"


def hold_command(*arguments: str, python: str = "python3") -> list[str]:
    """argv that keeps a container of any python image alive, with `hold_program` in `HOLD_VARIABLE`."""
    return [python, "-I", "-S", "-c", _RUN_HOLD, *arguments]


@functools.cache
def hold_program() -> str:
    """`hold` as one text: whoever reviews the pod sees what runs."""
    sources = agent_sources()
    harden, hold = (sources[f"agent/{name}.py"].decode() for name in ("harden", "hold"))
    return harden + hold.replace("from kdebug.agent.harden import harden\n", "") + _HOLD_MAIN


_HOLD_MAIN = """

import sys

sys.exit(main(sys.argv[1:], lambda line: os.write(2, f"kdebug-hold: {line}\\n".encode())))
"""
