"""The API server that is not there, not trusted or does not accept who asks."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .support import targets
from .support.certificates import Authority
from .support.cli import Kdebug
from .support.node import ENGINEER, Node

Object = dict[str, Any]

VERSION = "client.authentication.k8s.io/v1"
VERBS = [["ps", "web"], ["logs", "web"], ["sessions"]]


@pytest.fixture(scope="module")
def place(started_node: Node) -> str:
    namespace = started_node.namespace()
    started_node.run(targets.root("web"), namespace)
    return namespace


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that the kernel connects to and that never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def full() -> Iterator[str]:
    """A server whose queue is full: packets to it vanish, as behind a firewall."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for one in fillers:
            one.setblocking(False)
            one.connect_ex(address)
        yield f"https://127.0.0.1:{address[1]}"
        for one in fillers:
            one.close()


def elsewhere(node: Node, kdebug: Kdebug, server: str, ca: Path | None = None) -> Kdebug:
    path = node.write_kubeconfig("elsewhere", {"token": "x"}, ca=ca, server=server)
    return kdebug.with_options(kubeconfig=path)


@pytest.mark.parametrize("words", VERBS, ids=lambda words: words[0])
def test_closed_port(node: Node, kdebug: Kdebug, words: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = f"https://127.0.0.1:{listener.getsockname()[1]}"
    error = elsewhere(node, kdebug, server).prompt(*words, code=6).error
    assert error.startswith(f"the API server {server} cannot be reached: ")
    assert "onnection refused" in error or "Connect call failed" in error
    assert error.endswith("check the network or VPN, and the context (node)")


@pytest.mark.parametrize("how", ["silent", "full"])
def test_no_answer(node: Node, kdebug: Kdebug, how: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(how)
    error = elsewhere(node, kdebug, server).prompt("ps", "web", code=5, seconds=15).error
    assert error == (
        f"the API server {server} cannot be reached: no connection within 4 s; check the network or VPN, "
        "or give it more time with --timeout"
    )


def test_the_timeout_that_is_given_holds_for_the_connection(
    node: Node, kdebug: Kdebug, silent: str
) -> None:
    done = elsewhere(node, kdebug, silent).prompt("ps", "web", "--timeout", "1", code=5, seconds=6)
    assert "within 1 s; check the network" in done.error


def test_a_name_that_does_not_resolve(node: Node, kdebug: Kdebug) -> None:
    server = "https://no-such-cluster.invalid:6443"
    error = elsewhere(node, kdebug, server).prompt("ps", "web", code=6).error
    assert error.startswith(f"the API server {server} cannot be reached: ") and "check the network" in error


def test_not_an_api_server(node: Node, kdebug: Kdebug) -> None:
    """A login page of some proxy."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_serve_page, args=(listener,), daemon=True).start()
        server = f"http://127.0.0.1:{listener.getsockname()[1]}"
        error = elsewhere(node, kdebug, server).prompt("ps", "web", code=6).error
    assert error == f"{server} is not a Kubernetes API server: it did not answer with JSON"


def _serve_page(listener: socket.socket) -> None:
    peer, _ = listener.accept()
    with peer:
        peer.recv(65536)
        page = b"<html>Please log in</html>"
        peer.sendall(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(page), page)
        )


def test_certificate_of_another_authority(node: Node, kdebug: Kdebug) -> None:
    other = Authority(node.folder, "another-authority")
    user = elsewhere(node, kdebug, node.server, other.certificate)
    error = user.prompt("ps", "web", code=6).error
    assert error.startswith(f"the certificate of {node.server} is not trusted: ")
    assert "certificate verify failed" in error
    assert error.endswith("check certificate-authority of node in the kubeconfig")


def test_certificate_for_another_name(node: Node, kdebug: Kdebug) -> None:
    server = node.server.replace("127.0.0.1", "127.0.0.2")
    listener = socket.create_server(("127.0.0.2", 0))
    threading.Thread(target=_forward, args=(listener, node.facade.port), daemon=True).start()
    server = f"https://127.0.0.2:{listener.getsockname()[1]}"
    error = elsewhere(node, kdebug, server).prompt("ps", "web", code=6).error
    listener.close()
    assert error.startswith(f"the certificate of {server} is not trusted: ")
    assert "IP address mismatch" in error and "127.0.0.2" in error


def _forward(listener: socket.socket, port: int) -> None:
    peer, _ = listener.accept()
    with peer, socket.create_connection(("127.0.0.1", port)) as other:
        back = threading.Thread(target=_pump, args=(other, peer), daemon=True)
        back.start()
        _pump(peer, other)
        back.join(5)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def test_certificate_file_that_is_missing(node: Node, kdebug: Kdebug) -> None:
    user = elsewhere(node, kdebug, node.server, Path("/nowhere/ca.crt"))
    error = user.prompt("ps", "web", code=2).error
    assert "/nowhere/ca.crt" in error and "cannot be used" in error


@pytest.mark.parametrize("words", VERBS, ids=lambda words: words[0])
def test_expired_token(node: Node, kdebug: Kdebug, place: str, words: list[str]) -> None:
    node.expire(ENGINEER)
    error = kdebug.with_options("-n", place, kubeconfig=node.engineer).prompt(*words, code=3).error
    assert "the API server does not accept the credentials: Unauthorized" in error
    assert error.endswith("log in again; `kubectl auth whoami` must work")


def plugin(node: Node, kdebug: Kdebug, command: str, *arguments: str) -> Kdebug:
    entry = {"apiVersion": VERSION, "command": command, "args": list(arguments), "interactiveMode": "Never"}
    return kdebug.with_options(kubeconfig=node.write_kubeconfig("plugin", {"exec": entry}))


def credential(token: str) -> str:
    return json.dumps({"apiVersion": VERSION, "kind": "ExecCredential", "status": {"token": token}})


def test_plugin_that_works(node: Node, kdebug: Kdebug, place: str) -> None:
    token = node.facade.access.users[ENGINEER].token
    plugin(node, kdebug, "echo", credential(token))("ps", "web", "-n", place)


def test_plugin_that_is_missing(node: Node, kdebug: Kdebug, place: str) -> None:
    error = plugin(node, kdebug, "no-such-login").prompt("ps", "web", "-n", place, code=3).error
    assert error.startswith("the credential plugin of the kubeconfig failed: ") and "no-such-login" in error
    assert "`kubectl get pods` must work first" in error


def test_plugin_that_fails(node: Node, kdebug: Kdebug, place: str) -> None:
    user = plugin(node, kdebug, "sh", "-c", "echo your session has expired >&2; exit 7")
    error = user.prompt("ps", "web", "-n", place, code=3).error
    assert error.startswith("the credential plugin of the kubeconfig failed: ")
    assert "your session has expired" in error


def test_plugin_that_prints_nonsense(node: Node, kdebug: Kdebug, place: str) -> None:
    error = plugin(node, kdebug, "echo", "hello").prompt("ps", "web", "-n", place, code=3).error
    assert error.startswith("the credential plugin of the kubeconfig failed: ")


def test_plugin_is_asked_again_when_its_token_has_expired(
    node: Node, kdebug: Kdebug, place: str, tmp_path: Path
) -> None:
    """The first token it gives is not accepted any more."""
    script = tmp_path / "login"
    token = node.facade.access.users[ENGINEER].token
    script.write_text(
        f"#!/bin/sh\nif [ -e {tmp_path}/asked ]; then echo '{credential(token)}'; "
        f"else touch {tmp_path}/asked; echo '{credential('stale')}'; fi\n"
    )
    script.chmod(stat.S_IRWXU)
    plugin(node, kdebug, str(script))("ps", "web", "-n", place)
    assert os.path.exists(tmp_path / "asked")


def test_client_certificate(node: Node, kdebug: Kdebug, place: str) -> None:
    path = node.user_with_certificate("certified")
    kdebug.with_options(kubeconfig=path)("ps", "web", "-n", place)


def test_no_kubeconfig(kdebug: Kdebug, tmp_path: Path) -> None:
    error = kdebug.with_options(kubeconfig=tmp_path / "none").prompt("ps", "web", code=4).error
    assert error.startswith(f"no kubeconfig is at {tmp_path}/none; name one with --kubeconfig")


def test_kubeconfig_of_nonsense(kdebug: Kdebug, tmp_path: Path) -> None:
    for text in ("", "{", "[1, 2]", "clusters: 7", "current-context: x\ncontexts: [{name: x}]"):
        (tmp_path / "config").write_text(text)
        kdebug.with_options(kubeconfig=tmp_path / "config").prompt("ps", "web", code=2)


def test_kubeconfigs_of_the_environment(node: Node, kdebug: Kdebug, place: str, tmp_path: Path) -> None:
    """Several files are merged, and one that is missing is left out."""
    paths = os.pathsep.join([str(tmp_path / "missing"), str(node.kubeconfig)])
    kdebug.with_options(KUBECONFIG=paths)("ps", "web", "-n", place)


def test_late_answers_are_waited_for(node: Node, kdebug: Kdebug, place: str) -> None:
    node.faults.delay_seconds = 0.5
    kdebug("describe", "web", "-n", place)


def test_an_answer_that_is_too_late(node: Node, kdebug: Kdebug, place: str) -> None:
    node.faults.delay_seconds = 5
    error = kdebug.prompt("ps", "web", "-n", place, "--timeout", "1", code=5).error
    assert error.startswith(f"{node.server} did not answer within 1 s; check the network")
