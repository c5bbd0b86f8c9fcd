"""The facade itself: one HTTPS server that answers like an API server, request by request.

Each request passes the stations it would pass there: authentication, authorization, (injected) faults,
the handler with its admission. Everything runs on one event loop in a thread of its own, beside the
kubelet.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from ..kubelet.kubelet import Kubelet
from ..runtime import Runtime
from . import access, admission, errors, listing, patches, pods, protobuf, resources, tables
from .faults import Faults
from .store import Store

Object = dict[str, Any]

VERSION = "v1.36.2"
"""What the facade says it is: the version whose behaviour was measured."""
NODE, WINDOWS_NODE = "node-1", "win-1"

OTHER_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
LARGEST_BODY = 3 << 20


class Call:
    """One authorised request."""

    def __init__(self, request: web.Request, path: resources.Path, user: access.User) -> None:
        self.request, self.path, self.user = request, path, user
        self.method = request.method
        self.namespace, self.name = path.namespace, path.name
        if path.resource.plural == "namespaces":
            self.namespace = ""
        self.plural = path.resource.plural
        self.content_type = request.content_type
        self.accept = request.headers.get("Accept", "")

    @property
    def verb(self) -> str:
        if self.method in ("GET", "HEAD"):
            if self.name:
                return "get"
            return "watch" if self.is_watch else "list"
        if self.method == "DELETE":
            return "delete" if self.name else "deletecollection"
        return OTHER_VERBS.get(self.method, self.method.lower())

    @property
    def is_watch(self) -> bool:
        return self.request.query.get("watch") in ("1", "true")

    @property
    def dry_run(self) -> bool:
        asked = self.request.query.getall("dryRun", [])
        if asked and asked != ["All"]:
            raise errors.ApiError(
                422, "Invalid", f'dryRun: Unsupported value: "{asked[0]}": supported values: "All"'
            )
        return bool(asked)

    @property
    def attributes(self) -> access.Attributes:
        below = f"/{self.path.subresource}" if self.path.subresource else ""
        resource = self.path.resource
        place = self.path.namespace if self.plural != "namespaces" else self.name
        return access.Attributes(self.verb, resource.group, resource.plural + below, place, self.name)

    async def json(self, optional: bool = False) -> Any:
        raw = await self.request.read()
        if not raw and optional:
            return {}
        if self.content_type == protobuf.CONTENT_TYPE and self.path.resource.only_create:
            return protobuf.review(raw)
        try:
            return json.loads(raw)
        except ValueError as problem:
            raise errors.bad_request(f"the object provided is unrecognized: {problem}") from None


class Facade:
    def __init__(self, runtime: Runtime, tls: ssl.SSLContext) -> None:
        self.runtime, self._tls = runtime, tls
        self.store, self.access, self.faults = Store(), access.Access(), Faults()
        self.kubelet = Kubelet(runtime, self.store, NODE)
        self.port = 0
        self._runner: web.AppRunner | None = None
        self._connections: set[asyncio.Transport] = set()

    async def listen(self) -> None:
        """Start, or start again on the same port."""
        app = web.Application(client_max_size=LARGEST_BODY)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(
            app, handle_signals=False, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.TCPSite(
            self._runner, "127.0.0.1", self.port, ssl_context=self._tls, reuse_address=True
        ).start()
        self.port = self._runner.addresses[0][1]

    async def hang_up(self) -> None:
        """Stop listening and drop every connection, streams included."""
        self.faults.cut_streams()
        for transport in tuple(self._connections):
            transport.abort()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        if transport is not None:
            self._connections.add(transport)
        try:
            return await self._checked(request)
        except errors.ApiError as problem:
            return web.json_response(problem.status(), status=problem.code)
        except Exception as problem:
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"facade: {request.path}", "exception": problem}
            )
            refusal = errors.internal(f"{type(problem).__name__}: {problem}")
            return web.json_response(refusal.status(), status=500)
        finally:
            if transport is not None:
                self._connections.discard(transport)

    async def _checked(self, request: web.Request) -> web.StreamResponse:
        if self.faults.delay_seconds:
            await asyncio.sleep(self.faults.delay_seconds)
        user = self.access.authenticate(
            request.headers.get("Authorization", ""), _certificate_name(request)
        )
        if request.path in ("/healthz", "/livez", "/readyz"):
            return web.Response(text="ok")
        if (document := resources.discovery(request.path, VERSION)) is not None:
            return web.json_response(document)
        call = Call(request, resources.parse(request.path), user)
        if not call.path.resource.only_create:
            access.demand(user, call.attributes)
        if failure := self.faults.failure(call.verb, call.attributes.resource):
            raise failure
        return await self._dispatch(call)

    async def _dispatch(self, call: Call) -> web.StreamResponse:
        if call.path.subresource:
            return await self._subresource(call)
        if call.is_watch:
            return await self._watch(call)
        handlers: dict[str, Callable[[Call], Awaitable[Object]]] = {
            "get": self._get,
            "list": self._list,
            "create": self._create,
            "update": self._update,
            "patch": self._update,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }
        document = await handlers[call.verb](call)
        return web.json_response(document, status=201 if call.verb == "create" else 200)

    async def _subresource(self, call: Call) -> web.StreamResponse:
        name = call.path.subresource
        if name == "ephemeralcontainers":
            return web.json_response(await pods.ephemeral_containers(self, call))
        if name == "log":
            return await pods.log(self, call)
        if name == "status":
            return web.json_response(self.store.get("pods", call.namespace, call.name))
        if name in ("exec", "attach"):
            # Newer servers want `create` of a WebSocket too, whose request is a GET.
            wanted = access.Attributes("create", "", f"pods/{name}", call.namespace, call.name)
            access.demand(call.user, wanted)
            return await pods.stream(self, call, attach=name == "attach")
        raise errors.ApiError(501, "NotImplemented", f"the test node has no {name}")

    async def _get(self, call: Call) -> Object:
        found = self.store.get(call.plural, call.namespace, call.name)
        if call.plural == "pods" and tables.wanted(call.accept):
            return tables.of_pods([found], {"resourceVersion": found["metadata"]["resourceVersion"]})
        return found

    def _selection(self, call: Call) -> listing.Selection:
        name = call.name if call.is_watch else ""
        return listing.Selection(call.path.resource, call.namespace, name, dict(call.request.query))

    async def _list(self, call: Call) -> Object:
        return listing.page(self.store, self._selection(call), dict(call.request.query), call.accept)

    async def _watch(self, call: Call) -> web.StreamResponse:
        watch = listing.Watch(self.store, self._selection(call), dict(call.request.query), call.accept)
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(call.request)
        try:
            async for line in watch.lines():
                await answer.write(line)
            await answer.write_eof()
        except ConnectionError:
            pass  # the client has seen enough
        return answer

    async def _create(self, call: Call) -> Object:
        body = await call.json()
        if not isinstance(body, dict):
            raise errors.bad_request("the object provided is unrecognized")
        if call.path.resource.only_create:
            return _review(call, body)
        metadata = body.setdefault("metadata", {})
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + secrets.token_hex(3)[:5]
        if not metadata.get("name"):
            causes = [
                ("metadata.name", "FieldValueRequired", "Required value: name or generateName is required")
            ]
            raise errors.invalid(call.plural, "", causes)
        resource = call.path.resource
        body |= {"apiVersion": resource.api_version, "kind": resource.kind}
        if resource.namespaced:
            self.store.get("namespaces", "", call.namespace)
            metadata["namespace"] = call.namespace
        if call.plural == "namespaces":
            metadata.setdefault("labels", {})["kubernetes.io/metadata.name"] = metadata["name"]
            body.setdefault("spec", {})["finalizers"] = ["kubernetes"]
            body["status"] = {"phase": "Active"}
        if call.plural == "pods":
            body = self._admitted_pod(body)
        return body if call.dry_run else self.store.create(call.plural, body)

    def _admitted_pod(self, body: Object) -> Object:
        pod = admission.new_pod(body, _node_of)
        admission.check_new_pod(pod)
        admission.check_pod_security(self.store, pod)
        return pods.windows_status(pod) if pod["spec"]["nodeName"] == WINDOWS_NODE else pod

    async def _update(self, call: Call) -> Object:
        old = self.store.get(call.plural, call.namespace, call.name)
        body = await call.json()
        new = body if call.method == "PUT" else patches.apply(old, body, call.content_type)
        for key in ("name", "namespace", "uid", "creationTimestamp"):
            if key in old["metadata"]:
                new["metadata"][key] = old["metadata"][key]
        if call.plural == "pods":
            pods.check_update(old, new)
            new["status"] = old["status"]
        return new if call.dry_run else self.store.update(call.plural, new)

    async def _delete(self, call: Call) -> Object:
        if call.plural == "pods":
            return await pods.delete(self, call)
        if call.plural == "namespaces":
            for resource in resources.RESOURCES:
                self._empty(resource, call.name)
        gone = self.store.delete(call.plural, call.namespace, call.name)
        details = {"name": call.name, "kind": call.plural, "uid": gone["metadata"]["uid"]}
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": details,
        }

    async def _delete_collection(self, call: Call) -> Object:
        selection = self._selection(call)
        for item in self.store.list(call.plural, call.namespace):
            if selection.matches(item):
                self.store.delete(call.plural, call.namespace, item["metadata"]["name"])
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}

    def _empty(self, resource: str, namespace: str) -> None:
        """Everything of a namespace goes with it, at once: nobody here has finalizers."""
        for item in self.store.list(resource, namespace):
            self.store.delete(resource, namespace, item["metadata"]["name"])


def _node_of(spec: Object) -> str:
    wanted = (spec.get("nodeSelector") or {}).get("kubernetes.io/os") or (spec.get("os") or {}).get("name")
    return WINDOWS_NODE if wanted == "windows" else NODE


def _certificate_name(request: web.Request) -> str:
    """The common name of a client certificate, which the TLS layer has verified."""
    secured = request.transport.get_extra_info("ssl_object") if request.transport else None
    certificate = secured.getpeercert() if secured is not None else None
    subject = (certificate or {}).get("subject", ())
    return next((value for part in subject for key, value in part if key == "commonName"), "")


def _review(call: Call, body: Object) -> Object:
    if call.plural == "selfsubjectreviews":
        return {
            **body,
            "status": {"userInfo": {"username": call.user.name, "groups": ["system:authenticated"]}},
        }
    asked = (body.get("spec") or {}).get("resourceAttributes") or {}
    resource = asked.get("resource", "") + (f"/{asked['subresource']}" if asked.get("subresource") else "")
    wanted = access.Attributes(
        asked.get("verb", ""),
        asked.get("group", ""),
        resource,
        asked.get("namespace", ""),
        asked.get("name", ""),
    )
    return {**body, "status": {"allowed": call.user.may(wanted)}}
