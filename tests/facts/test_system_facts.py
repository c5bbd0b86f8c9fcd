"""Mounts, cgroups, interfaces and routes against findmnt, a second reader, and ip."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import needs_root
from kdebug.agent import dispatch
from kdebug.agent.session import Session
from kdebug.errors import KdebugError, NotFound
from kdebug.probe import cgroup_parse, cgroup_place
from kdebug.probe.cgroup import cgroup_info
from kdebug.probe.container_id import parse_container_id
from kdebug.probe.mounts import iter_mounts, parse_mount
from kdebug.probe.net_config import network_config, resolver
from kdebug.protocol import requests as ask
from kdebug.protocol.system import CgroupInfo

ID = "0123456789abcdef" * 4
OUTER = "fedcba9876543210" * 4
"""A container that other containers run in, as a node of kind is."""


@pytest.fixture
def session() -> Iterator[Session]:
    session = Session()
    dispatch.handle(session, ask.OpenTarget(pid=os.getpid()))
    yield session
    session.close()


def tool(*command: str) -> object:
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_mounts_equal_findmnt(session: Session) -> None:
    flat = tool("findmnt", "-J", "-l", "-o", "TARGET,FSTYPE,SOURCE")["filesystems"]  # type: ignore[index]
    ours = dispatch.handle(session, ask.ListMounts(limit=1000)).items
    assert [m.path for m in ours] == [row["target"] for row in flat]
    assert [m.filesystem for m in ours] == [row["fstype"] for row in flat]
    root = next(m for m in ours if m.path == "/")
    size = os.statvfs("/")
    assert root.size_bytes == size.f_blocks * size.f_frsize


def test_interfaces_and_routes_equal_ip(session: Session) -> None:
    config = dispatch.handle(session, ask.GetNetwork())
    ours = {i.name: i for i in config.interfaces}
    for link in tool("ip", "-j", "addr"):  # type: ignore[attr-defined]
        mine = ours[link["ifname"]]
        assert (mine.mtu, (mine.state or "").upper()) == (link["mtu"], link["operstate"])
        assert mine.mac == link.get("address", mine.mac)
        theirs = {f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]}
        assert set(mine.addresses) == theirs
    gateways = {r.gateway for r in config.routes if r.destination == "0.0.0.0/0"}
    assert gateways == {route.get("gateway") for route in tool("ip", "-j", "route", "show", "default")}  # type: ignore[attr-defined]


NETWORK = """
set -e
ip link set lo up
ip link add wide type bridge; ip link set wide up; ip addr add 10.0.0.1/8 dev wide
ip link add narrow type bridge; ip link set narrow up; ip addr add 10.1.0.1/16 dev narrow
ip addr add 10.1.2.3/32 dev lo; ip addr add 10.1.7.7/8 dev wide
ip addr add 172.16.0.1 peer 172.16.0.2 dev wide
ip route add 192.0.2.0/24 via 10.1.0.9 metric 77
"""


@contextlib.contextmanager
def network(script: str, *arguments: str) -> Iterator[int]:
    """A process in a network namespace of its own that `script` has furnished."""
    command = ["unshare", "-n", "sh", "-c", f"{script}\necho ready; exec cat", "sh", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        yield process.pid
    finally:
        process.communicate()


@pytest.fixture
def other_network() -> Iterator[int]:
    """Its networks contain each other."""
    with network(NETWORK) as pid:
        yield pid


@needs_root
def test_an_address_belongs_to_its_own_interface(other_network: int) -> None:
    """Asked from within, where the kernel can tell; /proc alone would have to guess."""
    inside = ("nsenter", "-n", "-t", str(other_network))
    script = (
        "import os; from kdebug.probe.net_config import network_config; from kdebug.protocol import codec\n"
        "print(codec.to_json(network_config(os.getpid(), read_file=lambda path: b'')).decode())"
    )
    ours = tool(*inside, sys.executable, "-c", script)
    theirs = {
        link["ifname"]: {f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]}
        for link in tool(*inside, "ip", "-j", "addr")  # type: ignore[attr-defined]
    }
    assert {i["name"]: set(i["addresses"]) for i in ours["interfaces"]} == theirs  # type: ignore[index]


@needs_root
def test_addresses_seen_from_outside_are_matched_with_the_narrowest_network(other_network: int) -> None:
    config = network_config(other_network, read_file=lambda path: b"")
    found = {interface.name: interface.addresses for interface in config.interfaces}
    assert "10.0.0.1/8" in found["wide"] and "10.1.0.1/16" in found["narrow"]
    assert "172.16.0.1" in config.reasons["addresses"]


PEER_FIRST = """
set -e
ip link add wide type bridge; ip link set wide up
ip addr add 192.0.2.1 peer 192.0.2.2 dev wide; ip addr add 198.51.100.1/24 dev wide
"""


@needs_root
def test_an_address_without_an_interface_is_spoken_of_when_others_after_it_have_one() -> None:
    with network(PEER_FIRST) as pid:
        config = network_config(pid, read_file=lambda path: b"")
    (wide,) = [interface for interface in config.interfaces if interface.name == "wide"]
    assert [address for address in wide.addresses if ":" not in address] == ["198.51.100.1/24"]
    assert "192.0.2.1" in config.reasons["addresses"]


RESOLV = b"""nameserver 192.0.2.1 # the first
; search z.example
search a.example b.example
options ndots:2
nameserver 192.0.2.2
domain c.example
search d.example e.example
options edns0
"""


def test_the_resolver_searches_where_the_last_line_says() -> None:
    """resolv.conf(5): of domain and search the last instance wins; glibc answers the same for this file."""
    dns = resolver({"/etc/resolv.conf": RESOLV, "/etc/hosts": b"", "/etc/hostname": b"h\n"}.__getitem__)
    assert dns.search == ("d.example", "e.example")
    assert (dns.nameservers, dns.options) == (("192.0.2.1", "192.0.2.2"), ("ndots:2", "edns0"))


@needs_root
def test_routes_of_another_network_namespace_equal_ip(other_network: int) -> None:
    theirs = {
        (str(ipaddress.ip_network(row["dst"])), row.get("gateway"), row["dev"], row.get("metric", 0))
        for row in tool("nsenter", "-n", "-t", str(other_network), "ip", "-j", "-4", "route")  # type: ignore[attr-defined]
    }
    routes = network_config(other_network, read_file=lambda path: b"").routes
    ours = {(r.destination, r.gateway, r.interface, r.metric) for r in routes if ":" not in r.destination}
    assert ours == theirs and len(theirs) == 4


NETWORK6 = """
set -e
ip link add six type bridge; ip link set six up
ip addr add 2001:db8::1/64 dev six nodad
ip route add 2001:db8:7::/48 via 2001:db8::9 metric 4096
ip route add default via 2001:db8::a metric 1024
"""


@needs_root
def test_ipv6_routes_equal_ip() -> None:
    """Without those that the kernel makes of its own addresses and for multicast."""
    with network(NETWORK6) as pid:
        rows = tool("nsenter", "-n", "-t", str(pid), "ip", "-j", "-6", "route")
        routes = network_config(pid, read_file=lambda path: b"").routes
    theirs = {
        (row["dst"].replace("default", "::/0"), row.get("gateway"), row["dev"], row["metric"])
        for row in rows  # type: ignore[attr-defined]
    }
    assert {(r.destination, r.gateway, r.interface, r.metric) for r in routes} == theirs
    assert len(theirs) >= 3


@needs_root
def test_the_name_of_an_interface_forges_no_line() -> None:
    """The kernel allows in it what Python takes for a blank or a line end."""
    odd = ["x\x1clo", "a\u2003b", "c\u2028d", "e\x85\udcff"]
    script = """
    number=0
    for name; do
        number=$((number + 1))
        ip link add "$name" type bridge; ip link set "$name" up; ip addr add "10.$number.0.1/16" dev "$name"
    done
    """
    with network(script, *odd) as pid:
        config = network_config(pid, read_file=lambda path: b"")
    assert [i.name for i in config.interfaces] == ["lo", *odd]
    assert [i.addresses[0] for i in config.interfaces[1:]] == [f"10.{n}.0.1/16" for n in range(1, 5)]
    assert {route.interface for route in config.routes} == set(odd)


def test_the_cgroup_is_the_targets(session: Session) -> None:
    """A second reader: the path of /proc/self/cgroup below the mount of the memory controller."""
    info = dispatch.handle(session, ask.GetCgroup())
    assert info.path is not None and info.memory_usage_bytes is not None, info.reasons
    name = "memory.current" if info.version == 2 else "memory.usage_in_bytes"
    now = int(Path(info.path, name).read_text())
    assert abs(now - info.memory_usage_bytes) < 64 * 2**20
    pids = Path(info.path, "cgroup.procs").read_text().split()
    assert str(os.getpid()) in pids
    assert info.cpu_usage_seconds is not None and info.cpu_usage_seconds > 0


def memory_group(pid: str) -> str:
    """The path in the hierarchy of the memory controller; raises for those that end."""
    paths = cgroup_parse.controller_paths(Path(f"/proc/{pid}/cgroup").read_text())
    return paths.get("memory", paths.get("", ""))


def cgroup_of(pid: int) -> CgroupInfo:
    session = Session()
    try:
        dispatch.handle(session, ask.OpenTarget(pid=pid))
        return dispatch.handle(session, ask.GetCgroup())
    finally:
        session.close()


def highest_group_with_figures() -> tuple[int, CgroupInfo]:
    """A process of it, too; most of what it counts belongs to the groups below."""
    members: list[tuple[str, int]] = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            members.append((memory_group(pid), int(pid)))
    for _, member in sorted(members, key=lambda found: len(found[0])):
        with contextlib.suppress(KdebugError):
            info = cgroup_of(member)
            if info.memory_usage_bytes is not None:
                return member, info
    raise AssertionError("no process has a memory cgroup with figures")


def test_the_working_set_leaves_out_the_inactive_pages_of_the_groups_below() -> None:
    pid, info = highest_group_with_figures()
    place = Path(f"/proc/{pid}/root{info.path}")
    names = ("memory.usage_in_bytes", "total_inactive_file")
    current, inactive = names if info.version == 1 else ("memory.current", "inactive_file")
    stat = dict(line.split() for line in (place / "memory.stat").read_text().splitlines())
    theirs = int((place / current).read_text()) - int(stat[inactive])
    # The whole machine works in there, between the two looks as well.
    allowed = 64 * 2**20 + int(stat[inactive]) // 2
    assert info.memory_working_set_bytes == pytest.approx(max(0, theirs), abs=allowed)


STRANGER = """
import json, os, sys
from kdebug.agent import dispatch
from kdebug.agent.session import Session
from kdebug.protocol import requests as ask
os.setgroups([]); os.setresgid(4243, 4243, 4243); os.setresuid(4243, 4243, 4243)
session = Session()
dispatch.handle(session, ask.OpenTarget(pid=int(sys.argv[1])))
info = dispatch.handle(session, ask.GetCgroup())
try:
    os.readlink(f"/proc/{sys.argv[1]}/root")
