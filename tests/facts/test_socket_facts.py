"""Sockets against ss: addresses, states, queues, owners, round-trip times; and twenty thousand of them."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import re
import resource
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import needs_root
from kdebug.probe import netlink
from kdebug.probe.net_diag import SOCK_DIAG_BY_FAMILY
from kdebug.probe.net_parse import parse_unix
from kdebug.probe.net_sockets import SocketScan
from kdebug.protocol.network import Socket


def scan(*families: str) -> list[Socket]:
    return list(SocketScan(os.getpid(), proc="/proc", families=families or ("inet", "inet6", "unix")))


def ss(*flags: str) -> list[list[str]]:
    done = subprocess.run(["ss", "-Hanp", *flags], capture_output=True, text=True, check=True)
    return [line.split() for line in done.stdout.splitlines()]


@pytest.fixture
def pairs() -> Iterator[dict[str, socket.socket]]:
    """One socket in each state that a test can hold."""
    made: dict[str, socket.socket] = {}
    listener = made["listen"] = socket.create_server(("127.0.0.1", 0))
    for name in ("established", "close-wait"):
        made[name] = socket.create_connection(listener.getsockname())
        made[f"{name} peer"] = listener.accept()[0]
    made["established"].sendall(b"x" * 1000)
    made["close-wait peer"].close()
    six = made["six"] = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    made["mapped"] = socket.create_connection(("127.0.0.1", six.getsockname()[1]))
    made["mapped peer"] = six.accept()[0]
    made["udp"] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made["udp"].bind(("127.0.0.1", 0))
    made["udp connected"] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made["udp connected"].connect(made["udp"].getsockname())
    made["unix"] = socket.socket(socket.AF_UNIX)
    made["unix"].bind(f"\0kdebug test with blanks {os.getpid()}")
    made["unix"].listen()
    yield made
    for one in made.values():
        one.close()


def inode(one: socket.socket) -> int:
    return os.fstat(one.fileno()).st_ino


def test_each_kind_is_what_it_is(pairs: dict[str, socket.socket]) -> None:
    found = {entry.inode: entry for entry in scan()}
    expected = {
        "listen": ("inet", "tcp", "LISTEN"),
        "established": ("inet", "tcp", "ESTAB"),
        "close-wait": ("inet", "tcp", "CLOSE-WAIT"),
        "six": ("inet6", "tcp", "LISTEN"),
        "mapped peer": ("inet6", "tcp", "ESTAB"),
        "udp": ("inet", "udp", "UNCONN"),
        "udp connected": ("inet", "udp", "ESTAB"),
        "unix": ("unix", "stream", "LISTEN"),
    }
    for name, facts in expected.items():
        entry = found[inode(pairs[name])]
        assert (entry.family, entry.type, entry.state) == facts, name
        assert entry.pids is not None and os.getpid() in entry.pids, name
    one = found[inode(pairs["established"])]
    host, port = pairs["established"].getsockname()
    assert one.local == f"{host}:{port}" and one.remote == "{}:{}".format(*pairs["listen"].getsockname())
    assert found[inode(pairs["established peer"])].rx_queue_bytes == 1000
    assert found[inode(pairs["mapped peer"])].local.startswith("[::ffff:127.0.0.1]:")
    assert found[inode(pairs["unix"])].local == f"@kdebug test with blanks {os.getpid()}"
    assert one.rtt_ms is not None and one.rtt_ms > 0 and one.retransmits == 0


def test_tcp_and_udp_equal_ss(pairs: dict[str, socket.socket]) -> None:
    for flag, kind, families in (("-t", "tcp", ("inet", "inet6")), ("-u", "udp", ("inet", "inet6"))):
        theirs = {}
        for state, rx, tx, local, remote, *rest in ss(flag):
            if f"pid={os.getpid()}," in " ".join(rest):
                port = local.rpartition(":")[2]
                theirs[port, remote.rpartition(":")[2]] = (state, int(rx), int(tx))
        ours = {
            (entry.local.rpartition(":")[2], entry.remote.rpartition(":")[2].replace("0", "*", 1))
            if entry.remote.endswith(":0")
            else (entry.local.rpartition(":")[2], entry.remote.rpartition(":")[2]): entry
            for entry in scan(*families)
            if entry.type == kind and entry.pids and os.getpid() in entry.pids
        }
        assert ours.keys() == theirs.keys()
        for key, (state, rx, tx) in theirs.items():
            assert ours[key].state == state
            if state != "LISTEN":
                assert (ours[key].rx_queue_bytes, ours[key].tx_queue_bytes) == (rx, tx)


def test_round_trip_times_equal_ss(pairs: dict[str, socket.socket]) -> None:
    text = subprocess.run(["ss", "-Htine"], capture_output=True, text=True, check=True).stdout
    found = {entry.inode: entry for entry in scan("inet", "inet6")}
    records = re.findall(r"ino:(\d+).*?\n.*?rtt:([0-9.]+)/", text)
    # Ours are at rest; other connections of this machine may move between the two looks.
    own = {inode(pairs[name]) for name in ("established", "mapped peer", "close-wait")}
    compared = {
        int(i): (found[int(i)].rtt_ms, float(rtt))
        for i, rtt in records
        if int(i) in own & found.keys() and found[int(i)].rtt_ms
    }
    assert all(abs(ours - theirs) < 0.5 for ours, theirs in compared.values() if ours is not None)
    assert {inode(pairs["established"]), inode(pairs["mapped peer"])} <= compared.keys()


class Program(ctypes.Structure):
    """struct sock_fprog of linux/filter.h."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


