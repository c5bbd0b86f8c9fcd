"""Pure parsers of /proc/PID files (proc(5)). Input is hostile bytes; output is bounded."""

from __future__ import annotations

from kdebug.annotations import Optional

PF_EXITING, PF_FORKNOEXEC, PF_SUPERPRIV, PF_KTHREAD = 0x4, 0x40, 0x100, 0x00200000
"""include/linux/sched.h; stat field 9."""


class Stat:
    """The fields of /proc/PID/stat that we use, in its units."""

    __slots__ = (
        "flags",
        "image",
        "name",
        "nice",
        "ppid",
        "priority",
        "process_group",
        "session",
        "start_ticks",
        "state",
        "system_ticks",
        "threads",
        "tty",
        "user_ticks",
        "vsize",
    )  # fmt: skip

    def __init__(self, name: bytes, fields: list[bytes]) -> None:
        self.name = name
        self.state = chr(fields[0][0])
        self.ppid = int(fields[1])
        self.process_group = int(fields[2])
        self.session = int(fields[3])
        self.tty = int(fields[4])
        self.flags = int(fields[6])
        self.user_ticks = int(fields[11])
        self.system_ticks = int(fields[12])
        self.priority = int(fields[15])
        self.nice = int(fields[16])
        self.threads = int(fields[17])
        self.start_ticks = int(fields[19])
        self.vsize = int(fields[20])
        self.image = b" ".join(fields[23:26:2])
        """Start of code and of stack, moved by every exec; the same for all where the reader may not
        trace."""


def parse_stat(text: bytes) -> Stat:
    """Fields after the *last* ")": the name before it may hold anything. `ValueError` on nonsense."""
    open_at, close_at = text.find(b"("), text.rfind(b")")
    fields = text[close_at + 2 :].split()
    if open_at < 0 or close_at < open_at or len(fields) < 21:
        raise ValueError("not the text of /proc/PID/stat")
    return Stat(text[open_at + 1 : close_at], fields)


def exec_mark(stat: Stat) -> tuple[bytes, int, bytes]:
    """What differs after an exec, an end or a first use of privilege (setuid), without another read.

    A change of it is a reason to read the static facts again; no change proves nothing.
    """
    return stat.name, stat.flags & (PF_EXITING | PF_FORKNOEXEC | PF_SUPERPRIV), stat.image


def parse_status(text: bytes) -> dict[bytes, bytes]:
    """/proc/PID/status as a mapping; the first line of a key wins (Name comes first and is escaped)."""
    fields: dict[bytes, bytes] = {}
    for line in text.split(b"\n"):
        key, colon, value = line.partition(b":")
        if colon:
            fields.setdefault(key, value.strip())
    return fields


def parse_owner(status: bytes) -> tuple[int, int]:
    """Effective uid and gid; the name above them cannot hold a line feed (it is escaped).

    Twenty times faster than the whole mapping. `IndexError` or `ValueError` where the lines are missing.
    """
    uids, gids = status.partition(b"\nUid:")[2], status.partition(b"\nGid:")[2]
    return int(uids.split(None, 2)[1]), int(gids.split(None, 2)[1])


def ids(value: bytes) -> tuple[int, int, int]:
    """Real, effective and saved id of a Uid: or Gid: line."""
    real, effective, saved = value.split()[:3]
    return int(real), int(effective), int(saved)


def kilobytes(fields: dict[bytes, bytes], key: bytes) -> Optional[int]:
    """A "123 kB" line in bytes; None where the kernel does not write it (kernel threads, zombies)."""
    value = fields.get(key, b"").split()
    return int(value[0]) * 1024 if value and value[0].isdigit() else None


def parse_cmdline(text: bytes) -> tuple[str, ...]:
    """Arguments as the process left them; a process that rewrote them (setproctitle) may have no NULs."""
    if not text:
        return ()
    return tuple(part.decode("utf-8", "surrogateescape") for part in text.removesuffix(b"\0").split(b"\0"))


def text_of(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
