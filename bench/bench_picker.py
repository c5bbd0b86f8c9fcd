"""The picker over 5,000 pods, of which twenty change each second, on a pseudo terminal of its own.

Times are of a whole `kdebug attach`, from a key written to its terminal to the screen that answers it, with
an emulator in between that we did not write; on a machine that is busy otherwise they say little, and the
CPU time of a key (with whatever the twenty changes cost meanwhile) says more. The reference is what k9s
needs for 1,850 pods, as its users reported it: fewer pods than here, another machine.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from support.terminal import Terminal  # noqa: E402

PODS, CHANGES = 5000, 20
ROUNDS = 3
NEEDLES = ("payment gateway", "crashloop", "checkout team-0", "istio 1.24", "wf")
REFERENCE = {"pods": 1850, "first_list_s": 3.9, "filter_ms": 602, "memory_mib": 983}


def kubeconfig(folder: Path, server: str) -> Path:
    path = folder / "config"
    document = {
        "current-context": "bench",
        "clusters": [{"name": "bench", "cluster": {"server": server}}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [
            {"name": "bench", "context": {"cluster": "bench", "user": "me", "namespace": "team-00"}}
        ],
    }
    path.write_text(json.dumps(document))
    return path


class Round:
    """One start of kdebug: what it took."""

    def __init__(self, config: Path, state: Path) -> None:
        started = time.monotonic()
        self.terminal = Terminal(
            "attach", columns=120, rows=40, KUBECONFIG=str(config), XDG_STATE_HOME=str(state)
        )
        try:
            self._until("● watching")
            self.start_seconds = time.monotonic() - started
            started = time.monotonic()
            self.terminal.type("0")
            self._until("all namespaces", "… listing")
            self.first_rows_seconds = time.monotonic() - started
            self._until(f"{PODS:,} pods  ● watching")
            self.list_seconds = time.monotonic() - started
            self.cpu_ms = 0.0
            self.keys = [ms for needle in NEEDLES for ms in self._typed(needle)]
            self.mib = self._memory()
            self.terminal.type("q")
            assert self.terminal.ended() == 0
        finally:
            self.terminal.close()

    def _until(self, *texts: str) -> None:
        """In the header, which is drawn together with the rows."""
        terminal = self.terminal
        terminal.until(lambda: all(text in terminal.screen.display[0] for text in texts), f"{texts}", 60)

    def _typed(self, needle: str) -> list[float]:
        self.terminal.type("/")
        times, started_cpu = [], self._cpu()
        for end in range(1, len(needle) + 1):
            started = time.monotonic()
            self.terminal.type(needle[end - 1])
            if needle[end - 1] != " ":
                self._until(f"/{needle[:end]} ")
                times.append((time.monotonic() - started) * 1000)
            time.sleep(0.05)
        self.cpu_ms += (self._cpu() - started_cpu) * 1000
        self.terminal.type("\x1b")
        # Not before the filter is gone: an escape and a slash in one would be another key.
        self._until(f"  {PODS:,} pods")
        return times

    def _cpu(self) -> float:
        """Seconds that kdebug has used until now (proc_pid_stat: utime, stime)."""
        stat = Path(f"/proc/{self.terminal.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def _memory(self) -> float:
        """Resident, at most, in MiB (proc_pid_status: VmHWM)."""
        status = Path(f"/proc/{self.terminal.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024


def main() -> None:
    server = subprocess.Popen(
        [sys.executable, str(TESTS / "support/many_pods.py"), str(PODS), str(CHANGES)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            config = kubeconfig(Path(folder), server.stdout.readline().strip())
            rounds = [Round(config, Path(folder)) for _ in range(ROUNDS)]
    finally:
        server.communicate()
    keys = sorted(ms for one in rounds for ms in one.keys)
    figures = {
        "bench": f"picker, {PODS} pods, {CHANGES} changes a second",
        "start_s": round(statistics.median(one.start_seconds for one in rounds), 2),
        "first_rows_s": round(statistics.median(one.first_rows_seconds for one in rounds), 2),
        "first_list_s": round(statistics.median(one.list_seconds for one in rounds), 2),
        "filter_p50_ms": round(statistics.median(keys), 1),
        "filter_p95_ms": round(keys[int(len(keys) * 0.95)], 1),
        "filter_max_ms": round(keys[-1], 1),
        "cpu_ms_per_key": round(sum(one.cpu_ms for one in rounds) / len(keys), 1),
        "keys": len(keys),
        "load": round(os.getloadavg()[0], 1),
        "memory_mib": round(max(one.mib for one in rounds), 1),
        "reference_k9s": REFERENCE,
        "aim": "filter p95 <= 50 ms, everything below the reference",
    }
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
