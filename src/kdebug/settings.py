"""The user's defaults: environment before ~/.config/kdebug/config.yaml before what is built in."""

from __future__ import annotations

import os
from typing import Any

from kdebug.errors import UsageError
from kdebug.protocol.record import Record, dataclass

KEYS = (
    "image",
    "profile",
    "read_only",
    "reason",
    "ttl",
    "max_ttl",
    "idle",
    "timeout",
    "theme",
    "redact_rules",
    "redact_key",
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Settings(Record):
    """What the configuration file holds; absent keys are None."""

    values: dict[str, Any]
    file: str

    def get(self, key: str, default: Any) -> Any:
        """The environment's KDEBUG_KEY, else the file's key, else `default`, in the type of `default`."""
        raw = os.environ.get(f"KDEBUG_{key.upper()}", self.values.get(key))
        if raw is None or raw == "":
            return default
        try:
            if isinstance(default, bool):
                return str(raw).lower() in ("1", "true", "yes", "on")
            value = type(default)(raw)
            if isinstance(value, float) and not 0 < value < float("inf"):
                raise ValueError(value)
            return value
        except (TypeError, ValueError):
            raise UsageError(
                f"{key} in {self.file} or the environment is {raw!r}", why="not a number of seconds above 0"
            ) from None


def path() -> str:
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(base, "kdebug", "config.yaml")


def load() -> Settings:
    """Raises `UsageError` when the file is there and cannot be understood."""
    file = path()
    if not os.path.exists(file):
        return Settings({}, file)
    import yaml

    try:
        with open(file, encoding="utf-8") as stream:
            values = yaml.safe_load(stream) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{file} cannot be read", why=" ".join(str(error).split())) from error
    unknown = sorted(set(values) - set(KEYS)) if isinstance(values, dict) else ["(not a mapping)"]
    if unknown:
        raise UsageError(
            f"{file} holds {', '.join(map(str, unknown))}", next_step=f"it takes {', '.join(KEYS)}"
        )
    return Settings(values, file)