except OSError as error:
    print(json.dumps([error.strerror, info.memory_usage_bytes, info.pids_current, info.reasons]))
"""


@needs_root
def test_a_cgroup_behind_a_root_that_may_not_be_read_is_not_said_to_be_unmounted() -> None:
    words, memory, pids, reasons = tool(sys.executable, "-c", STRANGER, str(os.getpid()))  # type: ignore[misc]
    assert (memory, pids) == (None, None)
    for controller in ("memory", "cpu", "pids"):
        assert words in reasons[controller] and "the kernel wants" in reasons[controller]
    assert "cpuacct" not in reasons


CPU_V1 = {
    "/sys/fs/cgroup/cpu/cpu.stat": "nr_periods 5114\nnr_throttled 3773\nthrottled_time 224457121193\n",
    "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "10000\n",
    "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    "/sys/fs/cgroup/cpuacct/cpuacct.usage": "44890177291\n",
}
"""Recorded from a pod: times in nanoseconds (Documentation/scheduler/sched-bwc.rst)."""
CPU_V2 = {
    "/sys/fs/cgroup/cpu.stat": "usage_usec 44890177\nuser_usec 40000000\nsystem_usec 4890177\n"
    "nr_periods 5114\nnr_throttled 3773\nthrottled_usec 224457121\n",
    "/sys/fs/cgroup/cpu.max": "10000 100000\n",
}
"""The same figures as v2 has them (Documentation/admin-guide/cgroup-v2.rst)."""
MOUNT_V1 = "41 30 0:{0} / /sys/fs/cgroup/{1} rw - cgroup cgroup rw,{1}\n"
MOUNT_V2 = "41 30 0:41 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("cgroup", "mounts", "files"),
    [
        ("2:cpuacct:/\n1:cpu:/\n0::/\n", MOUNT_V1.format(1, "cpu") + MOUNT_V1.format(2, "cpuacct"), CPU_V1),
        ("0::/\n", MOUNT_V2, CPU_V2),
    ],
    ids=["v1", "v2"],
)
def test_processor_time_is_in_seconds_whatever_the_version_counts_in(
    tmp_path: Path, cgroup: str, mounts: str, files: dict[str, str]
) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/cgroup").write_text(cgroup)
    (tmp_path / "7/mountinfo").write_text(mounts)

    def read(path: str) -> bytes:
        if path not in files:
            raise NotFound(path)
        return files[path].encode()

    info = cgroup_info(7, proc=str(tmp_path), read_target=read, read_host=read)
    assert info.cpu_throttled_seconds == pytest.approx(224.457121, abs=1e-5)
    assert info.cpu_usage_seconds == pytest.approx(44.890177, abs=1e-5)
    assert (info.cpu_periods, info.cpu_throttled_periods, info.cpu_limit_cores) == (5114, 3773, 0.1)


def test_the_name_of_a_cgroup_forges_no_line() -> None:
    paths = cgroup_parse.controller_paths("4:cpu,cpuacct:/a\x1c9:memory:/b\n3:memory:/c\n0::/d\x850::/e\n")
    assert paths == {
        "cpu": "/a\x1c9:memory:/b",
        "cpuacct": "/a\x1c9:memory:/b",
        "memory": "/c",
        "": "/d\x850::/e",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"11:memory:/kubepods/burstable/pod1/{ID}\n", ID),
        (f"0::/kubepods.slice/x.slice/cri-containerd-{ID}.scope\n", ID),
        (f"0::/system.slice/docker-{ID}.scope\n", ID),
        (f"0::/kubepods.slice/crio-{ID}.scope/container\n", ID),
        (f"0::/../{ID}\n", ID),
        (f"0::/docker/{OUTER}/kubelet/kubepods/pod1/{ID}\n", ID),
        (f"4:memory:/docker-{OUTER}.scope/kubepods.slice/cri-containerd-{ID}.scope\n0::/\n", ID),
        (f"1:name=systemd:/docker/{ID}\n", ID),
        ("0::/\n", None),
        ("0::/user.slice/user-0.slice\n", None),
        (f"0::/{ID}0\n", None),
    ],
)
def test_container_ids(text: str, expected: str | None) -> None:
    assert parse_container_id(text) == expected


def test_cgroup_files() -> None:
    assert cgroup_parse.number(b"max\n") is None
    assert cgroup_parse.number(b"9223372036854771712\n") is None
    assert cgroup_parse.number(b"1048576\n") == 1048576
    assert cgroup_parse.cpu_max(b"max 100000\n") is None
    assert cgroup_parse.cpu_max(b"10000 100000\n") == 0.1
    some = cgroup_parse.pressure(b"some avg10=1.50 avg60=0.20 avg300=0.00 total=2000000\n")["some"]
    assert (some.avg10, some.avg60, some.total_seconds) == (1.5, 0.2, 2.0)


def test_a_mount_with_odd_names() -> None:
    line = b"36 35 98:0 /a\\040b /mnt/c\\012d ro,noatime shared:1 - ext4 /dev/x\\134y rw,errors=continue\n"
    mount = parse_mount(line)
    assert (mount.root, mount.path, mount.source) == ("/a b", "/mnt/c\nd", "/dev/x\\y")
    assert mount.read_only and mount.filesystem == "ext4"


def test_a_hybrid_machine_answers_from_the_hierarchy_that_has_the_controller(tmp_path: Path) -> None:
    """cpu.stat is in every cgroup of v2, also where the controller and its limits are v1's."""
    process = tmp_path / "7"
    process.mkdir()
    (process / "cgroup").write_text("4:cpu,cpuacct:/a\n1:name=systemd:/a\n0::/a\n")
    (process / "mountinfo").write_text(
        "40 30 0:40 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
        "41 30 0:41 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    )
    place = cgroup_place.find_place(str(tmp_path), 7, "cpu", lambda path: b"", lambda path: b"")
    assert place is not None
    assert (place.version, place.path) == (1, "/sys/fs/cgroup/cpu/a")
    other = cgroup_place.find_place(str(tmp_path), 7, "memory", lambda path: b"", lambda path: b"")
    assert other is not None and other.version == 2


@needs_root
def test_a_covered_mount_has_not_the_size_of_the_one_above(tmp_path: Path) -> None:
    mounts = "; ".join(f"mount -t tmpfs -o size={size} none {tmp_path}" for size in ("4m", "8m"))
    process = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", f"{mounts}; echo; exec sleep 1000"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline()
    session = Session()
    dispatch.handle(session, ask.OpenTarget(pid=process.pid))
    found = [
        m for m in dispatch.handle(session, ask.ListMounts(limit=1000)).items if m.path == str(tmp_path)
    ]
    session.close()
    process.kill()
    process.wait()
    process.stdout.close()
    assert [(m.size_bytes, m.error) for m in found] == [(None, "another mount covers it"), (8 << 20, None)]


def test_below_a_network_file_system_no_size_is_asked(tmp_path: Path) -> None:
    """The way to it leads through the server that may be gone."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "mountinfo").write_text(
        "39 30 0:39 / / rw - virtiofs host rw\n"
        "40 30 0:40 / /data rw - nfs4 server:/ rw\n"
        "41 40 0:41 / /data/cache rw - tmpfs none rw\n"
        "42 30 0:42 / /database rw - tmpfs none rw\n"
    )
    asked = []
    list(iter_mounts(7, proc=str(tmp_path), statvfs=lambda path, _: asked.append(path) or os.statvfs("/")))
    assert asked == ["/database"]


@pytest.mark.parametrize(
    ("parser", "text"),
    [
        (cgroup_parse.number, b"9" * 40), (cgroup_parse.keyed, b"oom_kill " + b"9" * 40),
        (cgroup_parse.cpu_max, b"9" * 400 + b" 1"),
        (cgroup_parse.pressure, b"some avg10=1e999 avg60=0 avg300=0 total=0"),
        (cgroup_parse.pressure, b"some avg10=nan avg60=0 avg300=0 total=0"),
    ],
)  # fmt: skip
def test_numbers_that_no_kernel_writes_are_not_understood(
    parser: Callable[[bytes], object], text: bytes
) -> None:
    """A target that mounts its own file there must not make an answer that ends the session."""
    with pytest.raises(ValueError):
        parser(text)


@pytest.mark.parametrize(("count", "truncated"), [(2000, False), (2001, True)])
@pytest.mark.parametrize("what", ["routes", "interfaces"])
def test_more_than_is_shown_is_said_to_be_more(
    tmp_path: Path, what: str, count: int, truncated: bool
) -> None:
    (tmp_path / "7/net").mkdir(parents=True)
    routes = count if what == "routes" else 1
    (tmp_path / "7/net/route").write_text(
        "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
        + "".join(f"eth0 {i:08X} 0 1 0 0 0 FFFFFFFF 0 0 0\n" for i in range(1, routes + 1))
    )
    interfaces = count if what == "interfaces" else 1
    (tmp_path / "7/net/dev").write_text(
        "Inter-| Receive | Transmit\n face |bytes\n"
        + "".join(f"eth{i}:{' 0' * 16}\n" for i in range(interfaces))
    )
    config = network_config(7, proc=str(tmp_path), read_file=lambda path: b"")
    assert config.truncated is truncated
    assert len(getattr(config, what)) == 2000
