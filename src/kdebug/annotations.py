"""The names that annotations are written with, for code that runs in a pod: `typing` without `typing`.

A stock python image holds no bytecode, so everything that the agent imports is compiled at every attach,
within the pod's CPU quota. `typing`, with `re`, `enum` and `collections` behind it, took longer than the
agent itself. A type checker sees the real names here; a running agent only needs them to be there.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable as Iterable
    from collections.abc import Iterator as Iterator
    from typing import Any as Any
    from typing import Callable as Callable
    from typing import ClassVar as ClassVar
    from typing import Generic as Generic
    from typing import Optional as Optional
    from typing import Protocol as Protocol
    from typing import TypeVar as TypeVar
    from typing import Union as Union
    from typing import cast as cast
else:

    class _Name:
        """Stands for a name, with or without what is written in brackets behind it."""

        def __class_getitem__(cls, inner):
            return cls

    class Any(_Name):
        pass

    class Callable(_Name):
        pass

    class Iterable(_Name):
        pass

    class Iterator(_Name):
        pass

    class ClassVar(_Name):
        pass

    class Union(_Name):
        pass

    class Protocol(_Name):
        pass

    class Generic(_Name):
        """As a base: `Request[TargetInfo]` is `Request`."""

    class Optional:
        """The only one whose inside matters at run time: the codec decodes by it."""

        def __init__(self, inner):
            self.__args__ = (inner, type(None))

        def __class_getitem__(cls, inner):
            return cls(inner)

    def TypeVar(name, bound=None):
        return _Name

    def cast(kind, value):
        return value
