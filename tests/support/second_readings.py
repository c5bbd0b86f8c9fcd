"""What each field of the process records should be, by a route that the probe does not take.

A subject's own account (system calls), what its maker knows, ps, psutil, prlimit, getpriority, and
where only /proc tells, another parser of another file. Each function gives every field of its record: a
new field fails the comparison until it has a reading here, or a reason in `Elsewhere`.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from support.subjects import Subject, boot_clock

TICKS = int(subprocess.run(["getconf", "CLK_TCK"], capture_output=True, check=True).stdout)
Fields = dict[str, Any]


class Between:
    """Equal to whatever lies between two bounds: for what moves on while it is read."""

    def __init__(self, least: float, most: float) -> None:
        self.least, self.most = least, most

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int | float) and self.least <= other <= self.most

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{self.least} to {self.most}"


class Elsewhere:
    """Equal to anything: says where this field is compared instead."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def ps(subject: Subject, *columns: str) -> list[str]:
    options = [option for column in columns for option in ("-o", f"{column}=")]
    done = subprocess.run(["ps", "-p", str(subject.pid), *options], capture_output=True, text=True)
    return done.stdout.split()


def by_key(subject: Subject, name: str) -> dict[str, str]:
    """The "key: value" lines of one file; nothing where it has none or the process has no such file."""
    try:
        text = Path(f"/proc/{subject.pid}/{name}").read_bytes().decode("latin-1")
    except OSError:
        return {}
    return dict(re.findall(r"^(\w+):[ \t]*(.*?)(?: kB)?$", text, re.MULTILINE))


def sum_of_mappings(subject: Subject, *keys: str) -> int | None:
    """From smaps, mapping by mapping; None without memory."""
    text = Path(f"/proc/{subject.pid}/smaps").read_text("latin-1")
    pattern = rf"^(?:{'|'.join(keys)}): +(\d+) kB$"
    found = [int(number) for number in re.findall(pattern, text, re.MULTILINE)]
    return sum(found) * 1024 if found else None


def cpu(subject: Subject, *kinds: str) -> Between:
    """At rest since its account; the rest never used more than a second."""
    if subject.kernel:
        seconds = int(ps(subject, "cputimes")[0])
        return Between(0, seconds + 1)
    told = sum(subject.account.get(kind, 0.0) for kind in kinds)
    return Between(told - 0.01 * (len(kinds) + 1), told + (0.15 if subject.account.get("role") else 1.0))


def process_row(subject: Subject) -> Fields:
    account = subject.account
    process = psutil.Process(subject.pid)
    parent, threads, nice, state = ps(subject, "ppid", "nlwp", "ni", "stat")
    memory = process.memory_info()
    now = time.time() - boot_clock()
    began = subject.began
    uid = account["uids"][1] if "uids" in account else process.uids().effective
    return {
        "pid": subject.pid,
        "start_ticks": Between(int(began[0] * TICKS) - 1, int(began[1] * TICKS) + 1),
        "ppid": account["parent"] if account.get("parent") else int(parent),
        "name": account["name"],
        "state": state[0],
        "rss_bytes": memory.rss,
        "vsize_bytes": memory.vms,
        "cpu_seconds": cpu(subject, "user", "system"),
        "threads": account.get("thread_count", int(threads)),
        "started_at": Between(now + began[0] - 0.05, now + began[1] + 0.05),
        "nice": os.getpriority(os.PRIO_PROCESS, subject.pid),
        "uid": uid,
        "gid": account["gids"][1] if "gids" in account else process.gids().effective,
        "user": next((one.pw_name for one in pwd.getpwall() if one.pw_uid == uid), None),
        "fds": len(account["fds"]) if "fds" in account else process.num_fds(),
        "cmdline": cut(subject.argv),
        "cmdline_truncated": sum(len(part) + 1 for part in subject.argv) > 4096,
        "exe": subject.exe,
        "container": Elsewhere("test_recorded_processes: this machine need not let us make cgroups"),
        "kernel_thread": subject.kernel,
        "reasons": {},
    }


