"""Capability sets as names (capabilities(7), include/uapi/linux/capability.h)."""

from __future__ import annotations

NAMES = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
]


def capability_names(mask: int) -> tuple[str, ...]:
    """Bit 19 is cap_sys_ptrace; a bit that no kernel had yet is cap_NN."""
    return tuple(f"cap_{NAMES[bit] if bit < len(NAMES) else bit}" for bit in range(64) if mask >> bit & 1)
