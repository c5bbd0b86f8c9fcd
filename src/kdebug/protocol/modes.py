"""File modes as chmod(1) takes them: octal, or u+rwX,g=u,o-w. Pure; both sides use it."""

from __future__ import annotations

import re

from kdebug.errors import UsageError

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[ugo]|[rwxXst]*))+)")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_BITS = {"r": 4, "w": 2, "x": 1}
_SHIFT = {"u": 6, "g": 3, "o": 0}
_SPECIAL = {"u": 0o4000, "g": 0o2000, "o": 0}


def check_mode(text: str) -> None:
    """Raise `UsageError` when `text` is no mode."""
    apply_mode(text, 0, False)


def apply_mode(text: str, mode: int, is_dir: bool) -> int:
    """What `mode` becomes by `text`. Without u, g, o or a, all three are meant, whatever the umask is."""
    if re.fullmatch("[0-7]{1,4}", text):
        return int(text, 8)
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise UsageError(
                f"{text[:80]!r} is not a mode", next_step="write it as chmod does: 0640, u+rwX, go-w"
            )
        who = "ugo" if not match.group(1) or "a" in match.group(1) else match.group(1)
        for operator, permissions in _ACTION.findall(match.group(2)):
            mode = _act(mode, who, operator, permissions, is_dir)
    return mode


def _act(mode: int, who: str, operator: str, permissions: str, is_dir: bool) -> int:
    bits = _wanted(mode, who, permissions, is_dir)
    if operator == "+":
        return mode | bits
    if operator == "-":
        return mode & ~bits
    clear = sum(7 << _SHIFT[one] for one in set(who))
    # As chmod(1): `=` leaves a directory's set-id bits alone.
    clear |= 0 if is_dir else sum(_SPECIAL[one] for one in set(who))
    clear |= 0o1000 if set(who) == set("ugo") and not is_dir else 0
    return (mode & ~clear) | bits


def _wanted(mode: int, who: str, permissions: str, is_dir: bool) -> int:
    if permissions in ("u", "g", "o") and permissions:
        copied = mode >> _SHIFT[permissions] & 7
        return sum(copied << _SHIFT[one] for one in set(who))
    three = 0
    for letter in permissions:
        three |= _BITS.get(letter, 0)
        if letter == "X" and (is_dir or mode & 0o111):
            three |= 1
    bits = sum(three << _SHIFT[one] for one in set(who))
    if "s" in permissions:
        bits |= sum(_SPECIAL[one] for one in set(who))
    return bits | (0o1000 if "t" in permissions else 0)
