"""Kubeconfigs by kubectl's rules: files that are merged, credential plugins and what they are told."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdebug.errors import UsageError
from kdebug.kube.config import Choice, contexts, load_config

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


def test_a_plugin_is_beside_the_kubeconfig_that_names_it(tmp_path: Path, run: asyncio.Runner) -> None:
    written(
        tmp_path / "team" / "config",
        "here",
        "here",
        {"exec": {"apiVersion": VERSION, "command": "./login"}},
    )
    credential = f'{{"apiVersion": "{VERSION}", "kind": "ExecCredential", "status": {{"token": "t0ken"}}}}'
    script = tmp_path / "team" / "login"
    script.write_text(f"#!/bin/sh\necho '{credential}'\n")
    script.chmod(stat.S_IRWXU)
    found = run.run(load_config(Choice(str(tmp_path / "team" / "config"))))
    assert found.configuration.api_key["BearerToken"] == "Bearer t0ken"
