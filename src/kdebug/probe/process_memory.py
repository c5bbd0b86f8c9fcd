"""Where the memory of a process is: /proc/PID/status and, where it may be read, smaps_rollup (proc(5))."""

from __future__ import annotations

from kdebug.probe.identity import read_small
from kdebug.probe.process_parse import PF_KTHREAD, Stat, kilobytes, parse_status
from kdebug.probe.process_static import reason_of
from kdebug.protocol.processes import MemoryDetail

FROM_STATUS = {
    "rss_bytes": b"VmRSS",
    "peak_rss_bytes": b"VmHWM",
    "anonymous_bytes": b"RssAnon",
    "file_bytes": b"RssFile",
    "shared_memory_bytes": b"RssShmem",
    "swap_bytes": b"VmSwap",
    "locked_bytes": b"VmLck",
    "page_tables_bytes": b"VmPTE",
}


def memory_detail(
    base: str, status: dict[bytes, bytes], stat: Stat, reasons: dict[str, str]
) -> MemoryDetail:
    """Bytes; what is None has its reason under "memory.NAME". smaps_rollup walks all page tables."""
    facts = {name: kilobytes(status, key) for name, key in FROM_STATUS.items()}
    rollup, why = _rollup(base)
    clean, dirty = kilobytes(rollup, b"Private_Clean"), kilobytes(rollup, b"Private_Dirty")
    facts["pss_bytes"] = kilobytes(rollup, b"Pss")
    facts["uss_bytes"] = None if clean is None or dirty is None else clean + dirty
    nothing = _without_memory(stat)
    for name in [name for name, value in facts.items() if value is None]:
        reasons[f"memory.{name}"] = (
            nothing or (why if name not in FROM_STATUS else "") or "this kernel does not say"
        )
    return MemoryDetail(**facts)


def _rollup(base: str) -> tuple[dict[bytes, bytes], str]:
    try:
        return parse_status(read_small(f"{base}/smaps_rollup")), ""
    except OSError as error:
        return {}, reason_of(error)


def _without_memory(stat: Stat) -> str:
    if stat.flags & PF_KTHREAD:
        return "a kernel thread has no memory of its own"
    return "it has ended and has no memory any more" if stat.state in "ZXx" else ""
