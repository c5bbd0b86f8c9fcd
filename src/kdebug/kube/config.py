"""Which cluster, as whom, in which namespace: contexts and plugins, or the pod's own account.

The library reads and merges the files and asks OpenID providers; here its silence is turned into words: it
logs what fails and goes on without credentials.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from dataclasses import dataclass, field
from typing import Any, Optional
from urllib.parse import quote

from kdebug.errors import DeadlinePassed, Failed, NotFound, UsageError
from kdebug.kube import plugin
from kdebug.kube.library import load
from kdebug.target.cluster import ContextInfo

IN_CLUSTER_NAMESPACE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
LOGIN_SECONDS = 60.0
"""For a provider that is asked for a new token."""


@dataclass(frozen=True)
class Choice:
    """What the user said about the cluster; empty means: as kubectl would choose."""

    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""


@dataclass
class Connection:
    """Where the API server is, and who we are: what the library's loaders fill in, by their names."""

    host: str = ""
    api_key: dict[str, str] = field(default_factory=dict)
    """"BearerToken": the whole Authorization header."""
    ssl_ca_cert: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify_ssl: bool = True
    tls_server_name: str | None = None
    proxy: str | None = None
    refresh_api_key_hook: Any = None
    """Set for service accounts, whose tokens are renewed on disk."""


@dataclass
class ClusterConfig:
    """One cluster, ready to talk to."""

    configuration: Connection
    context: str
    cluster: str
    user: str
    namespace: str
    choice: Choice = field(default_factory=Choice)

    certificate: bytes = b""
    """The client's, where it has one."""
    impersonation: tuple[tuple[str, str], ...] = ()
    """Headers that say as whom the requests are made."""

    @property
    def credentials(self) -> plugin.Refused:
        """What tells one login from another."""
        return self.configuration.api_key.get("BearerToken"), self.certificate

    @property
    def host(self) -> str:
        return str(self.configuration.host)


async def load_config(choice: Choice, refused: Optional[plugin.Refused] = None) -> ClusterConfig:
    """With other credentials than those that were `refused`, where there are any.

    Raises `NotFound`, `UsageError`, `AccessDenied`, `DeadlinePassed` or `Failed`, with what is wrong in
    which file.
    """
    paths = choice.kubeconfig or os.environ.get("KUBECONFIG", "") or os.path.expanduser("~/.kube/config")
    if any(os.path.exists(os.path.expanduser(path)) for path in paths.split(os.pathsep) if path):
        return await _from_files(paths, choice, refused)
    if "KUBERNETES_SERVICE_HOST" in os.environ and not choice.kubeconfig and not choice.context:
        return _in_cluster(choice)
    raise NotFound(
        f"no kubeconfig is at {paths}",
        next_step="name one with --kubeconfig or KUBECONFIG; `kdebug demo` needs none",
    )


async def _from_files(paths: str, choice: Choice, refused: Optional[plugin.Refused]) -> ClusterConfig:
    library = load("config.kube_config")
    yaml = __import__("yaml")
    config_error = load("config.config_exception").ConfigException
    try:
        merged = _merged(library, paths)
        _anchor(merged.value.get("users") or [])
        name = choice.context or _current(merged.value, paths)
        _check_context(merged.value, name)
        loader = library.KubeConfigLoader(merged, active_context=name, config_base_path=None)
        configuration = Connection()
        await _log_in(library, loader, refused)
        await _credentials(loader, configuration)
        certificate = _contents(configuration.cert_file)
        impersonation = _impersonation(_plain(loader._user))
    except (
        config_error,
        yaml.YAMLError,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        OSError,
    ) as error:
        forget_copies()
        raise UsageError(f"the kubeconfig {paths} cannot be used", why=_one_line(error)) from error
    entry = dict(loader.current_context["context"])
    if not configuration.host:
        raise UsageError(f"the context {name} names no server", next_step=f"look into {paths}")
    return ClusterConfig(
        configuration,
        context=name,
        cluster=str(entry.get("cluster", "")),
        user=str(entry.get("user", "")),
        namespace=choice.namespace or str(entry.get("namespace") or "default"),
        choice=choice,
        certificate=certificate,
        impersonation=impersonation,
    )


def _merged(library: Any, paths: str) -> Any:
    """The files as one; None where there is none. Of several current contexts the first one holds
    (client-go clientcmd/loader.go): the library takes the last, which may be another cluster's."""
    merger = library.KubeConfigMerger(paths)
    if merger.config is not None:
        named = (config.get("current-context") for config in merger.config_files.values())
        merger.config.value["current-context"] = next(filter(None, named), None)
    return merger.config


def _contents(path: str | None) -> bytes:
    if not path:
        return b""
    with open(path, "rb") as file:
        return file.read()


FILES_OF_USERS = ("client-certificate", "client-key", "tokenFile")


def _anchor(users: list[Any]) -> None:
    """Files of a user are named relative to the kubeconfig that the user is in; the library takes that of
    the cluster, which is another one where several are merged."""
    for item in users:
        user, path = _plain(item).get("user"), getattr(item, "path", None)
        if not isinstance(user, dict) or not path:
            continue
        folder = os.path.dirname(os.path.abspath(path))
        user |= {
            key: os.path.join(folder, user[key]) for key in FILES_OF_USERS if isinstance(user.get(key), str)
        }
        plugin = user.get("exec")
        if isinstance(plugin, dict) and os.sep in str(plugin.get("command")):
            # Without a separator it is looked for in PATH.
            user["exec"] = {**plugin, "command": os.path.join(folder, str(plugin["command"]))}


