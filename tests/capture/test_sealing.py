"""Encrypted bundles: for those who hold a key, whole or not at all, and nothing in plain beside them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyrage
import pytest

from kdebug.capture import sealing
from kdebug.capture.delivery import Delivery
from kdebug.capture.reader import BundleReader
from kdebug.capture.writer import BundleWriter
from kdebug.errors import AccessDenied, Failed, UsageError

PROGRAM = str(Path(sys.executable).with_name("kdebug"))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "b.tar.gz"
    writer = BundleWriter(str(path))
    writer.add("files/x", os.urandom(200_000))
    writer.close()
    return path


@pytest.fixture
def key(tmp_path: Path) -> tuple[str, Path]:
    """(the public key, the file of the secret one)."""
    secret = pyrage.x25519.Identity.generate()
    path = tmp_path / "key.txt"
    path.write_text(f"# made for a test\n\n{secret}\n")
    return str(secret.to_public()), path


def test_only_who_holds_the_key(bundle: Path, key: tuple[str, Path], tmp_path: Path) -> None:
    sealed, again = f"{bundle}.age", str(tmp_path / "again")
    other = tmp_path / "other"
    other.write_text(f"{pyrage.x25519.Identity.generate()}\n")
    sealing.encrypt(str(bundle), sealed, sealing.recipients([key[0]]))
    assert os.stat(sealed).st_mode & 0o777 == 0o600 and b"files/x" not in Path(sealed).read_bytes()
    with pytest.raises(AccessDenied, match="not for any of these keys"):
        sealing.decrypt(sealed, again, sealing.identities([str(other)]))
    sealing.decrypt(sealed, again, sealing.identities([str(other), str(key[1])]))
    assert Path(again).read_bytes() == bundle.read_bytes() and os.stat(again).st_mode & 0o777 == 0o600
    with pytest.raises(Failed, match="is encrypted; run `kdebug bundle decrypt"):
        BundleReader(sealed)
    with pytest.raises(UsageError, match="encrypted already"):
        sealing.encrypt(sealed, f"{sealed}.age", sealing.recipients([key[0]]))
    with pytest.raises(Failed, match="nothing is overwritten"):
        sealing.encrypt(str(bundle), sealed, sealing.recipients([key[0]]))
    with pytest.raises(UsageError, match="is not encrypted"):
        sealing.decrypt(str(bundle), f"{bundle}.x", sealing.identities([str(key[1])]))
    assert {path.name for path in tmp_path.iterdir()} == {
        "again",
        "b.tar.gz",
        "b.tar.gz.age",
        "key.txt",
        "other",
    }


@pytest.mark.parametrize("harm", ["cut", "short", "flipped"])
def test_nothing_stays_of_what_is_damaged(
    bundle: Path, key: tuple[str, Path], tmp_path: Path, harm: str
) -> None:
    """Also of the whole chunks before the damage: they would look like a bundle."""
    sealed = tmp_path / "b.age"
    sealing.encrypt(str(bundle), str(sealed), sealing.recipients([key[0]]))
    data = bytearray(sealed.read_bytes())
    if harm == "flipped":
        data[-500] ^= 1
    sealed.write_bytes(data[: {"cut": -500, "short": 40}.get(harm, len(data))])
    with pytest.raises(Failed, match="damaged or cut short"):
        sealing.decrypt(str(sealed), str(tmp_path / "again"), sealing.identities([str(key[1])]))
    assert not list(tmp_path.glob("again*"))


def test_keys_that_are_none_are_told_without_showing_secret_ones(
    key: tuple[str, Path], tmp_path: Path
) -> None:
    secret = key[1].read_text().split()[-1]
    odd = tmp_path / "odd"
    odd.write_text(secret[:-1] + "\n")
    for words in (
        [secret],
        [secret.lower()],
        [str(key[1])],
        ["age1nonsense"],
        [str(tmp_path / "none")],
        [],
    ):
        with pytest.raises(UsageError) as failed:
            sealing.recipients(words)
        assert secret[20:] not in str(failed.value).upper()
    for files in ([str(odd)], [str(tmp_path / "none")], [os.devnull], []):
        with pytest.raises(UsageError) as failed:
            sealing.identities(files)
        assert secret[20:40] not in str(failed.value)


def test_ssh_keys_and_files_of_recipients(bundle: Path, key: tuple[str, Path], tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    made = Ed25519PrivateKey.generate()
    public = made.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    private = tmp_path / "id"
    private.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    listed = tmp_path / "team"
    listed.write_text(f"# the team\n{public} me@here\n{key[0]}\n")
    sealed = f"{bundle}.age"
    sealing.encrypt(str(bundle), sealed, sealing.recipients([str(listed)]))
    for number, identity in enumerate((private, key[1])):
        sealing.decrypt(sealed, f"{bundle}.{number}", sealing.identities([str(identity)]))
        assert Path(f"{bundle}.{number}").read_bytes() == bundle.read_bytes()


def test_a_capture_keeps_only_the_encrypted_one(
    bundle: Path, key: tuple[str, Path], run: asyncio.Runner
) -> None:
    delivery = Delivery(recipients=sealing.recipients([key[0]]))
    done = run.run(delivery.deliver(str(bundle)))
    assert done.path == f"{bundle}.age" and not bundle.exists() and delivery.local(str(bundle)) == done.path


def test_an_interrupt_leaves_no_file(key: tuple[str, Path], tmp_path: Path) -> None:
    """Of a file without end: the library takes an interrupt in the middle for an error, or tries again."""
    endless = (
        "import sys; from kdebug.capture import sealing\n"
        "class Slow:\n"
        "    def read(self, count=-1):\n"
        "        print('read', flush=True); return b'x' * 65536\n"
        "with sealing._new(sys.argv[1]) as target:\n"
        "    sealing._piped(sealing._library().encrypt_io, sealing._Told(Slow(), print), target,\n"
        "                   sealing.recipients([sys.argv[2]]))\n"
    )
    made = tmp_path / "made"
    client = subprocess.Popen(
        [sys.executable, "-c", endless, str(made), key[0]], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert client.stdout is not None and client.stdout.readline().strip() == b"read"
        client.send_signal(signal.SIGINT)
        client.communicate(timeout=30)
    finally:
        client.kill()
    assert client.returncode != 0 and not list(tmp_path.glob("made*"))


def test_the_command_line(bundle: Path, key: tuple[str, Path], tmp_path: Path) -> None:
    def cli(*words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([PROGRAM, *words], capture_output=True, timeout=60, stdin=subprocess.DEVNULL)

    done = cli("bundle", "encrypt", str(bundle), "-r", key[0])
    assert done.returncode == 0 and done.stdout.decode().strip() == f"{bundle}.age"
    told = cli("ps", f"bundle:{bundle}.age")
    assert told.returncode == 1 and b"kdebug bundle decrypt" in told.stderr
    bundle.unlink()
    back = cli("bundle", "decrypt", f"{bundle}.age", "-i", str(key[1]))
    assert back.returncode == 0 and back.stdout.decode().strip() == str(bundle) and bundle.exists()
