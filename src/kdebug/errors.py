"""Every failure kdebug can name, and the exit code that each one means.

An error here is a sentence for a person in an incident: *what* failed, *why* in the words of Linux or
Kubernetes, and the *next step*. Libraries' own exceptions are wrapped once, at the edge where they
appear, with the cause chained; nothing above that edge catches anything but `KdebugError`.

    KdebugError                exit 1
    ├── Failed                 exit 1   it was tried and did not work
    │   ├── Partial            exit 1   some of it worked; what is missing is said
    │   └── NotCaptured        exit 1   a bundle does not hold this
    ├── UsageError             exit 2   the request itself is wrong
    ├── AccessDenied           exit 3   RBAC, admission or the kernel said no
    ├── NotFound               exit 4   no such pod, container, process, path
    │   └── TargetEnded        exit 4   the target process is no more
    ├── DeadlinePassed         exit 5   it took longer than it may
    └── ConnectionLost         exit 6   the stream to the agent is gone
        ├── TargetLost         exit 6   the target ended, and the toolbox' processes with it
        └── ProtocolViolation  exit 6   the peer sent what it must not

The tree travels over the wire by `kind` (the class name), so the agent's refusal and the local
backend's are the same object to everything above.
"""

from __future__ import annotations

import errno as errno_module
import os

from kdebug.annotations import Optional

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_DENIED = 3
EXIT_NOT_FOUND = 4
EXIT_DEADLINE = 5
EXIT_CONNECTION = 6
EXIT_INTERRUPTED = 130


class KdebugError(Exception):
    """The root: one clear line made of what, why and what next."""

    exit_code = EXIT_FAILED

    def __init__(
        self, what: str, *, why: str = "", next_step: str = "", errno: Optional[int] = None
    ) -> None:
        super().__init__(what)
        self.what = what
        """What failed, naming the pod, process or path."""
        self.why = why
        """The cause in Kubernetes' or Linux' own words; empty when `what` says it all."""
        self.next_step = next_step
        """What the reader can do now; empty when nothing helps."""
        self.errno = errno
        """The kernel's error number, when one is behind it."""

    def __str__(self) -> str:
        text = f"{self.what}: {self.why}" if self.why else self.what
        return f"{text}; {self.next_step}" if self.next_step else text

    @property
    def kind(self) -> str:
        """The name that stands for this class on the wire."""
        return type(self).__name__


class Failed(KdebugError):
    """It was tried and did not work."""


class Partial(Failed):
    """Some of it worked; what is missing is said."""


class NotCaptured(Failed):
    """A bundle does not hold the answer to this request."""


class UsageError(KdebugError):
    """The request itself is wrong: a bad flag, target expression, path or value."""

    exit_code = EXIT_USAGE


class AccessDenied(KdebugError):
    """RBAC, admission or the kernel refused."""

    exit_code = EXIT_DENIED


class NotFound(KdebugError):
    """There is no such pod, container, process or path."""

    exit_code = EXIT_NOT_FOUND


class TargetEnded(NotFound):
    """The process that the session is bound to has ended."""


class DeadlinePassed(KdebugError):
    """It took longer than it may."""

    exit_code = EXIT_DEADLINE


class ConnectionLost(KdebugError):
    """The stream to the agent is gone."""

    exit_code = EXIT_CONNECTION


class TargetLost(ConnectionLost):
    """The target ended, or its pod was deleted, while it was looked at."""


class ProtocolViolation(ConnectionLost):
    """The peer sent what it must not; the stream cannot be trusted any further."""


_KINDS = {
    cls.__name__: cls
    for cls in (
        Failed,
        Partial,
        NotCaptured,
        UsageError,
        AccessDenied,
        NotFound,
        TargetEnded,
        DeadlinePassed,
        ConnectionLost,
        TargetLost,
        ProtocolViolation,
    )
}

_ERRNO_CLASS = {
    errno_module.ENOENT: NotFound,
    errno_module.ESRCH: NotFound,
    errno_module.EACCES: AccessDenied,
    errno_module.EPERM: AccessDenied,
    errno_module.EROFS: AccessDenied,
    errno_module.ETIMEDOUT: DeadlinePassed,
}


def from_kind(
    kind: str, what: str, why: str = "", next_step: str = "", errno: Optional[int] = None
) -> KdebugError:
    """Rebuild an error that crossed the wire; an unknown kind becomes `Failed`."""
    cls = _KINDS.get(kind, Failed)
    return cls(what, why=why, next_step=next_step, errno=errno)


def from_os_error(error: OSError, what: str, next_step: str = "") -> KdebugError:
    """Translate an `OSError` into the class whose exit code fits, in the kernel's own words."""
    number = error.errno or 0
    cls = _ERRNO_CLASS.get(number, Failed)
    why = os.strerror(number) if number else str(error)
    return cls(what, why=why, next_step=next_step, errno=number or None)
