"""What a test may do with any cluster, ours or a real one: through its API and a kubeconfig only.

A test that keeps to `Cluster` runs wherever `KDEBUG_TEST_KUBECONFIG` points; one that needs faults,
host PIDs or permissions takes the `Node`, which is a `Cluster` with a back door.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kubernetes import client, config

from . import pod_security

Object = dict[str, Any]

STRATEGIC = "application/strategic-merge-patch+json"
SECONDS = 30.0
"""Longest wait for a pod to get where a test wants it."""

PATHS = {
    "Pod": "api/v1",
    "Namespace": "api/v1",
    "Secret": "api/v1",
    "Service": "api/v1",
    "ResourceQuota": "api/v1",
    "Event": "api/v1",
    "Deployment": "apis/apps/v1",
    "ReplicaSet": "apis/apps/v1",
    "StatefulSet": "apis/apps/v1",
    "DaemonSet": "apis/apps/v1",
    "Job": "apis/batch/v1",
}


class Refused(Exception):
    """The server said no: its code and its Status."""

    def __init__(self, code: int, status: Object) -> None:
        super().__init__(status.get("message", str(status)))
        self.code, self.status = code, status


class Cluster:
    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._client: client.ApiClient = config.new_client_from_config(str(kubeconfig))  # type: ignore[no-untyped-call]
        self._namespaces: list[str] = []

    def request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> Any:
        """One API request as the admin of the kubeconfig; the decoded answer, or `Refused`."""
        answer = self._send(method, path, body, content_type, SECONDS)
        text = answer.read().decode()
        document = json.loads(text) if "json" in answer.headers.get("Content-Type", "") else text
        if answer.status >= 400:
            raise Refused(answer.status, document)
        return document

    def _send(self, method: str, path: str, body: Any, content_type: str, seconds: float) -> Any:
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        made = self._client.param_serialize(
            method, f"/{path.lstrip('/')}", header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        return self._client.call_api(*made, _request_timeout=seconds).response

    def namespace(self, level: str = "privileged") -> str:
        """A fresh namespace that enforces this Pod Security level."""
        name = f"t-{level}-{secrets.token_hex(3)}"
        labels = {pod_security.LABEL: level}
        self.request("POST", "api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        self._namespaces.append(name)
        return name

    def apply(self, manifest: Object, namespace: str = "") -> Object:
        """Create an object; the namespace is the manifest's unless given."""
        kind = manifest["kind"]
        place = namespace or manifest["metadata"].get("namespace", "")
        where = (
            f"{PATHS[kind]}/namespaces/{place}/{_plural(kind)}"
            if place
            else f"{PATHS[kind]}/{_plural(kind)}"
        )
        created: Object = self.request("POST", where, manifest)
        return created

    def pod(self, namespace: str, name: str) -> Object:
        found: Object = self.request("GET", f"api/v1/namespaces/{namespace}/pods/{name}")
        return found

    def events(self, namespace: str, pod: str) -> list[Object]:
        selector = f"fieldSelector=involvedObject.name%3D{pod}"
        return list(self.request("GET", f"api/v1/namespaces/{namespace}/events?{selector}")["items"])

    def wait(
        self, namespace: str, name: str, condition: Callable[[Object], Any], seconds: float = SECONDS
    ) -> Object:
        """The first version of the pod for which `condition` holds, awaited on a watch."""
        pod: Object = {}
        for pod in self.versions(namespace, name, seconds):
            if condition(pod):
                return pod
        shown = json.dumps(pod.get("status"), indent=1)
        raise AssertionError(
            f"{namespace}/{name} did not get there within {seconds:g} s; its status:\n{shown}"
        )

    def versions(self, namespace: str, name: str, seconds: float) -> Iterator[Object]:
        """The pod as it is, and as it changes; ends when the time is over or the pod is gone."""
        pod = self.pod(namespace, name)
        yield pod
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            query = (
                f"fieldSelector=metadata.name%3D{name}&resourceVersion={pod['metadata']['resourceVersion']}"
            )
            for event in self.watch(f"api/v1/namespaces/{namespace}/pods?watch=1&{query}", left):
                if event["type"] == "ERROR":
                    return
                pod = event["object"]
                yield pod
                if event["type"] == "DELETED":
                    return

    def watch(self, path: str, seconds: float) -> Iterator[Object]:
        """The events of a watch until the server ends it, or `seconds` are over."""
        timed = path if "timeoutSeconds" in path else f"{path}&timeoutSeconds={int(seconds) + 1}"
        answer = self._send("GET", timed, None, "application/json", seconds + 5)
        rest = b""
        try:
            for chunk in answer.stream(1 << 16):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from map(json.loads, lines)
        finally:
            answer.close()
            answer.release_conn()

    def wait_running(self, namespace: str, name: str, seconds: float = SECONDS) -> Object:
        """Until every regular container runs."""
        return self.wait(namespace, name, _all_running, seconds)

    def run(self, manifest: Object, namespace: str) -> Object:
        """Create a pod and wait until it runs."""
        self.apply(manifest, namespace)
        return self.wait_running(namespace, manifest["metadata"]["name"])

    def add_ephemeral(self, namespace: str, name: str, container: Object, dry_run: bool = False) -> Object:
        query = "?dryRun=All" if dry_run else ""
        path = f"api/v1/namespaces/{namespace}/pods/{name}/ephemeralcontainers{query}"
        patch = {"spec": {"ephemeralContainers": [container]}}
        patched: Object = self.request("PATCH", path, patch, STRATEGIC)
        return patched

    def delete_pod(self, namespace: str, name: str, grace: int | None = None) -> Object:
        query = "" if grace is None else f"?gracePeriodSeconds={grace}"
        gone: Object = self.request("DELETE", f"api/v1/namespaces/{namespace}/pods/{name}{query}")
        return gone

    def end_work(self, namespace: str) -> None:
        """Delete the pods that use a CPU all the time, once a test is done with them; nobody waits for it.

        The others only wait, which costs less than their end.
        """
        for pod in self.request("GET", f"api/v1/namespaces/{namespace}/pods")["items"]:
            if any("--burn" in one.get("args", []) for one in pod["spec"]["containers"]):
                self.delete_pod(namespace, pod["metadata"]["name"], grace=0)

    def close(self) -> None:
        for name in self._namespaces:
            try:
                self.request("DELETE", f"api/v1/namespaces/{name}")
            except Refused:
                pass
        self._client.close()  # type: ignore[no-untyped-call]


def _plural(kind: str) -> str:
    return f"{kind.lower()}s"


def container_status(pod: Object, name: str) -> Object:
    """Of a regular or an ephemeral container; empty as long as nothing is published of it."""
    status = pod.get("status") or {}
    every = [*(status.get("containerStatuses") or []), *(status.get("ephemeralContainerStatuses") or [])]
    return next((one for one in every if one["name"] == name), {})


def state(pod: Object, name: str) -> Object:
    found: Object = container_status(pod, name).get("state") or {}
    return found


def waiting_reason(pod: Object, name: str) -> str:
    return str((state(pod, name).get("waiting") or {}).get("reason", ""))


def _all_running(pod: Object) -> bool:
    return all("running" in state(pod, container["name"]) for container in pod["spec"]["containers"])
