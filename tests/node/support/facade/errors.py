"""Refusals in the API server's own shape: every one is a `Status` object with the server's wording.

Clients show these texts to people and decide by `reason` and `code`, so both are kept as the server has
them.
"""

from __future__ import annotations

from typing import Any

KINDS = {
    "pods": "Pod",
    "namespaces": "Namespace",
    "nodes": "Node",
    "events": "Event",
    "services": "Service",
    "deployments": "Deployment",
}


class ApiError(Exception):
    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details = code, reason, message, details

    def status(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            document["reason"] = self.reason
        if self.details:
            document["details"] = self.details
        return {**document, "code": self.code}


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")


def forbidden(resource: str, name: str, why: str) -> ApiError:
    subject = f'{resource} "{name}" is' if name else f"{resource} is"
    return ApiError(403, "Forbidden", f"{subject} forbidden: {why}", {"name": name, "kind": resource})


def not_found(resource: str, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{resource} "{name}" not found', {"name": name, "kind": resource})


def no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(resource: str, name: str) -> ApiError:
    return ApiError(
        409, "AlreadyExists", f'{resource} "{name}" already exists', {"name": name, "kind": resource}
    )


def conflict(resource: str, name: str) -> ApiError:
    why = (
        f'Operation cannot be fulfilled on {resource} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    return ApiError(409, "Conflict", why, {"name": name, "kind": resource})


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def unsupported_media(offered: str) -> ApiError:
    accepted = (
        "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json"
    )
    why = f"the body of the request was in an unknown format - accepted media types include: {accepted}"
    return ApiError(415, "UnsupportedMediaType", f"{why} (got {offered})")


def gone(asked: int, oldest: int) -> ApiError:
    return ApiError(410, "Expired", f"too old resource version: {asked} ({oldest})")


def expired_continue() -> ApiError:
    why = "The provided continue parameter is too old to display a consistent list result."
    return ApiError(410, "Expired", why)


def internal(message: str) -> ApiError:
    details = {"causes": [{"message": message}]}
    return ApiError(500, "InternalError", f"Internal error occurred: {message}", details)


def invalid(resource: str, name: str, causes: list[tuple[str, str, str]]) -> ApiError:
    """`causes` are (field, reason, text); the text is what stands after the field, as printed."""
    kind = KINDS.get(resource, resource)
    texts = [f"{field}: {text}" for field, _, text in causes]
    joined = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    details = {
        "name": name,
        "kind": kind,
        "causes": [{"reason": reason, "message": text, "field": field} for field, reason, text in causes],
    }
    return ApiError(422, "Invalid", f'{kind} "{name}" is invalid: {joined}', details)
