"""How two peers recognise each other: the banner line, the hello frame and the source hash.

The banner is plain text, so a person who looks at the stream, or a client that reached the wrong
program, sees at once what is there; everything before it (a login message of an image) is skipped
within a bound.
"""

from __future__ import annotations

import os
import zlib

from kdebug.errors import ProtocolViolation
from kdebug.protocol.record import Record, dataclass

PROTOCOL_VERSION = 1
BANNER = b"kdebug-agent 1\n"
_ANY_BANNER = rb"(?:\A|(?<=\n))kdebug-agent (\d{1,9})\n"
MAX_BEFORE_BANNER = 8 * 1024
"""A shell's greeting fits; a program that floods is found out after this much."""

HEARTBEAT_SECONDS = 15.0
"""A quarter of the silence allowed, so that three may be lost."""
SILENCE_SECONDS = 60.0
"""The agent exits, and the client calls the connection lost, after this long without a frame."""
MAX_OUTSTANDING = 64
"""Requests in flight at once; more are refused with a reason."""
MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""JSON of one answer, over all its frames. The largest honest one (1,000 entries with 255-byte names
of escaped bytes) is below 2 MiB."""
MAX_REQUEST_BYTES = 64 * 1024
"""JSON of one request: two escaped 4,096-byte paths are below 50 KB."""


@dataclass(frozen=True, eq=False, repr=False)
class Hello(Record):
    """First frame in each direction."""

    protocol: int
    version: str
    source_hash: str
    """Differs when the code differs: then the client may deliver its own agent (design 6.7)."""
    pid: int = 0


def other_protocol(version: object) -> ProtocolViolation:
    """What to raise when the peer speaks another version."""
    return ProtocolViolation(
        f"the peer speaks protocol {version} and this side {PROTOCOL_VERSION}",
        next_step="use the same kdebug version on both sides, or let the client deliver its agent",
    )


def hash_sources(sources: dict[str, bytes]) -> str:
    """A name for this set of source files: 16 hex digits that differ when any file does.

    It tells versions apart and is no defence (delivery checks SHA-256): two CRCs keep OpenSSL, which
    hashlib would load, out of the agent's memory.
    """
    text = b"".join(name.encode() + b"\0" + source + b"\0" for name, source in sorted(sources.items()))
    return f"{zlib.crc32(text):08x}{zlib.crc32(text[::-1]):08x}"


class BannerReader:
    """Finds the banner in the first bytes of a stream. Sans-IO."""

    def __init__(self) -> None:
        self._seen = bytearray()

    @property
    def seen(self) -> bytes:
        """What came before the banner so far: often the reason why there is none."""
        return bytes(self._seen)

    def feed(self, data: bytes | memoryview) -> bytes | None:
        """None while the banner has not come; then the bytes that follow it."""
        import re  # never by the agent

        self._seen += data
        banner = re.search(_ANY_BANNER, self._seen)
        if banner is not None and banner.start() <= MAX_BEFORE_BANNER:
            if banner.group(1) != str(PROTOCOL_VERSION).encode():
                raise other_protocol(banner.group(1).decode())
            return bytes(self._seen[banner.end() :])
        if len(self._seen) >= MAX_BEFORE_BANNER + len(BANNER):
            raise ProtocolViolation(
                "the peer is not a kdebug agent", why=f"it sent {bytes(self._seen[:80])!r}"
            )
        return None


def package_sources(package_directory: str, names: tuple[str, ...]) -> dict[str, bytes]:
    """The .py files of the named modules and packages below `package_directory`, by relative path."""
    found: dict[str, bytes] = {}
    for name in names:
        top = os.path.join(package_directory, name)
        for folder, _, files in os.walk(top):
            for file in files:
                _add_source(found, package_directory, os.path.join(folder, file))
        _add_source(found, package_directory, top + ".py")
    return found


def _add_source(found: dict[str, bytes], top: str, path: str) -> None:
    if path.endswith(".py") and os.path.isfile(path):
        with open(path, "rb") as source:
            found[os.path.relpath(path, top).replace(os.sep, "/")] = source.read()
