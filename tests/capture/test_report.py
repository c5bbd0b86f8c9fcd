"""The report of a bundle: what it says, and that nothing in a bundle becomes markup or breaks it."""

from __future__ import annotations

import asyncio
import html
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from capture.test_redact_corpus import known_corpus, leaks, scattered, shape_corpus
from capture.test_runner import captured, cli, recipe
from kdebug.capture.redact import Redactor
from kdebug.capture.redaction import NoRedaction, Redaction
from kdebug.capture.report import report
from kdebug.capture.report.evidence import spread
from kdebug.capture.report.html import Markup, stylesheet, tag
from kdebug.capture.report.log_windows import BEFORE, LAST_LINES
from kdebug.capture.report.plot import Plot, Series, figure
from kdebug.errors import KdebugError
from kdebug.sanitise import multi_line
from support.bundles import MANIFEST, MIB, NOW, Made, made_pod, poisoned, process
from support.planted import Planted

VOID = {"meta", "br"}
ELEMENTS = VOID | set(
    "html head title style body header nav main section footer h1 h2 h3 p a span strong code ul li dl div"
    " dt dd table thead tbody tr th td details summary figure figcaption svg path".split()
)
ATTRIBUTES = set(
    "lang charset http-equiv content name class id href role scope colspan tabindex d viewbox"
    " preserveaspectratio aria-label aria-labelledby aria-hidden".split()
)
PAYLOADS = [
    "</td></table><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onmouseover='alert(1)",
    "</style><style>@import url(//evil.example)</style>", "<!--", "]]>", "&lt;b&gt;&amp;", "\x1b]0;t\x07",
    "\u202egnp.exe", "\r\nforged", "\udcff", "\x00", "javascript:alert(1)", "[/foo]", "\u2028", "</title>",
]  # fmt: skip
KEPT = frozenset(
    "family type state kind request question at cursor outcome container agent_container"
    " status started_at ended_at created_at last_termination_at since member members pod namespace"
    " scanned_bytes".split()
)
"""What decides which section something comes to: with that poisoned there is less to see."""


class Page(HTMLParser):
    """Refuses what a report never holds; gathers the text."""

    def __init__(self, data: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.texts: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        text = data.decode("utf-8")
        assert multi_line(text) == text, "a character that the sanitiser escapes"
        assert text.count("<!") == 1
        self.feed(text)
        self.close()
        assert self.open == []
        assert len(set(self.ids)) == len(self.ids)
        assert set(self.links) <= {f"#{one}" for one in self.ids}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        assert tag in ELEMENTS, tag
        for name, value in attrs:
            assert name in ATTRIBUTES, (tag, name, value)
            if name == "href":
                self.links.append(value)
            elif name == "id":
                self.ids.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    handle_pi = unknown_decl = handle_comment

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


@pytest.fixture(scope="module")
def pod_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, bytes]]:
    path = tmp_path_factory.mktemp("pod") / "web.kdebug.tar.gz"
    made_pod(path)
    yield path, asyncio.run(report(str(path)))[0]


def test_a_pod_is_told_with_everything_that_matters(pod_page: tuple[Path, bytes]) -> None:
    text = Page(pod_page[1]).text
    for said in (
        "app restarted 8m25s ago, 3 times so far: exit code 137 (OOMKilled)",
        "memory is at 92% of its limit of 256.0M; most has worker-leak (pid 22), 175.0M",
        "memory of worker-leak (pid 22) rises by 95.0 MiB/min",
        "client (pid 23) holds 31 sockets in CLOSE-WAIT",
        "a deleted file of 700.0M is held open by server (pid 7): /tmp/upload.tmp",
        "server (pid 7) has 64 of 64 files open",
        "CPU is throttled: the quota of 0.5 cores was used up in 40% of the periods",
        "Readiness probe failed: HTTP 503",
        "the node says DiskPressure=True: KubeletHasDiskPressure",
        "redaction cannot look into it",
        "log of sidecar: the server said no",
        "prod shop/web-0 app",
        "environ of 7 (server) (3)",
        r"level=error out of \xff buffers",
    ):
        assert said in text, said
    assert "the clock there" not in text
    assert "/app/python3" not in text, "a process of kdebug's own"
    for title in ("Memory of the container", "CPU", "Open descriptors", "Sockets", "Threads"):
        assert title in text
    assert "working set: 235.0M" in text and "limit: 256.0M" in text