def cut(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The table shows 4 KiB of them."""
    return tuple(
        os.fsdecode("\0".join(argv).encode("utf-8", "surrogateescape")[:4096]).split("\0") if argv else ()
    )


BITS = (
    "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable "
    "net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot "
    "sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease "
    "audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read "
    "perfmon bpf checkpoint_restore"
).split()


def capabilities(subject: Subject) -> Fields:
    sets = subject.account["capabilities"]
    return {name: tuple(f"cap_{BITS[bit]}" for bit in sets[name]) for name in sets}


def memory(subject: Subject) -> Fields:
    bare = subject.kernel or subject.ended
    status = by_key(subject, "status")
    process = psutil.Process(subject.pid).memory_info()
    shared = sum(
        int(size) * 1024
        for line, size in re.findall(
            r"^(\w+-\w+ .{4} \w+ \w+:\w+ \d+ .*)\n(?:\w+:.*\n)*?Rss: +(\d+) kB$",
            Path(f"/proc/{subject.pid}/smaps").read_text("latin-1"),
            re.MULTILINE,
        )
        if "/dev/zero" in line or "/memfd:" in line
    )
    return {
        "rss_bytes": None if bare else process.rss,
        "peak_rss_bytes": None if bare else int(status["VmHWM"]) * 1024,
        "anonymous_bytes": None if bare else process.rss - process.shared,
        "file_bytes": None if bare else process.shared - shared,
        "shared_memory_bytes": None if bare else shared,
        "swap_bytes": sum_of_mappings(subject, "Swap"),
        "pss_bytes": None if bare else psutil.Process(subject.pid).memory_full_info().pss,
        "uss_bytes": sum_of_mappings(subject, "Private_Clean", "Private_Dirty"),
        "locked_bytes": None if bare else (2 << 20 if subject.account.get("role") == "worker" else 0),
        "page_tables_bytes": None if bare else int(status["VmPTE"]) * 1024,
    }


def io(subject: Subject) -> Fields:
    told = by_key(subject, "io")
    names = {
        "read_calls": "syscr",
        "write_calls": "syscw",
        "read_bytes": "read_bytes",
        "write_bytes": "write_bytes",
        "read_chars": "rchar",
        "write_chars": "wchar",
    }
    return {name: int(told[key]) for name, key in names.items()}


LIMITS = {
    "Max cpu time": ("CPU", "seconds"),
    "Max file size": ("FSIZE", "bytes"),
    "Max data size": ("DATA", "bytes"),
    "Max stack size": ("STACK", "bytes"),
    "Max core file size": ("CORE", "bytes"),
    "Max resident set": ("RSS", "bytes"),
    "Max processes": ("NPROC", "processes"),
    "Max open files": ("NOFILE", "files"),
    "Max locked memory": ("MEMLOCK", "bytes"),
    "Max address space": ("AS", "bytes"),
    "Max file locks": (10, "locks"),
    "Max pending signals": ("SIGPENDING", "signals"),
    "Max msgqueue size": ("MSGQUEUE", "bytes"),
    "Max nice priority": ("NICE", ""),
    "Max realtime priority": ("RTPRIO", ""),
    "Max realtime timeout": (15, "us"),
}
"""In the kernel's order; by number where Python has no name (RLIMIT_LOCKS, RLIMIT_RTTIME)."""


def used(subject: Subject) -> dict[str, int | None]:
    bare = subject.kernel or subject.ended
    process = psutil.Process(subject.pid)
    of_memory = process.memory_info()
    text = Path(f"/proc/{subject.pid}/maps").read_text("latin-1")
    (stack,) = re.findall(r"^(\w+)-(\w+) .*\[stack\]$", text, re.MULTILINE) or [("0", "0")]
    stack_bytes = int(stack[1], 16) - int(stack[0], 16)
    seconds = process.cpu_times()
    return {
        "Max cpu time": int(seconds.user + seconds.system),
        "Max data size": None if bare else of_memory.data - stack_bytes,
        "Max stack size": None if bare else stack_bytes,
        "Max resident set": None if bare else of_memory.rss,
        "Max open files": len(os.listdir(f"/proc/{subject.pid}/fd")),
        "Max locked memory": memory(subject)["locked_bytes"],
        "Max address space": None if bare else of_memory.vms,
        "Max pending signals": 3
        if subject.account.get("role") == "worker"
        else Elsewhere("of all of root"),
    }


def limits(subject: Subject) -> list[Fields]:
    """getrlimit(2) of its own, or prlimit(2) from here; both say -1 for unlimited."""
    in_use, own = used(subject), subject.account.get("limits")
    told = []
    for name, (which, unit) in LIMITS.items():
        number = which if isinstance(which, int) else getattr(resource, f"RLIMIT_{which}")
        pair = own[number] if own else resource.prlimit(subject.pid, number)
        soft, hard = (None if n == -1 else n for n in pair)
        told.append({"name": name, "soft": soft, "hard": hard, "unit": unit, "used": in_use.get(name)})
    return told


def threads(subject: Subject) -> list[Fields]:
    """ps sees them, too; their names and times are their own account."""
    done = subprocess.run(
        ["ps", "-L", "-p", str(subject.pid), "-o", "tid=,stat="], capture_output=True, text=True
    )
    own = {one["tid"]: one for one in subject.account.get("threads", ())}
    told = []
    for line in done.stdout.splitlines():
        tid, state = line.split()
        of = own.get(int(tid))
        told.append(
            {
                "tid": int(tid),
                "name": of["name"] if of else subject.account["name"],
                "state": state[0],
                "cpu_seconds": Between(of["cpu"] - 0.03, of["cpu"] + 0.03) if of else cpu(subject, "main"),
            }
        )
    return told


def priority(subject: Subject) -> int:
    """proc(5), field 18: 20 above nice, or below -1 for real-time processes."""
    if os.sched_getscheduler(subject.pid) in (os.SCHED_FIFO, os.SCHED_RR):
        return -1 - os.sched_getparam(subject.pid).sched_priority
    return 20 + os.getpriority(os.PRIO_PROCESS, subject.pid)


def detail(subject: Subject) -> Fields:
    """What is a record of its own has its own reading."""
    account = subject.account
    process = psutil.Process(subject.pid)
    bare = subject.kernel or subject.ended
    uids = account.get("uids") or tuple(process.uids())
    gids = account.get("gids") or tuple(process.gids())
    nested = account.get("role") == "nested"
    name_of = Elsewhere("the record itself is compared")
    return {
        "process": name_of,
        "real_uid": uids[0],
        "saved_uid": uids[2],
        "real_gid": gids[0],
        "saved_gid": gids[2],
        "groups": tuple(account.get("groups", () if subject.kernel else os.getgroups())),
        "ns_pids": (subject.pid, account["pid"]) if nested else (subject.pid,),
        "session": 0 if subject.kernel else os.getsid(subject.pid),
        "process_group": 0 if subject.kernel else os.getpgid(subject.pid),
        "tty": subject.terminal if subject.terminal else own_terminal(subject),
        "priority": priority(subject),
        "user_seconds": cpu(subject, "user"),
        "system_seconds": cpu(subject, "system"),
        "memory": name_of,
        "capabilities": name_of,
        "no_new_privs": account.get("no_new_privs", False),
        "seccomp": account.get("seccomp", "disabled"),
        "dumpable": None if (uids[1], gids[1]) == (0, 0) else account["dumpable"],
        "oom_score": int(Path(f"/proc/{subject.pid}/oom_score").read_text()),
        "oom_score_adj": 321 if account.get("role") == "worker" else adjustment(subject),
        "cwd": where(subject, "cwd"),
        "root": None if subject.ended else subject.root,
        "cgroup": tuple(Path(f"/proc/{subject.pid}/cgroup").read_text().rstrip("\n").split("\n")),
        "namespaces": namespaces(subject),
        "voluntary_switches": switches(subject, "voluntary"),
        "involuntary_switches": switches(subject, "involuntary"),
        "io": name_of,
        "limits": name_of,
        "threads": name_of,
        "threads_truncated": False,
        "reasons": Elsewhere("test_what_is_null_has_a_reason"),
        **({"root": "/"} if bare and subject.kernel else {}),
    }


def own_terminal(subject: Subject) -> int:
    """Of those who share the session of the tests, if that has one."""
    name = psutil.Process(subject.pid).terminal()
    return os.stat(name).st_rdev if name else 0


def adjustment(subject: Subject) -> int:
    if subject.kernel:
        return 0
    return int(
        subprocess.run(["choom", "-p", str(subject.pid)], capture_output=True, check=True).stdout.split()[
            -1
        ]
    )


def where(subject: Subject, name: str) -> str | None:
    if subject.ended:
        return None
    if "cwd" in subject.account:
        return subject.root.rstrip("/") + str(subject.account["cwd"])
    return str(os.path.realpath(f"/proc/{subject.pid}/{name}"))


def namespaces(subject: Subject) -> dict[str, int | None]:
    """By the inode that the link leads to; an ended process has left all but two."""
    told: dict[str, int | None] = {}
    for name in ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"):
        try:
            told[name] = os.stat(f"/proc/{subject.pid}/ns/{name}").st_ino
        except OSError:
            told[name] = None
    return told


def switches(subject: Subject, kind: str) -> Between:
    if kind in subject.account:
        return Between(subject.account[kind], subject.account[kind] + 60)
    told = getattr(psutil.Process(subject.pid).num_ctx_switches(), kind)
    return Between(told - 60, told + 60)


def fds(subject: Subject) -> dict[int, Fields]:
    """The subject's own fstat(2), lseek(2) and fcntl(2); kinds as it made them."""
    made = {fd: kind for kind, fd in subject.account.get("kinds", {}).items()}
    told = {}
    for number, own in subject.account["fds"].items():
        fd, target = int(number), os.readlink(f"/proc/{subject.pid}/fd/{number}")
        if subject.terminal:
            kind = "char" if target.startswith("/dev/") else "pipe"
        else:
            kind = made.get(fd) or ("file" if own["size"] is not None else "pipe")
        deleted = own["links"] == 0 and kind == "file"
        path = bool(own["flags"] & os.O_PATH)
        told[fd] = {
            "fd": fd,
            "kind": "file" if kind == "path" else kind,
            "target": target,
            "deleted": deleted,
            "inode": own["inode"],
            "size_bytes": own["size"],
            "position": 0 if path else own["position"],
            "flags": own["flags"],
            "access": None if path else ("r", "w", "rw")[own["flags"] & 3],
            "error": None,
        }
    return told


def maps(subject: Subject) -> list[Fields]:
    """smaps has the same lines; the paths are those of /proc/PID/map_files, which escapes nothing."""
    pattern = re.compile(rb"^(\w+)-(\w+) ([-rwxps]{4}) (\w+) (\w+:\w+) (\d+) *(.*)$", re.MULTILINE)
    told = []
    for match in pattern.finditer(Path(f"/proc/{subject.pid}/smaps").read_bytes()):
        start, end, permissions, offset, device, inode, rest = match.groups()
        path: str | None = rest.decode() or None
        if path and path.startswith("/"):
            span = f"{int(start, 16):x}-{int(end, 16):x}"
            path = os.readlink(f"/proc/{subject.pid}/map_files/{span}")
        told.append(
            {
                "start": int(start, 16),
                "end": int(end, 16),
                "permissions": permissions.decode(),
                "offset": int(offset, 16),
                "device": device.decode(),
                "inode": int(inode),
                "path": path.removesuffix(" (deleted)") if path else None,
                "deleted": bool(path) and str(path).endswith(" (deleted)"),
            }
        )
    return told


def environment(subject: Subject) -> list[Fields]:
    return [{"name": name, "value": value} for name, value in subject.environ.items()]


def system_control(name: str) -> str:
    return subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=True).stdout.strip()


READER = """
import os, psutil, sys
from kdebug.probe.process_detail import process_detail
from kdebug.protocol import codec
if sys.argv[2] == "stranger":
    os.setgroups([]); os.setresgid(4277, 4277, 4277); os.setresuid(4277, 4277, 4277)
detail = process_detail("/proc", int(sys.argv[1]), 0, user_name=lambda uid, container: None)
print(codec.to_json(detail).decode())
"""


def details_for(subject: Subject, *, stranger: bool) -> Fields:
    """The whole record, as another process reads it that may or may not look at the subject."""
    command = [sys.executable, "-c", READER, str(subject.pid), "stranger" if stranger else "root"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told: Fields = json.loads(done.stdout)
    return told
