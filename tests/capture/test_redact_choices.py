"""What the user may say about redaction: files of rules, a key, more detectors; and the configuration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdebug.capture.redaction import Choices, NoRedaction, configured, redactions
from kdebug.errors import UsageError

PROGRAM = str(Path(sys.executable).with_name("kdebug"))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], str]:
    def written(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return written


def test_a_key_makes_tokens_of_two_captures_comparable(write: Any) -> None:
    key = write("key", "0123456789abcdef0123456789abcdef\n")
    first, second = redactions(choices=Choices(key=key)), redactions(choices=Choices(key=key))
    other = redactions()
    texts = [make().text("password=hunter2-hunter2") for make in (first, second, other, other)]
    assert texts[0] == texts[1] != texts[2] == texts[3] and "hunter2" not in "".join(texts)


def test_rules_and_detectors(write: Any) -> None:
    one = write("one.yaml", "rules: [{name: ticket, regex: 'ACME-[0-9]{4}'}]")
    two = write("two.yaml", "rules: [{name: pins, key: '*_pin', class: pin}]")
    make = redactions(choices=Choices((one, two), detectors=("card", "email")))
    text = make().text("ACME-1234 card_pin=99 4111 1111 1111 1111 me@example.com")
    assert [part.split(":")[1] for part in text.split("[")[1:]] == ["ticket", "pin", "card", "email"]
    assert "me@example.com" in redactions()().text("me@example.com")


def test_the_configuration_holds_for_every_capture(
    write: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rules = write("rules.yaml", "rules: [{name: codename, literal: Project Falcon}]")
    (tmp_path / "kdebug").mkdir()
    (tmp_path / "kdebug" / "config.yaml").write_text(f"redact_rules: {rules}\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert configured() == Choices((rules,)) and "Falcon" not in redactions()().text("Project%20Falcon")
    assert redactions(redact=False) is NoRedaction


@pytest.mark.parametrize(
    "choices, words",
    [
        (Choices(("{}/none",)), "none cannot be read"),
        (Choices(("{}/bad.yaml",)), "bad.yaml: redaction rule 1"),
        (Choices(("{}",)), "cannot be read"),
        (Choices(key="{}/short"), "has 5 bytes"),
        (Choices(key="{}/empty"), "is empty"),
        (Choices(("{}/binary",)), "is no text"),
        (Choices(detectors=("cards",)), "no detector 'cards'"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_captured(
    tmp_path: Path, choices: Choices, words: str
) -> None:
    (tmp_path / "bad.yaml").write_text("rules: [{name: a, regex: '(a+)+b'}]")
    (tmp_path / "short").write_text("short")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    placed = Choices(
        tuple(path.format(tmp_path) for path in choices.rules),
        choices.key.format(tmp_path),
        choices.detectors,
    )
    with pytest.raises(UsageError) as refused:
        redactions(choices=placed)
    assert words in str(refused.value)


def test_the_command_line(write: Any, tmp_path: Path) -> None:
    """A file that a rule names is not taken, under any name that leads to it; the manifest says so."""
    place = tmp_path / "customers"
    place.mkdir()
    (place / "a.csv").write_text("somebody")
    (tmp_path / "link.csv").symlink_to(place / "a.csv")
    (tmp_path / "b.csv").write_text("id=ACME-1234\n")
    rules = write(
        "rules.yaml", f"rules: [{{name: c, path: '{place}/**'}}, {{name: t, regex: 'ACME-[0-9]+'}}]"
    )
    recipe = write("r.yaml", f"steps:\n- files: [{tmp_path}/link.csv, {tmp_path}/b.csv, {place}/a.csv]\n")
    path = tmp_path / "b.tar.gz"
    words = [
        PROGRAM,
        "capture",
        f"local:{os.getpid()}",
        "-r",
        recipe,
        "--output",
        str(path),
        "--redact-rules",
        rules,
    ]
    done = subprocess.run(words, capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    listed = json.loads(
        subprocess.run([PROGRAM, "bundle", "ls", str(path), "-o", "json"], capture_output=True).stdout
    )
    left = {row["what"]: row["outcome"] for row in listed["not_taken"]}
    assert left == {f"file {tmp_path}/link.csv": "left-out", f"file {place}/a.csv": "left-out"}
    shown = subprocess.run([PROGRAM, "cat", f"bundle:{path}:{tmp_path}/b.csv"], capture_output=True).stdout
    assert shown.startswith(b"id=[REDACTED:t:") and b"1234" not in shown
    refused = subprocess.run(
        [PROGRAM, "capture", "demo:", "--no-redact", "--i-know", "--redact-rules", rules],
        capture_output=True,
    )
    assert refused.returncode == 2 and b"leave one of them out" in refused.stderr