def test_logs_stand_around_what_happened(pod_page: tuple[Path, bytes]) -> None:
    text = Page(pod_page[1]).text
    death = text[text.index("exit code 137 (OOMKilled)", text.index("lines of all containers")) :]
    lines = death.splitlines()
    heap = [line for line in lines[:200] if line.startswith("level=warn heap at")]
    assert heap[-1] == "level=warn heap at 99 %" and len(heap) == BEFORE
    assert f"The last {LAST_LINES} lines" in text


def test_the_same_bundle_gives_the_same_bytes_and_no_path_of_this_machine(
    pod_page: tuple[Path, bytes], tmp_path: Path, run: asyncio.Runner
) -> None:
    path, data = pod_page
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    assert run.run(report(str(copy)))[0] == data
    assert str(path.parent).encode() not in data


def test_nothing_is_loaded_and_nothing_runs(pod_page: tuple[Path, bytes]) -> None:
    data = pod_page[1]
    assert b"default-src &#39;none&#39;; style-src &#39;unsafe-inline&#39;" in data
    for word in (b"<script", b"http://", b"https://", b"@import", b"url(", b"src=", b"javascript:"):
        assert word not in data, word


# Hostile bundles


def test_whatever_is_in_names_is_text(tmp_path: Path, run: asyncio.Runner, seed: int) -> None:
    chance = random.Random(seed)
    path = tmp_path / "b"
    made_pod(path, poisoned(chance, PAYLOADS, KEPT), samples=4)
    page = Page(run.run(report(str(path)))[0])
    for shown in ("<script>alert(1)</script>", "onerror=alert(1)", "' onmouseover='", "&lt;b&gt;",
                  r"\u202egnp", r"\xff", r"\x00", r"\r\nforged", "<!--"):  # fmt: skip
        assert shown in page.text, shown
    assert {"usage", "processes", "files", "sockets", "pod", "logs", "redacted"} <= set(page.ids)


@pytest.mark.parametrize("attempt", range(6))
def test_a_liar_gets_a_page_or_a_refusal(
    tmp_path: Path, run: asyncio.Runner, seed: int, attempt: int
) -> None:
    """Values of other types, and numbers that no machine has."""
    chance = random.Random(seed + attempt)
    odd = [None, True, -1, 0, 2**127, 10**400, 1e308, -1e308, float("nan"), float("inf"), "", "x", [], {},
           [[]], {"a": {}}, [None], *PAYLOADS[:3]]  # fmt: skip

    def change(value: Any) -> Any:
        if chance.random() < 0.003:
            return chance.choice(odd)
        if isinstance(value, dict):
            return {key: change(item) for key, item in value.items()}
        return [change(item) for item in value] if isinstance(value, list) else value

    pages = 0
    for number in range(5):
        path = tmp_path / f"b{number}"
        made_pod(path, lambda document: change(document) or {}, samples=7)
        try:
            data, _ = run.run(report(str(path)))
        except KdebugError:
            continue
        Page(data)
        pages += 1
    assert pages, "every one was refused: nothing was tried"


def test_numbers_at_the_edge_are_drawn() -> None:
    """Of the right type, and absurd."""
    for values in ([0, 0], [1e29, 1e-300], [5e-324, 5e-324], [3, 3], [1023.0, 1024.0]):
        for times in ([0.0, 0.0], [-1e18, 1e18], [1.0, 2.0]):
            plot = Plot("p", [Series("s", list(zip(times, map(float, values))))], str, 1e300, binary=True)
            drawn = figure(plot, "key").text
            assert "nan" not in drawn and "inf" not in drawn


