"""Kubeconfigs by kubectl's rules: files that are merged, credential plugins and what they are told."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import select
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdebug.errors import AccessDenied, DeadlinePassed, UsageError
from kdebug.kube import plugin
from kdebug.kube.config import Choice, ClusterConfig, contexts, forget_copies, load_config

VERSION = "client.authentication.k8s.io/v1"


def written(path: Path, name: str, current: str = "", user: dict[str, Any] | None = None) -> str:
    """A kubeconfig with one context of this name, whose cluster is at https://NAME."""
    document = {
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}.example"}}],
        "users": [{"name": name, "user": user or {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({**document, **({"current-context": current} if current else {})}))
    return str(path)


def test_of_several_current_contexts_the_first_holds(tmp_path: Path, run: asyncio.Runner) -> None:
    """The others' clusters would be worked on by mistake."""
    silent = written(tmp_path / "none", "elsewhere")
    first = written(tmp_path / "first", "testing", "testing")
    last = written(tmp_path / "last", "production", "production")
    choice = Choice(os.pathsep.join([silent, first, last]))
    assert run.run(load_config(choice)).host == "https://testing.example"
    assert [one.name for one in contexts(choice) if one.current] == ["testing"]


def test_an_empty_kubeconfig_among_others_says_nothing(tmp_path: Path, run: asyncio.Runner) -> None:
    (tmp_path / "empty").write_text("")
    other = written(tmp_path / "config", "here", "here")
    choice = Choice(os.pathsep.join([str(tmp_path / "empty"), other]))
    assert run.run(load_config(choice)).host == "https://here.example"
    with pytest.raises(UsageError, match="has no current context"):
        run.run(load_config(Choice(str(tmp_path / "empty"))))


def plugged(folder: Path, script: str, **entry: Any) -> Choice:
    """A kubeconfig whose user logs in with this script, which is beside it."""
    login = folder / "login"
    login.write_text(f"#!/bin/sh\n{script}\n")
    login.chmod(stat.S_IRWXU)
    user = {"exec": {"apiVersion": VERSION, "command": "./login", **entry}}
    return Choice(written(folder / "config", "here", "here", user))


def giving(**status: str) -> str:
    """What a plugin runs to answer; shell variables are filled in."""
    document = {"apiVersion": VERSION, "kind": "ExecCredential", "status": status}
    return "cat <<END\n" + json.dumps(document) + "\nEND"


def test_a_plugin_is_beside_the_kubeconfig_that_names_it(tmp_path: Path, run: asyncio.Runner) -> None:
    found = run.run(load_config(plugged(tmp_path, giving(token="t0ken"))))
    assert found.configuration.api_key["BearerToken"] == "Bearer t0ken"


def test_a_plugin_is_asked_again_only_when_its_answer_does_not_do(
    tmp_path: Path, run: asyncio.Runner
) -> None:
    """A list of pods and one that is opened are two connections: nobody logs in twice."""
    script = f"echo x >> {tmp_path}/asked\n" + giving(token="$(wc -l < asked)")
    choice = plugged(tmp_path, f"cd {tmp_path}\n{script}")

    async def all_at_once() -> list[ClusterConfig]:
        return list(await asyncio.gather(*(load_config(choice) for _ in range(5))))

    assert {found.credentials for found in run.run(all_at_once())} == {("Bearer 1", b"")}
    assert run.run(load_config(choice, ("Bearer 1", b""))).credentials == ("Bearer 2", b"")
    assert run.run(load_config(choice, ("Bearer 1", b""))).credentials == ("Bearer 2", b"")


def test_what_a_plugin_gave_is_not_kept_when_it_has_expired(tmp_path: Path, run: asyncio.Runner) -> None:
    past = {"token": "$(wc -l < asked)", "expirationTimestamp": "2026-01-01T00:00:00Z"}
    choice = plugged(tmp_path, f"cd {tmp_path}\necho x >> asked\n" + giving(**past))
    assert [run.run(load_config(choice)).credentials[0] for _ in range(2)] == ["Bearer 1", "Bearer 2"]


def test_a_plugin_is_told_about_the_cluster(tmp_path: Path, run: asyncio.Runner) -> None:
    script = 'echo "$KUBERNETES_EXEC_INFO" > "$TOLD"\n' + giving(token="t")
    told = [{"name": "TOLD", "value": f"{tmp_path}/told"}]
    choice = plugged(tmp_path, script, provideClusterInfo=True, env=told)
    document = yaml.safe_load((tmp_path / "config").read_text())
    (tmp_path / "ca.pem").write_text("authority")
    document["clusters"][0]["cluster"] |= {
        "certificate-authority": "ca.pem",
        "extensions": [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}}],
    }
    (tmp_path / "config").write_text(yaml.safe_dump(document))
    run.run(load_config(choice))
    assert json.loads((tmp_path / "told").read_text()) == {
        "apiVersion": VERSION,
        "kind": "ExecCredential",
        "spec": {
            "interactive": False,
            "cluster": {
                "server": "https://here.example",
                "certificate-authority-data": base64.b64encode(b"authority").decode(),
                "config": {"audience": "x"},
            },
        },
    }


