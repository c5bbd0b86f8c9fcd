"""Image policy and pull back-off: what stands in `waiting` when an image is not to be had."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cri_api.v1 import api_pb2 as api

from .cri import Cri, CriError

REFERENCE = re.compile(
    r"([a-zA-Z0-9.-]+(:\d+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
    r"(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
"""The grammar of image names; the runtime would take a name outside it for one that is merely unknown."""

Object = dict[str, Any]
Record = Callable[[str, str, bool], None]


class Waiting(Exception):
    """A container cannot start now; reason and message are for its status."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason, self.message = reason, message


@dataclass
class _Failure:
    until: float
    delay: float
    error: str


class Puller:
    def __init__(self, cri: Cri) -> None:
        self._cri = cri
        self.delay = 10.0
        """Seconds of the first back-off; each further failure doubles it."""
        self._failures: dict[tuple[str, str], _Failure] = {}

    async def image(self, uid: str, container: Object, record: Record) -> api.Image:
        """The image of a container, or `Waiting`. `record(reason, message, warning)` writes an event."""
        name = container["image"]
        if not REFERENCE.fullmatch(name):
            why = f'couldn\'t parse image name "{name}": invalid reference format'
            message = f'Failed to apply default image tag "{name}": {why}'
            record("InspectFailed", message, True)
            raise Waiting("InvalidImageName", message)
        found = await self._cri.image(name)
        policy = container.get("imagePullPolicy", "IfNotPresent")
        if found is not None and policy != "Always":
            record("Pulled", f'Container image "{name}" already present on machine', False)
            return found
        if policy == "Never":
            message = f'Container image "{name}" is not present with pull policy of Never'
            record("ErrImageNeverPull", message, True)
            raise Waiting("ErrImageNeverPull", message)
        return await self._pull(uid, name, record)

    async def _pull(self, uid: str, name: str, record: Record) -> api.Image:
        failure = self._failures.get((uid, name))
        if failure is not None and time.monotonic() < failure.until:
            message = f'Back-off pulling image "{name}": ErrImagePull: {failure.error}'
            record("BackOff", f'Back-off pulling image "{name}"', False)
            raise Waiting("ImagePullBackOff", message)
        record("Pulling", f'Pulling image "{name}"', False)
        try:
            await self._cri.pull(name)
        except CriError as problem:
            delay = min(failure.delay * 2, 300) if failure else self.delay
            self._failures[uid, name] = _Failure(time.monotonic() + delay, delay, str(problem))
            record("Failed", f'Failed to pull image "{name}": {problem}', True)
            record("Failed", "Error: ErrImagePull", True)
            raise Waiting("ErrImagePull", str(problem)) from None
        found = await self._cri.image(name)
        if found is None:
            raise Waiting("ErrImagePull", f"{name} vanished after it was pulled")
        return found