def test_a_crowd_is_bounded(tmp_path: Path, run: asyncio.Runner) -> None:
    from kdebug.protocol import requests as ask
    from kdebug.protocol.processes import ProcessPage
    from kdebug.protocol.system import TargetInfo

    path = tmp_path / "b"
    made = Made(path)
    info = TargetInfo(7, 7, "server", None, True, True, "boot", 100, 4096, False)
    made.answer(ask.OpenTarget(pid=7), info, NOW)
    rows = tuple(process(n, "n" * 15, n * MIB, 1.0, cmdline=("x" * 3000,)) for n in range(1, 1001))
    made.answer(ask.ListProcesses(), ProcessPage(rows, 1, True, taken_at=NOW), NOW)
    artifacts = [{"what": f"w{n}", "outcome": "failed", "reason": "r" * 9000} for n in range(1000)]
    made.close(MANIFEST | {"artifacts": artifacts, "problems": ["p"] * 3000})
    data, _ = run.run(report(str(path)))
    assert "… and 700 more" in Page(data).text and "… and 800 more" in Page(data).text
    assert len(data) < 2 * MIB


def test_text_is_made_safe_in_one_place() -> None:
    assert tag("p", "<b>", ["&", None, 7], title_="'\"").text == (
        '<p title="&#39;&quot;">&lt;b&gt;&amp;7</p>'
    )
    assert tag("p", Markup("<b>"), hidden=True, lang=None, dir=False).text == "<p hidden><b></p>"
    with pytest.raises(ValueError, match="may not hold"):
        stylesheet("p {} </style>")
    made = [name for name, text in sources() if "Markup(" in text]
    assert made == ["html.py"], "only there is markup made of text"


def sources() -> list[tuple[str, str]]:
    import kdebug.capture.report

    folder = Path(kdebug.capture.report.__path__[0])
    return [(path.name, path.read_text("utf-8")) for path in sorted(folder.glob("*.py"))]


def test_samples_are_spread_evenly() -> None:
    assert spread([1.0, 2.0], 5) == [1.0, 2.0]
    assert spread([float(n) for n in range(101)], 5) == [0.0, 25.0, 50.0, 75.0, 100.0]


# Real captures


def test_the_practice_target_is_told_by_its_three_faults(tmp_path: Path, run: asyncio.Runner) -> None:
    what = recipe(
        "steps:\n- facts: [processes, sockets, deleted, cgroup]\n"
        "- facts: [cgroup, processes, sockets]\n  name: s\n  samples: {every: 400ms, count: 9}\n"
    )
    path = tmp_path / "b"
    run.run(captured(path, what))
    data, found = run.run(report(str(path)))
    said = [finding.text for finding in found.findings()]
    # Rises where a busy machine made the capture longer than what a trend takes.
    leak = [text for text in said if "memory of worker-leak (pid " in text]
    assert len(leak) == 1 and (" rose by " in leak[0] or " rises by " in leak[0]), said
    assert any("a deleted file of 3.0M is held open by server (pid " in text for text in said), said
    assert any("client (pid " in text and "in CLOSE-WAIT" in text for text in said), said
    page = Page(data)
    assert all(text in page.text for text in said)
    assert "worker-leak" in page.text and "/tmp/upload-7f3a.tmp" in page.text


def planted_capture(path: Path, place: Path, redaction: Redaction, values: list[str], run: Any) -> bytes:
    """Of a process that has the secrets in its environment and arguments, and prints them to its log."""
    argv = [sys.executable, "-c", "import time; time.sleep(600)", f"--password={values[1]}"]
    environment = {f"SECRET_{number}_PASSWORD": value for number, value in enumerate(values)}
    victim = subprocess.Popen(argv, env={"PATH": os.environ["PATH"], **environment})
    try:
        what = recipe(
            "steps:\n- facts: [processes, cgroup]\n- each_process: [environ, fds, limits]\n"
            f"- listings: [{place}]\n- files: ['{place}/*.log']\n"
        )
        run.run(captured(path, what, expression=f"local:{victim.pid}", redaction=redaction))
    finally:
        victim.kill()
        victim.wait()
    data: bytes = run.run(report(str(path)))[0]
    return data


def leaked(data: bytes, secrets: list[Planted]) -> list[str]:
    """As `leaks`, with one look through a long page for the beginnings of all needles."""
    there = {data[at : at + width] for at in range(len(data)) for width in (6, 8)}
    return leaks(data, [s for s in secrets if any(n[: 8 if len(n) > 7 else 6] in there for n in s.needles)])


