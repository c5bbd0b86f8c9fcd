"""The program that a subject runs: it takes on a role, tells what system calls say of it, and waits."""

from __future__ import annotations

import ctypes
import fcntl
import json
import mmap
import os
import resource
import signal
import socket
import stat
import sys
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NAME, PR_GET_NAME = 3, 4, 8, 15, 16
PR_GET_SECCOMP, PR_SET_SECCOMP, PR_CAPBSET_READ, PR_CAPBSET_DROP = 21, 22, 23, 24
PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 38, 39, 47
MIB = 1 << 20
PROGRAM = os.path.realpath(sys.executable)
KEPT: list[object] = []
LIMITS = [name for name in dir(resource) if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"]


def prctl(*arguments: int) -> int:
    return int(libc.prctl(*arguments, *[0] * (5 - len(arguments))))


def rename(name: bytes) -> None:
    libc.prctl(PR_SET_NAME, ctypes.c_char_p(name), 0, 0, 0)


def own_name() -> str:
    name = ctypes.create_string_buffer(16)
    libc.prctl(PR_GET_NAME, name, 0, 0, 0)
    return os.fsdecode(name.value)


def burn(user: float, system: float, who: int = resource.RUSAGE_SELF) -> None:
    while resource.getrusage(who).ru_utime < user:
        sum(range(20_000))
    zero = os.open("/dev/zero", os.O_RDONLY)
    while resource.getrusage(who).ru_stime < system:
        os.read(zero, 4 * MIB)
    os.close(zero)


def child_that_burns() -> None:
    """Counts in cutime and cstime only."""
    pid = os.fork()
    if pid == 0:
        burn(0.5, 0.1)
        os._exit(0)
    os.waitpid(pid, 0)


def threads(names: list[bytes]) -> list[dict[str, object]]:
    """Threads that renamed themselves, the first of them busier than the rest."""
    told: list[dict[str, object]] = []
    barrier = threading.Barrier(len(names) + 1)

    def body(name: bytes, user: float) -> None:
        rename(name)
        burn(user, user / 2, resource.RUSAGE_THREAD)
        usage = resource.getrusage(resource.RUSAGE_THREAD)
        told.append(
            {
                "tid": threading.get_native_id(),
                "name": own_name(),
                "cpu": usage.ru_utime + usage.ru_stime,
            }
        )
        barrier.wait()
        threading.Event().wait()

    for number, name in enumerate(names):
        threading.Thread(target=body, args=(name, 0.1 if not number else 0.0), daemon=True).start()
    barrier.wait()
    return told


def memory() -> None:
    """Reserved, resident for a while, resident, shared, locked: each of another size."""

    def private(mib: int) -> mmap.mmap:
        return mmap.mmap(-1, mib * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    reserved, once, kept, shared = private(256), private(48), private(20), mmap.mmap(-1, 8 * MIB)
    for touched in (once, kept, shared):
        touched.write(b"x" * len(touched))
    once.close()
    first = ctypes.addressof(ctypes.c_char.from_buffer(shared))
    assert libc.mlock(ctypes.c_void_p(first), 2 * MIB) == 0
    KEPT.extend((reserved, kept, shared, first))


def files(folder: str) -> dict[str, object]:
    """Storage written and read back, positions that differ, and a mapping at an offset."""
    path = os.path.join(folder, "storage")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    for _ in range(5):
        os.write(fd, b"s" * 40_000)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.lseek(fd, 0, os.SEEK_SET)
    for _ in range(3):
        os.read(fd, 30_000)
    mapped = mmap.mmap(fd, 3 * mmap.PAGESIZE, prot=mmap.PROT_READ, offset=8 * mmap.PAGESIZE)
    KEPT.append(mapped)
    gone = os.path.join(folder, "unlinked\nmap")
    other = os.open(gone, os.O_RDWR | os.O_CREAT)
    os.write(other, b"g" * mmap.PAGESIZE)
    KEPT.append(mmap.mmap(other, mmap.PAGESIZE))
    os.unlink(gone)
    os.mkfifo(os.path.join(folder, "fifo"))
    special = {
        "fifo": os.open(os.path.join(folder, "fifo"), os.O_RDWR | os.O_NONBLOCK),
        "dir": os.open(folder, os.O_RDONLY),
        "char": os.open("/dev/null", os.O_WRONLY),
        "anon": os.eventfd(3),
        "memfd": os.memfd_create("own"),
        "socket": socket.socket(socket.AF_UNIX).detach(),
        "pipe": os.pipe()[0],
        "path": os.open(path, os.O_PATH),
    }
    return {"kinds": special, "mapped": [path, 8 * mmap.PAGESIZE, 3 * mmap.PAGESIZE]}


def limits() -> None:
    for number, name in enumerate(sorted(LIMITS)):
        which = getattr(resource, name)
        soft, hard = resource.getrlimit(which)
        if name == "RLIMIT_CORE":
            resource.setrlimit(which, (4096, 8192))
        elif name == "RLIMIT_NOFILE":
            resource.setrlimit(which, (512, 513))
        elif hard == resource.RLIM_INFINITY:
            finite = (1 << 39) + number if soft == resource.RLIM_INFINITY else soft
            resource.setrlimit(which, (finite, (1 << 40) + number))
        elif hard > number:
            resource.setrlimit(which, (hard - number - 1, hard))


def capabilities() -> None:
    """Sets that differ: capset(2) of three, and chown is ambient; sys_boot left the bounding set before."""
    effective, permitted, inheritable = 1 << 5 | 1 << 7, 1 << 5 | 1 << 7 | 1, 1 << 6 | 1
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)(effective, permitted, inheritable, 0, 0, 0)
    assert libc.capset(header, sets) == 0
    assert prctl(PR_CAP_AMBIENT, 2, 0) == 0


class Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def seccomp() -> None:
    """A filter of one instruction that allows everything."""
    code = (ctypes.c_uint64 * 1)(0x7FFF0000_00000006)
    program = Filter(1, ctypes.cast(code, ctypes.c_void_p))
    assert prctl(PR_SET_NO_NEW_PRIVS, 1) == 0
    assert libc.prctl(PR_SET_SECCOMP, 2, ctypes.byref(program), 0, 0) == 0


def capability_account() -> dict[str, list[int]]:
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    masks = {
        "effective": sets[0] | sets[3] << 32,
        "permitted": sets[1] | sets[4] << 32,
        "inheritable": sets[2] | sets[5] << 32,
    }
    told = {name: [bit for bit in range(64) if mask >> bit & 1] for name, mask in masks.items()}
    told["bounding"] = [bit for bit in range(64) if prctl(PR_CAPBSET_READ, bit) == 1]
    told["ambient"] = [bit for bit in range(64) if prctl(PR_CAP_AMBIENT, 1, bit) == 1]
    return told


def descriptor_account() -> dict[int, dict[str, object]]:
    told: dict[int, dict[str, object]] = {}
    for fd in range(4096):
        try:
            cloexec = fcntl.fcntl(fd, fcntl.F_GETFD)
        except OSError:
            continue
        status = os.fstat(fd)
        regular = stat.S_ISREG(status.st_mode)
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        told[fd] = {
            "inode": status.st_ino,
            "size": status.st_size if regular else None,
            "position": os.lseek(fd, 0, os.SEEK_CUR) if regular and not flags & os.O_PATH else None,
            "flags": flags | (os.O_CLOEXEC if cloexec else 0),
            "links": status.st_nlink,
        }
    return told


def account(role: str, told: dict[str, object]) -> dict[str, object]:
    told |= {
        "role": role,
        "name": own_name(),
        "pid": os.getpid(),
        "parent": os.getppid(),
        "uids": os.getresuid(),
        "gids": os.getresgid(),
        "groups": os.getgroups(),
        "cwd": os.getcwd(),
        "argv": sys.orig_argv,
        "exe": PROGRAM,
        "capabilities": capability_account(),
        "no_new_privs": prctl(PR_GET_NO_NEW_PRIVS) == 1,
        "seccomp": {0: "disabled", 2: "filter"}[prctl(PR_GET_SECCOMP)],
        "dumpable": prctl(PR_GET_DUMPABLE) == 1,
        "outer_pid": told.get("outer_pid", 0),
        "thread_count": threading.active_count(),
        "fds": descriptor_account(),
        "limits": [resource.getrlimit(number) for number in range(16)],
    }
    usage, mine = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_THREAD)
    told |= {
        "user": usage.ru_utime,
        "system": usage.ru_stime,
        "main": mine.ru_utime + mine.ru_stime,
        "voluntary": mine.ru_nvcsw,
        "involuntary": mine.ru_nivcsw,
    }
    return told


