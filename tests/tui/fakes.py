"""Targets that answer what a test wants them to: huge, hostile, or slow."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Callable, Optional

from kdebug.errors import Failed, KdebugError
from kdebug.expression import TargetExpression
from kdebug.protocol import requests as ask
from kdebug.protocol.network import Dns, Interface, NetworkConfig, Route, Socket, SocketPage
from kdebug.protocol.processes import FdInfo, FdPage, Process, ProcessPage
from kdebug.protocol.system import Access, AgentInfo, TargetInfo
from kdebug.target import Target
from kdebug.target.options import OpenOptions

PAGE = 1000
HOSTILE = (
    "\x1b[31mred\x1b[0m", "[/foo] [bold]x", "\u202etxt.exe", "日本語のファイル名", "e\u0301\u0301\u0301",
    "a\nb\rc\td", "x" * 10_000, "👨‍👩‍👧 family", "\ud800\udcff", "\x9b2J", "\x1b]52;c;aGk=\x07",
)  # fmt: skip
INFO = TargetInfo(
    pid=1, start_ticks=1, name="app", container=None, same_pid_namespace=True, same_network_namespace=True,
    boot_id=None, clock_ticks=100, page_size=4096, read_only=False,
)  # fmt: skip


def a_process(pid: int, name: str = "app", **more: Any) -> Process:
    return Process(
        pid=pid, start_ticks=1, ppid=0, name=name, state="S", rss_bytes=1 << 20, vsize_bytes=0,
        cpu_seconds=0.0, threads=1, started_at=0.0, **more,
    )  # fmt: skip


def a_socket(number: int = 0, **more: Any) -> Socket:
    facts: dict[str, Any] = {
        "family": "inet", "type": "tcp", "local": f"192.0.2.1:{1024 + number}", "remote": "192.0.2.9:443",
        "state": "ESTAB", "inode": 1000 + number, "uid": 0, "pids": (1,), "rx_queue_bytes": 0,
        "tx_queue_bytes": 0,
    }  # fmt: skip
    return Socket(**{**facts, **more})


def an_interface(name: str = "eth0", **more: Any) -> Interface:
    facts: dict[str, Any] = {
        "name": name, "state": "up", "mtu": 1500, "mac": None, "addresses": ("192.0.2.1/24",),
        "rx_bytes": 0, "rx_packets": 0, "rx_errors": 0, "rx_dropped": 0, "tx_bytes": 0, "tx_packets": 0,
        "tx_errors": 0, "tx_dropped": 0,
    }  # fmt: skip
    return Interface(**{**facts, **more})


class FakeBackend:
    """Answers by the kind of request; what it has no answer for fails as a pod would."""

    def __init__(self, sockets: Callable[[], list[Socket]] = list) -> None:
        self.asked: list[str] = []
        self.sockets = sockets
        self.processes: list[Process] = [a_process(1)]
        self.fds: list[FdInfo] = []
        self.config = NetworkConfig((an_interface(),), (), Dns(), {})
        self.access = Access(0, 0, (), ())
        self.problem: Optional[KdebugError] = None
        self._page: list[Socket] = []

    async def send(self, request: Any) -> Any:
        self.asked.append(request.name)
        if self.problem is not None:
            raise self.problem
        answer = getattr(self, f"_{request.name.replace('-', '_')}", None)
        if answer is None:
            raise Failed(f"no {request.name} here")
        return answer(request)

    async def close(self) -> None:
        pass

    def _sockets(self, request: ask.ListSockets) -> SocketPage:
        start = int(request.cursor or 0)
        if not start:
            self._page = [entry for entry in self.sockets() if entry.family in request.families]
        more = start + PAGE < len(self._page)
        return SocketPage(tuple(self._page[start : start + PAGE]), cursor=str(start + PAGE) if more else "")

    def _processes(self, request: ask.ListProcesses) -> ProcessPage:
        return ProcessPage(tuple(self.processes), 1, True, (), taken_at=0.0)

    def _fds(self, request: ask.ListFds) -> FdPage:
        return FdPage(request.pid, tuple(self.fds))

    def _network(self, request: ask.GetNetwork) -> NetworkConfig:
        return self.config

    def _access(self, request: ask.GetAccess) -> Access:
        return self.access

    def _agent(self, request: ask.GetAgentInfo) -> AgentInfo:
        return AgentInfo(7, "3.11.2", "abc", 12 << 20, 1.5, 60.0, 1000, True, None, 0.5, 0.0)


def opening(backend: FakeBackend) -> Any:
    """An opener for `play`: every expression opens this backend."""

    @contextlib.asynccontextmanager
    async def opener(expression: TargetExpression, options: OpenOptions) -> AsyncIterator[Target]:
        yield Target(backend, INFO, str(expression))

    return opener


def a_route(destination: str = "0.0.0.0/0", **more: Any) -> Route:
    facts = {
        "destination": destination,
        "gateway": "192.0.2.254",
        "interface": "eth0",
        "metric": 0,
        "flags": "UG",
    }
    return Route(**{**facts, **more})
