"""The test node: a `Cluster` of our own making, with the back doors that tests need.

One per test session: containerd in namespaces of its own, the kubelet and the API facade on an event
loop in a thread. Whatever is changed here from Python takes effect at once for every client.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml

from .certificates import Authority
from .cluster import Cluster, Object, container_status
from .facade.access import User
from .facade.faults import Faults
from .facade.server import NODE, WINDOWS_NODE, Facade
from .facade.store import timestamp
from .kubelet import cgroups
from .runtime import Runtime

T = TypeVar("T")

ENGINEER = "engineer"
"""The user of `Node.engineer`: permitted everything until a test forbids something."""


class Loop:
    """An event loop in a thread of its own, called from the tests."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.problems: list[str] = []
        """What went wrong in the node itself; a test session with any of these is not to be trusted."""
        self.loop.set_exception_handler(self._note)
        self._thread = threading.Thread(target=self.loop.run_forever, name="test node", daemon=True)
        self._thread.start()

    def _note(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        problem = context.get("exception")
        self.problems.append(
            f"{context['message']}: {type(problem).__name__ if problem else ''} {problem or ''}"
        )

    def run(self, coroutine: Coroutine[Any, Any, T], seconds: float = 30) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(seconds)

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        async def on_the_loop() -> T:
            return function(*arguments)

        return self.run(on_the_loop())

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)


class Node(Cluster):
    name, windows_name = NODE, WINDOWS_NODE

    def __init__(self, folder: Path) -> None:
        """Start everything. `folder` is for certificates and kubeconfigs."""
        self.folder = folder
        self.runtime = Runtime()
        self.runtime.start()
        self._loop = Loop()
        self._others: list[Cluster] = []
        try:
            self.authority = Authority(folder)
            self.facade = self._loop.call(Facade, self.runtime, self.authority.server_context())
            self._loop.run(self._ready())
            self._loop.run(self.facade.listen())
            self._admin = self.facade.access.add("kubernetes-admin")
            super().__init__(self.write_kubeconfig("admin", self._admin))
            self.engineer = self.user(ENGINEER)
            """A kubeconfig whose permissions tests change."""
        except BaseException:
            self._loop.close()
            self.runtime.stop()
            raise

    async def _ready(self) -> None:
        while not await self.facade.kubelet.cri.network_ready():
            await asyncio.sleep(0.02)
        version = await self.facade.kubelet.cri.version()
        for namespace in ("default", "kube-system"):
            metadata = {"name": namespace, "labels": {"kubernetes.io/metadata.name": namespace}}
            document = {"kind": "Namespace", "apiVersion": "v1", "metadata": metadata}
            self.facade.store.create("namespaces", {**document, "spec": {}, "status": {"phase": "Active"}})
        for name, system in ((NODE, "linux"), (WINDOWS_NODE, "windows")):
            self.facade.store.create("nodes", node_object(name, system, version))

    @property
    def faults(self) -> Faults:
        return self.facade.faults

    @property
    def problems(self) -> list[str]:
        return self._loop.problems

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.facade.port}"

    def write_kubeconfig(
        self, name: str, user: User | Object, ca: Path | None = None, server: str = ""
    ) -> Path:
        """A kubeconfig for a user of the node, or with any `user` entry (exec plugin, certificate, ...)."""
        entry = {"token": user.token} if isinstance(user, User) else user
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "node",
            "clusters": [
                {
                    "name": "node",
                    "cluster": {
                        "server": server or self.server,
                        "certificate-authority": str(ca or self.authority.certificate),
                    },
                }
            ],
            "users": [{"name": name, "user": entry}],
            "contexts": [{"name": "node", "context": {"cluster": "node", "user": name}}],
        }
        path = self.folder / f"{name}.kubeconfig"
        path.write_text(yaml.safe_dump(document))
        path.chmod(0o600)
        return path

    def user(self, name: str, everything: bool = True) -> Path:
        """The kubeconfig of a new user, who may do everything or (to be permitted more) nothing."""
        return self.write_kubeconfig(name, self._loop.call(self.facade.access.add, name, everything))

    def user_with_certificate(self, name: str) -> Path:
        self._loop.call(self.facade.access.add, name)
        certificate, key = self.authority.issue(name)
        return self.write_kubeconfig(name, {"client-certificate": str(certificate), "client-key": str(key)})

    def connect(self, kubeconfig: Path) -> Cluster:
        """The API as another user sees it; closed with the node."""
        self._others.append(Cluster(kubeconfig))
        return self._others[-1]

    def as_engineer(self) -> Cluster:
        return self.connect(self.engineer)

    def permit(self, verb: str, resource: str, namespace: str = "*", user: str = ENGINEER) -> None:
        """`resource` with its subresource: `pods/exec`."""
        self._loop.call(self.facade.access.users[user].set, True, verb, resource, namespace)

    def forbid(self, verb: str, resource: str, namespace: str = "*", user: str = ENGINEER) -> None:
        self._loop.call(self.facade.access.users[user].set, False, verb, resource, namespace)

    def expire(self, user: str = ENGINEER, expired: bool = True) -> None:
        """Its token, or certificate, is answered with 401 from now on."""
        self.facade.access.users[user].expired = expired

    def cut_streams(self) -> int:
        """Cut every exec and attach stream that is open; how many there were."""
        return self._loop.call(self.faults.cut_streams)

    def stop_api(self) -> None:
        """The API server is down: nothing listens, every connection is dropped. The pods run on."""
        self._loop.run(self.facade.hang_up())

    def start_api(self) -> None:
        self._loop.run(self.facade.listen())

    def forget_history(self) -> None:
        """Watches that resume from an earlier version are told 410."""
        self._loop.call(self.facade.store.forget_history)

    def publish_status(self, on: bool) -> None:
        """Off: the kubelet works on, but its news does not reach the API server."""
        self.facade.kubelet.publishing = on

    def set_backoff(self, restart: float = 10.0, pull: float = 10.0) -> None:
        """Seconds of the first restart and image pull back-off."""
        self.facade.kubelet.backoff, self.facade.kubelet.puller.delay = restart, pull

    def calm(self) -> None:
        """Take back whatever a test switched on."""
        self.faults.clear()
        self.set_backoff()
        self.publish_status(True)
        self.facade.kubelet.tells_user = True
        for user in self.facade.access.users.values():
            user.expired = False
        self._loop.call(self.facade.access.users[ENGINEER].rules.clear)

    def container_id(self, namespace: str, pod: str, container: str) -> str:
        status = container_status(self.pod(namespace, pod), container)
        return str(status.get("containerID", "")).removeprefix("containerd://")

    def container_pids(self, namespace: str, pod: str, container: str) -> list[int]:
        """As the machine numbers them; the container's first process comes first."""
        found = self.container_id(namespace, pod, container)
        return cgroups.host_pids(found) if found else []

    def rootfs(self, namespace: str, pod: str, container: str) -> Path:
        """A running container's root, as seen from the host."""
        return Path(f"/proc/{self.container_pids(namespace, pod, container)[0]}/root")

    def rootfs_digest(self, namespace: str, pod: str, container: str) -> str:
        """Of everything in the container's own root file system but mounts: a write anywhere changes it."""
        return tree_digest(self.rootfs(namespace, pod, container))

    def close(self) -> None:
        try:
            super().close()
            for other in self._others:
                other.close()
            self._loop.run(self.facade.hang_up())
            self._loop.run(self.facade.kubelet.close())
        finally:
            self._loop.close()
            self.runtime.stop()


