"""Colours: readable on every ground, none at all where none are wanted, chosen by who uses them."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from textual.theme import Theme

from kdebug.errors import UsageError
from kdebug.tui.theme import BAD, DARK, LIGHT, MONO, PLAIN, WARN, chosen_theme, styles

from .conftest import Ui, play

READABLE = 4.5
"""WCAG 2.2, success criterion 1.4.3, for text of normal size."""
TEXTS = ("foreground", "secondary", "success", "warning", "error", "primary", "accent")
GROUNDS = ("background", "surface", "panel")
BARS = (("background", "primary"), ("background", "error"))
"""Texts of the header and the banner, on their grounds."""


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance of #rrggbb."""
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def dimmed(colour: str, ground: str) -> str:
    """What a terminal makes of "dim": two thirds of the colour (Textual's own factor, too)."""
    shares = [[int(one[at : at + 2], 16) for at in (1, 3, 5)] for one in (ground, colour)]
    return "#" + "".join(f"{round(below + 0.66 * (above - below)):02x}" for below, above in zip(*shares))


def test_contrast_is_computed_as_the_standard_says() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=lambda theme: theme.name)
def test_every_text_can_be_read_on_every_ground(theme: Theme) -> None:
    pairs = [(getattr(theme, text), getattr(theme, ground)) for text, ground in product(TEXTS, GROUNDS)]
    pairs += [(getattr(theme, text), getattr(theme, ground)) for text, ground in BARS]
    pairs.append((theme.variables["block-cursor-foreground"], theme.variables["block-cursor-background"]))
    pairs += [(dimmed(theme.foreground, getattr(theme, g)), getattr(theme, g)) for g in GROUNDS]
    poor = {
        (text, ground): contrast(text, ground)
        for text, ground in pairs
        if contrast(text, ground) < READABLE
    }
    assert not poor


def test_without_colours_what_matters_looks_different() -> None:
    looks = styles({"kdebug-mono": "1"})
    assert all(look.color is None and look.bgcolor is None for look in looks.values())
    assert len({str(looks[name]) for name in (PLAIN, WARN, BAD)}) == 3


def test_the_theme_is_chosen_by_setting_terminal_and_no_color() -> None:
    assert chosen_theme("auto", {}) is DARK and chosen_theme("light", {}) is LIGHT
    assert chosen_theme("auto", {"COLORFGBG": "0;15"}) is LIGHT
    assert chosen_theme("auto", {"COLORFGBG": "15;default;0"}) is DARK
    assert chosen_theme("dark", {"COLORFGBG": "0;15"}) is DARK
    assert chosen_theme("light", {"NO_COLOR": ""}) is MONO
    with pytest.raises(UsageError, match="theme is 'pink'"):
        chosen_theme("pink", {})


def test_the_setting_comes_from_environment_or_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("KDEBUG_THEME", raising=False)
    (tmp_path / "kdebug").mkdir()
    (tmp_path / "kdebug" / "config.yaml").write_text("theme: light\n")

    async def toggle(ui: Ui) -> None:
        await ui.attached()
        assert ui.app.theme == LIGHT.name
        await ui.press("ctrl+t")
        assert ui.app.theme == DARK.name
        await ui.press("ctrl+t")
        assert ui.app.theme == LIGHT.name

    play("demo:", toggle)
    monkeypatch.setenv("KDEBUG_THEME", "dark")

    async def dark(ui: Ui) -> None:
        assert ui.app.theme == DARK.name

    play("demo:", dark)


def test_no_color_reaches_the_screen_and_the_selection_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def script(ui: Ui) -> None:
        await ui.attached()
        pane = await ui.tab("Network")
        await ui.shows("CLOSE-WAIT!")
        await ui.until(lambda: len(pane.table.rows) > 2)
        await ui.press("down")
        await ui.press("ctrl+t")
        assert ui.app.theme == MONO.name
        strips = [
            strip.apply_filter(line_filter, ui.app.screen.styles.background)
            for strip in ui.app.screen._compositor.render_strips()
            for line_filter in ui.app.get_line_filters()
        ]
        colours = {
            str(colour)
            for strip in strips
            for segment in strip
            if segment.style is not None
            for colour in (segment.style.color, segment.style.bgcolor)
            if colour is not None and not colour.is_default
        }
        assert not colours
        lines = {"".join(segment.text for segment in strip): strip for strip in strips}
        selected = [strip for text, strip in lines.items() if text.startswith("> ")]
        others = [strip for text, strip in lines.items() if text.startswith("  tcp")]
        assert len(selected) == 1 and others
        assert all(segment.style.reverse for segment in selected[0] if segment.text.strip())
        assert not any(segment.style and segment.style.reverse for strip in others for segment in strip)

    play("demo:", script)
