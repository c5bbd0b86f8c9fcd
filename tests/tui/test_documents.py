"""What is made by scripts is what the scripts make: the keys page, and pictures that tell nothing."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from textual.binding import Binding

from kdebug.tui import keys
from kdebug.tui.network import NetworkPane

ROOT = Path(__file__).parents[2]
PICTURES = sorted((ROOT / "docs" / "pictures").glob("*.svg"))


def test_the_keys_page_is_up_to_date() -> None:
    page = (ROOT / "docs" / "keys.md").read_text(encoding="utf-8")
    assert page == keys.page(), "run: python -m kdebug.tui.keys > docs/keys.md"


def test_every_key_of_a_tab_is_on_the_page_with_what_it_does() -> None:
    page = keys.page()
    section = page.partition("## Network (tab)")[2].partition("\n## ")[0]
    described = [binding for binding in Binding.make_bindings(NetworkPane.BINDINGS) if binding.description]
    assert len(described) > 5
    for binding in described:
        assert re.search(rf"^\| [^|]+ \| {re.escape(binding.description)} \|$", section, re.MULTILINE)
    assert all(f"## {kind.title} (tab)" in page for kind in keys.pane_kinds())


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_pictures_fetch_nothing_and_name_no_machine(picture: Path) -> None:
    text = picture.read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\s\"'<>)]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "@font-face" not in text and "url(" not in text.replace("url(#", "")
    for place in (str(ROOT), str(Path.home()), sys.prefix):
        assert place not in text
    assert "/home/" not in text and os.uname().nodename not in text


def test_the_readme_shows_pictures_that_are_there() -> None:
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert shown and all((ROOT / path).is_file() for path in shown)


def script() -> ModuleType:
    found = importlib.util.spec_from_file_location("make_pictures", ROOT / "docs" / "make_pictures.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_a_picture_that_would_tell_something_is_refused() -> None:
    at_rest = script().at_rest
    with pytest.raises(SystemExit, match=r"fonts\.example"):
        at_rest("<svg><image href='https://fonts.example/x'/></svg>")
    with pytest.raises(SystemExit):
        at_rest(f"<svg><text>{os.getcwd()}</text></svg>")
    assert at_rest("<svg>@font-face { src: url('https://fonts.example/x'); }</svg>") == "<svg></svg>\n"
