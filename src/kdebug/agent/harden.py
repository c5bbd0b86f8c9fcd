"""Make the agent the first to die and the last to be tampered with.

Order matters (measured, facts.md): a non-dumpable process' /proc files belong to root, so writing
oom_score_adj after PR_SET_DUMPABLE fails with EACCES for everyone else.

Done before anything else is loaded, for until then a process of the same uid may open our pipes through
/proc; so nothing but os is imported here, and of ctypes only its core, which hold can afford, too.
"""

import os

FIRST_TO_DIE = b"1000"
"""proc(5), oom_score_adj: the highest value; raising needs no privilege."""
PR_SET_DUMPABLE = 4


def harden() -> "list[str]":
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
        become_undumpable()
    except (OSError, ImportError) as error:
        failures.append(f"the agent could not become non-dumpable: {error}")
    return failures


def become_undumpable() -> None:
    """prctl(2), PR_SET_DUMPABLE: hides memory, root and descriptors from processes of this uid."""
    import _ctypes

    prctl = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")  # type: ignore[arg-type]
    if _ctypes.call_function(prctl, (PR_SET_DUMPABLE, 0, 0, 0, 0)) != 0:
        raise OSError("prctl refused")
