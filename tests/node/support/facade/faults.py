"""Everything that can go wrong between a client and a cluster, to be switched on by a test.

Switched from Python only: nothing on the wire can reach this, so a client under test meets faults as it
would meet them on a cluster. `clear()` takes all of them back, which the fixture does after each test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from . import errors

Object = dict[str, Any]


@dataclass
class Faults:
    webhook_refusal: tuple[str, str] | None = None
    """(webhook, reason): every PATCH of ephemeral containers is denied in the webhook's name."""
    webhook_strips: bool = False
    """A mutating webhook silently takes added ephemeral containers out again."""
    rewrites: Object = field(default_factory=dict)
    """A mutating webhook sets these fields in the security context of added ephemeral containers."""
    webhook_without_dry_run: str = ""
    """Name of a webhook with side effects: the server answers dry runs of ephemeral containers with 400."""
    conflicts: int = 0
    """So many updates of ephemeral containers are refused with 409."""
    delay_seconds: float = 0.0
    """Every answer comes that much later."""
    cut_after_bytes: int | None = None
    """Each exec or attach stream is cut (no close frame) after this many bytes to the client."""
    exec_error_in_stream: bool = False
    """Refusals of exec come in the error channel, after the upgrade, not as HTTP 500 (servers differ)."""
    subprotocols: tuple[str, ...] = ("v5.channel.k8s.io", "v4.channel.k8s.io")
    """What the server speaks on exec and attach; an older one has no v5."""
    fail: dict[tuple[str, str], errors.ApiError] = field(default_factory=dict)
    """(verb, resource) to the error that is answered instead."""
    _open_streams: set[Callable[[], None]] = field(default_factory=set)

    def before_update(self, name: str, dry_run: bool) -> None:
        """In the server's order: webhooks see the request first, the conflict is found on writing."""
        if self.webhook_without_dry_run and dry_run:
            hook = f'admission webhook "{self.webhook_without_dry_run}" does not support dry run'
            raise errors.bad_request(hook)
        if self.webhook_refusal:
            hook, why = self.webhook_refusal
            text = f'admission webhook "{hook}" denied the request: {why}'
            raise errors.ApiError(403, "Forbidden", text)
        if self.conflicts > 0 and not dry_run:
            self.conflicts -= 1
            raise errors.conflict("pods", name)

    def mutated(self, old: Object, new: Object) -> Object:
        """What mutating webhooks make of an update of ephemeral containers."""
        if self.webhook_strips:
            return old
        known = {container["name"] for container in old["spec"].get("ephemeralContainers") or []}
        for container in new["spec"].get("ephemeralContainers") or []:
            if self.rewrites and container["name"] not in known:
                container["securityContext"] = {**(container.get("securityContext") or {}), **self.rewrites}
        return new

    def failure(self, verb: str, resource: str) -> errors.ApiError | None:
        return self.fail.get((verb, resource)) or self.fail.get(("*", resource))

    def opened(self, cut: Callable[[], None]) -> Callable[[], None]:
        """Note a stream by how to cut it; returns what to call when it ended."""
        self._open_streams.add(cut)
        return lambda: self._open_streams.discard(cut)

    def cut_streams(self) -> int:
        """Cut every open exec and attach stream now; call it on the facade's loop. Returns how many."""
        cuts = tuple(self._open_streams)
        for cut in cuts:
            cut()
        return len(cuts)

    @property
    def open_streams(self) -> int:
        return len(self._open_streams)

    def clear(self) -> None:
        fresh = Faults()
        for one in fields(self):
            if not one.name.startswith("_"):
                setattr(self, one.name, getattr(fresh, one.name))