def worker(folder: str) -> dict[str, object]:
    # Before there are threads that would take it.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
    rename(b"a) R 1 2 (wo")
    memory()
    told = files(folder)
    child_that_burns()
    told["threads"] = threads([b"busy (io)", b"idle \xff"])
    for _ in range(150):
        time.sleep(0.0001)
    burn(0.6, 0.25)
    limits()
    with open("/proc/self/oom_score_adj", "w") as adjustment:
        adjustment.write("321")
    os.setpriority(os.PRIO_PROCESS, 0, 7)
    assert prctl(PR_CAPBSET_DROP, 22) == 0
    prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([4263, 4261, 4262])
    os.setresgid(4251, 4252, 4253)
    os.setresuid(2, 1, 3)
    capabilities()
    seccomp()
    prctl(PR_SET_DUMPABLE, 1)
    return told


def shy(folder: str) -> dict[str, object]:
    os.setsid()
    rename(b"\xff\xfe shy")
    os.chdir(folder)
    os.setpriority(os.PRIO_PROCESS, 0, -3)
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(6))
    os.setresgid(4255, 4255, 4254)
    os.setresuid(4244, 4245, 4246)
    prctl(PR_SET_DUMPABLE, 0)
    return {}


def nested(folder: str) -> dict[str, object]:
    """The first process of its PID namespace; /proc still has the outer numbers."""
    outer = int(os.readlink("/proc/self"))
    inside = os.path.join(folder, "root")
    os.makedirs(os.path.join(inside, "work"))
    os.chroot(inside)
    os.chdir("/work")
    return {"outer_pid": outer}


def on_terminal() -> dict[str, object]:
    """The leader stays in front; the subject is its child, in a group of its own."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        os.read(read, 1)
        signal.pause()
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    return {"outer_pid": os.getpid(), "terminal": os.fstat(0).st_rdev}


def main() -> None:
    role, folder = sys.argv[1:3]
    told = on_terminal() if role == "terminal" else globals()[role](folder)
    print(json.dumps(account(role, told)), flush=True)
    if role == "terminal":
        signal.pause()
    sys.stdin.read()


if __name__ == "__main__":
    main()
