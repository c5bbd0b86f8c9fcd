"""The report in a real browser: it shows in light and dark and on paper, loads nothing, and runs nothing.

Needs Chromium, whose installation takes longer than all of these tests.
"""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from capture.test_report import KEPT, PAYLOADS
from kdebug.capture.report import report
from support.bundles import made_pod, poisoned

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(
        not CHROMIUM, reason="needs chromium (package chromium), which this machine has not"
    ),
]
LIGHT, DARK = (0xFB, 0xFB, 0xF8), (0x10, 0x15, 0x1B)
"""The ground of the page."""


def browse(page: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """One headless browser on one page, with a profile of its own; its console is on stderr."""
    argv = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--hide-scrollbars", "--no-first-run", "--enable-logging=stderr",
        f"--user-data-dir={page.parent}/profile", *flags,
        page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, timeout=180, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    assert "Refused to" not in done.stderr and "Content Security Policy" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _written(tmp_path_factory.mktemp("page"), False, 0)


def _written(folder: Path, hostile: bool, seed: int) -> Path:
    bundle, page = folder / "b.tar.gz", folder / "page.html"
    if hostile:
        made_pod(bundle, poisoned(random.Random(seed), PAYLOADS, KEPT))
    else:
        made_pod(bundle)
    page.write_bytes(asyncio.run(report(str(bundle)))[0])
    return page


def first_pixel(png: bytes) -> tuple[int, ...]:
    """Of the upper left corner, which no filter of PNG changes (PNG specification, 9.2)."""
    data, at = b"", 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += 12 + length
    return tuple(zlib.decompress(data)[1:4])


@pytest.mark.parametrize(("scheme", "ground"), [(1, LIGHT), (0, DARK)])
def test_light_and_dark(page: Path, scheme: int, ground: tuple[int, ...]) -> None:
    picture = page.with_name(f"{scheme}.png")
    browse(page, f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={picture}",
           "--window-size=1280,3000")  # fmt: skip
    png = picture.read_bytes()
    assert first_pixel(png) == ground and len(png) > 100_000


def test_a_browser_sees_every_section(page: Path) -> None:
    dom = browse(page, "--dump-dom").stdout
    sections = re.findall(r'<section id="(\w+)"', dom)
    assert sections == "summary usage processes files sockets pod logs missing redacted account".split()
    assert dom.count("<figure") == 6 and "memory of worker-leak (pid 22) rises" in dom


def test_on_paper(page: Path) -> None:
    paper = page.with_name("page.pdf")
    browse(page, f"--print-to-pdf={paper}", "--no-pdf-header-footer")
    data = paper.read_bytes()
    assert data.startswith(b"%PDF") and 2 <= len(re.findall(rb"/Type\s*/Page\b", data)) <= 20


def test_what_a_hostile_bundle_says_stays_text(tmp_path: Path, seed: int) -> None:
    dom = browse(_written(tmp_path, True, seed), "--dump-dom").stdout
    for element in ("script", "img", "iframe", "object", "link", "form", "b"):
        assert f"<{element}>" not in dom and f"<{element} " not in dom, element
    assert dom.count("<style>") == 1 and "&lt;script&gt;alert(1)" in dom
