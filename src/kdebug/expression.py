"""Target expressions, parsed: `POD`, `deploy/NAME`, `local:PID`, `bundle:FILE`, `demo:`, and `:/path`."""

from __future__ import annotations

import re

from kdebug.errors import UsageError
from kdebug.protocol.record import Record, dataclass
from kdebug.protocol.requests import is_held

OWNERS = ("pod", "deploy", "sts", "ds", "rs", "job", "svc")
_KUBERNETES_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
"""RFC 1123 subdomain, as the API server checks it."""
EXAMPLES = "TARGET is POD, deploy/NAME, local:PID, bundle:FILE or demo:"


@dataclass(frozen=True, eq=False, repr=False)
class TargetExpression(Record):
    scheme: str
    """local, demo, bundle, or one of `OWNERS`."""
    value: str
    """PID, file or name; empty for demo."""
    path: str = ""
    """The path behind `:`, for file verbs, or `deleted:PID/FD`; empty when none was given."""

    def __str__(self) -> str:
        return f"{self.scheme}/{self.value}" if self.scheme in OWNERS else f"{self.scheme}:{self.value}"


def parse(text: str) -> TargetExpression:
    """A target with or without a path. Raises `UsageError` with the right form."""
    scheme, colon, rest = text.partition(":")
    if scheme == "demo" and colon:
        return _demo(text, rest)
    if scheme == "local" and colon:
        return _local(rest)
    if scheme == "bundle" and colon:
        return _bundle(rest)
    return _pod(text)


def parse_with_path(text: str, verb: str) -> TargetExpression:
    """As `parse`, for verbs that need a path."""
    expression = parse(text)
    if not expression.path:
        raise UsageError(
            f"{verb} needs a path in the target",
            next_step=f"write it behind a colon: {text.rstrip(':')}:/etc",
        )
    return expression


def _checked_path(path: str, text: str) -> str:
    if not path.startswith("/") and not is_held(path):
        raise UsageError(f"the path in {text!r} is not absolute", next_step="start it with /")
    return path


def _demo(text: str, rest: str) -> TargetExpression:
    rest = rest.removeprefix(":")
    return TargetExpression("demo", "", _checked_path(rest, text) if rest else "")


def _local(rest: str) -> TargetExpression:
    pid, colon, path = rest.partition(":")
    if not re.fullmatch(r"[0-9]{1,10}", pid) or int(pid) == 0:
        raise UsageError(f"{pid!r} is not a process id", next_step="write local:PID, for example local:1")
    return TargetExpression("local", str(int(pid)), _checked_path(path, rest) if colon else "")


def _bundle(rest: str) -> TargetExpression:
    file, colon, path = rest.partition(":/")
    if not file:
        raise UsageError("bundle: needs a file", next_step="write bundle:FILE")
    return TargetExpression("bundle", file, "/" + path if colon else "")


def _pod(text: str) -> TargetExpression:
    name, colon, path = text.partition(":")
    owner, slash, rest = name.partition("/")
    scheme, value = (owner, rest) if slash else ("pod", name)
    if scheme not in OWNERS:
        raise UsageError(f"{scheme!r} is no kind of target", next_step=EXAMPLES)
    if not _KUBERNETES_NAME.fullmatch(value):
        raise UsageError(f"{value!r} is not the name of a Kubernetes object", next_step=EXAMPLES)
    return TargetExpression(scheme, value, _checked_path(path, text) if colon else "")
