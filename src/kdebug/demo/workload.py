"""The processes of the practice target, and the faults that they have.

server        PID 1: starts the others, grows the log, holds a deleted file, closes on its clients
worker-0, -1  answer HTTP on port 8080; each has a second thread
worker-leak   its memory grows by 256 KiB a second
client        asks the service once a second, and sits in CLOSE-WAIT towards an upstream
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from typing import Callable

from kdebug.demo.namespaces import PR_SET_PDEATHSIG, prctl, set_name
from kdebug.demo.title import Title

LEAK_BYTES = 256 * 1024
LEAK_LIMIT = 128 * 1024 * 1024
DELETED_BYTES = 3 * 1024 * 1024
LOG_LIMIT = 8 * 1024 * 1024
TICK_SECONDS = 0.5
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"


class Workload:
    """State of PID 1. `base` is "" in a root of our own, a private folder in a plain process."""

    def __init__(self, base: str, port: int, title: Title) -> None:
        self._base = base
        self._title = title
        self._service = _listen("0.0.0.0" if port else "127.0.0.1", port)  # noqa: S104  own network namespace
        self._upstream = _listen("127.0.0.1", 9090 if port else 0)
        self._children: dict[int, tuple[str, Callable[[], None]]] = {}
        self._closed_peers = 0

    def run(self, lifeline: int, ready: Callable[[], None]) -> None:
        """Serve until the other end of `lifeline` is closed."""
        set_name("server")
        self._title.write(
            "/app/server", "--config", "/etc/app/config.yaml", "--port", "8080", "--practice="
        )
        deleted = self._deleted_file()
        log = self._open_log("app.log")
        for name, body in self._bodies().items():
            self._start(name, body)
        announced = False
        while not self._wait(lifeline):
            os.write(log, f'{time.time():.3f} level=info msg="tick" open={deleted}\n'.encode())
            if os.fstat(log).st_size > LOG_LIMIT:
                os.ftruncate(log, 0)
            self._restart_dead()
            if not announced and self._closed_peers:
                announced = True
                ready()

    def _wait(self, lifeline: int) -> bool:
        """One tick; the upstream's fault happens here. True when the starter has gone."""
        readable, _, _ = select.select([lifeline, self._upstream], [], [], TICK_SECONDS)
        if self._upstream in readable:
            peer, _ = self._upstream.accept()
            # The upstream closes; the client never does: CLOSE-WAIT on its side.
            peer.close()
            self._closed_peers += 1
        return lifeline in readable

    def _bodies(self) -> dict[str, Callable[[], None]]:
        return {
            "worker-0": self._worker,
            "worker-1": self._worker,
            "worker-leak": self._leak,
            "client": self._client,
        }

    def _start(self, name: str, body: Callable[[], None]) -> None:
        named, unnamed = os.pipe()
        pid = os.fork()
        if pid:
            # Until it is called what it is called: whoever looks right after the start finds them all.
            os.close(unnamed)
            os.read(named, 1)
            os.close(named)
            self._children[pid] = (name, body)
            return
        try:
            os.close(named)
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            set_name(name)
            self._title.write(f"/app/{name}", "--parent=server", "--practice=")
            os.close(unnamed)
            body()
        finally:
            os._exit(1)

    def _restart_dead(self) -> None:
        while self._children:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            self._start(*self._children.pop(pid))

    def _deleted_file(self) -> int:
        path = f"{self._base}/tmp/upload-7f3a.tmp"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(fd, b"practice upload\n" * (DELETED_BYTES // 16))
        os.unlink(path)
        return fd

    def _open_log(self, name: str) -> int:
        return os.open(f"{self._base}/var/log/app/{name}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def _worker(self) -> None:
        def housekeeping() -> None:
            set_name("housekeeping")
            threading.Event().wait()

        threading.Thread(target=housekeeping, daemon=True).start()
        log = self._open_log("access.log")
        while True:
            connection, address = self._service.accept()
            with connection:
                connection.settimeout(5)
                try:
                    request = connection.recv(4096).split(b"\r\n")[0]
                    connection.sendall(ANSWER)
                except OSError:
                    continue
                os.write(log, b"%s - %r 200\n" % (address[0].encode(), request))

    def _leak(self) -> None:
        kept: list[bytes] = []
        while True:
            if len(kept) * LEAK_BYTES < LEAK_LIMIT:
                kept.append(b"x" * LEAK_BYTES)
            time.sleep(1)

    def _client(self) -> None:
        stuck = socket.create_connection(self._upstream.getsockname())
        while stuck.fileno() >= 0:
            with socket.create_connection(("127.0.0.1", self._service.getsockname()[1])) as connection:
                connection.sendall(b"GET /orders HTTP/1.1\r\nHost: demo\r\n\r\n")
                while connection.recv(4096):
                    pass
            time.sleep(1)


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(16)
    return listener