def test_a_plugin_may_give_a_token_and_a_certificate(tmp_path: Path, run: asyncio.Runner) -> None:
    status = {"token": "t", "clientCertificateData": "CERTIFICATE", "clientKeyData": "KEY"}
    found = run.run(load_config(plugged(tmp_path, giving(**status))))
    assert found.credentials == ("Bearer t", b"CERTIFICATE")
    forget_copies()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo hello", "its answer is no JSON"),
        ("echo '{}'", "its answer is no ExecCredential"),
        (giving(token="t").replace("/v1", "/v1beta1"), "and the kubeconfig says client.authentication"),
        (giving(), "neither a token nor a certificate"),
        (giving(clientKeyData="KEY"), "only one of certificate and key"),
        ("echo your session is over >&2; exit 7", "exit code 7: your session is over"),
        ("exit 7", "exit code 7: without a word"),
    ],
)
def test_a_plugin_that_does_not_log_in(tmp_path: Path, run: asyncio.Runner, script: str, why: str) -> None:
    with pytest.raises(AccessDenied, match="credential plugin of the kubeconfig failed") as denied:
        run.run(load_config(plugged(tmp_path, script)))
    assert why in denied.value.why


def test_a_plugin_that_is_not_there_says_how_to_get_it(tmp_path: Path, run: asyncio.Runner) -> None:
    choice = plugged(tmp_path, "", command="no-such-login", installHint="Install it\nfrom the shop.")
    with pytest.raises(AccessDenied) as denied:
        run.run(load_config(choice))
    assert denied.value.why == "no-such-login: No such file or directory. Install it from the shop"


def test_a_plugin_that_has_to_ask_and_cannot(tmp_path: Path, run: asyncio.Runner) -> None:
    with pytest.raises(AccessDenied, match="interactiveMode: Always"):
        run.run(load_config(plugged(tmp_path, giving(token="t"), interactiveMode="Always")))


def test_a_plugin_that_waits_is_ended_and_quoted(
    tmp_path: Path, run: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin, "PLUGIN_SECONDS", 0.5)
    choice = plugged(tmp_path, f"echo $$ > {tmp_path}/pid; echo enter code 1234 >&2; exec sleep 60")
    with pytest.raises(DeadlinePassed) as passed:
        run.run(load_config(choice))
    assert passed.value.why == "enter code 1234"
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            return
        run.run(asyncio.sleep(0.05))
    raise AssertionError("the plugin still runs")


def test_what_a_plugin_leaves_behind_is_not_waited_for(tmp_path: Path, run: asyncio.Runner) -> None:
    """A browser, say, that holds its stderr."""
    choice = plugged(tmp_path, "sleep 20 > /dev/null &\n" + giving(token="t"))
    assert run.run(asyncio.wait_for(load_config(choice), 10)).credentials[0] == "Bearer t"


LOADED = """
import asyncio, sys
from kdebug.kube.config import Choice, load_config
print(asyncio.run(load_config(Choice(sys.argv[1]))).credentials[0], sys.stdin.readline())
"""


def test_a_plugin_does_not_read_what_is_piped_to_us(tmp_path: Path) -> None:
    choice = plugged(tmp_path, "cat > /dev/null\n" + giving(token="t"))
    command = [sys.executable, "-c", LOADED, choice.kubeconfig]
    done = subprocess.run(command, input=b"data", stdout=subprocess.PIPE, timeout=30, check=True)
    assert done.stdout.split() == [b"Bearer", b"t", b"data"]


def test_a_plugin_asks_the_one_who_sits_at_the_terminal(tmp_path: Path) -> None:
    choice = plugged(tmp_path, "echo your name? >&2; read name\n" + giving(token="$name"))
    command = [sys.executable, "-c", LOADED.replace("sys.stdin.readline()", "''"), choice.kubeconfig]
    ours, theirs = os.openpty()
    with subprocess.Popen(command, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE) as process:
        os.close(theirs)
        seen = b""
        while b"your name?" not in seen:
            assert select.select([ours], [], [], 20)[0], seen
            seen += os.read(ours, 4096)
        os.write(ours, b"engineer\n")
        out, _ = process.communicate(timeout=20)
    os.close(ours)
    assert out.split() == [b"Bearer", b"engineer"]
