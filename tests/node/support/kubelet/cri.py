"""The runtime's own interface (CRI over gRPC), with the handful of calls that a kubelet makes."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

# Its fork handlers crash the children of tests that fork, and nobody uses gRPC in a child. Read at import.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

import grpc  # noqa: E402
import grpc.aio  # noqa: E402
from cri_api.v1 import api_pb2 as api  # noqa: E402
from cri_api.v1 import api_pb2_grpc as services  # noqa: E402

SECONDS = 60
GATHERING_SECONDS = 0.002
"""The workers of all pods relist in the same moment."""
SETTLING_SECONDS = 5
RUNNING, EXITED = api.ContainerState.CONTAINER_RUNNING, api.ContainerState.CONTAINER_EXITED


class CriError(Exception):
    """The runtime refused. The text is its own, as the kubelet would show it."""


@dataclass(frozen=True)
class Observed:
    """A container as the runtime knows it."""

    id: str
    name: str
    attempt: int
    state: int
    started_at: int
    finished_at: int
    exit_code: int
    reason: str
    message: str
    image_ref: str
    log_path: str


def _just_ended(one: Observed) -> bool:
    """That the memory was used up may be noted after the end itself."""
    return one.state == EXITED and time.time() - one.finished_at / 1e9 < SETTLING_SECONDS


class Shared:
    """One answer for everybody who asks before the question is put: never older than anyone's question."""

    def __init__(self, ask: Callable[[], Awaitable[list[api.Container]]]) -> None:
        self._ask = ask
        self._unasked: asyncio.Task[list[api.Container]] | None = None

    async def shared(self) -> list[api.Container]:
        if self._unasked is None:
            self._unasked = asyncio.create_task(self._put())
        return await asyncio.shield(self._unasked)

    def close(self) -> None:
        if self._unasked is not None:
            self._unasked.cancel()

    async def _put(self) -> list[api.Container]:
        await asyncio.sleep(GATHERING_SECONDS)
        self._unasked = None
        return await self._ask()


class Cri:
    def __init__(self, socket: str) -> None:
        # Large listings are not expected, but a limit that fails a test run would be nobody's finding.
        self._channel = grpc.aio.insecure_channel(
            f"unix:{socket}", [("grpc.max_receive_message_length", 1 << 26)]
        )
        self._runtime = services.RuntimeServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._images = services.ImageServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._list = Shared(self._list_containers)
        self._known: dict[str, Observed] = {}
        """By id: a container changes with its state only, or a moment after its end."""

    async def close(self) -> None:
        self._list.close()
        await self._channel.close()

    async def _call(self, method: Any, request: Any) -> Any:
        try:
            return await method(request, timeout=SECONDS)
        except grpc.aio.AioRpcError as problem:
            raise CriError(problem.details()) from problem

    async def network_ready(self) -> bool:
        answer = await self._call(self._runtime.Status, api.StatusRequest())
        return all(condition.status for condition in answer.status.conditions)

    async def version(self) -> str:
        answer = await self._call(self._runtime.Version, api.VersionRequest())
        return f"{answer.runtime_name}://{answer.runtime_version}"

    async def run_sandbox(self, config: api.PodSandboxConfig) -> str:
        answer = await self._call(self._runtime.RunPodSandbox, api.RunPodSandboxRequest(config=config))
        return str(answer.pod_sandbox_id)

    async def sandbox_address(self, sandbox: str) -> str:
        request = api.PodSandboxStatusRequest(pod_sandbox_id=sandbox)
        answer = await self._call(self._runtime.PodSandboxStatus, request)
        return str(answer.status.network.ip)

    async def remove_sandbox(self, sandbox: str) -> None:
        await self._call(self._runtime.StopPodSandbox, api.StopPodSandboxRequest(pod_sandbox_id=sandbox))
        await self._call(
            self._runtime.RemovePodSandbox, api.RemovePodSandboxRequest(pod_sandbox_id=sandbox)
        )

    async def create(self, sandbox: str, config: api.ContainerConfig, pod: api.PodSandboxConfig) -> str:
        request = api.CreateContainerRequest(pod_sandbox_id=sandbox, config=config, sandbox_config=pod)
        return str((await self._call(self._runtime.CreateContainer, request)).container_id)

    async def start(self, container: str) -> None:
        await self._call(self._runtime.StartContainer, api.StartContainerRequest(container_id=container))

    async def stop(self, container: str, grace: int) -> None:
        request = api.StopContainerRequest(container_id=container, timeout=grace)
        try:
            await self._runtime.StopContainer(request, timeout=grace + SECONDS)
        except grpc.aio.AioRpcError as problem:
            raise CriError(problem.details()) from problem

    async def remove(self, container: str) -> None:
        await self._call(self._runtime.RemoveContainer, api.RemoveContainerRequest(container_id=container))

    async def containers(self, sandbox: str) -> list[Observed]:
        """Everything the sandbox holds, oldest attempt first. Asked for in detail is what has changed."""
        found = [one for one in await self._list.shared() if one.pod_sandbox_id == sandbox]
        return [
            await self._observed(one)
            for one in sorted(found, key=lambda one: (one.metadata.name, one.metadata.attempt))
        ]

    async def _list_containers(self) -> list[api.Container]:
        answer = await self._call(self._runtime.ListContainers, api.ListContainersRequest())
        listed = {one.id for one in answer.containers}
        self._known = {key: known for key, known in self._known.items() if key in listed}
        return list(answer.containers)

    async def _observed(self, listed: api.Container) -> Observed:
        known = self._known.get(listed.id)
        if known is None or known.state != listed.state or _just_ended(known):
            known = self._known[listed.id] = await self._observe(listed.id)
        return known

    async def _observe(self, container: str) -> Observed:
        request = api.ContainerStatusRequest(container_id=container)
        status = (await self._call(self._runtime.ContainerStatus, request)).status
        return Observed(
            container,
            status.metadata.name,
            status.metadata.attempt,
            status.state,
            status.started_at,
            status.finished_at,
            status.exit_code,
            status.reason,
            status.message,
            status.image_ref,
            status.log_path,
        )

    async def spec(self, container: str) -> dict[str, Any]:
        """The runtime specification the container was made from: who it really runs as."""
        request = api.ContainerStatusRequest(container_id=container, verbose=True)
        answer = await self._call(self._runtime.ContainerStatus, request)
        document: dict[str, Any] = json.loads(answer.info["info"])
        return dict(document.get("runtimeSpec") or {})

    async def image(self, name: str) -> api.Image | None:
        request = api.ImageStatusRequest(image=api.ImageSpec(image=name))
        answer = await self._call(self._images.ImageStatus, request)
        return answer.image if answer.HasField("image") else None

    async def images(self) -> list[api.Image]:
        return list((await self._call(self._images.ListImages, api.ListImagesRequest())).images)

    async def pull(self, name: str) -> None:
        await self._call(self._images.PullImage, api.PullImageRequest(image=api.ImageSpec(image=name)))

    async def exec_url(self, request: api.ExecRequest) -> str:
        return str((await self._call(self._runtime.Exec, request)).url)

    async def attach_url(self, request: api.AttachRequest) -> str:
        return str((await self._call(self._runtime.Attach, request)).url)
