"""An image as an OCI archive (image-spec 1.1) that docker, containerd and kind load too."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin",
    "LANG": "C.UTF-8",
    "HOME": "/tmp",  # the only place that may be writable, whoever runs it
    "PYTHONDONTWRITEBYTECODE": "1",
}
USER = "65532:65532"
"""Used where nobody says otherwise, so that runAsNonRoot is satisfied; kdebug always says otherwise."""
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class Image:
    """One architecture's image, ready to be written."""

    architecture: str
    layer: bytes
    """The uncompressed tar."""
    title: str
    version: str
    epoch: int
    command: tuple[str, ...]


def _json(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


class Blobs:
    """Content by digest."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}

    def add(self, data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        """Keep `data`; returns its descriptor."""
        digest = hashlib.sha256(data).hexdigest()
        self.data[digest] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data), **more}


def compressed(layer: bytes) -> bytes:
    """gzip, which every runtime unpacks, with no time and no name in its header."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", compresslevel=9, mtime=0) as stream:
        stream.write(layer)
    return buffer.getvalue()


def _add_image(blobs: Blobs, image: Image) -> dict[str, Any]:
    created = datetime.fromtimestamp(image.epoch, timezone.utc).isoformat().replace("+00:00", "Z")
    config = {
        "architecture": image.architecture,
        "os": "linux",
        "created": created,
        "config": {
            "User": USER,
            "Env": [f"{name}={value}" for name, value in ENVIRONMENT.items()],
            "Cmd": list(image.command),
            "WorkingDir": "/",
            "Labels": {
                "org.opencontainers.image.title": image.title,
                "org.opencontainers.image.version": image.version,
                "org.opencontainers.image.licenses": "Apache-2.0 AND LicenseRef-see-usr-share-doc",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(image.layer).hexdigest()}"]},
        "history": [{"created": created, "created_by": "toolbox/build.py"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": blobs.add(_json(config), "application/vnd.oci.image.config.v1+json"),
        "layers": [blobs.add(compressed(image.layer), "application/vnd.oci.image.layer.v1.tar+gzip")],
    }
    platform = {"os": "linux", "architecture": image.architecture}
    return blobs.add(_json(manifest), _MANIFEST, platform=platform)


def write_archive(images: list[Image], reference: str, file: Path) -> dict[str, int]:
    """Write `file`; returns the compressed size of each architecture's layer in bytes.

    One image is named directly; several are named by an index of all. A docker manifest is added
    where there is one image, for `docker load` of engines that do not read OCI layouts.
    """
    blobs = Blobs()
    manifests = [_add_image(blobs, image) for image in images]
    if len(manifests) == 1:
        top = {key: value for key, value in manifests[0].items() if key != "platform"}
    else:
        index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": manifests}
        top = blobs.add(_json(index), _INDEX)
    top["annotations"] = {
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": reference.rpartition(":")[2],
    }
    members = {f"blobs/sha256/{digest}": data for digest, data in blobs.data.items()}
    members["oci-layout"] = _json({"imageLayoutVersion": "1.0.0"})
    members["index.json"] = _json({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [top]})
    if len(manifests) == 1:
        members["manifest.json"] = _json(_docker_manifest(blobs, manifests[0], reference))
    _write_tar(members, images[0].epoch, file)
    return {
        image.architecture: json.loads(blobs.data[_hex(manifest)])["layers"][0]["size"]
        for image, manifest in zip(images, manifests)
    }


def _hex(descriptor: dict[str, Any]) -> str:
    return str(descriptor["digest"]).removeprefix("sha256:")


def _docker_manifest(blobs: Blobs, manifest: dict[str, Any], reference: str) -> list[dict[str, Any]]:
    document = json.loads(blobs.data[_hex(manifest)])
    layers = [f"blobs/sha256/{_hex(layer)}" for layer in document["layers"]]
    config = f"blobs/sha256/{_hex(document['config'])}"
    return [{"Config": config, "RepoTags": [reference], "Layers": layers}]


def _write_tar(members: dict[str, bytes], epoch: int, file: Path) -> None:
    partial = file.with_suffix(".part")
    with tarfile.open(partial, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(members):
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(members[name]), epoch, 0o644
            archive.addfile(info, io.BytesIO(members[name]))
    partial.replace(file)
