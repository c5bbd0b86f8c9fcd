"""The access ladder: which security context is the least that lets the toolbox see the target.

To read another process' root the kernel wants the same uid and gid and a superset of its capabilities,
or SYS_PTRACE (ptrace(2), PTRACE_MODE_READ_FSCREDS). Pure: from a pod's object to rungs, no requests.
"""

from __future__ import annotations

from typing import Any, Optional

from kdebug.errors import UsageError
from kdebug.kube.pods import Object, container_status, containers
from kdebug.protocol.record import Record, dataclass

MATCH, MATCH_CAPS, PTRACE, NETADMIN, SYSADMIN = "match", "match+caps", "ptrace", "netadmin", "sysadmin"
MATCHING = (MATCH, MATCH_CAPS)
"""The rungs that run as the target's own user."""
CUSTOM = "custom"
PROFILES = ("auto", MATCH, PTRACE, NETADMIN, SYSADMIN)
UNKNOWN_USER = 65532
""""nonroot" of the distroless images: a first guess that any standard accepts."""
BASE: Object = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass(frozen=True, eq=False, repr=False)
class Identity(Record):
    """Whom the target runs as, as far as it is known."""

    uid: Optional[int]
    gid: Optional[int]
    known_from: str
    """status, spec, process, or "" where nothing tells."""


@dataclass(frozen=True, eq=False, repr=False)
class Rung(Record):
    """One try: a security context, and why it should do."""

    name: str
    context: Object
    why: str
    guess: bool = False
    """The target's user is not known yet; what the target's process says may correct it."""

    @property
    def rights(self) -> str:
        """In a few words, for notes and the leaving note."""
        if self.context.get("privileged"):
            return "privileged"
        capabilities = self.context.get("capabilities") or {}
        added = " ".join(capabilities.get("add") or [])
        default = "" if "ALL" in (capabilities.get("drop") or []) else "the runtime's default capabilities"
        held = " and ".join(part for part in (default, added) if part) or "no capabilities"
        return f"uid {self.context.get('runAsUser')} gid {self.context.get('runAsGroup')}, {held}"


def identity_of(pod: Object, name: str) -> Identity:
    """From `status.containerStatuses[].user.linux` (KEP-3619), else from the spec."""
    linux = (container_status(pod, name).get("user") or {}).get("linux")
    if isinstance(linux, dict) and "uid" in linux:
        return Identity(int(linux["uid"]), int(linux.get("gid", 0)), "status")
    uid, gid = effective(pod, name, "runAsUser"), effective(pod, name, "runAsGroup")
    if uid is None:
        return Identity(None, None, "")
    # Without runAsGroup the runtime takes the image's group for the uid, and 0 where there is none.
    return Identity(int(uid), int(gid or 0), "spec")


def effective(pod: Object, name: str, field: str) -> Any:
    """A security context's field: the container's, else the pod's; None when neither says."""
    own = _context(pod, name).get(field)
    return own if own is not None else (pod["spec"].get("securityContext") or {}).get(field)


def _context(pod: Object, name: str) -> Object:
    for container in containers(pod):
        if container["name"] == name:
            return container.get("securityContext") or {}
    return {}


def _base(pod: Object, name: str) -> Object:
    """What every rung shares, with the target's own AppArmor profile and SELinux label: another label
    would be refused the target's files."""
    base = dict(BASE)
    for field in ("appArmorProfile", "seLinuxOptions"):
        value = effective(pod, name, field)
        if value:
            base[field] = value
    return base


def match(pod: Object, name: str, identity: Identity) -> Rung:
    """The target's user and group without any capability: passes the *restricted* standard."""
    uid = UNKNOWN_USER if identity.uid is None else identity.uid
    gid = UNKNOWN_USER if identity.gid is None else identity.gid
    context = _base(pod, name) | {
        "runAsUser": uid,
        "runAsGroup": gid,
        "runAsNonRoot": uid != 0,
        "capabilities": {"drop": ["ALL"]},
    }
    why = (
        f"the target's uid {uid} and gid {gid}"
        if identity.known_from
        else "the target's user is not known yet"
    )
    return Rung(MATCH, context, why, guess=not identity.known_from)


def match_caps(pod: Object, name: str, identity: Identity) -> Rung:
    """The same with exactly the target's own capabilities, computed by the runtime from the same words."""
    rung = match(pod, name, identity)
    capabilities = _context(pod, name).get("capabilities") or {}
    context = dict(rung.context)
    if capabilities:
        context["capabilities"] = capabilities
    else:
        del context["capabilities"]
    if "CAP_SYS_ADMIN" in (capabilities.get("add") or []):
        # The API server takes this name for a contradiction (validation.ValidateSecurityContext).
        del context["allowPrivilegeEscalation"]
    return Rung(MATCH_CAPS, context, f"{rung.why}, and its own capabilities", rung.guess)


