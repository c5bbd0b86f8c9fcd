"""A bundle as one page of HTML, for those who were not there."""

from __future__ import annotations

import asyncio
import hashlib
import os

from kdebug.capture.reader import BundleReader
from kdebug.capture.report.evidence import Evidence, Gatherer, Tell, manifest_of
from kdebug.capture.report.page import page
from kdebug.errors import from_os_error

PIECE = 1024 * 1024


async def report(path: str, tell: Tell = lambda what: None) -> tuple[bytes, Evidence]:
    """The page, and what it was made of. Raises as `BundleReader` does."""
    with BundleReader(path) as bundle:
        name = os.path.basename(path)
        tell("the digest")
        found = Evidence(name, await digest(path), bundle.size_bytes, manifest_of(bundle), bundle.rebuilt)
        await Gatherer(bundle, found, tell).gather()
        return page(found), found


async def digest(path: str) -> str:
    """What sha256sum prints for the file."""
    sha = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while piece := file.read(PIECE):
                sha.update(piece)
                await asyncio.sleep(0)  # an interrupt must get its turn
    except OSError as error:
        raise from_os_error(error, f"the bundle {path} cannot be read") from error
    return sha.hexdigest()
