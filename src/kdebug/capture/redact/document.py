"""Plain JSON, place by place: environments, command lines, Kubernetes objects. Structure, numbers and names
of fields stay; only strings change, so that answers decode as before."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Optional

from kdebug.capture.redact import pairs
from kdebug.capture.redact.remembered import Remembered
from kdebug.capture.redact.tokens import is_token
from kdebug.mask import looks_secret

MAX_DEPTH = 64
MAX_EMBEDDED = 2 * 1024 * 1024
"""Characters of a string that is parsed as JSON; an etcd object has at most 1.5 MiB."""
_PLAIN = frozenset((int, float, bool, type(None)))
"""Of JSON, what no secret can be; most of an answer."""
_JSON = frozenset("{[")
"""How a string begins that is JSON of more than one value."""
_COMMANDS = ("cmdline", "command", "args", "argv", "Cmd", "Entrypoint")
_PULL_SECRETS = (".dockerconfigjson", ".dockercfg", "dockerconfigjson")
_FLAG = re.compile(r"--?[A-Za-z][\w.\-]*")
_ASSIGNED = re.compile(r"(?P<name>--?[A-Za-z][\w.\-]*|[A-Za-z_][\w.\-]*)=(?P<value>.*)", re.DOTALL)
_GLUED = re.compile(r"-p(?P<value>[^/\-=].*)", re.DOTALL)
_SHELL_P = re.compile(r"(?<=\s)-p ?(?!\d+(?:\s|$))(?P<value>[^\s'\"/\-][^\s'\"]*)")
_TAKES_GLUED = re.compile(r"(?:^|/)(?:mysql\w*|mariadb[\w\-]*|sshpass)$")
_TAKES_P = re.compile(
    r"(?:^|[/\s'\"])(?:mysql\w*|mariadb[\w\-]*|sshpass|mongo\w*|docker|podman|nerdctl|crictl|az|oc)(?:\s|$)"
)
"""Programs whose -p is a password; -p of others is a port, a path or a project."""
_SHORT = {
    "curl": ("-u", "--user", "--proxy-user"),
    "redis-cli": ("-a",),
    "ldapsearch": ("-w",),
    "sshpass": ("-p",),
}


@dataclass(frozen=True)
class Shape:
    """What the names of an object's fields say about it."""

    secret: bool
    """Whether it may be a Secret of Kubernetes."""
    variable: bool
    """Whether it may be a name with its value."""
    watched: frozenset[str]
    """Fields whose values may be secrets by their names."""


class Places:
    """What places say, whatever is known by then: decided once, for rows are alike, and samples repeat."""

    def __init__(self, named: Callable[[str], str] = lambda name: "") -> None:
        self.named = named
        """The class of what a rule of the user calls secret by its name, or ""."""
        self._shapes, self._variables, self.harmless_words = Remembered(), Remembered(), Remembered()

    def shape(self, names: tuple[str, ...]) -> Shape:
        """Of an object with fields of these names."""
        found: Optional[Shape] = self._shapes.get(names)
        if found is None:
            found = self._shape(frozenset(map(str, names)))
            self._shapes.keep(names, found, len("".join(map(str, names))))
        return found

    def _shape(self, names: frozenset[str]) -> Shape:
        watched = (n for n in names if n in _PULL_SECRETS or self.named(n) or pairs.strength(n))
        secret = "kind" in names or {"type", "data"} <= names
        return Shape(secret, {"name", "value"} <= names, frozenset(watched))

    def variable(self, name: str, value: str) -> str:
        """Its class where it is a secret; "" where not."""
        found: Optional[str] = self._variables.get((name, value))
        if found is None:
            kind = "env" if looks_secret(name, value) else ""
            found = "" if is_token(value) else self.named(name) or kind
            self._variables.keep((name, value), found, len(name) + len(value))
        return found