def _impersonation(user: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """`as`, `as-uid`, `as-groups`, `as-user-extra`: whoever asks to act as another, often one with fewer
    rights, must not act as himself."""
    headers = [("Impersonate-User", user.get("as")), ("Impersonate-Uid", user.get("as-uid"))]
    headers += [("Impersonate-Group", group) for group in user.get("as-groups") or []]
    for key, values in (user.get("as-user-extra") or {}).items():
        headers += [(f"Impersonate-Extra-{quote(key, safe='')}", value) for value in values]
    return tuple((name, str(value)) for name, value in headers if value)


def _current(config: dict[str, Any], paths: str) -> str:
    name = config.get("current-context")
    if not name:
        raise UsageError(
            f"the kubeconfig {paths} has no current context",
            next_step="choose one with --context or `kubectl config use-context NAME`",
        )
    return str(name)


def _check_context(config: dict[str, Any], name: str) -> None:
    names = [str(_plain(item).get("name")) for item in config.get("contexts") or []]
    if name not in names:
        import difflib

        near = difflib.get_close_matches(name, names, 3, 0.5) or names[:5]
        raise NotFound(
            f"there is no context {name} in the kubeconfig",
            next_step=f"did you mean {' or '.join(near)}?" if near else "it holds no context at all",
        )


def _plain(item: Any) -> dict[str, Any]:
    value = getattr(item, "value", item)
    return value if isinstance(value, dict) else {}


OF_ITS_OWN = ("token", "tokenFile", "username", "client-certificate", "client-certificate-data")
"""Credentials of a user that go before a plugin's."""


async def _log_in(library: Any, loader: Any, refused: Optional[plugin.Refused]) -> None:
    """Ask the credential plugin, if there is one, and have the library take its answer."""
    user, cluster = _plain(loader._user), _plain(loader._cluster)
    entry = user.get("exec")
    if not isinstance(entry, dict):
        return
    found: Optional[plugin.Credentials] = None
    if not any(user.get(key) for key in OF_ITS_OWN):
        folder = loader._get_base_path(loader._cluster.path)
        authority = library.FileOrData(cluster, "certificate-authority", file_base_path=folder).as_data()
        found = await plugin.credentials(entry, plugin.cluster_info(cluster, authority), refused)

    async def take() -> bool:
        if found is not None and found.header:
            loader.token = found.header
        if found is not None and found.certificate:
            loader.cert_file = library._create_temp_file_with_content(found.certificate)
            loader.key_file = library._create_temp_file_with_content(found.key)
        return found is not None

    loader.load_from_exec_plugin = take


class _Overheard(logging.Handler):
    """Keeps what the library only logs."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


async def _credentials(loader: Any, configuration: Any) -> None:
    """Ask the provider if there is one; a failure is an error, not a request as nobody."""
    logger = logging.getLogger("kubernetes.aio.config.kube_config")
    overheard = _Overheard()
    logger.addHandler(overheard)
    propagate, logger.propagate = logger.propagate, False
    try:
        # Not wait_for: of an interrupt while the library was loaded it would make a success.
        async with asyncio.timeout(LOGIN_SECONDS):
            await loader.load_and_set(configuration)
    except TimeoutError:
        raise DeadlinePassed(
            f"no new token came within {LOGIN_SECONDS:.0f} s",
            next_step="run a kubectl command to log in, then try again",
        ) from None
    finally:
        logger.removeHandler(overheard)
        logger.propagate = propagate
    if overheard.lines:
        raise plugin.failed(overheard.lines[-1])


def _in_cluster(choice: Choice) -> ClusterConfig:
    library = load("config.incluster_config")
    configuration = Connection()
    try:
        library.load_incluster_config(client_configuration=configuration)
        with open(IN_CLUSTER_NAMESPACE, encoding="utf-8") as file:
            namespace = file.read().strip()
    except (load("config.config_exception").ConfigException, OSError) as error:
        raise Failed("the service account of this pod cannot be used", why=_one_line(error)) from error
    return ClusterConfig(
        configuration, "in-cluster", "in-cluster", "service account", choice.namespace or namespace, choice
    )


def forget_copies() -> None:
    """Remove the library's copies of certificates and keys in the temporary folder, once they are loaded.

    It would do so when the interpreter exits, which `os._exit` never lets happen.
    """
    library = sys.modules.get("kubernetes.aio.config.kube_config")
    if library is not None:
        library._cleanup_temp_files()


def contexts(choice: Choice) -> list[ContextInfo]:
    """Every context of the kubeconfig, as it stands there; runs no plugin and asks nobody.

    Raises `UsageError` where the file cannot be read; empty where there is none.
    """
    paths = choice.kubeconfig or os.environ.get("KUBECONFIG", "") or os.path.expanduser("~/.kube/config")
    library, yaml = load("config.kube_config"), __import__("yaml")
    config_error = load("config.config_exception").ConfigException
    try:
        merged = _merged(library, paths)
        config = merged.value if merged else {}
        current = choice.context or config.get("current-context")
        return [_context(item, current) for item in config.get("contexts") or []]
    except (
        config_error,
        yaml.YAMLError,
        OSError,
        ValueError,
        AttributeError,
        TypeError,
        KeyError,
    ) as error:
        raise UsageError(f"the kubeconfig {paths} cannot be used", why=_one_line(error)) from error


def _context(item: Any, current: Any) -> ContextInfo:
    named = _plain(item)
    entry = _plain(named.get("context"))
    cluster, user, namespace = (str(entry.get(key) or "") for key in ("cluster", "user", "namespace"))
    name = str(named.get("name"))
    return ContextInfo(name, cluster, user, namespace, current=name == current)


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:500]