def node_object(name: str, system: str, runtime: str) -> Object:
    now = timestamp()
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "kubelet is posting ready status",
    }
    calm = [
        {"type": kind, "status": "False", "reason": f"KubeletHasNo{kind}", "message": ""}
        for kind in ("MemoryPressure", "DiskPressure", "PIDPressure")
    ]
    conditions = [{**one, "lastHeartbeatTime": now, "lastTransitionTime": now} for one in (*calm, ready)]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    size = {"cpu": str(os.cpu_count()), "memory": f"{memory >> 10}Ki", "pods": "110"}
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": system, "kubernetes.io/arch": "amd64"}
    info = {
        "operatingSystem": system,
        "architecture": "amd64",
        "kubeletVersion": "v1.36.2",
        "containerRuntimeVersion": runtime,
        "kernelVersion": os.uname().release,
        "osImage": "test node",
    }
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {"name": name, "labels": labels},
        "spec": {},
        "status": {
            "conditions": conditions,
            "capacity": size,
            "allocatable": size,
            "nodeInfo": info,
            "addresses": [
                {"type": "InternalIP", "address": "192.0.2.1"},
                {"type": "Hostname", "address": name},
            ],
        },
    }


def tree_digest(root: Path) -> str:
    """Names, kinds, owners, modes, times and contents below `root`, on its own file system only."""
    digest = hashlib.sha256()
    for path, found in _tree(str(root), os.stat(root).st_dev):
        facts = (
            path,
            found.st_mode,
            found.st_uid,
            found.st_gid,
            found.st_size,
            found.st_mtime_ns,
            found.st_nlink,
        )
        digest.update(repr(facts).encode())
        whole = f"{root}/{path}"
        if stat.S_ISLNK(found.st_mode):
            digest.update(os.readlink(whole).encode())
        elif stat.S_ISREG(found.st_mode):
            with open(whole, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _tree(root: str, device: int, below: str = "") -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(f"{root}/{below}") as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        path = f"{below}{name}"
        found = os.lstat(f"{root}/{path}")
        if found.st_dev != device and stat.S_ISDIR(found.st_mode):
            continue
        yield path, found
        if stat.S_ISDIR(found.st_mode):
            yield from _tree(root, device, f"{path}/")
