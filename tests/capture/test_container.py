"""Bundles as files: tar reads them, we read them in place, and what lies about itself is refused."""

from __future__ import annotations

import io
import json
import os
import random
import struct
import subprocess
import tarfile
import zlib
from pathlib import Path

import pytest

from kdebug.capture import writer as writer_module
from kdebug.capture.container import BLOCK, FOOTER_BYTES, BadBundle, footer, header
from kdebug.capture.reader import BundleReader
from kdebug.capture.writer import BundleWriter
from kdebug.errors import Failed, KdebugError


def made(folder: Path, members: dict[str, bytes]) -> Path:
    path = folder / "b.tar.gz"
    writer = BundleWriter(str(path))
    for name, data in members.items():
        writer.add(name, data)
    writer.close()
    return path


def some_members(chance: random.Random) -> dict[str, bytes]:
    names = ["manifest.json", "target/processes.json", "files/etc/ü", "logs/" + "x" * 200, "a"]
    return {
        name: chance.randbytes(chance.randrange(3000)) + bytes(chance.randrange(5000)) for name in names
    }


def test_what_goes_in_comes_out_and_tar_reads_it_too(tmp_path: Path, seed: int) -> None:
    members = some_members(random.Random(seed))
    path = made(tmp_path, members)
    with BundleReader(str(path)) as bundle:
        assert {name: bundle.read(name) for name in members} == members
        assert set(bundle.members) == set(members) and bundle.verify() == [] and not bundle.rebuilt
    with tarfile.open(path) as archive:
        assert {m.name: archive.extractfile(m).read() for m in archive if m.name in members} == members  # type: ignore[union-attr]
        assert all(member.isfile() and member.mode == 0o600 for member in archive.getmembers())
    assert subprocess.run(["gzip", "-t", path], check=False).returncode == 0
    assert path.stat().st_mode & 0o777 == 0o600 and not path.with_name("b.tar.gz.part").exists()


def test_a_stream_becomes_parts_in_order(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "PART_BYTES", 10_000)
    chance = random.Random(seed)
    data = chance.randbytes(70_003)
    writer = BundleWriter(str(tmp_path / "b"))
    pieces, at = [], 0
    while at < len(data):
        pieces.append(data[at : at + chance.randrange(1, 25_000)])
        at += len(pieces[-1])
    writer.stream("logs/app.log", pieces)
    writer.stream("logs/short", [b"one"])
    writer.stream("logs/empty", [])
    writer.close()
    with BundleReader(str(tmp_path / "b")) as bundle:
        parts = bundle.parts("logs/app.log")
        assert len(parts) > 5 and b"".join(bundle.read(part.name) for part in parts) == data
        assert bundle.read("logs/short") == b"one" and bundle.read("logs/empty") == b""


