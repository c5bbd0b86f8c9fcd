"""An API server that has thousands of pods and nothing else: for lists, watches and what they cost.

    python many_pods.py COUNT [CHANGES_A_SECOND]

prints its URL on stdout and serves until its stdin ends. The pods are as long as real ones (8 KB of JSON,
half of it managedFields), in 20 namespaces, most of them well.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import json
import random
import sys
from typing import Any

from aiohttp import web

Object = dict[str, Any]
APPS = (
    "checkout", "payment-gateway", "web-frontend", "inventory", "search-indexer", "api", "billing-worker",
    "notification-service", "auth", "recommendation-engine",
)  # fmt: skip
LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def stamp(seconds_ago: float) -> str:
    moment = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=seconds_ago)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(draw: random.Random, number: int, namespaces: int = 20) -> Object:
    app = APPS[number % len(APPS)]
    template = "".join(draw.choices(LETTERS, k=10))
    name = f"{app}-{template}-{''.join(draw.choices(LETTERS, k=5))}"
    labels = {"app.kubernetes.io/name": app, "pod-template-hash": template}
    env = [{"name": f"SETTING_{index}", "value": "x" * 24} for index in range(20)]
    fields = {f"f:field-{index}": {".": {}, "f:name": {}} for index in range(90)}
    images = [f"registry.example.org/shop/{app}:1.{number % 40}.0", "docker.io/istio/proxyv2:1.24.1"]
    names = [app, "istio-proxy"]
    return {
        "metadata": {
            "name": name, "namespace": f"team-{number % namespaces:02d}", "uid": f"uid-{number}",
            "resourceVersion": str(number + 1), "creationTimestamp": stamp(draw.uniform(60, 10**6)),
            "labels": labels, "annotations": {f"example.org/note-{index}": "y" * 40 for index in range(8)},
            "ownerReferences": [
                {"kind": "ReplicaSet", "name": f"{app}-{template}", "controller": True, "uid": "u"}
            ],
            "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": fields}}],
        },
        "spec": {
            "nodeName": f"ip-10-0-{number % 60}-17.eu-central-1.compute.internal",
            "containers": [
                {"name": container, "image": image, "env": env, "resources": {"limits": {"memory": "1Gi"}},
                 "securityContext": {"runAsUser": 1000, "runAsGroup": 2000}}
                for container, image in zip(names, images)
            ],
            "volumes": [{"name": f"volume-{index}", "emptyDir": {}} for index in range(4)],
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}] * 3,
        },
        "status": status(draw, names, images),
    }  # fmt: skip


def status(draw: random.Random, names: list[str], images: list[str]) -> Object:
    """Of one in fifty the first container crashes; one in fifty has restarted lately."""
    kind = draw.random()
    began = stamp(draw.uniform(10, 3000) if kind < 0.04 else draw.uniform(4000, 10**6))
    running: Object = {"running": {"startedAt": began}}
    crashing = {
        "waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}
    }
    ended = {"exitCode": 137, "reason": "OOMKilled", "startedAt": began, "finishedAt": began}
    first = crashing if kind < 0.02 else running
    states = [first, running]
    return {
        "phase": "Running", "podIP": "10.1.2.3", "hostIP": "10.0.0.1", "qosClass": "Burstable",
        "conditions": [
            {"type": name, "status": "True", "lastTransitionTime": began}
            for name in ("Initialized", "Ready", "ContainersReady", "PodScheduled")
        ],
        "containerStatuses": [
            {"name": name, "image": image, "imageID": f"{image}@sha256:{'a' * 64}",
             "containerID": f"containerd://{'b' * 64}", "state": state, "ready": state is running,
             "restartCount": 3 if kind < 0.04 and state is first else 0,
             "lastState": {"terminated": ended} if kind < 0.04 and state is first else {}}
            for name, image, state in zip(names, images, states)
        ],
    }  # fmt: skip


class Server:
    def __init__(self, count: int, changes: float, seed: int = 1) -> None:
        self.draw = random.Random(seed)
        made = [pod(self.draw, number) for number in range(count)]
        made.sort(key=lambda item: (item["metadata"]["namespace"], item["metadata"]["name"]))
        self.pods = made
        self.texts = [json.dumps(item, separators=(",", ":")) for item in made]
        self.changes = changes
        self.version = count + 1

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if "watch" in request.query:
            return await self._watch(request)
        namespace = request.match_info.get("namespace", "")
        chosen = [
            text
            for item, text in zip(self.pods, self.texts)
            if not namespace or item["metadata"]["namespace"] == namespace
        ]
        limit = int(request.query.get("limit") or len(chosen) or 1)
        token = request.query.get("continue", "")
        start = int(base64.b64decode(token)) if token else 0
        metadata: Object = {"resourceVersion": str(self.version)}
        if start + limit < len(chosen):
            metadata["continue"] = base64.b64encode(str(start + limit).encode()).decode()
            metadata["remainingItemCount"] = len(chosen) - start - limit
        head = json.dumps({"kind": "PodList", "apiVersion": "v1", "metadata": metadata})[:-1]
        body = f'{head},"items":[{",".join(chosen[start : start + limit])}]}}'
        return web.Response(text=body, content_type="application/json")

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            await self._changes(request, response)
        return response

    async def _changes(self, request: web.Request, response: web.StreamResponse) -> None:
        """Some pod is another one now and then, until nobody listens."""
        while True:
            await asyncio.sleep(1 / self.changes if self.changes else 3600)
            self.version += 1
            item = self.draw.choice(self.pods)
            if (
                request.match_info.get("namespace", item["metadata"]["namespace"])
                != item["metadata"]["namespace"]
            ):
                continue
            names = [one["name"] for one in item["spec"]["containers"]]
            images = [one["image"] for one in item["spec"]["containers"]]
            item["status"] = status(self.draw, names, images)
            item["metadata"]["resourceVersion"] = str(self.version)
            await response.write(json.dumps({"type": "MODIFIED", "object": item}).encode() + b"\n")

    async def namespaces(self, request: web.Request) -> web.Response:
        names = sorted({item["metadata"]["namespace"] for item in self.pods})
        items = [{"metadata": {"name": name}} for name in names]
        return web.json_response({"kind": "NamespaceList", "metadata": {}, "items": items})


async def serve(count: int, changes: float) -> None:
    server = Server(count, changes)
    app = web.Application()
    app.router.add_get("/api/v1/pods", server.answer)
    app.router.add_get("/api/v1/namespaces/{namespace}/pods", server.answer)
    app.router.add_get("/api/v1/namespaces", server.namespaces)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert isinstance(site._server, asyncio.Server)
    print(f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))
