"""Who asks, and may they: bearer tokens and client certificates, and a permission table that tests change.

The table is not RBAC, it only answers like it: a user may do everything except what was forbidden, or
nothing except what was permitted. Refusals have the server's wording, which names the user, the verb
and the resource.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from . import errors


@dataclass(frozen=True)
class Attributes:
    """What a request wants to do, as the server's authorizer sees it."""

    verb: str
    group: str
    resource: str
    """With its subresource: `pods/exec`."""
    namespace: str = ""
    name: str = ""


@dataclass
class User:
    name: str
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    expired: bool = False
    everything: bool = True
    """May do what is not forbidden; otherwise only what is permitted."""
    rules: set[tuple[str, str, str]] = field(default_factory=set)
    """(verb, resource, namespace), `*` for any: exceptions to `everything`, or all there is."""

    def may(self, wanted: Attributes) -> bool:
        return self._listed(wanted) is not self.everything

    def _listed(self, wanted: Attributes) -> bool:
        return any(
            verb in ("*", wanted.verb)
            and resource in ("*", wanted.resource)
            and place in ("*", wanted.namespace)
            for verb, resource, place in self.rules
        )

    def set(self, allowed: bool, verb: str, resource: str, namespace: str) -> None:
        rule = (verb, resource, namespace)
        if allowed is self.everything:
            self.rules.discard(rule)
        else:
            self.rules.add(rule)


class Access:
    def __init__(self) -> None:
        self.users: dict[str, User] = {}

    def add(self, name: str, everything: bool = True) -> User:
        user = self.users[name] = User(name, everything=everything)
        return user

    def authenticate(self, authorization: str, certificate_name: str) -> User:
        if certificate_name in self.users and not self.users[certificate_name].expired:
            return self.users[certificate_name]
        scheme, _, token = authorization.partition(" ")
        for user in self.users.values():
            if (
                scheme.lower() == "bearer"
                and secrets.compare_digest(user.token, token.strip())
                and not user.expired
            ):
                return user
        raise errors.unauthorized()


def demand(user: User, wanted: Attributes) -> None:
    if user.may(wanted):
        return
    what = f'resource "{wanted.resource}" in API group "{wanted.group}"'
    where = f'in the namespace "{wanted.namespace}"' if wanted.namespace else "at the cluster scope"
    raise errors.forbidden(
        wanted.resource.split("/")[0],
        wanted.name,
        f'User "{user.name}" cannot {wanted.verb} {what} {where}',
    )
