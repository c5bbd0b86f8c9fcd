"""Loads what we use of the Kubernetes client, and nothing else of it.

`import kubernetes` runs its synchronous client, and `kubernetes.aio` its dynamic client, leader election
and watch: 0.3 s before the first request, which an incident command pays each time. Both packages are
namespaces for what we need; so, where nobody has imported them yet, bare ones stand in their place.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types
from types import ModuleType

from kdebug.errors import Failed

_BARE = ("kubernetes", "kubernetes.aio")


def load(name: str) -> ModuleType:
    """A submodule of `kubernetes.aio`, such as "config.kube_config". Raises `Failed`."""
    try:
        _prepare()
        return importlib.import_module(f"kubernetes.aio.{name}")
    except ImportError as error:
        raise Failed(
            "the Kubernetes client cannot be loaded",
            why=str(error),
            next_step="install it with `pip install 'kubernetes>=37,<38'`",
        ) from error


def _prepare() -> None:
    if "kubernetes" in sys.modules:
        return
    spec = importlib.util.find_spec("kubernetes")
    if spec is None or not spec.submodule_search_locations:
        return
    places = list(spec.submodule_search_locations)
    for name in _BARE:
        bare = types.ModuleType(name)
        bare.__path__ = places
        sys.modules[name] = bare
        places = [os.path.join(place, "aio") for place in places]
