"""The container a process runs in, from /proc/PID/cgroup."""

from __future__ import annotations

import os

from kdebug.annotations import Optional

_DIGITS = 64
"""containerd and docker: .../ID; systemd driver: cri-containerd-ID.scope, crio-ID.scope, docker-ID.scope;
a private cgroup namespace seen from outside: /../ID (cgroup_namespaces(7)). crio-conmon-ID.scope holds the
monitor of a container, which is outside of it."""
INITIAL_NAMESPACE = "cgroup:[4026531835]"
"""Whoever is in it sees every path whole (linux/proc_ns.h: PROC_CGROUP_INIT_INO)."""


class Containers:
    """Which container a process runs in, as one reader sees it."""

    def __init__(self, proc: str) -> None:
        self._mine, self._namespace = "", ""
        try:
            with open(
                f"{proc}/self/cgroup", encoding="utf-8", errors="surrogateescape", newline=""
            ) as file:
                mine = file.read()
            namespace = os.readlink(f"{proc}/self/ns/cgroup")
        except OSError:
            return
        if namespace != INITIAL_NAMESPACE and parse_container_id(mine) is None:
            self._mine, self._namespace = mine, namespace

    def of(self, text: str) -> Optional[str]:
        """From its /proc/PID/cgroup: the id, or None outside containers.

        With cgroup v2 a runtime gives each container a private cgroup namespace, which hides its own path
        from whoever is in it. Then the namespace is what it is called, and what has our path is in it.
        """
        found = parse_container_id(text)
        return self._namespace if found is None and self._mine == text != "" else found


def parse_container_id(text: str) -> Optional[str]:
    """The 64 hex digits of the innermost container, from any hierarchy; None outside containers.

    None as well for a reader inside the same private cgroup namespace, who sees only "/".
    """
    # Not splitlines(): a cgroup's name may hold what Python, not the kernel, takes for a line end.
    for line in text.split("\n"):
        for name in reversed(line.split(":", 2)[-1].split("/")):
            found = _id_in(name.removesuffix(".scope"))
            if found:
                return found
    return None


def _id_in(name: str) -> str:
    """The id at the end of one cgroup's name; "" when there is none."""
    before, found = name[:-_DIGITS], name[-_DIGITS:]
    if len(found) < _DIGITS or found.strip("0123456789abcdef") or before.endswith("conmon-"):
        return ""
    return found if before[-1:] in ("", ":", "-") else ""
