"""Two clients attach and are killed while their streams stay open, as behind a server that does not notice.

Nothing tells the agents but silence: after its 60 s (not shortened here) neither they, nor a zombie, nor a
file of theirs is left.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdebug.protocol.hello import SILENCE_SECONDS

CLIENT = """
import asyncio, os, sys
from kdebug.protocol.requests import OpenTarget
from kdebug.target import Target
from kdebug.target.connection import Connection

class Pipes:
    def __init__(self, read_fd, write_fd): self.fds = read_fd, write_fd
    async def read(self): return await asyncio.to_thread(os.read, self.fds[0], 65536)
    async def write(self, data): os.write(self.fds[1], data)
    async def close(self): pass
    def log_tail(self): return ""

async def main():
    connection = await Connection.open(Pipes(int(sys.argv[1]), int(sys.argv[2])))
    target = await Target.open(connection, OpenTarget(pid=os.getppid()), "soak")
    await target.processes()
    print("attached", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def attach() -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes], list[int]]:
    """An agent, a client on its pipes, and our own copies of the client's ends."""
    agent_in, to_agent = os.pipe()
    from_agent, agent_out = os.pipe()
    agent = subprocess.Popen(
        [sys.executable, "-m", "kdebug.agent", "serve"], stdin=agent_in, stdout=agent_out
    )
    os.close(agent_in)
    os.close(agent_out)
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(from_agent), str(to_agent)],
        pass_fds=[from_agent, to_agent],
        stdout=subprocess.PIPE,
    )
    assert client.stdout is not None and client.stdout.readline() == b"attached\n"
    return agent, client, [to_agent, from_agent]


@pytest.mark.soak
def test_killed_clients_leave_nothing_after_the_silence(tmp_path: Path) -> None:
    os.environ["TMPDIR"] = str(tmp_path)
    attached = [attach(), attach()]
    try:
        for _, client, _ in attached:
            client.send_signal(signal.SIGKILL)
            client.wait()
        killed = time.monotonic()
        for agent, _, _ in attached:
            assert agent.wait(SILENCE_SECONDS + 20) == 0
        took = time.monotonic() - killed
        assert SILENCE_SECONDS - 20 < took < SILENCE_SECONDS + 20
        print(f"the agents ended {took:.0f} s after their clients")
    finally:
        for agent, _, kept in attached:
            agent.kill()
            for fd in kept:
                os.close(fd)
        del os.environ["TMPDIR"]
    assert not list(tmp_path.iterdir())
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert not [pid for pid in children if pid in {str(agent.pid) for agent, _, _ in attached}]