@dataclass
class Walk:
    """One way through a document: `mask` gets what is a secret by its place, `text` every other string."""

    mask: Callable[[str, str], str]
    """(value, class) -> what stands there instead."""
    text: Callable[[str], str]
    names: Callable[[tuple[str, ...]], Iterable[str]]
    """The same for the names of an object's fields."""
    places: Places
    inside: Callable[[Any], object] = lambda plain: None
    """Gets what a Secret holds, as plain text, before it is masked: it may hold more of them."""

    def document(self, value: Any) -> Any:
        return self._any(value, "", 0)

    def _any(self, value: Any, name: str, depth: int) -> Any:
        if isinstance(value, str):
            return self._string(value, name, depth) if value[:1] in _JSON else self.text(value)
        if type(value) in _PLAIN:
            return value
        if depth > MAX_DEPTH:
            return self.mask(_beginning(value), "too-deep")
        if isinstance(value, dict):
            return self._object(value, depth)
        if isinstance(value, (list, tuple)):
            return self._list(list(value), name, depth)
        raise TypeError(f"{type(value).__name__} is no plain JSON")

    # Objects

    def _object(self, value: dict[str, Any], depth: int) -> dict[str, Any]:
        names = tuple(value)
        shape = self.places.shape(names)
        if shape.secret and (value.get("kind") in ("Secret", "SecretList") or _secret_shaped(value)):
            value = self._secret(value)
        if shape.variable and isinstance(value["value"], str) and isinstance(value["name"], str):
            return self._pair(value, names, depth)
        watched, text, items = shape.watched, self.text, []
        for key, item in value.items():
            if type(item) in _PLAIN:
                items.append(item)
            elif key in watched:
                items.append(self._field(str(key), item, depth + 1))
            elif type(item) is str and item[:1] not in _JSON:
                items.append(text(item))  # as `_any` does it: most of what is no number
            else:
                items.append(self._any(item, str(key), depth + 1))
        return dict(zip(self.names(names), items))

    def _field(self, key: str, value: Any, depth: int) -> Any:
        if isinstance(value, str) and value:
            if key in _PULL_SECRETS:
                return self.mask(value, "pull-secret")
            kind = self.places.named(key)
            if kind and not is_token(value):
                return self.mask(value, kind)
            if pairs.names_secret(key, value) and not _is_json(value):
                return self.mask(value, "value")
        return self._any(value, key, depth)

    def _pair(self, value: dict[str, Any], names: tuple[str, ...], depth: int) -> dict[str, Any]:
        """A variable of a pod or a process, {"name": ..., "value": ...}; HTTP headers of probes too."""
        name, plain = value["name"], value["value"]
        kind = self.places.variable(name, plain)
        masked = self.mask(plain, kind) if kind and plain else self._any(plain, "", depth + 1)
        items = [masked if key == "value" else self._any(value[key], str(key), depth + 1) for key in names]
        return dict(zip(self.names(names), items))

    def _secret(self, value: dict[str, Any]) -> dict[str, Any]:
        """A Secret of Kubernetes: every value, whatever it is called."""
        changed = dict(value)
        for part in ("data", "stringData"):
            if isinstance(value.get(part), dict):
                plain = {key: _plain(item, part == "data") for key, item in value[part].items()}
                self.inside(plain)
                changed[part] = {key: self._secret_value(item) for key, item in plain.items()}
        if isinstance(value.get("items"), list):
            changed["items"] = [self._secret(i) if isinstance(i, dict) else i for i in value["items"]]
        return changed

    def _secret_value(self, value: Any) -> Any:
        if not isinstance(value, str) or not value or is_token(value):
            return value
        return self.mask(value, "secret")

    # Lists

    def _list(self, value: list[Any], name: str, depth: int) -> list[Any]:
        kinds = set(map(type, value))
        if kinds == {str}:
            return self._arguments(value, name in _COMMANDS)
        if kinds <= _PLAIN:
            return value
        return [self._any(item, name, depth + 1) for item in value]

    def _arguments(self, words: list[str], command: bool) -> list[str]:
        key = (command, *words)
        if key in self.places.harmless_words:
            return list(map(self.text, words))
        program = words[0] if command else ""
        masked = [self._argument(*two, program) for two in zip(words, ["", *words])]
        if not any(masked):
            self.places.harmless_words.keep(key, True, len("".join(words)))
        return [new or self.text(word) for word, new in zip(words, masked)]

    def _argument(self, word: str, before: str, program: str) -> str:
        """What stands there instead of one that is or holds a secret by its place; "" where none does."""
        if word and before and _takes_secret(before, word, program):
            return self.mask(word, "argument")
        named = self.places.named
        kind = named(before.lstrip("-")) if before.startswith("-") else ""
        if word and kind and not word.startswith("--") and not is_token(word):
            return self.mask(word, kind)
        assigned = _ASSIGNED.fullmatch(word)
        if assigned is not None and assigned["value"]:
            kind = named(assigned["name"].lstrip("-"))
            kind = kind or ("argument" if _named(assigned["name"], assigned["value"]) else "")
            if kind and not is_token(assigned["value"]):
                return word[: assigned.start("value")] + self.mask(assigned["value"], kind)
        glued = _GLUED.fullmatch(word)
        if glued is not None and _TAKES_GLUED.search(program):
            return "-p" + self.mask(glued["value"], "argument")
        if program and " " in word and _TAKES_P.search(word) and _SHELL_P.search(word):
            return self.text(_SHELL_P.sub(self._shell_p, word))
        return ""

    def _shell_p(self, match: re.Match[str]) -> str:
        whole, value = match.group(), match["value"]
        return whole[: len(whole) - len(value)] + self.mask(value, "argument")

    # Strings

    def _string(self, value: str, name: str, depth: int) -> str:
        embedded = _embedded(value)
        if embedded is not None and depth < MAX_DEPTH:
            walked = self._any(embedded, name, depth + 1)
            if walked != embedded:
                value = json.dumps(walked, separators=(",", ":"), ensure_ascii=False)
        return self.text(value)


