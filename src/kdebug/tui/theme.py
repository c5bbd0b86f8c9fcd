"""Our colours: dark, light, and none at all. Colour is never the only signal: marks and words say the same.

Every text is readable on every ground that it stands on (WCAG 2.2, 1.4.3: 4.5 to 1; a test computes it).
With NO_COLOR (no-color.org) not one colour is sent: what is selected, wrong or loud is reversed, bold or
underlined instead.
"""

from __future__ import annotations

from collections.abc import Mapping

from rich.style import Style
from textual.theme import Theme

from kdebug.errors import UsageError

DARK = Theme(
    name="kdebug-dark",
    dark=True,
    primary="#5fb3b3",
    secondary="#9fb0c0",
    accent="#f2c14e",
    foreground="#d8dee9",
    background="#10151b",
    surface="#161c24",
    panel="#1f2832",
    success="#8fc77c",
    warning="#f2c14e",
    error="#ff8a8f",
    variables={
        "block-cursor-foreground": "#10151b",
        "block-cursor-background": "#5fb3b3",
        "block-cursor-text-style": "bold",
        "footer-key-foreground": "#f2c14e",
    },
)
LIGHT = Theme(
    name="kdebug-light",
    dark=False,
    primary="#00595b",
    secondary="#47525c",
    accent="#754c00",
    foreground="#1c242c",
    background="#fbfbf8",
    surface="#f1f1ec",
    panel="#e3e4dd",
    success="#22662a",
    warning="#754c00",
    error="#a31c15",
    variables={
        "block-cursor-foreground": "#ffffff",
        "block-cursor-background": "#00595b",
        "block-cursor-text-style": "bold",
        "footer-key-foreground": "#754c00",
    },
)
MONO = Theme(
    name="kdebug-mono",
    dark=True,
    ansi=True,
    primary="ansi_default",
    secondary="ansi_default",
    accent="ansi_default",
    foreground="ansi_default",
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    success="ansi_default",
    warning="ansi_default",
    error="ansi_default",
    variables={
        "block-cursor-foreground": "ansi_default",
        "block-cursor-background": "ansi_default",
        "block-cursor-text-style": "bold reverse",
        "kdebug-mono": "1",
        "ansi-background": "ansi_default",
        "ansi-foreground": "ansi_default",
        "border-blurred": "ansi_default",
        "scrollbar": "ansi_default",
        "scrollbar-background": "ansi_default",
    },
)
THEMES = (DARK, LIGHT, MONO)

MONO_CSS = """
App:nocolor SessionHeader { text-style: reverse; }
App:nocolor SessionHeader.lost { text-style: reverse bold underline; }
App:nocolor Banner { text-style: reverse bold; }
App:nocolor LineTable > .linetable--cursor { text-style: bold reverse; }
App:nocolor LineTable > .linetable--cursor-blurred { text-style: underline; }
App:nocolor LineTable > .linetable--header { text-style: bold underline; }
App:nocolor OptionList > .option-list--option-highlighted { text-style: bold reverse; }
App:nocolor Input > .input--cursor { text-style: reverse; }
App:nocolor Notice { text-style: bold; }
"""
"""What backgrounds say otherwise."""
NARROW_CSS = """
OptionList { min-width: 16; }
.-flat OptionList { min-height: 4; max-height: 4; }
"""
"""In a terminal of a few columns or lines a list is cut: Rich cannot fold a line into no columns at all,
and a list that has never had a line knows no page."""

PLAIN, DIM, GOOD, WARN, BAD, ACCENT, STRONG = "plain", "dim", "good", "warn", "bad", "accent", "strong"
"""The names under which cells ask for a style."""

MONO_STYLES = {
    PLAIN: Style(),
    DIM: Style(dim=True),
    GOOD: Style(),
    WARN: Style(bold=True),
    BAD: Style(bold=True, underline=True),
    ACCENT: Style(italic=True),
    STRONG: Style(bold=True),
}
AUTO = "auto"
CHOICES = {"dark": DARK, "light": LIGHT}


def styles(variables: Mapping[str, str]) -> dict[str, Style]:
    """The foreground styles of the theme in use, by name."""
    if "kdebug-mono" in variables:
        return dict(MONO_STYLES)
    return {
        PLAIN: Style(),
        DIM: Style(color=_hex(variables["secondary"])),
        GOOD: Style(color=_hex(variables["success"])),
        WARN: Style(color=_hex(variables["warning"])),
        BAD: Style(color=_hex(variables["error"]), bold=True),
        ACCENT: Style(color=_hex(variables["primary"])),
        STRONG: Style(bold=True),
    }


def _hex(color: str) -> str:
    return color[:7]


def chosen_theme(setting: str, environment: Mapping[str, str]) -> Theme:
    """NO_COLOR before everything, then the setting, then what the terminal says about its background.

    Raises `UsageError` for a setting that is none of dark, light and auto.
    """
    if setting not in (AUTO, *CHOICES):
        raise UsageError(
            f"theme is {setting!r} in the configuration or KDEBUG_THEME",
            next_step=f"it is one of {AUTO}, {', '.join(CHOICES)}",
        )
    if without_colour(environment):
        return MONO
    return CHOICES.get(setting) or (LIGHT if _light_terminal(environment) else DARK)


def without_colour(environment: Mapping[str, str]) -> bool:
    """As Textual asks it: NO_COLOR is there, whatever it holds."""
    return "NO_COLOR" in environment


def _light_terminal(environment: Mapping[str, str]) -> bool:
    """COLORFGBG ("0;15"), which rxvt, Konsole and iTerm2 set: the background's number comes last, and of
    the sixteen 7 and 15 are light."""
    return environment.get("COLORFGBG", "").rpartition(";")[2] in ("7", "15")
