"""Targets that were attached to from the picker, kept for the next time: where, and what made the pod.

One small file of the user's own, which may be deleted at any time; what cannot be understood in it is
left out and overwritten.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from typing import Any

MAX_ENTRIES = 20
MAX_BYTES = 256 * 1024
MAX_TEXT = 1024


@dataclass(frozen=True)
class Recent:
    context: str
    namespace: str
    pod: str
    owner: str
    """A target expression such as deploy/web, for when the pod is no more; "" where nothing makes it."""
    container: str

    @property
    def place(self) -> tuple[str, str, str, str]:
        """What makes two of them the same: a Deployment's next pod replaces the one before."""
        return self.context, self.namespace, self.owner or self.pod, self.container


def path() -> str:
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "kdebug", "recent.json")


def load() -> list[Recent]:
    """The newest first; empty where there are none, or nothing that can be understood."""
    try:
        with open(path(), "rb") as file:
            document = json.loads(file.read(MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return []
    entries = document.get("recent") if isinstance(document, dict) else None
    found = [_entry(item) for item in entries] if isinstance(entries, list) else []
    return [entry for entry in found if entry is not None][:MAX_ENTRIES]


def _entry(item: Any) -> Recent | None:
    if not isinstance(item, dict):
        return None
    values = {name: item.get(name, "") for name in Recent.__dataclass_fields__}
    if not all(isinstance(value, str) and len(value) <= MAX_TEXT for value in values.values()):
        return None
    entry = Recent(**values)
    return entry if entry.pod and entry.namespace else None


def remember(entry: Recent) -> None:
    """Put it first. Raises `OSError` where nothing can be kept."""
    others = [other for other in load() if other.place != entry.place]
    document = {"recent": [asdict(item) for item in [entry, *others][:MAX_ENTRIES]]}
    file = path()
    os.makedirs(os.path.dirname(file), mode=0o700, exist_ok=True)
    # A file of its own that takes the place of the old one: another kdebug may read at this instant.
    # mkstemp makes it 0600.
    descriptor, made = tempfile.mkstemp(dir=os.path.dirname(file), prefix=".recent-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(document, stream, indent=1)
        os.replace(made, file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(made)
        raise
