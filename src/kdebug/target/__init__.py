"""Names for the questions: `Target` over a one-method `Backend`."""

from kdebug.target.backend import Backend
from kdebug.target.target import Target

__all__ = ["Backend", "Target"]
