"""Private cgroup namespaces, which runtimes give to containers with cgroup v2: nobody sees the id of the
container that he is in."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdebug.probe.container_id import INITIAL_NAMESPACE, Containers

TARGET, OTHER = "0123456789abcdef" * 4, "f" * 64
PRIVATE = "cgroup:[4026532811]"


def fake_proc(folder: Path, cgroup: str, namespace: str) -> str:
    (folder / "self" / "ns").mkdir(parents=True)
    (folder / "self" / "cgroup").write_text(cgroup)
    (folder / "self" / "ns" / "cgroup").symlink_to(namespace)
    return str(folder)


@pytest.mark.parametrize(
    ("mine", "namespace", "cgroup", "container"),
    [
        ("0::/\n", PRIVATE, "0::/\n", PRIVATE),
        ("0::/\n", PRIVATE, f"0::/../cri-containerd-{TARGET}.scope\n", TARGET),
        ("0::/\n", PRIVATE, f"0::/../{TARGET}\n", TARGET),
        ("0::/\n", PRIVATE, f"0::/../crio-{TARGET}.scope/container\n", TARGET),
        ("0::/container\n", PRIVATE, "0::/container\n", PRIVATE),
        ("0::/\n", PRIVATE, "0::/../../../system.slice/kubelet.service\n", None),
        ("0::/\n", INITIAL_NAMESPACE, "0::/\n", None),
        (f"0::/kubepods/{OTHER}\n", INITIAL_NAMESPACE, f"0::/kubepods/{OTHER}\n", OTHER),
        ("", PRIVATE, "", None),
    ],
)
def test_the_container_of_a_process(
    tmp_path: Path, mine: str, namespace: str, cgroup: str, container: str | None
) -> None:
    assert Containers(fake_proc(tmp_path, mine, namespace)).of(cgroup) == container


def test_where_the_kernel_shows_no_cgroups_nothing_is_guessed(tmp_path: Path) -> None:
    assert Containers(str(tmp_path)).of("") is None


AGENT = """
import json, os, sys
from kdebug.probe.identity import find_target, target_info
from kdebug.probe.process_table import ProcessTable
pid, container = int(sys.argv[1]), sys.argv[2]
found = find_target("/proc", 0, container)
info = target_info("/proc", found, False)
table = ProcessTable(target_pid=os.getpid(), user_name=lambda uid, container: None)
seen = [table.one(one).container for one in (os.getpid(), pid, os.getppid())]
own = target_info("/proc", find_target("/proc", os.getpid(), ""), False).agent_container
beside = target_info("/proc", find_target("/proc", int(sys.argv[3]), ""), False).agent_container
print(json.dumps([found.pid, info.agent_container, seen, own, beside, os.readlink("/proc/self/ns/cgroup")]))
"""
PLACE = Path("/sys/fs/cgroup/pids" if os.path.isdir("/sys/fs/cgroup/pids") else "/sys/fs/cgroup")


@contextlib.contextmanager
def sleeping(*cgroups: Path) -> Iterator[list[int]]:
    """A process in each of these."""
    with contextlib.ExitStack() as stack:
        pids = []
        for cgroup in cgroups:
            cgroup.mkdir()
            stack.callback(cgroup.rmdir)
            process = stack.enter_context(subprocess.Popen(["sleep", "60"]))
            stack.callback(process.wait)
            stack.callback(process.kill)
            (cgroup / "cgroup.procs").write_text(str(process.pid))
            pids.append(process.pid)
        yield pids


@pytest.mark.skipif(os.geteuid() != 0 or not os.access(PLACE, os.W_OK), reason="makes cgroups: takes root")
def test_an_agent_in_a_private_cgroup_namespace_knows_its_own(tmp_path: Path) -> None:
    """`kdebug sessions` finds its hold by it, and no finding counts kdebug's own processes."""
    pod = PLACE / f"kdebug-test-{os.getpid()}"
    pod.mkdir()
    try:
        with sleeping(pod / TARGET, pod / "toolbox") as (target, beside):
            enter = f'echo $$ > {pod}/toolbox/cgroup.procs; exec unshare --cgroup "$@"'
            command = [sys.executable, "-c", AGENT, str(target), TARGET, str(beside)]
            done = subprocess.run(["sh", "-c", enter, "sh", *command], stdout=subprocess.PIPE, check=True)
    finally:
        pod.rmdir()
    found, agent, seen, own, in_it, namespace = json.loads(done.stdout)
    assert found == target and agent == own == namespace
    assert seen == [namespace, TARGET, None]
    assert in_it is None  # beside the target in one container, as `local:` is, nothing is kdebug's alone
