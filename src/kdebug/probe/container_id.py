"""The container a process runs in, from /proc/PID/cgroup."""

from __future__ import annotations

import re
from typing import Optional

_ID = re.compile(r"(?:^|[/:-])(?<!conmon-)([0-9a-f]{64})(?:\.scope)?(?=/|$)")
"""containerd and docker: .../ID; systemd driver: cri-containerd-ID.scope, crio-ID.scope, docker-ID.scope;
a private cgroup namespace seen from outside: /../ID (cgroup_namespaces(7)). crio-conmon-ID.scope holds the
monitor of a container, which is outside of it."""


def parse_container_id(text: str) -> Optional[str]:
    """The 64 hex digits of the innermost container, from any hierarchy; None outside containers.

    None as well for a reader inside the same private cgroup namespace, who sees only "/".
    """
    # Not splitlines(): a cgroup's name may hold what Python, not the kernel, takes for a line end.
    for line in text.split("\n"):
        path = line.split(":", 2)[-1]
        found = _ID.findall(path)
        if found:
            return str(found[-1])
    return None
