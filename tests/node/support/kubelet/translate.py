"""A pod's spec in the runtime's words, as the kubelet translates it.

The security context is where a debugging client wins or loses, so the rules are the kubelet's: the
container's field over the pod's, the image's user as a bare uid, `allowPrivilegeEscalation: false` as
no_new_privs, seccomp Unconfined unless asked for, masked paths unless `procMount: Unmasked`.
"""

from __future__ import annotations

from typing import Any

from cri_api.v1 import api_pb2 as api

Object = dict[str, Any]

PERIOD = 100_000
"""Microseconds of a CPU quota period."""

MASKED = (
    "asound",
    "acpi",
    "kcore",
    "keys",
    "latency_stats",
    "timer_list",
    "timer_stats",
    "sched_debug",
    "scsi",
)
READONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")


def milli_cpu(quantity: Any) -> int:
    text = str(quantity)
    return int(text[:-1]) if text.endswith("m") else int(float(text) * 1000)


def in_bytes(quantity: Any) -> int:
    text = str(quantity)
    for suffix, factor in (
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("k", 1000),
        ("M", 10**6),
        ("G", 10**9),
    ):
        if text.endswith(suffix):
            return int(float(text[: -len(suffix)]) * factor)
    return int(text)


def all_containers(spec: Object) -> list[Object]:
    return [*spec.get("containers", []), *spec.get("ephemeralContainers", [])]


