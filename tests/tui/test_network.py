"""The network tab: sockets with their owners, filters, one connection in full, interfaces with rates."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import pytest

from kdebug.errors import AccessDenied
from kdebug.protocol.network import Dns, NetworkConfig, Socket
from kdebug.protocol.processes import FdInfo
from kdebug.tui.lines import draw
from kdebug.tui.network_config import Sample, Samples, config_lines
from kdebug.tui.network_rows import COLUMNS, Names, SocketModel, search_text
from kdebug.tui.theme import MONO_STYLES

from .conftest import Ui, play
from .fakes import HOSTILE, FakeBackend, a_process, a_route, a_socket, an_interface, opening

# The model


def looked(*looks: list[Socket]) -> SocketModel:
    model = SocketModel()
    for index, entries in enumerate(looks):
        model.apply(entries, Names(), float(index))
    return model


def test_a_queue_that_grows_look_after_look_is_told_from_one_that_only_holds_something() -> None:
    def at(rx: int, tx: int) -> list[Socket]:
        return [a_socket(1, rx_queue_bytes=rx, tx_queue_bytes=7), a_socket(2, tx_queue_bytes=tx)]

    grown = looked(at(5, 0), at(9, 0), at(12, 3))
    receiving, sending = grown.rows.values()
    assert (receiving.rx_grew, receiving.tx_grew, receiving.stuck) == (2, 0, True)
    assert (sending.rx_grew, sending.tx_grew, sending.stuck) == (0, 1, False)
    cells = {column.name: column.cell(receiving) for column in COLUMNS}
    assert cells["rx"] == ("12↑", "bad") and cells["tx"] == ("7", "plain")
    fallen, _ = looked(at(5, 0), at(9, 0), at(12, 3), at(12, 3)).rows.values()
    assert fallen.rx_grew == 0


def test_since_is_when_the_state_began_not_when_the_socket_was_first_seen() -> None:
    model = looked([a_socket(1)], [a_socket(1)], [a_socket(1, state="CLOSE-WAIT")], [])
    assert model.rows == {}
    model = looked([a_socket(1)], [a_socket(1)], [a_socket(1, state="CLOSE-WAIT")])
    (row,) = model.rows.values()
    assert row.since == 2.0 and row.loud


def test_names_are_joined_and_a_pid_that_changed_hands_gets_its_new_one() -> None:
    names = Names()
    names.take([a_process(7, "old")])
    several, nobody, hidden = a_socket(pids=(7, 8)), a_socket(pids=()), a_socket(pids=None)
    assert [names.owner(entry) for entry in (several, nobody, hidden)] == ["7 old +1", "", "?"]
    assert names.unknown([several]) and not names.unknown([a_socket(pids=(7,)), nobody, hidden])
    names.take([a_process(7, "new")])
    assert names.owner(several) == "7 new +1"
    names.take([])
    assert names.process(7) is None


def test_trouble_comes_first_and_what_is_over_last() -> None:
    entries = [
        a_socket(1, state="TIME-WAIT"), a_socket(2), a_socket(3, state="LISTEN"),
        a_socket(4, state="CLOSE-WAIT"), a_socket(5, rx_queue_bytes=1),
    ]  # fmt: skip
    more = [*entries[:4], a_socket(5, rx_queue_bytes=2)]
    most = [*entries[:4], a_socket(5, rx_queue_bytes=3)]
    rows = list(looked(entries, more, most).rows.values())
    by_state = next(column.sort for column in COLUMNS if column.name == "state")
    assert by_state is not None
    ports = [row.entry.local.rpartition(":")[2] for row in sorted(rows, key=by_state)]
    assert ports == ["1029", "1028", "1027", "1026", "1025"]


def test_ports_are_sorted_as_numbers_and_found_by_their_colon() -> None:
    by_port = next(column.sort for column in COLUMNS if column.name == "local")
    assert by_port is not None
    entries = [
        a_socket(local=text) for text in ("[::]:443", "192.0.2.1:80", "/run/x.sock", "192.0.2.1:8080")
    ]
    rows = list(looked(entries).rows.values())
    assert [row.entry.local for row in sorted(rows, key=by_port)] == [
        "/run/x.sock", "192.0.2.1:80", "[::]:443", "192.0.2.1:8080"
    ]  # fmt: skip
    assert ":8080" in search_text(rows[3])


# Interfaces, routes, resolver, counters


def samples(*configs: NetworkConfig, step: float = 2.0) -> Samples:
    found = Samples(Sample(0.0, configs[0]))
    for index, config in enumerate(configs[1:], 1):
        found = found.then(Sample(index * step, config))
    return found


def text_of(found: Samples, width: int = 200, needle: str = "") -> str:
    return "\n".join(line.text for line in config_lines(found, width, needle))


def test_rates_are_per_second_between_two_looks_and_unknown_at_the_first() -> None:
    def config(rx: int, tx: int, drops: int = 0) -> NetworkConfig:
        return NetworkConfig((an_interface(rx_bytes=rx, tx_bytes=tx, rx_dropped=drops),), (), Dns(), {})

    first = text_of(samples(config(0, 0))).splitlines()[1]
    assert first.split()[2:4] == ["-", "-"]
    second = samples(config(0, 0), config(4096, 100, drops=3))
    line = config_lines(second, 80)[1]
    assert line.text.split()[2:6] == ["2.0K", "50", "0", "3↑"] and line.style == "bad"
    begun_anew = text_of(samples(config(4096, 100), config(1, 1))).splitlines()[1]
    assert begun_anew.split()[2:4] == ["-", "-"]


def test_counters_that_mean_trouble_say_so_once_they_grow() -> None:
    def config(overflows: int, sent: int) -> NetworkConfig:
        return NetworkConfig((), (), Dns(), {"TcpExt.ListenOverflows": overflows, "Tcp.OutSegs": sent})

    quiet = config_lines(samples(config(5, 1), config(5, 9)), 80)
    assert not any("!" in line.text for line in quiet)
    loud = config_lines(samples(config(5, 1), config(7, 2), config(8, 3)), 80)
    line = next(line for line in loud if line.text.startswith("TcpExt.ListenOverflows"))
    assert line.text.split()[1:4] == ["8", "+1", "+3"] and "accept queue was full" in line.text
    assert line.style == "bad"
    segments = next(line for line in loud if line.text.startswith("Tcp.OutSegs"))
    assert "!" not in segments.text


def test_a_filter_leaves_the_sections_that_hold_it() -> None:
    dns = Dns(("192.0.2.53",), ("svc.example",), (), ("192.0.2.10 db.internal",), "web-0")
    found = samples(
        NetworkConfig((an_interface(),), (a_route(), a_route("192.0.2.0/24", gateway=None)), dns, {})
    )
    whole = text_of(found)
    for word in ("INTERFACE", "eth0", "192.0.2.254", "on the link", "192.0.2.53", "db.internal", "web-0"):
        assert word in whole
    filtered = text_of(found, needle="DB.internal")
    assert filtered.splitlines() == ["RESOLVER", "hosts        192.0.2.10 db.internal"]
    assert text_of(found, needle="nowhere") == "nothing holds these words"


def test_thousands_of_interfaces_are_cut_with_a_word_about_it() -> None:
    many = tuple(an_interface(f"veth{number}") for number in range(2000))
    lines = config_lines(samples(NetworkConfig(many, (), Dns(), {}, truncated=True)), 80)
    assert len(lines) < 500 and any("1600 more" in line.text for line in lines)
    assert any("cut interfaces or routes short" in line.text for line in lines)


def test_hostile_names_of_interfaces_and_hosts_are_drawn_harmless_at_every_width() -> None:
    dns = Dns(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE[0], {"resolv.conf": HOSTILE[5]})
    config = NetworkConfig(
        tuple(an_interface(name, addresses=HOSTILE) for name in HOSTILE),
        tuple(a_route(name, gateway=name, interface=name) for name in HOSTILE),
        dns, dict.fromkeys(HOSTILE, 1), dict.fromkeys(HOSTILE, "why"),
    )  # fmt: skip
    for width in (1, 7, 20, 80, 200):
        text = draw(config_lines(samples(config, config), width), MONO_STYLES, width).plain
        assert not any(ord(char) < 32 and char != "\n" or 0x7F <= ord(char) < 0xA0 for char in text)
        assert "\u202e" not in text and "\ud800" not in text


# The tab


def test_close_wait_is_marked_opened_and_leads_to_its_owner() -> None:
    async def script(ui: Ui) -> None:
        await ui.attached()
        pane = await ui.tab("Network")
        await ui.shows("CLOSE-WAIT!")
        assert pane.table.selected.entry.state == "CLOSE-WAIT"
        await ui.press("enter")
        await ui.shows("the peer has closed")
        await ui.shows("/app/client")
        await ui.shows("descriptor ")
        await ui.press("o")
        await ui.until(lambda: ui.screen.pane.title == "Processes")
        await ui.until(lambda: ui.screen.pane.has_class("detailed"))
        assert ui.screen.pane.detail.process.name == "client"

    play("demo:", script)


def test_filters_by_state_listeners_unix_and_words() -> None:
    async def script(ui: Ui) -> None:
        await ui.attached()
        pane = await ui.tab("Network")
        await ui.until(lambda: len(pane.table.rows) >= 4)
        await ui.press("l")
        await ui.until(lambda: {row.entry.state for row in pane.table.rows} == {"LISTEN"})
        await ui.shows("only listeners")
        await ui.press("l", "s")
        await ui.shows("Show sockets in")
        await ui.shows("every state")
        await ui.press("down", "enter")
        await ui.until(lambda: {row.entry.state for row in pane.table.rows} == {"CLOSE-WAIT"})
        await ui.press("escape")
        await ui.until(lambda: len(pane.table.rows) > 1)
        await ui.press("slash", *":8080", "enter")
        await ui.until(lambda: all(":8080" in search_text(row) for row in pane.table.rows))
        assert pane.table.rows
        await ui.press("escape")
        await ui.until(lambda: not pane.needle)

    play("demo:", script)


def test_unix_sockets_are_there_when_they_are_wanted() -> None:
    path = f"\0kdebug-test-{os.getpid()}-{time.time_ns()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        async def script(ui: Ui) -> None:
            await ui.attached()
            pane = await ui.tab("Network")
            await ui.until(lambda: pane.model.rows or "0 sockets" in ui.text())
            assert not any(row.entry.family == "unix" for row in pane.table.rows)
            await ui.press("u")
            await ui.press("slash", *path[1:], "enter")
            await ui.until(lambda: len(pane.table.rows) == 1)
            assert pane.table.rows[0].entry.local == "@" + path[1:]
            assert str(os.getpid()) in pane.table.rows[0].owner
            await ui.press("u")
            await ui.until(lambda: not pane.table.rows)

        play(f"local:{os.getpid()}", script)


def test_interfaces_have_rates_after_two_looks() -> None:
    async def script(ui: Ui) -> None:
        await ui.attached()
        await ui.tab("Network")
        await ui.press("i")
        await ui.shows("RESOLVER")
        await ui.shows("192.0.2.53")
        await ui.press("r")
        await ui.until(lambda: loopback_rate(ui) not in ("-", ""))
        await ui.press("slash", *"retrans", "enter")
        await ui.shows("Tcp.RetransSegs")
        assert "RESOLVER" not in ui.text()
        await ui.press("escape")
        await ui.shows("PROT")

    play("demo:", script)


def loopback_rate(ui: Ui) -> str:
    line = next((line for line in ui.text().splitlines() if line.startswith(" lo ")), "")
    return line.split()[2] if line else ""


def test_a_connection_that_ends_stays_with_a_word_about_it() -> None:
    entries = [a_socket(1, state="CLOSE-WAIT", pids=(1,)), a_socket(2)]
    backend = FakeBackend(lambda: entries)
    backend.fds = [FdInfo(3, "socket", "socket:[1001]"), FdInfo(9, "socket", "socket:[1002]")]

    async def script(ui: Ui) -> None:
        await ui.attached()
        await ui.tab("Network")
        await ui.shows("CLOSE-WAIT!")
        await ui.press("enter")
        await ui.shows("descriptor 3,")
        entries.pop(0)
        await ui.press("r")
        await ui.shows("this is how it was last seen")

    play("demo:", script, opener=opening(backend))


def test_a_refusal_is_told_in_place_and_mended_by_r() -> None:
    backend = FakeBackend(lambda: [a_socket(1)])
    backend.problem = AccessDenied("the sockets may not be read", why="Permission denied")

    async def script(ui: Ui) -> None:
        await ui.attached()
        await ui.tab("Network")
        await ui.shows("✗ the sockets may not be read")
        backend.problem = None
        await ui.press("r")
        await ui.shows("192.0.2.1:1025")
        assert "✗" not in ui.text()

    play("demo:", script, opener=opening(backend))


def test_it_asks_nothing_while_it_is_not_seen() -> None:
    backend = FakeBackend(lambda: [a_socket(1)])

    async def script(ui: Ui) -> None:
        await ui.attached()
        await ui.tab("Access")
        await ui.shows("what we cost")
        assert "network" not in backend.asked
        pane = await ui.tab("Network")
        await ui.shows("192.0.2.1:1025")
        await ui.tab("Access")
        before = backend.asked.count("sockets")
        pane.wake()
        await ui.shows("what we cost")
        assert backend.asked.count("sockets") == before

    play("demo:", script, opener=opening(backend))


@pytest.mark.parametrize("size", [(80, 24), (200, 50), (20, 10)])
def test_hostile_sockets_never_reach_the_screen_raw(size: tuple[int, int]) -> None:
    entries = [
        a_socket(number, family="unix", type=text, local=text, remote=text, state=text, pids=(number + 1,))
        for number, text in enumerate(HOSTILE)
    ]  # fmt: skip
    backend = FakeBackend(lambda: entries)
    backend.processes = [
        a_process(number + 1, text, cmdline=(text,)) for number, text in enumerate(HOSTILE)
    ]

    async def script(ui: Ui) -> None:
        await ui.attached()
        pane = await ui.tab("Network")
        await ui.press("u")
        await ui.until(lambda: len(pane.table.rows) == len(HOSTILE))
        await ui.press("enter")
        for _ in HOSTILE:
            await ui.press("down")
            await ui.pilot.pause()
            harmless(ui.text())
        await ui.press("s")
        await ui.pilot.pause()
        harmless(ui.text())
        await ui.press("escape", "o", "y")
        harmless(ui.text())

    play("demo:", script, opener=opening(backend), size=size)


def harmless(text: str) -> None:
    assert not any(ord(char) < 32 and char != "\n" or 0x7F <= ord(char) < 0xA0 for char in text)
    assert "\u202e" not in text and "\ud800" not in text


def test_twenty_thousand_sockets(capsys: pytest.CaptureFixture[str]) -> None:
    """What one look, one filter and one key cost in CPU time; the figures are printed.

    The bound is far above them: it is for work that grows with the square of the rows.
    """
    states = ("ESTAB", "TIME-WAIT", "CLOSE-WAIT", "LISTEN")
    entries = [
        a_socket(
            number, local=f"10.0.{number >> 8}.{number & 255}:{1024 + number}", state=states[number % 4],
            pids=(1 + number % 50,), rx_queue_bytes=number % 7,
        )
        for number in range(20_000)
    ]  # fmt: skip
    backend = FakeBackend(lambda: entries)
    backend.processes = [a_process(pid, f"worker-{pid}") for pid in range(1, 51)]
    figures: dict[str, float] = {}

    def timed(name: str, work: Any) -> None:
        began = time.process_time()
        work()
        figures[name] = time.process_time() - began

    async def script(ui: Ui) -> None:
        await ui.attached()
        pane = await ui.tab("Network")
        await ui.until(lambda: len(pane.table.rows) == 20_000, 60)
        pane.stop()
        timed("one look", lambda: pane.model.apply(entries, pane._names, 1.0))
        timed("its rows", pane._show)
        timed("filter", lambda: pane.filter("7"))
        pane.filter("worker-7 :11")
        wanted = [e for e in entries if e.pids[0] in (7,) and e.local.rpartition(":")[2].startswith("11")]
        assert wanted and {row.entry.local for row in pane.table.rows} >= {e.local for e in wanted}
        began = time.process_time()
        await ui.press("down")
        figures["key"] = time.process_time() - began
        selected = pane.table.selected
        pane.filter("")
        pane.model.apply(entries[::-1], pane._names, 2.0)
        pane._show()
        assert pane.table.selected is not None and pane.table.selected.key == selected.key

    play("demo:", script, opener=opening(backend))
    with capsys.disabled():
        print({name: f"{1000 * seconds:.0f} ms" for name, seconds in figures.items()}, end=" ")
    assert all(seconds < 5 for seconds in figures.values()), figures
