"""Logs as services write them, without a secret in them: for figures of speed and of false positives."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator

WORDS = (
    "the request from user completed handler service timeout connection pool worker started finished cache "
    "miss hit reading file config loaded shutting down retry attempt failed with status code latency "
    "session opened closed key not found in index authentication succeeded token expired cookie rejected "
    "password policy checked public_key author monkey secretary basic bearer signal design passing tokens"
).split()
PATHS = "items orders users health metrics auth session tokens search static/app.js".split()
AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101",
    "kube-probe/1.33",
    "Go-http-client/2.0",
    "python-requests/2.32",
)


def sentence(chance: random.Random, count: int) -> str:
    return " ".join(chance.choices(WORDS[:29], k=count - 1) + chance.choices(WORDS, k=1))


def stamp(chance: random.Random) -> str:
    day, hour, minute = chance.randrange(1, 29), chance.randrange(24), chance.randrange(60)
    return f"2026-03-{day:02}T{hour:02}:{minute:02}:{chance.random() * 59:09.6f}Z"


def access(chance: random.Random) -> str:
    path = f"/api/v1/{chance.choice(PATHS)}/{chance.randrange(10**6)}?page={chance.randrange(99)}&sort=name"
    return (
        f'10.0.{chance.randrange(256)}.{chance.randrange(256)} - - [{stamp(chance)}] "GET {path} HTTP/1.1" '
        f'200 {chance.randrange(10**5)} "https://shop.example.com/" "{chance.choice(AGENTS)}"'
    )


def structured(chance: random.Random) -> str:
    return json.dumps(
        {
            "ts": stamp(chance),
            "level": "info",
            "msg": sentence(chance, 8),
            "trace_id": f"{chance.getrandbits(128):032x}",
            "span": f"{chance.getrandbits(64):016x}",
            "duration_ms": round(chance.random() * 100, 3),
            "tokens": chance.randrange(4000),
        }
    )


def plain(chance: random.Random) -> str:
    return (
        f"{stamp(chance)} INFO [worker-{chance.randrange(32)}] com.example.shop.OrderService: "
        f"{sentence(chance, 12)} id={chance.getrandbits(64):016x} session={chance.randrange(10**6)}"
    )


def klog(chance: random.Random) -> str:
    return (
        f"I0325 12:00:{chance.randrange(60):02}.{chance.randrange(10**6):06} 1 reconciler.go:224] "
        f'"{sentence(chance, 5)}" pod="shop/web-{chance.getrandbits(40):010x}" uid="{uuid(chance)}"'
    )


def trace(chance: random.Random) -> str:
    name = chance.choice(PATHS[:4]).title()
    return f"\tat com.example.shop.{name}.handle(Handler.java:{chance.randrange(900)})"


def uuid(chance: random.Random) -> str:
    digits = f"{chance.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


KINDS: tuple[Callable[[random.Random], str], ...] = (access, structured, plain, klog, trace)


def lines(chance: random.Random) -> Iterator[bytes]:
    while True:
        yield chance.choice(KINDS)(chance).encode() + b"\n"


def log(chance: random.Random, size: int) -> bytes:
    """At least `size` bytes of whole lines."""
    made: list[bytes] = []
    total = 0
    for line in lines(chance):
        made.append(line)
        total += len(line)
        if total >= size:
            return b"".join(made)
    raise AssertionError("lines never end")
