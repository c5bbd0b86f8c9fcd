#!/usr/bin/python3 -IS
"""kdebug-reap COMMAND...: run a command in a pod and leave no zombie to the target.

In a shared PID namespace an orphan becomes a child of the target's PID 1, and a zombie when it ends,
for few services reap what they did not start. This wrapper makes itself the reaper of all that the
command leaves (prctl(2), PR_SET_CHILD_SUBREAPER), ends it when the command ends, and returns its code.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)


def run(command):
    """Fork and exec; 127 and 126 as a shell has them (POSIX, 2.8.2)."""
    pid = os.fork()
    if pid:
        return pid
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for number in FORWARDED:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"kdebug-reap: {command[0]}: {error.strerror}\n".encode())
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def children():
    """Direct children, orphans that were adopted included (proc(5), task/TID/children)."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]


def reap_until(pid):
    """Reap whatever ends; returns the code of `pid` once it has ended."""
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


def end_the_rest():
    """Kill and reap what the command left behind, and what that leaves behind."""
    while True:
        try:
            left = children()
        except OSError:
            left = []
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def main():
    if len(sys.argv) < 2:
        os.write(2, b"usage: kdebug-reap COMMAND [ARGUMENT...]\n")
        return 2
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    pid = run(sys.argv[1:])
    for number in FORWARDED:
        signal.signal(number, lambda received, frame: os.kill(pid, received))
    code = reap_until(pid)
    end_the_rest()
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main())
