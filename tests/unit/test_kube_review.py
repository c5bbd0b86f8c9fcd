"""How `kube` behaves towards servers, clusters and pods that are not as one would wish."""

from __future__ import annotations

import asyncio
import base64
import datetime
import tempfile
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kdebug.kube.api import Api
from kdebug.kube.config import Choice, load_config


def certificate() -> tuple[bytes, bytes]:
    """One that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "engineer")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def kubeconfig(folder: Path, server: str, user: dict[str, object] | None, **cluster: object) -> Path:
    document = {
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "me", "user": user or {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
    }
    path = folder / "config"
    path.write_text(yaml.safe_dump(document))
    return path


def test_no_copy_of_the_client_key_stays_in_the_temporary_folder(
    tmp_path: Path, run: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    public, private = (base64.b64encode(text).decode() for text in certificate())
    user: dict[str, object] = {"client-certificate-data": public, "client-key-data": private}
    path = kubeconfig(tmp_path, "https://192.0.2.9", user, **{"certificate-authority-data": public})

    async def loaded() -> None:
        api = Api(await load_config(Choice(str(path))))
        api._client()
        assert not list(folder.iterdir())
        await api.close()

    run.run(loaded())
