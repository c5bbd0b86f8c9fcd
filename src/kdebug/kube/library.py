"""Loads what we use of the Kubernetes client: how it reads kubeconfigs, plugins and service accounts.

`import kubernetes` runs its synchronous client, `kubernetes.aio` its dynamic client, and the configuration
module the generated one, only to name two classes in functions that we do not call: 0.3 s before the first
request, which an incident command would pay each time. So, where nobody has imported them yet, bare
packages stand in their place.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types
from types import ModuleType
from typing import Any

import yaml

from kdebug.errors import Failed

_BARE = {"kubernetes": "", "kubernetes.aio": "aio", "kubernetes.aio.client": "client"}
"""Package -> its folder below the one before."""


def load(name: str) -> ModuleType:
    """A submodule of `kubernetes.aio`, such as "config.kube_config". Raises `Failed`."""
    try:
        _prepare()
        module = importlib.import_module(f"kubernetes.aio.{name}")
    except ImportError as error:
        raise Failed(
            "the Kubernetes client cannot be loaded",
            why=str(error),
            next_step="install it with `pip install 'kubernetes>=37,<38'`",
        ) from error
    if name == "config.kube_config":
        module.yaml = _FastYaml  # type: ignore[attr-defined]
    return module


class _FastYaml:
    """`yaml` for the kubeconfig's reader: the same language, parsed in C where that was built, ten times as
    fast. A kubeconfig with the certificates of many clusters is a large file. An empty one says nothing,
    which is no mistake."""

    @staticmethod
    def safe_load(stream: Any) -> Any:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        found = yaml.load(stream, loader)  # noqa: S506  safe, both
        return {} if found is None else found


def _prepare() -> None:
    if "kubernetes" in sys.modules:
        return
    spec = importlib.util.find_spec("kubernetes")
    if spec is None or not spec.submodule_search_locations:
        return
    places = list(spec.submodule_search_locations)
    for name, folder in _BARE.items():
        places = [os.path.join(place, folder) for place in places] if folder else places
        bare = types.ModuleType(name)
        bare.__path__ = places
        sys.modules[name] = bare
    # Named by the configuration modules for what they make by default; we pass an object of our own.
    client = sys.modules["kubernetes.aio.client"]
    client.ApiClient = client.Configuration = object  # type: ignore[attr-defined]
    _defer_openid()


def _defer_openid() -> None:
    """The configuration module names a class that asks an OpenID provider for new tokens, and with it
    aiohttp: loaded when a kubeconfig has such a provider."""
    name = "kubernetes.aio.config.openid"

    def requestor(*arguments: Any) -> Any:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
        return load("config.openid").OpenIDRequestor(*arguments)

    stand_in = types.ModuleType(name)
    stand_in.OpenIDRequestor = requestor  # type: ignore[attr-defined]
    sys.modules[name] = stand_in
