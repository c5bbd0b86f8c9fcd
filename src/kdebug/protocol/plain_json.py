"""JSON by CPython's own C parts, without `json`, which loads `re` and `enum` for what we do not use.

The same functions do the work in both; where an interpreter has no such parts, `json` itself does it.
"""

from __future__ import annotations

from kdebug.annotations import Any

_BLANKS = " \t\n\r"


def _no_default(value: object) -> Any:
    raise TypeError(f"{type(value).__name__} is not for JSON")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number that JSON knows")


class _Rules:
    """What the scanner asks of a decoder."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int = float, int
    parse_constant = staticmethod(_no_constant)


try:
    from _json import encode_basestring_ascii, make_encoder, make_scanner

    _encode = make_encoder(None, _no_default, encode_basestring_ascii, None, ":", ",", False, False, False)
    _scan: Any = make_scanner(_Rules)  # type: ignore[arg-type]  # stubs know its own class only
    if "".join(_encode([1.5, "é"], 0)) != '[1.5,"\\u00e9"]' or _scan("[1.5]", 0) != ([1.5], 5):
        raise ImportError("another _json than we know")
except (ImportError, TypeError):
    import json

    def dumps(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)

    def loads(text: str) -> Any:
        return _explained(text)

else:

    def dumps(value: Any) -> str:
        """ASCII only, without blanks. `ValueError` for a number that JSON has not."""
        return "".join(_encode(value, 0))

    def loads(text: str) -> Any:
        """One value and nothing but blanks around it. Raises `ValueError` or `RecursionError`."""
        try:
            value, end = _scan(text, len(text) - len(text.lstrip(_BLANKS)))
        except (StopIteration, SystemError):
            # The scanner leaves the words to `json`, and fails oddly while that is not loaded.
            return _explained(text)
        return _explained(text) if text[end:].strip(_BLANKS) else value


def _explained(text: str) -> Any:
    """What is wrong, in the words of `json`."""
    import json

    return json.loads(text, parse_constant=_no_constant)
