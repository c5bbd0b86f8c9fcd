"""What a copy asks beside the bytes: the digest of a range, so that a part need not be fetched again."""

from __future__ import annotations

from kdebug.errors import ProtocolViolation
from kdebug.protocol.record import Record, dataclass
from kdebug.protocol.requests import HEAVY, PathRequest, _in_range, register

MAX_DIGEST_BYTES = 64 * 1024 * 1024
"""Bytes of one range: about 0.2 s where nothing speeds SHA-256 up, so a cancel is never far away."""


@dataclass(frozen=True, eq=False, repr=False)
class RangeDigest(Record):
    path: str
    offset: int
    digested_bytes: int
    """Less than asked for where the file ends before."""
    sha256: str


@register("digest", RangeDigest, lane=HEAVY)
@dataclass(frozen=True, eq=False, repr=False)
class DigestRange(PathRequest[RangeDigest]):
    """SHA-256 of at most `size` bytes from `offset` of a regular file, holes counted as zeros."""

    offset: int = 0
    size: int = MAX_DIGEST_BYTES
    handle: str = ""

    def validate(self) -> None:
        super().validate()
        _in_range("offset", self.offset, 0, 2**63 - 1)
        _in_range("size", self.size, 1, MAX_DIGEST_BYTES)
        _in_range("the length of the handle", len(self.handle), 0, 64)

    def check(self, answer: RangeDigest) -> None:
        if answer.offset != self.offset or not 0 <= answer.digested_bytes <= self.size:
            raise ProtocolViolation("the agent digested another range than was asked for")
