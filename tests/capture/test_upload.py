"""Bundles into stores: whole or not at all, compared, and never lost from this machine too early."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from kdebug.capture import upload
from kdebug.capture.delivery import Delivery
from kdebug.capture.upload import Placed, Store, is_url, shown
from kdebug.errors import AccessDenied, Failed, UsageError

DATA = hashlib.sha256(b"seed").digest() * 100_000
"""3 MiB: more than one piece."""


class Odd(MemoryFileSystem):  # type: ignore[misc]
    """A store that can be made to misbehave; its objects are its own."""

    protocol = "odd"
    cachable = False
    hook: Callable[[str, str], None] = staticmethod(lambda what, path: None)
    spoil = False

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        type(self).hook("open " + mode, path)
        file = super().open(path, mode, **options)
        if mode == "wb":
            write = file.write

            def odd(data: bytes) -> Any:
                type(self).hook("write", path)
                return write(data[:-1] + b"\0" if type(self).spoil else data)

            file.write = odd
        return file


@pytest.fixture(autouse=True)
def odd() -> Iterator[type[Odd]]:
    class Mine(Odd):
        pass

    fsspec.register_implementation("odd", Mine, clobber=True)
    yield Mine
    MemoryFileSystem.store.clear()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / f"{uuid.uuid4().hex}.tar.gz"
    path.write_bytes(DATA)
    return path


def stored() -> dict[str, bytes]:
    return {name.rpartition("/")[2]: file.getvalue() for name, file in MemoryFileSystem.store.items()}


def test_a_folder_of_this_machine(tmp_path: Path, bundle: Path, run: asyncio.Runner) -> None:
    folder = tmp_path / "a" / "store"
    store, told = Store(f"file://{folder}/"), []
    placed = run.run(store.put(str(bundle), told.append))
    there = folder / bundle.name
    assert placed == Placed(f"file://{there}") and there.read_bytes() == DATA
    assert there.stat().st_mode & 0o777 == 0o600 and folder.stat().st_mode & 0o077 == 0
    assert [path.name for path in folder.iterdir()] == [bundle.name] and max(told) == len(DATA)
    with pytest.raises(Failed, match="exists: nothing is overwritten"):
        run.run(store.put(str(bundle)))
    assert there.read_bytes() == DATA
    run.run(store.folder("fleet").put(str(bundle)))
    assert (folder / "fleet" / bundle.name).read_bytes() == DATA
    part = folder / f"{bundle.name}.part"
    there.rename(part)
    with pytest.raises(Failed, match="another upload is at work"):
        run.run(store.put(str(bundle)))
    assert part.exists() and not there.exists()


@pytest.mark.parametrize("whole_at_once", [False, True])
def test_what_is_stored_is_compared(
    bundle: Path, run: asyncio.Runner, odd: type[Odd], whole_at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways of putting: beside the name and renamed, and as object stores take it."""
    if whole_at_once:
        monkeypatch.setattr(upload, "WHOLE_AT_ONCE", {"odd"})
    store = Store("odd://bucket/incidents")
    opened: list[tuple[str, str]] = []
    odd.hook = staticmethod(lambda what, path: opened.append((what, path)))
    assert run.run(store.put(str(bundle))) == Placed(f"odd://bucket/incidents/{bundle.name}")
    assert stored() == {bundle.name: DATA}
    written = {path for what, path in opened if what == "write"}
    assert [path.endswith(".part") for path in written] == [not whole_at_once]
    MemoryFileSystem.store.clear()
    odd.spoil = True
    with pytest.raises(Failed, match="SHA-256 is another") as failed:
        run.run(store.put(str(bundle)))
    assert str(failed.value).startswith(f"odd://bucket/incidents/{bundle.name}") and stored() == {}


def test_a_store_that_may_only_be_written(bundle: Path, run: asyncio.Runner, odd: type[Odd]) -> None:
    """Nobody can say that it is whole: so the local file stays, and the user is told."""

    def hook(what: str, path: str) -> None:
        if what == "open rb":
            raise PermissionError("no GetObject for you")

    odd.hook = staticmethod(hook)
    done = run.run(Delivery(store=Store("odd://bucket")).deliver(str(bundle)))
    assert done.url and done.path == str(bundle) and bundle.exists() and stored()[bundle.name] == DATA
    assert "no GetObject for you" in done.remark and str(bundle) in done.remark


def test_the_local_file_goes_only_when_the_store_has_it(
    bundle: Path, run: asyncio.Runner, odd: type[Odd]
) -> None:
    def refused(what: str, path: str) -> None:
        if what == "open wb":
            raise PermissionError("no PutObject for you")

    odd.hook = staticmethod(refused)
    store = Store("odd://bucket")
    with pytest.raises(AccessDenied, match="no PutObject") as failed:
        run.run(Delivery(store=store).deliver(str(bundle)))
    assert str(bundle) in failed.value.next_step and bundle.exists()

    def broken(what: str, path: str) -> None:
        if what == "write":
            raise RuntimeError("the store's own kind of error")

    odd.hook = staticmethod(broken)
    with pytest.raises(Failed, match="own kind"):
        run.run(Delivery(store=store).deliver(str(bundle)))
    assert bundle.exists() and stored() == {}
    odd.hook = staticmethod(lambda what, path: None)
    kept = run.run(Delivery(store=store, keep=True).deliver(str(bundle)))
    assert kept.path == str(bundle) and bundle.exists()
    MemoryFileSystem.store.clear()
    sent = run.run(Delivery(store=store).deliver(str(bundle)))
    assert sent.path == "" and not bundle.exists() and stored() == {bundle.name: DATA}


@pytest.mark.parametrize("whole_at_once", [False, True])
def test_an_interrupt_leaves_no_half_of_it(
    bundle: Path, run: asyncio.Runner, odd: type[Odd], whole_at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if whole_at_once:
        monkeypatch.setattr(upload, "WHOLE_AT_ONCE", {"odd"})
    writing, go_on = threading.Event(), threading.Event()

    def hook(what: str, path: str) -> None:
        if what == "write":
            writing.set()
            assert go_on.wait(30)

    odd.hook = staticmethod(hook)

    async def interrupted() -> None:
        task = asyncio.create_task(Delivery(store=Store("odd://bucket")).deliver(str(bundle)))
        assert await asyncio.to_thread(writing.wait, 30)
        task.cancel()
        for _ in range(10):  # the task learns of it before the store goes on
            await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    run.run(interrupted())
    assert stored() == {} and bundle.read_bytes() == DATA


def test_urls() -> None:
    assert is_url("s3://bucket/x") and not is_url("/tmp/x") and not is_url("a:b")
    assert shown("ftp://me:hunter2@host/x") == "ftp://me:***@host/x"
    for url, words in (
        ("/tmp/x", "--output names a local file"),
        ("simplecache::s3://bucket", "no URL of a store"),
        ("nonsense://x", "nonsense"),
    ):
        with pytest.raises(UsageError, match=words):
            Store(url)
