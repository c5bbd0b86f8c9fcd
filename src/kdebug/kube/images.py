"""Which image the toolbox is made of, and how its agent is started."""

from __future__ import annotations

DEFAULT_IMAGE = "docker.io/library/python:3.13-slim"
"""A stock image that every cluster can pull and most mirrors hold; the agent is delivered to it."""
IMAGE_VARIABLE = "KDEBUG_IMAGE"
OWN_AGENT = "/usr/bin/kdebug-agent"
OWN_NAME = "kdebug-toolbox"
TOOLBOX_MIB = 40
"""What hold and two agents take at most (docs/toolbox.md)."""


def holds_agent(image: str) -> bool:
    """Whether to try the image's own agent before delivering one: a guess from its name that only costs
    a failed exec when it is wrong."""
    return OWN_NAME in image.rpartition("/")[2]
