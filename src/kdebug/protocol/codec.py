"""Records to JSON and back, driven by their annotations.

Decoding is strict, for the other side is hostile: a wrong type, a missing or unknown field, a number
out of 128 bits or an answer nested deeper than the records are is a `ProtocolViolation`. Strings carry
bytes that are not UTF-8 as lone surrogates, which JSON's \\uXXXX escapes take through unharmed.
"""

from __future__ import annotations

import math
import sys

from kdebug.annotations import Any, Callable, Optional, TypeVar, cast
from kdebug.errors import ProtocolViolation
from kdebug.protocol import plain_json
from kdebug.protocol.record import REQUIRED, Record, fields_of

T = TypeVar("T")
Decoder = Callable[[Any], Any]

_INT_LIMIT = 2**128
"""The kernel's numbers have 64 bits; ours are products of two of them at most: a time of modification in
nanoseconds, which any process may set to the year 146 billion, or blocks times their size."""

_PLAIN = frozenset((str, int, float, bool, type(None)))
"""What most fields are."""

_decoders: dict[Any, Decoder] = {}
_field_names: dict[type, tuple[str, ...]] = {}


def to_json(record: Any) -> bytes:
    """One record as JSON; fields of type bytes are left out (they travel as DATA frames)."""
    return plain_json.dumps(to_plain(record)).encode("ascii")


def to_plain(value: Any) -> Any:
    """Dataclasses to dicts and tuples to lists, all the way down."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind in (tuple, list):
        return [item if type(item) in _PLAIN else to_plain(item) for item in value]
    if isinstance(value, int):
        return int(value)  # an enum such as signal.SIGTERM
    if kind is dict:
        return {key: to_plain(item) for key, item in value.items()}
    return {
        name: item if type(item := getattr(value, name)) in _PLAIN else to_plain(item)
        for name in _wire_fields(kind)
    }


def _wire_fields(cls: type) -> tuple[str, ...]:
    names = _field_names.get(cls)
    if names is None:
        names = tuple(name for name, (_, text, _) in fields_of(cls).items() if text != "bytes")
        _field_names[cls] = names
    return names


def parse_json(payload: bytes) -> Any:
    """JSON of a control payload; `ProtocolViolation` when it is none."""
    try:
        return plain_json.loads(payload.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ProtocolViolation("the peer sent a payload that is not JSON", why=str(error)) from error


def from_json(cls: type[T], payload: bytes) -> T:
    """A record of type `cls` from JSON."""
    return from_plain(cls, parse_json(payload))


def from_plain(cls: type[T], value: Any) -> T:
    """A record of type `cls` from parsed JSON."""
    return cast(T, _decoder(cls)(value))


def _decoder(hint: Any) -> Decoder:
    found = _decoders.get(hint)
    if found is None:
        found = _decoders[hint] = _build(hint)
    return found


def _build(hint: Any) -> Decoder:
    if hint in _SCALARS:
        return _SCALARS[hint]
    origin, arguments = getattr(hint, "__origin__", None), getattr(hint, "__args__", ())
    if type(None) in arguments:
        return _optional(arguments)
    if origin is tuple:
        return _tuple(arguments)
    if origin is dict:
        return _dict(arguments)
    if isinstance(hint, type) and issubclass(hint, Record):
        return _record(hint)
    raise TypeError(f"records may not hold {hint!r}")


def _wrong(value: Any, wanted: str) -> ProtocolViolation:
    return ProtocolViolation(f"the peer sent {type(value).__name__} where {wanted} belongs")


def _string(value: Any) -> str:
    if type(value) is not str:
        raise _wrong(value, "a string")
    if not value.isascii():
        try:
            value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise ProtocolViolation("the peer sent a string that no bytes stand for") from None
    return value


def _integer(value: Any) -> int:
    if type(value) is not int or not -_INT_LIMIT < value < _INT_LIMIT:
        raise _wrong(value, "a 128-bit integer")
    return value


def _number(value: Any) -> float:
    # 1e999 parses as infinity, and an integer of 400 digits does not fit a float.
    if type(value) is int and abs(value) < _INT_LIMIT:
        return float(value)
    if type(value) is not float or not math.isfinite(value):
        raise _wrong(value, "a number")
    return value


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise _wrong(value, "true or false")
    return value


_SCALARS: dict[Any, Decoder] = {str: _string, int: _integer, float: _number, bool: _boolean}


def _optional(arguments: tuple[Any, ...]) -> Decoder:
    (inner,) = (argument for argument in arguments if argument is not type(None))
    decode = _decoder(inner)
    return lambda value: None if value is None else decode(value)


def _tuple(arguments: tuple[Any, ...]) -> Decoder:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return _COLUMNS.get(arguments[0]) or _sequence(_decoder(arguments[0]))
    decoders = tuple(_decoder(argument) for argument in arguments)

    def fixed(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) != len(decoders):
            raise _wrong(value, f"a list of {len(decoders)}")
        return tuple(decode(item) for decode, item in zip(decoders, value))

    return fixed


def _sequence(decode: Decoder) -> Decoder:
    def sequence(value: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise _wrong(value, "a list")
        return tuple([decode(item) for item in value])

    return sequence


def _integers(value: Any) -> tuple[int, ...]:
    """A column of a table, in one look where all are right."""
    if (
        type(value) is list
        and set(map(type, value)) == {int}
        and -_INT_LIMIT < min(value) <= max(value) < _INT_LIMIT
    ):
        return tuple(value)
    return cast("tuple[int, ...]", _sequence(_integer)(value))


def _strings(value: Any) -> tuple[str, ...]:
    """Likewise."""
    if type(value) is list and set(map(type, value)) == {str} and "".join(value).isascii():
        return tuple(value)
    return cast("tuple[str, ...]", _sequence(_string)(value))


_COLUMNS: dict[Any, Decoder] = {int: _integers, str: _strings}


def _dict(arguments: tuple[Any, ...]) -> Decoder:
    decode = _decoder(arguments[1])

    def mapping(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise _wrong(value, "an object")
        return {_string(key): decode(item) for key, item in value.items()}

    return mapping


def _hint(holder: type, text: str) -> Any:
    """What an annotation stands for, by the names of the module that it is written in."""
    return eval(text, {**vars(sys.modules[holder.__module__]), "Optional": Optional})  # noqa: S307  our own


def _record(cls: type) -> Decoder:
    fields = fields_of(cls)
    names = _wire_fields(cls)
    decoders = {name: _decoder(_hint(*fields[name][:2])) for name in names}
    required = {name for name in names if fields[name][2] is REQUIRED}

    def record(value: Any) -> Any:
        if type(value) is not dict:
            raise _wrong(value, f"an object ({cls.__name__})")
        try:
            known = {name: decoders[name](item) for name, item in value.items()}
        except KeyError as error:
            raise ProtocolViolation(f"{cls.__name__} has no field {error.args[0]!r}") from None
        if not required <= known.keys():
            missing = ", ".join(sorted(required - known.keys()))
            raise ProtocolViolation(f"{cls.__name__} came without {missing}")
        return cls(**known)

    return record
