"""Our colours, dark and light. Colour is never the only signal: marks and words say the same."""

from __future__ import annotations

from rich.style import Style
from textual.theme import Theme

DARK = Theme(
    name="kdebug-dark",
    dark=True,
    primary="#5fb3b3",
    secondary="#8fa1b3",
    accent="#f2c14e",
    foreground="#d8dee9",
    background="#10151b",
    surface="#161c24",
    panel="#1f2832",
    success="#8fc77c",
    warning="#f2c14e",
    error="#f07178",
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
    primary="#00696b",
    secondary="#4f5b66",
    accent="#8a5a00",
    foreground="#1c242c",
    background="#fbfbf8",
    surface="#f1f1ec",
    panel="#e3e4dd",
    success="#2f7d32",
    warning="#8a5a00",
    error="#b3261e",
    variables={
        "block-cursor-foreground": "#ffffff",
        "block-cursor-background": "#00696b",
        "block-cursor-text-style": "bold",
        "footer-key-foreground": "#8a5a00",
    },
)
THEMES = (DARK, LIGHT)

PLAIN, DIM, GOOD, WARN, BAD, ACCENT, STRONG = "plain", "dim", "good", "warn", "bad", "accent", "strong"
"""The names under which cells ask for a style."""


def styles(variables: dict[str, str]) -> dict[str, Style]:
    """The foreground styles of the theme in use, by name."""
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
