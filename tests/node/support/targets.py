"""The workloads of the tests, as plain manifests: what a distroless pod can look like to a debugger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import images

Object = dict[str, Any]

DROP_ALL = {"drop": ["ALL"]}
RESTRICTED: Object = {
    "allowPrivilegeEscalation": False,
    "capabilities": DROP_ALL,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What *restricted* demands of every container."""


def container(name: str = "app", tag: str = "root", *arguments: str, **fields: Any) -> Object:
    made: Object = {"name": name, "image": f"{images.TARGET}:{tag}", **fields}
    return {**made, "args": list(arguments)} if arguments else made


def pod(name: str, *containers: Object, **spec: Any) -> Object:
    """Grace is short: the tests' own program leaves at once, and nobody waits for one that does not."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": list(containers), **spec},
    }


def root(name: str = "root") -> Object:
    return pod(name, container())


def image_user(name: str = "image-user") -> Object:
    """Non-root by the image's user only, whom the image's passwd does not list: it runs with gid 0."""
    return pod(name, container(tag="nonroot"))


def listed_user(name: str = "listed-user") -> Object:
    """The same, with a line in passwd: it runs with the gid that stands there."""
    return pod(name, container(tag="listed"))


def explicit_user(name: str = "explicit-user") -> Object:
    return pod(name, container(securityContext={"runAsUser": 1000, "runAsGroup": 2000}))


def restricted(name: str = "restricted") -> Object:
    """Passes the *restricted* standard, and with it every namespace."""
    return pod(name, container(securityContext={**RESTRICTED, "runAsUser": 65532, "runAsGroup": 65532}))


def restricted_image_user(name: str = "restricted-image-user") -> Object:
    """Restricted, with a user that only the image names."""
    return pod(name, container(tag="nonroot", securityContext=RESTRICTED))


def added_capabilities(name: str = "added-capabilities") -> Object:
    """Root with exactly two capabilities, and a root file system that cannot be written."""
    capabilities = {**DROP_ALL, "add": ["NET_BIND_SERVICE", "DAC_OVERRIDE"]}
    return pod(
        name, container(securityContext={"capabilities": capabilities, "readOnlyRootFilesystem": True})
    )


def read_only(name: str = "read-only") -> Object:
    return pod(name, container(securityContext={"readOnlyRootFilesystem": True}))


def busy(name: str = "busy") -> Object:
    """Limited to a tenth of a CPU, and using all of it."""
    limits = {"cpu": "100m", "memory": "256Mi"}
    return pod(
        name, container("app", "root", "--burn", "1", resources={"limits": limits, "requests": limits})
    )


def tight(name: str = "tight") -> Object:
    """56 of 104 MiB are taken: room for a small toolbox, and for nothing else."""
    limits = {"cpu": "1", "memory": "104Mi"}
    return pod(
        name, container("app", "root", "--memory", "56", resources={"limits": limits, "requests": limits})
    )


def shared(name: str = "shared") -> Object:
    """Two users that see each other's processes; PID 1 is the sandbox's pause."""
    app = container(securityContext={"runAsUser": 1000, "runAsGroup": 2000})
    return pod(name, app, container("sidecar", "root", "--port", "8081"), shareProcessNamespace=True)


def crash_loop(name: str = "crash-loop") -> Object:
    return pod(name, container("app", "root", "--say", "about to fail", "--exit-after", "0", "--code", "3"))


def crowd(name: str = "crowd", children: int = 20) -> Object:
    """A process with children, and a file that is deleted but open."""
    return pod(name, container("app", "root", "--children", str(children), "--deleted", "/tmp/gone"))


def unreadable(name: str = "unreadable") -> Object:
    """Its binary may be run but not read, so the process is not dumpable: closed even to its own user.

    That needs capabilities dropped: with DAC_OVERRIDE at the time of exec, the kernel finds it readable.
    """
    return pod(name, container(tag="unreadable", securityContext={"capabilities": DROP_ALL}))


def named_user(name: str = "named-user") -> Object:
    """The image names its user; only the image's own passwd knows the uid."""
    return pod(name, container(tag="named"))


ALL: dict[str, Callable[[], Object]] = {
    one.__name__: one
    for one in (
        root,
        image_user,
        listed_user,
        explicit_user,
        restricted,
        restricted_image_user,
        added_capabilities,
        read_only,
        busy,
        tight,
        shared,
        crowd,
        unreadable,
        named_user,
    )
}
"""Every target that runs (so not the crash loop), by name."""


def ephemeral(name: str, target: str = "app", *command: str, **fields: Any) -> Object:
    """A toolbox with python; what it runs unless told otherwise is a long sleep."""
    return {
        "name": name,
        "image": images.PYTHON.removeprefix("docker.io/library/"),
        "command": list(command) or ["python3", "-c", "import signal; signal.pause()"],
        "targetContainerName": target,
        **fields,
    }
