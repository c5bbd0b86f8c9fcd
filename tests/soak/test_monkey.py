"""Random keys, clicks and sizes on the UI: over the practice target and over an agent with hostile data.

Ten seeds from the clock, five minutes each (KDEBUG_MONKEY_SECONDS); each is printed.
"""

from __future__ import annotations

import asyncio
import os
import random
import string
import time
from pathlib import Path
from typing import Any

import pytest

from kdebug.errors import Failed
from kdebug.protocol.files import Entry, FileChunk, FileStat
from kdebug.protocol.network import Dns, NetworkConfig, Socket
from kdebug.protocol.processes import FdInfo, Process
from kdebug.protocol.search import COLUMNS, EntryTable
from kdebug.protocol.system import Ability, Access
from tui.conftest import Ui, ui
from tui.fakes import HOSTILE, FakeBackend, a_process, a_route, a_socket, an_interface, opening

SECONDS = float(os.environ.get("KDEBUG_MONKEY_SECONDS", "300"))
SEEDS = [(time.time_ns() // 1000 + number * 7919) % 2**32 for number in range(10)]
KEYS = [
    *string.ascii_letters, *"0123456789", "slash", "colon", "question_mark", "full_stop",
    "less_than_sign", "greater_than_sign", "left_square_bracket", "right_square_bracket", "space", "tab",
    "left_curly_bracket", "right_curly_bracket",
    "shift+tab", "delete", "backspace",
    *["up", "down", "left", "right", "pageup", "pagedown", "home", "end"] * 4,
    *["enter", "escape"] * 12, "ctrl+p", "ctrl+t", "ctrl+u", "shift+left", "shift+right", "f1",
]  # fmt: skip
HARMFUL = {"e"}
"""Opens an editor, which waits for somebody."""


async def play_with(running: Ui, chance: random.Random, deadline: float) -> int:
    """Keys until the deadline, or until it was left; how many."""
    count = 0
    while time.monotonic() < deadline and not running.app._exit:
        count += 1
        what = chance.random()
        if what < 0.02:
            await running.pilot.resize_terminal(chance.randrange(5, 180), chance.randrange(2, 60))
        elif what < 0.06:
            size = running.app.size
            at = (chance.randrange(max(1, size.width)), chance.randrange(max(1, size.height)))
            await running.pilot.click(offset=at, times=chance.choice((1, 2)))
        else:
            key = chance.choice(KEYS)
            if key not in HARMFUL:
                await running.press(key)
        if chance.random() < 0.01:
            await asyncio.sleep(chance.random())
    return count


class HostileBackend(FakeBackend):
    """Every answer is another one than before, and every text in it wants to break the screen."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(lambda: [self._socket(number) for number in range(chance.randrange(300))])
        self.chance = chance
        self.fds = [FdInfo(number, "file", text, True) for number, text in enumerate(HOSTILE)]
        self.config = NetworkConfig(
            tuple(an_interface(text) for text in HOSTILE), (a_route(HOSTILE[0]),), Dns(HOSTILE, HOSTILE), {}
        )
        self.access = Access(0, 0, HOSTILE, tuple(Ability(text, None, text, text) for text in HOSTILE))

    def _text(self) -> str:
        return self.chance.choice(HOSTILE)

    def _socket(self, number: int) -> Socket:
        state = self.chance.choice(("ESTAB", "CLOSE-WAIT", "LISTEN", self._text()))
        return a_socket(number, local=self._text(), remote=self._text(), state=state)

    def _row(self, pid: int) -> Process:
        return a_process(pid, self._text(), cmdline=(self._text(),), user=self._text(), exe=self._text())

    async def send(self, request: Any) -> Any:
        if self.chance.random() < 0.05:
            raise Failed(self._text(), why=self._text(), next_step=self._text())
        if request.name == "list-table":
            count = len(HOSTILE)
            kinds = tuple(self.chance.choice((0o100644, 0o040755, 0o120777, 0o010600, 0)) for _ in HOSTILE)
            whole = {name: tuple(range(count)) for name in COLUMNS}
            names = tuple(text.replace("/", "") for text in HOSTILE)
            return EntryTable(request.path, names, **{**whole, "modes": kinds})
        if request.name == "read":
            data = self.chance.randbytes(200) + "".join(HOSTILE).encode("utf-8", "surrogatepass")
            return FileChunk(
                request.path, request.offset, 1 << 40, False, 1, 1, 0, "h", data=data[: request.size]
            )
        if request.name == "stat":
            kind = self.chance.choice(("file", "dir", "symlink", "fifo"))
            return FileStat(request.path, Entry(self._text(), kind, link_target=self._text()), self._text())
        if request.name == "processes":
            self.processes = [self._row(pid) for pid in range(1, self.chance.randrange(2, 400))]
        return await super().send(request)


@pytest.mark.soak
@pytest.mark.parametrize("seed", SEEDS)
def test_random_keys_end_nothing(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    print(f"seed: {seed}")
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    chance = random.Random(seed)
    over_demo = SEEDS.index(seed) % 2 == 0
    opener = {} if over_demo else {"opener": opening(HostileBackend(chance))}

    async def whole() -> None:
        deadline = time.monotonic() + SECONDS
        total = rounds = 0
        while time.monotonic() < deadline:
            async with ui("demo:", **opener) as running:  # type: ignore[arg-type]
                await running.attached()
                total += await play_with(running, chance, deadline)
                rounds += 1
        print(f"{total} keys in {rounds} sessions {'over demo:' if over_demo else 'over hostile data'}")
        assert total > SECONDS

    asyncio.run(whole())
