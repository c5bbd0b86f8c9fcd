"""What all records are made of and share, written once instead of generated for each.

`dataclasses` loads `inspect`, and compiles several methods for each of our seventy records: on an image
without bytecode more work than all that a session then does, inside the pod's CPU quota. So a record's
constructor is made when the first one is, and nothing else is. `dataclasses.fields` and `replace` take
records all the same.
"""

from __future__ import annotations

from kdebug.annotations import TYPE_CHECKING, Any, Callable, TypeVar

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field

T = TypeVar("T")
REQUIRED: Any = object()
"""In place of a default where there is none."""

_TWINS: dict[type, type] = {}
"""Of a record's class: what `dataclasses` would have made of it. To make one takes 4 ms."""


class Default:
    """A default that each record gets afresh."""

    def __init__(self, *, default_factory: Callable[[], Any]) -> None:
        self.make = default_factory


class _Standard:
    """What `dataclasses` looks for in a class, made once for whoever asks: he has loaded that module."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, record: object, cls: type) -> Any:
        if cls not in _TWINS:
            _TWINS[cls] = self._twin(cls)
        return getattr(_TWINS[cls], self._name)

    @staticmethod
    def _twin(cls: type) -> type:
        import dataclasses

        made = []
        for name, (_, annotation, default) in fields_of(cls).items():
            if isinstance(default, Default):
                made.append((name, annotation, dataclasses.field(default_factory=default.make)))
            else:
                told = dataclasses.MISSING if default is REQUIRED else default
                made.append((name, annotation, dataclasses.field(default=told)))
        return dataclasses.make_dataclass(cls.__name__, made, frozen=True, eq=False, repr=False)


class Record:
    """Base of a `@dataclass(frozen=True, eq=False, repr=False)`; behaves as one with both."""

    __dataclass_fields__ = _Standard()
    __dataclass_params__ = _Standard()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), tuple(vars(self).values())))

    def __repr__(self) -> str:
        # File contents would bury the rest.
        shown = (f"{k}={v!r}" for k, v in vars(self).items() if not isinstance(v, bytes))
        return f"{type(self).__name__}({', '.join(shown)})"

    if not TYPE_CHECKING:

        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(f"cannot assign to field {name!r}")

        def __delattr__(self, name: str) -> None:
            raise AttributeError(f"cannot delete field {name!r}")


def fields_of(cls: type) -> dict[str, tuple[type, Any, Any]]:
    """Name -> the class that holds it, its annotation, its default; those of the bases first."""
    fields: dict[str, tuple[type, Any, Any]] = {}
    for base in reversed(cls.__mro__):
        for name, annotation in vars(base).get("__annotations__", {}).items():
            if not str(annotation).startswith("ClassVar["):
                fields[name] = (base, annotation, vars(base).get(name, REQUIRED))
    return fields


def replace(record: T, **changes: Any) -> T:
    """As `dataclasses.replace`."""
    return type(record)(**{**vars(record), **changes})


def _constructor(cls: type) -> Any:
    """As `dataclasses` writes it for a frozen class."""
    parameters, body, names = [], ["pass"], {"_set": object.__setattr__, "_Default": Default}
    for name, (_, _, default) in fields_of(cls).items():
        value = name
        if default is REQUIRED:
            parameters.append(name)
        else:
            parameters.append(f"{name}=_default_{name}")
            names[f"_default_{name}"] = default
            if isinstance(default, Default):
                value = f"{name}.make() if {name} is _default_{name} else {name}"
        body.append(f"_set(self, {name!r}, {value})")
    text = f"def __init__(self, {', '.join(parameters)}):\n " + "\n ".join(body)
    exec(text, names)  # noqa: S102  the names are those of our own fields
    return names["__init__"]


def _record(*, frozen: bool, eq: bool, repr: bool) -> Callable[[T], T]:
    """In place of `dataclasses.dataclass`; only records of the form that all have."""
    if not frozen or eq or repr:
        raise TypeError("a record is @dataclass(frozen=True, eq=False, repr=False)")

    def decorate(cls: Any) -> Any:
        def first_init(self: Any, *values: Any, **named: Any) -> None:
            cls.__init__ = _constructor(cls)
            cls.__init__(self, *values, **named)

        cls.__init__ = first_init
        return cls

    return decorate


if not TYPE_CHECKING:
    dataclass, field = _record, Default
