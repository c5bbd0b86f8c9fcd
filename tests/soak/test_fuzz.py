"""A million mutated frames against agent and client: no crash, no hang, no growth."""

from __future__ import annotations

import asyncio
import os
import random
import threading

import pytest

from kdebug.agent.server import Server
from kdebug.agent.session import Session
from kdebug.channel.memory import channel_pair
from kdebug.errors import KdebugError
from kdebug.protocol import framing
from kdebug.protocol.hello import BANNER
from kdebug.protocol.requests import GetLimits
from kdebug.target.connection import Connection

FRAMES = 1_000_000
WRITE = b'{"request":"write","handle":"w1","offset":0,"size":4,"sha256":"' + b"0" * 64 + b'"}'
BODIES = [
    b'{"request":"agent"}',
    b'{"request":"limits","pid":1}',
    b'{"request":"list-dir","path":"/etc","limit":3}',
    b'{"request":"read","path":"/etc/hostname","size":10}',
    b'{"request":"stat","path":"/etc"}',
    b'{"request":"access"}',
    b'{"request":"begin-write","path":"/x"}',
    WRITE,
    b'{"request":"remove","path":"/x","recursive":true}',
    b'{"request":"digest","path":"/etc/hostname"}',
]
"""No target is open, so that nothing is changed."""


def mutated(chance: random.Random, kinds: list[int], bodies: list[bytes]) -> bytes:
    frame = framing.Frame(chance.choice(kinds), chance.randrange(100), chance.choice(bodies))
    raw = bytearray(framing.encode(frame))
    if frame.kind == framing.REQUEST and frame.payload == WRITE:
        # Mostly with the data that it announces; else it would wait for ever, and its id would be taken.
        raw += framing.encode(framing.Frame(framing.DATA, frame.request_id, b"data"))
    for _ in range(chance.choice([0, 0, 0, 1, 1, 2])):
        # Mostly the payload: a broken header ends the conversation, and then little is learnt.
        low = framing.HEADER_BYTES if chance.random() < 0.999 else 0
        raw[chance.randrange(low, len(raw))] = chance.randrange(256)
    return bytes(raw)


def rss() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def converse(stream: bytes) -> None:
    """One agent, in this process, over real pipes."""
    read_fd, client_write = os.pipe()
    client_read, write_fd = os.pipe()

    def drain() -> None:
        while os.read(client_read, 1 << 16):
            pass

    def feed() -> None:
        view = memoryview(stream)
        try:
            while view:
                view = view[os.write(client_write, view) :]
        except BrokenPipeError:
            pass
        os.close(client_write)

    threads = [threading.Thread(target=body, daemon=True) for body in (drain, feed)]
    for thread in threads:
        thread.start()
    reason = Server(read_fd, write_fd, session=Session(), silence_seconds=20).run()
    os.close(read_fd)
    os.close(write_fd)
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    os.close(client_read)
    assert "silent" not in reason


@pytest.mark.soak
def test_the_agent(seed: int) -> None:
    chance = random.Random(seed)
    kinds = [framing.REQUEST] * 800 + [framing.CANCEL, framing.PING, framing.PONG] * 100 + [framing.DATA]
    sent, settled = 0, 0
    while sent < FRAMES:
        batch = [mutated(chance, kinds, BODIES) for _ in range(2000)]
        converse(b"".join(batch))
        sent += len(batch)
        if sent == 100_000:
            settled = rss()
    assert rss() - settled < 16 * 2**20
    assert len(os.listdir("/proc/self/fd")) < 100


@pytest.mark.soak
def test_the_client(seed: int, run: asyncio.Runner) -> None:
    chance = random.Random(seed)
    kinds = [framing.ANSWER, framing.DATA, framing.ERROR, framing.PONG]
    bodies = [b'{"pid":1,"items":[]}', b'{"kind":"Failed","what":"x"}', b"data"]

    async def one() -> int:
        ours, theirs = channel_pair()
        hello = b'{"protocol":1,"version":"","source_hash":"","pid":1}'
        await theirs.write(BANNER + framing.encode(framing.Frame(framing.HELLO, 0, hello)))
        connection = await Connection.open(ours, request_seconds=5)
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while True:
                frames = [mutated(chance, kinds, bodies) for _ in range(50)]
                sent += len(frames)
                await theirs.write(b"".join(frames))

        flooding = asyncio.create_task(flood())
        try:
            while True:
                await connection.send(GetLimits(1))
        except KdebugError:
            pass
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)
        await connection.close()
        return sent

    async def all_of_it() -> None:
        sent, settled = 0, 0
        while sent < FRAMES:
            sent += await asyncio.wait_for(one(), 30)
            settled = settled or rss()
        assert rss() - settled < 16 * 2**20

    run.run(all_of_it())
