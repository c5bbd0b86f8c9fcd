"""Start of the practice target: `__main__.py MODE`, with the lifeline on stdin and the answer on stdout.

The first process only makes the namespaces and waits; its child is the workload's PID 1. Every module
is loaded before the root changes, for afterwards there is none to load.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401  socket looks host names up with it, once the root has changed
import json
import os
import shutil
import signal
import sys
import tempfile

# Run as a file, so that argv shows nothing of this machine's packages; -I keeps everything else out.
_HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [os.path.dirname(os.path.dirname(_HERE)), *(place for place in sys.path if place != _HERE)]

from kdebug.demo import AS_ROOT, PLAIN, USER_NAMESPACE, namespaces, tree  # noqa: E402
from kdebug.demo.title import Title, redirect_standard_streams  # noqa: E402
from kdebug.demo.workload import Workload  # noqa: E402


def workload(mode: str, title: Title, lifeline: int, ready_fd: int) -> None:
    """The body of the workload's first process."""
    namespaces.prctl(namespaces.PR_SET_PDEATHSIG, signal.SIGKILL)
    base = ""
    if mode == PLAIN:
        base = tempfile.mkdtemp(prefix="kdebug-demo-")
        tree.plant(base)
    else:
        tree.enter()
        namespaces.loopback_up()
        if mode == AS_ROOT:
            _own_the_tree()
            namespaces.become_nobody()
        namespaces.drop_capabilities()
    try:
        service = Workload(base, 0 if mode == PLAIN else 8080, title)
        # From here on errors have nobody to be told to; before, stderr reached the starter.
        redirect_standard_streams()
        service.run(lifeline, lambda: _say(ready_fd))
    finally:
        if base:
            shutil.rmtree(base, ignore_errors=True)


def _own_the_tree() -> None:
    for folder in ("/tmp", "/var/log/app", "/home/nonroot"):
        os.chown(folder, namespaces.PRACTICE_ID, namespaces.PRACTICE_ID)


def _say(ready_fd: int) -> None:
    os.write(ready_fd, b"r")
    os.close(ready_fd)


def main(mode: str) -> int:
    title = Title()
    lifeline = os.dup(0)
    ready, tell_ready = os.pipe()
    if mode == USER_NAMESPACE:
        namespaces.enter_user_namespace()
    elif mode == AS_ROOT:
        namespaces.enter_namespaces_as_root()
    pid = os.fork()
    if not pid:
        os.close(ready)
        try:
            workload(mode, title, lifeline, tell_ready)
        except OSError as error:
            os.write(2, f"{error}\n".encode())
        finally:
            os._exit(0)
    os.close(tell_ready)
    os.close(lifeline)
    if not os.read(ready, 1):
        os.waitpid(pid, 0)
        return 1
    os.write(1, json.dumps({"pid": pid}).encode() + b"\n")
    os.waitpid(pid, 0)
    return 0


if __name__ == "__main__":
    try:
        code = main(sys.argv[1])
    except OSError as error:
        os.write(2, f"{error.strerror}\n".encode())
        code = 1
    os._exit(code)
