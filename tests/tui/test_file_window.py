"""Windows of files: whatever is read in whatever order, the lines are those of the file."""

from __future__ import annotations

import asyncio
import random

import pytest

from kdebug.protocol.files import FileChunk
from kdebug.tui import file_window
from kdebug.tui.file_window import MAX_LINE, HexWindow, TextWindow, hex_line, looks_binary


def fetching(data: bytes, chance: random.Random) -> file_window.Fetch:
    """A file that is read in pieces of any length, with its zeros as holes now and then."""

    async def fetch(offset: int, size: int) -> FileChunk:
        piece = data[offset : offset + chance.randrange(1, size + 1)]
        hole = 0
        if piece and not any(piece) and chance.random() < 0.5:
            piece, hole = b"", len(piece)
        eof = offset + len(piece) + hole >= len(data)
        return FileChunk("/f", offset, len(data), eof, 1, 1, 0, "h", hole, data=piece)

    return fetch


def lines_of(data: bytes) -> list[tuple[int, bytes]]:
    """What a reader expects: (offset, line), long lines cut."""
    found, offset = [], 0
    for line in data.split(b"\n"):
        cuts = range(0, max(1, len(line)), MAX_LINE)
        found += [(offset + cut, line[cut : cut + MAX_LINE]) for cut in cuts]
        offset += len(line) + 1
    return found[:-1] if data.endswith(b"\n") or not data else found


def any_file(chance: random.Random) -> bytes:
    kinds = [
        lambda: bytes(chance.randrange(32, 127) for _ in range(chance.randrange(120))) + b"\n",
        lambda: b"\n" * chance.randrange(30),
        lambda: bytes(chance.randrange(20_000)),
        lambda: b"x" * chance.randrange(3 * MAX_LINE) + b"\r\n",
        lambda: chance.randbytes(200),
    ]
    return b"".join(chance.choice(kinds)() for _ in range(chance.randrange(80)))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_window, "PIECE", 3000)
    monkeypatch.setattr(file_window, "MAX_WINDOW", 20_000)


def test_read_forward_to_the_end_the_lines_are_those_of_the_file(
    seed: int, small: None, run: asyncio.Runner
) -> None:
    chance = random.Random(seed)

    async def read() -> None:
        for _ in range(60):
            data = any_file(chance)
            window = TextWindow(fetching(data, chance))
            await window.open_at(0)
            while not window.at_end:
                await window.forward()
            assert window.lines == lines_of(data) and window.end == len(data)

    run.run(read())


def test_a_walk_to_and_fro_shows_only_what_is_there(seed: int, small: None, run: asyncio.Runner) -> None:
    """Within its bound, at true offsets, without a gap."""
    chance = random.Random(seed)

    async def walk() -> None:
        for _ in range(30):
            data = any_file(chance)
            window = TextWindow(fetching(data, chance))
            await window.open_at(0)
            for _ in range(60):
                if chance.random() < 0.6:
                    await window.forward()
                    window.trim_front()
                else:
                    before = list(window.lines)
                    added = await window.backward()
                    assert window.lines[added + 2 :] == before[2:] or not added
                    window.trim_back()
                for offset, line in window.lines:
                    assert data[offset : offset + len(line)] == line
                assert window.end - window.start <= 20_000 + 3000 + MAX_LINE
                joined = data[window.start : window.end]
                assert b"".join(line for _, line in window.lines) == joined.replace(b"\n", b"")

    run.run(walk())


def test_hexadecimal_rows_of_any_place(seed: int, run: asyncio.Runner) -> None:
    chance = random.Random(seed)
    data = chance.randbytes(70_001)

    async def look() -> None:
        window = HexWindow(fetching(data, chance))
        for _ in range(200):
            row = chance.randrange(len(data) // 16 + 1)
            await window.load(row)
            assert window.row(row) == data[row * 16 : row * 16 + 16]
        assert window.size == len(data)

    run.run(look())


def test_a_line_of_hexdump() -> None:
    assert hex_line(16, b"GET / HTTP\r\n\xff\x00~ ") == (
        "00000010  47 45 54 20 2f 20 48 54  54 50 0d 0a ff 00 7e 20  |GET / HTTP....~ |"
    )
    short, whole = hex_line(0, b"a"), hex_line(0, b"a" * 16)
    assert short.index("|") == whole.index("|") and short.endswith("|a|")


@pytest.mark.parametrize(
    ("data", "binary"),
    [(b"text\n", False), ("é".encode() * 50, False), (b"a\0b", True), (b"\xff\xfe text", True),
     ("tail é".encode()[:-1], False), (b"", False)],
)  # fmt: skip
def test_what_is_shown_in_hexadecimal(data: bytes, binary: bool) -> None:
    assert looks_binary(data) is binary
