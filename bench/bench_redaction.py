"""Redaction: MB/s of processor time on one core, what it holds in memory, and how often it is wrong.

The peers are copying the same bytes, and `re` with all names in one pattern. Prints one line a figure.
"""

from __future__ import annotations

import random
import re
import resource
import sys
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from kdebug.capture.redact import Redactor, fast, read_rules
from support.ordinary_logs import lines, log

MB = 1_000_000
SIZE = 20 * MB
CHUNK = 256 * 1024
ALPHABET = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789!-_/+"


def say(name: str, value: float, unit: str, aim: str) -> None:
    print(f"{name:<62} {value:>9.2f} {unit:<6} aim {aim}", flush=True)


def rate(size: int, work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return size / MB / (time.process_time() - started)


def through(redactor: Redactor, data: bytes) -> int:
    stream, written = redactor.stream("bench"), 0
    for at in range(0, len(data), CHUNK):
        written += len(stream.feed(data[at : at + CHUNK]))
    return written + len(stream.finish())


def secret(chance: random.Random) -> str:
    return "".join(chance.choices(ALPHABET, k=chance.randrange(12, 40)))


def knowing(chance: random.Random, count: int) -> tuple[Redactor, list[str]]:
    redactor = Redactor()
    values = [secret(chance) for _ in range(count)]
    for value in values:
        redactor.learn(value)
    return redactor, values


def with_secrets(chance: random.Random, data: bytes, values: list[str]) -> bytes:
    """One line in a hundred has one, half of them known ones."""
    found = data.split(b"\n")
    for at in range(0, len(found), 100):
        known = f" using {chance.choice(values)}" if values else f" token={secret(chance)}"
        found[at] += chance.choice((known, f" password={secret(chance)}")).encode()
    return b"\n".join(found)


def speed(chance: random.Random) -> None:
    data = log(chance, SIZE)
    peer = re.compile(rb"(?i)pass|pwd|secret|token|cred|auth|key|session|cookie|eyJ|AKIA|ghp_|://")
    say("peer: copying", rate(SIZE, partial(copied, data)), "MB/s", "-")
    say(
        "peer: one pattern of `re` with a dozen names",
        rate(SIZE, partial(counted, peer, data)),
        "MB/s",
        "-",
    )
    installed = fast.engine
    for name, engine in (("with RE2", installed), ("without RE2", lambda: None)):
        fast.engine = engine
        for count in (0, 10, 50, 150, 500):
            redactor, values = knowing(chance, count)
            speed_of = rate(len(data), partial(through, redactor, data))
            say(f"{name}: ordinary logs, {count} known secrets", speed_of, "MB/s", ">= 50")
            planted = with_secrets(chance, data, values)
            speed_of = rate(len(planted), partial(through, redactor, planted))
            say(f"{name}: 1 % of lines with secrets, {count} known", speed_of, "MB/s", ">= 50")
    fast.engine = installed


def speed_with_rules(chance: random.Random) -> None:
    """What rules of the user cost, with what is installed."""
    data = log(chance, SIZE // 2)
    texts = {
        "20 regexes with a literal": [f"regex: 'ACME{n}-[0-9A-F]{{12}}'" for n in range(20)],
        "20 keys": [f"key: '*acme{n}_pin'" for n in range(20)],
        "1 regex that any line may match": [r"regex: '\d{9,12}'"],
    }
    for name, fields in texts.items():
        rules = read_rules(
            "rules:\n" + "".join(f"- {{name: r{n}, {text}}}\n" for n, text in enumerate(fields))
        )
        redactor, _ = knowing(chance, 50)
        say(
            "without rules, 50 known secrets",
            rate(len(data), partial(through, redactor, data)),
            "MB/s",
            "-",
        )
        redactor = Redactor(rules=rules)
        for value in (secret(chance) for _ in range(50)):
            redactor.learn(value)
        say(f"with {name}", rate(len(data), partial(through, redactor, data)), "MB/s", "-")


def copied(data: bytes) -> None:
    for at in range(0, len(data), CHUNK):
        bytearray(data[at : at + CHUNK])


def counted(pattern: re.Pattern[bytes], data: bytes) -> int:
    return sum(1 for _ in pattern.finditer(data))


def mistakes(chance: random.Random) -> None:
    redactor, made, changed = Redactor(), lines(chance), 0
    for _ in range(20_000):
        line = next(made).decode()
        changed += redactor.text(line) != line
    say("lines of ordinary logs that are changed", changed / 200, "%", "<= 0.1")


def memory(chance: random.Random) -> None:
    piece = log(chance, 4 * MB)
    redactor, _ = knowing(chance, 50)
    through(redactor, piece)
    for size in (8, 80):
        stream = redactor.stream("bench")
        tracemalloc.start()
        for at in range(0, size * MB, CHUNK):
            stream.feed(piece[at % (3 * MB) : at % (3 * MB) + CHUNK])
        stream.finish()
        say(f"most held by a stream of {size} MB", tracemalloc.get_traced_memory()[1] / MB, "MB", "<= 8")
        tracemalloc.stop()
    say(
        "this process, most resident", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "MiB", "-"
    )


def main() -> None:
    seed = time.time_ns() % 2**32
    print(f"seed {seed}, {SIZE // MB} MB of generated logs")
    chance = random.Random(seed)
    speed(chance)
    speed_with_rules(chance)
    mistakes(chance)
    memory(chance)


if __name__ == "__main__":
    main()
