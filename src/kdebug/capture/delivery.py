"""What becomes of a bundle once it is whole: encrypted, sent to a store, or both, in this order."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from kdebug.capture import sealing
from kdebug.capture.upload import Store, Tell
from kdebug.errors import KdebugError


@dataclass(frozen=True)
class Delivered:
    path: str
    """The file of this machine; "" where only the store has it."""
    url: str = ""
    remark: str = ""
    """What the user should know about it."""


@dataclass(frozen=True)
class Delivery:
    """By default nothing: the bundle stays where it was written."""

    recipients: list[Any] = field(default_factory=list)
    """Of `sealing.recipients`; then the plain bundle is removed."""
    store: Optional[Store] = None
    keep: bool = False
    """Whether the local file stays although the store has it."""

    @property
    def does_something(self) -> bool:
        return bool(self.recipients) or self.store is not None

    def inside(self, folder: str) -> Delivery:
        """The same into a folder of the store."""
        return self if self.store is None else replace(self, store=self.store.folder(folder))

    def local(self, path: str) -> str:
        """Where the bundle of `path` is on this machine by now; "" where only the store has it."""
        sealed = path + sealing.SUFFIX
        return next((one for one in (path, sealed) if path and os.path.exists(one)), "")

    async def deliver(self, path: str, tell: Tell = lambda done: None) -> Delivered:
        """Raises `KdebugError`, whose next step says where the bundle is then."""
        try:
            if self.recipients:
                path = await asyncio.to_thread(self._sealed, path)
            if self.store is None:
                return Delivered(path)
            placed = await self.store.put(path, tell)
        except KdebugError as error:
            step = f"the bundle is here: {path}"
            error.next_step = f"{error.next_step}; {step}" if error.next_step else step
            raise
        if placed.unverified:
            remark = f"not verified: {placed.unverified}; it stays here, too: {path}"
            return Delivered(path, placed.url, remark)
        if self.keep:
            return Delivered(path, placed.url)
        with contextlib.suppress(OSError):
            os.unlink(path)
        return Delivered("", placed.url)

    def _sealed(self, path: str) -> str:
        """The plain bundle is removed only after the encrypted one is on the disk."""
        sealed = path + sealing.SUFFIX
        sealing.encrypt(path, sealed, self.recipients)
        os.unlink(path)
        return sealed