def ptrace(pod: Object, name: str, more: tuple[str, ...] = (), rung: str = PTRACE) -> Rung:
    """Root with SYS_PTRACE, and DAC_READ_SEARCH to read what other users own; nothing else."""
    context = _base(pod, name) | {
        "runAsUser": 0,
        "runAsGroup": 0,
        "runAsNonRoot": False,
        "capabilities": {"drop": ["ALL"], "add": ["SYS_PTRACE", "DAC_READ_SEARCH", *more]},
    }
    if is_privileged(pod, name):
        # Such a target is unconfined whatever its profile says, and the runtime's default profile may
        # only trace what is under itself.
        context["appArmorProfile"] = {"type": "Unconfined"}
    return Rung(rung, context, "reads any process of the pod")


def sysadmin(pod: Object, name: str) -> Rung:
    """Everything; only when it is asked for."""
    context: Object = {"privileged": True, "runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": False}
    return Rung(SYSADMIN, context, "privileged, as asked")


def is_privileged(pod: Object, name: str) -> bool:
    return bool(_context(pod, name).get("privileged"))


def plan(pod: Object, name: str, profile: str, custom: Optional[Object] = None) -> list[Rung]:
    """The rungs to try, lowest first; a named profile is one rung. Raises `UsageError`."""
    identity = identity_of(pod, name)
    if custom is not None:
        return [
            Rung(CUSTOM, custom_context(match(pod, name, identity).context, custom), "the given profile")
        ]
    if profile == "auto":
        return auto(pod, name, identity)
    named = {
        MATCH: lambda: match_for(pod, name, identity),
        PTRACE: lambda: ptrace(pod, name),
        NETADMIN: lambda: ptrace(pod, name, ("NET_ADMIN", "NET_RAW"), NETADMIN),
        SYSADMIN: lambda: sysadmin(pod, name),
    }
    if profile not in named:
        raise UsageError(
            f"there is no profile {profile}", next_step=f"use {', '.join(PROFILES)} or a YAML file"
        )
    return [named[profile]()]


def match_for(pod: Object, name: str, identity: Identity) -> Rung:
    """The lowest rung that the kernel's rule can accept for this user."""
    holds_capabilities = identity.uid == 0 and not _drops_all_without_adding(pod, name)
    return match_caps(pod, name, identity) if holds_capabilities else match(pod, name, identity)


def _drops_all_without_adding(pod: Object, name: str) -> bool:
    capabilities = _context(pod, name).get("capabilities") or {}
    drops = {str(item).upper() for item in capabilities.get("drop") or []}
    return "ALL" in drops and not capabilities.get("add")


def auto(pod: Object, name: str, identity: Identity) -> list[Rung]:
    """match, or match+caps where match cannot do; then ptrace. A privileged target holds everything, so
    only SYS_PTRACE reaches it below sysadmin."""
    rungs = [] if is_privileged(pod, name) else [match_for(pod, name, identity)]
    return [*rungs, ptrace(pod, name)]


ALLOWED_CUSTOM = (
    "allowPrivilegeEscalation", "appArmorProfile", "capabilities", "privileged", "procMount",
    "readOnlyRootFilesystem", "runAsGroup", "runAsNonRoot", "runAsUser", "seLinuxOptions", "seccompProfile",
)  # fmt: skip


def custom_context(base: Object, custom: Object) -> Object:
    """A YAML profile over the match rung, field by field; null removes a field. Raises `UsageError`."""
    given = custom.get("securityContext", custom)
    unknown = sorted(set(given) - set(ALLOWED_CUSTOM)) if isinstance(given, dict) else ["(not a mapping)"]
    if unknown:
        raise UsageError(
            f"the profile holds {', '.join(unknown)}",
            next_step=f"a profile is a securityContext: {', '.join(ALLOWED_CUSTOM)}",
        )
    context = base | given
    # What follows from the fields that were given, or the API server and the kubelet refuse it.
    if "runAsUser" in given and "runAsNonRoot" not in given:
        context["runAsNonRoot"] = given["runAsUser"] not in (0, None)
    if given.get("privileged") and "allowPrivilegeEscalation" not in given:
        context["allowPrivilegeEscalation"] = None
    return {key: value for key, value in context.items() if value is not None}