def shares(milli: int) -> int:
    return max(2, milli * 1024 // 1000)


def quota(milli: int) -> int:
    return max(1000, milli * PERIOD // 1000)


def linux_resources(container: Object) -> api.LinuxContainerResources:
    wanted = container.get("resources") or {}
    limits, requests = wanted.get("limits") or {}, wanted.get("requests") or {}
    cpu_request = requests.get("cpu", limits.get("cpu", "0"))
    resources = api.LinuxContainerResources(cpu_shares=shares(milli_cpu(cpu_request)), oom_score_adj=1000)
    if "cpu" in limits:
        resources.cpu_period, resources.cpu_quota = PERIOD, quota(milli_cpu(limits["cpu"]))
    if "memory" in limits:
        resources.memory_limit_in_bytes = in_bytes(limits["memory"])
    return resources


def qos_class(spec: Object) -> str:
    containers = spec.get("containers", [])
    wanted = [container.get("resources") or {} for container in containers]
    if not any(one.get("limits") or one.get("requests") for one in wanted):
        return "BestEffort"
    for one in wanted:
        limits = one.get("limits") or {}
        if not {"cpu", "memory"} <= limits.keys() or (one.get("requests") or limits) != limits:
            return "Burstable"
    return "Guaranteed"


def _merged(pod: Object, container: Object) -> Object:
    """The container's own security context over what it inherits from the pod's."""
    own, inherited = container.get("securityContext") or {}, pod["spec"].get("securityContext") or {}
    shared = (
        "runAsUser",
        "runAsGroup",
        "runAsNonRoot",
        "seccompProfile",
        "seLinuxOptions",
        "appArmorProfile",
    )
    return {**{key: inherited[key] for key in shared if inherited.get(key) is not None}, **own}


def effective(pod: Object, container: Object) -> Object:
    return {key: value for key, value in _merged(pod, container).items() if value is not None}


def namespaces(pod: Object, target: str = "") -> api.NamespaceOption:
    spec = pod["spec"]
    option = api.NamespaceOption(
        network=api.NamespaceMode.NODE if spec.get("hostNetwork") else api.NamespaceMode.POD
    )
    option.ipc = api.NamespaceMode.NODE if spec.get("hostIPC") else api.NamespaceMode.POD
    option.pid = api.NamespaceMode.CONTAINER
    if target:
        option.pid, option.target_id = api.NamespaceMode.TARGET, target
    if spec.get("hostPID"):
        option.pid = api.NamespaceMode.NODE
        option.target_id = ""
    elif spec.get("shareProcessNamespace"):
        option.pid = api.NamespaceMode.POD
        option.target_id = ""
    return option


def _seccomp(context: Object) -> api.SecurityProfile:
    kind = (context.get("seccompProfile") or {}).get("type", "Unconfined")
    kinds = api.SecurityProfile.ProfileType
    return api.SecurityProfile(
        profile_type=kinds.RuntimeDefault if kind == "RuntimeDefault" else kinds.Unconfined
    )


def security(
    pod: Object, container: Object, image: api.Image, target: str
) -> api.LinuxContainerSecurityContext:
    context, whole = effective(pod, container), pod["spec"].get("securityContext") or {}
    capabilities = context.get("capabilities") or {}
    result = api.LinuxContainerSecurityContext(
        capabilities=api.Capability(
            add_capabilities=capabilities.get("add") or [], drop_capabilities=capabilities.get("drop") or []
        ),
        privileged=bool(context.get("privileged")),
        namespace_options=namespaces(pod, target),
        readonly_rootfs=bool(context.get("readOnlyRootFilesystem")),
        supplemental_groups=whole.get("supplementalGroups") or [],
        no_new_privs=context.get("allowPrivilegeEscalation") is False,
        seccomp=_seccomp(context),
    )
    if whole.get("fsGroup") is not None:
        result.supplemental_groups.append(whole["fsGroup"])
    if context.get("procMount", "Default") == "Default":
        result.masked_paths.extend(f"/proc/{name}" for name in MASKED)
        result.masked_paths.append("/sys/firmware")
        result.readonly_paths.extend(f"/proc/{name}" for name in READONLY)
    _set_user(result, context, image)
    return result


def _set_user(result: api.LinuxContainerSecurityContext, context: Object, image: api.Image) -> None:
    """With only an image user, the uid alone is passed on: that is how a target comes to run with gid 0."""
    if context.get("runAsUser") is not None:
        result.run_as_user.value = context["runAsUser"]
    elif image.HasField("uid"):
        result.run_as_user.value = image.uid.value
    elif image.username:
        result.run_as_username = image.username
    if context.get("runAsGroup") is not None:
        result.run_as_group.value = context["runAsGroup"]


def non_root_objection(pod: Object, container: Object, image: api.Image) -> str:
    """The kubelet's own words against a root container that must not be one, or nothing."""
    context, metadata = effective(pod, container), pod["metadata"]
    if not context.get("runAsNonRoot"):
        return ""
    full_name = f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"
    where = f'(pod: "{full_name}", container: {container["name"]})'
    if context.get("runAsUser") is not None:
        return f"container's runAsUser breaks non-root policy {where}" if context["runAsUser"] == 0 else ""
    if image.HasField("uid"):
        root = image.uid.value == 0
    elif image.username:
        why = f"image has non-numeric user ({image.username}), cannot verify user is non-root"
        return f"container has runAsNonRoot and {why} {where}"
    else:
        root = True
    return f"container has runAsNonRoot and image will run as root {where}" if root else ""


def sandbox_config(pod: Object, cgroup: str, logs: str) -> api.PodSandboxConfig:
    metadata, spec = pod["metadata"], pod["spec"]
    context = spec.get("securityContext") or {}
    linux = api.LinuxPodSandboxConfig(
        cgroup_parent=cgroup,
        security_context=api.LinuxSandboxSecurityContext(
            namespace_options=namespaces(pod),
            seccomp=api.SecurityProfile(profile_type=api.SecurityProfile.ProfileType.RuntimeDefault),
            supplemental_groups=context.get("supplementalGroups") or [],
            privileged=any(
                (one.get("securityContext") or {}).get("privileged") for one in all_containers(spec)
            ),
        ),
    )
    name, namespace = metadata["name"], metadata["namespace"]
    return api.PodSandboxConfig(
        metadata=api.PodSandboxMetadata(name=name, namespace=namespace, uid=metadata["uid"]),
        hostname=spec.get("hostname", name)[:63] if not spec.get("hostNetwork") else "",
        log_directory=logs,
        dns_config=api.DNSConfig(
            servers=["192.0.2.1"],
            searches=[f"{namespace}.svc.cluster.local", "svc.cluster.local", "cluster.local"],
            options=["ndots:5"],
        ),
        labels={"io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": namespace},
        linux=linux,
    )


def container_config(
    pod: Object,
    container: Object,
    image: api.Image,
    attempt: int,
    volumes: dict[str, str],
    target: str = "",
) -> api.ContainerConfig:
    name = container["name"]
    mounts = [
        api.Mount(
            container_path=mount["mountPath"],
            host_path=f"{volumes[mount['name']]}/{mount.get('subPath', '')}".rstrip("/"),
            readonly=bool(mount.get("readOnly")),
        )
        for mount in container.get("volumeMounts") or []
    ]
    environment = [
        api.KeyValue(key=one["name"], value=str(one.get("value", ""))) for one in container.get("env") or []
    ]
    return api.ContainerConfig(
        metadata=api.ContainerMetadata(name=name, attempt=attempt),
        image=api.ImageSpec(image=image.id),
        command=container.get("command") or [],
        args=container.get("args") or [],
        working_dir=container.get("workingDir", ""),
        envs=environment,
        mounts=mounts,
        labels={"io.kubernetes.container.name": name, "io.kubernetes.pod.uid": pod["metadata"]["uid"]},
        log_path=f"{name}/{attempt}.log",
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        tty=bool(container.get("tty")),
        linux=api.LinuxContainerConfig(
            resources=linux_resources(container), security_context=security(pod, container, image, target)
        ),
    )
