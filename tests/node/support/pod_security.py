"""Pod Security admission: the checks of *baseline* and *restricted* that pods can break, in its own words.

Not here: AppArmor, SELinux, sysctls and Windows host processes, which no pod of these tests sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Object = dict[str, Any]
Violation = tuple[str, str]
Check = Callable[[Object], "Violation | None"]

LABEL = "pod-security.kubernetes.io/enforce"
VERSION_LABEL = "pod-security.kubernetes.io/enforce-version"

BASELINE_CAPABILITIES = {
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
}
RESTRICTED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def _containers(spec: Object) -> list[Object]:
    kinds = ("initContainers", "containers", "ephemeralContainers")
    return [container for kind in kinds for container in spec.get(kind) or []]


def _context(container: Object) -> Object:
    return container.get("securityContext") or {}


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _named(names: list[str], what: str = "container") -> str:
    return f"{what}{'s' if len(names) > 1 else ''} {_quoted(names)}"


def _offenders(spec: Object, offends: Callable[[Object], bool]) -> list[str]:
    return [container["name"] for container in _containers(spec) if offends(container)]


def host_namespaces(spec: Object) -> Violation | None:
    set_here = [f"{key}=true" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    return ("host namespaces", ", ".join(set_here)) if set_here else None


def privileged(spec: Object) -> Violation | None:
    bad = _offenders(spec, lambda one: _context(one).get("privileged") is True)
    return ("privileged", f"{_named(bad)} must not set securityContext.privileged=true") if bad else None


def _added(container: Object) -> list[str]:
    return (_context(container).get("capabilities") or {}).get("add") or []


def baseline_capabilities(spec: Object) -> Violation | None:
    bad = _offenders(spec, lambda one: bool(set(_added(one)) - BASELINE_CAPABILITIES))
    if not bad:
        return None
    names = sorted({name for one in _containers(spec) for name in _added(one)} - BASELINE_CAPABILITIES)
    text = f"{_named(bad)} must not include {_quoted(names)} in securityContext.capabilities.add"
    return "non-default capabilities", text


def host_path(spec: Object) -> Violation | None:
    bad = [volume["name"] for volume in spec.get("volumes") or [] if "hostPath" in volume]
    return ("hostPath volumes", _named(bad, "volume")) if bad else None


def host_ports(spec: Object) -> Violation | None:
    def ports(container: Object) -> list[int]:
        return [port["hostPort"] for port in container.get("ports") or [] if port.get("hostPort")]

    bad = _offenders(spec, lambda one: bool(ports(one)))
    numbers = sorted({port for one in _containers(spec) for port in ports(one)})
    text = f"{_named(bad)} {'use' if len(bad) > 1 else 'uses'} hostPort{'s' if len(numbers) > 1 else ''} "
    return ("hostPort", text + ", ".join(map(str, numbers))) if bad else None


def proc_mount(spec: Object) -> Violation | None:
    bad = _offenders(spec, lambda one: _context(one).get("procMount", "Default") != "Default")
    text = f'{_named(bad)} must not set securityContext.procMount to "Unmasked"'
    return ("procMount", text) if bad else None


def _seccomp(context: Object) -> str | None:
    profile = context.get("seccompProfile")
    return profile.get("type") if profile else None


def baseline_seccomp(spec: Object) -> Violation | None:
    bad = _offenders(spec, lambda one: _seccomp(_context(one)) == "Unconfined")
    pod = _seccomp(spec.get("securityContext") or {}) == "Unconfined"
    if not bad and not pod:
        return None
    who = " and ".join((["pod"] if pod else []) + ([_named(bad)] if bad else []))
    return "seccompProfile", f'{who} must not set securityContext.seccompProfile.type to "Unconfined"'


def restricted_volumes(spec: Object) -> Violation | None:
    kinds = {}
    for volume in spec.get("volumes") or []:
        for kind in volume.keys() - {"name"} - RESTRICTED_VOLUMES:
            kinds[volume["name"]] = kind
    if not kinds:
        return None
    used = sorted(set(kinds.values()))
    uses = "use" if len(kinds) > 1 else "uses"
    text = f"{_named(list(kinds), 'volume')} {uses} restricted volume type{'s' if len(used) > 1 else ''}"
    return "restricted volume types", f"{text} {_quoted(used)}"


def no_escalation(spec: Object) -> Violation | None:
    bad = _offenders(spec, lambda one: _context(one).get("allowPrivilegeEscalation") is not False)
    text = f"{_named(bad)} must set securityContext.allowPrivilegeEscalation=false"
    return ("allowPrivilegeEscalation != false", text) if bad else None


def restricted_capabilities(spec: Object) -> Violation | None:
    allowed = {"NET_BIND_SERVICE"}
    keeping = _offenders(
        spec, lambda one: "ALL" not in ((_context(one).get("capabilities") or {}).get("drop") or [])
    )
    adding = _offenders(spec, lambda one: bool(set(_added(one)) - allowed))
    texts = []
    if keeping:
        texts.append(f'{_named(keeping)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        names = sorted({name for one in _containers(spec) for name in _added(one)} - allowed)
        texts.append(
            f"{_named(adding)} must not include {_quoted(names)} in securityContext.capabilities.add"
        )
    return ("unrestricted capabilities", "; ".join(texts)) if texts else None


def non_root(spec: Object) -> Violation | None:
    whole = (spec.get("securityContext") or {}).get("runAsNonRoot")
    explicit = _offenders(spec, lambda one: _context(one).get("runAsNonRoot") is False)
    implicit = (
        _offenders(spec, lambda one: _context(one).get("runAsNonRoot") is None) if whole is not True else []
    )
    if explicit:
        who = f"pod and {_named(explicit)}" if whole is False else _named(explicit)
        return "runAsNonRoot != true", f"{who} must not set securityContext.runAsNonRoot=false"
    if implicit:
        if whole is False:
            return "runAsNonRoot != true", "pod must not set securityContext.runAsNonRoot=false"
        text = f"pod or {_named(implicit)} must set securityContext.runAsNonRoot=true"
        return "runAsNonRoot != true", text
    return None


def run_as_user(spec: Object) -> Violation | None:
    bad = _offenders(spec, lambda one: _context(one).get("runAsUser") == 0)
    whole = (spec.get("securityContext") or {}).get("runAsUser") == 0
    if not bad and not whole:
        return None
    who = " and ".join((["pod"] if whole else []) + ([_named(bad)] if bad else []))
    return "runAsUser=0", f"{who} must not set runAsUser=0"


def restricted_seccomp(spec: Object) -> Violation | None:
    allowed = (None, "RuntimeDefault", "Localhost")
    whole = _seccomp(spec.get("securityContext") or {})
    explicit = _offenders(spec, lambda one: _seccomp(_context(one)) not in allowed)
    if explicit or whole not in allowed:
        who = " and ".join(
            (["pod"] if whole not in allowed else []) + ([_named(explicit)] if explicit else [])
        )
        used = {whole, *(_seccomp(_context(one)) for one in _containers(spec))} - set(allowed)
        values = _quoted(sorted(str(value) for value in used))
        return "seccompProfile", f"{who} must not set securityContext.seccompProfile.type to {values}"
    unset = _offenders(spec, lambda one: _seccomp(_context(one)) is None) if whole is None else []
    if not unset:
        return None
    text = 'must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return "seccompProfile", f"pod or {_named(unset)} {text}"


BASELINE: tuple[Check, ...] = (host_namespaces, host_path, host_ports, privileged, proc_mount)
LEVELS: dict[str, tuple[Check, ...]] = {
    "privileged": (),
    "baseline": (baseline_capabilities, *BASELINE, baseline_seccomp),
    "restricted": (
        *BASELINE,
        no_escalation,
        restricted_capabilities,
        restricted_volumes,
        non_root,
        run_as_user,
        restricted_seccomp,
    ),
}


def refusal(namespace_labels: Object, spec: Object) -> str:
    """The server's words after `is forbidden:`, or nothing if the pod may be."""
    level = namespace_labels.get(LABEL, "privileged")
    violations = [found for check in LEVELS.get(level, LEVELS["restricted"]) if (found := check(spec))]
    if not violations:
        return ""
    version = namespace_labels.get(VERSION_LABEL, "latest")
    texts = ", ".join(f"{reason} ({detail})" for reason, detail in violations)
    return f'violates PodSecurity "{level}:{version}": {texts}'
