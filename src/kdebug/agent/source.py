"""The hash of the agent's own sources, wherever it runs from: a folder, a zipapp, or memory."""

from __future__ import annotations

import os

import kdebug
from kdebug.protocol.hello import hash_sources, package_sources

AGENT_PARTS = ("__init__", "annotations", "threads", "errors", "protocol", "probe", "agent")
"""What the agent consists of, relative to the package: the same list makes zipapp and delivery."""


def agent_sources() -> dict[str, bytes]:
    """The agent's .py files by path relative to the kdebug package. Needs a source folder."""
    return package_sources(os.path.dirname(os.path.abspath(kdebug.__file__)), AGENT_PARTS)


def own_source_hash() -> str:
    """From the loader or the zipapp, which know it; else computed. "" when it cannot be told."""
    known = getattr(kdebug, "SOURCE_HASH", "")
    return known or (hash_sources(agent_sources()) if os.path.exists(kdebug.__file__ or "") else "")