def test_no_planted_secret_is_in_the_page(tmp_path: Path, run: asyncio.Runner, seed: int) -> None:
    """In its bytes, or as a browser reads them; without redaction the same page has them."""
    chance = random.Random(seed)
    values, known = known_corpus(chance)
    secrets: list[Planted] = known + shape_corpus(chance)
    place = tmp_path / "logs"
    place.mkdir()
    for number in range(6):
        written = chance.sample(secrets, 12)
        (place / f"{number}.log").write_bytes(scattered(chance, written, 2))
    (place / f"token-{values[1]}.log").write_bytes(b"its name is a secret\n")
    clean = planted_capture(tmp_path / "clean", place, Redactor(), values, run)
    open_ = planted_capture(tmp_path / "open", place, NoRedaction(), values, run)
    for data in (clean, html.unescape(clean.decode()).encode()):
        assert leaked(data, secrets) == []
    assert b"[REDACTED:" in clean and b"was not" not in clean
    assert leaks(html.unescape(open_.decode()).encode(), written)
    assert b"handle it as you would its secrets" in open_ and b"handle it as you would" not in clean


# As people run it


def test_an_interrupt_gets_its_turn(pod_page: tuple[Path, bytes], run: asyncio.Runner) -> None:
    """Reading waits for nothing, so it has to let others in by itself."""
    heard: list[str] = []

    async def interrupted() -> None:
        task = asyncio.current_task()
        assert task is not None

        def tell(what: str) -> None:
            heard.append(what)
            if what.startswith("usage, sample 3"):
                task.cancel()

        await report(str(pod_page[0]), tell)

    with pytest.raises(asyncio.CancelledError):
        run.run(interrupted())
    assert heard[-1].startswith("usage, sample 3 of 25")


def test_the_command_line(pod_page: tuple[Path, bytes], tmp_path: Path) -> None:
    path = tmp_path / "web.kdebug.tar.gz"
    path.write_bytes(pod_page[0].read_bytes())
    done = cli("report", str(path), code=0)
    made = tmp_path / "web.html"
    assert done.stdout.decode() == f"{made}\n" and b"11 findings" in done.stderr
    assert made.read_bytes() == pod_page[1] and made.stat().st_mode & 0o777 == 0o600
    assert b"exists: nothing is overwritten; add -f" in cli("report", str(path), code=1).stderr
    made.write_bytes(b"other")
    cli("report", str(path), "-f", code=0)
    assert made.read_bytes() == pod_page[1]
    assert cli("report", f"bundle:{path}", "--output", "-", code=0).stdout == pod_page[1]
    assert b"kdebug capture demo:" in cli("report", "demo:", code=2).stderr
    assert b"No such file" in cli("report", str(tmp_path / "none"), code=4).stderr
    assert b"is no bundle" in cli("report", __file__, "--output", str(tmp_path / "x"), code=1).stderr
    assert b"No such file" in cli("report", str(path), "--output", f"{tmp_path}/no/x", code=4).stderr
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["web.html", "web.kdebug.tar.gz"]


def test_a_damaged_bundle_is_told_as_far_as_it_goes(pod_page: tuple[Path, bytes], tmp_path: Path) -> None:
    from kdebug.capture.reader import BundleReader

    whole = bytearray(pod_page[0].read_bytes())
    with BundleReader(str(pod_page[0])) as bundle:
        member = bundle.members["target/deleted.json"]
        end = bundle.members["kubernetes/story.json"].offset
    whole[member.offset + member.packed_bytes // 2] ^= 0xFF
    (tmp_path / "flipped").write_bytes(whole)
    done = cli("report", str(tmp_path / "flipped"), code=1)
    assert b"deleted files: " in done.stderr
    text = Page((tmp_path / "flipped.html").read_bytes()).text
    assert "deleted files: " in text and "worker-leak" in text
    (tmp_path / "cut").write_bytes(pod_page[0].read_bytes()[:end])
    cli("report", str(tmp_path / "cut"), code=0)
    text = Page((tmp_path / "cut.html").read_bytes()).text
    assert "The bundle lost its end" in text and "cut short" in text and "worker-leak" in text
