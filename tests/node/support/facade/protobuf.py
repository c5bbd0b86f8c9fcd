"""The one protobuf body that clients insist on: kubectl asks `auth can-i` in nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import errors

Object = dict[str, Any]

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"
ATTRIBUTES = {
    1: "namespace",
    2: "verb",
    3: "group",
    4: "version",
    5: "resource",
    6: "subresource",
    7: "name",
}


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Length-delimited fields; numbers are passed over."""
    place = 0

    def varint() -> int:
        nonlocal place
        value, shift = 0, 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(message):
        tag = varint()
        length = varint()
        if tag & 7 == 2:
            yield tag >> 3, message[place : place + length]
            place += length


def review(body: bytes) -> Object:
    """A SelfSubjectAccessReview (or SelfSubjectReview, which is empty) as JSON would have it."""
    if not body.startswith(MAGIC):
        raise errors.bad_request("the object provided is unrecognized: no protobuf prefix")
    envelope = dict(_fields(body[len(MAGIC) :]))
    kind = dict(_fields(envelope[1]))
    spec = dict(_fields(dict(_fields(envelope.get(2, b""))).get(2, b"")))
    asked = {
        ATTRIBUTES[key]: value.decode() for key, value in _fields(spec.get(1, b"")) if key in ATTRIBUTES
    }
    return {
        "apiVersion": kind[1].decode(),
        "kind": kind[2].decode(),
        "metadata": {},
        "spec": {"resourceAttributes": asked},
    }
