"""Make the agent the first to die and the last to be tampered with.

Order matters (measured, facts.md): a non-dumpable process' /proc files belong to root, so writing
oom_score_adj after PR_SET_DUMPABLE fails with EACCES for everyone else.
"""

from __future__ import annotations

import os

from kdebug.probe import syscalls

FIRST_TO_DIE = b"1000"
"""proc(5), oom_score_adj: the highest value; raising needs no privilege."""


def harden() -> list[str]:
    """Raise oom_score_adj, then become non-dumpable. Returns what failed, in one line each."""
    failures = []
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, FIRST_TO_DIE)
        finally:
            os.close(fd)
    except OSError as error:
        failures.append(f"oom_score_adj could not be raised: {error.strerror}")
    try:
        syscalls.set_dumpable(False)
    except OSError as error:
        failures.append(f"the agent could not become non-dumpable: {error.strerror}")
    return failures
