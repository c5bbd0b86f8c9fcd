"""Start of `serve`: harden, find out who we are, run the server."""

from __future__ import annotations

import argparse
import gc
from typing import Callable

from kdebug import __version__
from kdebug.agent import dispatch
from kdebug.agent.harden import harden
from kdebug.agent.server import Server
from kdebug.agent.session import Session
from kdebug.agent.source import own_source_hash
from kdebug.protocol.hello import SILENCE_SECONDS


def serve(read_fd: int, write_fd: int, arguments: list[str], log: Callable[[str], None]) -> int:
    """Run one session on the two descriptors; returns the exit code."""
    options = _parse(arguments)
    for failure in harden():
        log(failure)
    dispatch.set_source_hash(own_source_hash())
    # What start-up left is never collected again: fewer passes over it, fewer pages touched.
    gc.collect()
    gc.freeze()
    server = Server(
        read_fd,
        write_fd,
        session=Session(read_only=options.read_only),
        version=__version__,
        source_hash=dispatch.session_source_hash(),
        silence_seconds=options.silence,
        log=log,
    )
    log(f"ended: {server.run()}")
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="kdebug-agent serve", add_help=True)
    parser.add_argument(
        "--read-only", action="store_true", help="refuse every request that changes anything"
    )
    parser.add_argument("--silence", type=float, default=SILENCE_SECONDS, metavar="SECONDS")
    return parser.parse_args(arguments)