def _beginning(value: Any) -> str:
    """What the token of something too deep is made of; of what cannot even be written, only what it is."""
    try:
        return json.dumps(value, default=str)[:1000]
    except RecursionError:
        return type(value).__name__


def _secret_shaped(value: dict[str, Any]) -> bool:
    """A Secret in a list comes without its kind: its type says what it is."""
    kind = value.get("type")
    return isinstance(value.get("data"), dict) and isinstance(kind, str) and (
        kind == "Opaque" or kind.startswith(("kubernetes.io/", "bootstrap.kubernetes.io/", "helm.sh/"))
    )  # fmt: skip


def _plain(value: Any, encoded: bool) -> Any:
    """The plain form of base64, so that a secret has the same token wherever it stands."""
    if not encoded or not isinstance(value, str) or is_token(value):
        return value
    try:
        plain = base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        return value
    return plain.decode("utf-8", "surrogateescape")


def _takes_secret(flag: str, word: str, program: str) -> bool:
    short = program.rsplit("/", 1)[-1]
    if flag in _SHORT.get(short, ()):
        return True
    if flag == "-p":
        return (
            bool(program)
            and not word.isdigit()
            and not word.startswith(("-", "/", "."))
            and ":" not in word
        )
    return _FLAG.fullmatch(flag) is not None and not word.startswith("--") and _named(flag, word)


def _named(name: str, value: str) -> bool:
    if name.startswith("-"):
        return pairs.names_secret(name, value)
    return pairs.names_secret(name, value) or (name.isupper() and looks_secret(name, value))


def _is_json(value: str) -> bool:
    return _embedded(value) is not None


def _embedded(value: str) -> Optional[Any]:
    """Objects and lists that stand in a string, as kubectl's last-applied-configuration does."""
    if value[:1] not in _JSON or len(value) > MAX_EMBEDDED:
        return None
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, (dict, list)) and found else None
