"""One pod's life: sandbox, containers, restarts, end. The order and the words are the kubelet's."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..facade.store import timestamp
from . import cgroups, status, translate
from .cri import EXITED, RUNNING, CriError, Observed
from .pulling import Waiting

if TYPE_CHECKING:
    from .kubelet import Kubelet

Object = dict[str, Any]


class Worker:
    def __init__(self, kubelet: Kubelet, pod: Object) -> None:
        self._kubelet = kubelet
        self._cri, self._store = kubelet.cri, kubelet.store
        self.pod = pod
        """The newest version seen; kept after the object is gone, because its containers are not."""
        metadata = pod["metadata"]
        self.namespace, self.name, self.uid = metadata["namespace"], metadata["name"], metadata["uid"]
        where = f"{self.namespace}_{self.name}_{self.uid}"
        self.logs = kubelet.runtime.folder / "logs" / where
        self._volumes = kubelet.runtime.folder / "volumes" / self.uid
        self.sandbox = ""
        self._sandbox_config: Any = None
        self.facts = status.Facts(host_address=kubelet.address, started=timestamp())
        self._delays: dict[str, float] = {}
        """Restart back-off by container name, doubled at each restart."""
        self.wake = asyncio.Event()

    async def run(self) -> None:
        relisted = True
        while self._refresh():
            self.wake.clear()
            try:
                await self._observe()
                if relisted:  # what a change of spec does now is published at the next relist only
                    self._publish()
                await self._sync()
            except CriError as problem:
                self._record("FailedSync", f"error syncing pod: {problem}", warning=True)
            relisted = await self._rest()
        await self._end()

    def _refresh(self) -> bool:
        """False when the pod is to end: deleted, replaced by a namesake, or on its way out."""
        found = self._store.find("pods", self.namespace, self.name)
        if found is None or found["metadata"]["uid"] != self.uid:
            return False
        self.pod = found
        return "deletionTimestamp" not in found["metadata"]

    async def _rest(self) -> bool:
        """Until the spec changes (false), or it is time to relist (true)."""
        try:
            await asyncio.wait_for(self.wake.wait(), self._kubelet.until_relist())
        except asyncio.TimeoutError:
            return True
        return False

    def _record(self, reason: str, message: str, field: str = "", warning: bool = False) -> None:
        self._kubelet.events.record(self.pod, reason, message, field, warning)

    async def _sync(self) -> None:
        if not self.sandbox:
            await self._make_sandbox()
        spec = self.pod["spec"]
        for container in spec.get("ephemeralContainers") or []:
            if self._known(container).latest is None:
                await self._start(container, 0, f"spec.ephemeralContainers{{{container['name']}}}")
        for container in spec["containers"]:
            await self._keep(container)

    def _known(self, container: Object) -> status.Known:
        return self.facts.containers.setdefault(container["name"], status.Known())

    async def _make_sandbox(self) -> None:
        for volume in self.pod["spec"].get("volumes") or []:
            self._make_volume(volume)
        cgroups.make(self.pod, self._kubelet.runtime.name)
        self.logs.mkdir(parents=True, exist_ok=True)
        group = cgroups.path_of(self.pod, self._kubelet.runtime.name)
        config = translate.sandbox_config(self.pod, group, self._kubelet.runtime.inside(self.logs))
        try:
            self.sandbox = await self._cri.run_sandbox(config)
        except CriError as problem:
            self._record("FailedCreatePodSandBox", f"Failed to create pod sandbox: {problem}", warning=True)
            raise
        self._sandbox_config = config
        address = await self._cri.sandbox_address(self.sandbox)
        self.facts.address = address or self._kubelet.address

    def _make_volume(self, volume: Object) -> None:
        folder = self._volumes / volume["name"]
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)
        group = (self.pod["spec"].get("securityContext") or {}).get("fsGroup")
        if group is not None:
            os.chown(folder, -1, group)
            folder.chmod(0o2777)

    def _volume_paths(self) -> dict[str, str]:
        paths = {}
        for volume in self.pod["spec"].get("volumes") or []:
            host = (volume.get("hostPath") or {}).get("path")
            paths[volume["name"]] = host or self._kubelet.runtime.inside(self._volumes / volume["name"])
        return paths

    async def _observe(self) -> None:
        if not self.sandbox:
            return
        by_name: dict[str, list[Observed]] = {}
        for one in await self._cri.containers(self.sandbox):
            by_name.setdefault(one.name, []).append(one)
        for name, instances in by_name.items():
            known = self.facts.containers.setdefault(name, status.Known())
            for outdated in instances[:-2]:
                await self._cri.remove(outdated.id)
            if known.latest is None or known.latest.id != instances[-1].id:
                await self._describe(known, instances[-1])
            known.latest = instances[-1]
            known.previous = instances[-2] if len(instances) > 1 else None

    async def _describe(self, known: status.Known, one: Observed) -> None:
        spec = await self._cri.spec(one.id)
        user = (spec.get("process") or {}).get("user") or {}
        uid, gid = user.get("uid", 0), user.get("gid", 0)
        groups = user.get("additionalGids") or []
        if self._kubelet.tells_user:
            known.user = {"uid": uid, "gid": gid, "supplementalGroups": sorted({gid, *groups})}
        known.image_id = one.image_ref

    async def _keep(self, container: Object) -> None:
        """Start a container that should run and does not, unless it has to wait for that."""
        known, field = self._known(container), f"spec.containers{{{container['name']}}}"
        latest = known.latest
        if latest is None:
            await self._start(container, 0, field)
            return
        policy = self.pod["spec"].get("restartPolicy", "Always")
        may_restart = policy == "Always" or (policy == "OnFailure" and latest.exit_code != 0)
        if latest.state != EXITED or not may_restart:
            return
        delay = self._delays.get(container["name"], 0.0)
        if time.time() - latest.finished_at / 1e9 < delay:
            where = f"{self.name}_{self.namespace}({self.uid})"
            message = f"back-off {delay:g}s restarting failed container={container['name']} pod={where}"
            known.waiting = "CrashLoopBackOff", message
            text = f"Back-off restarting failed container {container['name']} in pod {where}"
            self._record("BackOff", text, field, warning=True)
            return
        longest, first = 300.0, self._kubelet.backoff
        self._delays[container["name"]] = min(delay * 2, longest) if delay else first
        await self._start(container, latest.attempt + 1, field)

    async def _start(self, container: Object, attempt: int, field: str) -> None:
        known = self._known(container)
        try:
            await self._create_and_start(container, attempt, field)
        except Waiting as waiting:
            known.waiting = waiting.reason, waiting.message
        else:
            known.waiting = None

    async def _create_and_start(self, container: Object, attempt: int, field: str) -> None:
        def record(reason: str, message: str, warning: bool) -> None:
            self._record(reason, message, field, warning)

        def failed(reason: str, message: str) -> Waiting:
            record("Failed", f"Error: {message}", True)
            return Waiting(reason, message)

        name = container["name"]
        image = await self._kubelet.puller.image(self.uid, container, record)
        if objection := translate.non_root_objection(self.pod, container, image):
            raise failed("CreateContainerConfigError", objection)
        target = self._target_id(container.get("targetContainerName", ""), failed)
        config = translate.container_config(
            self.pod, container, image, attempt, self._volume_paths(), target
        )
        (self.logs / name).mkdir(exist_ok=True)
        try:
            made = await self._cri.create(self.sandbox, config, self._sandbox_config)
        except CriError as problem:
            raise failed("CreateContainerError", str(problem)) from None
        record("Created", f"Created container: {name}", False)
        try:
            await self._cri.start(made)
        except CriError as problem:
            raise failed("RunContainerError", str(problem)) from None
        record("Started", f"Started container {name}", False)
        await self._observe()

    def _target_id(self, target: str, failed: Any) -> str:
        if not target:
            return ""
        latest = self.facts.containers.get(target, status.Known()).latest
        if latest is None:
            raise failed("CreateContainerConfigError", f"unable to find target container {target}")
        return latest.id

    def _publish(self) -> None:
        found = self._store.find("pods", self.namespace, self.name)
        if found is None or found["metadata"]["uid"] != self.uid or not self._kubelet.publishing:
            return
        new = status.of_pod(found, self.facts, timestamp())
        self._store.modify("pods", self.namespace, self.name, lambda pod: pod.__setitem__("status", new))

    async def _end(self) -> None:
        grace = self.pod["metadata"].get("deletionGracePeriodSeconds")
        found = self._store.find("pods", self.namespace, self.name)
        mine = found is not None and found["metadata"]["uid"] == self.uid
        if mine and found is not None:
            grace = found["metadata"].get("deletionGracePeriodSeconds")
        await self._stop_everything(int(grace or 0) if mine else 0)
        found = self._store.find("pods", self.namespace, self.name)
        if found is not None and found["metadata"]["uid"] == self.uid:
            self._publish()
            self._store.delete("pods", self.namespace, self.name)
        self.remove_files()

    async def _stop_everything(self, grace: int) -> None:
        if not self.sandbox:
            return
        running = [one for one in await self._cri.containers(self.sandbox) if one.state == RUNNING]
        for one in running:
            self._record("Killing", f"Stopping container {one.name}", f"spec.containers{{{one.name}}}")
        stops = (self._cri.stop(one.id, grace) for one in running)
        await asyncio.gather(*stops, return_exceptions=True)
        try:
            await self._observe()
            await self._cri.remove_sandbox(self.sandbox)
        except CriError as problem:
            self._record("FailedKillPod", f"error killing pod: {problem}", warning=True)

    def remove_files(self) -> None:
        cgroups.remove(self.pod, self._kubelet.runtime.name)
        for folder in (self.logs, self._volumes):
            shutil.rmtree(folder, ignore_errors=True)

    def log_file(self, container: str, attempt: int) -> Path:
        return self.logs / container / f"{attempt}.log"
