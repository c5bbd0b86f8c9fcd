"""SHA-256 of files, read once, in pieces."""

from __future__ import annotations

import os

from kdebug.annotations import Any, Iterator, Optional
from kdebug.probe.rooted import Root
from kdebug.probe.tree_files import OpenedFile, TreeFiles
from kdebug.protocol.search import Checksum, Digest, Progress

PIECE = 256 * 1024


class ChecksumSearch:
    """One run; `rows` yields a digest a file, and None between the pieces."""

    def __init__(self, root: Root, request: Checksum, proc: str = "/proc") -> None:
        self._files = TreeFiles(root, request, None, proc)

    def progress(self, done: bool) -> Progress:
        notes = tuple(self._files.skipped) if done else ()
        return Progress(self._files.visited, self._files.bytes_read, notes)

    def rows(self) -> Iterator[Optional[Digest]]:
        for found in self._files.files():
            if found is None:
                yield None
            elif found.error:
                yield Digest(found.path, None, error=found.error)
            else:
                yield from self._file(found)

    def _file(self, found: OpenedFile) -> Iterator[Optional[Digest]]:
        digest, size = new_sha256(), 0
        try:
            while piece := os.read(found.fd, PIECE):
                digest.update(piece)
                size += len(piece)
                self._files.bytes_read += len(piece)
                if size >= found.limit:
                    yield Digest(found.path, None, size, f"a pseudo-file of more than {found.limit} bytes")
                    return
                yield None
        except OSError as error:
            yield Digest(found.path, None, size, error.strerror or str(error))
            return
        yield Digest(found.path, digest.hexdigest(), size)


def new_sha256() -> Any:
    """From OpenSSL, which is several times as fast, for its 5 MiB of memory at the first digest."""
    import hashlib

    return hashlib.sha256()