def test_a_bundle_without_its_end_is_read_as_far_as_it_is_whole(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    members = some_members(chance)
    data = made(tmp_path, members).read_bytes()
    order = list(members)
    with BundleReader(str(tmp_path / "b.tar.gz")) as whole:
        ends = {name: m.offset + m.packed_bytes for name, m in whole.members.items()}
    for _ in range(60):
        cut = chance.randrange(len(data))
        (tmp_path / "cut").write_bytes(data[:cut])
        expected = [name for name in order if ends[name] <= cut]
        try:
            with BundleReader(str(tmp_path / "cut")) as bundle:
                assert list(bundle.members) == expected and bundle.rebuilt
                assert {name: bundle.read(name) for name in expected} == {n: members[n] for n in expected}
        except BadBundle:
            assert not expected


def test_a_flipped_bit_is_never_taken_for_the_truth(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    members = some_members(chance)
    data = made(tmp_path, members).read_bytes()
    for _ in range(300):
        broken = bytearray(data)
        broken[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        (tmp_path / "broken").write_bytes(broken)
        try:
            with BundleReader(str(tmp_path / "broken")) as bundle:
                for name in bundle.members:
                    try:
                        assert bundle.read(name) == members.get(name)
                    except BadBundle:
                        pass
        except BadBundle:
            pass


def packed(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()


def raw(name: str, data: bytes, kind: bytes = tarfile.REGTYPE, size: int = -1) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data) if size < 0 else size, kind, "/etc/passwd"
    if kind not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        info.size = 0
    return packed(info.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % BLOCK))


HOSTILE = {
    "an absolute name": raw("/etc/passwd", b"x"),
    "a name with dots": raw("a/../../b", b"x"),
    "a symlink": raw("link", b"", tarfile.SYMTYPE),
    "a hard link": raw("hard", b"", tarfile.LNKTYPE),
    "a device": raw("null", b"", tarfile.CHRTYPE),
    "a directory": raw("dir", b"", tarfile.DIRTYPE),
    "more than it holds": raw("a", b"x", size=10_000),
    "a terabyte": raw("a", b"x", size=2**40),
    "no tar at all": packed(b"hello" * 1000),
    "nothing": b"",
    "no gzip": os.urandom(2000),
    "an endless header": packed(header("x", 0, 0)[:100]),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_no_bundle_is_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "hostile"
    path.write_bytes(HOSTILE[what])
    with pytest.raises(BadBundle):
        BundleReader(str(path))
    path.write_bytes(HOSTILE[what] + footer(0))
    with pytest.raises(BadBundle):
        BundleReader(str(path))


def indexed(folder: Path, index: str, before: bytes = b"") -> Path:
    path = folder / "lies"
    data = before or raw("a", b"hello")
    path.write_bytes(data + raw("index.json", index.encode()) + footer(len(data)))
    return path


@pytest.mark.parametrize(
    "entry",
    [
        '{"name":"a","offset":0,"packed_bytes":10,"size_bytes":99999999999,"sha256":""}',
        '{"name":"a","offset":-5,"packed_bytes":10,"size_bytes":5,"sha256":""}',
        '{"name":"a","offset":0,"packed_bytes":99999999,"size_bytes":5,"sha256":""}',
        '{"name":"../a","offset":0,"packed_bytes":10,"size_bytes":5,"sha256":""}',
        '{"name":"a"}', '17', '{"name":"a","offset":"x","packed_bytes":10,"size_bytes":5,"sha256":""}',
    ],
)  # fmt: skip
def test_an_index_that_lies_is_not_believed(tmp_path: Path, entry: str) -> None:
    """What stands in the file itself is found instead."""
    path = indexed(tmp_path, f'{{"format":1,"members":[{entry}]}}')
    with BundleReader(str(path)) as bundle:
        assert bundle.rebuilt and bundle.read("a") == b"hello"


def test_members_inside_of_members_are_refused(tmp_path: Path) -> None:
    """Stored, one member's contents are another member: a bomb that no ratio tells."""
    inner = raw("inner", b"x" * 10_000)
    stored = zlib.compressobj(0, zlib.DEFLATED, 31)
    plain = header("outer", len(inner), 0) + inner + bytes(-len(inner) % BLOCK)
    outer = stored.compress(plain) + stored.flush()
    at = outer.index(inner[:20])
    rows = [("outer", 0, len(outer), len(inner)), ("inner", at, len(inner), 10_000)]
    listed = [
        {"name": name, "offset": offset, "packed_bytes": packed, "size_bytes": size, "sha256": ""}
        for name, offset, packed, size in rows
    ]
    path = indexed(tmp_path, json.dumps({"format": 1, "members": listed}), outer)
    with BundleReader(str(path)) as bundle:
        assert "inside another" in bundle.rebuilt and list(bundle.members) == ["outer"]


def test_a_digest_that_is_wrong_is_told(tmp_path: Path) -> None:
    before = raw("a", b"hello")
    entry = f'{{"name":"a","offset":0,"packed_bytes":{len(before)},"size_bytes":5,"sha256":"{"0" * 64}"}}'
    with BundleReader(str(indexed(tmp_path, f'{{"format":1,"members":[{entry}]}}', before))) as bundle:
        with pytest.raises(BadBundle, match="is damaged"):
            bundle.read("a")
        assert len(bundle.verify()) == 1


def test_a_bomb_does_not_fill_the_memory(tmp_path: Path) -> None:
    """A gigabyte of zeros in a megabyte: read piece by piece it is harmless, as a whole it is refused."""
    size = 1 << 30
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    data = packer.compress(header("bomb", size, 0))
    for _ in range(size >> 20):
        data += packer.compress(bytes(1 << 20))
    data += packer.flush()
    entry = f'{{"name":"bomb","offset":0,"packed_bytes":{len(data)},"size_bytes":{size},"sha256":""}}'
    path = indexed(tmp_path, f'{{"format":1,"members":[{entry}]}}', data)
    with BundleReader(str(path)) as bundle, pytest.raises(BadBundle, match="at most"):
        bundle.read("bomb")
    (tmp_path / "cut").write_bytes(data)
    with pytest.raises(BadBundle):
        BundleReader(str(tmp_path / "cut"))


def test_a_full_disk_leaves_what_was_written_before(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = tmp_path / "b.tar.gz"
    script = f"""
import resource, sys, signal
sys.path.insert(0, "src")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
from kdebug.capture.writer import BundleWriter
from kdebug.errors import Failed
import random
chance = random.Random({seed})
w = BundleWriter({str(path)!r})
for number in range(20):
    try:
        w.add(f"m{{number}}", chance.randbytes(30_000))
    except Failed as error:
        print(number, error.why); break
try:
    w.close()
except Failed as error:
    print("close", error.why)
"""
    done = subprocess.run(["python3", "-c", script], capture_output=True, text=True, timeout=60)
    number = int(done.stdout.split()[0])
    assert "File too large" in done.stdout, done
    found = path if path.exists() else path.with_name("b.tar.gz.part")
    with BundleReader(str(found)) as bundle:
        assert {f"m{n}": chance.randbytes(30_000) for n in range(number)} == {
            name: bundle.read(name) for name in bundle.members
        }


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "b"
    path.write_text("mine")
    writer = BundleWriter(str(path))
    writer.add("a", b"x")
    with pytest.raises(Failed, match="exists"):
        writer.close()
    assert path.read_text() == "mine" and (tmp_path / "b.part").exists()
    with pytest.raises(KdebugError, match="cannot be made"):
        BundleWriter(str(path))


def test_the_footer_is_an_empty_gzip_member() -> None:
    assert len(footer(2**40)) == FOOTER_BYTES
    assert zlib.decompress(footer(12345), 31) == b"" and struct.pack("<H", 20) in footer(1)
    assert io.BytesIO(footer(0)).read(2) == b"\x1f\x8b"
