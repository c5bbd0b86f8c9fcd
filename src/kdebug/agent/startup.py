"""Start of `serve`: find out who we are, run the server."""

from __future__ import annotations

import gc

from kdebug import __version__
from kdebug.agent import dispatch
from kdebug.agent.server import Server
from kdebug.agent.session import Session
from kdebug.agent.source import own_source_hash
from kdebug.annotations import Callable
from kdebug.protocol.hello import SILENCE_SECONDS


def serve(read_fd: int, write_fd: int, arguments: list[str], log: Callable[[str], None]) -> int:
    """Run one session on the two descriptors; returns the exit code."""
    try:
        read_only, silence = parse(arguments)
    except ValueError as error:
        log(str(error))
        return 2
    dispatch.set_source_hash(own_source_hash())
    # What start-up left is never collected again: fewer passes over it, fewer pages touched.
    gc.collect()
    gc.freeze()
    server = Server(
        read_fd,
        write_fd,
        session=Session(read_only=read_only),
        version=__version__,
        source_hash=dispatch.session_source_hash(),
        silence_seconds=silence,
        log=log,
    )
    log(f"ended: {server.run()}")
    return 0


def parse(arguments: list[str]) -> tuple[bool, float]:
    """Read-only or not, and the silence allowed in seconds. argparse would cost a megabyte for this."""
    read_only, silence = False, SILENCE_SECONDS
    words = iter(arguments)
    for word in words:
        if word == "--read-only":
            read_only = True
        elif word == "--silence":
            silence = float(next(words, "nothing"))
        else:
            raise ValueError(f"unknown option {word}; there are: --read-only, --silence SECONDS")
    return read_only, silence