DROP_ALL = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0), 8)
"""One instruction of classic BPF: return 0, keep nothing of the packet."""
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
"""asm-generic/socket.h; the same on every architecture that Debian has, but for parisc and sparc."""


def deafen(one: socket.socket) -> None:
    """From now on every packet for this socket is lost, so its peer retransmits."""
    one.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, bytes(Program(1, ctypes.addressof(DROP_ALL))))


def cure(one: socket.socket) -> None:
    one.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


def connection(listener: socket.socket, stack: contextlib.ExitStack) -> tuple[socket.socket, socket.socket]:
    """Its two ends, the one that connected first."""
    here = stack.enter_context(socket.create_connection(listener.getsockname()))
    return here, stack.enter_context(listener.accept()[0])


def of_inode(one: socket.socket) -> Socket:
    (found,) = [entry for entry in scan("inet") if entry.inode == inode(one)]
    return found


def ss_info(one: socket.socket) -> str:
    (line,) = subprocess.run(
        [
            "ss",
            "-HtinO",
            "src",
            "{}:{}".format(*one.getsockname()),
            "dst",
            "{}:{}".format(*one.getpeername()),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return line


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come"
        time.sleep(0.02)


def reaches(one: socket.socket, stage: str) -> None:
    until(lambda: ss_info(one).split()[0] == stage)


def test_retransmissions_stay_counted_when_the_connection_has_recovered() -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        here, there = connection(listener, stack)
        deafen(there)
        here.sendall(b"lost at first")
        until(lambda: (of_inode(here).retransmits or 0) >= 2)
        cure(there)
        assert there.recv(100) == b"lost at first"
        until(lambda: of_inode(here).tx_queue_bytes == 0)
        # "retrans:0/2" is none under way and two over the connection's life.
        (total,) = re.findall(r" retrans:0/(\d+)", ss_info(here))
        assert of_inode(here).retransmits == int(total) >= 2
        assert of_inode(there).retransmits == 0


def test_each_stage_of_closing_equals_ss() -> None:
    """Held by descriptors that were shut down but not closed; a packet that is lost keeps the stage."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        stages: dict[str, socket.socket] = {}

        stages["FIN-WAIT-2"], stages["CLOSE-WAIT"] = connection(listener, stack)
        stages["FIN-WAIT-2"].shutdown(socket.SHUT_WR)

        stages["FIN-WAIT-1"], deaf = connection(listener, stack)
        deafen(deaf)
        stages["FIN-WAIT-1"].shutdown(socket.SHUT_WR)

        first, stages["LAST-ACK"] = connection(listener, stack)
        first.shutdown(socket.SHUT_WR)
        until(lambda: of_inode(stages["LAST-ACK"]).state == "CLOSE-WAIT")
        deafen(first)
        stages["LAST-ACK"].shutdown(socket.SHUT_WR)

        stages["CLOSING"], other = connection(listener, stack)
        for one in (stages["CLOSING"], other):
            deafen(one)
        for one in (stages["CLOSING"], other):
            one.shutdown(socket.SHUT_WR)
        # The other's FIN comes again; the answer to ours is still lost.
        cure(stages["CLOSING"])

        for name, one in stages.items():
            reaches(one, name)
            assert of_inode(one).state == name


def test_a_socket_that_several_processes_hold_has_all_of_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as shared:
        held = [shared.fileno()]
        heirs = [subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=held) for _ in range(2)]
        try:
            (found,) = [entry for entry in scan("inet") if entry.inode == inode(shared)]
            assert sorted(found.pids or ()) == sorted([os.getpid(), *(heir.pid for heir in heirs)])
        finally:
            for heir in heirs:
                heir.communicate()


STRANGER = """
import json, os, sys
from kdebug.probe import net_diag
from kdebug.probe.net_sockets import SocketScan
os.setgroups([]); os.setresgid(4243, 4243, 4243); os.setresuid(4243, 4243, 4243)
target = int(sys.argv[1]) or os.getpid()
scan = SocketScan(target, proc="/proc", families=("inet",))
pids = [entry.pids for entry in scan if entry.inode == int(sys.argv[2])]
print(json.dumps([pids, scan.unread_processes]))
"""


@needs_root
@pytest.mark.parametrize("target", [os.getpid(), 0], ids=["the holder", "the stranger itself"])
def test_holders_that_may_not_be_asked_are_not_said_to_be_none(target: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mine:
        command = [sys.executable, "-c", STRANGER, str(target), str(inode(mine))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        pids, unread = json.loads(done.stdout)
    assert pids == [None] and unread > 0


@pytest.mark.parametrize("number", [7, 99_999, 4_294_967_295])
@pytest.mark.parametrize("path", ["", "/run/x.sock", "@abstract", " blank first", "/a b"])
def test_unix_lines_as_the_kernel_prints_them(number: int, path: str) -> None:
    """unix_seq_show of net/unix/af_unix.c: short inode numbers are padded with blanks."""
    line = f"0000000000000000: 00000002 00000000 00010000 0001 01 {number:5}" + (f" {path}" if path else "")
    found = parse_unix(f"{line}\n".encode())
    assert found is not None
    assert (found.inode, found.local, found.state, found.type) == (number, path, "LISTEN", "stream")


HOLDER = """
import resource, socket, sys
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(int(sys.argv[1]))]
for one in made: one.bind(("127.0.0.1", 0))
print("ready", flush=True); sys.stdin.read()
"""


def test_twenty_thousand_sockets() -> None:
    """Over several processes: the hard limit of open files may be low."""
    each = min(10_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 100)
    command = [sys.executable, "-S", "-c", HOLDER, str(each)]
    pipe = subprocess.PIPE
    holders = [subprocess.Popen(command, stdin=pipe, stdout=pipe) for _ in range(-(-20_000 // each))]
    try:
        for holder in holders:
            assert holder.stdout is not None and holder.stdout.readline() == b"ready\n"
        pids = {holder.pid for holder in holders}
        rows = [
            entry for entry in scan("inet") if entry.pids and len(entry.pids) == 1 and entry.pids[0] in pids
        ]
        assert len(rows) == each * len(holders) >= 20_000
        theirs = sum(1 for row in ss("-u", "-4") if any(f"pid={pid}," in row[-1] for pid in pids))
        assert theirs == len(rows)
    finally:
        for holder in holders:
            holder.communicate()


@needs_root
def test_a_holder_in_another_network_namespace_is_found() -> None:
    """As with socket activation of a service that has a network of its own."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        local = f"127.0.0.1:{listener.getsockname()[1]}"
        command = ["unshare", "-n", "sh", "-c", "echo; exec sleep 1000"]
        holder = subprocess.Popen(command, pass_fds=[listener.fileno()], stdout=subprocess.PIPE)
        assert holder.stdout is not None and holder.stdout.readline()
    try:
        # A UDP socket of anyone may have the same number.
        streams = [entry for entry in scan("inet") if entry.type == "tcp" and entry.local == local]
        assert [entry.pids for entry in streams] == [(holder.pid,)]
    finally:
        holder.kill()
        holder.communicate()


CHURN = """
import resource, socket
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
print("ready", flush=True)
while True:
    made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(min(hard - 100, 3000))]
    for one in made: one.bind(("127.0.0.1", 0))
    for one in made: one.close()
"""


def test_sockets_that_stay_are_found_while_others_come_and_go() -> None:
    others = subprocess.Popen([sys.executable, "-S", "-c", CHURN], stdout=subprocess.PIPE)
    with contextlib.ExitStack() as stack:
        kinds = [socket.SOCK_DGRAM, socket.SOCK_STREAM] * 20
        made = [stack.enter_context(socket.socket(socket.AF_INET, kind)) for kind in kinds]
        for one in made:
            one.bind(("127.0.0.1", 0))
            if one.type == socket.SOCK_STREAM:
                one.listen()
        try:
            assert others.stdout is not None and others.stdout.readline() == b"ready\n"
            for _ in range(20):
                assert {inode(one) for one in made} <= {entry.inode for entry in scan("inet")}
        finally:
            others.kill()
            others.communicate()


def test_a_slow_reader_misses_no_udp_socket_that_stays_while_others_close() -> None:
    """Sockets of one port are in one slot of the kernel's table, where it counts them to go on."""
    with contextlib.ExitStack() as stack:
        crowd: list[socket.socket] = []
        for _ in range(800):
            one = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(crowd[0].getsockname() if crowd else ("127.0.0.1", 0))
            crowd.append(one)
        stay = {inode(one) for one in crowd[::2]}
        rows = iter(SocketScan(os.getpid(), proc="/proc", families=("inet",)))
        found = {next(row for row in rows if row.type == "udp").inode}
        for one in crowd[1::2]:
            one.close()
        found |= {row.inode for row in rows}
    assert not stay - found


def test_a_slow_reader_misses_no_listener_that_stays_while_others_close() -> None:
    """Also where the kernel's text is read: listeners of one port are in one slot of its table."""
    with contextlib.ExitStack() as stack:
        crowd: list[socket.socket] = []
        for _ in range(600):
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(crowd[0].getsockname() if crowd else ("127.0.0.1", 0))
            one.listen(1)
            crowd.append(one)
        stay = {inode(one) for one in crowd[::2]}
        rows = iter(SocketScan(os.getpid(), proc="/proc", families=("inet",)))
        found = {next(row for row in rows if row.type == "tcp").inode}
        for one in crowd[1::2]:
            one.close()
        found |= {row.inode for row in rows}
    assert not stay - found


def test_both_readers_of_udp_sockets_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as stack:
        made = [
            stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            for family in (
                socket.AF_INET,
                socket.AF_INET,
                socket.AF_INET6,
                socket.AF_INET6,
                socket.AF_INET6,
            )
        ]
        made[0].bind(("127.0.0.1", 0))
        made[1].connect(made[0].getsockname())
        made[1].send(b"waits to be read")
        made[2].bind(("::1", 0))
        made[3].bind(("::", 0))
        made[4].connect(("::ffff:127.0.0.1", made[0].getsockname()[1]))
        mine = {inode(one) for one in made}
        by_diag = {entry.inode: entry for entry in scan("inet", "inet6") if entry.inode in mine}

        def refused(family: int) -> None:
            raise OSError(errno.ENOENT, "no udp_diag")

        monkeypatch.setattr("kdebug.probe.net_sockets.udp_facts", refused)
        by_proc: dict[int, Socket] = {}
        for _ in range(20):  # the kernel's file leaves rows out while other sockets come and go
            found = SocketScan(os.getpid(), proc="/proc", families=("inet", "inet6"))
            by_proc = {entry.inode: entry for entry in found if entry.inode in mine}
            if by_proc.keys() == mine:
                break
    assert by_diag == by_proc and by_diag.keys() == mine
    assert "no udp_diag" in found.reasons["udp"]


BINDER = """
import socket
one = socket.socket(socket.AF_UNIX)
one.bind("\\0kdebug there"); one.listen()
print("ready", flush=True); input()
"""


@needs_root
def test_unix_sockets_are_those_of_the_targets_network() -> None:
    """The kernel could only be asked for our own ones, and the answer says so."""
    command = ["unshare", "-n", sys.executable, "-S", "-c", BINDER]
    target = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert target.stdout is not None and target.stdout.readline() == b"ready\n"
        with socket.socket(socket.AF_UNIX) as ours:
            ours.bind("\0kdebug here")
            found = SocketScan(target.pid, proc="/proc", families=("unix",))
            rows = [(entry.local, entry.state, entry.pids) for entry in found]
        assert rows == [("@kdebug there", "LISTEN", (target.pid,))]
        assert "another network namespace" in found.reasons["unix"]
    finally:
        target.communicate(b"\n")


def test_a_name_with_a_line_feed_forges_no_socket() -> None:
    forged = b"\0x\n0000000000000000: 00000002 00000000 00010000 0001 01 99999 /run/forged.sock"
    with socket.socket(socket.AF_UNIX) as liar:
        liar.bind(forged)
        names = {entry.local: entry for entry in scan("unix")}
        assert "/run/forged.sock" not in names
        assert names[forged.replace(b"\0", b"@").decode()].pids == (os.getpid(),)


def test_both_readers_of_unix_sockets_agree(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)
        made = [stack.enter_context(socket.socket(socket.AF_UNIX, kind)) for kind in kinds]
        for number, one in enumerate(made):
            one.bind(str(tmp_path / str(number)) if number else "\0abstract\0name-" + str(tmp_path))
        made[0].listen()
        for one in socket.socketpair():
            stack.enter_context(one)
        by_diag = {entry.inode: entry for entry in scan("unix")}

        def refused() -> None:
            raise OSError(errno.ENOENT, "no unix_diag")

        monkeypatch.setattr("kdebug.probe.net_sockets.unix_facts", refused)
        by_proc = {entry.inode: entry for entry in scan("unix")}
        mine = [inode for inode, entry in by_diag.items() if entry.pids and os.getpid() in entry.pids]
        assert len(mine) >= 5
        assert [by_diag[inode] for inode in mine] == [by_proc[inode] for inode in mine]


def test_a_question_that_the_kernel_refuses_is_an_error_and_not_an_empty_answer() -> None:
    no_such_family = bytes([255]) + bytes(55)
    with pytest.raises(OSError) as refused:
        list(netlink.dump(netlink.SOCK_DIAG, SOCK_DIAG_BY_FAMILY, no_such_family))
    # net/core/sock_diag.c: beyond the last family, or of one that has no handler.
    assert refused.value.errno in (errno.EINVAL, errno.ENOENT)
